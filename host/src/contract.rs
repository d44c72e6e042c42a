//! The contract of `wit/` in plain Rust: what callers hand to a store and what they get back.
//!
//! Without this module every caller would handle the types that the binding generator makes, and the
//! conformance suite could not drive a store that does not run in the sandbox.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::Error;

/// The states that one configuration names. Object safe, so that callers such as the gateway do not care
/// whether a store runs in the sandbox.
///
/// Every method makes at most one attempt at what it does, apart from the retries of single requests that
/// the configuration asks for; waiting for a lock is the caller's ([`wait_for_lock`](crate::wait_for_lock)).
#[async_trait]
pub trait StateStore: Send + Sync {
    /// The names of the workspaces: `default` first, then the others, sorted.
    ///
    /// # Errors
    /// [`ErrorCode::AccessDenied`], [`ErrorCode::NoSuchBucket`], or what any call may fail with.
    async fn workspaces(&self) -> Result<Vec<String>, Error>;

    /// The newest state, verified against the checksum that the store holds, if it holds one. With a
    /// `known` revision that is still the newest the answer is [`Reading::Unchanged`].
    ///
    /// # Errors
    /// [`ErrorCode::TooLarge`], [`ErrorCode::AccessDenied`], [`ErrorCode::NoSuchBucket`], or what any call
    /// may fail with.
    async fn read(&self, workspace: &str, known: Option<&Revision>) -> Result<Reading, Error>;

    /// Stores a state and answers its revision. Nothing is overwritten that is not what
    /// [`WriteOptions::expect`] says.
    ///
    /// # Errors
    /// [`ErrorCode::StateChanged`], [`ErrorCode::LockMismatch`], [`ErrorCode::TooLarge`],
    /// [`ErrorCode::InvalidArgument`] for an empty state, [`ErrorCode::Unsupported`] when the store refuses
    /// conditional writes, or what any call may fail with.
    async fn write(
        &self,
        workspace: &str,
        bytes: Bytes,
        options: &WriteOptions,
    ) -> Result<Revision, Error>;

    /// Removes a workspace's state. Removing what is not there succeeds, unless a revision is expected.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidArgument`] for `default`, [`ErrorCode::StateChanged`],
    /// [`ErrorCode::LockMismatch`], or what any call may fail with.
    async fn delete(&self, workspace: &str, options: &DeleteOptions) -> Result<(), Error>;

    /// Takes the lock, once. Taking one that is held under the same id succeeds.
    ///
    /// # Errors
    /// [`ErrorCode::Locked`] with the holders, [`ErrorCode::Unsupported`] when the configuration names no
    /// lock, or what any call may fail with.
    async fn lock(&self, workspace: &str, info: &LockInfo) -> Result<HeldLock, Error>;

    /// Releases a lock.
    ///
    /// # Errors
    /// [`ErrorCode::LockMismatch`] when it is another's (the holders tell whose) or gone (no holders),
    /// [`ErrorCode::Unsupported`] when the configuration names no lock, or what any call may fail with.
    async fn unlock(&self, workspace: &str, by: &UnlockBy) -> Result<(), Error>;

    /// Who holds the lock: an entry for each place that holds one.
    ///
    /// # Errors
    /// [`ErrorCode::Unsupported`] when the configuration names no lock, or what any call may fail with.
    async fn holders(&self, workspace: &str) -> Result<Vec<Holder>, Error>;
}

/// How serious a [`Diagnostic`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Severity {
    /// What was asked for cannot be done.
    Error,
    /// It was done, or can be, but the person should know this.
    Warning,
}

/// A message for the person at the keyboard, in Terraform's diagnostic form. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Diagnostic {
    /// How serious it is.
    pub severity: Severity,
    /// One line, without a final stop.
    pub summary: String,
    /// The explanation; may hold line breaks; may be empty.
    pub detail: String,
    /// Path of the argument at fault; `None`: the whole block.
    pub attribute: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary)?;
        if let Some(attribute) = &self.attribute {
            write!(f, " ({attribute})")?;
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

/// Terraform's lock record, field for field.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LockInfo {
    /// A UUID in lower case by custom; any non-empty text is taken.
    #[serde(rename = "ID")]
    pub id: String,
    /// What the holder does, such as `OperationTypeApply`.
    pub operation: String,
    /// Free text.
    pub info: String,
    /// `user@host`.
    pub who: String,
    /// Version of the program that holds the lock.
    pub version: String,
    /// RFC 3339, UTC; the store normalises it to the form that Go writes.
    pub created: String,
    /// `<bucket>/<path of the state>`; the store sets it.
    pub path: String,
}

impl LockInfo {
    /// A record with a fresh id, this user and host, this program's version, and the present time.
    pub fn new(operation: impl Into<String>) -> Self {
        Self {
            id: uuid::Uuid::new_v4().to_string(),
            operation: operation.into(),
            info: String::new(),
            who: crate::who::user_at_host(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            created: jiff::Timestamp::now().to_string(),
            path: String::new(),
        }
    }
}

/// A lock that the caller holds. It can be stored and used by another process.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HeldLock {
    /// The id under which it was taken.
    pub id: String,
    /// Opaque.
    pub token: String,
}

/// A lock as it was found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Holder {
    /// The place that holds it: `s3` or `dynamodb`.
    pub place: String,
    /// Whose it is; `None`: the record cannot be read.
    pub info: Option<LockInfo>,
    /// Breaks exactly this lock ([`UnlockBy::Token`]). Opaque.
    pub token: String,
}

/// Names one stored generation of a state. Opaque; on S3 the ETag and the version id.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Revision {
    /// The ETag, quotes included.
    pub tag: String,
    /// The version id, where the bucket keeps versions.
    pub version: Option<String>,
}

/// A state as it was read. `Debug` shows its length only.
#[derive(Clone, PartialEq, Eq)]
pub struct State {
    /// Never empty.
    pub bytes: Bytes,
    /// What to expect on the next write.
    pub revision: Revision,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("bytes", &format_args!("<{} bytes>", self.bytes.len()))
            .field("revision", &self.revision)
            .finish()
    }
}

/// The answer to a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// There is no state.
    Absent,
    /// The revision that the caller knows is still the newest.
    Unchanged,
    /// The newest state.
    State(State),
}

/// What must be stored for a write or a delete to go ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// Whatever is there. For a forced write, and for nothing else.
    Anything,
    /// No state. An empty object counts as none.
    Absent,
    /// This revision.
    Revision(Revision),
}

/// How a state is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteOptions {
    /// What must be stored.
    pub expect: Expectation,
    /// The lock under which the caller writes. One taken more than 10 s ago is read again first.
    pub lock: Option<HeldLock>,
}

/// How a state is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteOptions {
    /// What must be stored.
    pub expect: Expectation,
    /// As in [`WriteOptions`].
    pub lock: Option<HeldLock>,
}

/// Which lock to release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnlockBy {
    /// The one that the caller took.
    Held(HeldLock),
    /// The one with this id, whoever holds it: Terraform's force-unlock.
    Id(String),
    /// The one that was found with this token, readable or not.
    Token(String),
}

/// What went wrong in the store. See the contract for each one's facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// The store refused the credentials this action.
    AccessDenied,
    /// No credentials, or the store does not accept them.
    Credentials,
    /// The state and its recorded digest differ, or the bytes and their checksum.
    DigestMismatch,
    /// An argument of the call is wrong.
    InvalidArgument,
    /// The lock that the caller named is gone, or another's.
    LockMismatch,
    /// Somebody else holds the lock.
    Locked,
    /// The bucket does not exist.
    NoSuchBucket,
    /// None of the others.
    Other,
    /// What is stored is not what the caller expected. Nothing was overwritten.
    StateChanged,
    /// The store asked to slow down until the attempts were used up.
    Throttled,
    /// The call's budget, or a time-out of the transport, ran out.
    TimedOut,
    /// The state is larger than the limit.
    TooLarge,
    /// The store could not be reached, or the transport refused to.
    Unreachable,
    /// The store or the configuration cannot do this.
    Unsupported,
}

/// Whether something may have changed in the store although a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Nothing changed.
    NotDone,
    /// It may have changed: read before you repeat the call.
    Unknown,
}

/// Why the backend could not do what it was asked, with the facts.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct StoreError {
    /// The kind of failure.
    pub code: ErrorCode,
    /// For the person: names bucket, key, region, permission or holder, and what to do.
    pub message: String,
    /// Whether something may have changed all the same.
    pub outcome: Outcome,
    /// Whether the same call may succeed later without anybody changing anything.
    pub retryable: bool,
    /// For [`ErrorCode::Locked`] and [`ErrorCode::LockMismatch`]: who holds the lock.
    pub holders: Vec<Holder>,
    /// Name and value, from the list that the contract documents.
    pub facts: Vec<(String, String)>,
}

impl StoreError {
    /// The value of a fact.
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for StoreError {}
