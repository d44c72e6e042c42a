//! The settings of the engine. build.rs compiles this file too: an image that was precompiled with other
//! settings would be refused at load, and every start would pay for a compilation.

/// The settings, for the machine that the code runs on unless `target` says otherwise.
pub(crate) fn engine_settings(target: Option<&str>) -> wasmtime::Result<wasmtime::Config> {
    let mut config = wasmtime::Config::new();
    if let Some(target) = target {
        config.target(target)?;
    }
    // Ends a loop that never comes back; fuel would cost two to three times the speed.
    config.epoch_interruption(true);
    // Functions of the contract are synchronous: without concurrency a call costs a third.
    config.concurrency_support(false);
    config.gc_support(false);
    config.wasm_relaxed_simd(false);
    // A trap is reported by its kind. Names and addresses would only make the image larger.
    config.wasm_backtrace_max_frames(None);
    config.generate_address_map(false);
    config.native_unwind_info(false);
    Ok(config)
}
