//! The way to the network: egress policy, name resolution, TLS, and one connection pool per grant.
//!
//! The component sees only `wasi:http`. Sockets, certificates and the decision who may be talked to live
//! here, so that no component can weaken them, and stores of different tenants never share a connection.

mod body;
mod egress;
mod resolve;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::{Method, Request, Response, Uri};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{HttpConnector, dns::GaiResolver};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use body::{Progress, RequestBody, ResponseBody, request_error};
pub(crate) use egress::{Denied, Egress};
pub use egress::{EgressRule, EgressRuleError};
pub(crate) use resolve::ConnectError;
use resolve::Resolver;

/// Connecting takes longer than this only when nobody answers.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// No server keeps a client waiting longer than this for the first or the next byte of an answer.
const MAX_SILENCE: Duration = Duration::from_secs(120);
/// Shorter than the keep-alive windows of common servers and balancers (nginx: 75 s), so that they do not
/// close a connection that is about to be used again.
const IDLE_CONNECTION: Duration = Duration::from_secs(60);
/// Idle connections that are kept for one host.
const IDLE_CONNECTIONS: usize = 32;
/// Buffer for what comes back. Bodies come through it in pieces of this size at most, and no header section
/// may be longer.
const READ_BUFFER: usize = 512 << 10;

type PlainClient = Client<HttpConnector<Resolver>, RequestBody>;
type TlsClient = Client<HttpsConnector<HttpConnector<Resolver>>, RequestBody>;

/// The connections of one grant.
pub(crate) struct Transport {
    egress: Egress,
    /// To places that must have public addresses.
    public: Clients,
    /// To places that may have private ones. Apart, so that no request of the other kind finds their
    /// connections.
    private: Clients,
    max_response: u64,
}

/// One client for each scheme.
struct Clients {
    plain: PlainClient,
    /// Made when the first https request comes: reading the system's root certificates takes longer than
    /// all the rest of a start.
    tls: OnceLock<Option<TlsClient>>,
    private: bool,
}

impl Clients {
    fn new(private: bool) -> Self {
        Self {
            plain: client_builder().build(connector(private, true)),
            tls: OnceLock::new(),
            private,
        }
    }

    fn tls(&self) -> Result<&TlsClient, Error> {
        let client = self.tls.get_or_init(|| {
            let connector = HttpsConnectorBuilder::new()
                .with_provider_and_native_roots(rustls::crypto::aws_lc_rs::default_provider())
                .map_err(|error| tracing::error!(%error, "no system root certificates"))
                .ok()?
                .https_only()
                .enable_http1()
                .wrap_connector(connector(self.private, false));
            Some(client_builder().build(connector))
        });
        client.as_ref().ok_or(Error::ConfigurationError)
    }
}

impl Transport {
    /// `max_response`: bytes of the largest body that may come back.
    pub(crate) fn new(egress: Egress, max_response: u64) -> Self {
        Self {
            egress,
            public: Clients::new(false),
            private: Clients::new(true),
            max_response,
        }
    }

    async fn send(
        &self,
        request: Request<WasiBody>,
        private: bool,
        silence: Option<Duration>,
        between_bytes: Option<Duration>,
    ) -> Result<Response<WasiBody>, Error> {
        let silence = silence.unwrap_or(MAX_SILENCE).min(MAX_SILENCE);
        let between_bytes = between_bytes.unwrap_or(MAX_SILENCE).min(MAX_SILENCE);
        let progress = Progress::start();
        let request = request.map(|inner| RequestBody {
            inner,
            progress: Arc::clone(&progress),
        });
        let clients = if private { &self.private } else { &self.public };
        let answer = if request.uri().scheme_str() == Some("https") {
            clients.tls()?.request(request)
        } else {
            clients.plain.request(request)
        };
        tokio::pin!(answer);
        let response = loop {
            let patience = (silence + CONNECT_TIMEOUT).saturating_sub(progress.idle());
            if patience.is_zero() {
                return Err(Error::ConnectionReadTimeout);
            }
            match tokio::time::timeout(patience, &mut answer).await {
                Ok(Ok(response)) => break response,
                Ok(Err(error)) => return Err(request_error(&error)),
                // The body may have moved on meanwhile: look again.
                Err(_) => {}
            }
        };
        let says_its_length = response.body().size_hint().exact().is_some()
            || response
                .headers()
                .contains_key(http::header::TRANSFER_ENCODING);
        if !says_its_length {
            // It ends when the connection does: nobody could tell that from breaking off in the middle.
            return Err(Error::HttpProtocolError);
        }
        Ok(response.map(|incoming| {
            ResponseBody::new(incoming, between_bytes, self.max_response).boxed_unsync()
        }))
    }
}

fn client_builder() -> hyper_util::client::legacy::Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .pool_idle_timeout(IDLE_CONNECTION)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .pool_timer(TokioTimer::new())
        .http1_max_buf_size(READ_BUFFER);
    builder
}

fn connector(private: bool, http_only: bool) -> HttpConnector<Resolver> {
    let resolver = Resolver {
        private,
        system: GaiResolver::new(),
    };
    let mut connector = HttpConnector::new_with_resolver(resolver);
    connector.enforce_http(http_only);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_nodelay(true);
    connector
}

/// What happened on the network during one call.
#[derive(Debug, Default)]
pub(crate) struct CallRecord {
    /// A request that may change the store was sent.
    mutating: AtomicBool,
    denied: Mutex<Option<(Uri, Denied)>>,
}

impl CallRecord {
    pub(crate) fn was_mutating(&self) -> bool {
        self.mutating.load(Ordering::Relaxed)
    }

    /// The request that the grant refused last, in words for the operator.
    pub(crate) fn denied(&self) -> Option<String> {
        let denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        denied.as_ref().map(|(uri, denied)| {
            let host = uri.host().unwrap_or_default();
            match denied {
                Denied::Rule(rule) => format!(
                    "the grant of this store does not allow the request; the egress rule `{rule}` would"
                ),
                Denied::Address => format!(
                    "`{host}` is a loopback, private or link-local address, which this store may reach only if a rule of the operator names it"
                ),
            }
        })
    }
}

/// The door between one instance and its grant's connections.
pub(crate) struct Door {
    pub(crate) transport: Arc<Transport>,
    pub(crate) record: Arc<CallRecord>,
}

impl Door {
    /// Notes a request that the grant does not allow, for the operator.
    fn refuse(&self, uri: &Uri, denied: Denied) -> Error {
        tracing::warn!(host = uri.host(), ?denied, "request refused by the grant");
        let error = match denied {
            Denied::Address => Error::DestinationIpProhibited,
            Denied::Rule(_) => Error::HttpRequestDenied,
        };
        let slot = self.record.denied.lock();
        *slot.unwrap_or_else(PoisonError::into_inner) = Some((uri.clone(), denied));
        error
    }
}

type Sent = Result<
    (
        Response<WasiBody>,
        Box<dyn Future<Output = Result<(), Error>> + Send>,
    ),
    Error,
>;

impl WasiHttpHooks for Door {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _body_outcome: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let transport = Arc::clone(&self.transport);
        let private = match transport.egress.check(request.method(), request.uri()) {
            Ok(private) => private,
            Err(denied) => {
                let error = self.refuse(request.uri(), denied);
                return Box::new(async move { Err(error) });
            }
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            self.record.mutating.store(true, Ordering::Relaxed);
        }
        let silence = options.and_then(|options| options.first_byte_timeout);
        let between_bytes = options.and_then(|options| options.between_bytes_timeout);
        Box::new(async move {
            let response = transport
                .send(request, private, silence, between_bytes)
                .await?;
            let done: Box<dyn Future<Output = Result<(), Error>> + Send> =
                Box::new(async { Ok(()) });
            Ok((response, done))
        })
    }
}
