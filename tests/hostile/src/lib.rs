//! A component with the contract's face that misbehaves on request: the workspace that is read, or locked, names the
//! misdeed, such as `loop`, `memory` or `get <url>`; any other workspace has no state.
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
mod network;

use bindings::cofferdam::state_backend::surroundings;
use bindings::cofferdam::state_backend::types::{ErrorCode, Outcome, State};
use bindings::exports::cofferdam::state_backend::state_store::{
    DeleteOptions, Diagnostic, Error, Guest, GuestStore, HeldLock, Holder, LockInfo, OpenOptions,
    Opened, Reading, Revision, Store, UnlockBy, WriteOptions,
};
use bindings::wasi::clocks::monotonic_clock;
use bindings::wasi::http::types::Fields;
use bindings::wasi::random::random;

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
            "answer" => Ok(Reading::State(State {
                bytes: vec![b' '; number(argument)],
                revision: Revision {
                    tag: "\"1\"".to_owned(),
                    version: None,
                },
                checksum: None,
            })),
            "arguments" => told(std::env::args().count()),
            "body" => told(network::read_to_the_end(argument)),
            "environment" => told(std::env::vars().count()),
            "error" => Err(error(" ".repeat(number(argument)))),
            "file" => told(surroundings::read_file(argument)),
            "follow" => told(network::follow(argument)),
            "get" => told(network::get(argument)),
            "handles" => {
                let hoard: Vec<Fields> = (0..number(argument)).map(|_| Fields::new()).collect();
                told(hoard.len())
            }
            "headers" => told(network::headers(number(argument))),
            "long-name" => told(surroundings::variable(&"x".repeat(number(argument)))),
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
            "print" => loop {
                println!("{workspace}");
                eprintln!("{workspace}");
            },
            "random" => told(random::get_random_bytes(number(argument) as u64).len()),
            "recursion" => told(deeper(0)),
            "run" => told(surroundings::run(argument)),
            "send" => told(network::send(argument)),
            "upload" => told(network::upload(argument)),
            "variable" => told(surroundings::variable(argument)),
            "wait" => {
                monotonic_clock::subscribe_duration(u64::MAX).block();
                Ok(Reading::Absent)
            }
            _ => Ok(Reading::Absent),
        }
    }

    fn write(
        &self,
        _workspace: String,
        _bytes: Vec<u8>,
        _options: WriteOptions,
    ) -> Result<Revision, Error> {
        Err(error("no".to_owned()))
    }

    fn delete(&self, _workspace: String, _options: DeleteOptions) -> Result<(), Error> {
        Ok(())
    }

    /// `answer <n>`: with a token of so many bytes.
    fn lock(&self, workspace: String, info: LockInfo) -> Result<HeldLock, Error> {
        let size = workspace.strip_prefix("answer ").map_or(0, number);
        Ok(HeldLock {
            id: info.id,
            token: " ".repeat(size),
        })
    }

    fn unlock(&self, _workspace: String, _by: UnlockBy) -> Result<(), Error> {
        Ok(())
    }

    /// `many <n>`: so many holders.
    fn holders(&self, workspace: String) -> Result<Vec<Holder>, Error> {
        let many = workspace.strip_prefix("many ").map_or(0, number);
        let holder = || Holder {
            info: None,
            place: String::new(),
            token: String::new(),
        };
        Ok(std::iter::repeat_with(holder).take(many).collect())
    }
}

/// Tells the host what was seen, as the message of an error.
fn told(seen: impl std::fmt::Debug) -> Result<Reading, Error> {
    Err(error(format!("{seen:?}")))
}

fn error(message: String) -> Error {
    Error {
        code: ErrorCode::Other,
        message,
        outcome: Outcome::NotDone,
        retryable: false,
        holders: Vec::new(),
        facts: Vec::new(),
    }
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or(usize::MAX)
}

/// Calls itself in a way that no compiler makes a loop of, and that takes less of the component's memory than of its stack.
fn deeper(depth: u64) -> u64 {
    let next = std::hint::black_box(deeper as fn(u64) -> u64);
    next(depth + 1) + depth
}

bindings::export!(Hostile with_types_in bindings);
