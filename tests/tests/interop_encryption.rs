//! Encryption and the other headers of uploads: Terraform and cofferdam must ask the store for the same, and each must be
//! able to read what the other stored.
//!
//! On the embedded store, which shows what was asked of it, and on ministack.

#![allow(
    clippy::expect_used,
    reason = "this is test code: a panic is how it reports"
)]

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use cofferdam::{ErrorCode, Expectation, WriteOptions};
use cofferdam_tests::conformance::{Warnings, info};
use cofferdam_tests::pair::open;
use cofferdam_tests::servers::embedded_store;
use cofferdam_tests::{Locking, Pair, RawS3, Site, on_both_servers};
use md5::{Digest as _, Md5};
use serde_json::{Value, json};

const KEY: &str = "encrypted/terraform.tfstate";
const LOCK: &str = "encrypted/terraform.tfstate.tflock";
const KMS_KEY: &str = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-96ef-1234567890ab";
const VARIABLE: &str = "AWS_SSE_CUSTOMER_KEY";

on_both_servers! {
    each_reads_what_the_other_encrypted_with_keys_of_s3,
    each_reads_what_the_other_encrypted_with_a_customers_key,
    each_takes_a_customers_key_from_the_environment,
    a_lock_under_a_customers_key_keeps_the_other_out,
    another_customers_key_opens_nothing,
}

async fn each_reads_what_the_other_encrypted_with_keys_of_s3(site: &Site) {
    let block = block(site, &json!({ "encrypt": true }));
    let Some(pair) = Pair::new(&block).await else {
        return;
    };
    pair.each_reads_what_the_other_wrote().await;
}

async fn each_reads_what_the_other_encrypted_with_a_customers_key(site: &Site) {
    let key = customer_key(1);
    let block = block(site, &json!({ "encrypt": true, "sse_customer_key": key }));
    let Some(pair) = Pair::new(&block).await else {
        return;
    };
    pair.each_reads_what_the_other_wrote().await;
    assert_needs_key(site, &key).await;
}

async fn each_takes_a_customers_key_from_the_environment(site: &Site) {
    let key = customer_key(2);
    let block = block(site, &json!({ "encrypt": true }));
    let Some(pair) = Pair::in_environment(&block, &[(VARIABLE, &key)]).await else {
        return;
    };
    pair.each_reads_what_the_other_wrote().await;
    assert_needs_key(site, &key).await;
}

async fn a_lock_under_a_customers_key_keeps_the_other_out(site: &Site) {
    let key = customer_key(3);
    let block = block(site, &json!({ "encrypt": true, "sse_customer_key": key }));
    let Some(pair) = Pair::new(&block).await else {
        return;
    };
    let held = pair.lock("default", "me").await;
    let headers = customer_key_headers(&key);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let raw = RawS3::new(site);
    assert!(!raw.get(LOCK).await.status.is_success());
    let record = raw.get_with(LOCK, &headers).await;
    let record = record.expect_success("read the record with the key");
    assert!(String::from_utf8_lossy(&record).contains("\"ID\":\"me\""));

    let refused = pair
        .terraform
        .refused(&["apply", "-auto-approve", "-no-color"])
        .await;
    assert!(
        refused.contains("Error acquiring the state lock"),
        "{refused}"
    );
    // Terraform asks who holds it without the key; we do not.
    let error = pair.ours.lock("default", &info("other")).await;
    let error = error.expect_err("it is held");
    assert_eq!(error.code(), Some(ErrorCode::Locked));
    let holder = &error.store().expect("an error of the backend").holders[0];
    let holder = holder.info.as_ref().expect("a readable record");
    assert_eq!(holder.who, "tester@bench");
    assert_tells_no_key(&format!("{error} {error:?}"), &key);
    pair.unlock("default", held).await;
}

async fn another_customers_key_opens_nothing(site: &Site) {
    let (key, other) = (customer_key(4), customer_key(5));
    let with = |key: &str| block(site, &json!({ "encrypt": true, "sse_customer_key": key }));
    let Some(pair) = Pair::new(&with(&key)).await else {
        return;
    };
    pair.terraform.apply("sealed").await;
    for block in [with(&other), block(site, &json!({ "encrypt": true }))] {
        let ours = open(&block, &[], Warnings::default()).await;
        let error = ours.read("default", None).await.expect_err("a wrong key");
        let text = format!("{error} {error:?}");
        assert!(text.contains("sse_customer_key"), "{text}");
        assert_tells_no_key(&text, &key);
        assert_tells_no_key(&text, &other);
    }
    let (bytes, _) = pair.read("default").await.expect("a state");
    assert!(String::from_utf8_lossy(&bytes).contains("sealed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn both_send_the_same_headers_with_states_and_locks() {
    for (name, arguments) in [
        ("nothing", json!({})),
        ("encrypt", json!({ "encrypt": true })),
        ("KMS", json!({ "encrypt": true, "kms_key_id": KMS_KEY })),
        (
            "SSE-C",
            json!({ "encrypt": true, "sse_customer_key": customer_key(6) }),
        ),
        ("acl", json!({ "acl": "bucket-owner-full-control" })),
        (
            "ungated",
            json!({ "kms_key_id": KMS_KEY, "acl": "private" }),
        ),
    ] {
        let server = embedded_store().await;
        let site = Site::of(&server);
        let Some(pair) = Pair::new(&block(&site, &arguments)).await else {
            return;
        };
        server.clear_requests();
        pair.each_reads_what_the_other_wrote().await;
        let requests = server.requests();
        for (operation, key) in [("PutObject", KEY), ("PutObject", LOCK), ("GetObject", KEY)] {
            let sent = |by_terraform: bool| {
                let mut sent: Vec<BTreeMap<String, String>> = requests
                    .iter()
                    .filter(|it| it.operation == operation && it.key == key)
                    .filter(|it| is_terraforms(it.user_agent.as_deref()) == by_terraform)
                    .map(|it| of_uploads(&it.headers))
                    .collect();
                sent.dedup();
                sent
            };
            assert_eq!(sent(false).len(), 1, "{name}: {operation} {key}");
            assert_eq!(sent(false), sent(true), "{name}: {operation} {key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_checksums_we_send_none_and_terraform_reads_it() {
    let server = embedded_store().await;
    let site = Site::of(&server);
    let block = block(&site, &json!({ "skip_s3_checksum": true }));
    let Some(pair) = Pair::new(&block).await else {
        return;
    };
    server.clear_requests();
    pair.each_reads_what_the_other_wrote().await;
    let ours = server.requests();
    let ours = ours
        .iter()
        .filter(|it| !is_terraforms(it.user_agent.as_deref()));
    let mut seen = 0;
    for request in ours {
        seen += 1;
        for name in request.headers.keys() {
            let is_about_checksums =
                name.contains("checksum") || name == "content-md5" || name == "content-encoding";
            assert!(!is_about_checksums, "{} {name}", request.operation);
        }
    }
    assert!(seen >= 4, "a lock, a read, a write and an unlock");
}

/// Terraform has no such argument; OpenTofu has both.
#[tokio::test(flavor = "multi_thread")]
async fn states_and_locks_bear_their_own_tags() {
    let server = embedded_store().await;
    let site = Site::of(&server);
    let mut block = block(&site, &json!({}));
    block["state_tags"] = json!({ "team": "a & b=c", "Owner": "über/x" });
    block["lock_tags"] = json!({ "kind": "lock" });
    let ours = open(&block, &[], Warnings::default()).await;
    let held = ours.lock("default", &info("me")).await;
    let held = held.expect("the lock is free");
    let options = WriteOptions {
        expect: Expectation::Absent,
        lock: Some(held),
    };
    ours.write("default", Bytes::from("{}"), &options)
        .await
        .expect("the state is stored");
    let tagging = |key: &str| {
        let requests = server.requests();
        let put = requests
            .iter()
            .find(|it| it.operation == "PutObject" && it.key == key)
            .expect("an upload");
        put.headers.get("x-amz-tagging").cloned()
    };
    assert_eq!(
        tagging(KEY).as_deref(),
        Some("Owner=%C3%BCber%2Fx&team=a+%26+b%3Dc")
    );
    assert_eq!(tagging(LOCK).as_deref(), Some("kind=lock"));
}

/// A block with these arguments besides.
fn block(site: &Site, arguments: &Value) -> Value {
    let mut block = site.block_with(KEY, Locking::LockFile);
    for (name, value) in arguments.as_object().expect("an object") {
        block[name] = value.clone();
    }
    block
}

/// 32 bytes in base64, others for each number.
fn customer_key(number: u8) -> String {
    let key = STANDARD.encode([number; 32]);
    cofferdam_canaries::watch("a customer key", &key);
    key
}

fn customer_key_headers(key: &str) -> [(&'static str, String); 3] {
    let bytes = STANDARD.decode(key).expect("base64");
    let md5 = STANDARD.encode(Md5::digest(bytes));
    [
        (
            "x-amz-server-side-encryption-customer-algorithm",
            "AES256".to_owned(),
        ),
        ("x-amz-server-side-encryption-customer-key", key.to_owned()),
        ("x-amz-server-side-encryption-customer-key-md5", md5),
    ]
}

/// Neither the state nor what is left of a lock can be read without the key.
async fn assert_needs_key(site: &Site, key: &str) {
    let raw = RawS3::new(site);
    let refused = raw.get(KEY).await;
    assert!(refused.status.is_client_error(), "{:?}", refused.status);
    let headers = customer_key_headers(key);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    raw.get_with(KEY, &headers)
        .await
        .expect_success("read the state with its key");
}

fn assert_tells_no_key(text: &str, key: &str) {
    let [_, (_, key), (_, md5)] = customer_key_headers(key);
    assert!(
        !text.contains(&key) && !text.contains(&md5),
        "a key is told"
    );
}

fn is_terraforms(user_agent: Option<&str>) -> bool {
    user_agent.is_some_and(|agent| agent.contains("HashiCorp"))
}

/// What remains of the headers without those that differ in each request, and without the one that says again which
/// checksum there is: some stores refuse it.
fn of_uploads(headers: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut headers = headers.clone();
    for name in [
        "content-length",
        "if-match",
        "x-amz-content-sha256",
        "x-amz-date",
        "x-amz-sdk-checksum-algorithm",
    ] {
        headers.remove(name);
    }
    if let Some(checksum) = headers.get_mut("x-amz-checksum-sha256") {
        "(some)".clone_into(checksum);
    }
    headers
}
