//! Stores that never come to an end: the embedded component is no enemy, and what it talks to may be one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cofferdam::{Backend, Error, ErrorCode, Grant, Limits, StateStore as _, Store};
use serde_json::json;

use crate::house::{House, limits};
use crate::server::{Answer, Server};

/// A sealed store of the embedded component on this server.
async fn store(server: &Server, limits: Limits) -> Store {
    let backend = Backend::builder().build().await.unwrap();
    let block = json!({
        "bucket": "b", "key": "k", "region": "eu-west-1", "endpoints": { "s3": server.url() },
        "use_path_style": true, "access_key": "AKIA", "secret_key": "no-secret",
        "skip_credentials_validation": true, "skip_requesting_account_id": true,
    });
    let rule = format!("GET {}/b", server.url()).parse().unwrap();
    let store = backend.store(block).grant(Grant::sealed().allow(rule));
    store.limits(limits).open().await.unwrap().store
}

fn short() -> Limits {
    limits().wall_clock(Duration::from_secs(1))
}

fn is_out_of_time(error: &Error) -> bool {
    matches!(error, Error::Limit { .. }) || error.code() == Some(ErrorCode::TimedOut)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_without_end_ends_with_the_calls_time() {
    let house = House::sealed().await;
    let pages = AtomicUsize::new(0);
    let server = Server::start(move |_| {
        let page = pages.fetch_add(1, Ordering::SeqCst);
        let body = format!(
            "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>{page}</NextContinuationToken>\
             <Contents><Key>env:/{page}/k</Key></Contents></ListBucketResult>"
        );
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
        Answer::Bytes([head, body].concat().into_bytes())
    })
    .await;
    let listed = store(&server, short()).await.workspaces().await;
    let error = listed.expect_err("there is no end");
    assert!(is_out_of_time(&error), "{error:?}");
    assert!(server.connections() > 2, "{error:?}");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_never_answers_ends_with_the_calls_time() {
    let house = House::sealed().await;
    let server = Server::start(|_| Answer::Sink).await;
    let read = store(&server, short()).await.read("default", None).await;
    let error = read.map(|_| ()).expect_err("nothing came");
    assert!(is_out_of_time(&error), "{error:?}");
    assert!(server.connections() > 0);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_without_end_is_too_large() {
    let house = House::sealed().await;
    let server = Server::start(|_| Answer::Endless).await;
    let store = store(&server, limits().state(1 << 20)).await;
    let read = store.read("default", None).await;
    let error = read.map(|_| ()).expect_err("there is no end");
    assert_eq!(error.code(), Some(ErrorCode::TooLarge), "{error:?}");
    house.close().await;
}
