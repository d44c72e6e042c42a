//! The walls of the sandbox, tried from the inside by a component that misbehaves on request
//! (`tests/hostile`), and from the outside by components that ask for too much.
//!
//! Each misdeed ends in its typed error, while a store of another tenant works on in the same process and
//! loses nothing.

#![allow(
    clippy::unwrap_used,
    reason = "also the helpers of tests fail by panicking"
)]

#[path = "sandbox/computing.rs"]
mod computing;
#[path = "sandbox/house.rs"]
mod house;
#[path = "sandbox/http.rs"]
mod http;
#[path = "sandbox/limits.rs"]
mod limits;
#[path = "sandbox/loading.rs"]
mod loading;
#[path = "sandbox/machine.rs"]
mod machine;
#[path = "sandbox/network.rs"]
mod network;
#[path = "sandbox/server.rs"]
mod server;
#[path = "sandbox/stores.rs"]
mod stores;
