//! The real Terraform, in a directory of its own.
//!
//! Whether cofferdam speaks Terraform's protocols can only be told by Terraform. It runs with nothing but
//! its built-in `terraform_data`, so that it needs no network.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{locked_out, tools};

/// Variables that would change what a test does: where the machine that runs it has set them.
const UNSET: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_CA_BUNDLE",
    "AWS_CONFIG_FILE",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SHARED_CREDENTIALS_FILE",
    "TF_CLI_ARGS",
    "TF_CLI_CONFIG_FILE",
    "TF_DATA_DIR",
    "TF_LOG",
    "TF_WORKSPACE",
    "http_proxy",
    "https_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
];

/// The resource and the output that every test changes: `-var value=…`.
const CONFIGURATION: &str = r#"
variable "value" {
  default = "first"
}

resource "terraform_data" "one" {
  input = var.value
}

output "value" {
  value = terraform_data.one.output
}

# No log may show it.
output "canary" {
  value     = "cofferdam+canary/state+5e7a"
  sensitive = true
}
"#;

/// Where the block of the backend stands.
const BACKEND: &str = "backend.tf.json";

/// A working directory.
#[derive(Debug)]
pub struct Terraform {
    program: PathBuf,
    wrapper: Vec<OsString>,
    directory: TempDir,
    environment: Vec<(String, String)>,
}

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Run {
    /// Both outputs on one line and without colours, for assertions that must not depend on where Terraform breaks
    /// lines.
    pub fn text(&self) -> String {
        let both = format!("{}\n{}", self.stdout, self.stderr);
        let plain: String = both
            .split("\u{1b}[")
            .enumerate()
            .map(|(part, text)| match text.split_once('m') {
                Some((_, after)) if part > 0 => after,
                _ => text,
            })
            .collect();
        plain
            .replace(['│', '╷', '╵'], " ")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    }
}

impl Terraform {
    /// A new directory with one resource and an empty backend. `None`, and a line that says so, where
    /// Terraform is not installed.
    pub fn installed() -> Option<Self> {
        let program = tools::find("terraform", "COFFERDAM_TERRAFORM", ".venv/bin/terraform")?;
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("main.tf"), CONFIGURATION).expect("a configuration");
        Some(Self {
            program,
            wrapper: Vec::new(),
            directory,
            environment: Vec::new(),
        })
    }

    /// Keeps the state in this backend (`s3` or `http`) from the next `init` on.
    #[must_use]
    pub fn with_backend(self, kind: &str, block: &Value) -> Self {
        self.set_backend(kind, block);
        self
    }

    /// Runs every command as the arguments of another: `cofferdam exec --`.
    #[must_use]
    pub fn under(mut self, wrapper: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.wrapper = wrapper.into_iter().map(Into::into).collect();
        self
    }

    /// Keeps the state where the settings in this file say, through `cofferdam exec` around each command.
    #[must_use]
    pub fn under_exec(self, settings: &Path, options: &[&str]) -> Self {
        let words = [tools::cofferdam().into_os_string(), "exec".into()];
        let options = options.iter().map(OsString::from);
        let settings = ["--backend-config".into(), settings.into(), "--".into()];
        self.with_backend("http", &json!({}))
            .under(words.into_iter().chain(options).chain(settings))
    }

    /// Sets a variable for every command.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Names another backend from the next `init` on.
    pub fn set_backend(&self, kind: &str, block: &Value) {
        let text = json!({ "terraform": { "backend": { kind: block } } });
        self.write(BACKEND, &text.to_string());
    }

    /// The block of its own `s3` backend, or null.
    fn s3(&self) -> Value {
        let text = std::fs::read(self.directory.path().join(BACKEND)).unwrap_or_default();
        let file: Value = serde_json::from_slice(&text).unwrap_or_default();
        file["terraform"]["backend"]["s3"].clone()
    }

    /// Writes a file into the directory.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.directory.path().join(name), text).expect("a file in the directory");
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The command, not yet started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut words = self
            .wrapper
            .iter()
            .cloned()
            .chain([self.program.clone().into_os_string()]);
        let mut command = Command::new(words.next().expect("at least one word"));
        command
            .args(words)
            .args(arguments)
            .current_dir(self.directory.path());
        for name in UNSET {
            command.env_remove(name);
        }
        command
            .env("CHECKPOINT_DISABLE", "1")
            .env("TF_IN_AUTOMATION", "1")
            .env("TF_INPUT", "0")
            .env("HOME", self.directory.path())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Starts a command and lets it run.
    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().expect("the command starts")
    }

    /// Runs a command to its end.
    pub async fn run(&self, arguments: &[&str]) -> Run {
        finish(self.start(arguments)).await
    }

    /// Runs a command that must succeed, and answers its standard output. If it locked itself out, it is helped once.
    ///
    /// # Panics
    /// If it fails, with all that it wrote.
    pub async fn ok(&self, arguments: &[&str]) -> String {
        let begun = Timestamp::now();
        let mut run = self.run(arguments).await;
        if !run.status.success() && locked_out::break_own_lock(&run, begun, &self.s3()).await {
            run = self.run(arguments).await;
        }
        assert!(
            run.status.success(),
            "terraform {}: {}\n{}\n{}",
            arguments.join(" "),
            run.status,
            run.stdout,
            run.stderr,
        );
        run.stdout
    }

    /// Runs a command that must fail, and answers its output on one line.
    ///
    /// # Panics
    /// If it succeeds.
    pub async fn refused(&self, arguments: &[&str]) -> String {
        let run = self.run(arguments).await;
        assert!(
            !run.status.success(),
            "terraform {} went well:\n{}",
            arguments.join(" "),
            run.stdout
        );
        run.text()
    }

    /// `terraform apply` with this value of the resource.
    pub async fn apply(&self, value: &str) -> String {
        self.ok(&[
            "apply",
            "-auto-approve",
            "-no-color",
            &format!("-var=value={value}"),
        ])
        .await
    }
}

/// Waits for a command.
pub async fn finish(child: Child) -> Run {
    let output = child.wait_with_output().await.expect("the command ends");
    cofferdam_canaries::record(&output.stderr);
    Run {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
