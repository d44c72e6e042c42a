//! Name resolution that hands out only addresses the grant allows.
//!
//! The connection goes to an address that was judged here; nothing is resolved a second time, so a name
//! that answers differently the next moment gains nothing.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower_service::Service;
use wasmtime_wasi_http::Error;

use super::egress::is_private;

/// Why no connection could be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("the name server does not answer")]
    LookupFailed,
    #[error("the host name does not resolve")]
    NoSuchHost,
    #[error("the host name resolves to addresses that the grant does not allow")]
    Prohibited,
}

impl From<&ConnectError> for Error {
    fn from(error: &ConnectError) -> Self {
        match error {
            ConnectError::LookupFailed => Self::DnsTimeout,
            ConnectError::NoSuchHost => Self::DnsError {
                rcode: Some("NXDOMAIN".to_owned()),
                info_code: None,
            },
            ConnectError::Prohibited => Self::DestinationIpProhibited,
        }
    }
}

/// The system's resolver behind the grant's judgement.
#[derive(Clone)]
pub(crate) struct Resolver {
    /// The rule that allowed the request names its host, so it may be a private address.
    pub(crate) private: bool,
    pub(crate) system: GaiResolver,
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let private = self.private;
        let lookup = self.system.call(name);
        Box::pin(async move {
            let found: Vec<SocketAddr> = lookup
                .await
                .map_err(|error| lookup_error(&error))?
                .collect();
            if found.is_empty() {
                return Err(ConnectError::NoSuchHost);
            }
            let allowed: Vec<SocketAddr> = found
                .into_iter()
                .filter(|address| private || !is_private(address.ip()))
                .collect();
            if allowed.is_empty() {
                Err(ConnectError::Prohibited)
            } else {
                Ok(allowed.into_iter())
            }
        })
    }
}

/// Tells a name that does not exist from a name server that does not answer: only the latter is worth
/// another try. The standard library keeps getaddrinfo's code (EAI_AGAIN) to itself, but not its text.
fn lookup_error(error: &std::io::Error) -> ConnectError {
    let text = error.to_string();
    // glibc and musl.
    if text.contains("Temporary failure") || text.contains("Try again") {
        ConnectError::LookupFailed
    } else {
        ConnectError::NoSuchHost
    }
}
