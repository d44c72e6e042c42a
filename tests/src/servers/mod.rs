//! Servers that are not ours, each started for a test and ended with it.
//!
//! What works on the embedded store alone may only show that two halves of one misunderstanding fit. What each
//! of these checks, and what it gets wrong, stands in its own module.

mod dynalite;
mod ministack;
mod moto;
mod s3rver;
mod s3s_fs;

use std::fs::File;
use std::net::TcpListener;
use std::ops::Range;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cofferdam::dev_store::DevStore;
use cofferdam_canaries as canaries;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

pub use dynalite::Dynalite;
pub use ministack::Ministack;
pub use moto::Moto;
pub use s3rver::S3rver;
pub use s3s_fs::S3sFs;

use crate::{RawDynamoDb, RawS3, Site};

/// The embedded store, as it starts without further words.
///
/// # Panics
/// If it does not start.
pub async fn embedded_store() -> DevStore {
    DevStore::builder()
        .start()
        .await
        .expect("the embedded store starts")
}

/// Two tests of each of these functions of a `&Site`: one on the embedded store, one on ministack.
#[macro_export]
macro_rules! on_both_servers {
    ($($case:ident),+ $(,)?) => {
        mod embedded_store {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    let server = $crate::servers::embedded_store().await;
                    super::$case(&$crate::Site::of(&server)).await;
                }
            )+
        }

        mod ministack {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    let Some(ministack) = $crate::Ministack::start().await else { return };
                    super::$case(ministack.site()).await;
                }
            )+
        }
    };
}

/// How long a start may take before it counts as failed. The slowest takes two seconds on an idle machine.
const START: Duration = Duration::from_secs(60);

/// A running server with a bucket, and with a table where it knows DynamoDB. It ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    site: Site,
    _process: Process,
}

impl Server {
    /// Where it is, and the key that opens it.
    pub fn site(&self) -> &Site {
        &self.site
    }
}

/// A further user of a server whose root is `test`, as ministack and moto have one: the site as he sees it. `policy`
/// is the document of IAM that says what he may do.
pub async fn another_user(site: &Site, name: &str, policy: &Value) -> Site {
    let mut site = Site {
        access_key_id: "test".to_owned(),
        secret_access_key: "test".to_owned(),
        ..site.clone()
    };
    create_user(&mut site, name, policy).await;
    site
}

/// A program that listens on a port of its own.
#[derive(Debug)]
struct Process {
    port: u16,
    child: Child,
    directory: TempDir,
}

impl Process {
    /// Starts a program in a directory of its own, with what `configure` adds for the port and the directory, and
    /// waits until it listens. A port that somebody else took in between costs one of three attempts.
    async fn start(program: &Path, configure: impl Fn(&mut Command, &str, &Path)) -> Self {
        let mut problems = String::new();
        for _ in 0..3 {
            let mut process = Self::spawn(program, &configure);
            match process.wait_until_it_listens().await {
                Ok(()) => return process,
                Err(problem) => problems += &problem,
            }
        }
        panic!("{} {problems}", program.display());
    }

    fn spawn(program: &Path, configure: impl Fn(&mut Command, &str, &Path)) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let log = File::create(directory.path().join("log")).expect("a log file");
        let port = free_port();
        let mut command = Command::new(program);
        configure(&mut command, &port.to_string(), directory.path());
        let child = command
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        Self {
            port,
            child,
            directory,
        }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn wait_until_it_listens(&mut self) -> Result<(), String> {
        let port = self.port;
        let listening = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let problem = tokio::select! {
            () = listening => return Ok(()),
            ended = self.child.wait() => format!("ended: {ended:?}"),
            () = tokio::time::sleep(START) => format!("does not listen on port {port}"),
        };
        let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        Err(format!("{problem}\n{log}"))
    }
}

/// Makes a user who may do what tests do, and puts his key into the site. The key of the root user is let in
/// without a look at its signature, so that tests with it would prove nothing.
async fn create_user(site: &mut Site, name: &str, policy: &Value) {
    let policy: String = policy
        .to_string()
        .bytes()
        .map(|byte| format!("%{byte:02X}"))
        .collect();
    let root = RawS3::new(site);
    let call = async |action: &str| {
        let form = format!("Version=2010-05-08&UserName={name}&Action={action}");
        root.query("iam", &form)
            .await
            .expect_success("a call of IAM")
    };
    call("CreateUser").await;
    call(&format!(
        "PutUserPolicy&PolicyName=what-tests-do&PolicyDocument={policy}"
    ))
    .await;
    let key = call("CreateAccessKey").await;
    let key = String::from_utf8_lossy(&key);
    site.access_key_id = element(&key, "AccessKeyId");
    site.secret_access_key = element(&key, "SecretAccessKey");
    canaries::watch("a store's secret access key", &site.secret_access_key);
}

/// What most tests may do: anything.
fn everything() -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [{ "Effect": "Allow", "Action": ["dynamodb:*", "s3:*"], "Resource": "*" }],
    })
}

/// Makes the bucket of a site, and its table if it has one.
async fn create_bucket_and_table(site: &Site) {
    RawS3::new(site)
        .create_bucket()
        .await
        .expect_success("make the bucket");
    if site.dynamodb.is_some() {
        RawDynamoDb::new(site).create_table().await;
    }
}

/// A port that nobody listens on, each a new one. It lies below those that the system gives to clients: there, a
/// connection to a port that nobody listens on yet can meet itself, and a server seems to have started.
fn free_port() -> u16 {
    const PORTS: Range<u16> = 20_000..32_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    loop {
        let next = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let offset = next % u32::from(PORTS.end - PORTS.start);
        let port = PORTS.start + u16::try_from(offset).expect("less than the range");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The text of the first element with this name.
fn element(xml: &str, name: &str) -> String {
    let (_, rest) = xml
        .split_once(&format!("<{name}>"))
        .unwrap_or_else(|| panic!("no {name} in {xml}"));
    let (text, _) = rest.split_once('<').expect("an end tag");
    text.to_owned()
}
