//! Nothing that a secret touches is printed. Every test looks after that with what it logs, if it is told to
//! (`COFFERDAM_TEST_TRACE`; see the crate `cofferdam-canaries`); here stand the tests of public types, and the proof that
//! the search finds what there is to find.

#![allow(
    clippy::unwrap_used,
    reason = "also the helpers of tests fail by panicking"
)]

use std::fmt::Debug;
use std::process::{Command, Output};
use std::sync::Arc;

use bytes::Bytes;
use cofferdam::config::BackendSources;
use cofferdam::dev_store::DevStore;
use cofferdam::gateway::{Gateway, Token};
use cofferdam::{
    AccessKey, Backend, Error, Expectation, Grant, Local, LockInfo, Proxies, Secret, StateStore,
    Store, WriteOptions, check_push,
};
use cofferdam_canaries::{self as canaries, FORMS, Patterns, Route};
use cofferdam_tests::tools;
use serde_json::{Value, json};

const KEY: &str = "app/terraform.tfstate";

/// The tests below that a run of its own is made of.
const ROUND: [&str; 3] = [
    "a_round_of_work_at_the_level_trace",
    "controls_are_planted_for_the_search",
    "no_public_type_shows_a_secret",
];

/// The whole way of a run, once more and small: tests that log into a folder, and the search in it.
#[test]
fn the_search_finds_what_is_planted_on_every_way_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .args(ROUND)
        .env("COFFERDAM_TEST_TRACE", folder.path())
        .env("COFFERDAM_LOG", "trace")
        .env("COFFERDAM_LOG_PATH", folder.path().join("commands.log"))
        .output()
        .unwrap();
    let run = printed(&output);
    assert!(output.status.success(), "{run}");
    assert!(run.contains("3 passed"), "{run}");
    std::fs::write(folder.path().join("runner.log"), &run).unwrap();

    let searched = Patterns::of_run(folder.path())
        .unwrap()
        .search(folder.path())
        .unwrap();
    assert_eq!(searched.findings, []);
    assert_eq!(searched.missing_controls(), []);
    let logged = std::fs::read_to_string(folder.path().join("commands.log")).unwrap();
    assert!(logged.contains("TRACE"), "commands log nothing");

    // A leak on any of these ways would be seen.
    let leak = canaries::encoded(canaries::SECRET_ACCESS_KEY.as_bytes());
    std::fs::write(folder.path().join("leak"), leak.join("\n")).unwrap();
    let patterns = Patterns::of_run(folder.path()).unwrap();
    let found = patterns.search(folder.path()).unwrap().findings;
    assert_eq!(found.len(), FORMS.len(), "{found:?}");
    std::fs::remove_file(folder.path().join("runner.log")).unwrap();
    let missing = patterns.search(folder.path()).unwrap().missing_controls();
    assert_eq!(missing, FORMS.map(|form| (Route::Runner, form)));
}

#[test]
fn controls_are_planted_for_the_search() {
    if canaries::folder().is_none() {
        return;
    }
    tracing::trace!(text = canaries::planted(Route::Tracing), "planted");
    log::trace!("planted: {}", canaries::planted(Route::Log));
    canaries::record(canaries::planted(Route::Recorded));
    // What goes through the harness is kept back while a test succeeds.
    let line = format!("planted: {}\n", canaries::planted(Route::Runner));
    std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
    let output = Command::new(tools::cofferdam())
        .args(["version", "--chdir"])
        .arg(canaries::planted(Route::Command))
        .output()
        .unwrap();
    assert!(!output.status.success(), "there is no such directory");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_of_work_at_the_level_trace() {
    let server = server().await;
    let store = open(block(&server)).await.unwrap();
    work(&store, state(1)).await;
    let mut block_with_token = block(&server);
    block_with_token["token"] = canaries::SESSION_TOKEN.into();
    let refused = open(block_with_token).await.unwrap();
    record(&refused.read("default", None).await);
    let directory = tempfile::tempdir().unwrap();
    let file = json!({"terraform": {"backend": {"s3": block(&server)}}}).to_string();
    std::fs::write(directory.path().join("backend.tf.json"), file).unwrap();
    std::fs::write(directory.path().join("new.tfstate"), state(9)).unwrap();
    for line in [
        "state push new.tfstate",
        "state push missing.tfstate",
        "state pull",
        "workspace list",
        "lock status",
        "state pull --backend-config secret_key=cofferdam+canary/secret-access-key+40chr+and-more",
        "state pull --backend-config token=cofferdam+canary/session-token+Z9x8==",
        "state pull --backend-config https_proxy=http://u:cofferdam-canary-proxy-password-4b1d@:x",
        "state pull --backend-config sse_customer_key=cofferdam+canary/customer-key+32",
    ] {
        let mut command = Command::new(tools::cofferdam());
        command
            .args(line.split(' '))
            .current_dir(directory.path())
            .env("XDG_CACHE_HOME", directory.path());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        canaries::record(&output.stderr);
        let shown = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(Patterns::chosen().unwrap().in_text(&shown), [], "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_public_type_shows_a_secret() {
    let server = server().await;
    let block = block(&server);
    let key = AccessKey {
        id: "AKIACANARY".to_owned(),
        secret: Secret::new(canaries::SECRET_ACCESS_KEY),
        session_token: Some(Secret::new(canaries::SESSION_TOKEN)),
        expires_at: None,
    };
    record(&key);
    let proxy = format!("http://user:{}@localhost:1", canaries::PROXY_PASSWORD);
    let proxies = Proxies::new(Some(&proxy), Some(&proxy), "").unwrap();
    record(&proxies);
    record(&Proxies::new(Some(&format!("ftp:{proxy}")), None, ""));
    let variable = ("AWS_SECRET_ACCESS_KEY", canaries::SECRET_ACCESS_KEY);
    let environment = [(variable.0.to_owned(), variable.1.to_owned())];
    record(
        &Grant::sealed()
            .credentials(key.clone())
            .proxies(proxies.clone()),
    );
    record(&Grant::local().environment(environment));
    record(&Local::new(&block));

    let backend = Backend::builder();
    record(&backend);
    let backend = backend.build().await.unwrap();
    record(&backend);
    let builder = backend.store(block.clone()).grant(Grant::local());
    record(&builder);
    let opened = builder.open().await.unwrap();
    record(&opened);
    let store = opened.store;
    record(&store);
    work(&store, state(1)).await;
    for (argument, value) in [
        ("sse_customer_key", json!(canaries::CUSTOMER_KEY)),
        ("secret_key", json!([canaries::SECRET_ACCESS_KEY])),
        ("max_retries", json!(canaries::SECRET_ACCESS_KEY)),
        ("http_proxy", json!(format!("{proxy}:x"))),
    ] {
        let mut wrong = block.clone();
        wrong[argument] = value;
        // What is no secret by its argument may be shown: `max_retries` is there to be wrong.
        let error = open(wrong).await.err();
        assert!(error.is_some(), "{argument}");
        if argument != "max_retries" {
            record(&error);
        }
    }

    let directory = tempfile::tempdir().unwrap();
    let sources = BackendSources {
        directory: directory.path().to_owned(),
        data_dir: directory.path().join(".terraform"),
        backend_config: vec![format!("secret_key={}", canaries::SECRET_ACCESS_KEY)],
    };
    record(&sources);
    record(&sources.load());
    let file = json!({"terraform": {"backend": {"s3": block}}}).to_string();
    std::fs::write(directory.path().join("backend.tf.json"), file).unwrap();
    let loaded = sources.load();
    assert!(loaded.is_ok());
    record(&loaded);

    std::fs::write(directory.path().join("token"), canaries::TOKEN).unwrap();
    let token = Token::from_file(directory.path().join("token")).unwrap();
    record(&token);
    let gateway = Gateway::builder(Arc::new(store)).token(Some(token));
    let listen = ([127, 0, 0, 1], 0).into();
    let running = gateway.listen(listen).start().await.unwrap();
    record(&running);
    record(&server);
    record(&server.requests());
    record(&server.history(KEY));
}

/// Records how a value is shown, and looks at it at once.
fn record(value: &impl Debug) {
    let shown = format!("{value:?}\n{value:#?}");
    canaries::record(&shown);
    assert_eq!(Patterns::chosen().unwrap().in_text(&shown), [], "{shown}");
}

/// What can be done with a store. All that it answers is recorded.
async fn work(store: &Store, state: Bytes) {
    let held = store.lock("default", &LockInfo::new("test")).await.unwrap();
    record(&held);
    let wrong = WriteOptions {
        expect: Expectation::Absent,
        lock: Some(held.clone()),
    };
    record(&wrong);
    record(&store.write("default", state.clone(), &wrong).await);
    let stale = store.write("default", state.clone(), &wrong).await;
    record(&stale);
    if let Err(error) = stale {
        record(&error.to_string());
    }
    record(&store.read("default", None).await);
    record(&store.holders("default").await);
    record(&store.workspaces().await);
    record(&check_push(Some(b"{"), &state, false));
    record(
        &store
            .unlock("default", &cofferdam::UnlockBy::Held(held))
            .await,
    );
}

async fn server() -> DevStore {
    DevStore::builder()
        .credentials("AKIACANARY", canaries::SECRET_ACCESS_KEY)
        .start()
        .await
        .unwrap()
}

fn block(server: &DevStore) -> Value {
    let mut block = server.backend_block(KEY);
    block["encrypt"] = true.into();
    block["sse_customer_key"] = canaries::CUSTOMER_KEY_BASE64.into();
    block
}

async fn open(block: Value) -> Result<Store, Error> {
    let backend = Backend::builder().build().await.unwrap();
    let opened = backend.store(block).grant(Grant::local()).open().await?;
    Ok(opened.store)
}

fn state(serial: u64) -> Bytes {
    json!({"version": 4, "terraform_version": "1.11.4", "serial": serial, "lineage": "l",
        "outputs": {"canary": {"value": canaries::STATE, "type": "string"}}, "resources": [], "check_results": null})
    .to_string()
    .into()
}

fn printed(output: &Output) -> String {
    let (stdout, stderr) = (&output.stdout, &output.stderr);
    format!(
        "{}\n{}",
        String::from_utf8_lossy(stdout),
        String::from_utf8_lossy(stderr)
    )
}
