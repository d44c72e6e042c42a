//! What a caller learns when an answer is lost, late or wrong: the host reads back, and hands out nothing that
//! it could not verify.

use std::time::Duration;

use cofferdam::dev_store::{DevStore, Fault, FaultRule};
use cofferdam::{
    Backend, ErrorCode, Expectation, Grant, Limits, LockInfo, StateStore, Store, UnlockBy,
    WriteOptions,
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

// From here on all that the tests log is searched for secrets.
use cofferdam_canaries as _;

const STATE: &[u8] =
    br#"{"version":4,"serial":1,"lineage":"l","canary":"cofferdam+canary/state+5e7a"}"#;

/// A store whose calls end long before the server answers the next request of this kind.
async fn impatient(server: &DevStore, operation: &str, key_ends_with: &str) -> Store {
    server.inject(FaultRule {
        operation: Some(operation.to_owned()),
        key_ends_with: Some(key_ends_with.to_owned()),
        skip: 0,
        times: 1,
        fault: Fault::DelayAnswer { ms: 30_000 },
    });
    let limits = Limits::default().wall_clock(Duration::from_secs(2));
    let backend = Backend::builder().limits(limits).build().await.unwrap();
    let store = backend
        .store(server.backend_block("app"))
        .grant(Grant::local());
    store.open().await.unwrap().store
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_was_stored_without_an_answer_is_found_by_reading_back() {
    let server = DevStore::builder().start().await.unwrap();
    let store = impatient(&server, "PutObject", "app").await;
    let options = WriteOptions {
        expect: Expectation::Absent,
        lock: None,
    };
    let revision = store
        .write("default", STATE.into(), &options)
        .await
        .expect("it was stored");
    assert_eq!(server.object("app").unwrap(), STATE);
    assert_eq!(server.history("app").len(), 1, "and stored once");
    assert_eq!(
        server.history("app")[0].etag.as_deref(),
        Some(revision.tag.as_str())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_was_taken_without_an_answer_is_found_by_reading_back() {
    let server = DevStore::builder().start().await.unwrap();
    let store = impatient(&server, "PutObject", "app.tflock").await;
    let lock = store
        .lock("default", &LockInfo::new("test"))
        .await
        .expect("it was taken");
    assert_eq!(server.history("app.tflock").len(), 1, "taken once");
    store
        .unlock("default", &UnlockBy::Held(lock))
        .await
        .expect("and can be released");
    assert!(server.object("app.tflock").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_was_released_without_an_answer_is_known_to_be_released() {
    let server = DevStore::builder().start().await.unwrap();
    let store = impatient(&server, "DeleteObject", "app.tflock").await;
    let lock = store.lock("default", &LockInfo::new("test")).await.unwrap();
    store
        .unlock("default", &UnlockBy::Held(lock))
        .await
        .expect("it was released");
    assert!(server.object("app.tflock").is_none());
}

/// A server that answers every request with a state and the checksum of another one.
async fn server_of_altered_states() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = socket.read(&mut request).await;
            // SHA-256 of no bytes at all, in base64.
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nETag: \"e\"\r\nConnection: close\r\nx-amz-checksum-type: FULL_OBJECT\r\nx-amz-checksum-sha256: 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\r\n\r\n",
                STATE.len()
            );
            let _ = socket.write_all(head.as_bytes()).await;
            let _ = socket.write_all(STATE).await;
        }
    });
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_does_not_have_its_checksum_is_never_handed_out() {
    let url = server_of_altered_states().await;
    let block = json!({"bucket": "b", "key": "k", "region": "us-east-1", "endpoints": {"s3": url},
        "use_path_style": true, "access_key": "id", "secret_key": "secret", "skip_credentials_validation": true});
    let backend = Backend::builder().build().await.unwrap();
    let store = backend
        .store(block)
        .grant(Grant::local())
        .open()
        .await
        .unwrap()
        .store;
    let error = store
        .read("default", None)
        .await
        .expect_err("the bytes are not the stored ones");
    assert_eq!(error.code(), Some(ErrorCode::DigestMismatch), "{error}");
}
