//! Bytes on a connection that nobody thought of; see the crate `cofferdam-fuzz`. No socket is needed.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use cofferdam_fuzz::{Target, outcome};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tracing::subscriber::NoSubscriber;

use super::super::access::Access;
use super::super::protocol::Protocol;
use super::super::server::{Server, converse};
use super::super::token::Token;
use super::*;

const WORDS: &[&str] = &[
    "GET ",
    "HEAD ",
    "POST ",
    "PUT ",
    "DELETE ",
    "LOCK ",
    "UNLOCK ",
    "PATCH ",
    "/state/default",
    "/state/dev/lock",
    "/state/%2e%2e",
    "/state/a%2Fb",
    "?ID=x",
    "&ID=y",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    "\r\n",
    "\r\n\r\n",
    "Host: localhost\r\n",
    "Host: evil.example\r\n",
    "Origin: https://evil.example\r\n",
    "Content-Length: 3\r\n",
    "Content-Length: 99999999999\r\n",
    "Transfer-Encoding: chunked\r\n",
    "3\r\nabc\r\n0\r\n\r\n",
    "Expect: 100-continue\r\n",
    "Connection: close\r\n",
    "Authorization: Basic eDp5\r\n",
    "Authorization: Bearer x\r\n",
    "Upgrade: h2c\r\n",
    "Content-MD5: kAFQmDzST7DWlj99KOF/cg==\r\n",
    "http://localhost/state/default",
    "{\"ID\":\"x\"}",
    "{\"version\":4,\"serial\":1}",
];

/// The statuses that the gateway answers with, and those of the library that speaks HTTP.
const STATUSES: &[u16] = &[
    100, 200, 400, 401, 403, 404, 405, 409, 411, 413, 414, 421, 422, 423, 431, 500, 501, 503,
];

#[test]
fn whatever_comes_on_a_connection_is_answered_and_reaches_the_store_only_with_the_token() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    // At the level `trace` the log would be gigabytes.
    let _silence = tracing::subscriber::set_default(NoSubscriber::default());
    Target::new("gateway", WORDS).run(|input| {
        let (_, reached) = talk(&runtime, input, Some(Token::generate()));
        assert!(reached.is_empty(), "without the token: {reached:?}");

        let (statuses, reached) = talk(&runtime, input, None);
        for call in &reached {
            let (_, workspace) = call.split_once(' ').unwrap();
            let is_name = !matches!(workspace, "" | "." | "..")
                && !workspace.contains(|it: char| it == '/' || it.is_control());
            assert!(is_name, "{call:?}");
        }
        let calls = reached.iter().filter_map(|call| call.split(' ').next());
        outcome((statuses, calls.collect::<Vec<_>>()))
    });
}

/// The statuses of the answers, and the calls that the store got.
fn talk(runtime: &Runtime, input: &[u8], token: Option<Token>) -> (Vec<u16>, Vec<String>) {
    let store = Arc::new(FakeStore::default());
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let server = Server {
        access: Access::new(token, address, BTreeSet::new()),
        protocol: Protocol::new(store.clone(), true, false, None),
        max_state: 1 << 20,
    };
    let (stop, stopped) = watch::channel(());
    let (busy, _idle) = mpsc::channel(1);
    let answers = runtime.block_on(async {
        let (mut client, stream) = tokio::io::duplex(1 << 20);
        let serving = tokio::spawn(converse(stream, Arc::new(server), stopped, busy));
        client.write_all(input).await.unwrap();
        client.shutdown().await.unwrap();
        let mut answers = Vec::new();
        client.read_to_end(&mut answers).await.unwrap();
        serving.await.unwrap();
        answers
    });
    drop(stop);
    // A state comes back byte for byte, whatever its bytes are.
    let answers = String::from_utf8_lossy(&answers);
    assert!(
        !answers.contains("ended unexpectedly"),
        "a panic: {answers}"
    );
    let heads = answers.split("HTTP/1.").skip(1);
    let statuses: Vec<u16> = heads.map(|head| head[2..5].parse().unwrap()).collect();
    assert!(statuses.iter().all(|it| STATUSES.contains(it)), "{answers}");
    (statuses, store.take_log())
}
