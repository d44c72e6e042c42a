//! Limits make callers wait where waiting helps, and say no where it does not.

use std::process::Command;

use cofferdam::{Grant, Limits};
use cofferdam_tests::tools::cofferdam;
use futures_util::future::join_all;
use serde_json::json;

use crate::house::{House, limits};
use crate::server::{Server, status};

/// Ten calls at once, all of which are answered; gives the number of requests that were on their way at once.
async fn crowd(limits: Limits) -> usize {
    let server = Server::start(|_| status(204)).await;
    let rule = format!("GET {}/", server.url()).parse().unwrap();
    let house = House::of(limits, Grant::sealed().allow(rule), json!({})).await;
    let request = format!("get {}/", server.url());
    let calls = (0..10).map(|_| house.seen(&request));
    for seen in join_all(calls).await {
        assert_eq!(seen, "Ok(204)");
    }
    house.close().await;
    server.most_at_once()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_beyond_the_limit_wait_for_their_turn() {
    assert_eq!(crowd(limits().concurrent_calls(1)).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_the_limit_of_connections_wait_for_their_turn() {
    assert_eq!(crowd(limits().connections(1)).await, 1);
    let most = crowd(limits().connections(3)).await;
    assert!((2..=3).contains(&most), "{most}");
}

#[test]
fn an_operator_sets_limits_on_the_command_line_and_cannot_take_one_away() {
    let home = tempfile::tempdir().unwrap();
    let version = |limit: &str| {
        let output = Command::new(cofferdam())
            .env("XDG_CACHE_HOME", home.path())
            .args(["version", "--limit", limit])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), told)
    };
    assert_eq!(version("memory=64MiB").0, Some(0));
    for wrong in ["memory=0", "memory=unlimited", "cores=2", "memory"] {
        let (code, told) = version(wrong);
        assert_eq!(code, Some(64), "{told}");
        assert!(told.contains("sets no limit"), "{told}");
    }
}
