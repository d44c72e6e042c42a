//! An S3 server with its bucket and the key that opens it, whichever program it is.
//!
//! Without it every test would name the arguments of a backend block again, and a test that must run on two
//! servers would be written twice.

use cofferdam::dev_store::DevStore;
use serde_json::{Value, json};

/// Where an S3 server listens, and how it is opened.
#[derive(Clone, Debug)]
pub struct Site {
    /// What the server is called in the names of tests.
    pub name: &'static str,
    /// `http://127.0.0.1:port`.
    pub url: String,
    /// A bucket that exists.
    pub bucket: String,
    /// The region that requests are signed for.
    pub region: String,
    /// Id of a key that may do everything in the bucket.
    pub access_key_id: String,
    /// Its secret. It opens nothing but a server of this test run.
    pub secret_access_key: String,
    /// The prefix of workspaces. The default one, `env:`, holds a colon, which ministack checks wrongly.
    pub workspace_key_prefix: &'static str,
}

impl Site {
    /// The embedded store, as a site.
    pub fn of(server: &DevStore) -> Self {
        Self {
            name: "the embedded store",
            url: server.url(),
            bucket: server.bucket().to_owned(),
            region: server.region().to_owned(),
            access_key_id: server.access_key_id().to_owned(),
            secret_access_key: server.secret_access_key().to_owned(),
            workspace_key_prefix: "env:",
        }
    }

    /// The backend block for the states under a key, with the lock file. Terraform and cofferdam take the
    /// very same one.
    pub fn block(&self, key: &str) -> Value {
        json!({
            "bucket": self.bucket,
            "key": key,
            "region": self.region,
            "workspace_key_prefix": self.workspace_key_prefix,
            "access_key": self.access_key_id,
            "secret_key": self.secret_access_key,
            "endpoints": { "s3": self.url },
            "use_path_style": true,
            "use_lockfile": true,
            "skip_credentials_validation": true,
            "skip_metadata_api_check": true,
            "skip_region_validation": true,
            "skip_requesting_account_id": true,
        })
    }

    /// Where the state of a workspace lies in the bucket.
    pub fn state_key(&self, key: &str, workspace: &str) -> String {
        match workspace {
            "default" => key.to_owned(),
            other => format!("{}/{other}/{key}", self.workspace_key_prefix),
        }
    }
}
