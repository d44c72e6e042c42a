//! What the binding generator makes of `wit/`. Private: callers use [`crate::contract`].

#![allow(
    missing_docs,
    unused_qualifications,
    clippy::all,
    reason = "generated code"
)]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "state-backend",
    imports: { default: async | trappable },
    exports: { default: async },
    require_store_data_send: true,
    with: {
        "wasi:io": wasmtime_wasi::p2::bindings::io,
        "wasi:clocks": wasmtime_wasi::p2::bindings::clocks,
        "wasi:random": wasmtime_wasi::p2::bindings::random,
        "wasi:http": wasmtime_wasi_http::p2::bindings::http,
    },
});
