//! Loading a component: its own, embedded and precompiled, or any file with the same contract.
//!
//! Without the check of imports a component could ask for files or sockets and, once somebody links them,
//! get them; here a component that asks for more than a state backend needs is refused by name.

use std::path::PathBuf;

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre, Linker};

use crate::bindings::StateBackendIndices;
use crate::checksum::hex;
use crate::inspection::Inspection;
use crate::instance::Guest;
use crate::{ComponentError, Error, engine};

/// Which component runs.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum ComponentSource {
    /// These bytes of a `.wasm` component.
    Bytes(Vec<u8>),
    /// The one that this library was built with.
    #[default]
    Embedded,
    /// A `.wasm` file.
    File(PathBuf),
}

/// Everything a component may import, without versions. Nothing of this reaches files, sockets or
/// processes; what `wasi:cli` offers is linked to an empty context.
pub const ALLOWED_IMPORTS: &[&str] = &[
    "cofferdam:state-backend/surroundings",
    "cofferdam:state-backend/types",
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

/// A component, linked and ready for instances.
pub(crate) struct Loaded {
    pub(crate) engine: Engine,
    pub(crate) pre: InstancePre<Guest>,
    pub(crate) exports: StateBackendIndices,
    /// What it offers beside the contract; none: it does not.
    pub(crate) inspection: Option<Inspection>,
    pub(crate) sha256: String,
}

/// Loads, checks and links a component, provided that it has the expected SHA-256. A compilation takes about a second; the
/// embedded component needs none.
pub(crate) fn load(source: &ComponentSource, expected: Option<&str>) -> Result<Loaded, Error> {
    let (component, sha256) = match source {
        ComponentSource::Bytes(bytes) => compile(bytes, expected)?,
        ComponentSource::Embedded => embedded(expected)?,
        ComponentSource::File(path) => {
            let bytes = std::fs::read(path).map_err(|source| ComponentError::Read {
                path: path.clone(),
                source,
            })?;
            compile(&bytes, expected)?
        }
    };
    let engine = component.engine().clone();
    check_imports(&engine, &component)?;
    let linker =
        link(&engine).map_err(|error| ComponentError::Instantiate(format!("{error:#}")))?;
    let pre = linker
        .instantiate_pre(&component)
        .map_err(|error| ComponentError::Instantiate(format!("{error:#}")))?;
    let found = StateBackendIndices::new(&pre)
        .map_err(|_| ComponentError::MissingExport(exports(&engine, &component)))?;
    Ok(Loaded {
        inspection: Inspection::of(&component),
        engine,
        pre,
        exports: found,
        sha256,
    })
}

fn compile(bytes: &[u8], expected: Option<&str>) -> Result<(Component, String), Error> {
    let sha256 = hex(&Sha256::digest(bytes));
    check_digest(&sha256, expected)?;
    if Engine::detect_precompiled(bytes).is_some() {
        return Err(ComponentError::Precompiled.into());
    }
    if !bytes.starts_with(b"\0asm") {
        return Err(ComponentError::Invalid("it is no WebAssembly at all".to_owned()).into());
    }
    let engine = engine::settings()
        .and_then(|settings| engine::start(&settings))
        .map_err(|error| ComponentError::Instantiate(format!("no engine: {error:#}")))?;
    let component = Component::from_binary(&engine, bytes)
        .map_err(|error| ComponentError::Invalid(format!("{error:#}")))?;
    Ok((component, sha256))
}

/// Whether the digest is the expected one, in whatever case, and with or without the name of the algorithm.
fn check_digest(actual: &str, expected: Option<&str>) -> Result<(), ComponentError> {
    let Some(expected) = expected else {
        return Ok(());
    };
    let digits = expected.strip_prefix("sha256:").unwrap_or(expected);
    if digits.eq_ignore_ascii_case(actual) {
        return Ok(());
    }
    Err(ComponentError::Digest {
        expected: expected.to_owned(),
        actual: actual.to_owned(),
    })
}

#[cfg(feature = "embedded-component")]
fn embedded(expected: Option<&str>) -> Result<(Component, String), Error> {
    static WASM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/component.wasm"));
    const SHA256: &str = env!("COFFERDAM_COMPONENT_SHA256");
    check_digest(SHA256, expected)?;
    match crate::image::load() {
        Some(component) => Ok((component, SHA256.to_owned())),
        None => compile(WASM, expected),
    }
}

#[cfg(not(feature = "embedded-component"))]
fn embedded(_expected: Option<&str>) -> Result<(Component, String), Error> {
    Err(ComponentError::NotEmbedded.into())
}

fn check_imports(engine: &Engine, component: &Component) -> Result<(), Error> {
    let forbidden: Vec<String> = component
        .component_type()
        .imports(engine)
        .map(|(name, _)| name.to_owned())
        .filter(|name| !is_allowed(name))
        .collect();
    if forbidden.is_empty() {
        Ok(())
    } else {
        Err(ComponentError::ForbiddenImport(forbidden).into())
    }
}

fn is_allowed(import: &str) -> bool {
    let (name, version) = import.split_once('@').unwrap_or((import, ""));
    let compatible = if name.starts_with("wasi:") {
        "0.2."
    } else {
        "0.1."
    };
    ALLOWED_IMPORTS.contains(&name) && version.starts_with(compatible)
}

fn exports(engine: &Engine, component: &Component) -> String {
    let names: Vec<String> = component
        .component_type()
        .exports(engine)
        .map(|(name, _)| name.to_owned())
        .collect();
    if names.is_empty() {
        "nothing".to_owned()
    } else {
        names.join(", ")
    }
}

/// Links the two doors, network and surroundings, and the rest that a toolchain imports to an empty context.
fn link(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    use wasmtime_wasi::cli::{WasiCli, WasiCliView};
    use wasmtime_wasi::p2::bindings::{cli, random};
    use wasmtime_wasi::random::{WasiRandom, WasiRandomView as _};

    let mut linker = Linker::<Guest>::new(engine);
    let l = &mut linker;
    wasmtime_wasi::p2::add_to_linker_proxy_interfaces_async(l)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(l)?;
    random::insecure_seed::add_to_linker::<Guest, WasiRandom>(l, |guest| guest.random())?;
    cli::environment::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::exit::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::terminal_input::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::terminal_output::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::terminal_stdin::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::terminal_stdout::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::terminal_stderr::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    crate::bindings::cofferdam::state_backend::surroundings::add_to_linker::<
        Guest,
        crate::instance::HasGuest,
    >(l, |guest| guest)?;
    Ok(linker)
}
