//! An unmodified Terraform keeps its state through the gateway: the one of the library, and the one that
//! `cofferdam exec` runs around a command.
//!
//! The tests of `exec` need the `cofferdam` command: `cargo build --release` makes it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "this is test code: a panic is how it reports"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cofferdam::dev_store::DevStore;
use cofferdam::gateway::{Gateway, RunningGateway, Token};
use cofferdam::{StateStore, UnlockBy};
use cofferdam_canaries as canaries;
use cofferdam_tests::component::Component;
use cofferdam_tests::conformance::{Flavour as _, Opening, info};
use cofferdam_tests::terraform::finish;
use cofferdam_tests::{Site, Terraform};
use serde_json::{Value, json};

const KEY: &str = "gateway/terraform.tfstate";
const LOCK: &str = "gateway/terraform.tfstate.tflock";

#[tokio::test(flavor = "multi_thread")]
async fn a_state_lives_its_whole_life_behind_the_gateway() {
    let bench = Bench::new().await;
    let Some(terraform) = bench.terraform("default") else {
        return;
    };
    live(&terraform, &bench.server, KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_lives_its_whole_life_under_exec() {
    let bench = Bench::new().await;
    let Some(terraform) = bench.under_exec("default") else {
        return;
    };
    live(&terraform, &bench.server, KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_lives_its_whole_life_under_exec() {
    let bench = Bench::new().await;
    let Some(terraform) = bench.under_exec("dev") else {
        return;
    };
    live(&terraform, &bench.server, &format!("env:/dev/{KEY}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workspaces_of_the_gateway_are_apart() {
    let bench = Bench::new().await;
    let (Some(first), Some(second)) = (bench.terraform("default"), bench.terraform("dev")) else {
        return;
    };
    for (terraform, value) in [(&first, "in default"), (&second, "in dev")] {
        terraform.ok(&["init", "-no-color"]).await;
        terraform.apply(value).await;
    }
    assert_eq!(first.ok(&["output", "-raw", "value"]).await, "in default");
    assert_eq!(second.ok(&["output", "-raw", "value"]).await, "in dev");
    assert_eq!(
        bench.server.keys(),
        [format!("env:/dev/{KEY}"), KEY.to_owned()]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_configuration_reads_the_outputs() {
    let bench = Bench::new().await;
    let (Some(terraform), Some(reader)) = (bench.terraform("default"), bench.terraform("reader"))
    else {
        return;
    };
    terraform.ok(&["init", "-no-color"]).await;
    terraform.apply("to be read").await;
    let data = json!({
        "data": { "terraform_remote_state": { "one": {
            "backend": "http",
            "config": bench.block("default"),
        } } },
        "output": { "seen": { "value": "${data.terraform_remote_state.one.outputs.value}" } },
    });
    reader.write("main.tf", "");
    reader.write("remote.tf.json", &data.to_string());
    reader.ok(&["init", "-no-color"]).await;
    reader.ok(&["apply", "-auto-approve", "-no-color"]).await;
    assert_eq!(reader.ok(&["output", "-raw", "seen"]).await, "to be read");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_applies_at_once_one_is_refused_or_waits_and_none_is_lost() {
    let bench = Bench::new().await;
    let (Some(first), Some(second)) = (bench.terraform("default"), bench.terraform("default"))
    else {
        return;
    };
    two_applies_at_once(&first, &second, &bench.server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_applies_at_once_under_exec_one_is_refused_or_waits_and_none_is_lost() {
    let bench = Bench::new().await;
    let (Some(first), Some(second)) = (bench.under_exec("default"), bench.under_exec("default"))
    else {
        return;
    };
    two_applies_at_once(&first, &second, &bench.server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_locking_a_state_is_written_unless_somebody_holds_the_lock() {
    let bench = Bench::new().await;
    let Some(terraform) = bench.terraform("default") else {
        return;
    };
    terraform.ok(&["init", "-no-color"]).await;
    terraform
        .ok(&[
            "apply",
            "-auto-approve",
            "-lock=false",
            "-no-color",
            "-var=value=one",
        ])
        .await;
    assert!(bench.server.history(LOCK).is_empty(), "a lock was taken");

    let held = bench
        .store
        .lock("default", &info("somebody"))
        .await
        .expect("the lock is free");
    let before = bench.server.object(KEY);
    let words = [
        "apply",
        "-auto-approve",
        "-lock=false",
        "-no-color",
        "-var=value=two",
    ];
    let refused = terraform.refused(&words).await;
    assert!(refused.contains("423"), "{refused}");
    assert_eq!(
        bench.server.object(KEY),
        before,
        "a state was written under somebody's lock"
    );
    bench
        .store
        .unlock("default", &UnlockBy::Held(held))
        .await
        .expect("the lock is still there");
    terraform.ok(&words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_left_lock_is_broken_by_force_unlock_where_that_is_allowed() {
    let bench = Bench::new().await;
    let Some(terraform) = bench.terraform("default") else {
        return;
    };
    terraform.ok(&["init", "-no-color"]).await;
    bench
        .store
        .lock("default", &info("left-behind"))
        .await
        .expect("the lock is free");
    let refused = terraform
        .refused(&["apply", "-auto-approve", "-no-color"])
        .await;
    assert!(
        refused.contains("left-behind"),
        "the holder's id is not shown: {refused}"
    );
    terraform
        .ok(&["force-unlock", "-force", "left-behind"])
        .await;
    assert_eq!(bench.server.object(LOCK), None);
    terraform.apply("free again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_left_lock_stays_where_force_unlock_is_not_allowed() {
    let bench = Bench::with(|gateway| gateway.allow_force_unlock(false)).await;
    let Some(terraform) = bench.terraform("default") else {
        return;
    };
    terraform.ok(&["init", "-no-color"]).await;
    bench
        .store
        .lock("default", &info("left-behind"))
        .await
        .expect("the lock is free");
    let refused = terraform
        .refused(&["force-unlock", "-force", "left-behind"])
        .await;
    assert!(refused.contains("409"), "{refused}");
    assert!(bench.server.object(LOCK).is_some(), "the lock was broken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_sees_nothing() {
    let bench = Bench::new().await;
    let Some(terraform) = bench.terraform("default") else {
        return;
    };
    let mut block = bench.block("default");
    block["password"] = "guessed".into();
    terraform.set_backend("http", &block);
    // `init` itself asks for the state.
    let refused = terraform.refused(&["init", "-no-color"]).await;
    assert!(refused.contains("auth"), "{refused}");
    assert!(
        bench.server.requests().is_empty(),
        "the store was asked for a stranger"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_moves_from_s3_to_the_gateway_and_back() {
    let bench = Bench::new().await;
    let Some(terraform) = bench.terraform("default") else {
        return;
    };
    let site = Site::of(&bench.server);
    let (from, back) = ("old/terraform.tfstate", "new/terraform.tfstate");
    terraform.set_backend("s3", &site.block(from));
    terraform.ok(&["init", "-no-color"]).await;
    terraform.apply("on the move").await;
    // A migration gives the state a new lineage and serial; what it tells of the world stays.
    let id = resource_id(&bench.server, from);

    terraform.set_backend("http", &bench.block("default"));
    terraform
        .ok(&["init", "-migrate-state", "-force-copy", "-no-color"])
        .await;
    assert_eq!(resource_id(&bench.server, KEY), id);
    assert_eq!(
        terraform.ok(&["output", "-raw", "value"]).await,
        "on the move"
    );
    terraform.apply("behind the gateway").await;

    terraform.set_backend("s3", &site.block(back));
    terraform
        .ok(&["init", "-migrate-state", "-force-copy", "-no-color"])
        .await;
    assert_eq!(resource_id(&bench.server, back), id);
    assert_eq!(
        terraform.ok(&["output", "-raw", "value"]).await,
        "behind the gateway"
    );
    assert_eq!(
        locks(&bench.server),
        Vec::<String>::new(),
        "locks were left"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_passes_on_the_exit_code() {
    let bench = Bench::new().await;
    let Some(terraform) = bench.under_exec("default") else {
        return;
    };
    terraform.ok(&["init", "-no-color"]).await;
    let run = terraform
        .run(&["plan", "-detailed-exitcode", "-no-color"])
        .await;
    assert_eq!(run.status.code(), Some(2), "{}", run.text());
}

/// Everything that people do with a state, in one go.
async fn live(terraform: &Terraform, server: &DevStore, key: &str) {
    let lock_key = format!("{key}.tflock");
    let generations = || server.history(key).len();
    let text = || String::from_utf8_lossy(&server.object(key).unwrap_or_default()).into_owned();

    terraform.ok(&["init", "-no-color"]).await;
    terraform.ok(&["plan", "-no-color"]).await;
    assert_eq!(generations(), 0, "a plan wrote a state");
    terraform.apply("first").await;
    assert!(text().contains("first"));
    terraform.apply("second").await;
    let stored = generations();
    assert_eq!(stored, 2);

    let again = terraform.apply("second").await;
    assert!(again.contains("No changes"), "{again}");
    assert_eq!(
        generations(),
        stored,
        "an apply without a change wrote a state"
    );
    assert_eq!(terraform.ok(&["output", "-raw", "value"]).await, "second");
    assert_eq!(
        terraform.ok(&["state", "list"]).await.trim(),
        "terraform_data.one"
    );

    terraform
        .ok(&["state", "mv", "terraform_data.one", "terraform_data.two"])
        .await;
    assert_eq!(
        terraform.ok(&["state", "list"]).await.trim(),
        "terraform_data.two"
    );
    let pulled = terraform.ok(&["state", "pull"]).await;
    let pulled = pulled
        .strip_suffix('\n')
        .expect("Terraform ends the line once more");
    assert_eq!(pulled, text());
    terraform.ok(&["state", "rm", "terraform_data.two"]).await;
    assert_eq!(terraform.ok(&["state", "list"]).await.trim(), "");

    terraform.write("pulled.tfstate", pulled);
    let older = terraform
        .refused(&["state", "push", "pulled.tfstate"])
        .await;
    assert!(older.contains("serial"), "{older}");
    terraform
        .ok(&["state", "push", "-force", "pulled.tfstate"])
        .await;
    assert_eq!(
        terraform.ok(&["state", "list"]).await.trim(),
        "terraform_data.two"
    );

    terraform
        .ok(&["destroy", "-auto-approve", "-no-color"])
        .await;
    assert_eq!(terraform.ok(&["state", "list"]).await.trim(), "");

    let locks = server.history(&lock_key);
    assert!(!locks.is_empty(), "no lock was ever taken");
    assert_eq!(server.object(&lock_key), None, "a lock was left");
    let strangers: Vec<String> = server
        .requests()
        .iter()
        .filter_map(|request| request.user_agent.clone())
        .filter(|agent| agent.contains("Terraform"))
        .collect();
    assert!(
        strangers.is_empty(),
        "Terraform asked the store itself: {strangers:?}"
    );
    let unfenced: Vec<u64> = server
        .requests()
        .iter()
        .filter(|request| request.method == "PUT")
        .filter(|request| request.if_match.is_none() && request.if_none_match.is_none())
        .map(|request| request.sequence)
        .collect();
    assert!(
        unfenced.is_empty(),
        "these requests wrote without a condition: {unfenced:?}"
    );
}

/// The first holds the lock until it is told to go on; the second is refused, then waits.
async fn two_applies_at_once(first: &Terraform, second: &Terraform, server: &DevStore) {
    for terraform in [first, second] {
        terraform.ok(&["init", "-no-color"]).await;
    }
    first.write("main.tf", HELD);
    let holding = first.start(&["apply", "-auto-approve", "-no-color"]);
    wait_for(&first.directory().join("started")).await;

    let words = ["apply", "-auto-approve", "-no-color", "-var=value=second"];
    let refused = second.refused(&words).await;
    assert!(
        refused.contains("Error acquiring the state lock"),
        "{refused}"
    );

    let waiting = [&words[..], &["-lock-timeout=300s"]].concat();
    let waiting = second.start(&waiting);
    // The second has asked for the lock when the store has refused it once more.
    let refusals = || {
        let requests = server.requests();
        requests
            .iter()
            .filter(|request| request.method == "PUT" && request.status == 412)
            .count()
    };
    while refusals() < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    first.write("go", "");
    for (name, child) in [("first", holding), ("second", waiting)] {
        let run = finish(child).await;
        assert!(run.status.success(), "the {name} apply: {}", run.text());
    }

    // The second saw the first's resource: it removed it, since its configuration has another one.
    let texts: Vec<String> = server
        .history(KEY)
        .iter()
        .filter_map(|generation| generation.body.as_deref())
        .map(|body| String::from_utf8_lossy(body).into_owned())
        .collect();
    assert!(
        texts.iter().any(|text| text.contains("\"held\"")),
        "the first apply is lost"
    );
    let last = texts.last().expect("a state");
    assert!(
        last.contains("second") && !last.contains("\"held\""),
        "{last}"
    );
    assert_eq!(locks(server), Vec::<String>::new(), "locks were left");
}

/// A store, and a gateway to it.
struct Bench {
    server: DevStore,
    store: Arc<dyn StateStore>,
    gateway: RunningGateway,
    token: String,
}

impl Bench {
    async fn new() -> Self {
        Self::with(|gateway| gateway.allow_force_unlock(true)).await
    }

    async fn with(change: impl FnOnce(Gateway) -> Gateway) -> Self {
        let server = DevStore::builder()
            .start()
            .await
            .expect("the embedded store starts");
        let opening = Opening::new(Site::of(&server).block(KEY));
        let store = Component::load()
            .await
            .open(opening)
            .await
            .expect("the store opens");
        let token = Token::generate();
        let exposed = token.expose().to_owned();
        canaries::watch("a gateway's token", &exposed);
        let loopback = ([127, 0, 0, 1], 0).into();
        let gateway = Gateway::builder(Arc::clone(&store))
            .listen(loopback)
            .token(Some(token));
        let gateway = change(gateway).start().await.expect("the gateway starts");
        Self {
            server,
            store,
            gateway,
            token: exposed,
        }
    }

    /// The `http` block for a workspace.
    fn block(&self, workspace: &str) -> Value {
        let address = self.gateway.url(workspace);
        json!({
            "address": address,
            "lock_address": address,
            "unlock_address": address,
            "username": "terraform",
            "password": self.token,
            "retry_wait_min": 1,
        })
    }

    /// Terraform, pointed at the gateway of this process.
    fn terraform(&self, workspace: &str) -> Option<Terraform> {
        Some(Terraform::installed()?.with_backend("http", &self.block(workspace)))
    }

    /// Terraform, with a gateway around each command.
    fn under_exec(&self, workspace: &str) -> Option<Terraform> {
        let terraform = Terraform::installed()?;
        let block = terraform.directory().join("store.tfbackend.json");
        std::fs::write(&block, Site::of(&self.server).block(KEY).to_string()).expect("a file");
        Some(terraform.under_exec(&block, &["--workspace", workspace]))
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

fn resource_id(server: &DevStore, key: &str) -> Value {
    let state = server
        .object(key)
        .unwrap_or_else(|| panic!("no state at {key}"));
    let state: Value = serde_json::from_slice(&state).expect("a state is JSON");
    let id = state["resources"][0]["instances"][0]["attributes"]["id"].clone();
    assert!(id.is_string(), "no resource in the state at {key}");
    id
}

fn locks(server: &DevStore) -> Vec<String> {
    server
        .keys()
        .into_iter()
        .filter(|key| key.ends_with(".tflock"))
        .collect()
}

async fn wait_for(path: &Path) {
    while !path.exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
