//! The way to the store: proxies, private certificate authorities, and what they say when they refuse.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test reports by panicking"
)]

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use cofferdam::dev_store::DevStore;
use cofferdam::{Backend, Error, Expectation, Grant, Proxies, Reading, StateStore, WriteOptions};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

const KEY: &str = "app/terraform.tfstate";
const STATE: &[u8] = br#"{"version":4,"serial":1,"lineage":"l"}"#;
/// Names that no name server knows: only a proxy leads there.
const STORE_HOST: &str = "store.cofferdam.invalid";

/// A certificate authority, and a TLS front with a certificate of it before a plain server.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// Serves TLS for these names and hands what comes to `upstream`.
    async fn front(&self, upstream: SocketAddr) -> SocketAddr {
        let acceptor = self.acceptor();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(socket).await.ok()?;
                    let mut server = TcpStream::connect(upstream).await.ok()?;
                    copy_bidirectional(&mut stream, &mut server).await.ok()
                });
            }
        });
        address
    }

    fn acceptor(&self) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let names = ["localhost".to_owned(), STORE_HOST.to_owned()];
        let certificate = CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &self.issuer)
            .unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// What a proxy was asked, one line for each connection: `CONNECT host:port`, `GET http://host/…`, `SOCKS host:port`.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<String>>>);

impl Asked {
    fn note(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// A proxy for HTTP, tunnels included, and for SOCKS5, that leads every host to one address.
struct Proxy {
    address: SocketAddr,
    asked: Asked,
}

/// Base64 of `user:pass:` and [`cofferdam_canaries::PROXY_PASSWORD`].
const BASIC: &str =
    "Proxy-Authorization: Basic dXNlcjpwYXNzOmNvZmZlcmRhbS1jYW5hcnktcHJveHktcGFzc3dvcmQtNGIxZA==";
const USER: &str = "user:pass%3Acofferdam-canary-proxy-password-4b1d@";

impl Proxy {
    async fn new(target: SocketAddr, wants_password: bool) -> Self {
        Self::with(target, wants_password, None).await
    }

    async fn with(target: SocketAddr, wants_password: bool, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Asked::default();
        let noted = asked.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (asked, tls) = (noted.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(socket, target, wants_password, asked).await,
                        Some(tls) => {
                            let stream = tls.accept(socket).await.ok()?;
                            serve(stream, target, wants_password, asked).await
                        }
                    }
                });
            }
        });
        Self { address, asked }
    }

    fn url(&self, scheme: &str, user: &str) -> String {
        format!("{scheme}://{user}localhost:{}", self.address.port())
    }
}

async fn serve<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    mut client: S,
    target: SocketAddr,
    wants_password: bool,
    asked: Asked,
) -> Option<()> {
    let first = client.read_u8().await.ok()?;
    if first == 5 {
        return socks(client, target, wants_password, asked).await;
    }
    let mut head = vec![first];
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let line = text.lines().next()?;
    asked.note(line.trim_end_matches(" HTTP/1.1").to_owned());
    let known = text.lines().any(|line| line.eq_ignore_ascii_case(BASIC));
    if wants_password && !known {
        let refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nProxy-Authenticate: Basic\r\n\r\n";
        client.write_all(refusal).await.ok()?;
        return Some(());
    }
    if line.contains("forbidden.") {
        let refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
        client.write_all(refusal).await.ok()?;
        return Some(());
    }
    let mut server = TcpStream::connect(target).await.ok()?;
    if line.starts_with("CONNECT ") {
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
    } else {
        // One request for each connection: the next one is noted, too.
        let (method, rest) = text.split_once(' ')?;
        let place = rest.split_once("://")?.1;
        let path = &place[place.find('/')?..];
        let head = format!("{method} {path}").replacen("\r\n", "\r\nConnection: close\r\n", 1);
        server.write_all(head.as_bytes()).await.ok()?;
    }
    copy_bidirectional(&mut client, &mut server).await.ok()?;
    Some(())
}

async fn socks<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    mut client: S,
    target: SocketAddr,
    wants_password: bool,
    asked: Asked,
) -> Option<()> {
    let mut methods = vec![0; client.read_u8().await.ok()?.into()];
    client.read_exact(&mut methods).await.ok()?;
    let method = if wants_password { 2 } else { 0 };
    if !methods.contains(&method) {
        client.write_all(&[5, 255]).await.ok()?;
        return Some(());
    }
    client.write_all(&[5, method]).await.ok()?;
    if wants_password {
        let _version = client.read_u8().await.ok()?;
        let mut given = Vec::new();
        for _ in 0..2 {
            let mut part = vec![0; client.read_u8().await.ok()?.into()];
            client.read_exact(&mut part).await.ok()?;
            given.push(String::from_utf8(part).ok()?);
        }
        let good = given == ["user", "pass:cofferdam-canary-proxy-password-4b1d"];
        client.write_all(&[1, u8::from(!good)]).await.ok()?;
        if !good {
            return Some(());
        }
    }
    let mut request = [0; 5];
    client.read_exact(&mut request).await.ok()?;
    assert_eq!(request[..4], [5, 1, 0, 3], "the proxy resolves the name");
    let mut host = vec![0; request[4].into()];
    client.read_exact(&mut host).await.ok()?;
    let port = client.read_u16().await.ok()?;
    asked.note(format!("SOCKS {}:{port}", String::from_utf8(host).ok()?));
    client
        .write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])
        .await
        .ok()?;
    let mut server = TcpStream::connect(target).await.ok()?;
    copy_bidirectional(&mut client, &mut server).await.ok()?;
    Some(())
}

fn block(server: &DevStore, endpoint: &str) -> Value {
    let mut block = server.backend_block(KEY);
    block["endpoints"]["s3"] = json!(endpoint);
    // A refusal should be told, not waited out.
    block["max_retries"] = json!(1);
    block
}

fn local(variables: &[(&str, &str)]) -> Grant {
    let variables = variables.iter();
    Grant::local()
        .environment(variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

/// Writes a state and reads it again.
async fn round_trip(block: Value, grant: Grant) -> Result<(), Error> {
    let backend = Backend::builder().build().await?;
    let store = backend.store(block).grant(grant).open().await?.store;
    let options = WriteOptions {
        expect: Expectation::Anything,
        lock: None,
    };
    store.write("default", STATE.into(), &options).await?;
    match store.read("default", None).await? {
        Reading::State(state) => assert_eq!(&state.bytes[..], STATE),
        other => panic!("{other:?}"),
    }
    Ok(())
}

/// What the person is told; never the password.
async fn refusal(block: Value, grant: Grant) -> String {
    let error = round_trip(block, grant).await.unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("canary"), "{shown}");
    error.to_string()
}

async fn store() -> DevStore {
    DevStore::builder().start().await.unwrap()
}

#[tokio::test]
async fn plain_http_goes_through_a_proxy_whole() {
    let server = store().await;
    let proxy = Proxy::new(server.address(), true).await;
    let endpoint = format!("http://{STORE_HOST}");
    let url = proxy.url("http", USER);
    round_trip(block(&server, &endpoint), local(&[("HTTP_PROXY", &url)]))
        .await
        .unwrap();
    let asked = proxy.asked.lines();
    let expected = format!("PUT {endpoint}/{}/{KEY}", server.bucket());
    assert!(asked.contains(&expected), "{asked:?}");
    // An exception is reached directly, where there is none.
    let grant = local(&[("HTTP_PROXY", &url), ("NO_PROXY", ".invalid")]);
    let told = refusal(block(&server, &endpoint), grant).await;
    assert!(told.contains("no such host"), "{told}");
    assert_eq!(proxy.asked.lines(), asked);
}

#[tokio::test]
async fn loopback_is_never_reached_through_a_proxy() {
    let server = store().await;
    let proxy = Proxy::new(server.address(), false).await;
    let url = proxy.url("http", "");
    for host in ["127.0.0.1", "localhost"] {
        let endpoint = format!("http://{host}:{}", server.address().port());
        round_trip(block(&server, &endpoint), local(&[("HTTP_PROXY", &url)]))
            .await
            .unwrap();
    }
    assert!(proxy.asked.lines().is_empty());
}

#[tokio::test]
async fn https_goes_through_tunnels_of_every_kind_of_proxy() {
    let server = store().await;
    let authority = Authority::new();
    let front = authority.front(server.address()).await;
    let directory = TempDir::new().unwrap();
    let bundle = directory.path().join("ca.pem");
    std::fs::write(&bundle, &authority.pem).unwrap();
    let bundle = bundle.to_str().unwrap();
    let endpoint = format!("https://{STORE_HOST}:8443");
    for (scheme, user, expected) in [
        ("http", "", "CONNECT"),
        ("http", USER, "CONNECT"),
        ("https", USER, "CONNECT"),
        ("socks5", "", "SOCKS"),
        ("socks5h", USER, "SOCKS"),
    ] {
        let tls = (scheme == "https").then(|| authority.acceptor());
        let proxy = Proxy::with(front, !user.is_empty(), tls).await;
        let url = proxy.url(scheme, user);
        let grant = local(&[("HTTPS_PROXY", &url), ("AWS_CA_BUNDLE", bundle)]);
        round_trip(block(&server, &endpoint), grant).await.unwrap();
        let asked = proxy.asked.lines();
        let expected = format!("{expected} {STORE_HOST}:8443");
        assert!(!asked.is_empty(), "{scheme}");
        assert!(
            asked.iter().all(|it| *it == expected),
            "{scheme}: {asked:?}"
        );
    }
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_and_says_why() {
    let server = store().await;
    let strict = Proxy::new(server.address(), true).await;
    let port = strict.address.port();
    for (scheme, endpoint) in [("HTTP_PROXY", "http"), ("HTTPS_PROXY", "https")] {
        let endpoint = format!("{endpoint}://{STORE_HOST}");
        let without = strict.url("http", "");
        let told = refusal(block(&server, &endpoint), local(&[(scheme, &without)])).await;
        let expected =
            format!("the proxy http://localhost:{port} asks for a user and a password (407)");
        assert!(told.contains(&expected), "{told}");
        let wrong = strict.url("http", "user:wrongcanary@");
        let told = refusal(block(&server, &endpoint), local(&[(scheme, &wrong)])).await;
        assert!(
            told.contains("does not accept the user and password"),
            "{told}"
        );
    }

    let endpoint = "https://forbidden.cofferdam.invalid";
    let grant = local(&[("HTTPS_PROXY", &strict.url("http", USER))]);
    let told = refusal(block(&server, endpoint), grant).await;
    let expected = "refuses the way to forbidden.cofferdam.invalid:443: 403 Forbidden";
    assert!(told.contains(expected), "{told}");

    let grant = local(&[("HTTPS_PROXY", &strict.url("socks5", "user:wrongcanary@"))]);
    let told = refusal(block(&server, endpoint), grant).await;
    assert!(told.contains("the proxy socks5://localhost:"), "{told}");
    assert!(told.contains("credentials not accepted"), "{told}");
}

#[tokio::test]
async fn a_proxy_out_of_reach_is_named() {
    let server = store().await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://user:canary@{}", closed.local_addr().unwrap());
    drop(closed);
    let endpoint = format!("https://{STORE_HOST}");
    let told = refusal(block(&server, &endpoint), local(&[("HTTPS_PROXY", &url)])).await;
    assert!(
        told.contains("cannot be reached: Connection refused"),
        "{told}"
    );
    let url = "http://user:canary@proxy.cofferdam.invalid:3128";
    let told = refusal(block(&server, &endpoint), local(&[("https_proxy", url)])).await;
    let expected = "the proxy http://proxy.cofferdam.invalid:3128 cannot be reached: the host name does not resolve";
    assert!(told.contains(expected), "{told}");
}

#[tokio::test]
async fn a_sealed_store_uses_the_operators_proxy_and_authorities() {
    let server = store().await;
    let authority = Authority::new();
    let front = authority.front(server.address()).await;
    let proxy = Proxy::new(front, true).await;
    let endpoint = format!("https://{STORE_HOST}");
    let proxies = Proxies::new(None, Some(&proxy.url("http", USER)), "").unwrap();
    let grant = Grant::sealed()
        .proxies(proxies)
        .certificate_authorities(authority.pem.as_bytes())
        .unwrap();
    let told = refusal(block(&server, &endpoint), grant.clone()).await;
    assert!(told.contains("does not allow the request"), "{told}");
    assert!(
        proxy.asked.lines().is_empty(),
        "nothing is asked of the proxy"
    );
    let rule = format!("{endpoint}/{}/", server.bucket());
    round_trip(
        block(&server, &endpoint),
        grant.allow(rule.parse().unwrap()),
    )
    .await
    .unwrap();
    assert!(!proxy.asked.lines().is_empty());
}

#[tokio::test]
async fn a_private_authority_is_trusted_only_where_it_is_named() {
    let server = store().await;
    let (ours, other) = (Authority::new(), Authority::new());
    let front = ours.front(server.address()).await;
    let directory = TempDir::new().unwrap();
    let file = |name: &str, pem: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let bundle = file("ours.pem", &format!("{}\n{}", other.pem, ours.pem));
    let others = file("other.pem", &other.pem);
    let endpoint = format!("https://localhost:{}", front.port());
    let named = local(&[("AWS_CA_BUNDLE", &bundle)]);
    round_trip(block(&server, &endpoint), named).await.unwrap();
    for variables in [&[][..], &[("AWS_CA_BUNDLE", others.as_str())][..]] {
        let told = refusal(block(&server, &endpoint), local(variables)).await;
        assert!(told.contains("certificate is not trusted"), "{told}");
    }
    // Another name than the certificate's.
    let endpoint = format!("https://127.0.0.1:{}", front.port());
    let named = local(&[("AWS_CA_BUNDLE", &bundle)]);
    let told = refusal(block(&server, &endpoint), named).await;
    assert!(told.contains("certificate is not trusted"), "{told}");
}

/// A bundle stands in for the system's authorities, it does not join them. The system's are those of a variable that
/// only a process of its own can be given.
#[tokio::test]
async fn a_bundle_replaces_the_systems_authorities() {
    let server = store().await;
    let (ours, other) = (Authority::new(), Authority::new());
    let front = ours.front(server.address()).await;
    let directory = TempDir::new().unwrap();
    for (name, authority) in [("ours.pem", &ours), ("other.pem", &other)] {
        std::fs::write(directory.path().join(name), &authority.pem).unwrap();
    }
    let endpoint = format!("https://localhost:{}", front.port());
    let file = json!({"terraform": {"backend": {"s3": block(&server, &endpoint)}}});
    std::fs::write(directory.path().join("backend.tf.json"), file.to_string()).unwrap();
    let run = async |bundle: Option<&str>| -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command
            .args(["workspace", "list"])
            .current_dir(directory.path())
            .env_remove("SSL_CERT_DIR")
            .env("SSL_CERT_FILE", directory.path().join("ours.pem"))
            .env_remove("AWS_CA_BUNDLE");
        if let Some(bundle) = bundle {
            command.env("AWS_CA_BUNDLE", bundle);
        }
        tokio::task::spawn_blocking(move || command.output())
            .await
            .unwrap()
            .unwrap()
    };
    let by_system = run(None).await;
    assert!(by_system.status.success(), "{by_system:?}");
    let by_bundle = run(Some("other.pem")).await;
    assert!(!by_bundle.status.success());
    let told = String::from_utf8_lossy(&by_bundle.stderr).into_owned();
    assert!(told.contains("certificate is not trusted"), "{told}");
}
