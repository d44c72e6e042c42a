//! Credentials end to end: a person's own files and variables, services on loopback, and the component in its sandbox.
//!
//! Whose key a request was signed with is told by who received it: the log of the embedded store, or the services that
//! hand out keys.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "this is test code: a panic is how it reports"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use cofferdam::dev_store::DevStore;
use cofferdam::{Backend, Error, Grant, Reading, StateStore, Store};
use cofferdam_tests::credential_services::{CredentialServices, Keys};
use serde_json::{Value, json};
use tempfile::TempDir;

#[path = "credentials/commands.rs"]
mod commands;
#[path = "credentials/network.rs"]
mod network;
#[path = "credentials/roles.rs"]
mod roles;
#[path = "credentials/sealed.rs"]
mod sealed;
#[path = "credentials/services.rs"]
mod services;
#[path = "credentials/shared.rs"]
mod shared;

const KEY: &str = "app/terraform.tfstate";
const STATE: &[u8] = br#"{"version":4,"serial":1,"lineage":"l"}"#;
const ROLE: &str = "arn:aws:iam::123456789012:role/deploy";

/// What every secret holds, so that it is found where it must not be.
const CANARY: &str = "canary";

/// A person's machine: a home directory, a directory to work in, and variables.
struct Machine {
    root: TempDir,
    variables: BTreeMap<String, String>,
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("home/.aws/sso/cache")).unwrap();
        std::fs::create_dir_all(root.path().join("project")).unwrap();
        let machine = Self {
            root,
            variables: BTreeMap::new(),
        };
        let home = machine.path("home");
        machine
            .with("HOME", &home)
            .with("PATH", &std::env::var("PATH").unwrap())
            // No test asks the real one.
            .with("AWS_EC2_METADATA_DISABLED", "true")
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// With these lines in the shared config file.
    fn with_config(self, text: &str) -> Self {
        self.write("home/.aws/config", text);
        self
    }

    fn path(&self, path: &str) -> String {
        self.root.path().join(path).to_str().unwrap().to_owned()
    }

    fn write(&self, path: &str, content: &str) {
        std::fs::write(self.path(path), content).unwrap();
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap()
    }

    fn grant(&self) -> Grant {
        Grant::local().environment(self.variables.clone())
    }

    async fn open(&self, block: &Value) -> Result<Store, Error> {
        open(block, self.grant()).await
    }

    /// Opens, and reads the state.
    async fn try_read(&self, block: &Value) -> Result<Reading, Error> {
        self.open(block).await?.read("default", None).await
    }

    /// Why nothing is read. It repeats no secret.
    async fn refusal(&self, block: &Value) -> String {
        said(self.try_read(block).await)
    }
}

async fn open(block: &Value, grant: Grant) -> Result<Store, Error> {
    let backend = Backend::builder().build().await.unwrap();
    let opened = backend.store(block.clone()).grant(grant).open().await?;
    Ok(opened.store)
}

/// The error's words, which hold no secret.
fn said<T>(answer: Result<T, Error>) -> String {
    let Err(error) = answer else {
        panic!("it succeeded");
    };
    let debug = format!("{error:?}");
    assert!(!debug.contains(CANARY), "{debug}");
    error.to_string()
}

fn is_state(reading: &Reading) -> bool {
    matches!(reading, Reading::State(state) if state.bytes == STATE)
}

/// A store with a state in it.
async fn embedded() -> DevStore {
    let server = DevStore::builder()
        .credentials("AKIASTORE", "canary-of-the-store")
        .start()
        .await
        .unwrap();
    server.put_object(KEY, Bytes::from_static(STATE)).unwrap();
    server
}

/// A key of a role of the store, as the services hand it out.
fn key_of(server: &DevStore) -> Keys {
    Keys::of(&server.open_session("deploy", "handed-out", Duration::from_secs(7200)))
}

/// The shortest block for the embedded store: buckets and STS, and nothing skipped.
fn block(server: &DevStore) -> Value {
    json!({
        "bucket": server.bucket(),
        "key": KEY,
        "region": server.region(),
        "use_path_style": true,
        "endpoints": { "s3": server.url(), "sts": server.url() },
    })
}

/// The same, with STS elsewhere.
fn block_with_sts(server: &DevStore, services: &CredentialServices) -> Value {
    let mut block = block(server);
    block["endpoints"]["sts"] = services.url().into();
    block
}

fn with(mut block: Value, more: Value) -> Value {
    let Value::Object(more) = more else {
        panic!("arguments are an object");
    };
    block.as_object_mut().unwrap().extend(more);
    block
}

/// What the embedded store was asked, and with whose key; an id that STS made up is `role`.
fn asked(server: &DevStore) -> Vec<String> {
    let requests = server.requests();
    let line = |request: &cofferdam::dev_store::Request| {
        let id = request.access_key_id.as_deref().unwrap_or("nobody");
        let id = if id.starts_with("ASIA") { "role" } else { id };
        format!("{} by {id}", request.operation)
    };
    requests.iter().map(line).collect()
}
