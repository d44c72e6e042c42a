//! What surrounds the protocol: who comes in, how bodies arrive, connections, logs.

use std::{
    io::{self, Write},
    sync::{Arc, LazyLock, Mutex},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Request, header::AUTHORIZATION};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tracing_subscriber::fmt::format::FmtSpan;

use super::{Bench, fake::FakeStore, lock_body};
use crate::gateway::{Gateway, GatewayError, Token};

impl Bench {
    /// Sends bytes and reads until the gateway closes the connection.
    async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.gateway.address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

#[tokio::test]
async fn the_token_is_asked_for_before_the_body_is_read() {
    let bench = Bench::with(FakeStore::default(), |gateway| {
        gateway.token(Some(Token::generate()))
    })
    .await;
    // The body never comes: an answer at all shows that nobody waited for it.
    let answer = bench
        .raw("POST /state/w HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(
        answer
            .to_ascii_lowercase()
            .contains("\r\nwww-authenticate: basic "),
        "{answer}"
    );
    let answer = bench
        .raw("POST /state/w HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n")
        .await;
    assert!(
        answer.starts_with("HTTP/1.1 401 "),
        "nobody was asked to send: {answer}"
    );
    assert!(bench.store.take_log().is_empty());
}

#[tokio::test]
async fn the_token_opens_every_operation() {
    let token = Token::generate();
    let secret = token.expose().to_owned();
    let bench = Bench::with(FakeStore::default(), |gateway| gateway.token(Some(token))).await;
    let basic = format!(
        "Basic {}",
        BASE64_STANDARD.encode(format!("terraform:{secret}"))
    );
    for authorization in [basic, format!("Bearer {secret}")] {
        let request = Request::get(bench.gateway.url("w")).header(AUTHORIZATION, authorization);
        assert_eq!(bench.send(request, "").await.status, 404);
    }
    for method in ["GET", "POST", "LOCK", "UNLOCK", "DELETE"] {
        let request = Request::builder()
            .method(method)
            .uri(bench.gateway.url("w"));
        assert_eq!(bench.send(request, "").await.status, 401, "{method}");
    }
}

#[tokio::test]
async fn a_foreign_host_name_is_turned_away_before_anything_else() {
    let bench = Bench::new().await;
    let ask =
        |host: &str| format!("GET /state/w HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    assert!(
        bench
            .raw(&ask("evil.example:8089"))
            .await
            .starts_with("HTTP/1.1 421 ")
    );
    assert!(bench.store.take_log().is_empty());
    assert!(
        bench
            .raw(&ask("localhost"))
            .await
            .starts_with("HTTP/1.1 404 ")
    );

    let bench = Bench::with(FakeStore::default(), |gateway| {
        gateway.allow_host("State.Example")
    })
    .await;
    assert!(
        bench
            .raw(&ask("state.example"))
            .await
            .starts_with("HTTP/1.1 404 ")
    );
}

#[tokio::test]
async fn a_damaged_body_is_not_stored() {
    let bench = Bench::new().await;
    for digest in ["1B2M2Y8AsgTpgAmY7PhCfg==", "not base64", "AAAA"] {
        let request = Request::post(bench.gateway.url("w")).header("content-md5", digest);
        assert_eq!(bench.send(request, "state").await.status, 400, "{digest}");
    }
    assert!(bench.store.take_log().is_empty());
    assert_eq!(
        bench
            .send(Request::post(bench.gateway.url("w")), "state")
            .await
            .status,
        200,
        "no digest"
    );
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_stored() {
    let bench = Bench::new().await;
    let mut stream = TcpStream::connect(bench.gateway.address()).await.unwrap();
    let request = "POST /state/w HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf";
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).await;
    bench.gateway.shutdown().await;
    assert!(bench.store.take_log().is_empty());
}

#[tokio::test]
async fn bodies_are_limited_whether_or_not_they_say_how_long_they_are() {
    let bench = Bench::with(FakeStore::default(), |gateway| gateway.max_state(1000)).await;
    assert_eq!(bench.post("w", vec![b'x'; 1000]).await, 200);
    let reply = bench.ask("POST", "big", vec![b'x'; 1001]).await;
    assert_eq!(reply.status, 413);
    assert!(reply.text.contains("1000 bytes"), "{}", reply.text);

    let piece = "x".repeat(600);
    let chunk = format!("258\r\n{piece}\r\n");
    let answer = bench
        .raw(&format!(
            "POST /state/big HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{chunk}{chunk}0\r\n\r\n"
        ))
        .await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(bench.stored("big"), None);

    assert_eq!(
        bench
            .ask("LOCK", "w", vec![b' '; (1 << 20) + 1])
            .await
            .status,
        413,
        "lock records too"
    );
}

#[tokio::test]
async fn a_body_that_is_too_large_is_not_asked_for() {
    let bench = Bench::with(FakeStore::default(), |gateway| gateway.max_state(10)).await;
    let answer = bench
        .raw("POST /state/w HTTP/1.1\r\nHost: localhost\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn chunked_bodies_and_expectations_are_taken() {
    let bench = Bench::new().await;
    let answer = bench
        .raw("POST /state/w HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\none\r\n0\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(bench.stored("w").as_deref(), Some("one"));

    let mut stream = TcpStream::connect(bench.gateway.address()).await.unwrap();
    let head = "POST /state/w HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"two").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(bench.stored("w").as_deref(), Some("two"));
}

#[tokio::test]
async fn terraforms_force_unlock_comes_as_an_empty_chunked_body() {
    let bench = Bench::with(FakeStore::default(), |gateway| {
        gateway.allow_force_unlock(true)
    })
    .await;
    bench.lock("w", "a").await;
    let answer = bench
        .raw("UNLOCK /state/w HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Md5: 1B2M2Y8AsgTpgAmY7PhCfg==\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n0\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(bench.store.lock_id("w"), None);
}

#[tokio::test]
async fn a_write_goes_on_when_its_client_hangs_up() {
    let bench = Bench::new().await;
    let slow = bench.store.pause("write");
    let mut stream = TcpStream::connect(bench.gateway.address()).await.unwrap();
    let request = "POST /state/w HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\none";
    stream.write_all(request.as_bytes()).await.unwrap();
    slow.reached.await.unwrap();
    drop(stream);
    // Served on a connection of its own, so that the gateway has had the chance to see the other one end.
    assert_eq!(bench.get("other").await.status, 404);
    slow.go_on.send(()).unwrap();
    let store = bench.store.clone();
    bench.gateway.shutdown().await;
    assert_eq!(store.stored("w").as_deref(), Some(&b"one"[..]));
}

#[tokio::test]
async fn changes_of_one_workspace_wait_for_each_other_and_nothing_else_does() {
    let bench = Bench::new().await;
    let slow = bench.store.pause("write");
    let (first, second, ()) = tokio::join!(bench.post("w", "one"), bench.post("w", "two"), async {
        slow.reached.await.unwrap();
        assert_eq!(bench.get("w").await.status, 404, "reads go on");
        assert_eq!(
            bench.post("other", "x").await,
            200,
            "other workspaces go on"
        );
        slow.go_on.send(()).unwrap();
    });
    assert_eq!((first, second), (200, 200));
    let log = bench.store.take_log();
    let changes: Vec<_> = log
        .iter()
        .filter(|call| *call == "write w" || *call == "holders w")
        .collect();
    assert_eq!(changes, ["holders w", "write w", "holders w", "write w"]);
}

#[tokio::test]
async fn a_shutdown_waits_for_the_request_that_is_running() {
    let bench = Bench::new().await;
    let slow = bench.store.pause("write");
    let address = bench.gateway.address();
    let Bench {
        store,
        gateway,
        client,
    } = bench;
    let request = Request::post(gateway.url("w"))
        .body(Bytes::from("one").into())
        .unwrap();
    let asked = tokio::spawn(client.request(request));
    slow.reached.await.unwrap();
    let shutdown = tokio::spawn(gateway.shutdown());
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!shutdown.is_finished());
    slow.go_on.send(()).unwrap();
    shutdown.await.unwrap();
    assert_eq!(asked.await.unwrap().unwrap().status(), 200);
    assert_eq!(store.stored("w").as_deref(), Some(&b"one"[..]));
}

#[tokio::test]
async fn a_gateway_that_is_dropped_takes_no_more_connections() {
    let bench = Bench::new().await;
    let address = bench.gateway.address();
    drop(bench.gateway);
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn states_do_not_cross_a_network_in_the_clear() {
    let gateway =
        Gateway::builder(Arc::new(FakeStore::default())).listen("0.0.0.0:0".parse().unwrap());
    let error = gateway.start().await.unwrap_err();
    assert!(matches!(error, GatewayError::PlainText { .. }), "{error}");
    assert!(error.to_string().contains("without TLS"), "{error}");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let bench = Bench::new().await;
    let address = bench.gateway.address();
    let error = Gateway::builder(bench.store.clone())
        .listen(address)
        .start()
        .await
        .unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn the_gateway_serves_https_with_the_operators_certificate() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (
        directory.path().join("cert.pem"),
        directory.path().join("key.pem"),
    );
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();

    let bench = Bench::with(FakeStore::default(), |gateway| {
        gateway
            .tls(&certificate, &key)
            .allow_host("localhost")
            .listen("0.0.0.0:0".parse().unwrap())
    })
    .await;
    let port = bench.gateway.address().port();
    assert_eq!(
        bench.gateway.url("w"),
        format!("https://localhost:{port}/state/w")
    );

    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap();
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::get("/state/w")
        .header("host", "localhost")
        .body(Empty::<Bytes>::new());
    let response = client.send_request(request.unwrap()).await.unwrap();
    assert_eq!(response.status(), 404);
    response.into_body().collect().await.unwrap();
}

#[tokio::test]
async fn a_certificate_or_key_that_cannot_be_used_is_named_without_its_content() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("some.pem");
    let start = || {
        Gateway::builder(Arc::new(FakeStore::default()))
            .tls(&file, &file)
            .start()
    };
    for content in [
        "",
        "secret",
        "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n",
    ] {
        std::fs::write(&file, content).unwrap();
        let error = start().await.unwrap_err();
        assert!(matches!(error, GatewayError::Certificate { .. }), "{error}");
        assert!(error.to_string().contains("some.pem"), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    std::fs::remove_file(&file).unwrap();
    assert!(start().await.unwrap_err().to_string().contains("some.pem"));
}

#[tokio::test]
async fn addresses_are_percent_encoded() {
    let bench = Bench::new().await;
    let address = bench.gateway.address();
    assert_eq!(
        bench.gateway.url("a b/ä"),
        format!("http://{address}/state/a%20b%2F%C3%A4")
    );
    let request = Request::post(bench.gateway.url("ä b"));
    assert_eq!(bench.send(request, "x").await.status, 200);
    assert_eq!(bench.stored("ä b").as_deref(), Some("x"));
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_names_what_was_done_but_holds_no_state_and_no_token() {
    // While there is but one subscriber, tracing asks the thread that comes to a place in the code first whether anybody
    // wants to hear of it, and that may be a thread of another test.
    static OTHER: LazyLock<tracing::Dispatch> =
        LazyLock::new(|| tracing::Dispatch::new(tracing_subscriber::registry()));
    LazyLock::force(&OTHER);
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::CLOSE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let token = Token::generate();
    let secret = token.expose().to_owned();
    let bench = Bench::with(FakeStore::default(), |gateway| gateway.token(Some(token))).await;
    let url = bench.gateway.url("w");
    let bearer =
        |request: http::request::Builder| request.header(AUTHORIZATION, format!("Bearer {secret}"));
    let lock = Request::builder().method("LOCK").uri(&url);
    assert_eq!(
        bench.send(bearer(lock), lock_body("the-id")).await.status,
        200
    );
    let write = Request::post(format!("{url}?ID=the-id&access_token=canary-query"));
    assert_eq!(bench.send(bearer(write), "canary-state").await.status, 200);
    assert_eq!(
        bench.send(bearer(Request::get(&url)), "").await.text,
        "canary-state"
    );
    let wrong = Request::get(&url).header(AUTHORIZATION, "Bearer canary-token");
    assert_eq!(bench.send(wrong, "").await.status, 401);

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for expected in [
        "LOCK",
        "POST",
        "workspace=\"w\"",
        "lock=\"the-id\"",
        "who=\"somebody@somewhere\" status=200 milliseconds=",
        "status=200",
        "status=401",
    ] {
        assert!(log.contains(expected), "{expected} is missing in {log}");
    }
    for canary in [secret.as_str(), "canary"] {
        assert!(!log.contains(canary), "{canary} was logged: {log}");
    }
}
