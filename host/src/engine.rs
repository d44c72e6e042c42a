//! The engine, and the clock that ends a computation which does not end by itself.
//!
//! Without the ticking thread an endless loop in a component would hold a thread of the embedder for ever.

use std::time::Duration;

use wasmtime::Engine;

use crate::engine_settings::engine_settings;
use crate::{ComponentError, Error};

/// How often a running component is interrupted to count its processor time and let other tasks run.
/// Short beside any limit somebody would set, long beside the microsecond that an interruption costs.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// An engine with its ticking thread, which ends with the last clone of the engine. One that never compiles
/// starts faster.
pub(crate) fn start(compiles: bool) -> Result<Engine, Error> {
    let mut settings = engine_settings(None).map_err(invalid)?;
    settings.enable_compiler(compiles);
    let engine = Engine::new(&settings).map_err(invalid)?;
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
        .map_err(|error| {
            ComponentError::Instantiate(format!("no thread for the clock: {error}"))
        })?;
    Ok(engine)
}

fn invalid(error: wasmtime::Error) -> Error {
    ComponentError::Instantiate(format!("the engine does not start: {error:#}")).into()
}
