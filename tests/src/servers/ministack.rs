//! ministack: S3 and DynamoDB with AWS's error codes, and with signature checks on. It refuses keys with a colon,
//! because it checks their signature wrongly.

use super::{Process, Server, create_bucket_and_table, create_user, everything};
use crate::{Site, site::Table, tools};

/// What `pip install -r tests/servers.txt` in `.venv` installs.
#[derive(Debug)]
pub struct Ministack;

impl Ministack {
    /// Starts one with a bucket and a table, and with a user who may do everything in both. `None`, and a line
    /// that says so, where it is not installed.
    pub async fn start() -> Option<Server> {
        let program = tools::find("ministack", "COFFERDAM_MINISTACK", ".venv/bin/ministack")?;
        let process = Process::start(&program, |command, port, _| {
            command
                .env("AUTH", "true")
                .env("BIND_HOST", "127.0.0.1")
                .env("GATEWAY_PORT", port)
                .env("IOT_MTLS_ENABLED", "0")
                .env("SERVICES", "s3,dynamodb,sts,iam")
                .env("SFTP_ENABLED", "0");
        })
        .await;
        let mut site = Site {
            dynamodb: Some(Table::new(process.url())),
            ..Site::open_to_root("ministack", process.url())
        };
        create_user(&mut site, "tester", &everything()).await;
        create_bucket_and_table(&site).await;
        Some(Server {
            site,
            _process: process,
        })
    }
}
