//! What the tests of cofferdam share: the conformance suite, the programs that it is tested with and
//! against, and requests made by hand.
//!
//! The tests themselves stand in `tests/`, the benchmarks in `benches/`; CONTRIBUTING.md says how to run
//! each of them.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "this is test code: a panic is how it reports"
)]

pub mod component;
pub mod conformance;
pub mod credential_services;
pub mod gate;
pub mod go;
pub mod http_backend;
pub mod interceptor;
mod locked_out;
pub mod native;
pub mod pair;
pub mod proxy;
pub mod raw_dynamodb;
pub mod raw_s3;
pub mod servers;
pub mod signed;
pub mod site;
pub mod terraform;
pub mod tools;

pub use credential_services::CredentialServices;
pub use gate::{Fate, Gate};
pub use http_backend::HttpBackend;
pub use pair::Pair;
pub use raw_dynamodb::{RawDynamoDb, digest_of};
pub use raw_s3::RawS3;
pub use servers::{Dynalite, Ministack, Moto, S3rver, S3sFs};
pub use site::{Locking, Site};
pub use terraform::Terraform;
