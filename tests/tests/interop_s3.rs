//! Terraform's own `backend "s3"` and cofferdam on one bucket: each must take the other for its own kind.
//!
//! On the embedded store, and on ministack with its signature checks on, so that no misunderstanding of S3
//! is shared by both sides. Locks are the subject of `interop_dynamodb`.

#![allow(
    clippy::expect_used,
    reason = "this is test code: a panic is how it reports"
)]

use bytes::Bytes;
use cofferdam::{ErrorCode, Expectation, WriteOptions};
use cofferdam_tests::{Pair, RawS3, Site, on_both_servers};

const KEY: &str = "interop/terraform.tfstate";

on_both_servers! {
    each_reads_what_the_other_wrote_byte_for_byte,
    each_sees_the_workspaces_of_the_other,
    terraform_goes_on_where_we_were_fenced_off,
}

/// Both programs, on one bucket.
struct Bench {
    pair: Pair,
    raw: RawS3,
    site: Site,
}

async fn each_reads_what_the_other_wrote_byte_for_byte(site: &Site) {
    let Some(bench) = Bench::new(site).await else {
        return;
    };
    bench.pair.terraform.apply("by Terraform").await;
    let stored = bench.raw.object(KEY).await.expect("Terraform's state");
    let (bytes, revision) = bench.pair.read("default").await.expect("a state");
    assert_eq!(bytes, stored);

    let mine = replaced(
        &bytes,
        &[
            ("by Terraform", "by cofferdam"),
            ("\"serial\": 1", "\"serial\": 2"),
        ],
    );
    let options = WriteOptions {
        expect: Expectation::Revision(revision),
        lock: None,
    };
    bench
        .pair
        .ours
        .write("default", mine.clone(), &options)
        .await
        .expect("the state is stored");
    assert_eq!(bench.raw.object(KEY).await, Some(mine.clone()));
    let pulled = bench.pair.terraform.ok(&["state", "pull"]).await;
    let pulled = pulled
        .strip_suffix('\n')
        .expect("Terraform ends the line once more");
    assert_eq!(Bytes::copy_from_slice(pulled.as_bytes()), mine);
    let output = bench.pair.terraform.ok(&["output", "-raw", "value"]).await;
    assert_eq!(output, "by cofferdam");

    bench.pair.terraform.apply("by Terraform again").await;
    let (bytes, _) = bench.pair.read("default").await.expect("a state");
    assert!(String::from_utf8_lossy(&bytes).contains("by Terraform again"));
}

async fn each_sees_the_workspaces_of_the_other(site: &Site) {
    let Some(bench) = Bench::new(site).await else {
        return;
    };
    bench
        .pair
        .terraform
        .ok(&["workspace", "new", "from-terraform"])
        .await;
    bench.pair.terraform.apply("in its workspace").await;
    assert_eq!(
        bench.pair.ours.workspaces().await.expect("a list"),
        ["default", "from-terraform"]
    );
    let (bytes, _) = bench.pair.read("from-terraform").await.expect("a state");
    assert_eq!(
        Some(bytes.clone()),
        bench
            .raw
            .object(&bench.site.state_key(KEY, "from-terraform"))
            .await
    );

    let options = WriteOptions {
        expect: Expectation::Absent,
        lock: None,
    };
    let mine = replaced(&bytes, &[("in its workspace", "in our workspace")]);
    bench
        .pair
        .ours
        .write("from-cofferdam", mine, &options)
        .await
        .expect("the state is stored");
    let listed = bench.pair.terraform.ok(&["workspace", "list"]).await;
    let listed: Vec<&str> = listed
        .lines()
        .map(|line| line.trim_matches(['*', ' ']))
        .collect();
    assert!(
        listed.starts_with(&["default", "from-cofferdam", "from-terraform"]),
        "{listed:?}"
    );
    bench
        .pair
        .terraform
        .ok(&["workspace", "select", "from-cofferdam"])
        .await;
    let output = bench.pair.terraform.ok(&["output", "-raw", "value"]).await;
    assert_eq!(output, "in our workspace");

    bench
        .pair
        .terraform
        .ok(&["workspace", "delete", "-force", "from-terraform"])
        .await;
    assert_eq!(
        bench.pair.ours.workspaces().await.expect("a list"),
        ["default", "from-cofferdam"]
    );
}

async fn terraform_goes_on_where_we_were_fenced_off(site: &Site) {
    let Some(bench) = Bench::new(site).await else {
        return;
    };
    bench.pair.terraform.apply("one").await;
    let (bytes, stale) = bench.pair.read("default").await.expect("a state");
    bench.pair.terraform.apply("two").await;
    let stored = bench.raw.object(KEY).await;
    let options = WriteOptions {
        expect: Expectation::Revision(stale),
        lock: None,
    };
    let mine = replaced(&bytes, &[("one", "lost")]);
    let error = bench
        .pair
        .ours
        .write("default", mine, &options)
        .await
        .expect_err("it is stale");
    assert_eq!(error.code(), Some(ErrorCode::StateChanged), "{error:?}");
    assert_eq!(bench.raw.object(KEY).await, stored);
    bench.pair.terraform.apply("three").await;
}

impl Bench {
    async fn new(site: &Site) -> Option<Self> {
        Some(Self {
            pair: Pair::new(&site.block(KEY)).await?,
            raw: RawS3::new(site),
            site: site.clone(),
        })
    }
}

fn replaced(bytes: &[u8], changes: &[(&str, &str)]) -> Bytes {
    let mut text = String::from_utf8(bytes.to_vec()).expect("a state is UTF-8");
    for (from, to) in changes {
        assert!(text.contains(from), "no {from} in the state");
        text = text.replace(from, to);
    }
    text.into()
}
