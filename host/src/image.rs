//! The precompiled component inside this binary.
//!
//! On Linux it stands in the binary's own code section: the system maps it page by page as it runs, and never
//! writable. Elsewhere it is copied into memory that the engine makes executable. The copy costs a short-lived
//! command a fifth of its time.

use std::sync::OnceLock;

use wasmtime::Engine;
use wasmtime::component::Component;

use crate::engine;

/// The component out of its image; none when the image was made for another kind of processor. It is the same
/// one for the whole process: code that stands in one place can be registered only once.
pub(crate) fn load() -> Option<Component> {
    static COMPONENT: OnceLock<Option<Component>> = OnceLock::new();
    COMPONENT
        .get_or_init(|| {
            load_once()
                .map_err(|error| tracing::warn!(%error, "the embedded image does not load"))
                .ok()
        })
        .clone()
}

fn load_once() -> wasmtime::Result<Component> {
    let mut settings = engine::settings()?;
    // Nothing is compiled with this engine, and it starts faster without a compiler.
    settings.enable_compiler(false);
    #[cfg(target_os = "linux")]
    settings.with_custom_code_memory(Some(std::sync::Arc::new(linux::AlreadyExecutable)));
    deserialize(&engine::start(&settings)?)
}

/// Takes precompiled code. The one place of this crate that needs `unsafe`: the engine cannot verify machine
/// code.
#[allow(unsafe_code, reason = "machine code cannot be verified")]
fn deserialize(engine: &Engine) -> wasmtime::Result<Component> {
    const LENGTH: usize = include_bytes!(concat!(env!("OUT_DIR"), "/component.cwasm")).len();
    #[repr(C, align(4096))]
    struct Image([u8; LENGTH]);
    // SAFETY of the attribute: the section holds bytes that no linker reorders or merges, and nothing else
    // bears this name.
    #[cfg_attr(target_os = "linux", unsafe(link_section = ".text.cofferdam_image"))]
    static IMAGE: Image = Image(*include_bytes!(concat!(
        env!("OUT_DIR"),
        "/component.cwasm"
    )));

    // SAFETY: `IMAGE` is the output of `Engine::precompile_component` in build.rs, compiled into this binary
    // and never read from a file that somebody could change. It lives as long as the process, and nothing
    // writes to it. The engine itself refuses images of another version, other settings or missing processor
    // features.
    #[cfg(target_os = "linux")]
    return unsafe { Component::deserialize_raw(engine, std::ptr::NonNull::from(&IMAGE.0[..])) };
    // SAFETY: as above.
    #[cfg(not(target_os = "linux"))]
    return unsafe { Component::deserialize(engine, &IMAGE.0) };
}

#[cfg(target_os = "linux")]
mod linux {
    /// Tells the engine that the code of the image may run where it stands.
    pub(super) struct AlreadyExecutable;

    /// The page size that the image is aligned to.
    const PAGE: usize = 4096;

    impl wasmtime::CustomCodeMemory for AlreadyExecutable {
        fn required_alignment(&self) -> usize {
            PAGE
        }

        fn publish_executable(&self, _code: *const u8, _length: usize) -> wasmtime::Result<()> {
            Ok(())
        }

        fn unpublish_executable(&self, _code: *const u8, _length: usize) -> wasmtime::Result<()> {
            Ok(())
        }
    }
}
