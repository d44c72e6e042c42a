//! An S3 server with its bucket and the key that opens it, whichever program it is.
//!
//! Without it every test would name the arguments of a backend block again, and a test that must run on several
//! servers would be written once for each.

use cofferdam::dev_store::DevStore;
use cofferdam_canaries as canaries;
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
    /// Id of a key that may do everything in the bucket and the table.
    pub access_key_id: String,
    /// Its secret. It opens nothing but a server of this test run.
    pub secret_access_key: String,
    /// The prefix of workspaces. The default one, `env:`, holds a colon, which some servers check wrongly.
    pub workspace_key_prefix: &'static str,
    /// Where locks and digests can be kept, if anywhere.
    pub dynamodb: Option<Table>,
}

/// A DynamoDB table that exists, with the key that Terraform wants.
#[derive(Clone, Debug)]
pub struct Table {
    /// `http://127.0.0.1:port`.
    pub url: String,
    /// Its name.
    pub name: String,
}

/// What keeps two writers apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Locking {
    /// The lock file, and an item in the table.
    Both,
    /// An item in the table.
    DynamoDb,
    /// An object in the bucket.
    LockFile,
}

impl Locking {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Both, Self::DynamoDb, Self::LockFile];

    /// What it is called in the names of tests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::DynamoDb => "dynamodb",
            Self::LockFile => "lockfile",
        }
    }

    /// Whether an object in the bucket is part of the lock.
    pub fn has_file(self) -> bool {
        self != Self::DynamoDb
    }

    /// Whether an item in the table is part of the lock. Then there are digests, too.
    pub fn has_item(self) -> bool {
        self != Self::LockFile
    }
}

impl Site {
    /// The embedded store, as a site.
    pub fn of(server: &DevStore) -> Self {
        canaries::watch("a store's secret access key", server.secret_access_key());
        Self {
            name: "the embedded store",
            url: server.url(),
            bucket: server.bucket().to_owned(),
            region: server.region().to_owned(),
            access_key_id: server.access_key_id().to_owned(),
            secret_access_key: server.secret_access_key().to_owned(),
            workspace_key_prefix: "env:",
            dynamodb: Some(Table {
                url: server.url(),
                name: server.table().to_owned(),
            }),
        }
    }

    /// A server of another make as it starts: without users, tables and, mostly, a bucket.
    pub(crate) fn open_to_root(name: &'static str, url: String) -> Self {
        Self {
            name,
            url,
            bucket: "states".to_owned(),
            region: "us-east-1".to_owned(),
            access_key_id: "test".to_owned(),
            secret_access_key: "test".to_owned(),
            workspace_key_prefix: "workspaces",
            dynamodb: None,
        }
    }

    /// The table.
    ///
    /// # Panics
    /// Where there is none.
    pub fn table(&self) -> &Table {
        self.dynamodb
            .as_ref()
            .unwrap_or_else(|| panic!("{} has no table", self.name))
    }

    /// The backend block for the states under a key, with the lock file. Terraform and cofferdam take the
    /// very same one.
    pub fn block(&self, key: &str) -> Value {
        self.block_with(key, Locking::LockFile)
    }

    /// The same with another lock.
    ///
    /// # Panics
    /// Where it takes a table and there is none.
    pub fn block_with(&self, key: &str, locking: Locking) -> Value {
        let mut block = json!({
            "bucket": self.bucket,
            "key": key,
            "region": self.region,
            "workspace_key_prefix": self.workspace_key_prefix,
            "access_key": self.access_key_id,
            "secret_key": self.secret_access_key,
            "endpoints": { "s3": self.url },
            "use_path_style": true,
            "skip_credentials_validation": true,
            "skip_metadata_api_check": true,
            "skip_region_validation": true,
            "skip_requesting_account_id": true,
        });
        if locking.has_file() {
            block["use_lockfile"] = true.into();
        }
        if locking.has_item() {
            let table = self.table();
            block["dynamodb_table"] = table.name.as_str().into();
            block["endpoints"]["dynamodb"] = table.url.as_str().into();
        }
        block
    }

    /// Where the state of a workspace lies in the bucket.
    pub fn state_key(&self, key: &str, workspace: &str) -> String {
        match workspace {
            "default" => key.to_owned(),
            other => format!("{}/{other}/{key}", self.workspace_key_prefix),
        }
    }

    /// The path of a lock: the key of its item, and what its record names.
    pub fn lock_id(&self, key: &str, workspace: &str) -> String {
        format!("{}/{}", self.bucket, self.state_key(key, workspace))
    }
}

impl Table {
    pub(crate) fn new(url: String) -> Self {
        Self {
            url,
            name: "locks".to_owned(),
        }
    }
}
