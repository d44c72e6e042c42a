//! What was asked of the store and what it did, in the order of effects.
//!
//! Without this module a test could only judge a race by what the contenders say, and they are the ones under
//! suspicion.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use serde::Serialize;

/// One request and the head of its answer. Holds neither bodies nor signatures.
#[derive(Clone, Debug, Serialize)]
pub struct Request {
    /// Its place in the order of effects, counted over all requests of the store. Reads have a place too.
    pub sequence: u64,
    /// The connection it came on, counted from 1 in the order of acceptance.
    pub connection: u64,
    /// The HTTP method.
    pub method: String,
    /// The S3 operation, such as `GetObject`; `Unknown` for what the store does not know.
    pub operation: &'static str,
    /// The bucket; empty when the request names none.
    pub bucket: String,
    /// The key, decoded; empty when the request names none.
    pub key: String,
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
    /// The `User-Agent` of the request that made it; `None` for the program that runs the store, and for
    /// faults.
    pub user_agent: Option<String>,
}

impl fmt::Debug for Generation {
    /// The bytes may be a state: only their number is printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation")
            .field("sequence", &self.sequence)
            .field("etag", &self.etag)
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
    /// Treat the conditions of the request as if they had not been sent, as some stores do.
    pub(super) ignores_conditions: bool,
    sequence: AtomicU64,
}

impl Caller {
    pub(super) fn new(user_agent: Option<String>, ignores_conditions: bool) -> Self {
        Self {
            user_agent,
            ignores_conditions,
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
