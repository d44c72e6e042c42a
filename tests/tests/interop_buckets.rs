//! Buckets and states that are not the usual ones: names with dots or in the host, versions, Object Lock, states in parts,
//! empty ones, and the largest.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "this is test code: a panic is how it reports"
)]

use bytes::Bytes;
use cofferdam::{DeleteOptions, Error, ErrorCode, Expectation, Reading, WriteOptions};
use cofferdam_tests::component::Component;
use cofferdam_tests::conformance::{Flavour as _, Opening, Warnings};
use cofferdam_tests::native::Native;
use cofferdam_tests::pair::open;
use cofferdam_tests::proxy::Proxy;
use cofferdam_tests::servers::embedded_store;
use cofferdam_tests::{
    Locking, Ministack, Pair, RawDynamoDb, RawS3, Site, Terraform, digest_of, on_both_servers,
};

const KEY: &str = "app/terraform.tfstate";
const VERSIONING: &str = "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                          <Status>Enabled</Status></VersioningConfiguration>";
const OBJECT_LOCK: &[(&str, &str)] = &[("x-amz-bucket-object-lock-enabled", "true")];

on_both_servers! {
    a_bucket_with_dots_is_addressed_in_the_path,
    deletions_in_a_versioned_bucket_are_deletions,
    a_bucket_with_object_lock_holds_states_and_locks,
    a_state_that_terraform_uploads_in_parts_is_read_and_replaced,
    an_empty_object_is_no_state_to_either,
}

async fn a_bucket_with_dots_is_addressed_in_the_path(site: &Site) {
    let site = bucket(site, "states.of.many.teams", &[]).await;
    let Some(pair) = Pair::new(&site.block_with(KEY, Locking::Both)).await else {
        return;
    };
    pair.each_reads_what_the_other_wrote().await;
}

/// A lock that was released, and a workspace that was deleted, are delete markers there.
async fn deletions_in_a_versioned_bucket_are_deletions(site: &Site) {
    let site = bucket(site, "versioned", &[]).await;
    RawS3::new(&site)
        .configure_bucket("versioning", VERSIONING)
        .await
        .expect_success("keep versions");
    works_with_versions(&site).await;
}

async fn a_bucket_with_object_lock_holds_states_and_locks(site: &Site) {
    let site = bucket(site, "locked", OBJECT_LOCK).await;
    works_with_versions(&site).await;
}

async fn works_with_versions(site: &Site) {
    let Some(pair) = Pair::new(&site.block(KEY)).await else {
        return;
    };
    pair.each_reads_what_the_other_wrote().await;
    let terraform = &pair.terraform;
    terraform.ok(&["workspace", "new", "gone"]).await;
    terraform.apply("in-its-workspace").await;
    terraform.ok(&["workspace", "select", "default"]).await;
    let held = pair.lock("gone", "me").await;
    let (_, revision) = pair.read("gone").await.expect("a state");
    assert!(revision.version.is_some(), "{revision:?}");
    let options = DeleteOptions {
        expect: Expectation::Revision(revision),
        lock: Some(held.clone()),
    };
    let deleted = pair.ours.delete("gone", &options).await;
    deleted.expect("the workspace is deleted");
    pair.unlock("gone", held).await;
    assert_eq!(pair.ours.workspaces().await.expect("a list"), ["default"]);

    terraform.ok(&["workspace", "new", "gone"]).await;
    assert!(pair.read("gone").await.is_some());
    terraform.ok(&["workspace", "select", "default"]).await;
    terraform
        .ok(&["workspace", "delete", "-force", "gone"])
        .await;
    assert_eq!(pair.read("gone").await, None);
    let (bytes, _) = pair.read("default").await.expect("a state");
    let options = WriteOptions {
        expect: Expectation::Absent,
        lock: None,
    };
    let revision = pair.ours.write("gone", bytes, &options).await;
    let revision = revision.expect("what was deleted is absent");
    assert!(revision.version.is_some(), "{revision:?}");
    terraform.ok(&["workspace", "select", "gone"]).await;
    let output = terraform.ok(&["output", "-raw", "value"]).await;
    assert_eq!(output, "by-Terraform-again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_with_object_lock_that_misses_a_checksum_is_told_the_argument() {
    let server = embedded_store().await;
    let site = bucket(&Site::of(&server), "locked", OBJECT_LOCK).await;
    let mut block = site.block(KEY);
    block["skip_s3_checksum"] = true.into();
    let ours = open(&block, &[], Warnings::default()).await;
    let options = WriteOptions {
        expect: Expectation::Absent,
        lock: None,
    };
    let written = ours.write("default", Bytes::from("{}"), &options).await;
    let error = written.expect_err("Object Lock wants a checksum");
    let text = error.to_string();
    assert!(text.contains("skip_s3_checksum = false"), "{text}");
    assert_eq!(server.keys(), Vec::<String>::new());
}

/// Both speak to a name that stands for the server: Terraform through a proxy, we without looking it up. The component
/// has its names looked up by the machine, so that this is its logic alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_in_the_hosts_name_is_one_to_both() {
    let Some(ministack) = Ministack::start().await else {
        return;
    };
    let Some(terraform) = Terraform::installed() else {
        return;
    };
    // Its usual bucket has the name of a service of AWS.
    let site = bucket(ministack.site(), "in-the-host", &[]).await;
    let server = site.url.trim_start_matches("http://");
    let mut block = site.block(KEY);
    block["use_path_style"] = false.into();
    block["endpoints"]["s3"] = "http://s3.us-east-1.amazonaws.com".into();
    let opening = Opening::new(block.clone());
    let ours = Native::leading_to(server).open(opening).await;
    let proxy = Proxy::start(server).await;
    block["http_proxy"] = proxy.url().into();
    let pair = Pair {
        terraform: terraform.with_backend("s3", &block),
        ours: ours.expect("the store opens"),
        warnings: Warnings::default(),
    };
    pair.terraform.ok(&["init", "-no-color"]).await;
    pair.each_reads_what_the_other_wrote().await;
    assert_eq!(pair.ours.workspaces().await.expect("a list"), ["default"]);
    // By its path it is the same bucket.
    assert!(RawS3::new(&site).object(KEY).await.is_some());
}

async fn a_state_that_terraform_uploads_in_parts_is_read_and_replaced(site: &Site) {
    let block = site.block_with(KEY, Locking::Both);
    let Some(pair) = Pair::new(&block).await else {
        return;
    };
    pair.terraform.write("main.tf", LARGE);
    pair.each_reads_what_the_other_wrote().await;
    let (bytes, revision) = pair.read("default").await.expect("a state");
    assert!(bytes.len() > 5 << 20, "{} bytes", bytes.len());
    assert!(
        revision.tag.contains('-'),
        "it came in one part: {revision:?}"
    );
    let table = RawDynamoDb::new(site);
    let digest = table.digest(&site.lock_id(KEY, "default")).await;
    assert_eq!(digest, Some(digest_of(&bytes)));
}

async fn an_empty_object_is_no_state_to_either(site: &Site) {
    let block = site.block_with(KEY, Locking::Both);
    let Some(pair) = Pair::new(&block).await else {
        return;
    };
    let raw = RawS3::new(site);
    raw.put(KEY, "").await.expect_success("store nothing");
    assert_eq!(pair.read("default").await, None);
    let pulled = pair.terraform.ok(&["state", "pull"]).await;
    assert!(pulled.contains("\"lineage\": \"\""), "{pulled}");
    pair.each_reads_what_the_other_wrote().await;

    raw.put(KEY, "").await.expect_success("store nothing");
    let digest_of_nothing = digest_of(b"");
    let table = RawDynamoDb::new(site);
    table
        .put_digest(&site.lock_id(KEY, "default"), &digest_of_nothing)
        .await
        .expect_success("record the digest of nothing");
    let options = WriteOptions {
        expect: Expectation::Absent,
        lock: None,
    };
    let first = Bytes::from(
        r#"{"version":4,"terraform_version":"1.11.4","serial":1,"lineage":"a","outputs":{},"resources":[],"check_results":null}"#,
    );
    let written = pair.ours.write("default", first.clone(), &options).await;
    written.expect("there is no state");
    assert_eq!(raw.object(KEY).await, Some(first.clone()));
    let digest = table.digest(&site.lock_id(KEY, "default")).await;
    assert_eq!(digest, Some(digest_of(&first)));
    let pulled = pair.terraform.ok(&["state", "pull"]).await;
    assert!(pulled.contains("\"lineage\": \"a\""), "{pulled}");
}

#[tokio::test(flavor = "multi_thread")]
async fn states_of_all_sizes_are_kept_with_their_digest_and_larger_ones_are_refused() {
    const LIMIT: usize = 100_000_000;
    let server = embedded_store().await;
    let site = Site::of(&server);
    let opening = Opening::new(site.block_with(KEY, Locking::Both));
    let ours = Component::load().await.open(opening).await;
    let ours = ours.expect("the store opens");
    let digest = || {
        let item = server.item(&format!("{}-md5", site.lock_id(KEY, "default")));
        item.and_then(|item| item["Digest"]["S"].as_str().map(str::to_owned))
    };
    let mut expect = Expectation::Absent;
    for size in [1, 1000, (5 << 20) + 1, LIMIT] {
        let bytes: Bytes = (0..=250).cycle().take(size).collect::<Vec<u8>>().into();
        let options = WriteOptions { expect, lock: None };
        let written = ours.write("default", bytes.clone(), &options).await;
        let written = written.unwrap_or_else(|error| panic!("{size} bytes: {error}"));
        assert!(server.object(KEY).as_ref() == Some(&bytes), "{size} bytes");
        assert_eq!(digest(), Some(digest_of(&bytes)));
        let Ok(Reading::State(state)) = ours.read("default", None).await else {
            panic!("{size} bytes are not read");
        };
        assert!(state.bytes == bytes, "{size} bytes");
        assert_eq!(state.revision, written);
        expect = Expectation::Revision(written);
    }

    let digest_before = digest();
    server.clear_requests();
    let options = WriteOptions { expect, lock: None };
    let too_large = Bytes::from(vec![0; LIMIT + 1]);
    let refused = ours.write("default", too_large, &options).await;
    let Err(Error::Store(error)) = refused else {
        panic!("a state over the limit is stored: {refused:?}");
    };
    assert_eq!(error.code, ErrorCode::TooLarge);
    let figures = (error.fact("size"), error.fact("limit"));
    assert_eq!(figures, (Some("100000001"), Some("100000000")));
    assert!(
        server.requests().is_empty(),
        "something was asked of the store"
    );
    assert_eq!(server.object(KEY).map(|bytes| bytes.len()), Some(LIMIT));
    assert_eq!(digest(), digest_before);
}

/// Another bucket of the same server.
async fn bucket(site: &Site, name: &str, headers: &[(&str, &str)]) -> Site {
    let site = Site {
        bucket: name.to_owned(),
        ..site.clone()
    };
    RawS3::new(&site)
        .create_bucket_with(headers)
        .await
        .expect_success("make the bucket");
    site
}

/// A state of 6 MB: it holds the text twice.
const LARGE: &str = r#"
variable "value" {
  default = "first"
}

resource "terraform_data" "one" {
  input = join("", [for i in range(1000) : join("", [for j in range(300) : "0123456789"])])
}

output "value" {
  value = var.value
}
"#;
