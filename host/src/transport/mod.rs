//! The way to the network: egress policy, name resolution, proxies, TLS, and one connection pool per grant.
//!
//! The component sees only `wasi:http`. Sockets, certificates and the decision who may be talked to live
//! here, so that no component can weaken them, and stores of different tenants never share a connection.

mod body;
mod bundle;
mod dial;
mod egress;
mod proxy;
mod resolve;
mod settings;
mod table;
mod tls;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body::Body as _;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::Instrument as _;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::limits::count;
use crate::observe::{Traffic, request_ended};
use crate::{Limits, Tenant};
use body::{Progress, RequestBody, ResponseBody, cause, request_error};
pub(crate) use dial::ProxyFailure;
use dial::{Dialer, authorization};
pub(crate) use egress::{Denied, Egress, Reach};
pub use egress::{EgressRule, EgressRuleError};
use egress::{Pass, check_headers, rule_for};
pub use proxy::{Proxies, ProxyUrlError};
pub use resolve::Resolve;
pub(crate) use resolve::{ConnectError, NameSource};
pub(crate) use settings::{Operator, Settings};
pub use tls::CertificatesError;
pub(crate) use tls::Trust;

/// Connecting to an address takes longer than this only when nobody answers.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// No way to a host takes longer than this, name resolution, proxy and TLS included; Terraform waits 40 s.
const MAX_CONNECT: Duration = Duration::from_secs(30);
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

type PlainClient = Client<Dialer, RequestBody>;
type TlsClient = Client<HttpsConnector<Dialer>, RequestBody>;

/// The connections of one grant.
pub(crate) struct Transport {
    egress: Egress,
    settings: Arc<Settings>,
    /// To places that must have public addresses.
    public: Clients,
    /// To places that may have private ones. Apart, so that no request of the other kind finds their
    /// connections.
    private: Clients,
    /// For requests on their way, until their answer is read.
    permits: Arc<Semaphore>,
    tenant: Tenant,
    limits: Limits,
}

/// One client for each scheme.
struct Clients {
    plain: PlainClient,
    /// Made when the first https request comes, because of [`Settings::client_config`].
    tls: OnceLock<Option<TlsClient>>,
    private: bool,
    settings: Arc<Settings>,
}

impl Clients {
    fn new(private: bool, settings: &Arc<Settings>) -> Self {
        Self {
            plain: client_builder().build(Dialer::new(private, settings)),
            tls: OnceLock::new(),
            private,
            settings: Arc::clone(settings),
        }
    }

    fn tls(&self) -> Result<&TlsClient, Error> {
        let client = self.tls.get_or_init(|| {
            let config = self.settings.client_config().ok()?;
            let connector = HttpsConnectorBuilder::new()
                .with_tls_config(Arc::unwrap_or_clone(config))
                .https_only()
                .enable_http1()
                .wrap_connector(Dialer::new(self.private, &self.settings));
            Some(client_builder().build(connector))
        });
        client.as_ref().ok_or(Error::ConfigurationError)
    }
}

impl Transport {
    pub(crate) fn new(
        egress: Egress,
        settings: Settings,
        limits: &Limits,
        tenant: &Tenant,
    ) -> Self {
        let settings = Arc::new(settings);
        Self {
            egress,
            public: Clients::new(false, &settings),
            private: Clients::new(true, &settings),
            settings,
            permits: Arc::new(Semaphore::new(
                count(limits.connections).min(Semaphore::MAX_PERMITS),
            )),
            tenant: tenant.clone(),
            limits: *limits,
        }
    }

    /// Looks into the body if the grant asks for that, and sends the request.
    async fn send_checked(
        &self,
        request: Request<WasiBody>,
        pass: Pass,
        patience: &Patience,
        record: &Arc<CallRecord>,
    ) -> Result<Response<WasiBody>, Error> {
        if pass.tables.is_empty() {
            return self.send(request, pass.private, patience, record).await;
        }
        let (head, body) = request.into_parts();
        let body = Limited::new(body, table::MAX_BODY).collect();
        let body = tokio::time::timeout(patience.silence, body)
            .await
            .map_err(|_| Error::ConnectionWriteTimeout)?
            .map_err(|_| Error::HttpRequestBodySize(None))?
            .to_bytes();
        let targets = head.headers.get_all(table::TARGET).iter();
        if !table::is_about(&pass.tables, targets, &body) {
            let rule = rule_for(&head.method, &head.uri);
            return Err(record.refuse(&head.uri, Denied::Table(rule)));
        }
        let body = Full::new(body).map_err(|never| match never {});
        let request = Request::from_parts(head, body.boxed_unsync());
        self.send(request, pass.private, patience, record).await
    }

    async fn send(
        &self,
        mut request: Request<WasiBody>,
        private: bool,
        patience: &Patience,
        record: &Arc<CallRecord>,
    ) -> Result<Response<WasiBody>, Error> {
        // Nothing is connected yet: only the time of the call counts.
        let turn = tokio::time::timeout(self.limits.call_budget(), self.turn());
        let turn = turn.await.ok().flatten();
        let turn = turn.ok_or(Error::ConnectionLimitReached)?;
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let forwarding = self.settings.proxies.of(request.uri());
        let forwarding = forwarding.filter(|proxy| proxy.forwards(request.uri()));
        if let Some(value) = forwarding.and_then(authorization) {
            let headers = request.headers_mut();
            headers.insert(http::header::PROXY_AUTHORIZATION, value);
        }
        let mut connection = capture_connection(&mut request);
        let progress = Progress::start();
        let request = request.map(|inner| RequestBody {
            inner,
            progress: Arc::clone(&progress),
            allowed: self.limits.max_request(),
            record: Arc::clone(record),
            traffic: Traffic::sent(&self.tenant),
        });
        let clients = if private { &self.private } else { &self.public };
        let answer = if request.uri().scheme_str() == Some("https") {
            clients.tls()?.request(request)
        } else {
            clients.plain.request(request)
        };
        tokio::pin!(answer);
        let connected = async {
            // Dropped at once: it blocks the client.
            drop(connection.wait_for_connection_metadata().await);
        };
        let early = tokio::select! {
            biased;
            answer = &mut answer => Some(answer),
            () = connected => None,
            () = tokio::time::sleep(patience.connect) => return Err(Error::ConnectionTimeout),
        };
        progress.advance();
        let answer = match early {
            Some(answer) => answer,
            None => loop {
                let left = patience.silence.saturating_sub(progress.idle());
                if left.is_zero() {
                    return Err(Error::ConnectionReadTimeout);
                }
                // When time is up the body may have moved on meanwhile: look again.
                if let Ok(answer) = tokio::time::timeout(left, &mut answer).await {
                    break answer;
                }
            },
        };
        let response = answer.map_err(|error| {
            if let Some(failure) = cause::<ProxyFailure>(&error) {
                record.note(failure.to_string());
            }
            if let Some(ConnectError::Prohibited) = cause::<ConnectError>(&error) {
                return record.refuse(&uri, Denied::Address(rule_for(&method, &uri)));
            }
            request_error(&error)
        })?;
        if size_of_head(response.headers()) > self.limits.headers {
            record.note("the headers of the answer are larger than the limit `headers`".to_owned());
            return Err(Error::HttpResponseHeaderSectionSize(None));
        }
        if let Some(proxy) = forwarding
            && response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED
        {
            let failure = ProxyFailure::unauthorized(proxy);
            record.note(failure.to_string());
            return Err((&failure).into());
        }
        let says_its_length = response.body().size_hint().exact().is_some()
            || response
                .headers()
                .contains_key(http::header::TRANSFER_ENCODING);
        if !says_its_length {
            // It ends when the connection does: nobody could tell that from breaking off in the middle.
            return Err(Error::HttpProtocolError);
        }
        let (allowed, record) = (self.limits.max_response(), Arc::clone(record));
        Ok(response.map(|incoming| {
            let traffic = Traffic::received(&self.tenant);
            ResponseBody::new(
                incoming,
                patience.between_bytes,
                allowed,
                record,
                (turn, traffic),
            )
            .boxed_unsync()
        }))
    }

    /// Waits until one more request may be on its way.
    async fn turn(&self) -> Option<Turn> {
        let store = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        Some(Turn {
            _store: store,
            _tenant: self.tenant.connection().await,
        })
    }
}

/// The right to be on one's way. Others wait until it is dropped.
pub(crate) struct Turn {
    _store: OwnedSemaphorePermit,
    _tenant: Option<OwnedSemaphorePermit>,
}

const DENIED: &str = "denied";

/// What metrics call the end of a request.
fn ending(answer: &Result<Response<WasiBody>, Error>) -> &'static str {
    match answer {
        Ok(response) => match response.status().as_u16() / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        },
        Err(Error::DestinationIpProhibited | Error::HttpRequestDenied) => DENIED,
        Err(_) => "failed",
    }
}

/// Bytes of headers, as they are sent: two of them stand between name and value, and two at the end of the line.
fn size_of_head(headers: &HeaderMap) -> u64 {
    headers
        .iter()
        .map(|(name, value)| (name.as_str().len() + value.len() + 4) as u64)
        .sum()
}

/// How long to wait for what, as the component asks, but never for ever.
struct Patience {
    connect: Duration,
    /// For the head of the answer, counted from the last byte of the request that was taken.
    silence: Duration,
    between_bytes: Duration,
}

impl Patience {
    fn new(options: Option<RequestOptions>) -> Self {
        let options = options.unwrap_or_default();
        let at_most = |asked: Option<Duration>, most: Duration| asked.unwrap_or(most).min(most);
        Self {
            connect: at_most(options.connect_timeout, MAX_CONNECT),
            silence: at_most(options.first_byte_timeout, MAX_SILENCE),
            between_bytes: at_most(options.between_bytes_timeout, MAX_SILENCE),
        }
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

/// What happened on the network during one call.
#[derive(Debug, Default)]
pub(crate) struct CallRecord {
    /// A request that may change the store was sent.
    mutating: AtomicBool,
    trouble: Mutex<Option<Trouble>>,
}

/// What the host itself has to say about a request that failed.
#[derive(Debug)]
enum Trouble {
    Denied(Uri, Denied),
    /// In words; a proxy's.
    Failed(String),
}

impl CallRecord {
    pub(crate) fn was_mutating(&self) -> bool {
        self.mutating.load(Ordering::Relaxed)
    }

    /// What the grant or a proxy refused last, in words for the operator.
    pub(crate) fn denied(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.as_ref().map(|trouble| match trouble {
            Trouble::Denied(_, Denied::Rule(rule)) => format!(
                "the grant of this store does not allow the request; the egress rule `{rule}` would"
            ),
            Trouble::Denied(uri, Denied::Address(rule)) => {
                let host = uri.host().unwrap_or_default();
                format!(
                    "`{host}` is a loopback, private or link-local address, which this store may reach only if a rule of the operator names it, such as `{rule}`"
                )
            }
            Trouble::Denied(_, Denied::Header(name)) => format!(
                "no store may send the header `{name}`, which makes another request of the one that was judged"
            ),
            Trouble::Denied(_, Denied::Table(rule)) => format!(
                "the grant of this store allows its own table only; the egress rule `{rule}` would allow every table"
            ),
            Trouble::Failed(words) => words.clone(),
        })
    }

    /// Notes a request that the grant does not allow, for the operator, and words it for the component.
    fn refuse(&self, uri: &Uri, denied: Denied) -> Error {
        let error = match denied {
            Denied::Address(_) => Error::DestinationIpProhibited,
            Denied::Header(_) | Denied::Rule(_) | Denied::Table(_) => Error::HttpRequestDenied,
        };
        self.set(Some(Trouble::Denied(uri.clone(), denied)));
        let words = self.denied().unwrap_or_default();
        tracing::warn!(host = uri.host(), "request refused: {words}");
        error
    }

    fn note(&self, words: String) {
        tracing::debug!(%words, "request failed");
        self.set(Some(Trouble::Failed(words)));
    }

    fn set(&self, trouble: Option<Trouble>) {
        let slot = self.trouble.lock();
        *slot.unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

/// The door between one instance and its grant's connections.
pub(crate) struct Door {
    pub(crate) transport: Arc<Transport>,
    pub(crate) record: Arc<CallRecord>,
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
        let judged = check_headers(request.headers())
            .and_then(|()| transport.egress.check(request.method(), request.uri()));
        let pass = match judged {
            Ok(pass) => pass,
            Err(denied) => {
                let error = self.record.refuse(request.uri(), denied);
                request_ended(&transport.tenant, DENIED);
                return Box::new(async move { Err(error) });
            }
        };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            self.record.mutating.store(true, Ordering::Relaxed);
        }
        self.record.set(None);
        let record = Arc::clone(&self.record);
        let patience = Patience::new(options);
        let sent = async move {
            let answer = transport
                .send_checked(request, pass, &patience, &record)
                .await;
            request_ended(&transport.tenant, ending(&answer));
            let done: Box<dyn Future<Output = Result<(), Error>> + Send> =
                Box::new(async { Ok(()) });
            Ok((answer?, done))
        };
        Box::new(sent.in_current_span())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Full;

    use super::*;

    #[tokio::test]
    async fn a_way_that_is_not_made_in_the_time_asked_for_is_given_up() {
        // Takes connections and says nothing: the tunnel never stands.
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap().to_string();
        let operator = Operator {
            proxies: Some(Proxies::new(None, Some(&address), "").unwrap()),
            ..Operator::default()
        };
        let config = serde_json::json!({});
        let (settings, _) = Settings::of(&config, &operator, None).await.unwrap();
        let transport = Transport::new(
            Egress::default(),
            settings,
            &Limits::default(),
            &Tenant::default(),
        );
        let body = Full::new(Bytes::new()).map_err(|never| match never {});
        let request = Request::get("https://store.test/")
            .body(body.boxed_unsync())
            .unwrap();
        let patience = Patience::new(Some(RequestOptions {
            connect_timeout: Some(Duration::from_millis(50)),
            ..RequestOptions::default()
        }));
        let record = Arc::default();
        let answer = transport.send(request, false, &patience, &record).await;
        assert!(matches!(answer, Err(Error::ConnectionTimeout)));
    }
}
