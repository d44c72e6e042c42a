//! A component with the contract's face that misbehaves on request: the workspace that is read names the
//! misdeed, such as `loop`, `memory`, `panic`, `wait`, `get <url>`; any other workspace has no state.
#![allow(
    missing_docs,
    unsafe_code,
    clippy::panic,
    reason = "generated bindings, and a crash on purpose"
)]

mod bindings {
    #![allow(unused_qualifications, clippy::all, reason = "generated code")]
    wit_bindgen::generate!({ world: "state-backend", path: "../../wit", generate_all });
}

use bindings::cofferdam::state_backend::surroundings;
use bindings::cofferdam::state_backend::types::{ErrorCode, Outcome};
use bindings::exports::cofferdam::state_backend::state_store::{
    DeleteOptions, Diagnostic, Error, Guest, GuestStore, HeldLock, Holder, LockInfo, OpenOptions,
    Opened, Reading, Revision, Store, UnlockBy, WriteOptions,
};
use bindings::wasi::clocks::monotonic_clock;
use bindings::wasi::http::outgoing_handler;
use bindings::wasi::http::types::{
    ErrorCode as HttpError, Fields, Method, OutgoingRequest, Scheme,
};

struct Hostile;

impl Guest for Hostile {
    type Store = HostileStore;

    fn schema() -> String {
        "[]".to_owned()
    }

    fn validate(_config: String) -> Vec<Diagnostic> {
        Vec::new()
    }

    fn explain(_config: String) -> Result<String, Vec<Diagnostic>> {
        Ok("{}".to_owned())
    }
}

struct HostileStore;

impl GuestStore for HostileStore {
    fn open(_config: String, _options: OpenOptions) -> Result<Opened, Vec<Diagnostic>> {
        Ok(Opened {
            store: Store::new(Self),
            warnings: Vec::new(),
        })
    }

    fn workspaces(&self) -> Result<Vec<String>, Error> {
        Ok(vec!["default".to_owned()])
    }

    fn read(&self, workspace: String, _known: Option<Revision>) -> Result<Reading, Error> {
        let (misdeed, argument) = workspace.split_once(' ').unwrap_or((&workspace, ""));
        match misdeed {
            "loop" => loop {
                std::hint::black_box(0);
            },
            "memory" => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(vec![1_u8; 1 << 20]);
                    std::hint::black_box(&hoard);
                }
            }
            "panic" => panic!("on request"),
            "wait" => {
                monotonic_clock::subscribe_duration(u64::MAX).block();
                Ok(Reading::Absent)
            }
            "get" => fetch(argument),
            "variable" => answer(format!("{:?}", surroundings::variable(argument))),
            "file" => answer(format!("{:?}", surroundings::read_file(argument))),
            "run" => answer(format!("{:?}", surroundings::run(argument))),
            "environment" => answer(format!("{}", std::env::vars().count())),
            _ => Ok(Reading::Absent),
        }
    }

    fn write(
        &self,
        _workspace: String,
        _bytes: Vec<u8>,
        _options: WriteOptions,
    ) -> Result<Revision, Error> {
        answer("no".to_owned()).map(|_| Revision {
            tag: String::new(),
            version: None,
        })
    }

    fn delete(&self, _workspace: String, _options: DeleteOptions) -> Result<(), Error> {
        Ok(())
    }

    fn lock(&self, _workspace: String, info: LockInfo) -> Result<HeldLock, Error> {
        Ok(HeldLock {
            id: info.id,
            token: String::new(),
        })
    }

    fn unlock(&self, _workspace: String, _by: UnlockBy) -> Result<(), Error> {
        Ok(())
    }

    fn holders(&self, _workspace: String) -> Result<Vec<Holder>, Error> {
        Ok(Vec::new())
    }
}

/// Tells the host what was seen, as the message of an error.
fn answer(message: String) -> Result<Reading, Error> {
    Err(Error {
        code: ErrorCode::Other,
        message,
        outcome: Outcome::NotDone,
        retryable: false,
        holders: Vec::new(),
        facts: Vec::new(),
    })
}

fn fetch(url: &str) -> Result<Reading, Error> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let request = OutgoingRequest::new(Fields::new());
    let set = request
        .set_method(&Method::Get)
        .and_then(|()| {
            request.set_scheme(Some(&if scheme == "https" {
                Scheme::Https
            } else {
                Scheme::Http
            }))
        })
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some(path)));
    if set.is_err() {
        return answer("the request cannot be made".to_owned());
    }
    let outcome: Result<u16, HttpError> =
        outgoing_handler::handle(request, None).and_then(|future| {
            future.subscribe().block();
            match future.get() {
                Some(Ok(Ok(response))) => Ok(response.status()),
                Some(Ok(Err(error))) => Err(error),
                _ => Err(HttpError::InternalError(None)),
            }
        });
    answer(format!("{outcome:?}"))
}

bindings::export!(Hostile with_types_in bindings);
