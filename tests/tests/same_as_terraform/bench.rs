//! A case, and both programs in it: the same files, the same environment, the same block.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use cofferdam_canaries as canaries;
use cofferdam_tests::credential_services::{CredentialServices, Keys, Operation, Reply};
use cofferdam_tests::interceptor::Interceptor;
use cofferdam_tests::{Terraform, tools};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use super::outcome::Outcome;

/// The longest that one command may take: it would be a bug of the case.
const PATIENCE: Duration = Duration::from_secs(60);

/// Something that can be configured. In all texts `{dir}` stands for the directory of the case, `{stub}` for the URL of
/// the services, and `{secret}` for a secret access key.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: &'static str,
    pub block: Value,
    pub environment: Vec<(&'static str, String)>,
    pub files: Vec<(&'static str, String)>,
    pub services: fn(&CredentialServices),
    /// Whether it is about how often a request is tried.
    pub counts: bool,
}

/// What differs, and why.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Difference {
    /// What is done: why.
    Outcome(&'static str),
    /// How it is refused. Both give this cause; why the rest differs.
    Words(&'static str, &'static str),
}

/// A case with bucket, key, and a region; one attempt for each request.
pub fn case(name: &'static str) -> Case {
    Case {
        name,
        block: json!({
            "bucket": "states",
            "key": "app/terraform.tfstate",
            "region": "eu-west-1",
            "max_retries": 1,
        }),
        environment: Vec::new(),
        files: Vec::new(),
        services: |_| (),
        counts: false,
    }
}

impl Case {
    /// Sets arguments of the block; `null` takes one away.
    pub fn block(mut self, arguments: Value) -> Self {
        let Value::Object(arguments) = arguments else {
            panic!("{}: arguments are an object", self.name)
        };
        for (name, value) in arguments {
            match value {
                Value::Null => self
                    .block
                    .as_object_mut()
                    .and_then(|block| block.remove(&name)),
                value => Some(std::mem::replace(&mut self.block[name], value)),
            };
        }
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// Key and secret in the environment.
    pub fn env_keys(self, id: &str) -> Self {
        self.env("AWS_ACCESS_KEY_ID", id)
            .env("AWS_SECRET_ACCESS_KEY", "{secret}")
    }

    /// Writes a file.
    pub fn file(mut self, path: &'static str, text: &str) -> Self {
        self.files.push((path, text.to_owned()));
        self
    }

    /// Writes `~/.aws/config`.
    pub fn config(self, text: &str) -> Self {
        self.file("home/.aws/config", text)
    }

    /// Writes `~/.aws/credentials`.
    pub fn credentials(self, text: &str) -> Self {
        self.file("home/.aws/credentials", text)
    }

    /// Counts attempts.
    pub fn counting(mut self) -> Self {
        self.counts = true;
        self
    }

    /// Sets the services up.
    pub fn services(mut self, set: fn(&CredentialServices)) -> Self {
        self.services = set;
        self
    }
}

/// What both did.
#[derive(Clone, Debug)]
pub struct Both {
    pub terraform: Outcome,
    pub ours: Outcome,
}

/// Runs both programs in a case.
pub async fn run(case: &Case, terraform: &Path) -> Both {
    let services = CredentialServices::start().await;
    let keys = Keys::new("ASIASTUB", canaries::SECRET_ACCESS_KEY);
    services.hand_out(keys.with_token(canaries::SESSION_TOKEN));
    (case.services)(&services);
    let address = services.url().trim_start_matches("http://");
    let proxy = Interceptor::start(address.parse().expect("an address")).await;
    let bench = Bench {
        case,
        services,
        proxy,
        directory: tempfile::tempdir().expect("a directory"),
    };
    let ours = bench.ours().await;
    let terraform = bench.terraform(terraform, &ours).await;
    Both { terraform, ours }
}

struct Bench<'a> {
    case: &'a Case,
    services: CredentialServices,
    proxy: Interceptor,
    directory: TempDir,
}

impl Bench<'_> {
    async fn ours(&self) -> Outcome {
        self.set_up();
        let printed = self
            .printed_by(&tools::cofferdam(), &["state", "pull"])
            .await;
        canaries::record(&printed);
        self.outcome(&printed)
    }

    /// `init` tells of the block and looks for workspaces, `state pull` asks for the state.
    async fn terraform(&self, program: &Path, ours: &Outcome) -> Outcome {
        const INIT: [&str; 2] = ["init", "-input=false"];
        self.set_up();
        let mut printed = self.printed_by(program, &INIT).await;
        if !printed.contains("Error: ") {
            printed += &self.printed_by(program, &["state", "pull"]).await;
        }
        let mut outcome = self.outcome(&printed);
        if !outcome.is_refused() {
            // Terraform 1.11 swallows the warnings about a backend that it can use: one that it cannot shows them.
            self.set_up();
            let refusal = Reply::error(404, "NoSuchBucket");
            self.services.answer(Operation::S3, refusal);
            let printed = self.printed_by(program, &INIT).await;
            outcome.take_warnings(self.outcome(&printed));
        }
        outcome.spread_warnings(ours);
        outcome
    }

    /// Writes the files anew: a program may have changed them.
    fn set_up(&self) {
        self.services.clear_requests();
        self.proxy.clear();
        let block = self.filled(&self.case.block.to_string());
        let backend = format!(r#"{{"terraform":{{"backend":{{"s3":{block}}}}}}}"#);
        let fixed = [
            ("project/backend.tf.json", backend),
            ("authority.pem", self.proxy.authority().to_owned()),
            ("terraformrc", String::new()),
        ];
        let _ = std::fs::remove_dir_all(self.path("project"));
        for (path, text) in fixed.iter().chain(&self.case.files) {
            let path = self.path(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            std::fs::write(path, self.filled(text)).expect("a file");
        }
    }

    async fn printed_by(&self, program: &Path, arguments: &[&str]) -> String {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.path("project"))
            .env_clear()
            .envs(canaries::variables())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("AWS_CA_BUNDLE", self.path("authority.pem"))
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_MAX_ATTEMPTS", "1")
            .env("HTTP_PROXY", self.proxy.url())
            .env("HTTPS_PROXY", self.proxy.url())
            .env("CHECKPOINT_DISABLE", "1")
            .env("TF_CLI_CONFIG_FILE", self.path("terraformrc"))
            .env("TF_IN_AUTOMATION", "1")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        for (name, value) in &self.case.environment {
            match value.as_str() {
                "{unset}" => command.env_remove(name),
                value => command.env(name, self.filled(value)),
            };
        }
        let output = tokio::time::timeout(PATIENCE, command.output()).await;
        let output = output
            .unwrap_or_else(|_| panic!("{}: {arguments:?} does not end", self.case.name))
            .expect("the command starts");
        // Terraform's warnings go to standard output.
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut printed = text(&output.stderr);
        if program.ends_with("terraform") {
            printed = text(&output.stdout) + &printed;
        }
        let told = printed.contains("Error: ");
        let name = self.case.name;
        assert_eq!(
            told,
            !output.status.success(),
            "{name}: {arguments:?}: {printed}"
        );
        printed
    }

    fn outcome(&self, printed: &str) -> Outcome {
        let stub = self.services.url();
        let address = stub.trim_start_matches("http://");
        let directory = self.directory.path().display().to_string();
        let port = address
            .rsplit_once(':')
            .map_or("", |(_, port)| port)
            .to_owned();
        let names = [
            (stub, "http://stub"),
            (address, "stub"),
            (&format!(":{port}"), ":stub"),
            (self.proxy.url(), "http://proxy"),
            (&directory, "{dir}"),
        ];
        let tunnels = self.proxy.tunnels();
        let recorded = self.services.requests();
        Outcome::of(&recorded, &tunnels, printed, &names, self.case.counts)
    }

    fn filled(&self, text: &str) -> String {
        text.replace("{dir}", &self.directory.path().display().to_string())
            .replace("{stub}", self.services.url())
            .replace("{proxy}", self.proxy.url())
            .replace("{secret}", canaries::SECRET_ACCESS_KEY)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Where Terraform is, if it is there in the version that the cases were made with: later ones have other words.
///
/// # Panics
/// If it is another one, and everything has to be there.
pub async fn terraform() -> Option<PathBuf> {
    const VERSION: &str = "1.11.4";
    let terraform = Terraform::installed()?;
    let told = terraform.ok(&["version", "-json"]).await;
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let version = told["terraform_version"].as_str().unwrap_or_default();
    if version != VERSION {
        let required = std::env::var_os("COFFERDAM_REQUIRE_TOOLS").is_some_and(|it| it == "1");
        assert!(!required, "Terraform is {version}, not {VERSION}");
        eprintln!("skipped: Terraform is {version}, not {VERSION}");
        return None;
    }
    Some(terraform.command(&[]).as_std().get_program().into())
}
