//! Connections to the places that requests go to, or to the proxies that lead there.
//!
//! A proxy's own address is the operator's or the person's word, so it may be private; what lies behind it only the
//! names in the egress rules judge.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::proxy::SocksV5;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use tower_service::Service;
use wasmtime_wasi_http::Error;

use super::body::deeper;
use super::proxy::{Protocol, Proxy};
use super::resolve::{ConnectError, NameSource, Resolver};
use super::{CONNECT_TIMEOUT, Settings};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Makes the connections of one pool.
#[derive(Clone)]
pub(super) struct Dialer {
    direct: HttpConnector<Resolver>,
    to_proxy: HttpConnector<Resolver>,
    settings: Arc<Settings>,
}

impl Dialer {
    /// `private`: hosts may have private addresses.
    pub(super) fn new(private: bool, settings: &Arc<Settings>) -> Self {
        Self {
            direct: connector(private, &settings.resolver),
            to_proxy: connector(true, &settings.resolver),
            settings: Arc::clone(settings),
        }
    }
}

impl Service<Uri> for Dialer {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // Neither the connectors nor the resolver below ever make anybody wait.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let Some(proxy) = self.settings.proxies.of(&to).cloned() else {
            let connecting = self.direct.call(to);
            return Box::pin(async move { Ok(Stream::new(connecting.await?)) });
        };
        let to_proxy = self.to_proxy.clone();
        let settings = Arc::clone(&self.settings);
        Box::pin(async move {
            let failed = |(what, kind)| ProxyFailure {
                proxy: proxy.to_string(),
                what,
                kind,
            };
            let stream = connect(&proxy, to_proxy, &settings)
                .await
                .map_err(|error| failed(unreachable(error.as_ref())))?;
            let stream = if proxy.forwards(&to) {
                Ok(Stream {
                    forwarded: true,
                    ..stream
                })
            } else if proxy.protocol == Protocol::Socks5 {
                socks(&proxy, stream, &to).await
            } else {
                tunnel(&proxy, stream, &to).await
            };
            Ok(stream.map_err(failed)?)
        })
    }
}

fn connector(private: bool, source: &NameSource) -> HttpConnector<Resolver> {
    let resolver = Resolver {
        private,
        source: source.clone(),
    };
    let mut connector = HttpConnector::new_with_resolver(resolver);
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_nodelay(true);
    connector
}

/// Why a proxy did not lead to the host. Names neither user nor password.
#[derive(Debug, thiserror::Error)]
#[error("the proxy {proxy} {what}")]
pub(crate) struct ProxyFailure {
    proxy: String,
    what: String,
    kind: FailureKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FailureKind {
    /// It will say the same again.
    Refused,
    Unreachable,
}

impl ProxyFailure {
    /// 407, to a request or a tunnel.
    pub(super) fn unauthorized(proxy: &Proxy) -> Self {
        let (what, kind) = unauthorized(proxy);
        Self {
            proxy: proxy.to_string(),
            what,
            kind,
        }
    }
}

impl From<&ProxyFailure> for Error {
    fn from(failure: &ProxyFailure) -> Self {
        match failure.kind {
            FailureKind::Refused => Self::ConfigurationError,
            FailureKind::Unreachable => Self::DestinationUnavailable,
        }
    }
}

type Why = (String, FailureKind);

fn unauthorized(proxy: &Proxy) -> Why {
    let what = match proxy.credentials {
        Some(_) => "does not accept the user and password of its URL (407)",
        None => {
            "asks for a user and a password (407): put them into its URL, `user:password@` before the host"
        }
    };
    (what.to_owned(), FailureKind::Refused)
}

fn unreachable(error: &(dyn std::error::Error + 'static)) -> Why {
    let mut cause = error;
    while let Some(inner) = deeper(cause) {
        cause = inner;
    }
    let kind = match cause.downcast_ref::<ConnectError>() {
        Some(ConnectError::NoSuchHost) => FailureKind::Refused,
        _ => FailureKind::Unreachable,
    };
    (format!("cannot be reached: {cause}"), kind)
}

fn broken(error: impl std::fmt::Display) -> Why {
    let what = format!("broke off the connection: {error}");
    (what, FailureKind::Unreachable)
}

async fn connect(
    proxy: &Proxy,
    mut connector: HttpConnector<Resolver>,
    settings: &Settings,
) -> Result<Stream, BoxError> {
    let address = proxy.address.clone();
    if proxy.address.scheme_str() != Some("https") {
        return Ok(Stream::new(connector.call(address).await?));
    }
    let config = settings.client_config()?;
    let mut connector = HttpsConnector::from((connector, config));
    Ok(Stream::new(connector.call(address).await?))
}

/// Asks an HTTP proxy for a way to the host (RFC 9110, 9.3.6).
async fn tunnel(proxy: &Proxy, stream: Stream, to: &Uri) -> Result<Stream, Why> {
    let authority = authority(to)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream)
        .await
        .map_err(broken)?;
    // Ends when the tunnel stands, or when this function gives up.
    tokio::spawn(connection.with_upgrades());
    let mut request = Request::connect(&authority).header(header::HOST, &authority);
    if let Some(value) = authorization(proxy) {
        request = request.header(header::PROXY_AUTHORIZATION, value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(broken)?;
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    if status.is_success() {
        let upgraded = hyper::upgrade::on(response).await.map_err(broken)?;
        return Ok(Stream::new(upgraded));
    }
    if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        return Err(unauthorized(proxy));
    }
    let kind = match status.is_server_error() {
        true => FailureKind::Unreachable,
        false => FailureKind::Refused,
    };
    Err((format!("refuses the way to {authority}: {status}"), kind))
}

/// Asks a SOCKS5 proxy for a way to the host; the proxy resolves its name (RFC 1928, 1929).
async fn socks(proxy: &Proxy, stream: Stream, to: &Uri) -> Result<Stream, Why> {
    let place = Uri::builder()
        .scheme("https")
        .authority(authority(to)?)
        .path_and_query("/")
        .build()
        .map_err(broken)?;
    let mut socks = SocksV5::new(proxy.address.clone(), Connecting(Some(stream)));
    if let Some(it) = &proxy.credentials {
        socks = socks.with_auth(it.user.expose().to_owned(), it.password.expose().to_owned());
    }
    socks.call(place).await.map_err(|error| {
        let host = to.host().unwrap_or_default();
        let what = format!("refuses the way to {host}: {error}");
        (what, FailureKind::Unreachable)
    })
}

/// The value of `Proxy-Authorization`, if the proxy's URL names a user.
pub(super) fn authorization(proxy: &Proxy) -> Option<HeaderValue> {
    let basic = proxy.credentials.as_ref()?.basic();
    let mut value = HeaderValue::from_str(basic.expose()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Host and port, the default one included.
fn authority(to: &Uri) -> Result<String, Why> {
    let host = to.host().ok_or_else(|| broken("the request has no host"))?;
    let port = match (to.port_u16(), to.scheme_str()) {
        (Some(port), _) => port,
        (None, Some("http")) => 80,
        (None, _) => 443,
    };
    Ok(format!("{host}:{port}"))
}

/// The connection that stands already, for the handshake that wants to make one.
struct Connecting(Option<Stream>);

impl Service<Uri> for Connecting {
    type Response = Stream;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Stream>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _to: Uri) -> Self::Future {
        std::future::ready(
            self.0
                .take()
                .ok_or_else(|| io::ErrorKind::NotConnected.into()),
        )
    }
}

/// A connection, however it was made.
pub(super) struct Stream {
    io: Box<dyn Io>,
    /// Requests on it name their place in full: it ends at a proxy.
    forwarded: bool,
}

trait Io: Read + Write + Send + Unpin {}

impl<T: Read + Write + Send + Unpin> Io for T {}

impl Stream {
    fn new(io: impl Io + 'static) -> Self {
        Self {
            io: Box::new(io),
            forwarded: false,
        }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.forwarded)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
