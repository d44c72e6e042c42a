//! Name resolution that hands out only addresses the grant allows.
//!
//! The connection goes to an address that was judged here; nothing is resolved a second time, so a name
//! that answers differently the next moment gains nothing.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use tower_service::Service;
use wasmtime_wasi_http::Error;

use super::egress::is_private;

/// Finds the addresses of hosts, in place of the system's resolver.
#[async_trait]
pub trait Resolve: Send + Sync {
    /// The addresses of a host name, in the order to try them; none: there is no such host. Asked once for each
    /// connection; each address is judged by the grant before it is connected to.
    ///
    /// # Errors
    /// When no name server answers; the request may be tried again.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

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

/// Who is asked for addresses.
#[derive(Clone, Default)]
pub(crate) enum NameSource {
    Given(Arc<dyn Resolve>),
    #[default]
    System,
}

impl fmt::Debug for NameSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Given(_) => "Given",
            Self::System => "System",
        })
    }
}

impl NameSource {
    /// Ports mean nothing yet: the connector puts them in.
    async fn lookup(self, name: Name) -> Result<Vec<SocketAddr>, ConnectError> {
        match self {
            Self::Given(resolver) => {
                let found = resolver.resolve(name.as_str()).await;
                let found = found.map_err(|_| ConnectError::LookupFailed)?;
                Ok(found.into_iter().map(|it| SocketAddr::new(it, 0)).collect())
            }
            Self::System => {
                let found = GaiResolver::new().call(name).await;
                let found = found.map_err(|error| lookup_error(&error))?;
                Ok(found.collect())
            }
        }
    }
}

/// A source of addresses behind the grant's judgement.
#[derive(Clone)]
pub(crate) struct Resolver {
    /// The rule that allowed the request names its host, so it may be a private address.
    pub(crate) private: bool,
    pub(crate) source: NameSource,
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
        let lookup = self.source.clone().lookup(name);
        Box::pin(async move {
            let found = lookup.await?;
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
fn lookup_error(error: &io::Error) -> ConnectError {
    let text = error.to_string();
    // glibc and musl.
    if text.contains("Temporary failure") || text.contains("Try again") {
        ConnectError::LookupFailed
    } else {
        ConnectError::NoSuchHost
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Answers differently each time.
    struct Rebinding(Mutex<Vec<Vec<IpAddr>>>);

    #[async_trait]
    impl Resolve for Rebinding {
        async fn resolve(&self, _host: &str) -> io::Result<Vec<IpAddr>> {
            Ok(self.0.lock().unwrap().pop().unwrap())
        }
    }

    /// Systems read numbers as addresses that no literal in a URL is.
    #[tokio::test]
    async fn numbers_that_the_system_takes_for_addresses_are_judged_too() {
        for host in ["2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "127.1"] {
            let mut resolver = Resolver {
                private: false,
                source: NameSource::System,
            };
            let found = resolver.call(host.parse().unwrap()).await;
            assert!(found.is_err(), "{host}");
        }
    }

    #[tokio::test]
    async fn every_address_of_every_answer_is_judged() {
        let public: IpAddr = "52.216.0.1".parse().unwrap();
        let metadata: IpAddr = "169.254.169.254".parse().unwrap();
        let mapped: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
        // From the last to the first.
        let answers = vec![
            vec![],
            vec![mapped, metadata],
            vec![metadata, public, mapped],
            vec![public],
        ];
        let mut resolver = Resolver {
            private: false,
            source: NameSource::Given(Arc::new(Rebinding(Mutex::new(answers)))),
        };
        let mut ask = async || {
            let found = resolver.call("rebinding.test".parse().unwrap()).await;
            found.map(|addresses| addresses.map(|address| address.ip()).collect::<Vec<_>>())
        };
        assert_eq!(ask().await, Ok(vec![public]));
        assert_eq!(ask().await, Ok(vec![public]), "the public one of three");
        assert_eq!(ask().await, Err(ConnectError::Prohibited));
        assert_eq!(ask().await, Err(ConnectError::NoSuchHost));
    }
}
