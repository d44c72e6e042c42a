//! What was asked of the store and what it did, in the order of effects.
//!
//! Without this module a test could only judge a race by what the contenders say, and they are the ones under
//! suspicion.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::misbehaviour::Flaws;

/// One request and the head of its answer. Holds neither bodies nor signatures.
#[derive(Clone, Debug, Serialize)]
pub struct Request {
    /// Its place in the order of effects, counted over all requests of the store. Reads have a place too.
    pub sequence: u64,
    /// The connection it came on, counted from 1 in the order of acceptance.
    pub connection: u64,
    /// The HTTP method.
    pub method: String,
    /// The operation of S3, DynamoDB or STS, such as `GetObject`, `PutItem` or `AssumeRole`; `Unknown` for what the store does not know.
    pub operation: &'static str,
    /// The bucket, or the table; empty when the request names none.
    pub bucket: String,
    /// The key, decoded, or the item's `LockID`, or the ARN of a role; empty when the request names none.
    pub key: String,
    /// The `ConditionExpression` of a request to a table.
    pub condition: Option<String>,
    /// The headers `content-encoding`, `content-length`, `content-type`, `if-…` and `x-amz-…`, as they were sent;
    /// those that hold a key, its MD5 or a token as `(secret)`.
    pub headers: BTreeMap<String, String>,
    /// The header `If-Match`, as it was sent.
    pub if_match: Option<String>,
    /// The header `If-None-Match`, as it was sent.
    pub if_none_match: Option<String>,
    /// The key ID that the request was signed with, whether or not the signature was right.
    pub access_key_id: Option<String>,
    /// The header `User-Agent`.
    pub user_agent: Option<String>,
    /// The status of the answer, also of one that a fault then lost; 0 when a fault left none.
    pub status: u16,
    /// The ETag of the answer, with its quotes.
    pub etag: Option<String>,
}

/// What a key held from one effect to the next.
#[derive(Clone)]
pub struct Generation {
    /// The place of the request that made it in the order of effects; see [`Request::sequence`].
    pub sequence: u64,
    /// The ETag with its quotes; `None`: the object was deleted.
    pub etag: Option<String>,
    /// The bytes; `None`: the object was deleted.
    pub body: Option<Bytes>,
    /// The version, or the delete marker, that is the newest then; `None`: the bucket has no versions.
    pub version_id: Option<String>,
    /// The `User-Agent` of the request that made it; `None` for the program that runs the store, and for
    /// faults.
    pub user_agent: Option<String>,
}

/// What an item was from one effect to the next.
#[derive(Clone)]
pub struct ItemGeneration {
    /// The place of the request that made it in the order of effects; see [`Request::sequence`].
    pub sequence: u64,
    /// The attributes as the protocol writes them; `None`: the item was deleted.
    pub item: Option<Value>,
    /// The `User-Agent` of the request that made it; `None` for the program that runs the store, and for
    /// faults.
    pub user_agent: Option<String>,
}

impl fmt::Debug for ItemGeneration {
    /// Only the attributes' names are printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attributes = self.item.as_ref().and_then(Value::as_object);
        f.debug_struct("ItemGeneration")
            .field("sequence", &self.sequence)
            .field(
                "attributes",
                &attributes.map(|it| it.keys().collect::<Vec<_>>()),
            )
            .field("user_agent", &self.user_agent)
            .finish()
    }
}

impl fmt::Debug for Generation {
    /// The bytes may be a state: only their number is printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation")
            .field("sequence", &self.sequence)
            .field("etag", &self.etag)
            .field("version_id", &self.version_id)
            .field("bytes", &self.body.as_ref().map(Bytes::len))
            .field("user_agent", &self.user_agent)
            .finish()
    }
}

/// Who asks, and which place in the order of effects the question was given.
#[derive(Debug, Default)]
pub(super) struct Caller {
    /// The `User-Agent`; `None` for the program that runs the store.
    pub(super) user_agent: Option<String>,
    /// What the store does wrong with the request.
    pub(super) flaws: Flaws,
    sequence: AtomicU64,
}

impl Caller {
    pub(super) fn new(user_agent: Option<String>, flaws: Flaws) -> Self {
        Self {
            user_agent,
            flaws,
            sequence: AtomicU64::new(0),
        }
    }

    /// Called inside the critical section; the last place counts.
    pub(super) fn set_sequence(&self, sequence: u64) {
        self.sequence.store(sequence, Ordering::Relaxed);
    }

    /// `None`: the request never came as far as the objects.
    pub(super) fn sequence(&self) -> Option<u64> {
        match self.sequence.load(Ordering::Relaxed) {
            0 => None,
            sequence => Some(sequence),
        }
    }
}

/// The requests answered so far.
#[derive(Debug, Default)]
pub(super) struct Log(Mutex<Vec<Request>>);

impl Log {
    /// Called before the answer is sent, so that whoever has the answer finds the entry.
    pub(super) fn push(&self, request: Request) {
        self.entries().push(request);
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        let mut requests = self.entries().clone();
        requests.sort_by_key(|request| request.sequence);
        requests
    }

    pub(super) fn clear(&self) {
        self.entries().clear();
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Vec<Request>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
