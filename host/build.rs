//! Builds the component and precompiles it, so that the library carries both: the command starts in
//! milliseconds on a machine that never ran it, and reads no code from a place that others can write.

#[path = "src/engine_settings.rs"]
mod engine_settings;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use sha2::{Digest, Sha256};

const TARGET: &str = "wasm32-wasip2";
const PROFILE: &str = "guest";

fn main() -> Result<(), Box<dyn Error>> {
    let host = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let root = host
        .parent()
        .ok_or("the host crate stands in a workspace")?;
    println!(
        "cargo::rustc-env=COFFERDAM_WASMTIME_VERSION={}",
        wasmtime_version(root)?
    );
    if env::var_os("CARGO_FEATURE_EMBEDDED_COMPONENT").is_none() {
        return Ok(());
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let target_directory = env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |directory| root.join(directory))
        .join("component");
    let wasm = fs::read(build_component(root, &target_directory)?)?;
    let wasm = without_custom_sections(&wasm).ok_or("the component breaks off")?;
    let settings = engine_settings::engine_settings(Some(&env::var("TARGET")?))?;
    let image = wasmtime::Engine::new(&settings)?.precompile_component(&wasm)?;
    let digest: String = Sha256::digest(&wasm)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    fs::write(out.join("component.wasm"), &wasm)?;
    // Under its name, for other hosts.
    fs::write(target_directory.join("cofferdam_s3.wasm"), &wasm)?;
    fs::write(out.join("component.cwasm"), image)?;
    println!("cargo::rustc-env=COFFERDAM_COMPONENT_SHA256={digest}");
    Ok(())
}

/// The version of wasmtime that is compiled in; the library itself does not tell.
fn wasmtime_version(root: &Path) -> Result<String, Box<dyn Error>> {
    let lock = fs::read_to_string(root.join("Cargo.lock"))?;
    let mut lines = lock
        .lines()
        .skip_while(|line| *line != "name = \"wasmtime\"");
    let version = lines
        .nth(1)
        .and_then(|line| line.strip_prefix("version = \""));
    let version = version.and_then(|version| version.strip_suffix('"'));
    Ok(version
        .ok_or("Cargo.lock names no version of wasmtime")?
        .to_owned())
}

/// Runs cargo for the component, in a target directory of its own: cargo holds a lock on this one.
fn build_component(root: &Path, target_directory: &Path) -> Result<PathBuf, Box<dyn Error>> {
    for input in [
        "Cargo.toml",
        "Cargo.lock",
        "guest/Cargo.toml",
        "guest/src",
        "wit",
        ".cargo/config.toml",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/engine_settings.rs");
    println!("cargo::rerun-if-env-changed=CARGO_TARGET_DIR");

    // With the library for other crates beside it, the component would be linked without optimisation across crates.
    let status = component_cargo(root)
        .args([
            "rustc",
            "--package",
            "cofferdam-s3",
            "--lib",
            "--crate-type",
            "cdylib",
            "--target",
            TARGET,
            "--profile",
            PROFILE,
        ])
        .arg("--target-dir")
        .arg(target_directory)
        // The linker leaves every index at its widest otherwise: a twelfth of the component.
        .args(["--", "-C", "link-arg=--compress-relocations"])
        .status()?;
    if !status.success() {
        return Err(format!(
            "the component does not build ({status}): see above; if the target is missing, `rustup target add {TARGET}`"
        )
        .into());
    }
    Ok(target_directory
        .join(TARGET)
        .join(PROFILE)
        .join("cofferdam_s3.wasm"))
}

/// A cargo that knows nothing of the one that runs this script: flags and wrappers meant for the host
/// would change the component, or check it instead of building it.
fn component_cargo(root: &Path) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root);
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let kept = matches!(
            name.as_str(),
            "CARGO_HOME" | "CARGO_NET_OFFLINE" | "CARGO_HTTP_CAINFO"
        );
        let foreign =
            name.starts_with("CARGO_") || name.starts_with("RUSTC") || name == "RUSTFLAGS";
        if foreign && !kept {
            cargo.env_remove(name);
        }
    }
    // The same component on every machine: panics name their places.
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(env::home_dir()?.join(".cargo")));
    if let Some(home) = home {
        let sources = home.join("registry/src");
        let flag = format!("--remap-path-prefix={}=registry", sources.display());
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flag);
    }
    cargo
}

/// A component without what only debuggers read, as the names of its functions; the linker always adds them. None: it is
/// none.
fn without_custom_sections(wasm: &[u8]) -> Option<Vec<u8>> {
    const HEADER: usize = 8;
    const CUSTOM: u8 = 0;
    let (header, mut rest) = wasm.split_at_checked(HEADER)?;
    let mut kept = header.to_vec();
    while let [id, after @ ..] = rest {
        // The size, in LEB128: seven bits a byte, the lowest ones first.
        let length = 1 + after.iter().position(|byte| byte & 0x80 == 0)?;
        let size = after[..length].iter().rev();
        let size = size.fold(0, |size, byte| size << 7 | usize::from(byte & 0x7f));
        let (section, others) = rest.split_at_checked(1 + length + size)?;
        if *id != CUSTOM {
            kept.extend_from_slice(section);
        }
        rest = others;
    }
    Some(kept)
}
