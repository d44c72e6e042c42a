//! A writer is ended by SIGKILL at every one of its requests: before the request reaches the store, after the store has
//! done it, and so that it reaches the store only when a successor is done. Afterwards no state is lost, Terraform reads
//! it at once, the dead holder is named, and the next writer gets through.
//!
//! They need the command: `cargo build --release` makes it. `--nocapture` prints all boundaries and outcomes.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "this is test code: a panic is how it reports"
)]

use std::path::Path;

use cofferdam::dev_store::DevStore;
use cofferdam_tests::terraform::{Run, finish};
use cofferdam_tests::{Fate, Gate, Locking, Ministack, RawDynamoDb, RawS3, Site, Terraform, tools};
use md5::{Digest as _, Md5};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Child;

const KEY: &str = "kills/terraform.tfstate";
const LOCKED: i32 = 75;

/// Who is killed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Writer {
    /// `cofferdam exec -- terraform apply`: Terraform outlives its gateway.
    Apply,
    /// `cofferdam state push` where nothing is stored.
    FirstPush,
    /// `cofferdam state push` over a state.
    Push,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_push_with_the_lock_file_loses_nothing() {
    on_embedded_store(Writer::Push, Locking::LockFile, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_push_with_the_table_loses_nothing() {
    on_embedded_store(Writer::Push, Locking::DynamoDb, 7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_push_with_both_locks_loses_nothing() {
    on_embedded_store(Writer::Push, Locking::Both, 9).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_push_with_both_locks_loses_nothing_on_ministack() {
    if let Some(server) = Ministack::start().await {
        at_every_boundary(server.site(), Writer::Push, Locking::Both, 9).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_first_push_leaves_a_whole_state_or_none() {
    for (locking, requests) in [
        (Locking::LockFile, 4),
        (Locking::DynamoDb, 7),
        (Locking::Both, 9),
    ] {
        on_embedded_store(Writer::FirstPush, locking, requests).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_killed_during_an_apply_loses_nothing() {
    // A gateway looks at the lock once when it starts.
    for (locking, requests) in [
        (Locking::LockFile, 5),
        (Locking::DynamoDb, 8),
        (Locking::Both, 11),
    ] {
        on_embedded_store(Writer::Apply, locking, requests).await;
    }
}

async fn on_embedded_store(writer: Writer, locking: Locking, requests: usize) {
    let server = DevStore::builder().start().await.expect("it starts");
    at_every_boundary(&Site::of(&server), writer, locking, requests).await;
}

/// Kills the writer at one request after the other, until it gets through because it sends no more.
async fn at_every_boundary(site: &Site, writer: Writer, locking: Locking, requests: usize) {
    let Some(bench) = Bench::new(site, writer, locking).await else {
        return;
    };
    let mut table = format!("{writer:?} with {} on {}:\n", locking.name(), site.name);
    for fate in [Fate::Underway, Fate::Answerless] {
        let mut number = 1;
        while let Some(request) = bench.kill_at(number, fate).await {
            let outcome = bench.check(fate).await;
            let fate = format!("{fate:?}");
            table += &format!("  {number:>2}  {fate:<10}  {request:<52}  {outcome}\n");
            number += 1;
        }
        assert_eq!(number - 1, requests, "{:?}", bench.gate.seen());
    }
    println!("{table}{} boundaries", 2 * requests);
}

struct Bench {
    writer: Writer,
    locking: Locking,
    site: Site,
    raw: RawS3,
    table: Option<RawDynamoDb>,
    gate: Gate,
    /// Commands that go past the gate.
    free: Directory,
    /// Those that go through it, and are killed.
    gated: Directory,
    /// With Terraform's own backend, past the gate.
    terraform: Terraform,
    /// Under `cofferdam exec`, through the gate.
    apply: Terraform,
}

impl Bench {
    async fn new(site: &Site, writer: Writer, locking: Locking) -> Option<Self> {
        let gate = Gate::before(site).await;
        let free = Directory::new(&site.block_with(KEY, locking));
        let gated = Directory::new(&gate.site(site).block_with(KEY, locking));
        free.write("next", &next());
        gated.write("new", &state(2, "new"));
        let terraform = Terraform::installed()?.with_backend("s3", &site.block_with(KEY, locking));
        terraform.ok(&["init", "-no-color"]).await;
        let block = gated.path().join("store.tfbackend.json");
        let apply = Terraform::installed()?
            .under_exec(&block, &[])
            // Its gateway is gone for good.
            .with_variable("TF_HTTP_RETRY_MAX", "0");
        if writer == Writer::Apply {
            apply.ok(&["init", "-no-color"]).await;
        }
        Some(Self {
            writer,
            locking,
            raw: RawS3::new(site),
            table: locking.has_item().then(|| RawDynamoDb::new(site)),
            site: site.clone(),
            gate,
            free,
            gated,
            terraform,
            apply,
        })
    }

    /// Starts anew, and kills the writer while this request of its is held. Answers which it is; `None`: there are
    /// fewer, and the writer got through.
    async fn kill_at(&self, number: usize, fate: Fate) -> Option<String> {
        self.reset().await;
        self.gate.hold(number, fate);
        let mut writer = match self.writer {
            Writer::Apply => {
                self.apply
                    .start(&["apply", "-auto-approve", "-no-color", "-var=value=new"])
            }
            Writer::FirstPush | Writer::Push => self.gated.start(&["state", "push", "new"]),
        };
        let ended = tokio::select! {
            () = self.gate.held() => false,
            ended = writer.wait() => ended.is_ok(),
        };
        if ended {
            let run = finish(writer).await;
            assert!(run.status.success(), "{}", run.text());
            assert!(self.is_new(self.raw.object(KEY).await.as_deref()));
            self.assert_free().await;
            return None;
        }
        writer.start_kill().expect("it is killed");
        let run = finish(writer).await;
        assert_eq!(run.status.code(), None, "{}", run.text());
        self.gate.seen().pop()
    }

    /// What the dead writer left behind, in words, once everything is as it should be.
    async fn check(&self, fate: Fate) -> String {
        let stored = self.raw.object(KEY).await;
        let is_new = self.is_new(stored.as_deref());
        assert!(
            is_new || stored.as_deref() == self.old().as_deref(),
            "neither the old state nor the new one is stored"
        );
        self.assert_terraform_reads(stored.as_deref()).await;
        let left = self.bury().await;

        let run = self.free.run(&["state", "push", "next"]).await;
        assert!(run.status.success(), "{}", run.text());
        self.assert_is_next().await;
        self.assert_free().await;
        if let Some(table) = &self.table {
            let digest = table.digest(&self.lock_id()).await;
            assert_eq!(digest, Some(md5(next().as_bytes())));
        }
        let kept = if is_new { "new" } else { "old" };
        let mut outcome = format!("{kept} state, {left}");

        if fate == Fate::Underway {
            let status = self.gate.release().await;
            self.assert_is_next().await;
            let left = self.bury().await;
            outcome.push_str(&format!("; arriving late: {status}, {left}"));
        }
        outcome
    }

    /// Looks for the dead writer's lock, and releases it as a person would.
    async fn bury(&self) -> String {
        let records = self.records().await;
        let run = self.free.run(&["lock", "status", "-json"]).await;
        let status: Value = serde_json::from_str(&run.stdout).expect("JSON");
        let holders = status["holders"].as_array().expect("a list");
        let found: Vec<&Value> = holders.iter().map(|holder| &holder["info"]).collect();
        let left: Vec<Value> = records
            .iter()
            .flatten()
            .map(|record| serde_json::from_str(record).expect("a whole record"))
            .collect();
        assert_eq!(found, left.iter().collect::<Vec<_>>());
        let Some(lock) = left.first() else {
            assert_eq!(run.status.code(), Some(0), "{}", run.text());
            return "no lock".to_owned();
        };
        assert_eq!(run.status.code(), Some(LOCKED), "{}", run.text());
        let text = |name: &str| lock[name].as_str().expect("a text").to_owned();
        assert!(text("Who").contains('@'), "{lock}");
        let told = self.free.run(&["lock", "status"]).await.text();
        for name in ["ID", "Who", "Operation"] {
            assert!(told.contains(&text(name)), "{name}: {told}");
        }
        let run = self
            .free
            .run(&["force-unlock", "-force", &text("ID")])
            .await;
        assert!(run.status.success(), "{}", run.text());
        self.assert_free().await;
        format!("lock in {} of {} places", left.len(), records.len())
    }

    async fn reset(&self) {
        match self.old() {
            Some(old) => self.raw.put(KEY, old).await,
            None => self.raw.delete(KEY).await,
        }
        .expect_success("store the old state");
        self.assert_free().await;
        let Some(table) = &self.table else {
            return;
        };
        match self.old() {
            Some(old) => table.put_digest(&self.lock_id(), &md5(&old)).await,
            None => table.delete(&format!("{}-md5", self.lock_id())).await,
        }
        .expect_success("record the old digest");
    }

    /// What is stored before the writer comes.
    fn old(&self) -> Option<Vec<u8>> {
        (self.writer != Writer::FirstPush).then(|| state(1, "old").into_bytes())
    }

    /// Whether this is all that the writer wrote.
    fn is_new(&self, stored: Option<&[u8]>) -> bool {
        let Some(stored) = stored else { return false };
        match self.writer {
            Writer::Apply => {
                let stored: Value = serde_json::from_slice(stored).expect("a whole state");
                stored["outputs"]["value"]["value"] == "new"
            }
            Writer::FirstPush | Writer::Push => stored == state(2, "new").as_bytes(),
        }
    }

    async fn assert_is_next(&self) {
        let stored = self.raw.object(KEY).await;
        assert_eq!(stored.as_deref(), Some(next().as_bytes()));
        self.assert_terraform_reads(stored.as_deref()).await;
    }

    async fn assert_terraform_reads(&self, stored: Option<&[u8]>) {
        let pulled = self.terraform.ok(&["state", "pull"]).await;
        let read = |text: &[u8]| serde_json::from_slice::<Value>(text).expect("a state");
        match stored {
            Some(stored) => assert_eq!(read(pulled.as_bytes()), read(stored)),
            // Terraform shows an empty state of its own making.
            None => assert_eq!(read(pulled.as_bytes())["serial"], 0),
        }
    }

    /// What stands in each place of the lock, the file first.
    async fn records(&self) -> Vec<Option<String>> {
        let mut records = Vec::new();
        if self.locking.has_file() {
            let record = self.raw.object(&format!("{KEY}.tflock")).await;
            records.push(record.map(|it| String::from_utf8_lossy(&it).into_owned()));
        }
        if let Some(table) = &self.table {
            records.push(table.record(&self.lock_id()).await);
        }
        records
    }

    async fn assert_free(&self) {
        let records = self.records().await;
        assert!(records.iter().all(Option::is_none), "{records:?}");
    }

    fn lock_id(&self) -> String {
        self.site.lock_id(KEY, "default")
    }
}

/// Where `cofferdam` is started, with a backend block.
struct Directory(TempDir);

impl Directory {
    fn new(block: &Value) -> Self {
        let directory = Self(tempfile::tempdir().expect("a directory"));
        let configuration = json!({ "terraform": { "backend": { "s3": block } } });
        directory.write("main.tf.json", &configuration.to_string());
        directory.write("store.tfbackend.json", &block.to_string());
        directory
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).expect("a file");
    }

    fn start(&self, arguments: &[&str]) -> Child {
        tools::cofferdam_in(self.path())
            .args(arguments)
            .spawn()
            .expect("the command starts")
    }

    async fn run(&self, arguments: &[&str]) -> Run {
        finish(self.start(arguments)).await
    }
}

fn state(serial: u64, value: &str) -> String {
    json!({ "version": 4, "terraform_version": "1.11.4", "serial": serial, "lineage": "kills",
        "outputs": { "value": { "value": value, "type": "string" } }, "resources": [],
        "check_results": null })
    .to_string()
}

/// What the successor stores: of a later serial than all that the dead writer wrote.
fn next() -> String {
    state(9, "next")
}

fn md5(bytes: &[u8]) -> String {
    Md5::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
