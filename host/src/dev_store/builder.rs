//! What a server shall be like, and its start.
//!
//! Without this module every test would have to say all that it does not care about.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use s3s::S3ErrorCode;
use s3s::auth::SecretKey;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::access::{OwnKey, service};
use super::contents::Contents;
use super::disk::Disk;
use super::dynamo::{self, Definition};
use super::faults::Faults;
use super::keyring::Keyring;
use super::log::{Caller, Log};
use super::misbehaviour::Misbehaviour;
use super::operations::Operations;
use super::server::Server;
use super::sts::Role;
use super::versions::{Settings, Versioning};
use super::{DevStore, io_error};

/// What a server shall be like. See [`DevStore::builder`].
#[derive(Debug)]
#[must_use]
pub struct DevStoreBuilder {
    listen: SocketAddr,
    allow_remote: bool,
    directory: Option<PathBuf>,
    bucket: String,
    table: String,
    region: String,
    key: Option<OwnKey>,
    roles: Vec<Role>,
    recording: bool,
    versioning: bool,
    object_lock: bool,
    acls_disabled: bool,
    misbehaviours: Vec<Misbehaviour>,
}

impl DevStoreBuilder {
    pub(super) fn new() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            allow_remote: false,
            directory: None,
            bucket: "tfstate".to_owned(),
            table: "tfstate-locks".to_owned(),
            region: "us-east-1".to_owned(),
            key: None,
            roles: Vec::new(),
            recording: true,
            versioning: false,
            object_lock: false,
            acls_disabled: false,
            misbehaviours: Vec::new(),
        }
    }

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

    /// The table, which is made if need be, with the partition key `LockID` of type `S`. Default: `tfstate-locks`.
    pub fn table(mut self, name: impl Into<String>) -> Self {
        self.table = name.into();
        self
    }

    /// The region. Default: `us-east-1`.
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = region.into();
        self
    }

    /// The key that may sign requests; further ones are those of roles. Default: generated at random, anew at every start.
    pub fn credentials(mut self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.key = Some(OwnKey {
            id: id.into(),
            secret: SecretKey::from(secret.into()),
        });
        self
    }

    /// A role that may be assumed. Default: every role of the account may, by anybody who has a key or a web identity
    /// token; once one is named, only those that are.
    pub fn role(mut self, role: Role) -> Self {
        self.roles.push(role);
        self
    }

    /// Whether requests and generations are kept for [`DevStore::requests`] and [`DevStore::history`]. They keep
    /// every version of every object in memory, so a server that runs for days should not. Default: yes.
    pub fn recording(mut self, recording: bool) -> Self {
        self.recording = recording;
        self
    }

    /// Whether the bucket keeps versions. `false` leaves a bucket of a directory as it is. Default: no.
    pub fn versioning(mut self, versioning: bool) -> Self {
        self.versioning = versioning;
        self
    }

    /// Whether the bucket is one with Object Lock: it keeps versions, and every upload must come with a checksum or
    /// a `Content-MD5`. Nothing is retained. `false` leaves a bucket of a directory as it is. Default: no.
    pub fn object_lock(mut self, object_lock: bool) -> Self {
        self.object_lock = object_lock;
        self
    }

    /// Whether the bucket refuses access lists other than `bucket-owner-full-control`, as new ones on AWS do.
    /// `false` leaves a bucket of a directory as it is. Default: no.
    pub fn acls_disabled(mut self, disabled: bool) -> Self {
        self.acls_disabled = disabled;
        self
    }

    /// Makes the store misbehave from the start, in addition to what was called for before. Default: it keeps its
    /// promises.
    pub fn misbehave(mut self, misbehaviour: Misbehaviour) -> Self {
        self.misbehaviours.push(misbehaviour);
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
        if !dynamo::is_table_name(&self.table) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "{:?} is no table name: take 3 to 255 of a-z, A-Z, 0-9, _, - and .",
                    self.table
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
        let contents = tokio::task::spawn_blocking(move || {
            Contents::new(directory.map(Disk::open).transpose()?, recording)
        })
        .await
        .map_err(io::Error::other)??;
        let contents = Arc::new(contents);
        let created = contents.create_bucket(&Caller::default(), &self.bucket, Settings::default());
        if let Err(error) = created
            && *error.code() != S3ErrorCode::BucketAlreadyOwnedByYou
        {
            return Err(io_error(error));
        }
        contents
            .change_settings(&Caller::default(), &self.bucket, |settings| {
                settings.acls_disabled |= self.acls_disabled;
                settings.object_lock |= self.object_lock;
                if self.versioning || settings.object_lock {
                    settings.versioning = Versioning::Enabled;
                }
                Ok(())
            })
            .map_err(io_error)?;
        if contents.definition(&self.table).is_none() {
            contents
                .create_table(&Caller::default(), Definition::for_locks(&self.table))
                .map_err(dynamo::Error::into_io)?;
        }
        let key = self.key.unwrap_or_else(OwnKey::random);
        let keys = Arc::new(Keyring::new(key.clone()));
        let service = |largest_skew: Option<u32>| {
            let operations = Operations {
                contents: Arc::clone(&contents),
                region: self.region.clone(),
            };
            service(operations, &keys, largest_skew)
        };
        let faults = Faults::default();
        faults.misbehave(self.misbehaviours);
        let server = Arc::new(Server {
            service: service(None),
            timeless: service(Some(u32::MAX)),
            contents: Arc::clone(&contents),
            bucket: self.bucket,
            table: self.table,
            keys,
            roles: self.roles,
            region: self.region.clone(),
            faults,
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
