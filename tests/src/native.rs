//! The backend's own logic compiled natively, over real HTTP, with a clock that a test can move.
//!
//! What the component does after ten seconds, or after a minute of backing off, cannot be waited for in a
//! test. Here a sleep only moves the clock; everything else is the very code that the component runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use cofferdam::{
    DeleteOptions, Diagnostic, Error, ErrorCode, Expectation, Fence, HeldLock, Holder, LockInfo,
    Outcome, Reading, Revision, Severity, State, StateStore, StoreError, UnlockBy, WriteOptions,
};
use cofferdam_s3::config::{self, Environment};
use cofferdam_s3::contract;
use cofferdam_s3::platform::{
    Clock, Credentials, HttpBody, HttpRequest, HttpResponse, Random, Surroundings, Transport,
    TransportError,
};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;

use crate::conformance::{Flavour, Opening, Warnings};

/// Opens stores without a sandbox. All of them share one clock.
#[derive(Debug, Default)]
pub struct Native {
    clock: Arc<MovableClock>,
    server: Option<String>,
}

impl Native {
    /// One whose requests all go to this address, such as `127.0.0.1:4567`, whatever host they name.
    pub fn leading_to(server: &str) -> Self {
        Self {
            server: Some(server.to_owned()),
            ..Self::default()
        }
    }
}

#[async_trait]
impl Flavour for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    async fn open(&self, opening: Opening) -> Result<Arc<dyn StateStore>, Error> {
        let platform = NativePlatform {
            clock: Arc::clone(&self.clock),
            server: self.server.clone(),
            warnings: opening.warnings.clone(),
            runtime: Handle::current(),
            client: Client::builder(TokioExecutor::new())
                .retry_canceled_requests(false)
                .build(HttpConnector::new()),
        };
        let options = contract::OpenOptions {
            fence: match opening.fence {
                Fence::Required => contract::Fence::Required,
                Fence::WhenSupported => contract::Fence::WhenSupported,
            },
            call_budget: None,
            max_state: opening.max_state,
        };
        let opened = cofferdam_s3::Store::open(platform, &opening.block.to_string(), options);
        let (store, _warnings) = opened
            .map_err(|list| Error::Configuration(list.into_iter().map(to_diagnostic).collect()))?;
        Ok(Arc::new(NativeStore(Arc::new(store))))
    }

    fn pass_time(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

/// The real time, and what was added to it.
#[derive(Debug)]
struct MovableClock {
    start: Instant,
    /// Milliseconds.
    added: AtomicU64,
}

impl Default for MovableClock {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            added: AtomicU64::new(0),
        }
    }
}

impl MovableClock {
    fn advance(&self, duration: Duration) {
        let milliseconds = u64::try_from(duration.as_millis()).expect("a short time");
        self.added.fetch_add(milliseconds, Ordering::SeqCst);
    }

    fn added(&self) -> Duration {
        Duration::from_millis(self.added.load(Ordering::SeqCst))
    }
}

struct NativePlatform {
    clock: Arc<MovableClock>,
    /// Where requests go, if not to the host that they name.
    server: Option<String>,
    warnings: Warnings,
    runtime: Handle,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Clock for NativePlatform {
    fn now(&self) -> Duration {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("a time after 1970");
        now + self.clock.added()
    }

    fn monotonic(&self) -> Duration {
        self.clock.start.elapsed() + self.clock.added()
    }

    fn sleep(&self, duration: Duration) {
        self.clock.advance(duration);
    }
}

impl Random for NativePlatform {
    fn next_u64(&self) -> u64 {
        uuid::Uuid::new_v4().as_u64_pair().0
    }
}

impl Environment for NativePlatform {
    fn variable(&self, _name: &str) -> Option<String> {
        None
    }
}

impl Surroundings for NativePlatform {
    fn credentials(&self) -> Option<Credentials> {
        None
    }

    fn report(&self, diagnostic: config::Diagnostic) {
        self.warnings.push(to_diagnostic(diagnostic.into()));
    }
}

impl Transport for NativePlatform {
    fn send(&self, request: &HttpRequest<'_>) -> Result<HttpResponse, TransportError> {
        let uri = format!(
            "{}://{}{}",
            request.scheme,
            self.server.as_deref().unwrap_or(request.authority),
            request.path_and_query
        );
        let mut builder = Request::builder()
            .method(request.method.as_str())
            .uri(uri)
            .header("host", request.authority);
        for (name, value) in request.headers {
            builder = builder.header(name, value);
        }
        let body = Full::new(request.body.map(Bytes::copy_from_slice).unwrap_or_default());
        let sent = builder
            .body(body)
            .map_err(|error| TransportError::Unusable(error.to_string()))?;
        let answer = async {
            tokio::time::timeout(request.timeouts.first_byte, self.client.request(sent)).await
        };
        let response = self
            .runtime
            .block_on(answer)
            .map_err(|_| TransportError::TimedOut("no answer".to_owned()))?
            .map_err(|error| match error.is_connect() {
                true => TransportError::NotConnected(error.to_string()),
                false => TransportError::Broken(error.to_string()),
            })?;
        let (head, body) = response.into_parts();
        let text =
            |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Ok(HttpResponse {
            status: head.status.as_u16(),
            headers: head
                .headers
                .iter()
                .map(|(name, value)| (name.as_str().to_owned(), text(value)))
                .collect(),
            body: Box::new(NativeBody {
                body,
                runtime: self.runtime.clone(),
            }),
        })
    }
}

struct NativeBody {
    body: Incoming,
    runtime: Handle,
}

impl HttpBody for NativeBody {
    fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, TransportError> {
        while let Some(frame) = self.runtime.block_on(self.body.frame()) {
            let frame = frame.map_err(|error| TransportError::Broken(error.to_string()))?;
            if let Ok(bytes) = frame.into_data() {
                return Ok(Some(bytes.into()));
            }
        }
        Ok(None)
    }
}

/// The store of the library behind the host's trait; each call runs on a thread that may block.
struct NativeStore(Arc<cofferdam_s3::Store<NativePlatform>>);

impl NativeStore {
    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&cofferdam_s3::Store<NativePlatform>) -> Result<T, contract::Error>
        + Send
        + 'static,
    ) -> Result<T, Error> {
        let store = Arc::clone(&self.0);
        let answer = tokio::task::spawn_blocking(move || call(&store)).await;
        answer
            .expect("the library does not panic")
            .map_err(to_error)
    }
}

#[async_trait]
impl StateStore for NativeStore {
    async fn workspaces(&self) -> Result<Vec<String>, Error> {
        self.call(|store| store.workspaces()).await
    }

    async fn read(&self, workspace: &str, known: Option<&Revision>) -> Result<Reading, Error> {
        let (workspace, known) = (workspace.to_owned(), known.map(from_revision));
        match self
            .call(move |store| store.read(&workspace, known.as_ref()))
            .await?
        {
            contract::Reading::Absent => Ok(Reading::Absent),
            contract::Reading::Unchanged => Ok(Reading::Unchanged),
            contract::Reading::State(state) => verified(state).map(Reading::State),
        }
    }

    async fn write(
        &self,
        workspace: &str,
        bytes: Bytes,
        options: &WriteOptions,
    ) -> Result<Revision, Error> {
        let workspace = workspace.to_owned();
        let options = contract::WriteOptions {
            expect: from_expectation(&options.expect),
            lock: options.lock.as_ref().map(from_held_lock),
            sha256: None,
        };
        self.call(move |store| store.write(&workspace, &bytes, &options))
            .await
            .map(to_revision)
    }

    async fn delete(&self, workspace: &str, options: &DeleteOptions) -> Result<(), Error> {
        let workspace = workspace.to_owned();
        let options = contract::DeleteOptions {
            expect: from_expectation(&options.expect),
            lock: options.lock.as_ref().map(from_held_lock),
        };
        self.call(move |store| store.delete(&workspace, &options))
            .await
    }

    async fn lock(&self, workspace: &str, info: &LockInfo) -> Result<HeldLock, Error> {
        let (workspace, info) = (workspace.to_owned(), from_lock_info(info));
        let held = self.call(move |store| store.lock(&workspace, info)).await?;
        Ok(HeldLock {
            id: held.id,
            token: held.token,
        })
    }

    async fn unlock(&self, workspace: &str, by: &UnlockBy) -> Result<(), Error> {
        let workspace = workspace.to_owned();
        let by = match by {
            UnlockBy::Held(held) => contract::UnlockBy::Held(from_held_lock(held)),
            UnlockBy::Id(id) => contract::UnlockBy::Id(id.clone()),
            UnlockBy::Token(token) => contract::UnlockBy::Token(token.clone()),
        };
        self.call(move |store| store.unlock(&workspace, &by)).await
    }

    async fn holders(&self, workspace: &str) -> Result<Vec<Holder>, Error> {
        let workspace = workspace.to_owned();
        let holders = self.call(move |store| store.holders(&workspace)).await?;
        Ok(holders.into_iter().map(to_holder).collect())
    }
}

/// The backend leaves it to whoever takes the bytes to compare them with the store's checksum.
fn verified(state: contract::State) -> Result<State, Error> {
    let contract::State {
        bytes,
        revision,
        checksum,
    } = state;
    if let Some(checksum) = checksum.filter(|checksum| checksum.algorithm == "sha256")
        && checksum.value != Sha256::digest(&bytes).as_slice()
    {
        return Err(Error::Store(StoreError {
            code: ErrorCode::DigestMismatch,
            message: "the bytes and their checksum differ".to_owned(),
            outcome: Outcome::NotDone,
            retryable: true,
            holders: Vec::new(),
            facts: Vec::new(),
        }));
    }
    Ok(State {
        bytes: bytes.into(),
        revision: to_revision(revision),
    })
}

fn from_expectation(expect: &Expectation) -> contract::Expectation {
    match expect {
        Expectation::Anything => contract::Expectation::Anything,
        Expectation::Absent => contract::Expectation::Absent,
        Expectation::Revision(revision) => contract::Expectation::Revision(from_revision(revision)),
    }
}

fn from_revision(revision: &Revision) -> contract::Revision {
    contract::Revision {
        tag: revision.tag.clone(),
        version: revision.version.clone(),
    }
}

fn to_revision(revision: contract::Revision) -> Revision {
    Revision {
        tag: revision.tag,
        version: revision.version,
    }
}

fn from_held_lock(held: &HeldLock) -> contract::HeldLock {
    contract::HeldLock {
        id: held.id.clone(),
        token: held.token.clone(),
    }
}

fn from_lock_info(info: &LockInfo) -> contract::LockInfo {
    let LockInfo {
        id,
        operation,
        info,
        who,
        version,
        created,
        path,
    } = info.clone();
    contract::LockInfo {
        id,
        operation,
        info,
        who,
        version,
        created,
        path,
    }
}

fn to_holder(holder: contract::Holder) -> Holder {
    let info = holder.info.map(|info| {
        let contract::LockInfo {
            id,
            operation,
            info,
            who,
            version,
            created,
            path,
        } = info;
        LockInfo {
            id,
            operation,
            info,
            who,
            version,
            created,
            path,
        }
    });
    Holder {
        place: holder.place,
        info,
        token: holder.token,
    }
}

fn to_diagnostic(diagnostic: contract::Diagnostic) -> Diagnostic {
    Diagnostic {
        severity: match diagnostic.severity {
            contract::Severity::Error => Severity::Error,
            contract::Severity::Warning => Severity::Warning,
        },
        summary: diagnostic.summary,
        detail: diagnostic.detail,
        attribute: diagnostic.attribute,
    }
}

fn to_error(error: contract::Error) -> Error {
    use contract::ErrorCode as Code;
    Error::Store(StoreError {
        code: match error.code {
            Code::AccessDenied => ErrorCode::AccessDenied,
            Code::Credentials => ErrorCode::Credentials,
            Code::DigestMismatch => ErrorCode::DigestMismatch,
            Code::InvalidArgument => ErrorCode::InvalidArgument,
            Code::LockMismatch => ErrorCode::LockMismatch,
            Code::Locked => ErrorCode::Locked,
            Code::NoSuchBucket => ErrorCode::NoSuchBucket,
            Code::Other => ErrorCode::Other,
            Code::StateChanged => ErrorCode::StateChanged,
            Code::Throttled => ErrorCode::Throttled,
            Code::TimedOut => ErrorCode::TimedOut,
            Code::TooLarge => ErrorCode::TooLarge,
            Code::Unreachable => ErrorCode::Unreachable,
            Code::Unsupported => ErrorCode::Unsupported,
        },
        message: error.message,
        outcome: match error.outcome {
            contract::Outcome::NotDone => Outcome::NotDone,
            contract::Outcome::Unknown => Outcome::Unknown,
        },
        retryable: error.retryable,
        holders: error.holders.into_iter().map(to_holder).collect(),
        facts: error.facts,
    })
}
