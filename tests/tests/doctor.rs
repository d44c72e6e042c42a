//! `cofferdam doctor` before real stores: what it says, how it ends, and that it leaves nothing behind. Stores that are
//! unsafe in the wild are among them: one that ignores conditions without a word, and one that loses races.
//!
//! They need the command: `cargo build --release` makes it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "this is test code: a panic is how it reports"
)]

use std::path::Path;
use std::time::Duration;

use cofferdam::dev_store::{DevStore, Fault, FaultRule, Misbehaviour};
use cofferdam::{Backend, CheckOutcome, Grant, Limits, ProbeOptions, ProbeReport, Tenant, Verdict};
use cofferdam_tests::servers::another_user;
use cofferdam_tests::terraform::{Run, finish};
use cofferdam_tests::{
    Locking, Ministack, Moto, RawDynamoDb, RawS3, S3rver, S3sFs, Site, Terraform, tools,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

const KEY: &str = "doctored/terraform.tfstate";

const SAFE: i32 = 0;
const UNKNOWN: i32 = 1;
const UNSAFE: i32 = 2;

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_store_is_safe_with_every_lock() {
    for locking in Locking::ALL {
        let server = DevStore::builder().start().await.expect("it starts");
        let site = Site::of(&server);
        server.put_object(KEY, "a state").expect("stored");
        let patient = Patient::new(&site, &site.block_with(KEY, locking));
        let report = patient.examine(&server, &[]).await;
        report.assert(
            SAFE,
            &[("create-on-absent", "ok"), ("one-creator-wins", "ok")],
        );
        report.says("Locking is safe here, as far as a probe can tell.");
        assert_eq!(report.json["rounds"], 8);
        assert_eq!(report.json["contenders"], 16);
        if locking.has_item() {
            report.assert(
                SAFE,
                &[("table-shape", "ok"), ("table-one-creator-wins", "ok")],
            );
        }
    }
}

/// The report of a probe of this tenant's. A probe that waits for its own requests would take a minute, and fail.
async fn probed(server: &DevStore, tenant: &Tenant, limits: Limits) -> ProbeReport {
    let backend = Backend::builder().build().await.expect("it loads");
    let block = Site::of(server).block_with(KEY, Locking::Both);
    let opening = backend.store(block).grant(Grant::local());
    let store = opening.tenant(tenant).limits(limits).open().await;
    let options = ProbeOptions::default().wall_clock(Duration::from_secs(60));
    let report = store.expect("it opens").store.probe(options).await;
    report.expect("a report")
}

#[tokio::test(flavor = "multi_thread")]
async fn with_fewer_connections_than_writers_a_probe_ends_and_calls_nothing_safe() {
    let capped = |connections| Tenant::new("t").connections(connections);
    let limited = |connections| Limits::default().connections(connections);
    for (tenant, limits, at_once) in [
        (capped(1), Limits::default(), 1),
        (capped(4), Limits::default(), 4),
        (Tenant::new("t"), limited(4), 4),
    ] {
        let server = DevStore::builder().start().await.expect("it starts");
        let report = probed(&server, &tenant, limits).await;
        assert_eq!(report.verdict, Verdict::Unknown, "{:?}", report.reasons);
        assert_eq!(report.contenders, at_once);
        assert!(
            report.reasons[0].contains("connections"),
            "{:?}",
            report.reasons
        );
        // All that it asked was answered.
        let failed = report
            .checks
            .iter()
            .find(|it| it.outcome == CheckOutcome::Failed);
        assert_eq!(failed, None);
        assert!(server.keys().is_empty(), "{:?}", server.keys());
    }

    let server = DevStore::builder().start().await.expect("it starts");
    let report = probed(&server, &capped(16), limited(16)).await;
    assert_eq!(report.verdict, Verdict::Safe, "{:?}", report.reasons);
    assert_eq!(report.contenders, 16);

    // Each finds less than it needs, and none waits for what the other one holds.
    let tenant = capped(20);
    let both = futures_util::future::join(
        probed(&server, &tenant, Limits::default()),
        probed(&server, &tenant, Limits::default()),
    );
    let (one, other) = both.await;
    assert_eq!([one.verdict, other.verdict], [Verdict::Safe; 2]);

    // What is unsafe is so with a few writers, too.
    let server = DevStore::builder().misbehave(Misbehaviour::IgnoreConditions);
    let server = server.start().await.expect("it starts");
    let report = probed(&server, &capped(2), Limits::default()).await;
    assert_eq!(report.verdict, Verdict::Unsafe, "{:?}", report.reasons);
}

#[tokio::test(flavor = "multi_thread")]
async fn ministack_is_safe_and_keeps_nothing_of_the_probe() {
    let Some(server) = Ministack::start().await else {
        return;
    };
    let site = server.site();
    let before = Contents::of(site).await;
    for locking in Locking::ALL {
        let patient = Patient::new(site, &site.block_with(KEY, locking));
        let report = patient.doctor(&[]).await;
        report.assert(
            SAFE,
            &[("one-creator-wins", "ok"), ("conditional-delete", "ok")],
        );
        assert_eq!(Contents::of(site).await, before, "{locking:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_with_versions_keeps_no_version_of_the_probe() {
    let store = DevStore::builder().versioning(true).start().await;
    let store = store.expect("it starts");
    let mut sites = vec![Site::of(&store)];
    let ministack = Ministack::start().await;
    if let Some(server) = &ministack {
        let enabled = "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                       <Status>Enabled</Status></VersioningConfiguration>";
        let raw = RawS3::new(server.site());
        raw.configure_bucket("versioning", enabled)
            .await
            .expect_success("switch versions on");
        sites.push(server.site().clone());
    }
    for site in sites {
        let raw = RawS3::new(&site);
        raw.put(KEY, "a state").await.expect_success("store it");
        let before = raw.versions().await;
        assert_eq!(before, [KEY]);
        let report = Patient::new(&site, &site.block(KEY)).doctor(&[]).await;
        report.assert(SAFE, &[("versioning", "ok"), ("create-after-delete", "ok")]);
        assert_eq!(raw.versions().await, before, "{}", site.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_is_judged_by_what_it_shows() {
    let Some(server) = Moto::start().await else {
        return;
    };
    let site = server.site();
    let before = Contents::of(site).await;
    let block = site.block_with(KEY, Locking::Both);
    // It checks and then writes: once in many hundred races two writers win, so that two probes need not agree.
    let run = Patient::new(site, &block).run(&["doctor", "-json"]).await;
    let report: Value = serde_json::from_str(&run.stdout).expect("JSON");
    let verdict = match run.status.code() {
        Some(SAFE) => "safe",
        Some(UNSAFE) => "unsafe",
        _ => panic!("{}", run.text()),
    };
    assert_eq!(report["verdict"], verdict);
    let checks = report["checks"].as_array().expect("a list");
    for check in checks.iter().filter(|check| check["outcome"] == "failed") {
        let name = check["name"].as_str().expect("a name");
        assert!(name.contains("-wins"), "only a race is lost: {check}");
    }
    assert_eq!(Contents::of(site).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_the_wild_that_ignores_conditions_is_unsafe() {
    let Some(server) = S3rver::start().await else {
        return;
    };
    let site = server.site();
    let raw = RawS3::new(site);
    let before = raw.keys().await;
    let report = Patient::new(site, &site.block(KEY)).doctor(&[]).await;
    report.assert(UNSAFE, &[("create-only-refused", "failed")]);
    report.says("silently ignores If-None-Match");
    report.says("Locking is NOT SAFE here.");
    assert_eq!(raw.keys().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_the_wild_that_loses_races_is_unsafe() {
    let Some(server) = S3sFs::start().await else {
        return;
    };
    let site = server.site();
    let raw = RawS3::new(site);
    let before = raw.keys().await;
    let patient = Patient::new(site, &site.block(KEY));
    let report = patient.doctor(&["-rounds=200"]).await;
    report.assert(
        UNSAFE,
        &[
            ("create-only-refused", "ok"),
            ("one-creator-wins", "failed"),
        ],
    );
    report.says("racy");
    assert_eq!(raw.keys().await, before);
}

/// A store that does wrong, and what is to be said about it.
struct Case {
    misbehaviour: Misbehaviour,
    locking: Locking,
    code: i32,
    check: (&'static str, &'static str),
    says: &'static str,
}

#[tokio::test(flavor = "multi_thread")]
async fn each_misbehaviour_of_a_store_is_named() {
    use Locking::{DynamoDb, LockFile};
    use Misbehaviour as M;
    let case = |misbehaviour, locking, code, check, says| Case {
        misbehaviour,
        locking,
        code,
        check,
        says,
    };
    let cases = [
        case(
            M::IgnoreConditionalDelete,
            LockFile,
            SAFE,
            ("conditional-delete", "warning"),
            "silently ignores If-Match on DELETE",
        ),
        case(
            M::IgnoreConditions,
            LockFile,
            UNSAFE,
            ("create-only-refused", "failed"),
            "silently ignores If-None-Match",
        ),
        case(
            M::IgnoreConditions,
            DynamoDb,
            UNSAFE,
            ("table-create-only-refused", "failed"),
            "silently ignores the condition of PutItem",
        ),
        case(
            M::IgnoreCreateOnly,
            LockFile,
            UNSAFE,
            ("create-only-refused", "failed"),
            "silently ignores If-None-Match",
        ),
        case(
            M::IgnoreCreateOnly,
            DynamoDb,
            SAFE,
            ("create-only-refused", "failed"),
            "The lock stands in the table, and is not affected",
        ),
        case(
            M::IgnoreIfMatch,
            LockFile,
            UNSAFE,
            ("stale-replace-refused", "failed"),
            "silently ignores If-Match and overwrites",
        ),
        case(
            M::Racy,
            LockFile,
            UNSAFE,
            ("one-creator-wins", "failed"),
            "The store is racy",
        ),
        case(
            M::Racy,
            DynamoDb,
            UNSAFE,
            ("table-one-creator-wins", "failed"),
            "is racy",
        ),
        case(
            M::RefuseChecksums,
            LockFile,
            SAFE,
            ("checksum-accepted", "failed"),
            "skip_s3_checksum = true",
        ),
        case(
            M::RefuseConditions,
            LockFile,
            UNSAFE,
            ("create-on-absent", "failed"),
            "does not know conditional writes",
        ),
        case(
            M::RefuseConditions,
            DynamoDb,
            SAFE,
            ("create-on-absent", "failed"),
            "The lock stands in the table, and is not affected",
        ),
        case(
            M::SkewClock { seconds: 120 },
            LockFile,
            SAFE,
            ("clock", "warning"),
            "s slow of the store's",
        ),
        case(
            M::SkewClock { seconds: -400 },
            LockFile,
            SAFE,
            ("clock", "failed"),
            "s fast of the store's",
        ),
        case(
            M::SkewClock { seconds: 3600 },
            LockFile,
            SAFE,
            ("clock", "failed"),
            "refuse signatures that are 15 minutes off",
        ),
        case(
            M::StaleListing,
            LockFile,
            SAFE,
            ("visible-at-once", "warning"),
            "is not listed at once",
        ),
    ];
    for case in cases {
        let server = DevStore::builder().start().await.expect("it starts");
        let site = Site::of(&server);
        let patient = Patient::new(&site, &site.block_with(KEY, case.locking));
        server.set_misbehaviour(case.misbehaviour);
        let report = patient.examine(&server, &[]).await;
        report.assert(case.code, &[case.check]);
        report.says(case.says);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_with_the_permission_and_leaves_it_open() {
    for (operation, code, locking, permission) in [
        ("PutObject", 403, Locking::LockFile, "s3:PutObject"),
        ("PutItem", 400, Locking::DynamoDb, "dynamodb:PutItem"),
        ("DeleteItem", 400, Locking::DynamoDb, "dynamodb:DeleteItem"),
    ] {
        let server = DevStore::builder().start().await.expect("it starts");
        let site = Site::of(&server);
        let patient = Patient::new(&site, &site.block_with(KEY, locking));
        let denied = match code {
            400 => "AccessDeniedException",
            _ => "AccessDenied",
        };
        server.inject(FaultRule {
            operation: Some(operation.to_owned()),
            key_ends_with: None,
            skip: 0,
            times: u32::MAX,
            fault: Fault::Status {
                status: code,
                code: denied.to_owned(),
            },
        });
        let report = patient.doctor(&[]).await;
        assert_eq!(report.code, UNKNOWN, "{}", report.words);
        report.says(permission);
        if operation != "DeleteItem" {
            assert!(server.keys().is_empty());
        }
    }
}

/// A store that loses answers now and then is slow, and safe: nobody may be told otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_only_in_trouble_is_not_called_unsafe() {
    for misbehaviour in [
        Misbehaviour::LoseAnswers { every: 5 },
        Misbehaviour::Throttle { every: 5 },
    ] {
        let server = DevStore::builder().start().await.expect("it starts");
        let site = Site::of(&server);
        let patient = Patient::new(&site, &site.block_with(KEY, Locking::Both));
        server.set_misbehaviour(misbehaviour);
        let run = patient.run(&["doctor", "-rounds=1"]).await;
        let code = run.status.code().expect("it ends by itself");
        println!("{misbehaviour}: {code}");
        assert_ne!(code, UNSAFE, "{misbehaviour}: {}", run.text());
        assert!(server.keys().is_empty(), "{}", run.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_answers_nothing_of_use_is_an_error_and_no_verdict() {
    let server = DevStore::builder().start().await.expect("it starts");
    let site = Site::of(&server);
    let patient = Patient::new(&site, &site.block(KEY));
    server.set_misbehaviour(Misbehaviour::Throttle { every: 1 });
    let run = patient.run(&["doctor"]).await;
    assert_eq!(run.status.code(), Some(UNKNOWN), "{}", run.text());
    let text = run.text();
    assert!(
        text.contains("Could not tell whether locking is safe"),
        "{text}"
    );
    assert!(text.contains("SlowDown"), "{text}");
    assert!(!patient.path().join("verdict.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_missing_or_has_another_key_is_unsafe_and_named() {
    let server = DevStore::builder().start().await.expect("it starts");
    server
        .create_table("by-id", "Id", "S")
        .expect("a table is made");
    server
        .create_table("by-number", "LockID", "N")
        .expect("a table is made");
    let site = Site::of(&server);
    for (table, says) in [
        ("absent", "absent"),
        ("by-id", "partition key Id of type S"),
        ("by-number", "partition key LockID of type N"),
    ] {
        let mut block = site.block_with(KEY, Locking::DynamoDb);
        block["dynamodb_table"] = table.into();
        let report = Patient::new(&site, &block).examine(&server, &[]).await;
        report.assert(UNSAFE, &[("table-shape", "failed")]);
        report.says(says);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_permission_is_named_and_nothing_is_called_safe() {
    let Some(server) = Ministack::start().await else {
        return;
    };
    let everything = [
        "s3:ListBucket",
        "s3:GetObject",
        "s3:PutObject",
        "s3:DeleteObject",
    ];
    for missing in ["s3:PutObject", "s3:GetObject", "s3:DeleteObject"] {
        let actions: Vec<&str> = everything.into_iter().filter(|it| *it != missing).collect();
        let policy = json!({
            "Version": "2012-10-17",
            "Statement": [{ "Effect": "Allow", "Action": actions, "Resource": "*" }],
        });
        let name = missing.replace(':', "-");
        let site = another_user(server.site(), &name, &policy).await;
        let report = Patient::new(&site, &site.block(KEY)).doctor(&[]).await;
        assert_eq!(report.code, UNKNOWN, "{missing}: {}", report.words);
        report.says(missing);
        let left = RawS3::new(server.site()).keys().await;
        if missing != "s3:DeleteObject" {
            assert_eq!(left, [""; 0], "{missing}");
        }
        // What could not be removed is named, and there is no more of it than it takes to find out.
        println!("{missing}: {left:?}");
        assert!(left.len() <= 4, "{left:?}");
        for key in left {
            assert!(report.names(&key), "{key}: {}", report.words);
            RawS3::new(server.site()).delete(&key).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_keeps_the_gateway_from_locking_until_it_is_allowed_or_mended() {
    if Terraform::installed().is_none() {
        return;
    }
    let server = DevStore::builder().start().await.expect("it starts");
    let site = Site::of(&server);
    let patient = Patient::new(&site, &site.block(KEY));
    server.set_misbehaviour(Misbehaviour::IgnoreCreateOnly);
    patient
        .examine(&server, &["-rounds=1"])
        .await
        .assert(UNSAFE, &[]);

    let apply = ["apply", "-auto-approve", "-no-color"];
    let (serving, _gateway) = patient.serve(&[]).await;
    let said = serving.refused(&apply).await;
    assert!(said.contains("Error acquiring the state lock"), "{said}");
    assert!(server.object(KEY).is_none());
    let push = ["state", "push", "state"];
    let state = json!({ "version": 4, "serial": 1, "lineage": "doctor" }).to_string();
    std::fs::write(patient.path().join("state"), state).expect("a file");
    let run = patient.run(&push).await;
    assert_eq!(run.status.code(), Some(1), "{}", run.text());
    assert!(run.text().contains("silently ignores"), "{}", run.text());
    assert!(server.keys().is_empty());

    let (serving, _gateway) = patient.serve(&["-allow-unsafe-locking"]).await;
    serving.ok(&apply).await;

    // A store that is mended is looked at again.
    server.set_misbehaviour(None);
    patient
        .examine(&server, &["-rounds=1"])
        .await
        .assert(SAFE, &[]);
    let (serving, _gateway) = patient.serve(&[]).await;
    serving.ok(&apply).await;
}

/// A store, with the directory that the command is run in. Its verdict is kept there.
struct Patient {
    directory: TempDir,
    site: Site,
}

impl Patient {
    fn new(site: &Site, block: &Value) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let configuration = json!({ "terraform": { "backend": { "s3": block } } });
        let file = directory.path().join("main.tf.json");
        std::fs::write(file, configuration.to_string()).expect("a file");
        Self {
            directory,
            site: site.clone(),
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Both forms of the report agree.
    async fn doctor(&self, options: &[&str]) -> Report {
        let words = self.run(&[&["doctor"], options].concat()).await;
        let data = self.run(&[&["doctor", "-json"], options].concat()).await;
        assert_eq!(
            words.status,
            data.status,
            "{}\n{}",
            words.text(),
            data.text()
        );
        let json: Value = serde_json::from_str(&data.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", data.text()));
        let code = words.status.code().expect("it ends by itself");
        let verdict = match code {
            SAFE => "safe",
            UNSAFE => "unsafe",
            _ => "unknown",
        };
        assert_eq!(json["verdict"], verdict, "{json:#}");
        assert_eq!(json["format_version"], "1.0", "{json:#}");
        assert_eq!(json["bucket"], self.site.bucket.as_str());
        let remembered = std::fs::read_to_string(self.path().join("verdict.json"));
        let remembered: Value =
            serde_json::from_str(&remembered.expect("a verdict is kept")).expect("JSON");
        assert_eq!(remembered["verdict"], verdict);
        Report {
            code,
            words: words.text(),
            json,
        }
    }

    /// The same in the embedded store, and nothing is left in it.
    async fn examine(&self, server: &DevStore, options: &[&str]) -> Report {
        let before = server.keys();
        let report = self.doctor(options).await;
        assert_eq!(server.keys(), before, "{}", report.words);
        for request in server.requests() {
            if request.operation == "PutItem" {
                assert_eq!(server.item(&request.key), None, "{}", request.key);
            }
        }
        report
    }

    fn start(&self, arguments: &[&str]) -> Child {
        tools::cofferdam_in(self.path())
            .args(arguments)
            .arg("-verdict=verdict.json")
            .spawn()
            .expect("the command starts")
    }

    async fn run(&self, arguments: &[&str]) -> Run {
        finish(self.start(arguments)).await
    }

    /// A gateway, and Terraform set up to use it.
    async fn serve(&self, options: &[&str]) -> (Terraform, Child) {
        let words = [&["serve", "-listen=127.0.0.1:0", "-json"], options].concat();
        let mut gateway = self.start(&words);
        let mut line = String::new();
        let stdout = gateway.stdout.take().expect("a pipe");
        let read = BufReader::new(stdout).read_line(&mut line).await;
        assert!(read.is_ok_and(|length| length > 0), "it does not listen");
        let told: Value = serde_json::from_str(&line).expect("JSON");
        let password = told["password"].as_str().expect("a password");
        let terraform = Terraform::installed()
            .expect("it was there")
            .with_backend("http", &told["backend"]["http"])
            .with_variable("TF_HTTP_PASSWORD", password);
        terraform.ok(&["init", "-no-color"]).await;
        (terraform, gateway)
    }
}

/// What the doctor said.
struct Report {
    code: i32,
    /// On one line.
    words: String,
    json: Value,
}

impl Report {
    /// It ended with this code, and these checks ended so.
    #[track_caller]
    fn assert(&self, code: i32, checks: &[(&str, &str)]) {
        assert_eq!(self.code, code, "{}", self.words);
        let all = self.json["checks"].as_array().expect("a list");
        for (name, outcome) in checks {
            let found = all.iter().find(|check| check["name"] == *name);
            let found = found.unwrap_or_else(|| panic!("no {name}: {}", self.words));
            assert_eq!(found["outcome"], *outcome, "{found:#}");
        }
    }

    /// In either form: the probe ran once for each.
    fn names(&self, key: &str) -> bool {
        self.words.contains(key) || self.json.to_string().contains(key)
    }

    #[track_caller]
    fn says(&self, text: &str) {
        assert!(
            self.words.contains(text),
            "{text:?} is missing: {}",
            self.words
        );
    }
}

/// All that a server holds.
#[derive(Debug, PartialEq)]
struct Contents {
    objects: Vec<String>,
    items: Vec<String>,
}

impl Contents {
    async fn of(site: &Site) -> Self {
        Self {
            objects: RawS3::new(site).keys().await,
            items: RawDynamoDb::new(site).keys().await,
        }
    }
}
