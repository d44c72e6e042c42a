//! What Terraform's own `s3` backend does when something goes wrong, and what cofferdam does under the very same fault.
//!
//! Each test runs the real Terraform first and holds on to what it really does, so that a defect that is mended there
//! fails the test here, and the documents with it. Mostly the second run is the same Terraform with the same command,
//! under `cofferdam exec`. Both need the command: `cargo build --release` makes it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "this is test code: a panic is how it reports"
)]

use bytes::Bytes;
use cofferdam::dev_store::{DevStore, Fault, FaultRule};
use cofferdam::{ErrorCode, Expectation, LockInfo, Reading, WriteOptions};
use cofferdam_tests::conformance::{Flavour as _, Opening, info};
use cofferdam_tests::native::Native;
use cofferdam_tests::terraform::{Run, finish};
use cofferdam_tests::{Fate, Gate, Locking, Ministack, Site, Terraform, tools};
use serde_json::{Value, json};
use tempfile::TempDir;

const KEY: &str = "faults/terraform.tfstate";
const LOCK: &str = "faults/terraform.tfstate.tflock";
const NOT_ACQUIRED: &str = "Error acquiring the state lock";
const NOT_RELEASED: &str = "Error releasing the state lock";

#[tokio::test(flavor = "multi_thread")]
async fn terraform_locks_itself_out_when_the_answer_to_its_lock_is_lost_and_we_do_not() {
    for locking in [Locking::LockFile, Locking::DynamoDb] {
        let Some(bench) = Bench::new(locking).await else {
            return;
        };
        bench.fail_locking(Fault::LoseAnswer);
        let said = bench.theirs.refused(&apply("theirs")).await;
        assert!(said.contains(NOT_ACQUIRED), "{said}");
        let own = bench.lock().expect("its lock stays behind");
        let id = own["ID"].as_str().expect("an id");
        assert!(said.contains(id), "it shows its own lock: {said}");
        let again = bench.theirs.refused(&apply("theirs")).await;
        assert!(again.contains(id), "{again}");
        bench
            .cofferdam(&["force-unlock", "-force", id])
            .await
            .good();

        bench.fail_locking(Fault::LoseAnswer);
        bench.ours.ok(&apply("ours")).await;
        assert_eq!(bench.lock(), None);
        assert_eq!(bench.value(), "ours");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn terraform_gives_up_when_two_locks_collide_and_we_try_again() {
    let Some(bench) = Bench::new(Locking::LockFile).await else {
        return;
    };
    let conflict = || Fault::Status {
        status: 409,
        code: "ConditionalRequestConflict".to_owned(),
    };
    bench.fail_locking(conflict());
    let mut patient = apply("theirs").to_vec();
    patient.push("-lock-timeout=10m");
    // It does not even wait, as nobody holds the lock.
    let said = bench.theirs.refused(&patient).await;
    assert!(said.contains(NOT_ACQUIRED), "{said}");
    assert!(said.contains("ConditionalRequestConflict"), "{said}");
    assert_eq!(bench.value(), "before");

    bench.fail_locking(conflict());
    bench.ours.ok(&apply("ours")).await;
    assert_eq!(bench.value(), "ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn terraform_does_not_wait_for_a_holder_that_is_gone_when_it_looks_and_we_go_on() {
    let Some(bench) = Bench::new(Locking::LockFile).await else {
        return;
    };
    let pass_by = |looked_before| {
        bench.fail("PutObject", LOCK, replace(LOCK, other_lock()));
        bench.server.inject(FaultRule {
            skip: looked_before,
            ..rule("GetObject", LOCK, delete(LOCK))
        });
    };
    pass_by(0);
    let mut patient = apply("theirs").to_vec();
    patient.push("-lock-timeout=10m");
    let said = bench.theirs.refused(&patient).await;
    assert!(said.contains(NOT_ACQUIRED), "{said}");
    assert_eq!(bench.lock(), None, "nobody holds the lock");

    // A gateway looks once when it starts.
    pass_by(1);
    bench.ours.ok(&apply("ours")).await;
    assert_eq!(bench.value(), "ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn terraform_cannot_break_a_lock_it_cannot_read_and_we_can() {
    let Some(bench) = Bench::new(Locking::LockFile).await else {
        return;
    };
    bench.server.put_object(LOCK, "half a rec").expect("stored");
    let mut patient = apply("theirs").to_vec();
    patient.push("-lock-timeout=10m");
    let said = bench.theirs.refused(&patient).await;
    assert!(said.contains(NOT_ACQUIRED), "{said}");
    let said = bench
        .theirs
        .refused(&["force-unlock", "-force", "any"])
        .await;
    assert!(said.contains("Failed to unlock state"), "{said}");

    let status = bench.cofferdam(&["lock", "status", "-json"]).await;
    let status: Value = serde_json::from_str(&status.stdout).expect("JSON");
    assert_eq!(status["holders"][0]["info"], Value::Null);
    let token = status["holders"][0]["token"].as_str().expect("a token");
    bench
        .cofferdam(&["force-unlock", "-force", "-token", token])
        .await
        .good();
    assert_eq!(bench.stored(LOCK), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn terraform_reports_a_release_where_nothing_is_locked_and_we_refuse() {
    let Some(bench) = Bench::new(Locking::LockFile).await else {
        return;
    };
    let mut block = bench.site.block(KEY);
    block["use_lockfile"] = false.into();
    bench.theirs.set_backend("s3", &block);
    bench
        .theirs
        .ok(&["init", "-reconfigure", "-no-color"])
        .await;
    let unlock = ["force-unlock", "-force", "any"];
    let said = bench.theirs.ok(&unlock).await;
    assert!(said.contains("successfully unlocked"), "{said}");

    let without = ["-backend-config=use_lockfile=false"];
    let run = bench.cofferdam(&[&unlock[..], &without].concat()).await;
    assert_eq!(run.status.code(), Some(1), "{}", run.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn terraform_writes_over_the_state_of_the_next_holder_and_we_do_not() {
    for replacement in [None, Some(other_lock())] {
        let Some(bench) = Bench::new(Locking::LockFile).await else {
            return;
        };
        let others = changed(&bench.state(), "before", "the next holder's");
        let lose_the_lock = || {
            let lose = match &replacement {
                None => delete(LOCK),
                Some(record) => replace(LOCK, record.clone()),
            };
            bench.fail("PutObject", KEY, lose);
            bench.fail("PutObject", KEY, replace(KEY, others.clone()));
        };
        lose_the_lock();
        let said = bench.theirs.refused(&apply("theirs")).await;
        assert!(said.contains(NOT_RELEASED), "{said}");
        assert_eq!(bench.value(), "theirs", "the next holder's state is lost");

        bench.server.delete_object(LOCK).expect("deleted");
        lose_the_lock();
        let said = bench.ours.refused(&apply("ours")).await;
        assert!(said.contains("Failed to save state"), "{said}");
        assert_eq!(bench.state(), others, "it stays");
        let saved = bench.ours.directory().join("errored.tfstate");
        let saved = std::fs::read_to_string(saved).expect("what could not be stored is kept");
        assert!(saved.contains("ours"));
        if replacement.is_some() {
            assert_eq!(bench.stored(LOCK), replacement, "and so does his lock");
        }
    }
}

/// The fence alone would let a write through that nobody was faster than; so a lock that is older than ten seconds is
/// looked at first. Here, the time of those ten seconds is moved.
#[tokio::test(flavor = "multi_thread")]
async fn terraform_writes_without_the_lock_that_it_has_lost_and_we_look_first() {
    for replacement in [None, Some(other_lock())] {
        let Some(bench) = Bench::new(Locking::LockFile).await else {
            return;
        };
        let lose = match &replacement {
            None => delete(LOCK),
            Some(record) => replace(LOCK, record.clone()),
        };
        bench.fail("PutObject", KEY, lose);
        let said = bench.theirs.refused(&apply("theirs")).await;
        assert!(said.contains(NOT_RELEASED), "{said}");
        assert_eq!(bench.value(), "theirs", "it was written all the same");
        bench.server.delete_object(LOCK).expect("deleted");

        let native = Native::default();
        let store = native
            .open(Opening::new(bench.site.block(KEY)))
            .await
            .expect("the store opens");
        let held = store.lock("default", &info("ours")).await.expect("locked");
        let Ok(Reading::State(state)) = store.read("default", None).await else {
            panic!("no state")
        };
        match &replacement {
            None => bench.server.delete_object(LOCK),
            Some(record) => bench.server.put_object(LOCK, record.clone()),
        }
        .expect("the lock is lost");
        native.pass_time(11);
        let options = WriteOptions {
            expect: Expectation::Revision(state.revision),
            lock: Some(held),
        };
        let new = changed(&state.bytes, "theirs", "ours");
        let error = store
            .write("default", new, &options)
            .await
            .expect_err("the lock is not held any more");
        assert_eq!(error.code(), Some(ErrorCode::LockMismatch), "{error:?}");
        assert_eq!(bench.value(), "theirs");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn terraform_releases_a_lock_that_was_taken_in_between_and_we_do_not() {
    for locking in [Locking::LockFile, Locking::DynamoDb] {
        let Some(bench) = Bench::new(locking).await else {
            return;
        };
        let take_over = || match locking {
            Locking::DynamoDb => {
                let record = String::from_utf8(other_lock().to_vec()).expect("UTF-8");
                let fault = Fault::ReplaceItem {
                    key: bench.lock_id(),
                    item: json!({ "Info": { "S": record } }),
                };
                bench.fail("DeleteItem", KEY, fault);
            }
            _ => bench.fail("DeleteObject", LOCK, replace(LOCK, other_lock())),
        };
        take_over();
        bench.theirs.ok(&apply("theirs")).await;
        assert_eq!(bench.lock(), None, "it removed another's lock");

        take_over();
        let said = bench.ours.refused(&apply("ours")).await;
        assert!(said.contains(NOT_RELEASED), "{said}");
        let others: Value = serde_json::from_slice(&other_lock()).expect("a record");
        assert_eq!(bench.lock(), Some(others), "it is left alone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn terraform_reports_success_without_its_digest_and_then_nobody_can_read_and_we_do_neither() {
    let Some(bench) = Bench::new(Locking::DynamoDb).await else {
        return;
    };
    let refuse = || {
        bench.server.inject(FaultRule {
            times: u32::MAX,
            ..rule(
                "PutItem",
                "-md5",
                Fault::Status {
                    status: 400,
                    code: "AccessDeniedException".to_owned(),
                },
            )
        });
    };
    refuse();
    bench.theirs.ok(&apply("theirs")).await;
    bench.server.clear_faults();
    bench.assert_terraform_is_blocked().await;
    bench.repair_digest().await;

    let new = changed(&bench.state(), "theirs", "ours");
    bench.write("new", &new);
    refuse();
    let run = bench.cofferdam(&["state", "push", "-force", "new"]).await;
    assert_eq!(run.status.code(), Some(1), "{}", run.text());
    assert!(run.text().contains("digest"), "{}", run.text());
    bench.server.clear_faults();
    assert_eq!(bench.state(), new, "the state is stored");
    bench.assert_terraform_reads("ours").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn terraform_killed_before_its_digest_blocks_everybody_and_we_mend_it() {
    let Some(bench) = Bench::new(Locking::DynamoDb).await else {
        return;
    };
    let gate = Gate::before(&bench.site).await;
    let block = gate.site(&bench.site).block_with(KEY, Locking::DynamoDb);
    let Some(killed) = Terraform::installed() else {
        return;
    };
    let killed = killed.with_backend("s3", &block);
    killed.ok(&["init", "-no-color"]).await;
    // Behind the list of workspaces, lock, size, state, digest, and state.
    gate.hold(7, Fate::Underway);
    let mut process = killed.start(&apply("theirs"));
    gate.held().await;
    process.start_kill().expect("it is killed");
    finish(process).await;
    let last = gate.seen().pop().expect("a request");
    assert!(
        last.starts_with("PutItem ") && last.ends_with("-md5"),
        "{last}"
    );

    let id = bench.lock().expect("its lock")["ID"].clone();
    let id = id.as_str().expect("an id");
    bench.theirs.ok(&["force-unlock", "-force", id]).await;
    assert_eq!(bench.value(), "theirs");
    bench.assert_terraform_is_blocked().await;
    // What we do when we are killed there stands in the tests of kills.
    bench.repair_digest().await;
    bench.assert_terraform_reads("theirs").await;
}

/// More than two parts of the size in which Terraform reads.
const LARGE: usize = 12 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn terraform_mixes_two_states_when_a_large_one_is_replaced_while_it_reads_and_we_do_not() {
    let Some(bench) = Bench::new(Locking::LockFile).await else {
        return;
    };
    let large = |letter: &str| changed(&bench.state(), "before", &letter.repeat(LARGE));
    let (old, new) = (large("a"), large("b"));
    let replace_before_part = |part: u32| {
        bench.server.put_object(KEY, old.clone()).expect("stored");
        bench.server.inject(FaultRule {
            skip: part - 1,
            ..rule("GetObject", KEY, replace(KEY, new.clone()))
        });
    };
    let letters = |pulled: &str| ["aaaa", "bbbb"].map(|some| pulled.contains(some));
    replace_before_part(2);
    let pulled = bench.theirs.ok(&["state", "pull"]).await;
    assert_eq!(letters(&pulled), [true, true], "a state that never was");
    bench.server.clear_faults();

    for part in [1, 2] {
        replace_before_part(part);
        let run = bench.cofferdam(&["state", "pull"]).await;
        let whole = [&old, &new].map(|state| run.stdout.as_bytes() == &state[..]);
        // There is no second part.
        assert_eq!(whole, [part == 2, part == 1]);
        bench.server.clear_faults();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn terraform_cannot_tell_who_holds_an_encrypted_lock_and_we_can() {
    let Some(server) = Ministack::start().await else {
        return;
    };
    let Some(terraform) = Terraform::installed() else {
        return;
    };
    let mut block = server.site().block(KEY);
    block["encrypt"] = true.into();
    block["sse_customer_key"] = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".into();
    let terraform = terraform.with_backend("s3", &block);
    terraform.ok(&["init", "-no-color"]).await;
    let store = Native::default()
        .open(Opening::new(block))
        .await
        .expect("the store opens");
    store.lock("default", &info("holder")).await.expect("free");

    let said = terraform.refused(&apply("theirs")).await;
    assert!(said.contains(NOT_ACQUIRED), "{said}");
    assert!(!said.contains("tester@bench"), "it cannot tell: {said}");

    let error = store
        .lock("default", &info("another"))
        .await
        .expect_err("it is held");
    assert_eq!(error.code(), Some(ErrorCode::Locked), "{error:?}");
    let holder = &error.store().expect("an error of the backend").holders[0];
    let who = holder.info.as_ref().map(|info| info.who.as_str());
    assert_eq!(who, Some("tester@bench"));
}

#[tokio::test(flavor = "multi_thread")]
async fn terraform_writes_the_secret_key_beside_its_configuration_and_not_under_exec() {
    let Some(bench) = Bench::new(Locking::LockFile).await else {
        return;
    };
    bench.ours.ok(&apply("ours")).await;
    let holds_secret = |terraform: &Terraform| {
        let written = terraform.directory().join(".terraform/terraform.tfstate");
        let written = std::fs::read_to_string(written).expect("what init left");
        written.contains(&bench.site.secret_access_key)
    };
    assert!(holds_secret(&bench.theirs));
    assert!(!holds_secret(&bench.ours));
}

/// One state, and Terraform with its own backend beside Terraform with ours.
struct Bench {
    server: DevStore,
    site: Site,
    locking: Locking,
    theirs: Terraform,
    /// Under `cofferdam exec`.
    ours: Terraform,
    /// Where `cofferdam` finds the backend block.
    directory: TempDir,
}

impl Bench {
    /// With a state whose value is `before`.
    async fn new(locking: Locking) -> Option<Self> {
        let server = DevStore::builder().start().await.expect("it starts");
        let site = Site::of(&server);
        let block = site.block_with(KEY, locking);
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("store.tfbackend.json");
        std::fs::write(&file, block.to_string()).expect("a file");
        let configuration = json!({ "terraform": { "backend": { "s3": &block } } });
        std::fs::write(
            directory.path().join("main.tf.json"),
            configuration.to_string(),
        )
        .expect("a file");
        let theirs = Terraform::installed()?.with_backend("s3", &block);
        let ours = Terraform::installed()?.under_exec(&file, &[]);
        theirs.ok(&["init", "-no-color"]).await;
        ours.ok(&["init", "-no-color"]).await;
        theirs.apply("before").await;
        Some(Self {
            server,
            site,
            locking,
            theirs,
            ours,
            directory,
        })
    }

    fn fail(&self, operation: &str, key: &str, fault: Fault) {
        self.server.inject(rule(operation, key, fault));
    }

    /// Lets the next lock go wrong.
    fn fail_locking(&self, fault: Fault) {
        match self.locking {
            Locking::DynamoDb => self.fail("PutItem", KEY, fault),
            _ => self.fail("PutObject", LOCK, fault),
        }
    }

    async fn cofferdam(&self, arguments: &[&str]) -> Run {
        let child = tools::cofferdam_in(self.directory.path())
            .args(arguments)
            .spawn()
            .expect("the command starts");
        finish(child).await
    }

    async fn repair_digest(&self) {
        self.cofferdam(&["repair", "digest", "-yes"]).await.good();
    }

    /// It reads again for ten seconds before it says so.
    async fn assert_terraform_is_blocked(&self) {
        let said = self.theirs.refused(&["state", "pull"]).await;
        assert!(
            said.contains("state data in S3 does not have the expected content"),
            "{said}"
        );
    }

    async fn assert_terraform_reads(&self, value: &str) {
        let read = self.theirs.ok(&["output", "-raw", "value"]).await;
        assert_eq!(read, value);
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.directory.path().join(name), bytes).expect("a file");
    }

    fn stored(&self, key: &str) -> Option<Bytes> {
        self.server.object(key)
    }

    fn state(&self) -> Bytes {
        self.stored(KEY).expect("a state")
    }

    /// The value in the stored state.
    fn value(&self) -> String {
        let state: Value = serde_json::from_slice(&self.state()).expect("a state");
        let value = state["outputs"]["value"]["value"].as_str();
        value.expect("a value").to_owned()
    }

    /// The record of the lock.
    fn lock(&self) -> Option<Value> {
        let record = match self.locking {
            Locking::DynamoDb => {
                let item = self.server.item(&self.lock_id())?;
                Bytes::from(item["Info"]["S"].as_str().expect("a record").to_owned())
            }
            _ => self.stored(LOCK)?,
        };
        Some(serde_json::from_slice(&record).expect("a record"))
    }

    fn lock_id(&self) -> String {
        self.site.lock_id(KEY, "default")
    }
}

trait Good {
    /// All went well.
    fn good(self);
}

impl Good for Run {
    #[track_caller]
    fn good(self) {
        assert!(self.status.success(), "{}", self.text());
    }
}

fn apply(value: &str) -> [&str; 4] {
    let value = match value {
        "ours" => "-var=value=ours",
        _ => "-var=value=theirs",
    };
    ["apply", "-auto-approve", "-no-color", value]
}

/// Befalls the next such request.
fn rule(operation: &str, key: &str, fault: Fault) -> FaultRule {
    FaultRule {
        operation: Some(operation.to_owned()),
        key_ends_with: Some(key.to_owned()),
        skip: 0,
        times: 1,
        fault,
    }
}

fn delete(key: &str) -> Fault {
    Fault::DeleteObject {
        key: key.to_owned(),
    }
}

fn replace(key: &str, body: Bytes) -> Fault {
    Fault::ReplaceObject {
        key: key.to_owned(),
        body,
    }
}

/// The record of somebody else.
fn other_lock() -> Bytes {
    let info = LockInfo {
        id: "11111111-2222-3333-4444-555555555555".to_owned(),
        who: "other@elsewhere".to_owned(),
        created: "2026-11-23T01:25:24.164382378Z".to_owned(),
        ..LockInfo::new("OperationTypeApply")
    };
    json!(info).to_string().into()
}

/// The state with another value and a later serial.
fn changed(state: &[u8], from: &str, to: &str) -> Bytes {
    let text = std::str::from_utf8(state).expect("a state is UTF-8");
    assert!(text.contains(from), "no {from} in the state");
    let text = text.replace(from, to);
    text.replacen("\"serial\": ", "\"serial\": 1", 1).into()
}
