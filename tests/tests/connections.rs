//! A connection costs a handshake, and with TLS several: whatever is done in a row is done on one.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "this is test code: a panic is how it reports"
)]

use cofferdam::dev_store::DevStore;
use cofferdam::{Expectation, Reading, UnlockBy, WriteOptions};
use cofferdam_tests::Site;
use cofferdam_tests::component::Component;
use cofferdam_tests::conformance::{Flavour as _, Opening, info};

#[tokio::test(flavor = "multi_thread")]
async fn operations_in_a_row_use_one_connection() {
    let server = DevStore::builder()
        .start()
        .await
        .expect("the embedded store starts");
    let component = Component::load().await;
    let opening = Opening::new(Site::of(&server).block("app/terraform.tfstate"));
    let store = component.open(opening).await.expect("the store opens");

    let mut expect = Expectation::Absent;
    for number in 0..20 {
        let id = format!("apply-{number}");
        let held = store
            .lock("default", &info(&id))
            .await
            .expect("the lock is free");
        store
            .lock("default", &info("another"))
            .await
            .expect_err("the lock is held");
        let options = WriteOptions {
            expect,
            lock: Some(held.clone()),
        };
        let text = format!("{{\"serial\": {number}}}");
        let revision = store
            .write("default", text.into(), &options)
            .await
            .expect("the state is stored");
        let known = store
            .read("default", Some(&revision))
            .await
            .expect("the state is read");
        assert_eq!(known, Reading::Unchanged);
        store
            .read("other", None)
            .await
            .expect("there is no such state");
        store.workspaces().await.expect("the workspaces are listed");
        store
            .unlock("default", &UnlockBy::Held(held))
            .await
            .expect("the lock is released");
        expect = Expectation::Revision(revision);
    }

    assert_eq!(server.requests().len(), 20 * 8);
    assert_eq!(server.connections(), 1);
}

/// What a runtime keeps for each request and never gives back shows only after thousands of them.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_reads_in_a_row_succeed_on_one_connection() {
    let server = DevStore::builder()
        .recording(false)
        .start()
        .await
        .expect("the embedded store starts");
    server
        .put_object("app/terraform.tfstate", "{}")
        .expect("the object is stored");
    let component = Component::load().await;
    let opening = Opening::new(Site::of(&server).block("app/terraform.tfstate"));
    let store = component.open(opening).await.expect("the store opens");
    for number in 0..12_000 {
        let reading = store.read("default", None).await;
        let reading = reading.unwrap_or_else(|error| panic!("read {number}: {error}"));
        assert!(matches!(reading, Reading::State(_)));
    }
    assert_eq!(server.connections(), 1);
}
