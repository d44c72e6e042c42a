//! Between the generated types of the contract and the library's own.

use bytes::Bytes;

use crate::bindings::cofferdam::state_backend::types as wit;
use crate::contract::{
    Diagnostic, ErrorCode, Expectation, HeldLock, Holder, LockInfo, Outcome, Revision, Severity,
    StoreError, UnlockBy,
};

pub(crate) fn diagnostic(it: wit::Diagnostic) -> Diagnostic {
    Diagnostic {
        severity: match it.severity {
            wit::Severity::Error => Severity::Error,
            wit::Severity::Warning => Severity::Warning,
        },
        summary: it.summary,
        detail: it.detail,
        attribute: it.attribute,
    }
}

pub(crate) fn revision(it: wit::Revision) -> Revision {
    Revision {
        tag: it.tag,
        version: it.version,
    }
}

pub(crate) fn to_revision(it: &Revision) -> wit::Revision {
    wit::Revision {
        tag: it.tag.clone(),
        version: it.version.clone(),
    }
}

pub(crate) fn to_expectation(it: &Expectation) -> wit::Expectation {
    match it {
        Expectation::Anything => wit::Expectation::Anything,
        Expectation::Absent => wit::Expectation::Absent,
        Expectation::Revision(revision) => wit::Expectation::Revision(to_revision(revision)),
    }
}

pub(crate) fn held_lock(it: wit::HeldLock) -> HeldLock {
    HeldLock {
        id: it.id,
        token: it.token,
    }
}

pub(crate) fn to_held_lock(it: &HeldLock) -> wit::HeldLock {
    wit::HeldLock {
        id: it.id.clone(),
        token: it.token.clone(),
    }
}

pub(crate) fn to_lock_info(it: &LockInfo) -> wit::LockInfo {
    wit::LockInfo {
        id: it.id.clone(),
        operation: it.operation.clone(),
        info: it.info.clone(),
        who: it.who.clone(),
        version: it.version.clone(),
        created: it.created.clone(),
        path: it.path.clone(),
    }
}

pub(crate) fn to_unlock_by(it: &UnlockBy) -> wit::UnlockBy {
    match it {
        UnlockBy::Held(lock) => wit::UnlockBy::Held(to_held_lock(lock)),
        UnlockBy::Id(id) => wit::UnlockBy::Id(id.clone()),
        UnlockBy::Token(token) => wit::UnlockBy::Token(token.clone()),
    }
}

pub(crate) fn holder(it: wit::Holder) -> Holder {
    Holder {
        place: it.place,
        info: it.info.map(|info| LockInfo {
            id: info.id,
            operation: info.operation,
            info: info.info,
            who: info.who,
            version: info.version,
            created: info.created,
            path: info.path,
        }),
        token: it.token,
    }
}

pub(crate) fn store_error(it: wit::Error) -> StoreError {
    StoreError {
        code: match it.code {
            wit::ErrorCode::AccessDenied => ErrorCode::AccessDenied,
            wit::ErrorCode::Credentials => ErrorCode::Credentials,
            wit::ErrorCode::DigestMismatch => ErrorCode::DigestMismatch,
            wit::ErrorCode::InvalidArgument => ErrorCode::InvalidArgument,
            wit::ErrorCode::LockMismatch => ErrorCode::LockMismatch,
            wit::ErrorCode::Locked => ErrorCode::Locked,
            wit::ErrorCode::NoSuchBucket => ErrorCode::NoSuchBucket,
            wit::ErrorCode::Other => ErrorCode::Other,
            wit::ErrorCode::StateChanged => ErrorCode::StateChanged,
            wit::ErrorCode::Throttled => ErrorCode::Throttled,
            wit::ErrorCode::TimedOut => ErrorCode::TimedOut,
            wit::ErrorCode::TooLarge => ErrorCode::TooLarge,
            wit::ErrorCode::Unreachable => ErrorCode::Unreachable,
            wit::ErrorCode::Unsupported => ErrorCode::Unsupported,
        },
        message: it.message,
        outcome: match it.outcome {
            wit::Outcome::NotDone => Outcome::NotDone,
            wit::Outcome::Unknown => Outcome::Unknown,
        },
        retryable: it.retryable,
        holders: it.holders.into_iter().map(holder).collect(),
        facts: it.facts,
    }
}

/// A state as it left the component, not verified yet.
pub(crate) struct Unverified {
    pub(crate) bytes: Bytes,
    pub(crate) revision: Revision,
    pub(crate) checksum: Option<wit::Checksum>,
}

pub(crate) fn state(it: wit::State) -> Unverified {
    Unverified {
        bytes: Bytes::from(it.bytes),
        revision: revision(it.revision),
        checksum: it.checksum,
    }
}
