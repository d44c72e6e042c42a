//! An S3, DynamoDB and STS server in this process, in memory or in a directory: for `cofferdam demo`, `cofferdam dev`
//! and tests.
//!
//! Without it, trying the backend would need an account, and proving it a server whose order of effects can be
//! read. The library `s3s` speaks S3 and checks its signatures; DynamoDB and STS, on the same port, are this module's own.
//! Objects and items are linearizable: a condition and its effect are one step, and [`DevStore::requests`] lists
//! the steps in their order. A [`FaultRule`] makes single requests fail, a [`Misbehaviour`] is a store that can't
//! be relied on.
//!
//! What it does:
//!
//! - objects with conditions, checksums, ranges, uploads in parts, copies, versions, tags, canned access lists and
//!   Object Lock's demand for checksums, in any number of buckets;
//! - items with conditions, in any number of tables, as far as locks need them;
//! - roles: temporary keys with a session token, for `AssumeRole` and for web identities, and `GetCallerIdentity`.
//!
//! What it does not do: it keeps all it has in memory, also when it writes it to a directory. It encrypts nothing:
//! of a key of the customer it remembers a salted hash, and other encryption it only gives back in words. Nothing
//! is retained, and access lists and policies bind nobody: whoever has a key, the store's own or one of a role, may do
//! everything.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! let store = cofferdam::dev_store::DevStore::builder().start().await?;
//! println!("{}", store.backend_block("terraform.tfstate"));
//! store.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod access;
mod builder;
mod checksum;
mod contents;
mod customer_key;
mod disk;
mod dynamo;
mod early;
mod entries;
mod faults;
mod keyring;
mod listing;
mod log;
mod misbehaviour;
mod multipart;
mod object;
mod objects;
mod operations;
mod reads;
mod server;
mod signature;
mod sts;
mod tags;
mod target;
mod transfer;
mod uploads;
mod versions;
mod writes;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use s3s::S3Error;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use builder::DevStoreBuilder;
pub use faults::{Fault, FaultRule};
pub use log::{Generation, ItemGeneration, Request};
pub use misbehaviour::{Misbehaviour, UnknownMisbehaviour};
pub use sts::Role;

use crate::{AccessKey, Secret};

use access::OwnKey;
use dynamo::{Definition, KeyAttribute, Kind};
use listing::Query;
use log::Caller;
use object::Conditions;
use server::{Server, plain_object};

/// A running server. Dropping it stops it at once; [`DevStore::shutdown`] lets requests in progress end.
pub struct DevStore {
    server: Arc<Server>,
    address: SocketAddr,
    key: OwnKey,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

impl DevStore {
    /// A server yet to be started.
    pub fn builder() -> DevStoreBuilder {
        DevStoreBuilder::new()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as the endpoint to configure: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The bucket that was made at the start.
    pub fn bucket(&self) -> &str {
        &self.server.bucket
    }

    /// The table that was made at the start.
    pub fn table(&self) -> &str {
        &self.server.table
    }

    /// The region that requests must be signed for.
    pub fn region(&self) -> &str {
        &self.server.region
    }

    /// The account of the store: twelve digits.
    pub fn account_id(&self) -> &'static str {
        keyring::ACCOUNT
    }

    /// The access key ID that may sign requests, besides those that STS hands out.
    pub fn access_key_id(&self) -> &str {
        &self.key.id
    }

    /// The secret of that key.
    pub fn secret_access_key(&self) -> &str {
        self.key.secret.expose()
    }

    /// The backend block for a state in this store, with the lock file on. It holds the secret. It has nothing but the
    /// store's S3 asked: with `endpoints.sts` at the same place, the `skip_…` arguments are not needed.
    pub fn backend_block(&self, key: &str) -> Value {
        json!({
            "bucket": self.bucket(),
            "key": key,
            "region": self.region(),
            "endpoints": { "s3": self.url() },
            "use_path_style": true,
            "use_lockfile": true,
            "access_key": self.access_key_id(),
            "secret_key": self.secret_access_key(),
            "skip_credentials_validation": true,
            "skip_requesting_account_id": true,
            "skip_metadata_api_check": true,
            "skip_region_validation": true,
        })
    }

    /// Every request answered since the start or the last [`clear_requests`](Self::clear_requests), in the order
    /// of effects. Whoever has an answer finds its entry.
    pub fn requests(&self) -> Vec<Request> {
        self.server.log.requests()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.server.log.clear();
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> u64 {
        self.server.connections.load(Ordering::SeqCst)
    }

    /// Every generation of a key of the bucket since the start, in the order of effects: each put, and each
    /// deletion of an object that was there.
    pub fn history(&self, key: &str) -> Vec<Generation> {
        self.server.contents.history(self.bucket(), key)
    }

    /// The bytes of an object of the bucket.
    pub fn object(&self, key: &str) -> Option<Bytes> {
        let object = self.server.contents.peek(self.bucket(), key);
        object.map(|object| object.body.clone())
    }

    /// Stores an object in the bucket, past protocol, log and faults.
    ///
    /// # Errors
    /// When the directory can't be written.
    pub fn put_object(&self, key: &str, body: impl Into<Bytes>) -> io::Result<()> {
        let object = plain_object(key, body.into());
        self.server
            .contents
            .put(
                &Caller::default(),
                self.bucket(),
                object,
                &Conditions::default(),
            )
            .map(|_| ())
            .map_err(io_error)
    }

    /// Deletes an object of the bucket, if it is there, past protocol, log and faults; with a delete marker where
    /// versions are kept.
    ///
    /// # Errors
    /// When the directory can't be written.
    pub fn delete_object(&self, key: &str) -> io::Result<()> {
        self.server
            .contents
            .delete(&Caller::default(), self.bucket(), key, None, None)
            .map(|_| ())
            .map_err(io_error)
    }

    /// An item of the table by its `LockID`: its attributes as the protocol writes them, such as
    /// `{"LockID": {"S": "…"}, "Info": {"S": "…"}}`.
    pub fn item(&self, key: &str) -> Option<Value> {
        let item = self.server.contents.item(self.table(), key);
        item.map(Value::Object)
    }

    /// Stores an item in the table, past protocol, log and faults. The `LockID` need not be among its attributes.
    ///
    /// # Errors
    /// When it is no object of attributes, larger than 400 KB, or when the directory can't be written.
    pub fn put_item(&self, key: &str, item: Value) -> io::Result<()> {
        let contents = &self.server.contents;
        contents.set_item(self.table(), key, Some(item))
    }

    /// Deletes an item of the table, if it is there, past protocol, log and faults.
    ///
    /// # Errors
    /// When the directory can't be written.
    pub fn delete_item(&self, key: &str) -> io::Result<()> {
        self.server.contents.set_item(self.table(), key, None)
    }

    /// Every generation of an item of the table since the start, in the order of effects.
    pub fn item_history(&self, key: &str) -> Vec<ItemGeneration> {
        self.server.contents.item_history(self.table(), key)
    }

    /// Makes a further table, with a partition key of this name and of the type `S`, `N` or `B`, past protocol,
    /// log and faults: for what happens with a table that is not made for locks.
    ///
    /// # Errors
    /// When the table exists, the type is none of these, or the directory can't be written.
    pub fn create_table(&self, name: &str, key: &str, kind: &str) -> io::Result<()> {
        let kind = Kind::of(kind).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "a key's type is S, N or B")
        })?;
        let key = KeyAttribute {
            name: key.to_owned(),
            kind,
        };
        let definition = Definition::new(name, vec![key]);
        let contents = &self.server.contents;
        let made = contents.create_table(&Caller::default(), definition);
        made.map_err(dynamo::Error::into_io)
    }

    /// The keys of the bucket, sorted by their bytes.
    pub fn keys(&self) -> Vec<String> {
        let mut query = Query::default();
        let mut keys = Vec::new();
        loop {
            let caller = Caller::default();
            let Ok(page) = self.server.contents.list(&caller, self.bucket(), &query) else {
                return keys;
            };
            keys.extend(page.objects.into_iter().map(|(key, _)| key));
            query.after = page.next;
            if query.after.is_none() {
                return keys;
            }
        }
    }

    /// Makes things go wrong.
    pub fn inject(&self, rule: FaultRule) {
        self.server.faults.add(rule);
    }

    /// Asks, with each request that is signed and understood or not, in the order in which they come, what befalls it,
    /// by its operation and key (empty where it has none). Takes the place of what was asked before, and goes on until
    /// [`clear_faults`](Self::clear_faults).
    pub fn inject_each(&self, source: impl FnMut(&str, &str) -> Option<Fault> + Send + 'static) {
        self.server.faults.ask(Box::new(source));
    }

    /// Lets things go right again; what [`set_misbehaviour`](Self::set_misbehaviour) set goes on.
    pub fn clear_faults(&self) {
        self.server.faults.clear();
    }

    /// Makes the store misbehave in this way alone from now on; `None`: not at all.
    pub fn set_misbehaviour(&self, misbehaviour: impl Into<Option<Misbehaviour>>) {
        self.server.faults.misbehave(misbehaviour.into());
    }

    /// A key of a role's session that lasts so long, past protocol, log and faults; whatever roles there are.
    pub fn open_session(&self, role: &str, name: &str, lasts: Duration) -> AccessKey {
        let now = Timestamp::now();
        let lasts = SignedDuration::try_from(lasts).unwrap_or(SignedDuration::MAX);
        let session = keyring::Session {
            role: role.to_owned(),
            name: name.to_owned(),
        };
        let end = now.saturating_add(lasts).unwrap_or(now);
        let issued = self.server.keys.issue(session, end, now);
        AccessKey {
            id: issued.id,
            secret: Secret::new(issued.secret.expose()),
            session_token: Some(Secret::new(issued.token.expose())),
            expires_at: u64::try_from(end.as_second()).ok(),
        }
    }

    /// Ends the sessions of all roles: their keys are refused as expired from now on.
    pub fn end_sessions(&self) {
        self.server.keys.end_sessions();
    }

    /// Takes no more connections, lets requests in progress end, 5 seconds at most, and stops.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.take() {
            // It ends with an error only when it panicked or the runtime is going away: it is over either way.
            let _ = task.await;
        }
    }
}

impl Drop for DevStore {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        self.server.contents.stop();
    }
}

impl fmt::Debug for DevStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevStore")
            .field("url", &self.url())
            .field("bucket", &self.bucket())
            .finish_non_exhaustive()
    }
}

fn io_error(error: S3Error) -> io::Error {
    io::Error::other(format!(
        "the embedded store: {}",
        error.message().unwrap_or(error.code().as_str())
    ))
}
