//! An S3 server in this process, in memory or in a directory: for `cofferdam demo`, `cofferdam dev` and tests.
//!
//! Without it, trying the backend would need an account, and proving it a server whose order of effects can be
//! read. The library `s3s` speaks the protocol and checks the signatures; the objects behind it are linearizable:
//! a condition and its effect are one step, and [`DevStore::requests`] lists the steps in their order.
//!
//! It keeps all objects in memory, versions none, and encrypts none.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! let store = cofferdam::dev_store::DevStore::builder().start().await?;
//! println!("{}", store.backend_block("terraform.tfstate"));
//! store.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod checksum;
mod disk;
mod entries;
mod faults;
mod listing;
mod log;
mod objects;
mod operations;
mod server;
mod transfer;
mod uploads;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use faults::{Fault, FaultRule};
pub use log::{Generation, Request};

use disk::Disk;
use listing::Query;
use log::{Caller, Log};
use objects::{Conditions, Objects};
use operations::Operations;
use server::{Server, plain_object};

/// A running server. Dropping it stops it at once; [`DevStore::shutdown`] lets requests in progress end.
pub struct DevStore {
    server: Arc<Server>,
    address: SocketAddr,
    key: AccessKey,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

impl DevStore {
    /// A server yet to be started.
    pub fn builder() -> DevStoreBuilder {
        DevStoreBuilder {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            allow_remote: false,
            directory: None,
            bucket: "tfstate".to_owned(),
            region: "us-east-1".to_owned(),
            key: None,
            recording: true,
        }
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

    /// The region that requests must be signed for.
    pub fn region(&self) -> &str {
        &self.server.region
    }

    /// The only access key ID that may sign requests.
    pub fn access_key_id(&self) -> &str {
        &self.key.id
    }

    /// The secret of that key.
    pub fn secret_access_key(&self) -> &str {
        self.key.secret.expose()
    }

    /// The backend block for a state in this store, with the lock file on. It holds the secret.
    pub fn backend_block(&self, key: &str) -> serde_json::Value {
        serde_json::json!({
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
        self.server.objects.history(self.bucket(), key)
    }

    /// The bytes of an object of the bucket.
    pub fn object(&self, key: &str) -> Option<Bytes> {
        let caller = Caller::default();
        let conditions = Conditions::default();
        let object = self
            .server
            .objects
            .get(&caller, self.bucket(), key, &conditions);
        object.ok().map(|object| object.body.clone())
    }

    /// Stores an object in the bucket, past protocol, log and faults.
    ///
    /// # Errors
    /// When the directory can't be written.
    pub fn put_object(&self, key: &str, body: impl Into<Bytes>) -> io::Result<()> {
        let object = plain_object(key, body.into());
        self.server
            .objects
            .put(
                &Caller::default(),
                self.bucket(),
                object,
                &Conditions::default(),
            )
            .map_err(io_error)
    }

    /// Deletes an object of the bucket, if it is there, past protocol, log and faults.
    ///
    /// # Errors
    /// When the directory can't be written.
    pub fn delete_object(&self, key: &str) -> io::Result<()> {
        self.server
            .objects
            .delete(&Caller::default(), self.bucket(), key, None)
            .map_err(io_error)
    }

    /// The keys of the bucket, sorted by their bytes.
    pub fn keys(&self) -> Vec<String> {
        let mut query = Query::default();
        let mut keys = Vec::new();
        loop {
            let caller = Caller::default();
            let Ok(page) = self.server.objects.list(&caller, self.bucket(), &query) else {
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

    /// Lets things go right again.
    pub fn clear_faults(&self) {
        self.server.faults.clear();
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
        self.server.objects.stop();
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

/// What a server shall be like. See [`DevStore::builder`].
#[derive(Debug)]
#[must_use]
pub struct DevStoreBuilder {
    listen: SocketAddr,
    allow_remote: bool,
    directory: Option<PathBuf>,
    bucket: String,
    region: String,
    key: Option<AccessKey>,
    recording: bool,
}

impl DevStoreBuilder {
    /// Where to listen. Default: a free port of 127.0.0.1.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// Whether addresses other than this machine's own may be listened on. Everything is sent in the clear.
    /// Default: no.
    pub fn allow_remote(mut self, allow: bool) -> Self {
        self.allow_remote = allow;
        self
    }

    /// Keeps the objects in a directory, which is made if need be: an answered write survives a crash of the
    /// process or the machine. Default: in memory.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// The bucket, which is made if need be. Default: `tfstate`.
    pub fn bucket(mut self, name: impl Into<String>) -> Self {
        self.bucket = name.into();
        self
    }

    /// The region. Default: `us-east-1`.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = region.into();
        self
    }

    /// The only key that may sign requests. Default: generated at random, anew at every start.
    pub fn credentials(mut self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.key = Some(AccessKey {
            id: id.into(),
            secret: SecretKey::from(secret.into()),
        });
        self
    }

    /// Whether requests and generations are kept for [`DevStore::requests`] and [`DevStore::history`]. They keep
    /// every version of every object in memory, so a server that runs for days should not. Default: yes.
    pub fn recording(mut self, recording: bool) -> Self {
        self.recording = recording;
        self
    }

    /// Starts the server on the current tokio runtime.
    ///
    /// # Errors
    /// When the address is not this machine's own ([`allow_remote`](Self::allow_remote)) or in use, when the
    /// bucket's name is not one, or when the directory can't be used: it is another store's at this moment, holds
    /// other files, or holds a damaged object.
    pub async fn start(self) -> io::Result<DevStore> {
        if !self.allow_remote && !self.listen.ip().is_loopback() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "{} can be reached from other machines, and the embedded store sends states in the clear: \
                     listen on 127.0.0.1, or allow remote access explicitly",
                    self.listen
                ),
            ));
        }
        if !s3s::path::check_bucket_name(&self.bucket) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "{:?} is no bucket name: take 3 to 63 of a-z, 0-9, - and .",
                    self.bucket
                ),
            ));
        }
        let listener = TcpListener::bind(self.listen).await?;
        let address = listener.local_addr()?;
        let (directory, recording) = (self.directory, self.recording);
        let objects = tokio::task::spawn_blocking(move || {
            Objects::new(directory.map(Disk::open).transpose()?, recording)
        })
        .await
        .map_err(io::Error::other)??;
        let objects = Arc::new(objects);
        let created = objects.create_bucket(&Caller::default(), &self.bucket);
        if let Err(error) = created
            && *error.code() != S3ErrorCode::BucketAlreadyOwnedByYou
        {
            return Err(io_error(error));
        }
        let key = self.key.unwrap_or_else(AccessKey::random);
        let service = |largest_skew: Option<u32>| {
            let operations = Operations {
                objects: Arc::clone(&objects),
                region: self.region.clone(),
            };
            service(operations, key.clone(), largest_skew)
        };
        let server = Arc::new(Server {
            service: service(None),
            timeless: service(Some(u32::MAX)),
            objects: Arc::clone(&objects),
            bucket: self.bucket,
            region: self.region.clone(),
            faults: faults::Faults::default(),
            log: Log::default(),
            connections: AtomicU64::new(0),
        });
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(Arc::clone(&server).run(listener, stopped));
        Ok(DevStore {
            server,
            address,
            key,
            stop,
            task: Some(task),
        })
    }
}

/// The key that may sign.
#[derive(Clone, Debug)]
struct AccessKey {
    id: String,
    secret: SecretKey,
}

impl AccessKey {
    fn random() -> Self {
        let random = || uuid::Uuid::new_v4().simple().to_string();
        let mut id = random().to_uppercase();
        id.truncate(11);
        Self {
            id: format!("COFFERDAM{id}"),
            secret: SecretKey::from(format!("{}{}", random(), random())),
        }
    }
}

#[async_trait::async_trait]
impl S3Auth for AccessKey {
    async fn get_secret_key(&self, id: &str) -> S3Result<SecretKey> {
        if id == self.id {
            return Ok(self.secret.clone());
        }
        Err(s3_error!(
            InvalidAccessKeyId,
            "The AWS Access Key Id you provided does not exist in our records."
        ))
    }
}

/// Only the key's holder may do anything, and without a session token: the key has none.
struct SignedOnly;

#[async_trait::async_trait]
impl S3Access for SignedOnly {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        if context.credentials().is_none() {
            return Err(s3_error!(AccessDenied, "Access Denied"));
        }
        if context.headers().contains_key("x-amz-security-token") {
            return Err(s3_error!(
                InvalidToken,
                "The provided token is malformed or otherwise invalid."
            ));
        }
        Ok(())
    }
}

fn service(operations: Operations, key: AccessKey, largest_skew: Option<u32>) -> S3Service {
    let mut config = S3Config::default();
    if let Some(seconds) = largest_skew {
        config.presigned_url_max_skew_time_secs = seconds;
    }
    let mut builder = S3ServiceBuilder::new(operations);
    builder.set_auth(key);
    builder.set_access(SignedOnly);
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    builder.build()
}

fn io_error(error: S3Error) -> io::Error {
    io::Error::other(format!(
        "the embedded store: {}",
        error.message().unwrap_or(error.code().as_str())
    ))
}
