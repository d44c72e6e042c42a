//! A platform that answers from a script, writes down what it is sent, and has a clock that tests set.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::config::{Diagnostic, Environment};
use crate::credentials::imds::Memory;
use crate::credentials::{Credentials, ProviderError};
use crate::platform::{
    AccessKey, Clock, HttpBody, HttpRequest, HttpResponse, Random, Refusal, Surroundings,
    Transport, TransportError,
};
use crate::secret::Secret;

use super::{Endpoints, Services};
use crate::config::{Service, Variant};

/// 2026-11-23T01:25:24Z
pub(super) const START: u64 = 1_795_397_124;

/// In everything that is secret.
pub(super) const CANARY: &str = "CANARY";

pub(super) struct Recorder {
    answers: RefCell<VecDeque<Result<Answer, TransportError>>>,
    sent: RefCell<Vec<Sent>>,
    pub(super) files: RefCell<HashMap<String, String>>,
    /// A file that somebody else replaces during the next request.
    pub(super) arriving: Cell<Option<(String, String)>>,
    pub(super) is_read_only: Cell<bool>,
    pub(super) reports: RefCell<Vec<Diagnostic>>,
    pub(super) elapsed: Cell<Duration>,
    pub(super) slept: Cell<Duration>,
    /// What one request takes.
    pub(super) latency: Cell<Duration>,
    endpoints: Endpoints,
    memory: Memory,
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

/// A request as it was sent.
#[derive(Clone)]
pub(super) struct Sent {
    /// Method and URL.
    pub(super) line: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Option<String>,
}

impl Sent {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(known, _)| known == name)?;
        Some(value)
    }
}

impl Recorder {
    pub(super) fn new() -> Self {
        let place = |service: Service| service.location("eu-west-1", Variant::default()).unwrap();
        let mut sts_of_profiles = place(Service::Sts);
        sts_of_profiles.authority = "sts.profiles.test".to_owned();
        Self {
            answers: RefCell::default(),
            sent: RefCell::default(),
            files: RefCell::default(),
            arriving: Cell::default(),
            is_read_only: Cell::new(false),
            reports: RefCell::default(),
            elapsed: Cell::default(),
            slept: Cell::default(),
            latency: Cell::default(),
            endpoints: Endpoints {
                sts: Ok(place(Service::Sts)),
                sts_of_profiles: Ok(sts_of_profiles),
                iam: Ok(place(Service::Iam)),
            },
            memory: Memory::default(),
        }
    }

    /// Adds an answer to the script.
    pub(super) fn answer(&self, status: u16, body: &str) -> &Self {
        self.answer_with(status, &[], body)
    }

    pub(super) fn answer_with(&self, status: u16, headers: &[(&str, &str)], body: &str) -> &Self {
        let headers = headers.iter();
        self.answers.borrow_mut().push_back(Ok(Answer {
            status,
            headers: headers
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            body: body.to_owned(),
        }));
        self
    }

    /// Adds a request without an answer.
    pub(super) fn fail(&self, error: TransportError) -> &Self {
        self.answers.borrow_mut().push_back(Err(error));
        self
    }

    pub(super) fn services(&self) -> Services<'_> {
        Services {
            platform: self,
            user_agent: "cofferdam/test",
            deadline: None,
            attempts: 3,
            endpoints: &self.endpoints,
            memory: &self.memory,
        }
    }

    /// What was sent since the last call; the script must be used up.
    pub(super) fn sent(&self) -> Vec<Sent> {
        let left = self.answers.borrow().len();
        assert_eq!(left, 0, "answers that nobody asked for");
        self.sent.take()
    }

    /// Methods and URLs of what was sent since the last call.
    pub(super) fn lines(&self) -> Vec<String> {
        self.sent().into_iter().map(|sent| sent.line).collect()
    }

    pub(super) fn file(&self, path: &str, content: &str) {
        let mut files = self.files.borrow_mut();
        files.insert(path.to_owned(), content.to_owned());
    }

    pub(super) fn pass(&self, seconds: u64) {
        let elapsed = self.elapsed.get() + Duration::from_secs(seconds);
        self.elapsed.set(elapsed);
    }
}

impl Clock for Recorder {
    fn now(&self) -> Duration {
        Duration::from_secs(START) + self.elapsed.get()
    }

    fn monotonic(&self) -> Duration {
        self.elapsed.get()
    }

    fn sleep(&self, duration: Duration) {
        self.elapsed.set(self.elapsed.get() + duration);
        self.slept.set(self.slept.get() + duration);
    }
}

impl Random for Recorder {
    fn next_u64(&self) -> u64 {
        u64::MAX / 2
    }
}

impl Environment for Recorder {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }
}

impl Surroundings for Recorder {
    fn credentials(&self) -> Option<Credentials> {
        None
    }

    fn read_file(&self, path: &str) -> Result<Vec<u8>, Refusal> {
        let files = self.files.borrow();
        let file = files.get(path).ok_or(Refusal::NotFound)?;
        Ok(file.clone().into_bytes())
    }

    fn replace_file(&self, path: &str, bytes: &[u8]) -> Result<(), Refusal> {
        if self.is_read_only.get() {
            return Err(Refusal::Denied);
        }
        self.file(path, std::str::from_utf8(bytes).unwrap());
        Ok(())
    }

    fn run(&self, _: &str) -> Result<Vec<u8>, Refusal> {
        Err(Refusal::Denied)
    }

    fn report(&self, diagnostic: Diagnostic) {
        self.reports.borrow_mut().push(diagnostic);
    }
}

impl Transport for Recorder {
    fn send(&self, request: &HttpRequest<'_>) -> Result<HttpResponse, TransportError> {
        let method = request.method.as_str();
        let (scheme, authority) = (request.scheme, request.authority);
        let body = request
            .body
            .map(|body| String::from_utf8(body.to_vec()).unwrap());
        let mut headers = request.headers.to_vec();
        headers.sort();
        self.sent.borrow_mut().push(Sent {
            line: format!("{method} {scheme}://{authority}{}", request.path_and_query),
            headers,
            body,
        });
        self.elapsed.set(self.elapsed.get() + self.latency.get());
        if let Some((path, content)) = self.arriving.take() {
            self.file(&path, &content);
        }
        let answer = self.answers.borrow_mut().pop_front();
        let answer = answer.expect("a request that no test expects")?;
        Ok(HttpResponse {
            status: answer.status,
            headers: answer.headers,
            body: Box::new(Body(Some(answer.body.into_bytes()))),
        })
    }
}

struct Body(Option<Vec<u8>>);

impl HttpBody for Body {
    fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, TransportError> {
        Ok(self.0.take())
    }
}

/// Credentials to sign with.
pub(super) fn signing() -> Credentials {
    Credentials {
        key: AccessKey {
            id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: Secret::new("CANARY-source-key".to_owned()),
            session_token: Some(Secret::new("CANARY-source-token".to_owned())),
        },
        expires_at: None,
        account_id: None,
    }
}

/// Id, secret, session token, and when they expire.
pub(super) fn parts(found: &Credentials) -> (&str, &str, &str, Option<u64>) {
    let token = found.key.session_token.as_ref();
    (
        &found.key.id,
        found.key.secret.expose(),
        token.map_or("", Secret::expose),
        found.expires_at,
    )
}

/// The error, which repeats no secret.
pub(super) fn refused<T>(result: Result<T, ProviderError>) -> ProviderError {
    let Err(error) = result else {
        panic!("it succeeded");
    };
    let shown = format!("{error:?}");
    assert!(!shown.contains(CANARY), "{shown}");
    error
}
