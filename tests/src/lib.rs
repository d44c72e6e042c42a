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
pub mod ministack;
pub mod native;
pub mod raw_s3;
pub mod site;
pub mod terraform;
pub mod tools;

pub use ministack::Ministack;
pub use raw_s3::RawS3;
pub use site::Site;
pub use terraform::Terraform;
