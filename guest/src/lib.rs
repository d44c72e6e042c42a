//! Terraform's `s3` state backend behind the contract `cofferdam:state-backend`.
//!
//! Compiled for WebAssembly this is a component: its exports stand in `component`, what it asks of the outside in
//! `wasi`. Compiled natively it is the same logic as a library, so that everything in [`store`] can be tested
//! without a runtime.

mod arn;
mod aws;
mod calendar;
#[cfg(target_family = "wasm")]
mod component;
pub mod config;
pub mod contract;
mod credentials;
mod dynamodb;
mod failure;
#[cfg(test)]
mod fuzz;
mod json;
mod lock;
mod lock_record;
mod operation;
pub mod platform;
pub mod policy;
pub mod probe;
mod s3;
pub mod secret;
mod state_head;
pub mod store;
#[cfg(target_family = "wasm")]
mod wasi;
mod workspace;

pub use store::Store;

#[allow(
    clippy::all,
    missing_docs,
    unsafe_code,
    unused_qualifications,
    dead_code,
    reason = "generated from wit/"
)]
mod bindings {
    wit_bindgen::generate!({
        world: "state-backend",
        path: "../wit",
        features: ["inspection"],
        generate_all,
    });
}
