//! Terraform and cofferdam on one backend block: what the tests of their interplay begin with.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cofferdam::{
    Backend, Expectation, Grant, HeldLock, Reading, Refusal, Revision, StateStore, Surroundings,
    UnlockBy, WriteOptions,
};
use serde_json::Value;

use crate::Terraform;
use crate::conformance::{Warnings, info};

/// Both programs, with the same settings.
pub struct Pair {
    /// Terraform, after its `init`.
    pub terraform: Terraform,
    /// cofferdam, in its sandbox.
    pub ours: Arc<dyn StateStore>,
    /// What `ours` warns of while it works.
    pub warnings: Warnings,
}

impl Pair {
    /// Both with this block. `None`, and a line that says so, where Terraform is not installed.
    pub async fn new(block: &Value) -> Option<Self> {
        Self::in_environment(block, &[]).await
    }

    /// Both with this block, and with these variables of the environment.
    pub async fn in_environment(block: &Value, variables: &[(&str, &str)]) -> Option<Self> {
        let mut terraform = Terraform::installed()?.with_backend("s3", block);
        for (name, value) in variables {
            terraform = terraform.with_variable(name, *value);
        }
        terraform.ok(&["init", "-no-color"]).await;
        let warnings = Warnings::default();
        Some(Self {
            terraform,
            ours: open(block, variables, warnings.clone()).await,
            warnings,
        })
    }

    /// The state and its revision, as cofferdam reads them. `None` if there is no state.
    ///
    /// # Panics
    /// If it cannot be read.
    pub async fn read(&self, workspace: &str) -> Option<(Bytes, Revision)> {
        let reading = self.ours.read(workspace, None).await;
        match reading.expect("the state is read") {
            Reading::State(state) => Some((state.bytes, state.revision)),
            _ => None,
        }
    }

    /// Takes a lock that is free, for cofferdam.
    ///
    /// # Panics
    /// If it is not.
    pub async fn lock(&self, workspace: &str, id: &str) -> HeldLock {
        let held = self.ours.lock(workspace, &info(id)).await;
        held.expect("the lock is free")
    }

    /// Releases a lock of cofferdam's.
    ///
    /// # Panics
    /// If it is not held any more.
    pub async fn unlock(&self, workspace: &str, held: HeldLock) {
        let released = self.ours.unlock(workspace, &UnlockBy::Held(held)).await;
        released.expect("the lock is ours");
    }

    /// Changes the value of the state from one text to another as cofferdam, under a lock. Answers with the bytes.
    ///
    /// # Panics
    /// If the state does not hold the one, or cannot be written.
    pub async fn rewrite(&self, workspace: &str, from: &str, to: &str) -> Bytes {
        let held = self.lock(workspace, "the-writer").await;
        let (bytes, revision) = self.read(workspace).await.expect("a state");
        let text = String::from_utf8(bytes.to_vec()).expect("a state is UTF-8");
        assert!(text.contains(from), "no {from} in the state");
        // Ten times the serial and more: a newer state.
        let text = text
            .replace(from, to)
            .replacen("\"serial\": ", "\"serial\": 1", 1);
        let bytes = Bytes::from(text);
        let options = WriteOptions {
            expect: Expectation::Revision(revision),
            lock: Some(held.clone()),
        };
        let written = self.ours.write(workspace, bytes.clone(), &options).await;
        written.expect("the state is stored");
        self.unlock(workspace, held).await;
        bytes
    }

    /// Terraform writes, cofferdam reads and writes, Terraform reads and writes, cofferdam reads; all of it in the
    /// workspace `default`.
    ///
    /// # Panics
    /// If one of them does not see what the other has written.
    pub async fn each_reads_what_the_other_wrote(&self) {
        self.terraform.apply("by-Terraform").await;
        self.rewrite("default", "by-Terraform", "by-cofferdam")
            .await;
        let output = self.terraform.ok(&["output", "-raw", "value"]).await;
        assert_eq!(output, "by-cofferdam");
        self.terraform.apply("by-Terraform-again").await;
        let (bytes, _) = self.read("default").await.expect("a state");
        assert!(String::from_utf8_lossy(&bytes).contains("by-Terraform-again"));
    }
}

/// Opens the store of a block in the sandbox, in an environment that has nothing but these variables.
///
/// # Panics
/// If the component does not load, or refuses the block.
pub async fn open(
    block: &Value,
    variables: &[(&str, &str)],
    warnings: Warnings,
) -> Arc<dyn StateStore> {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let environment = Environment(variables.collect());
    let backend = Backend::builder().build().await;
    let opened = backend
        .expect("the component loads")
        .store(block.clone())
        .grant(Grant::local().surroundings(Arc::new(environment)))
        .on_warning(move |warning| warnings.push(warning))
        .open()
        .await;
    Arc::new(opened.expect("the store opens").store)
}

/// An environment that does not depend on the machine.
struct Environment(BTreeMap<String, String>);

#[async_trait]
impl Surroundings for Environment {
    async fn variable(&self, name: &str) -> Result<Option<String>, Refusal> {
        Ok(self.0.get(name).cloned())
    }
}
