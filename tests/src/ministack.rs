//! ministack: an S3 server that is not ours, with AWS's error codes and with signature checks on.
//!
//! What works on the embedded store alone may only show that two halves of one misunderstanding fit.

use std::fs::File;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{RawS3, Site, tools};

/// How long a start may take before it counts as failed. It takes half a second on an idle machine.
const START: Duration = Duration::from_secs(60);

/// A running server. It ends when this is dropped.
#[derive(Debug)]
pub struct Ministack {
    site: Site,
    _process: Child,
    directory: TempDir,
}

impl Ministack {
    /// Starts one with a bucket, and with a user who may do everything in S3. `None`, and a line that says
    /// so, where it is not installed: `pip install ministack==1.5.33` in `.venv` makes it so.
    pub async fn start() -> Option<Self> {
        let program = tools::find("ministack", "COFFERDAM_MINISTACK", ".venv/bin/ministack")?;
        let directory = tempfile::tempdir().expect("a directory");
        let log = File::create(directory.path().join("log")).expect("a log file");
        let port = free_port();
        let process = Command::new(program)
            .current_dir(directory.path())
            .env("BIND_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port.to_string())
            .env("AUTH", "true")
            .env("SFTP_ENABLED", "0")
            .env("IOT_MTLS_ENABLED", "0")
            .env("SERVICES", "s3,sts,iam")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("ministack starts");
        let mut ministack = Self {
            site: root(port),
            _process: process,
            directory,
        };
        ministack.wait_until_it_listens(port).await;
        ministack.create_user().await;
        Some(ministack)
    }

    /// The bucket and the user's key.
    pub fn site(&self) -> &Site {
        &self.site
    }

    async fn wait_until_it_listens(&self, port: u16) {
        let listening = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .is_err()
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(START, listening).await.is_err() {
            let log =
                std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            panic!("ministack does not listen on port {port}:\n{log}");
        }
    }

    /// The root key is let in without a look at its signature, so that tests with it would prove nothing.
    async fn create_user(&mut self) {
        let root = RawS3::new(&self.site);
        let policy = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%7B%22Effect%22%3A%22Allow%22\
                      %2C%22Action%22%3A%22s3%3A%2A%22%2C%22Resource%22%3A%22%2A%22%7D%5D%7D";
        let call = async |action: &str| {
            let form = format!("Version=2010-05-08&UserName=tester&Action={action}");
            root.query("iam", &form)
                .await
                .expect_success("a call of IAM")
        };
        call("CreateUser").await;
        call(&format!(
            "PutUserPolicy&PolicyName=all-of-s3&PolicyDocument={policy}"
        ))
        .await;
        let key = call("CreateAccessKey").await;
        let key = String::from_utf8_lossy(&key);
        self.site.access_key_id = element(&key, "AccessKeyId");
        self.site.secret_access_key = element(&key, "SecretAccessKey");
        RawS3::new(&self.site)
            .create_bucket()
            .await
            .expect_success("make the bucket");
    }
}

fn root(port: u16) -> Site {
    Site {
        name: "ministack",
        url: format!("http://127.0.0.1:{port}"),
        bucket: "states".to_owned(),
        region: "us-east-1".to_owned(),
        access_key_id: "test".to_owned(),
        secret_access_key: "test".to_owned(),
        workspace_key_prefix: "workspaces",
    }
}

/// A port that nobody listens on. Another process may take it before ministack does; then the start fails,
/// and says so.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// The text of the first element with this name.
fn element(xml: &str, name: &str) -> String {
    let (_, rest) = xml
        .split_once(&format!("<{name}>"))
        .unwrap_or_else(|| panic!("no {name} in {xml}"));
    let (text, _) = rest.split_once('<').expect("an end tag");
    text.to_owned()
}
