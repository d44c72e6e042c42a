//! moto: S3 and DynamoDB once more, written independently. It closes each connection after its answer, checks a
//! condition and writes without a lock around both (so no races here), and refuses keys with a colon.

use http::StatusCode;

use super::{Process, Server, create_bucket_and_table, create_user, everything};
use crate::{RawS3, Site, site::Table, tools};

/// What `pip install -r tests/servers.txt` in `.venv` installs.
#[derive(Debug)]
pub struct Moto;

impl Moto {
    /// Starts one with a bucket and a table, with signature checks on, and with a user who may do everything in
    /// both. `None`, and a line that says so, where it is not installed.
    pub async fn start() -> Option<Server> {
        let program = tools::find("moto_server", "COFFERDAM_MOTO", ".venv/bin/moto_server")?;
        let process = Process::start(&program, |command, port, _| {
            command.args(["-H", "127.0.0.1", "-p", port]);
        })
        .await;
        let mut site = Site {
            dynamodb: Some(Table::new(process.url())),
            ..Site::open_to_root("moto", process.url())
        };
        create_user(&mut site, "tester", &everything()).await;
        create_bucket_and_table(&site).await;
        // From here on. Before it nobody could have made the user.
        RawS3::new(&site)
            .post_text("/moto-api/reset-auth", "0")
            .await
            .expect_success("turn the signature checks on");
        let forged = Site {
            secret_access_key: "guessed".to_owned(),
            ..site.clone()
        };
        let refused = RawS3::new(&forged).get("any").await;
        assert_eq!(
            refused.status,
            StatusCode::FORBIDDEN,
            "moto lets forged requests in"
        );
        Some(Server {
            site,
            _process: process,
        })
    }
}
