//! Terraform's own `backend "s3"` and cofferdam on one bucket and one table, with each of the locks: each must take the
//! other for its own kind, as holder and as contender.
//!
//! On ministack and moto with their signature checks on, so that no misunderstanding of DynamoDB is shared by both
//! sides, on the embedded store, and with the table in an older DynamoDB, dynalite. `cargo test --release --test interop_dynamodb -- moto::both` runs one part of it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "this is test code: a panic is how it reports"
)]

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cofferdam::dev_store::DevStore;
use cofferdam::{DeleteOptions, ErrorCode, Expectation, LockInfo, UnlockBy};
use cofferdam_tests::conformance::{Warnings, info, record};
use cofferdam_tests::pair::open;
use cofferdam_tests::servers::Server;
use cofferdam_tests::terraform::finish;
use cofferdam_tests::{
    Dynalite, Locking, Ministack, Moto, Pair, RawDynamoDb, RawS3, Site, digest_of, go,
};
use http::StatusCode;
use libtest_mimic::{Arguments, Trial};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

/// What is shown, by name, and with which locks.
const CASES: &[(&str, &[Locking], Run)] = &{
    use Locking::{Both, DynamoDb};
    macro_rules! case {
        ($name:ident, $lockings:expr) => {
            (stringify!($name), &$lockings, |bench| {
                Box::pin($name(bench))
            })
        };
    }
    [
        case!(each_reads_what_the_other_wrote, Locking::ALL),
        case!(
            terraform_is_kept_out_by_our_lock_and_can_release_it,
            Locking::ALL
        ),
        case!(
            we_are_kept_out_by_terraforms_lock_and_can_release_it,
            Locking::ALL
        ),
        case!(our_record_is_what_go_would_write, Locking::ALL),
        case!(a_workspace_that_either_deletes_leaves_nothing, Locking::ALL),
        case!(a_missing_digest_stops_nobody, [Both, DynamoDb]),
        case!(
            a_digest_of_another_state_stops_both_in_the_same_words,
            [DynamoDb]
        ),
        case!(
            clients_with_one_lock_and_with_both_exclude_each_other,
            [Both]
        ),
        case!(half_of_our_lock_is_released_and_reported, [Both]),
        case!(half_of_terraforms_lock_is_released_and_reported, [Both]),
        case!(half_a_lock_of_the_dead_can_be_broken, [Both]),
    ]
};

type Run = fn(Bench) -> Pin<Box<dyn Future<Output = ()> + Send>>;

fn main() {
    let runtime = Arc::new(Runtime::new().expect("a runtime"));
    let servers = Arc::new(Servers::default());
    let mut trials = Vec::new();
    for kind in Kind::ALL {
        for (case, lockings, run) in CASES {
            for locking in lockings.iter().filter(|it| kind.serves(**it)) {
                let (runtime, servers) = (Arc::clone(&runtime), Arc::clone(&servers));
                let name = format!("{}::{}::{case}", kind.name(), locking.name());
                trials.push(Trial::test(name, move || {
                    runtime.block_on(async {
                        if let Some(bench) = Bench::new(kind, &servers, case, *locking).await {
                            run(bench).await;
                        }
                    });
                    Ok(())
                }));
            }
        }
    }
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
    // A program that just exits leaves them running.
    drop(servers);
    conclusion.exit();
}

async fn each_reads_what_the_other_wrote(bench: Bench) {
    for workspace in ["default", "dev"] {
        let terraform = &bench.pair.terraform;
        terraform
            .ok(&["workspace", "select", "-or-create", workspace])
            .await;
        terraform.apply("by-Terraform").await;
        let (bytes, _) = bench.pair.read(workspace).await.expect("a state");
        bench.assert_stored(workspace, &bytes).await;
        let mine = bench
            .pair
            .rewrite(workspace, "by-Terraform", "by-cofferdam")
            .await;
        bench.assert_stored(workspace, &mine).await;
        bench.assert_free(workspace).await;
        let output = terraform.ok(&["output", "-raw", "value"]).await;
        assert_eq!(output, "by-cofferdam");

        terraform.apply("by-Terraform-again").await;
        let (bytes, _) = bench.pair.read(workspace).await.expect("a state");
        assert!(String::from_utf8_lossy(&bytes).contains("by-Terraform-again"));
        bench.assert_stored(workspace, &bytes).await;
        bench.assert_free(workspace).await;
    }
    assert_eq!(
        bench.pair.ours.workspaces().await.expect("a list"),
        ["default", "dev"]
    );
}

async fn terraform_is_kept_out_by_our_lock_and_can_release_it(bench: Bench) {
    bench.pair.terraform.apply("before").await;
    let before = bench.raw.object(&bench.key).await;
    // An id in the form that Terraform makes; its force-unlock takes any.
    let id = uuid::Uuid::new_v4().to_string();
    let held = bench.pair.lock("default", &id).await;
    let stored = record(&bench.site, &id, &bench.key);
    bench.assert_records("default", &stored).await;

    let refused = bench.terraform_refused_to_apply().await;
    assert!(
        refused.contains(&id),
        "the holder's id is not shown: {refused}"
    );
    assert!(
        refused.contains("tester@bench"),
        "the holder is not shown: {refused}"
    );
    assert_eq!(bench.raw.object(&bench.key).await, before);
    bench.assert_records("default", &stored).await;

    let wrong = bench
        .pair
        .terraform
        .refused(&["force-unlock", "-force", "another-id"])
        .await;
    assert!(wrong.contains("does not match"), "{wrong}");
    bench.assert_records("default", &stored).await;
    bench
        .pair
        .terraform
        .ok(&["force-unlock", "-force", &id])
        .await;
    bench.assert_free("default").await;

    let lost = bench
        .pair
        .ours
        .unlock("default", &UnlockBy::Held(held))
        .await
        .expect_err("it is gone");
    assert_eq!(lost.code(), Some(ErrorCode::LockMismatch));
    bench.pair.terraform.apply("after").await;
}

async fn we_are_kept_out_by_terraforms_lock_and_can_release_it(bench: Bench) {
    let apply = bench.start_apply_that_holds_its_lock().await;
    let error = bench
        .pair
        .ours
        .lock("default", &info("me"))
        .await
        .expect_err("Terraform holds the lock");
    assert_eq!(error.code(), Some(ErrorCode::Locked), "{error:?}");
    let error = error.store().expect("an error of the backend");
    let refused_by = error.holders[0].info.clone().expect("a readable record");
    assert_eq!(refused_by.operation, "OperationTypeApply");
    assert_eq!(refused_by.version, "1.11.4");
    assert_eq!(refused_by.path, bench.site.lock_id(&bench.key, "default"));
    assert!(error.message.contains(&refused_by.id), "{error:?}");
    assert!(error.message.contains(&refused_by.who), "{error:?}");

    let holders = bench
        .pair
        .ours
        .holders("default")
        .await
        .expect("the holders");
    assert_eq!(holders.len(), bench.records("default").await.len());
    for (holder, record) in holders.iter().zip(bench.records("default").await) {
        assert_eq!(holder.info.as_ref(), Some(&refused_by));
        let record = record.expect("Terraform holds the lock in each place");
        assert!(record.contains(&refused_by.id));
    }

    let wrong = bench
        .pair
        .ours
        .unlock("default", &UnlockBy::Id("another-id".to_owned()))
        .await
        .expect_err("it has another id");
    assert_eq!(wrong.code(), Some(ErrorCode::LockMismatch), "{wrong:?}");
    bench
        .pair
        .ours
        .unlock("default", &UnlockBy::Id(refused_by.id))
        .await
        .expect("the lock is released by its id");
    bench.assert_free("default").await;
    assert!(bench.pair.warnings.take().is_empty());

    let mine = bench.pair.lock("default", "me").await;
    bench.pair.terraform.write("go", "");
    let run = finish(apply).await;
    assert!(
        run.text().contains("Error releasing the state lock"),
        "{}",
        run.text()
    );
    for record in bench.records("default").await {
        let record = record.expect("Terraform released our lock");
        assert!(record.contains("\"ID\":\"me\""), "{record}");
    }
    bench.pair.unlock("default", mine).await;
}

/// OpenTofu releases a lock in DynamoDB only if it is so, byte for byte.
async fn our_record_is_what_go_would_write(bench: Bench) {
    let asked = LockInfo {
        operation: "<b>&amp;".to_owned(),
        info: "\"tab\t\" \\ \n\r \u{1} \u{8} \u{c} \u{2028} \u{7f} /é𝄞".to_owned(),
        who: "tester@".to_owned(),
        version: String::new(),
        created: "2026-11-23T02:25:24.140000000+01:00".to_owned(),
        ..info("me")
    };
    bench
        .pair
        .ours
        .lock("default", &asked)
        .await
        .expect("the lock is free");
    for record in bench.records("default").await {
        let record = record.expect("a record in each place");
        assert_eq!(go::rewritten(&record), record);
    }
    let Some(table) = &bench.table else {
        return;
    };
    let lock_id = bench.site.lock_id(&bench.key, "default");
    let record = table.record(&lock_id).await.expect("an item");
    let other = record.replace("tester@", "tester@b");
    let refused = table.delete_lock(&lock_id, &other).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{refused:?}");
    table
        .delete_lock(&lock_id, &go::rewritten(&record))
        .await
        .expect_success("release the lock as OpenTofu does");
    assert_eq!(table.record(&lock_id).await, None);
}

async fn a_workspace_that_either_deletes_leaves_nothing(bench: Bench) {
    let terraform = &bench.pair.terraform;
    for by_us in [true, false] {
        terraform.ok(&["workspace", "new", "gone"]).await;
        terraform.apply("in its workspace").await;
        terraform.ok(&["workspace", "select", "default"]).await;
        if by_us {
            let (_, revision) = bench.pair.read("gone").await.expect("a state");
            let held = bench.pair.lock("gone", "deleter").await;
            let options = DeleteOptions {
                expect: Expectation::Revision(revision),
                lock: Some(held.clone()),
            };
            bench
                .pair
                .ours
                .delete("gone", &options)
                .await
                .expect("the workspace is deleted");
            bench.pair.unlock("gone", held).await;
        } else {
            terraform
                .ok(&["workspace", "delete", "-force", "gone"])
                .await;
        }
        assert_eq!(bench.raw.object(&bench.state_key("gone")).await, None);
        if let Some(table) = &bench.table {
            let lock_id = bench.site.lock_id(&bench.key, "gone");
            assert_eq!(table.digest(&lock_id).await, None, "by us: {by_us}");
        }
        bench.assert_free("gone").await;
        assert_eq!(bench.pair.read("gone").await, None);
        let listed = terraform.ok(&["workspace", "list"]).await;
        assert!(!listed.contains("gone"), "{listed}");
    }
}

async fn a_missing_digest_stops_nobody(bench: Bench) {
    let terraform = &bench.pair.terraform;
    terraform.apply("before").await;
    let lock_id = bench.site.lock_id(&bench.key, "default");
    bench
        .table()
        .delete(&format!("{lock_id}-md5"))
        .await
        .expect_success("delete the digest");
    let output = terraform.ok(&["output", "-raw", "value"]).await;
    assert_eq!(output, "before");
    let mine = bench.pair.rewrite("default", "before", "after").await;
    bench.assert_stored("default", &mine).await;
    let output = terraform.ok(&["output", "-raw", "value"]).await;
    assert_eq!(output, "after");
}

/// Each reads again for 10 seconds before it gives up.
async fn a_digest_of_another_state_stops_both_in_the_same_words(bench: Bench) {
    bench.pair.terraform.apply("before").await;
    let lock_id = bench.site.lock_id(&bench.key, "default");
    let stale = "0123456789abcdef0123456789abcdef";
    bench
        .table()
        .put_digest(&lock_id, stale)
        .await
        .expect_success("record a digest");
    let (theirs, ours) = tokio::join!(
        bench.pair.terraform.refused(&["state", "pull"]),
        bench.pair.ours.read("default", None),
    );
    let ours = ours.expect_err("the digest is of another state");
    assert_eq!(ours.code(), Some(ErrorCode::DigestMismatch), "{ours:?}");
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let ours = words(&ours.store().expect("an error of the backend").message);
    let stored = bench.raw.object(&bench.key).await.expect("a state");
    for text in [&theirs, &ours] {
        for fact in [stale, &digest_of(&stored), &bench.key, &bench.site.bucket] {
            assert!(text.contains(fact), "{fact} is missing: {text}");
        }
    }
    let start = theirs
        .find("state data in S3")
        .expect("Terraform's words for it");
    let theirs = &theirs[start..];
    assert!(ours.contains(theirs), "ours: {ours}\ntheirs: {theirs}");
}

async fn clients_with_one_lock_and_with_both_exclude_each_other(bench: Bench) {
    for one in [Locking::DynamoDb, Locking::LockFile] {
        let block = bench.site.block_with(&bench.key, one);
        let with_one = open(&block, &[], Warnings::default()).await;
        let held = with_one
            .lock("default", &info("one"))
            .await
            .expect("the lock is free");
        let refused = bench.terraform_refused_to_apply().await;
        assert!(refused.contains("tester@bench"), "{one:?}: {refused}");
        let error = bench
            .pair
            .ours
            .lock("default", &info("both"))
            .await
            .expect_err("it is held in one place");
        assert_eq!(error.code(), Some(ErrorCode::Locked), "{error:?}");
        // Neither left a part of its own lock behind.
        let records = bench.records("default").await;
        assert_eq!(records.iter().flatten().count(), 1, "{one:?}: {records:?}");
        with_one
            .unlock("default", &UnlockBy::Held(held))
            .await
            .expect("its lock is its own");

        let held = bench.pair.lock("default", "both").await;
        let error = with_one
            .lock("default", &info("one"))
            .await
            .expect_err("it is held in both places");
        assert_eq!(error.code(), Some(ErrorCode::Locked), "{error:?}");
        bench.pair.unlock("default", held).await;
        bench.assert_free("default").await;
    }
}

async fn half_of_our_lock_is_released_and_reported(bench: Bench) {
    for half in [Half::File, Half::Item] {
        let held = bench.pair.lock("default", "me").await;
        bench.remove(half).await;
        let error = bench
            .pair
            .ours
            .unlock("default", &UnlockBy::Held(held))
            .await
            .expect_err("a part of it is gone");
        assert_eq!(error.code(), Some(ErrorCode::LockMismatch), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("Nothing is locked any more"), "{text}");
        assert!(text.contains(&half.shown(&bench)), "{text}");
        bench.assert_free("default").await;
    }
    bench.pair.terraform.apply("after").await;
}

async fn half_of_terraforms_lock_is_released_and_reported(bench: Bench) {
    for (half, words) in [
        (Half::File, "failed to unlock S3"),
        (Half::Item, "failed to unlock DynamoDB"),
    ] {
        let apply = bench.start_apply_that_holds_its_lock().await;
        bench.remove(half).await;
        // What is left keeps us out all the same.
        let error = bench
            .pair
            .ours
            .lock("default", &info("me"))
            .await
            .expect_err("half a lock is one");
        assert_eq!(error.code(), Some(ErrorCode::Locked), "{error:?}");
        bench.pair.terraform.write("go", "");
        let text = finish(apply).await.text();
        assert!(text.contains("Error releasing the state lock"), "{text}");
        assert!(text.contains(words), "{text}");
        bench.assert_free("default").await;
        let held = bench.pair.lock("default", "me").await;
        bench.pair.unlock("default", held).await;
    }
}

/// Whoever held it ended between the first place and the second, or between the releases of both.
async fn half_a_lock_of_the_dead_can_be_broken(bench: Bench) {
    let id = uuid::Uuid::new_v4().to_string();
    for half in [Half::File, Half::Item] {
        bench.pair.lock("default", &id).await;
        bench.remove(half).await;
        // Terraform releases the rest, and reports failure.
        let refused = bench
            .pair
            .terraform
            .refused(&["force-unlock", "-force", &id])
            .await;
        assert!(refused.contains("Failed to unlock state"), "{refused}");
        bench.assert_free("default").await;

        bench.pair.lock("default", &id).await;
        bench.remove(half).await;
        let holders = bench
            .pair
            .ours
            .holders("default")
            .await
            .expect("the holders");
        assert_eq!(holders.len(), 1);
        bench.pair.warnings.take();
        bench
            .pair
            .ours
            .unlock("default", &UnlockBy::Id(id.clone()))
            .await
            .expect("the rest is released");
        let warnings = bench.pair.warnings.take();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let detail = &warnings[0].detail;
        assert!(detail.contains("Nothing is locked any more"), "{detail}");
        assert!(detail.contains(&half.shown(&bench)), "{detail}");
        bench.assert_free("default").await;
    }
}

/// A server's make.
#[derive(Clone, Copy)]
enum Kind {
    /// Beside an embedded store.
    Dynalite,
    EmbeddedStore,
    Ministack,
    Moto,
}

impl Kind {
    const ALL: [Self; 4] = [
        Self::Dynalite,
        Self::EmbeddedStore,
        Self::Ministack,
        Self::Moto,
    ];

    fn serves(self, locking: Locking) -> bool {
        !matches!(self, Self::Dynalite) || locking.has_item()
    }

    fn name(self) -> &'static str {
        match self {
            Self::Dynalite => "dynalite",
            Self::EmbeddedStore => "embedded_store",
            Self::Ministack => "ministack",
            Self::Moto => "moto",
        }
    }
}

/// Those that serve all tests, each under a key of its own. They start when they are first asked for.
#[derive(Default)]
struct Servers {
    dynalite: OnceCell<Option<Server>>,
    ministack: OnceCell<Option<Server>>,
    moto: OnceCell<Option<Server>>,
}

/// One of the places of a lock in both.
#[derive(Clone, Copy)]
enum Half {
    File,
    Item,
}

impl Half {
    /// How our messages name it.
    fn shown(self, bench: &Bench) -> String {
        match self {
            Self::File => format!("s3://{}/{}.tflock", bench.site.bucket, bench.key),
            Self::Item => bench.site.table().name.clone(),
        }
    }
}

/// Both programs, on one bucket and one table.
struct Bench {
    pair: Pair,
    raw: RawS3,
    /// None: the lock file alone is used, and no digests.
    table: Option<RawDynamoDb>,
    site: Site,
    key: String,
    locking: Locking,
    _embedded_store: Option<DevStore>,
}

impl Bench {
    async fn new(kind: Kind, servers: &Servers, case: &str, locking: Locking) -> Option<Self> {
        let mut embedded_store = None;
        let mut embed = async || {
            let server = DevStore::builder().start().await.expect("it starts");
            let site = Site::of(&server);
            embedded_store = Some(server);
            site
        };
        let site = match kind {
            Kind::Dynalite => {
                let server = servers.dynalite.get_or_init(Dynalite::start).await;
                Site {
                    dynamodb: server.as_ref()?.site().dynamodb.clone(),
                    ..embed().await
                }
            }
            Kind::EmbeddedStore => embed().await,
            Kind::Ministack => {
                let server = servers.ministack.get_or_init(Ministack::start).await;
                server.as_ref()?.site().clone()
            }
            Kind::Moto => {
                let server = servers.moto.get_or_init(Moto::start).await;
                server.as_ref()?.site().clone()
            }
        };
        let key = format!("{case}/{}/terraform.tfstate", locking.name());
        let block = site.block_with(&key, locking);
        Some(Self {
            pair: Pair::new(&block).await?,
            raw: RawS3::new(&site),
            table: locking.has_item().then(|| RawDynamoDb::new(&site)),
            site,
            key,
            locking,
            _embedded_store: embedded_store,
        })
    }

    fn table(&self) -> &RawDynamoDb {
        self.table.as_ref().expect("a lock in the table")
    }

    fn state_key(&self, workspace: &str) -> String {
        self.site.state_key(&self.key, workspace)
    }

    /// What stands in each place of the lock, the file first.
    async fn records(&self, workspace: &str) -> Vec<Option<String>> {
        let mut records = Vec::new();
        if self.locking.has_file() {
            let file = format!("{}.tflock", self.state_key(workspace));
            let record = self.raw.object(&file).await;
            records.push(record.map(|it| String::from_utf8_lossy(&it).into_owned()));
        }
        if let Some(table) = &self.table {
            let lock_id = self.site.lock_id(&self.key, workspace);
            records.push(table.record(&lock_id).await);
        }
        records
    }

    async fn assert_records(&self, workspace: &str, record: &str) {
        for found in self.records(workspace).await {
            assert_eq!(found.as_deref(), Some(record));
        }
    }

    async fn assert_free(&self, workspace: &str) {
        for found in self.records(workspace).await {
            assert_eq!(found, None, "something is left of a lock");
        }
    }

    /// The state is stored so, and its digest with it.
    async fn assert_stored(&self, workspace: &str, bytes: &[u8]) {
        let stored = self.raw.object(&self.state_key(workspace)).await;
        assert_eq!(stored.as_deref(), Some(bytes));
        if let Some(table) = &self.table {
            let digest = table.digest(&self.site.lock_id(&self.key, workspace)).await;
            assert_eq!(digest, Some(digest_of(bytes)));
        }
    }

    /// Removes a part of the lock of `default` behind its holder's back.
    async fn remove(&self, half: Half) {
        let answer = match half {
            Half::File => self.raw.delete(&format!("{}.tflock", self.key)).await,
            Half::Item => {
                let lock_id = self.site.lock_id(&self.key, "default");
                self.table().delete(&lock_id).await
            }
        };
        answer.expect_success("remove a part of the lock");
    }

    async fn terraform_refused_to_apply(&self) -> String {
        let refused = self
            .pair
            .terraform
            .refused(&["apply", "-auto-approve", "-no-color", "-var=value=x"])
            .await;
        assert!(
            refused.contains("Error acquiring the state lock"),
            "{refused}"
        );
        refused
    }

    /// An apply that holds its lock until the file `go` is there.
    async fn start_apply_that_holds_its_lock(&self) -> tokio::process::Child {
        for left in ["started", "go"] {
            let path = self.pair.terraform.directory().join(left);
            if path.exists() {
                std::fs::remove_file(path).expect("a file is removed");
            }
        }
        self.pair.terraform.write(
            "main.tf",
            &HELD.replace("NAME", &uuid::Uuid::new_v4().to_string()),
        );
        let mut apply = self
            .pair
            .terraform
            .start(&["apply", "-auto-approve", "-no-color"]);
        let started = self.pair.terraform.directory().join("started");
        while !started.exists() {
            let ended = apply.try_wait().expect("the command can be looked at");
            assert!(ended.is_none(), "{:?}", finish(apply).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        apply
    }
}

/// A resource that is made anew in each apply, and slowly.
const HELD: &str = r#"
resource "terraform_data" "held" {
  triggers_replace = "NAME"

  provisioner "local-exec" {
    command = "touch started; until [ -e go ]; do sleep 0.05; done"
  }
}
"#;
