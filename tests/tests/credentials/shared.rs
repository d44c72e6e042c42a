//! Credentials over the time of a store: fetched once for all of its calls, and again when they end.

use std::time::Duration;

use bytes::Bytes;
use cofferdam::dev_store::DevStore;
use cofferdam::{
    Error, ErrorCode, Expectation, LockInfo, Reading, StateStore as _, Store, UnlockBy,
    WriteOptions,
};
use cofferdam_tests::credential_services::{CredentialServices, Operation, Reply};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{Machine, ROLE, block, block_with_sts, embedded, is_state, key_of, with};

fn person() -> Machine {
    Machine::new()
        .with("AWS_ACCESS_KEY_ID", "AKIASTORE")
        .with("AWS_SECRET_ACCESS_KEY", "canary-of-the-store")
}

fn as_role(block: Value) -> Value {
    with(block, json!({ "assume_role": { "role_arn": ROLE } }))
}

/// Sixteen calls at once.
async fn read_16(store: &Store) -> Vec<Result<Reading, Error>> {
    join_all((0..16).map(|_| store.read("default", None))).await
}

fn count(server: &DevStore, operation: &str) -> usize {
    let requests = server.requests();
    requests
        .iter()
        .filter(|it| it.operation == operation)
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_calls_at_once_assume_the_role_once_and_check_it_once() {
    let server = embedded().await;
    let services = CredentialServices::start().await;
    services.hand_out(key_of(&server));
    // Long enough that all of them would have asked before the first answer.
    services.set_latency(Duration::from_millis(300));
    let store = person()
        .open(&as_role(block_with_sts(&server, &services)))
        .await
        .unwrap();
    for reading in read_16(&store).await {
        assert!(is_state(&reading.unwrap()));
    }
    assert_eq!(
        services.operations(),
        [Operation::AssumeRole, Operation::GetCallerIdentity]
    );
    assert_eq!(count(&server, "GetObject"), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_run_assumes_its_role_once_however_many_instances_it_takes() {
    let server = embedded().await;
    let store = person().open(&as_role(block(&server))).await.unwrap();
    // An instance serves a hundred calls.
    for _ in 0..250 {
        store.read("default", None).await.unwrap();
    }
    assert_eq!(count(&server, "AssumeRole"), 1);
    assert_eq!(count(&server, "GetCallerIdentity"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_end_in_the_middle_are_renewed_once_for_all_calls() {
    let server = embedded().await;
    let store = person().open(&as_role(block(&server))).await.unwrap();
    for reading in read_16(&store).await {
        assert!(is_state(&reading.unwrap()));
    }
    server.end_sessions();
    for reading in read_16(&store).await {
        assert!(is_state(&reading.unwrap()));
    }
    assert_eq!(count(&server, "AssumeRole"), 2);
    assert_eq!(count(&server, "GetCallerIdentity"), 1);
    let expired = server
        .requests()
        .iter()
        .filter(|it| it.status == 400)
        .count();
    assert!((1..=16).contains(&expired), "{expired}");
}

#[tokio::test]
async fn a_run_that_holds_a_lock_outlives_its_credentials_at_every_step() {
    let server = embedded().await;
    let mut block = as_role(block(&server));
    block["use_lockfile"] = true.into();
    block["dynamodb_table"] = server.table().into();
    block["endpoints"]["dynamodb"] = server.url().into();
    let store = person().open(&block).await.unwrap();
    let lock = store
        .lock("default", &LockInfo::new("apply"))
        .await
        .unwrap();
    server.end_sessions();
    let Reading::State(state) = store.read("default", None).await.unwrap() else {
        panic!("the state is there");
    };
    server.end_sessions();
    let options = WriteOptions {
        expect: Expectation::Revision(state.revision),
        lock: Some(lock.clone()),
    };
    let new = Bytes::from_static(br#"{"version":4,"serial":2,"lineage":"l"}"#);
    store.write("default", new.clone(), &options).await.unwrap();
    server.end_sessions();
    store
        .unlock("default", &UnlockBy::Held(lock))
        .await
        .unwrap();
    assert_eq!(server.object(super::KEY), Some(new));
    assert_eq!(store.holders("default").await.unwrap().len(), 0);
    assert_eq!(count(&server, "AssumeRole"), 4);
    assert_eq!(count(&server, "GetCallerIdentity"), 1);
}

#[tokio::test]
async fn credentials_are_renewed_before_a_request_that_they_would_not_outlast() {
    let server = embedded().await;
    let services = CredentialServices::start().await;
    let store = person()
        .open(&as_role(block_with_sts(&server, &services)))
        .await
        .unwrap();
    // The first ends at once, the second lasts.
    let keys = key_of(&server);
    services.answer_once(Operation::AssumeRole, Reply::Keys(keys.clone().lasting(0)));
    services.hand_out(keys);
    for _ in 0..4 {
        store.read("default", None).await.unwrap();
    }
    assert_eq!(services.requests_of(Operation::AssumeRole).len(), 2);
    assert!(
        server
            .requests()
            .iter()
            .all(|request| request.status == 200)
    );
}

#[tokio::test]
async fn a_renewal_that_fails_is_told_and_tried_again_by_the_next_call() {
    let server = embedded().await;
    let services = CredentialServices::start().await;
    services.hand_out(key_of(&server).lasting(0));
    let store = person()
        .open(&as_role(block_with_sts(&server, &services)))
        .await
        .unwrap();
    store.read("default", None).await.unwrap();
    services.answer_once(Operation::AssumeRole, Reply::error(403, "AccessDenied"));
    let error = store.read("default", None).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::AccessDenied));
    let text = error.to_string();
    assert!(
        text.contains(ROLE) && text.contains("sts:AssumeRole"),
        "{text}"
    );
    store.read("default", None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_nobody_can_renew_end_in_an_error_that_says_so() {
    let server = embedded().await;
    let expired = "<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>";
    let services = CredentialServices::start().await;
    services.answer(
        Operation::S3,
        Reply::Raw {
            status: 400,
            content_type: "application/xml".to_owned(),
            body: expired.to_owned(),
        },
    );
    let mut block = block_with_sts(&server, &services);
    block["endpoints"]["s3"] = services.url().into();
    let text = person().refusal(&block).await;
    assert!(text.contains("ExpiredToken"), "{text}");
    assert_eq!(
        services.requests_of(Operation::S3).len(),
        1,
        "nothing would change"
    );
}
