//! The component in another runtime than ours: transpiled with jco, run by Node (`tests/jco/test.mjs`).
//! What leans on wasmtime, or on more of the machine than the contract names, shows here.
//!
//! `COFFERDAM_COMPONENT` names another component to run (`tests/cargo-component.sh`).

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use cofferdam::dev_store::DevStore;
use cofferdam_tests::tools;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn the_component_serves_a_node_program() {
    let Some(node) = tools::find("node", "COFFERDAM_NODE", "") else {
        return;
    };
    let jco = "jco (npm ci --prefix tests/jco)";
    if tools::find(jco, "COFFERDAM_JCO", "tests/jco/node_modules/.bin/jco").is_none() {
        return;
    }
    let server = DevStore::builder()
        .start()
        .await
        .expect("the embedded store starts");
    // Not text, and too much for one chunk: the backend does not look into a state.
    let state: Vec<u8> = (0..3_u32 << 20).map(|n| (n * 31 % 251) as u8).collect();
    let digest: String = Sha256::digest(&state)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let size = state.len();
    server
        .put_object("env:/kept/app.tfstate", state)
        .expect("the store takes an object");
    let block = server.backend_block("app.tfstate").to_string();

    let Output {
        status,
        stdout,
        stderr,
    } = run(&node, &block).await.expect("node runs");
    let (stdout, stderr) = (
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr),
    );
    assert!(status.success(), "{status}\n{stdout}{stderr}");
    let read = format!("read: kept holds {size} bytes, SHA-256 {digest}");
    let expected = [
        "instantiated without files and sockets",
        "schema: bucket and key are required",
        "validate: the good block is good",
        "validate: the bad block lacks bucket and knows no use_lockfiles",
        "explain: bucket and endpoint, not the secret",
        "read: default is absent",
        &read,
        "read: kept is unchanged",
        "lock: taken, kept from another, released once",
        "write: stored, and fenced off a second time",
    ];
    assert_eq!(stdout.lines().collect::<Vec<_>>(), expected, "{stderr}");

    let written = server.object("app.tfstate").expect("node wrote a state");
    assert_eq!(
        written,
        br#"{"serial": 1, "written": "by node"}"#.as_slice()
    );
    let locks = server.history("app.tfstate.tflock");
    let taken: Vec<bool> = locks
        .iter()
        .map(|generation| generation.body.is_some())
        .collect();
    assert_eq!(
        taken,
        [true, false, true, false],
        "two locks were taken and released: {locks:?}"
    );
}

/// Runs the Node program and waits for its end, which a thread of its WASI must not hold up.
async fn run(node: &Path, block: &str) -> io::Result<Output> {
    let transpiled = tempfile::tempdir()?;
    let component =
        env::var_os("COFFERDAM_COMPONENT").map_or_else(tools::component_path, PathBuf::from);
    let mut child = Command::new(node)
        .arg(tools::workspace_root().join("tests/jco/test.mjs"))
        .arg(component)
        .arg(transpiled.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    // On standard input, which nobody else can see: the block holds a secret.
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(block.as_bytes()).await?;
    }
    tokio::time::timeout(Duration::from_secs(300), child.wait_with_output()).await?
}
