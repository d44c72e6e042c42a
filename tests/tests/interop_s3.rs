//! Terraform's own `backend "s3"` and cofferdam on one bucket: each must take the other for its own kind.
//!
//! On the embedded store, and on ministack with its signature checks on, so that no misunderstanding of S3
//! is shared by both sides.

#![allow(
    clippy::expect_used,
    reason = "this is test code: a panic is how it reports"
)]

use std::sync::Arc;

use bytes::Bytes;
use cofferdam::dev_store::DevStore;
use cofferdam::{ErrorCode, Expectation, Reading, Revision, StateStore, UnlockBy, WriteOptions};
use cofferdam_tests::component::Component;
use cofferdam_tests::conformance::{Flavour as _, Opening, info};
use cofferdam_tests::terraform::finish;
use cofferdam_tests::{Ministack, RawS3, Site, Terraform};

const KEY: &str = "interop/terraform.tfstate";

/// One test on each of the two servers.
macro_rules! on_both_servers {
    ($($case:ident),+ $(,)?) => {
        mod embedded_store {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    let server = DevStore::builder().start().await.expect("the embedded store starts");
                    let Some(bench) = Bench::new(Site::of(&server)).await else { return };
                    super::$case(bench).await;
                }
            )+
        }

        mod ministack {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    let Some(ministack) = Ministack::start().await else { return };
                    let Some(bench) = Bench::new(ministack.site().clone()).await else { return };
                    super::$case(bench).await;
                }
            )+
        }
    };
}

on_both_servers! {
    each_reads_what_the_other_wrote_byte_for_byte,
    each_sees_the_workspaces_of_the_other,
    terraform_is_kept_out_by_our_lock_and_can_release_it,
    we_are_kept_out_by_terraforms_lock_and_can_release_it,
    terraform_goes_on_where_we_were_fenced_off,
}

/// Both programs, on one bucket.
struct Bench {
    terraform: Terraform,
    ours: Arc<dyn StateStore>,
    raw: RawS3,
    site: Site,
}

async fn each_reads_what_the_other_wrote_byte_for_byte(bench: Bench) {
    bench.terraform.apply("by Terraform").await;
    let stored = bench.raw.object(KEY).await.expect("Terraform's state");
    let (bytes, revision) = bench.read("default").await.expect("a state");
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
        .ours
        .write("default", mine.clone(), &options)
        .await
        .expect("the state is stored");
    assert_eq!(bench.raw.object(KEY).await, Some(mine.clone()));
    let pulled = bench.terraform.ok(&["state", "pull"]).await;
    let pulled = pulled
        .strip_suffix('\n')
        .expect("Terraform ends the line once more");
    assert_eq!(Bytes::copy_from_slice(pulled.as_bytes()), mine);
    let output = bench.terraform.ok(&["output", "-raw", "value"]).await;
    assert_eq!(output, "by cofferdam");

    bench.terraform.apply("by Terraform again").await;
    let (bytes, _) = bench.read("default").await.expect("a state");
    assert!(String::from_utf8_lossy(&bytes).contains("by Terraform again"));
}

async fn each_sees_the_workspaces_of_the_other(bench: Bench) {
    bench
        .terraform
        .ok(&["workspace", "new", "from-terraform"])
        .await;
    bench.terraform.apply("in its workspace").await;
    assert_eq!(
        bench.ours.workspaces().await.expect("a list"),
        ["default", "from-terraform"]
    );
    let (bytes, _) = bench.read("from-terraform").await.expect("a state");
    assert_eq!(
        Some(bytes.clone()),
        bench.raw.object(&bench.key("from-terraform")).await
    );

    let options = WriteOptions {
        expect: Expectation::Absent,
        lock: None,
    };
    let mine = replaced(&bytes, &[("in its workspace", "in our workspace")]);
    bench
        .ours
        .write("from-cofferdam", mine, &options)
        .await
        .expect("the state is stored");
    let listed = bench.terraform.ok(&["workspace", "list"]).await;
    let listed: Vec<&str> = listed
        .lines()
        .map(|line| line.trim_matches(['*', ' ']))
        .collect();
    assert!(
        listed.starts_with(&["default", "from-cofferdam", "from-terraform"]),
        "{listed:?}"
    );
    bench
        .terraform
        .ok(&["workspace", "select", "from-cofferdam"])
        .await;
    let output = bench.terraform.ok(&["output", "-raw", "value"]).await;
    assert_eq!(output, "in our workspace");

    bench
        .terraform
        .ok(&["workspace", "delete", "-force", "from-terraform"])
        .await;
    assert_eq!(
        bench.ours.workspaces().await.expect("a list"),
        ["default", "from-cofferdam"]
    );
}

async fn terraform_is_kept_out_by_our_lock_and_can_release_it(bench: Bench) {
    bench.terraform.apply("before").await;
    let before = bench.raw.object(KEY).await;
    // An id in the form that Terraform makes; its force-unlock takes any.
    let id = uuid::Uuid::new_v4().to_string();
    let held = bench
        .ours
        .lock("default", &info(&id))
        .await
        .expect("the lock is free");

    let refused = bench
        .terraform
        .refused(&["apply", "-auto-approve", "-no-color", "-var=value=x"])
        .await;
    assert!(
        refused.contains("Error acquiring the state lock"),
        "{refused}"
    );
    assert!(
        refused.contains(&id),
        "the holder's id is not shown: {refused}"
    );
    assert!(
        refused.contains("tester@bench"),
        "the holder is not shown: {refused}"
    );
    assert_eq!(bench.raw.object(KEY).await, before);

    let wrong = bench
        .terraform
        .refused(&["force-unlock", "-force", "another-id"])
        .await;
    assert!(wrong.contains("does not match"), "{wrong}");
    assert!(
        bench.raw.object(&bench.lock_key()).await.is_some(),
        "a wrong id released the lock"
    );
    bench.terraform.ok(&["force-unlock", "-force", &id]).await;
    assert_eq!(bench.raw.object(&bench.lock_key()).await, None);

    let lost = bench
        .ours
        .unlock("default", &UnlockBy::Held(held))
        .await
        .expect_err("it is gone");
    assert_eq!(lost.code(), Some(ErrorCode::LockMismatch));
    bench.terraform.apply("after").await;
}

async fn we_are_kept_out_by_terraforms_lock_and_can_release_it(bench: Bench) {
    bench.terraform.write("main.tf", HELD);
    let apply = bench
        .terraform
        .start(&["apply", "-auto-approve", "-no-color"]);
    bench.wait_for_file("started").await;

    let record = bench
        .raw
        .object(&bench.lock_key())
        .await
        .expect("Terraform holds the lock");
    let error = bench
        .ours
        .lock("default", &info("me"))
        .await
        .expect_err("Terraform holds the lock");
    assert_eq!(error.code(), Some(ErrorCode::Locked), "{error:?}");
    let holders = &error.store().expect("an error of the backend").holders;
    let holder = holders[0].info.clone().expect("a readable record");
    assert_eq!(holder.operation, "OperationTypeApply");
    assert_eq!(holder.version, "1.11.4");
    assert_eq!(holder.path, format!("{}/{KEY}", bench.site.bucket));
    assert!(String::from_utf8_lossy(&record).contains(&holder.id));

    let by_id = UnlockBy::Id(holder.id);
    bench
        .ours
        .unlock("default", &by_id)
        .await
        .expect("the lock is released by its id");
    assert_eq!(bench.raw.object(&bench.lock_key()).await, None);
    let mine = bench
        .ours
        .lock("default", &info("me"))
        .await
        .expect("the lock is free now");

    bench.terraform.write("go", "");
    let run = finish(apply).await;
    assert!(
        run.text().contains("Error releasing the state lock"),
        "{}",
        run.text()
    );
    assert!(
        bench.raw.object(&bench.lock_key()).await.is_some(),
        "Terraform released our lock"
    );
    bench
        .ours
        .unlock("default", &UnlockBy::Held(mine))
        .await
        .expect("the lock is ours");
}

async fn terraform_goes_on_where_we_were_fenced_off(bench: Bench) {
    bench.terraform.apply("one").await;
    let (bytes, stale) = bench.read("default").await.expect("a state");
    bench.terraform.apply("two").await;
    let stored = bench.raw.object(KEY).await;
    let options = WriteOptions {
        expect: Expectation::Revision(stale),
        lock: None,
    };
    let mine = replaced(&bytes, &[("one", "lost")]);
    let error = bench
        .ours
        .write("default", mine, &options)
        .await
        .expect_err("it is stale");
    assert_eq!(error.code(), Some(ErrorCode::StateChanged), "{error:?}");
    assert_eq!(bench.raw.object(KEY).await, stored);
    bench.terraform.apply("three").await;
}

impl Bench {
    async fn new(site: Site) -> Option<Self> {
        let terraform = Terraform::installed()?.with_backend("s3", &site.block(KEY));
        let opening = Opening::new(site.block(KEY));
        let ours = Component::load()
            .await
            .open(opening)
            .await
            .expect("the store opens");
        terraform.ok(&["init", "-no-color"]).await;
        Some(Self {
            terraform,
            ours,
            raw: RawS3::new(&site),
            site,
        })
    }

    async fn read(&self, workspace: &str) -> Option<(Bytes, Revision)> {
        match self
            .ours
            .read(workspace, None)
            .await
            .expect("the state is read")
        {
            Reading::State(state) => Some((state.bytes, state.revision)),
            _ => None,
        }
    }

    fn key(&self, workspace: &str) -> String {
        self.site.state_key(KEY, workspace)
    }

    fn lock_key(&self) -> String {
        format!("{KEY}.tflock")
    }

    /// Until a command that was started has made this file.
    async fn wait_for_file(&self, name: &str) {
        let path = self.terraform.directory().join(name);
        while !path.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

/// An apply that holds its lock until the file `go` is there.
const HELD: &str = r#"
resource "terraform_data" "held" {
  provisioner "local-exec" {
    command = "touch started; until [ -e go ]; do sleep 0.05; done"
  }
}
"#;

fn replaced(bytes: &[u8], changes: &[(&str, &str)]) -> Bytes {
    let mut text = String::from_utf8(bytes.to_vec()).expect("a state is UTF-8");
    for (from, to) in changes {
        assert!(text.contains(from), "no {from} in the state");
        text = text.replace(from, to);
    }
    text.into()
}
