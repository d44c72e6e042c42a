//! A project directory and the command in it, for the tests of the command line.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use cofferdam::dev_store::DevStore;
use cofferdam_canaries as canaries;
use serde_json::{Value, json};
use tempfile::TempDir;

pub const KEY: &str = "app/terraform.tfstate";
pub const LOCK: &str = "app/terraform.tfstate.tflock";

/// A project directory whose backend block names the embedded store.
pub struct Project {
    pub directory: TempDir,
    pub server: DevStore,
}

impl Project {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Value)) -> Self {
        let server = DevStore::builder().start().await.unwrap();
        canaries::watch("a store's secret access key", server.secret_access_key());
        let directory = tempfile::tempdir().unwrap();
        let mut block = server.backend_block(KEY);
        change(&mut block);
        let file = json!({"terraform": {"backend": {"s3": block}}});
        std::fs::write(directory.path().join("backend.tf.json"), file.to_string()).unwrap();
        Self { directory, server }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = cofferdam(self.directory.path());
        command.args(arguments);
        command
    }

    /// Runs it to its end; on a thread of its own, because the server lives in this one.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, "").await
    }

    pub async fn run_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.command(arguments);
        let input = input.to_owned();
        let arguments: Vec<String> = arguments.iter().copied().map(str::to_owned).collect();
        tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            // A command that reads nothing may be gone before all is written.
            let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
            let output = child.wait_with_output().unwrap();
            canaries::record(&output.stderr);
            // These print what they are asked for: a state, or how to get at one.
            if !["dev", "pull", "serve"]
                .iter()
                .any(|it| arguments.iter().any(|word| word == it))
            {
                canaries::record(&output.stdout);
            }
            output
        })
        .await
        .unwrap()
    }

    /// A file with a verdict about a bucket of the server.
    pub fn verdict(&self, bucket: &str, verdict: &str) -> String {
        let path = self
            .directory
            .path()
            .join(format!("{bucket}-{verdict}.json"));
        let record = json!({
            "format_version": "1.0", "endpoint": self.server.url(), "bucket": bucket, "dynamodb_table": null,
            "locks": ["s3"], "date": "2026-11-23T01:25:24Z", "version": "0.1.0", "component": "", "rounds": 8,
            "contenders": 16, "verdict": verdict, "reasons": ["canary reason"], "failed_checks": [],
        });
        std::fs::write(&path, record.to_string()).unwrap();
        format!("--verdict={}", path.display())
    }

    pub fn locked(&self) -> bool {
        self.server.object(LOCK).is_some()
    }

    pub fn lock_by_another(&self) {
        let record = r#"{"ID":"other","Operation":"OperationTypeApply","Info":"","Who":"bob@ci","Version":"1.11.4","Created":"2026-11-23T01:25:24.164382378Z","Path":"tfstate/app/terraform.tfstate"}"#;
        self.server.put_object(LOCK, record).unwrap();
    }
}

pub fn cofferdam(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
    command
        .current_dir(directory)
        .env_remove("TF_WORKSPACE")
        .env_remove("TF_DATA_DIR")
        .env_remove("AWS_ENDPOINT_URL")
        .env_remove("AWS_ENDPOINT_URL_S3")
        .env("XDG_CACHE_HOME", directory.join("cache"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub fn state(serial: u64, lineage: &str) -> String {
    json!({"version": 4, "terraform_version": "1.11.4", "serial": serial, "lineage": lineage,
        "outputs": {"canary": {"value": canaries::STATE, "type": "string"}}, "resources": [], "check_results": null})
    .to_string()
}
