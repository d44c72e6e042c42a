//! What the binding generator makes of `wit/`. Private: callers use [`crate::contract`].
//!
//! The generator takes in what is unstable, too, and then refuses every component without it. So the world is written
//! down here once more, as far as this host deals with it: the rest of the imports is linked by name, and
//! [`crate::inspection`] looks up what a component may leave out.

#![allow(
    missing_docs,
    unused_qualifications,
    clippy::all,
    reason = "generated code"
)]

wasmtime::component::bindgen!({
    path: "../wit",
    inline: "
        package cofferdam:host;

        world state-backend {
            import cofferdam:state-backend/surroundings@0.1.0;
            export cofferdam:state-backend/state-store@0.1.0;
        }
    ",
    world: "cofferdam:host/state-backend",
    imports: { default: async | trappable },
    exports: { default: async },
    require_store_data_send: true,
});
