//! s3s-fs: files behind the protocol that the embedded store speaks too. It checks a condition, and then writes:
//! of several writers at once more than one may be told that it was the first.

use super::{Process, Server};
use crate::{Site, tools};

/// What `cargo install --locked --root target/servers --features binary s3s-fs@0.14.1` installs.
#[derive(Debug)]
pub struct S3sFs;

impl S3sFs {
    /// Starts one with a bucket. `None`, and a line that says so, where it is not installed.
    pub async fn start() -> Option<Server> {
        let program = tools::find("s3s-fs", "COFFERDAM_S3S_FS", "target/servers/bin/s3s-fs")?;
        let site = Site::open_to_root("s3s-fs", String::new());
        let process = Process::start(&program, |command, port, directory| {
            let data = directory.join("data");
            std::fs::create_dir_all(data.join(&site.bucket)).expect("a directory for the bucket");
            command.args(["--host", "127.0.0.1", "--port", port]);
            command.args(["--access-key", &site.access_key_id]);
            command.args(["--secret-key", &site.secret_access_key]);
            command.arg(data);
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
