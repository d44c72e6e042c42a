//! s3rver: a store that takes a conditional write and silently ignores its condition. Locks exclude nobody there. It
//! verifies no signature of version 4.

use super::{Process, Server};
use crate::{Site, tools};

/// What `npm ci --prefix tests/servers` installs.
#[derive(Debug)]
pub struct S3rver;

impl S3rver {
    /// Starts one with a bucket. `None`, and a line that says so, where it is not installed.
    pub async fn start() -> Option<Server> {
        let program = tools::find(
            "s3rver",
            "COFFERDAM_S3RVER",
            "tests/servers/node_modules/.bin/s3rver",
        )?;
        let site = Site {
            // The only key that it knows.
            access_key_id: "S3RVER".to_owned(),
            secret_access_key: "S3RVER".to_owned(),
            ..Site::open_to_root("s3rver", String::new())
        };
        let process = Process::start(&program, |command, port, directory| {
            command.args(["-a", "127.0.0.1", "-p", port, "-d"]);
            command.arg(directory.join("data"));
            command.args(["--no-vhost-buckets", "--configure-bucket", &site.bucket]);
        })
        .await;
        let site = Site {
            url: process.url(),
            ..site
        };
        Some(Server {
            site,
            _process: process,
        })
    }
}
