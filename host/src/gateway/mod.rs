//! Terraform's `http` backend protocol on top of a [`StateStore`], so that an unmodified Terraform or
//! OpenTofu keeps its state through the sandbox.
//!
//! Without this module only Rust programs could use a sandboxed store. What it must not get wrong: the
//! client repeats every request whose answer it did not get or did not like, sends no lock id when it
//! reads, takes a 404 for an empty state, and words 401 and 403 as its own credentials.
//!
//! One request at a time changes a workspace; reads wait for nobody. What a session knows (the lock, and
//! the revision that its holder last saw) may be lost at any time: after a restart the stored lock and the
//! stored state are read again.

mod access;
mod answer;
mod body;
mod protocol;
mod server;
mod session;
mod target;
#[cfg(test)]
mod tests;
mod tls;
mod token;

use std::{
    collections::BTreeSet,
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

use self::{access::Access, protocol::Protocol, server::Server};
use crate::StateStore;

pub use self::token::Token;

/// Where a gateway listens unless told otherwise.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8089);

/// Bytes of the largest state that a gateway takes unless told otherwise.
pub const DEFAULT_MAX_STATE: u64 = 100_000_000;

/// How long a shutdown waits for the requests that are running. A lock or a write that is cut off leaves
/// somebody to find out whether it took effect.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// What stays as it is in a workspace's part of a URL (RFC 3986, unreserved).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// How a gateway is set up. See [`Gateway::builder`].
pub struct Gateway {
    store: Arc<dyn StateStore>,
    listen: SocketAddr,
    token: Option<Token>,
    allow_force_unlock: bool,
    allow_no_locking: bool,
    refuse_locks: Option<String>,
    tls: Option<(PathBuf, PathBuf)>,
    max_state: u64,
    hosts: BTreeSet<String>,
}

impl Gateway {
    /// A gateway to the states of one store: on [`DEFAULT_LISTEN`], without TLS, without a token.
    pub fn builder(store: Arc<dyn StateStore>) -> Self {
        Self {
            store,
            listen: DEFAULT_LISTEN,
            token: None,
            allow_force_unlock: false,
            allow_no_locking: false,
            refuse_locks: None,
            tls: None,
            max_state: DEFAULT_MAX_STATE,
            hosts: BTreeSet::new(),
        }
    }

    /// Where to listen. Port 0 takes a free one. Without [`tls`](Self::tls) only loopback addresses.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// What clients must show, as bearer token or as Basic password under any user name. `None`: whoever
    /// can connect may do everything.
    #[must_use]
    pub fn token(mut self, token: Option<Token>) -> Self {
        self.token = token;
        self
    }

    /// Whether an unlock without a lock id, which is Terraform's `force-unlock`, breaks the lock.
    #[must_use]
    pub fn allow_force_unlock(mut self, allow: bool) -> Self {
        self.allow_force_unlock = allow;
        self
    }

    /// Whether states may be written although the store's configuration names no lock.
    #[must_use]
    pub fn allow_no_locking(mut self, allow: bool) -> Self {
        self.allow_no_locking = allow;
        self
    }

    /// Refuses to take any lock, for this reason: the store is known to give the same lock to two. The reason is sent
    /// to clients and logged.
    #[must_use]
    pub fn refuse_locks(mut self, reason: Option<String>) -> Self {
        self.refuse_locks = reason;
        self
    }

    /// Serves https with a certificate chain and its private key, both PEM files.
    #[must_use]
    pub fn tls(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.tls = Some((certificate.into(), key.into()));
        self
    }

    /// The largest state to take, in bytes.
    #[must_use]
    pub fn max_state(mut self, bytes: u64) -> Self {
        self.max_state = bytes;
        self
    }

    /// A further host name under which clients may address the gateway, without a port. Loopback names and
    /// the address it listens on are always allowed.
    #[must_use]
    pub fn allow_host(mut self, name: impl Into<String>) -> Self {
        self.hosts.insert(name.into().to_ascii_lowercase());
        self
    }

    /// Listens, and serves until [`RunningGateway::shutdown`] or until the answer is dropped.
    ///
    /// # Errors
    /// [`GatewayError::PlainText`] for an address that needs TLS, [`GatewayError::Certificate`], or
    /// [`GatewayError::Listen`].
    pub async fn start(self) -> Result<RunningGateway, GatewayError> {
        if self.tls.is_none() && !self.listen.ip().to_canonical().is_loopback() {
            return Err(GatewayError::PlainText {
                address: self.listen,
            });
        }
        let tls = match &self.tls {
            Some((certificate, key)) => Some(tls::acceptor(certificate, key)?),
            None => None,
        };
        let failed = |source| GatewayError::Listen {
            address: self.listen,
            source,
        };
        let listener = TcpListener::bind(self.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;

        let host = match self.hosts.first() {
            Some(name) if tls.is_some() => format!("{name}:{}", address.port()),
            _ if address.ip().is_unspecified() => format!("localhost:{}", address.port()),
            _ => address.to_string(),
        };
        let base = format!(
            "{}://{host}/state",
            if tls.is_some() { "https" } else { "http" }
        );
        let server = Server {
            access: Access::new(self.token, address.ip(), self.hosts),
            protocol: Protocol::new(
                self.store,
                self.allow_force_unlock,
                self.allow_no_locking,
                self.refuse_locks,
            ),
            max_state: self.max_state,
        };
        let (stop, stopped) = watch::channel(());
        let (busy, idle) = mpsc::channel(1);
        let serving = tokio::spawn(server::serve(
            listener,
            tls,
            Arc::new(server),
            stopped,
            busy,
        ));
        Ok(RunningGateway {
            address,
            base,
            stop,
            idle,
            serving,
        })
    }
}

/// A gateway at work. Dropping it ends it: no new requests are taken, those that run are finished as long
/// as the runtime lives.
#[derive(Debug)]
pub struct RunningGateway {
    address: SocketAddr,
    base: String,
    stop: watch::Sender<()>,
    idle: mpsc::Receiver<Infallible>,
    serving: JoinHandle<()>,
}

impl RunningGateway {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of a workspace's state, to be used as `address`, `lock_address` and `unlock_address` of
    /// the backend block.
    pub fn url(&self, workspace: &str) -> String {
        format!("{}/{}", self.base, utf8_percent_encode(workspace, SEGMENT))
    }

    /// Takes no more requests and waits for those that run, up to 10 s.
    pub async fn shutdown(self) {
        let Self {
            stop,
            mut idle,
            serving,
            ..
        } = self;
        drop(stop);
        // Nothing is ever sent: the answer comes when the last connection and the last request are gone.
        if timeout(SHUTDOWN, idle.recv()).await.is_err() {
            tracing::warn!("requests were still running when the gateway ended");
            serving.abort();
        }
    }
}

/// Why a gateway cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// The certificate or its key cannot be used.
    #[error("cannot use {} for TLS: {reason}", .path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// States and the token would cross a network in the clear.
    #[error(
        "refusing to listen on {address} without TLS: states hold secrets; give a certificate and its key, or listen on a loopback address such as 127.0.0.1:{}",
        .address.port()
    )]
    PlainText {
        /// The address.
        address: SocketAddr,
    },
}
