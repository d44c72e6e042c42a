//! TLS sessions: a ticket that a server gave to one tenant is never shown to it by another.
//!
//! A resumed session would tell the server that both are one client, and let it answer the second without the
//! certificate being verified for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use cofferdam::{Backend, EgressRule, Grant, Limits, Reading, StateStore as _, Store, Tenant};
use http::{Request, Response, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::PrivateKeyDer;
use rustls::{HandshakeKind, ServerConfig, SupportedProtocolVersion, version};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// The handshakes that each access key made, in their order.
type Handshakes = Arc<Mutex<BTreeMap<String, Vec<HandshakeKind>>>>;

/// A store without states that closes each connection after one answer, and resumes sessions.
struct Resuming {
    port: u16,
    certificate: String,
    handshakes: Handshakes,
}

impl Resuming {
    async fn start(version: &'static SupportedProtocolVersion) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        // It keeps 256 sessions unless told otherwise.
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let handshakes = Handshakes::default();
        let noted = Arc::clone(&handshakes);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, acceptor.clone(), Arc::clone(&noted)));
            }
        });
        Self {
            port,
            certificate: made.cert.pem(),
            handshakes,
        }
    }

    /// A sealed store of a tenant, with an access key of that name.
    async fn store_of(&self, backend: &Backend, name: &str) -> Store {
        let url = format!("https://localhost:{}", self.port);
        let block = json!({
            "bucket": "b", "key": "app/terraform.tfstate", "region": "eu-west-1",
            "endpoints": { "s3": url }, "use_path_style": true,
            "access_key": name, "secret_key": "no-secret",
            "skip_credentials_validation": true, "skip_requesting_account_id": true,
        });
        let place: EgressRule = format!("GET {url}/b/").parse().unwrap();
        let grant = Grant::sealed().allow(place);
        let grant = grant.certificate_authorities(self.certificate.as_bytes());
        let store = backend.store(block).grant(grant.unwrap());
        let store = store.tenant(&Tenant::new(name)).limits(Limits::default());
        store.open().await.unwrap().store
    }

    fn handshakes_of(&self, name: &str) -> Vec<HandshakeKind> {
        self.handshakes.lock().unwrap()[name].clone()
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, noted: Handshakes) {
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let kind = stream.get_ref().1.handshake_kind().unwrap();
    let service = service_fn(move |request: Request<Incoming>| {
        let mut noted = noted.lock().unwrap();
        noted.entry(access_key(&request)).or_default().push(kind);
        let text = "<Error><Code>NoSuchKey</Code><Message>there is none</Message></Error>";
        let answer = Response::builder().status(404);
        let answer = answer.body(Full::new(Bytes::from_static(text.as_bytes())));
        async move { answer }
    });
    // A client that hangs up without TLS's goodbye is no matter.
    let _ = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// `AWS4-HMAC-SHA256 Credential=ID/…`
fn access_key(request: &Request<Incoming>) -> String {
    let signature = request.headers()[header::AUTHORIZATION].to_str().unwrap();
    let (_, scope) = signature.split_once("Credential=").unwrap();
    scope.split('/').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tls_session_of_one_tenant_is_never_resumed_by_another() {
    for version in [&version::TLS12, &version::TLS13] {
        let server = Resuming::start(version).await;
        let backend = Backend::builder().build().await.unwrap();
        let one = server.store_of(&backend, "AKIAONE").await;
        let two = server.store_of(&backend, "AKIATWO").await;
        for store in [&one, &one, &two, &two, &one] {
            let reading = store.read("default", None).await.unwrap();
            assert_eq!(reading, Reading::Absent);
        }
        // Resumed within a store: the server does resume, and between tenants it would have.
        let (full, resumed) = (HandshakeKind::Full, HandshakeKind::Resumed);
        let of_one = server.handshakes_of("AKIAONE");
        assert_eq!(of_one, [full, resumed, resumed], "{version:?}");
        assert_eq!(
            server.handshakes_of("AKIATWO"),
            [full, resumed],
            "{version:?}"
        );
    }
}
