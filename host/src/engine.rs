//! The engine, and the clock that ends a computation which does not end by itself.
//!
//! Without the ticking thread an endless loop in a component would hold a thread of the embedder for ever.

use std::time::Duration;

use wasmtime::error::Context as _;
use wasmtime::{Config, Engine};

use crate::engine_settings::engine_settings;

/// How often a running component is interrupted to look at its processor time and let other tasks run.
/// Short beside any limit somebody would set, long beside the microsecond that an interruption costs.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// The settings for this machine.
pub(crate) fn settings() -> wasmtime::Result<Config> {
    engine_settings(None)
}

/// An engine with its ticking thread, which ends with the last clone of the engine.
pub(crate) fn start(settings: &Config) -> wasmtime::Result<Engine> {
    let engine = Engine::new(settings)?;
    let weak = engine.weak();
    std::thread::Builder::new()
        .name("cofferdam-ticks".to_owned())
        .spawn(move || {
            loop {
                std::thread::sleep(TICK);
                let Some(engine) = weak.upgrade() else { return };
                engine.increment_epoch();
            }
        })
        .context("no thread for the clock")?;
    Ok(engine)
}
