//! Terraform and OpenTofu state in S3, with the storage code sealed in a WebAssembly sandbox.
//!
//! ```no_run
//! use cofferdam::{Backend, Grant, LockInfo, Reading, StateStore, UnlockBy};
//! use serde_json::json;
//!
//! # async fn example() -> Result<(), cofferdam::Error> {
//! let backend = Backend::builder().build().await?;
//! let config = json!({ "bucket": "tfstate", "key": "app.tfstate", "region": "eu-west-1", "use_lockfile": true });
//! let store = backend.store(config).grant(Grant::local()).open().await?.store;
//! let lock = store.lock("default", &LockInfo::new("example")).await?;
//! if let Reading::State(state) = store.read("default", None).await? {
//!     println!("{} bytes at revision {}", state.bytes.len(), state.revision.tag);
//! }
//! store.unlock("default", &UnlockBy::Held(lock)).await?;
//! # Ok(())
//! # }
//! ```

// From here on all that the tests log is searched for secrets.
#[cfg(test)]
use cofferdam_canaries as _;

mod backend;
mod bindings;
mod checksum;
mod component;
#[cfg(feature = "cli")]
pub mod config;
mod contract;
mod convert;
#[cfg(feature = "dev-store")]
pub mod dev_store;
mod engine;
mod engine_settings;
mod environment;
mod error;
#[cfg(feature = "gateway")]
pub mod gateway;
mod go_duration;
mod grant;
#[cfg(feature = "embedded-component")]
mod image;
mod inspection;
mod instance;
mod limits;
mod lock_wait;
mod observe;
mod policy;
mod secret;
mod shared_credentials;
mod shared_files;
mod small_file;
mod state_file;
mod store;
mod surroundings;
mod tenant;
mod transport;
mod who;

pub use backend::{Backend, BackendBuilder, Opened, StoreBuilder};
pub use component::{ALLOWED_IMPORTS, ComponentSource};
pub use contract::{
    DeleteOptions, Diagnostic, ErrorCode, Expectation, HeldLock, Holder, LockInfo, Outcome,
    Reading, Revision, Severity, State, StateStore, StoreError, UnlockBy, WriteOptions,
};
pub use error::{ComponentError, Error, Limit};
pub use go_duration::{GoDurationError, parse_go_duration};
pub use grant::Grant;
pub use inspection::{
    Check, CheckOutcome, DigestReport, DynamoDbTable, Generation, ProbeOptions, ProbeReport,
    Verdict, Versioning,
};
pub use limits::{DocumentedLimit, Limits, LimitsError};
pub use lock_wait::{wait_for_lock, wait_for_lock_or_stop};
pub use observe::{DocumentedMetric, describe_metrics, documented_metrics};
pub use policy::{Policy, PolicyOptions, Purpose};
pub use secret::Secret;
pub use state_file::{
    NotAState, Push, PushRefusal, StateHeader, Tracked, check_push, empty_state, tracked,
};
pub use store::{Fence, Store};
pub use surroundings::{AccessKey, LOCAL_VARIABLES, Local, Nothing, Refusal, Surroundings};
pub use tenant::Tenant;
pub use transport::{
    CertificatesError, EgressRule, EgressRuleError, Proxies, ProxyUrlError, Resolve,
};

/// The programs in the README compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
