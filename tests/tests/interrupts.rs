//! What the `cofferdam` command leaves behind when it waits, is interrupted or forces: judged by the embedded
//! store's objects and log.
//!
//! They need the command: `cargo build --release` makes it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "this is test code: a panic is how it reports"
)]

use std::path::Path;
use std::process::Output;

use cofferdam::LockInfo;
use cofferdam::dev_store::{DevStore, Fault, FaultRule};
use cofferdam_tests::tools;
use serde_json::json;
use tempfile::TempDir;
use tokio::process::{Child, Command};

const KEY: &str = "cli/terraform.tfstate";
const LOCK: &str = "cli/terraform.tfstate.tflock";

const OK: i32 = 0;
const ERROR: i32 = 1;
const INTERRUPTED: i32 = 130;

/// A directory whose configuration names a store of this process.
struct Bench {
    server: DevStore,
    directory: TempDir,
}

impl Bench {
    async fn new() -> Self {
        let server = DevStore::builder()
            .start()
            .await
            .expect("the embedded store starts");
        let directory = tempfile::tempdir().expect("a directory");
        let bench = Self { server, directory };
        let block = bench.server.backend_block(KEY);
        bench.write(
            "main.tf.json",
            &json!({ "terraform": { "backend": { "s3": block } } }).to_string(),
        );
        bench
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).expect("a file");
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn start(&self, arguments: &[&str]) -> Child {
        tools::cofferdam_in(self.path())
            .args(arguments)
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .spawn()
            .expect("the command starts")
    }

    async fn run(&self, line: &str) -> Run {
        let words: Vec<&str> = line.split_whitespace().collect();
        Run::of(self.start(&words)).await
    }

    fn stored(&self, key: &str) -> Option<Vec<u8>> {
        self.server.object(key).map(|bytes| bytes.to_vec())
    }

    /// Somebody else's lock.
    fn lock(&self) -> LockInfo {
        let info = LockInfo {
            who: "other@elsewhere".to_owned(),
            ..LockInfo::new("OperationTypeApply")
        };
        let record = serde_json::to_vec(&json!(info)).expect("JSON");
        self.server.put_object(LOCK, record).expect("stored");
        info
    }

    /// Until the store holds, or no longer holds, this object; looked at again after each request.
    async fn until(&self, what: impl Fn(&DevStore) -> bool) {
        while !what(&self.server) {
            tokio::task::yield_now().await;
        }
    }
}

struct Run {
    code: i32,
    stdout: Vec<u8>,
    stderr: String,
}

impl Run {
    async fn of(child: Child) -> Self {
        let Output {
            status,
            stdout,
            stderr,
        } = child.wait_with_output().await.expect("it ends");
        Self {
            code: status.code().unwrap_or(-1),
            stdout,
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }

    /// Its standard error, after it ended with this code and no data.
    #[track_caller]
    fn refused(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}", self.stderr);
        assert!(self.stdout.is_empty(), "data from a command that failed");
        self.stderr
    }
}

fn state(serial: u64, lineage: &str) -> String {
    json!({ "version": 4, "terraform_version": "1.11.4", "serial": serial, "lineage": lineage,
        "outputs": {}, "resources": [{ "mode": "managed", "type": "terraform_data", "name": "one",
        "provider": "provider[\"terraform.io/builtin/terraform\"]", "instances": [{}] }],
        "check_results": null })
    .to_string()
}

async fn interrupt(child: &Child) {
    let id = child.id().expect("it runs").to_string();
    let sent = Command::new("kill").args(["-s", "INT", &id]).status().await;
    assert!(sent.expect("kill runs").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forced_push_still_does_not_overwrite_what_it_has_not_read() {
    let bench = Bench::new().await;
    bench.server.put_object(KEY, state(1, "a")).expect("stored");
    bench.write("new", &state(2, "a"));
    bench.server.inject(FaultRule {
        operation: Some("PutObject".to_owned()),
        key_ends_with: Some(KEY.to_owned()),
        skip: 0,
        times: 1,
        fault: Fault::ReplaceObject {
            key: KEY.to_owned(),
            body: state(3, "a").into(),
        },
    });
    bench.run("state push -force new").await.refused(ERROR);
    assert_eq!(bench.stored(KEY).as_deref(), Some(state(3, "a").as_bytes()));
    assert_eq!(bench.stored(LOCK), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_waits_for_the_lock_as_long_as_it_may() {
    let bench = Bench::new().await;
    bench.write("new", &state(1, "a"));
    bench.lock();
    let waiting = bench.start(&["state", "push", "-lock-timeout=5m", "new"]);
    bench
        .until(|server| {
            server
                .requests()
                .iter()
                .any(|request| request.status == 412)
        })
        .await;
    bench.server.delete_object(LOCK).expect("deleted");
    Run::of(waiting).await.refused(OK);
    assert_eq!(bench.stored(KEY).as_deref(), Some(state(1, "a").as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_wait_leaves_the_other_lock_alone() {
    let bench = Bench::new().await;
    bench.write("new", &state(1, "a"));
    bench.lock();
    let record = bench.stored(LOCK);
    let waiting = bench.start(&["state", "push", "-lock-timeout=5m", "new"]);
    bench
        .until(|server| {
            server
                .requests()
                .iter()
                .any(|request| request.status == 412)
        })
        .await;
    interrupt(&waiting).await;
    Run::of(waiting).await.refused(INTERRUPTED);
    assert_eq!(bench.stored(LOCK), record);
    assert_eq!(bench.stored(KEY), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_while_the_lock_is_taken_releases_it_and_writes_nothing() {
    let bench = Bench::new().await;
    bench.write("new", &state(1, "a"));
    bench.server.inject(FaultRule {
        operation: Some("PutObject".to_owned()),
        key_ends_with: Some(".tflock".to_owned()),
        skip: 0,
        times: 1,
        fault: Fault::DelayAnswer { ms: 3000 },
    });
    let pushing = bench.start(&["state", "push", "new"]);
    bench.until(|server| server.object(LOCK).is_some()).await;
    interrupt(&pushing).await;
    Run::of(pushing).await.refused(INTERRUPTED);
    assert_eq!(bench.stored(LOCK), None);
    assert_eq!(bench.stored(KEY), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_while_the_state_is_written_lets_it_be_written_and_says_so() {
    let bench = Bench::new().await;
    bench.write("new", &state(1, "a"));
    bench.server.inject(FaultRule {
        operation: Some("PutObject".to_owned()),
        key_ends_with: Some(KEY.to_owned()),
        skip: 0,
        times: 1,
        fault: Fault::DelayAnswer { ms: 3000 },
    });
    let pushing = bench.start(&["state", "push", "new"]);
    bench.until(|server| server.object(KEY).is_some()).await;
    interrupt(&pushing).await;
    let said = Run::of(pushing).await.refused(INTERRUPTED);
    assert!(
        said.contains("The state with serial 1 was stored"),
        "{said}"
    );
    assert_eq!(bench.stored(LOCK), None);
}
