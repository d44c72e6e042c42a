//! The services that know credentials, as one server on loopback: STS and IAM, IAM Identity Center, the metadata
//! service of EC2, and the endpoint of containers. Buckets and tables are there too, empty.
//!
//! What a chain of credentials really asks for, and with whose key it then signs, shows only to the one who is asked. So
//! this server writes every request down, hands out the keys that a test chooses, and errs on demand. It checks no
//! signature: a test that needs that hands out a key of a store that does.

mod answers;
mod request;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use request::{Operation, Recorded};

/// The account of everything that is handed out.
pub const ACCOUNT: &str = "123456789012";

/// The only role of the instance.
pub const INSTANCE_ROLE: &str = "instance-role";

/// The session token of the metadata service.
pub const IMDS_TOKEN: &str = "imds-session-token";

/// A running server. It ends when this is dropped.
#[derive(Debug)]
pub struct CredentialServices {
    url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

/// Keys that are handed out.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Its id.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
    /// What must be sent with it.
    pub session_token: Option<String>,
    /// How long it lasts from the moment in which it is handed out; negative: it has ended.
    pub lasts_seconds: i64,
}

impl Keys {
    /// Without a session token, for an hour.
    pub fn new(id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self {
            access_key_id: id.into(),
            secret_access_key: secret.into(),
            session_token: None,
            lasts_seconds: 3600,
        }
    }

    /// With a session token.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.session_token = Some(token.into());
        self
    }

    /// For so long.
    #[must_use]
    pub fn lasting(mut self, seconds: i64) -> Self {
        self.lasts_seconds = seconds;
        self
    }

    /// A key that has a life of its own, for an hour.
    pub fn of(key: &cofferdam::AccessKey) -> Self {
        Self {
            session_token: key.session_token.as_ref().map(|it| it.expose().to_owned()),
            ..Self::new(&key.id, key.secret.expose())
        }
    }

    /// When it ends, if it is handed out now.
    fn expires_at(&self) -> i64 {
        seconds_now() + self.lasts_seconds
    }
}

/// What a request is answered with.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The connection is closed.
    Close,
    /// An error, in the form that the service has for it.
    Error {
        /// The HTTP status.
        status: u16,
        /// Such as `AccessDenied`.
        code: String,
        /// For a person.
        message: String,
    },
    /// Whose credentials they are: for `GetCallerIdentity`, `GetUser`, `ListRoles` and the instance profile.
    Identity(String),
    /// Keys: for roles, containers, instances and IAM Identity Center.
    Keys(Keys),
    /// Just this.
    Raw {
        /// The HTTP status.
        status: u16,
        /// The header `Content-Type`.
        content_type: String,
        /// The body.
        body: String,
    },
    /// A token of IAM Identity Center: for `CreateToken`.
    SsoToken {
        /// Then asked for by the portal.
        access_token: String,
        /// Replaces the old one, if any.
        refresh_token: Option<String>,
        /// Seconds.
        lasts_seconds: u64,
    },
}

impl Reply {
    /// An error.
    pub fn error(status: u16, code: &str) -> Self {
        Self::Error {
            status,
            code: code.to_owned(),
            message: format!("the test wants {code}"),
        }
    }
}

/// Which versions of the protocol the metadata service speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImdsVersions {
    /// As instances mostly have it: a session token is not asked for, but must be right.
    #[default]
    Both,
    /// There are no session tokens: 404.
    OnlyV1,
    /// Nothing without a session token: 401.
    OnlyV2,
}

#[derive(Debug, Default)]
struct Shared {
    requests: Mutex<Vec<Recorded>>,
    settings: Mutex<Settings>,
}

/// What tests set.
#[derive(Debug, Default)]
struct Settings {
    once: BTreeMap<Operation, VecDeque<Reply>>,
    always: BTreeMap<Operation, Reply>,
    keys: Option<Keys>,
    imds: ImdsVersions,
    container_token: Option<String>,
    sso_token: Option<String>,
    latency: Duration,
}

impl CredentialServices {
    /// Starts one that hands out a key `ASIASTUB` with a session token, for an hour.
    ///
    /// # Panics
    /// If there is no port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let shared = Arc::<Shared>::default();
        let task = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Self { url, shared, task }
    }

    /// `http://127.0.0.1:port`: the endpoint of each of the services.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `AWS_CONTAINER_CREDENTIALS_FULL_URI`. Every path that starts with `/container` or `/v2/credentials` is one.
    pub fn container_uri(&self) -> String {
        format!("{}/container/credentials", self.url)
    }

    /// The keys that are handed out from now on, by whichever service, unless it is told otherwise.
    pub fn hand_out(&self, keys: Keys) {
        self.settings().keys = Some(keys);
    }

    /// What these requests are answered with from now on.
    pub fn answer(&self, operation: Operation, reply: Reply) {
        self.settings().always.insert(operation, reply);
    }

    /// What one of these requests is answered with; several wait in line.
    pub fn answer_once(&self, operation: Operation, reply: Reply) {
        let mut settings = self.settings();
        settings.once.entry(operation).or_default().push_back(reply);
    }

    /// Which versions the metadata service speaks.
    pub fn set_imds(&self, versions: ImdsVersions) {
        self.settings().imds = versions;
    }

    /// What the endpoint of containers wants as `Authorization`; 403 without it. `None`: anything.
    pub fn require_container_token(&self, token: Option<&str>) {
        self.settings().container_token = token.map(str::to_owned);
    }

    /// The token that the portal of IAM Identity Center wants; 401 without it. `None`: any. `CreateToken` sets it to what
    /// it hands out.
    pub fn require_sso_token(&self, token: Option<&str>) {
        self.settings().sso_token = token.map(str::to_owned);
    }

    /// How long every answer takes: so that calls that could overlap do.
    pub fn set_latency(&self, latency: Duration) {
        self.settings().latency = latency;
    }

    /// Every request so far, in the order of arrival.
    pub fn requests(&self) -> Vec<Recorded> {
        self.recorded().clone()
    }

    /// Those of one kind.
    pub fn requests_of(&self, operation: Operation) -> Vec<Recorded> {
        let mut requests = self.requests();
        requests.retain(|request| request.operation == operation);
        requests
    }

    /// What was asked for, in the order of arrival.
    pub fn operations(&self) -> Vec<Operation> {
        let recorded = self.recorded();
        recorded.iter().map(|request| request.operation).collect()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.recorded().clear();
    }

    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.shared.settings()
    }

    fn recorded(&self) -> MutexGuard<'_, Vec<Recorded>> {
        self.shared.recorded()
    }
}

impl Drop for CredentialServices {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recorded(&self) -> MutexGuard<'_, Vec<Recorded>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a request down and answers it. `None`: not at all.
    async fn answer(&self, request: Request<Incoming>) -> Option<Response<Full<Bytes>>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        let recorded = Recorded::new(&head, &body);
        self.recorded().push(recorded.clone());
        let latency = self.settings().latency;
        tokio::time::sleep(latency).await;
        answers::of(&recorded, &mut self.settings())
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request| {
            let shared = Arc::clone(&shared);
            async move { shared.answer(request).await.ok_or(Closed) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service);
        connections.spawn(connection);
        while connections.try_join_next().is_some() {}
    }
}

/// The connection ends without an answer.
#[derive(Debug)]
struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection is closed")
    }
}

impl std::error::Error for Closed {}

/// Since 1970.
fn seconds_now() -> i64 {
    jiff::Timestamp::now().as_second()
}
