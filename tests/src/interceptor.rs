//! A proxy that leads every host to one server, inside TLS, too: what is sent to AWS's own hosts can be seen on loopback.
//!
//! Endpoints can be compared without it only where a test names them, which leaves out the ones that matter most: those
//! that are made from region, partition and bucket.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A running proxy. It ends when this is dropped.
pub struct Interceptor {
    url: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    server: SocketAddr,
    authority: Issuer<'static, KeyPair>,
    pem: String,
    tunnels: Mutex<Vec<String>>,
    asked: Mutex<usize>,
}

impl Interceptor {
    /// Starts one before a server without TLS.
    ///
    /// # Panics
    /// If there is no port, or no certificate can be made.
    pub async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        let shared = Arc::new(Shared {
            server,
            authority: Issuer::new(params, key),
            pem,
            tunnels: Mutex::default(),
            asked: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, Arc::clone(&serving)));
            }
        });
        Self { url, shared, task }
    }

    /// What `http_proxy` and `https_proxy` have to be.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The certificate authority that clients have to trust, as PEM.
    pub fn authority(&self) -> &str {
        &self.shared.pem
    }

    /// `host:port` of each tunnel so far: where clients speak TLS to.
    pub fn tunnels(&self) -> Vec<String> {
        let tunnels = self.shared.tunnels.lock();
        tunnels.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many connections came, tunnels included.
    pub fn connections(&self) -> usize {
        let asked = self.shared.asked.lock();
        *asked.unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what came so far.
    pub fn clear(&self) {
        let (tunnels, asked) = (self.shared.tunnels.lock(), self.shared.asked.lock());
        tunnels.unwrap_or_else(PoisonError::into_inner).clear();
        *asked.unwrap_or_else(PoisonError::into_inner) = 0;
    }
}

impl Drop for Interceptor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One connection; its end is no matter.
async fn serve(mut client: TcpStream, shared: Arc<Shared>) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    *shared.asked.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    let line = String::from_utf8_lossy(&head).into_owned();
    let Some(target) = line.strip_prefix("CONNECT ") else {
        return join(client, &head, &shared).await;
    };
    let target = target.split(' ').next()?.to_owned();
    let host = target.rsplit_once(':')?.0.to_owned();
    let tunnels = shared.tunnels.lock();
    tunnels.unwrap_or_else(PoisonError::into_inner).push(target);
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
    let stream = shared.acceptor(host)?.accept(client).await.ok()?;
    join(stream, b"", &shared).await
}

/// Leads a client to the server, after what was read from it.
async fn join(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    read: &[u8],
    shared: &Shared,
) -> Option<()> {
    let mut server = TcpStream::connect(shared.server).await.ok()?;
    server.write_all(read).await.ok()?;
    copy_bidirectional(&mut client, &mut server).await.ok()?;
    Some(())
}

impl Shared {
    /// Speaks TLS as this host.
    fn acceptor(&self, host: String) -> Option<TlsAcceptor> {
        let key = KeyPair::generate().ok()?;
        let params = CertificateParams::new([host]).ok()?;
        let certificate = params.signed_by(&key, &self.authority).ok()?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .ok()?
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).ok()?,
            )
            .ok()?;
        Some(TlsAcceptor::from(Arc::new(config)))
    }
}
