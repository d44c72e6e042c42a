//! Commands that print credentials: whose they are decides whether they run.

use cofferdam::dev_store::DevStore;
use serde_json::{Value, json};

use super::{Machine, block, embedded, is_state, open, said, with};

/// Prints the store's key, and leaves a trace in the directory to work in.
fn command(machine: &Machine, server: &DevStore) -> String {
    let printed = json!({
        "Version": 1,
        "AccessKeyId": server.access_key_id(),
        "SecretAccessKey": server.secret_access_key(),
    });
    machine.write("project/printed", &printed.to_string());
    let (trace, file) = (machine.path("project/ran"), machine.path("project/printed"));
    format!("[default]\ncredential_process = touch {trace} && cat {file}\n")
}

fn ran(machine: &Machine) -> bool {
    std::fs::remove_file(machine.path("project/ran")).is_ok()
}

#[tokio::test]
async fn a_command_of_the_persons_own_file_is_run() {
    let server = embedded().await;
    let machine = Machine::new();
    let config = command(&machine, &server);
    let machine = machine.with_config(&config);
    assert!(is_state(&machine.try_read(&block(&server)).await.unwrap()));
    assert!(ran(&machine));
}

/// A block that brings its own shared file.
fn foreign(machine: &Machine, server: &DevStore) -> Value {
    machine.write("project/aws-config", &command(machine, server));
    let file = machine.path("project/aws-config");
    with(block(server), json!({ "shared_config_files": [file] }))
}

#[tokio::test]
async fn a_command_of_a_file_that_the_block_names_is_run_only_where_that_is_allowed() {
    let server = embedded().await;
    let machine = Machine::new();
    let block = foreign(&machine, &server);
    let text = machine.refusal(&block).await;
    for part in [
        "credential_process",
        "file that the block names",
        "~/.aws/config",
        "--allow-credential-process",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!ran(&machine));
    assert!(server.requests().is_empty());

    let allowed = machine.grant().allow_credential_process(true);
    let store = open(&block, allowed).await.unwrap();
    let reading = cofferdam::StateStore::read(&store, "default", None).await;
    assert!(is_state(&reading.unwrap()));
    assert!(ran(&machine));
}

#[tokio::test]
async fn a_command_that_fails_is_told_without_what_it_printed() {
    let server = embedded().await;
    let config = "[default]\ncredential_process = echo canary; exit 3\n";
    let machine = Machine::new().with_config(config);
    let text = said(machine.try_read(&block(&server)).await);
    assert!(
        text.contains("exit status 3") && text.contains("\"default\""),
        "{text}"
    );
    let config = "[default]\ncredential_process = echo canary\n";
    let text = said(machine.with_config(config).try_read(&block(&server)).await);
    assert!(text.contains("parse failed of process output"), "{text}");
}
