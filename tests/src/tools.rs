//! Programs that a test needs and that a machine may not have.
//!
//! A test that is silently skipped proves nothing, and a test that fails for want of Terraform hides the
//! failures that matter. So a skipped test says so, and where everything is expected to be there
//! (`COFFERDAM_REQUIRE_TOOLS=1`) nothing is skipped.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Finds a program: where the variable says, under the workspace root, or on the `PATH`.
///
/// Answers `None` after it has printed that the test is skipped.
///
/// # Panics
/// If there is none and `COFFERDAM_REQUIRE_TOOLS=1` is set.
pub fn find(program: &str, variable: &str, below_root: &str) -> Option<PathBuf> {
    let named = env::var_os(variable).map(PathBuf::from);
    if let Some(path) = &named {
        assert!(
            path.is_file(),
            "{variable} names {}, which is no file",
            path.display()
        );
    }
    let found = named
        .or_else(|| is_file(workspace_root().join(below_root)))
        .or_else(|| on_path(program));
    if found.is_none() {
        assert!(
            env::var_os("COFFERDAM_REQUIRE_TOOLS").is_none_or(|value| value != "1"),
            "{program} is not installed, and COFFERDAM_REQUIRE_TOOLS=1 says that it must be",
        );
        eprintln!("skipped: {program} is not installed");
    }
    found
}

/// The directory of the workspace.
pub fn workspace_root() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    let root = workspace_root();
    env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |directory| root.join(directory))
}

/// Where cargo puts components: the target directory that `host/build.rs` uses for them.
pub fn component_target() -> PathBuf {
    target().join("component")
}

/// The component that the library carries, as a file.
pub fn component_path() -> PathBuf {
    component_target().join("cofferdam_s3.wasm")
}

/// Builds a package of this workspace that is a component for tests, and gives its file.
///
/// # Panics
/// If it does not build.
pub fn build_component(package: &str) -> PathBuf {
    build(
        package,
        &["--target", "wasm32-wasip2", "--profile", "guest"],
    );
    let file = format!("{}.wasm", package.replace('-', "_"));
    component_target().join("wasm32-wasip2/guest").join(file)
}

/// Builds a package of this workspace that is a program for tests, and gives its file.
///
/// # Panics
/// If it does not build.
pub fn build_program(package: &str) -> PathBuf {
    build(package, &[]);
    component_target().join("debug").join(package)
}

/// In a target directory of its own: cargo holds a lock on this one.
fn build(package: &str, options: &[&str]) {
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(workspace_root())
        .args(["build", "--package", package, "--target-dir"])
        .arg(component_target())
        .args(options)
        .status()
        .expect("cargo runs");
    assert!(status.success(), "{package} builds");
}

/// The `cofferdam` command of this build: what `COFFERDAM_BIN` names, else the one beside the test's own
/// executable. Cargo builds it with the workspace (`cargo build --release`), not with a single test.
///
/// # Panics
/// If there is none.
pub fn cofferdam() -> PathBuf {
    if let Some(path) = env::var_os("COFFERDAM_BIN") {
        return path.into();
    }
    let test = env::current_exe().expect("the path of this test");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("target/<profile>/deps/<test>");
    let binary = profile.join("cofferdam");
    assert!(
        binary.is_file(),
        "{} does not exist: run `cargo build --release` first, or set COFFERDAM_BIN",
        binary.display(),
    );
    binary
}

/// The same in a directory, not yet started: with pipes, without input, and with nothing in its environment but what keeps
/// its log. It ends when it is dropped.
///
/// # Panics
/// As [`cofferdam()`].
pub fn cofferdam_in(directory: &Path) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(cofferdam());
    command
        .current_dir(directory)
        .env_clear()
        .envs(cofferdam_canaries::variables())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).find_map(|directory| is_file(directory.join(program)))
}

fn is_file(path: PathBuf) -> Option<PathBuf> {
    path.is_file().then_some(path)
}
