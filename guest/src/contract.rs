//! The types of the contract, as plain Rust.
//!
//! They are generated from `wit/`, once: what the tests call natively and what a host calls through the component
//! cannot drift apart.

pub use crate::bindings::cofferdam::state_backend::types::{
    Checksum, DeleteOptions, Diagnostic, Error, ErrorCode, Expectation, HeldLock, Holder, LockInfo,
    Outcome, Reading, Revision, Severity, State, UnlockBy, WriteOptions,
};
pub use crate::bindings::exports::cofferdam::state_backend::inspection::{
    DigestReport, Generation, Policy, PolicyOptions, ProbeOptions, Purpose,
};
pub use crate::bindings::exports::cofferdam::state_backend::state_store::{Fence, OpenOptions};

use crate::config;

impl From<config::Diagnostic> for Diagnostic {
    fn from(diagnostic: config::Diagnostic) -> Self {
        Self {
            severity: match diagnostic.severity {
                config::Severity::Error => Severity::Error,
                config::Severity::Warning => Severity::Warning,
            },
            summary: diagnostic.summary,
            detail: diagnostic.detail,
            attribute: diagnostic.attribute,
        }
    }
}
