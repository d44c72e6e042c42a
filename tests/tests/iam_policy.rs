//! What `iam-policy` prints is enough for what it is for, and no part of it is too much: a user who may do that and nothing
//! else does his work, and with any one action or resource less he fails, or is warned, and is told which permission is
//! missing.
//!
//! The judge is ministack. It asks IAM for the action, the resource and `s3:prefix` of each request. Not judged here, but
//! in the guest's own tests, is what it does not ask for: `dynamodb:LeadingKeys` (an action on items of a table is taken
//! away from all of them here), what uploads with tags, ACLs and KMS keys take, `s3:GetObject` for conditional writes, and
//! `s3:ListBucket` where an object is missing.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "this is test code: a panic is how it reports"
)]

use std::sync::atomic::{AtomicU32, Ordering};

use cofferdam::{
    Backend, CheckOutcome, DeleteOptions, Error, ErrorCode, Expectation, Grant, HeldLock, LockInfo,
    PolicyOptions, ProbeOptions, Purpose, Reading, Revision, StateStore as _, Store, UnlockBy,
    WriteOptions,
};
use cofferdam_tests::conformance::Warnings;
use cofferdam_tests::servers::{Server, another_user};
use cofferdam_tests::{Locking, Ministack, RawDynamoDb, RawS3, Site, Terraform, digest_of};
use serde_json::{Value, json};

/// What is stored, and what was stored before.
const STATE: &str = r#"{"version":4,"serial":2,"lineage":"a"}"#;
const OLD_STATE: &str = r#"{"version":4,"serial":1,"lineage":"a"}"#;

/// What a comparison without the right to look at versions comes to. It is done all the same, and names no permission.
const NOT_DESCRIBED: &str = "the version that the digest belongs to is not told";

/// A piece of work, with the workspaces that it is done in.
#[derive(Clone, Copy, Debug)]
struct Job {
    purpose: Purpose,
    locking: Locking,
    /// None: all of them, and their list.
    workspaces: Option<&'static [&'static str]>,
}

impl Job {
    fn options(self) -> PolicyOptions {
        let options = PolicyOptions::new(self.purpose)
            .delete_workspaces(true)
            .even_aws(true);
        match self.workspaces {
            Some(names) => options.workspaces(names.iter().map(ToString::to_string)),
            None => options,
        }
    }

    /// Does it. Why it could not be done.
    async fn work(self, store: &Store) -> Result<(), String> {
        if self.purpose == Purpose::Doctor {
            return probe(store).await;
        }
        for workspace in self.workspaces.unwrap_or(&["default", "dev"]) {
            match self.purpose {
                Purpose::Apply => apply(store, workspace).await?,
                Purpose::Outputs => read(store, workspace).await.map(drop)?,
                Purpose::Plan => plan(store, workspace).await?,
                _ => repair(store, workspace).await?,
            }
        }
        if self.workspaces.is_none() {
            store.workspaces().await.map_err(told)?;
        }
        Ok(())
    }

    /// What ministack does not ask for: of an object that is missing, it says so to everybody.
    fn is_judged(self, part: &Part) -> bool {
        let lists = self.purpose == Purpose::Doctor || self.workspaces.is_none();
        lists || part.action != "s3:ListBucket"
    }
}

/// One thing that a policy allows: an action of a statement, on one of its resources.
#[derive(Clone, Debug, PartialEq)]
struct Part {
    statement: String,
    action: String,
    resource: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn no_part_of_a_policy_is_missing_and_none_is_too_much() {
    let Some(world) = World::start().await else {
        return;
    };
    let (mut judged, mut not_judged) = (0, 0);
    for (purpose, workspaces) in [
        (Purpose::Apply, Some(&["default", "dev"][..])),
        (Purpose::Apply, None),
        (Purpose::Doctor, Some(&["default"])),
        (Purpose::Outputs, Some(&["dev"])),
        (Purpose::Outputs, None),
        (Purpose::Plan, Some(&["default"])),
        (Purpose::Repair, Some(&["default"])),
    ] {
        for locking in Locking::ALL {
            if purpose == Purpose::Repair && !locking.has_item() {
                continue;
            }
            let job = Job {
                purpose,
                locking,
                workspaces,
            };
            let key = world.prepare(job).await;
            let policy = world.policy(&key, job).await;
            let done = world.work(&key, job, &policy).await;
            assert_eq!(done, Ok(()), "{job:?} is not allowed: {policy:#}");
            for part in parts(&policy) {
                let key = world.prepare(job).await;
                let less = without(&world.policy(&key, job).await, &part);
                let done = world.work(&key, job, &less).await;
                if !job.is_judged(&part) {
                    assert_eq!(done, Ok(()), "{job:?}: {part:?} is judged after all");
                    not_judged += 1;
                    continue;
                }
                let said = done.expect_err(&format!("{job:?} works without {part:?}"));
                assert!(
                    said.contains(&part.action) || said == NOT_DESCRIBED,
                    "{job:?} without {part:?}: {said}"
                );
                judged += 1;
            }
        }
    }
    println!("{judged} parts are needed, {not_judged} could not be judged");
    assert!(judged > 150, "{judged} parts were judged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_opens_no_other_state_and_allows_nothing_else() {
    let Some(world) = World::start().await else {
        return;
    };
    let job = |purpose| Job {
        purpose,
        locking: Locking::LockFile,
        workspaces: Some(&["default"]),
    };
    let key = world.prepare(job(Purpose::Plan)).await;
    let other = world.prepare(job(Purpose::Plan)).await;
    let reader = world.policy(&key, job(Purpose::Plan)).await;
    let reader = another_user(world.server.site(), "reader", &reader).await;
    let own = open(&reader, &key, Locking::LockFile, &Warnings::default()).await;
    let (_, revision) = read(&own, "default").await.expect("his own state");
    let foreign = open(&reader, &other, Locking::LockFile, &Warnings::default()).await;
    let options = WriteOptions {
        expect: Expectation::Revision(revision),
        lock: None,
    };
    for (what, answer) in [
        ("another key", read(&foreign, "default").await.map(drop)),
        ("another workspace", read(&own, "dev").await.map(drop)),
        ("a list", own.workspaces().await.map(drop).map_err(told)),
        (
            "a write",
            own.write("default", STATE.into(), &options)
                .await
                .map(drop)
                .map_err(told),
        ),
        (
            "another lock",
            own.lock("dev", &LockInfo::new("test"))
                .await
                .map(drop)
                .map_err(told),
        ),
    ] {
        let said = answer.expect_err(what);
        assert!(said.contains("s3:"), "{what}: {said}");
    }

    // Nobody said that workspaces may be deleted.
    let options = PolicyOptions::new(Purpose::Apply).workspaces(["dev".to_owned()]);
    let writer = world.least(&key, Locking::LockFile, &options).await;
    let writer = another_user(world.server.site(), "writer", &writer).await;
    let store = open(&writer, &key, Locking::LockFile, &Warnings::default()).await;
    let (_, revision) = read(&store, "dev").await.expect("his own state");
    let said = delete(&store, "dev", revision, None)
        .await
        .expect_err("deleted");
    assert!(said.contains("s3:DeleteObject"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn terraforms_own_backend_gets_along_with_the_policy_of_all_workspaces() {
    let (Some(world), Some(terraform)) = (World::start().await, Terraform::installed()) else {
        return;
    };
    let key = "terraform.tfstate";
    let options = PolicyOptions::new(Purpose::Apply).delete_workspaces(true);
    let policy = world.least(key, Locking::LockFile, &options).await;
    let user = another_user(world.server.site(), "terraform", &policy).await;
    terraform.set_backend("s3", &user.block(key));
    for command in [
        &["init", "-no-color"][..],
        &["apply", "-no-color", "-auto-approve"],
        &["plan", "-no-color"],
        &["output", "-no-color"],
        &["workspace", "new", "-no-color", "dev"],
        &["apply", "-no-color", "-auto-approve"],
        &["workspace", "select", "-no-color", "default"],
        &["workspace", "delete", "-no-color", "-force", "dev"],
    ] {
        terraform.ok(command).await;
    }
}

/// A server whose bucket keeps versions, and whoever may do everything there.
struct World {
    server: Server,
    backend: Backend,
    count: AtomicU32,
}

impl World {
    async fn start() -> Option<Self> {
        let server = Ministack::start().await?;
        let versions = "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                        <Status>Enabled</Status></VersioningConfiguration>";
        RawS3::new(server.site())
            .configure_bucket("versioning", versions)
            .await
            .expect_success("switch versions on");
        Some(Self {
            server,
            backend: backend().await,
            count: AtomicU32::new(0),
        })
    }

    /// A key that no other work has, with the states that the work needs.
    async fn prepare(&self, job: Job) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let key = format!("{count}/terraform.tfstate");
        if job.purpose == Purpose::Apply {
            return key;
        }
        let site = self.server.site();
        let (s3, table) = (RawS3::new(site), RawDynamoDb::new(site));
        for workspace in ["default", "dev"] {
            for state in [OLD_STATE, STATE] {
                let path = site.state_key(&key, workspace);
                s3.put(&path, state).await.expect_success("store a state");
            }
            let digest = match job.purpose {
                Purpose::Repair => digest_of(OLD_STATE.as_bytes()),
                _ => digest_of(STATE.as_bytes()),
            };
            let id = site.lock_id(&key, workspace);
            let recorded = table.put_digest(&id, &digest).await;
            recorded.expect_success("record a digest");
        }
        key
    }

    async fn policy(&self, key: &str, job: Job) -> Value {
        self.least(key, job.locking, &job.options()).await
    }

    async fn least(&self, key: &str, locking: Locking, options: &PolicyOptions) -> Value {
        let block = self.server.site().block_with(key, locking);
        let grant = Grant::local();
        let policy = self.backend.least_policy(&block, &grant, options).await;
        policy.expect("a policy").document
    }

    /// Has the work done by somebody who may do what the policy says.
    async fn work(&self, key: &str, job: Job, policy: &Value) -> Result<(), String> {
        let name = format!("user-{}", self.count.fetch_add(1, Ordering::Relaxed));
        let user = another_user(self.server.site(), &name, policy).await;
        let warnings = Warnings::default();
        let store = open(&user, key, job.locking, &warnings).await;
        job.work(&store).await?;
        match warnings.take().pop() {
            Some(warning) => Err(format!("{}: {}", warning.summary, warning.detail)),
            None => Ok(()),
        }
    }
}

async fn backend() -> Backend {
    let backend = Backend::builder().build().await;
    backend.expect("the component loads")
}

async fn open(site: &Site, key: &str, locking: Locking, warnings: &Warnings) -> Store {
    let warnings = warnings.clone();
    let store = backend().await.store(site.block_with(key, locking));
    let store = store.on_warning(move |warning| warnings.push(warning));
    let opened = store.grant(Grant::local()).open().await;
    opened.expect("the store opens").store
}

/// All that a policy allows.
fn parts(policy: &Value) -> Vec<Part> {
    let mut parts = Vec::new();
    for statement in policy["Statement"].as_array().expect("statements") {
        for action in statement["Action"].as_array().expect("actions") {
            for resource in 0..statement["Resource"].as_array().map_or(0, Vec::len) {
                parts.push(Part {
                    statement: statement["Sid"].as_str().expect("a name").to_owned(),
                    action: action.as_str().expect("an action").to_owned(),
                    resource,
                });
            }
        }
    }
    parts
}

/// The policy with one thing less.
fn without(policy: &Value, part: &Part) -> Value {
    let mut statements = Vec::new();
    for statement in policy["Statement"].as_array().expect("statements") {
        let is_of_table = part.action.starts_with("dynamodb:");
        if statement["Sid"] != part.statement.as_str() && !is_of_table {
            statements.push(statement.clone());
            continue;
        }
        let (mut rest, mut others) = (statement.clone(), statement.clone());
        let actions = rest["Action"].as_array_mut().expect("actions");
        actions.retain(|action| action != part.action.as_str());
        others["Action"] = json!([part.action]);
        let resources = others["Resource"].as_array_mut().expect("resources");
        resources.remove(part.resource);
        for (statement, list) in [(rest, "Action"), (others, "Resource")] {
            if !statement[list].as_array().expect("a list").is_empty() {
                statements.push(statement);
            }
        }
    }
    json!({ "Version": policy["Version"], "Statement": statements })
}

async fn read(store: &Store, workspace: &str) -> Result<(String, Revision), String> {
    match store.read(workspace, None).await.map_err(told)? {
        Reading::State(state) => {
            let text = String::from_utf8_lossy(&state.bytes).into_owned();
            Ok((text, state.revision))
        }
        other => Err(format!("no state: {other:?}")),
    }
}

/// Takes the lock. Whoever comes second is told who has it, and so is whoever asks.
async fn lock(store: &Store, workspace: &str) -> Result<HeldLock, String> {
    let first = LockInfo::new("first");
    let held = store.lock(workspace, &first).await.map_err(told)?;
    let second = store.lock(workspace, &LockInfo::new("second")).await;
    let mut holders = match second {
        Err(error) if error.code() == Some(ErrorCode::Locked) => error
            .store()
            .map(|it| it.holders.clone())
            .unwrap_or_default(),
        other => return Err(format!("the second got {other:?}")),
    };
    holders.extend(store.holders(workspace).await.map_err(told)?);
    for holder in &holders {
        let id = holder.info.as_ref().map(|info| info.id.as_str());
        assert_eq!(id, Some(first.id.as_str()), "{holders:?}");
    }
    Ok(held)
}

async fn unlock(store: &Store, workspace: &str, held: HeldLock) -> Result<(), String> {
    let by = UnlockBy::Held(held);
    store.unlock(workspace, &by).await.map_err(told)
}

async fn plan(store: &Store, workspace: &str) -> Result<(), String> {
    let held = lock(store, workspace).await?;
    read(store, workspace).await?;
    unlock(store, workspace, held).await
}

/// Creates a state and replaces it; one of a workspace that can be deleted is deleted.
async fn apply(store: &Store, workspace: &str) -> Result<(), String> {
    let held = lock(store, workspace).await?;
    let mut expect = Expectation::Absent;
    for state in [OLD_STATE, STATE] {
        let options = WriteOptions {
            expect,
            lock: Some(held.clone()),
        };
        let written = store.write(workspace, state.into(), &options).await;
        written.map_err(told)?;
        let (text, revision) = read(store, workspace).await?;
        assert_eq!(text, state);
        expect = Expectation::Revision(revision);
    }
    if workspace != "default"
        && let Expectation::Revision(revision) = expect
    {
        delete(store, workspace, revision, Some(held.clone())).await?;
    }
    unlock(store, workspace, held).await
}

async fn delete(
    store: &Store,
    workspace: &str,
    revision: Revision,
    lock: Option<HeldLock>,
) -> Result<(), String> {
    let expect = Expectation::Revision(revision);
    let options = DeleteOptions { expect, lock };
    store.delete(workspace, &options).await.map_err(told)
}

/// The digest that is recorded belongs to an earlier version.
async fn repair(store: &Store, workspace: &str) -> Result<(), String> {
    let held = lock(store, workspace).await?;
    let report = store.compare_digest(workspace).await.map_err(told)?;
    let of = |state: &str| Some(digest_of(state.as_bytes()));
    assert_eq!(report.recorded, of(OLD_STATE));
    if report.described.map(|it| it.md5) != of(OLD_STATE) {
        return Err(NOT_DESCRIBED.to_owned());
    }
    let (old, right) = (of(OLD_STATE), of(STATE));
    for [expected, digest] in [[old.as_deref(), right.as_deref()], [right.as_deref(), None]] {
        let recorded = store.record_digest(workspace, expected, digest, Some(&held));
        recorded.await.map_err(told)?;
    }
    unlock(store, workspace, held).await
}

/// All checks are made, and nothing is left behind.
async fn probe(store: &Store) -> Result<(), String> {
    let report = store.probe(ProbeOptions::default().rounds(1)).await;
    let report = report.map_err(told)?;
    let is_ok = report
        .checks
        .iter()
        .all(|it| it.outcome == CheckOutcome::Ok);
    if is_ok && report.reasons.is_empty() {
        return Ok(());
    }
    Err(report.json.to_string())
}

fn told(error: Error) -> String {
    error.to_string()
}
