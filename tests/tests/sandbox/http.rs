//! Components that break the rules of HTTP, and servers that do.

use std::fmt::Write as _;

use cofferdam::{Error, Grant, Limit, Outcome};
use serde_json::json;

use crate::house::{House, limits};
use crate::server::{Answer, Server, status, with_headers};

/// A house whose hostile store may talk to this server.
async fn reaching(server: &Server) -> House {
    let rule = format!("{}/", server.url()).parse().unwrap();
    let limits = limits().request(1 << 20).response(1 << 20);
    House::of(limits, Grant::sealed().allow(rule), json!({})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_rule_the_connection_cannot_be_set() {
    let server = Server::victim().await;
    let house = reaching(&server).await;
    for header in [
        "host: other.example",
        "connection: upgrade",
        "keep-alive: 1",
        "proxy-authorization: Basic eDp5",
        "transfer-encoding: chunked",
        "upgrade: h2c",
        "http2-settings: x",
    ] {
        let request = format!("send GET {}/\n{header}", server.url());
        house.sees(&request, "HeaderError::Forbidden").await;
    }
    let request = format!("send GET {}/\nx y: 1", server.url());
    house.sees(&request, "HeaderError::InvalidSyntax").await;
    assert_eq!(server.connections(), 0);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_that_is_doubtful_never_reaches_the_wire() {
    let server = Server::victim().await;
    let house = reaching(&server).await;
    for headers in [
        "content-length: 1\ncontent-length: 2",
        "content-length: 1x",
        "content-length: -1",
        "content-length: 5",
    ] {
        let request = format!("send PUT {}/\n{headers}", server.url());
        house.sees(&request, "Err(").await;
    }
    assert_eq!(server.connections(), 0);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_a_request_line_leads_elsewhere() {
    let (server, victim) = (Server::victim().await, Server::victim().await);
    let house = reaching(&server).await;
    for request in [
        format!("GET {}/absolute:{}/", server.url(), victim.url()),
        format!("GET {}/ HTTP/1.1", server.url()),
        format!("G\tT {}/", server.url()),
        format!("CONNECT {}/", server.url()),
        format!("GET {}\\@{}/", server.url(), victim.address),
    ] {
        house.sees(&format!("send {request}"), "Err(").await;
    }
    assert_eq!((server.connections(), victim.connections()), (0, 0));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_headers_do_not_fit_into_a_request() {
    let house = House::sealed().await;
    house.sees("headers 100", "Ok(100)").await;
    house
        .hits("headers 100000", Limit::Headers(128 << 10))
        .await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_headers_of_a_server_are_not_taken() {
    let server = Server::start(|_| {
        let mut lines = String::new();
        for number in 0..100_000 {
            let _ = write!(lines, "x-{number}: 1\r\n");
        }
        with_headers(200, &lines)
    })
    .await;
    let house = reaching(&server).await;
    let request = format!("get {}/", server.url());
    house.sees(&request, "HttpProtocolError").await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_a_server_that_are_too_large_are_not_taken() {
    let server = Server::start(|_| {
        let long = "1".repeat(200_000);
        with_headers(200, &format!("x-long: {long}\r\n"))
    })
    .await;
    let house = reaching(&server).await;
    let request = format!("get {}/", server.url());
    house.sees(&request, "HttpResponseHeaderSectionSize").await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_end_is_cut_off() {
    let server = Server::start(|_| Answer::Endless).await;
    let house = reaching(&server).await;
    let request = format!("body {}/", server.url());
    // The runtime does not tell the component which limit its stream ran into.
    house.sees(&request, "Err(Stream)").await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_without_end_is_cut_off() {
    let server = Server::start(|_| Answer::Sink).await;
    let house = reaching(&server).await;
    let request = format!("upload {}/ endless", server.url());
    house.sees(&request, "HttpRequestBodySize").await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_has_the_length_that_it_says() {
    let server = Server::victim().await;
    let house = reaching(&server).await;
    for lengths in ["1000 1001", "1000 999", "1000 0", "0 1"] {
        let request = format!("upload {}/ {lengths}", server.url());
        house.sees(&request, "Err(").await;
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_in_the_middle_of_an_upload_leaves_the_tenant_able_to_call_again() {
    let server = Server::start(|head| match head.starts_with("PUT") {
        true => Answer::Sink,
        false => status(204),
    })
    .await;
    let house = reaching(&server).await;
    house
        .fails(&format!("upload {}/ 1048576 trap", server.url()), |error| {
            matches!(
                error,
                Error::Trap {
                    outcome: Outcome::Unknown,
                    ..
                }
            )
        })
        .await;
    let request = format!("get {}/", server.url());
    house.sees(&request, "Ok(204)").await;
    house.close().await;
}
