//! What a test process writes into the folder.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::process;
use std::sync::OnceLock;

use ctor::ctor;
use tracing_subscriber::filter::LevelFilter;

/// Names the folder.
const VARIABLE: &str = "COFFERDAM_TEST_TRACE";

/// The part of the folder with what to search for, which itself is not searched.
pub(crate) const WATCHED: &str = "watched";

/// Where this process writes to, if it was told to.
struct Trace {
    logged: File,
    recorded: File,
    watched: File,
}

static TRACE: OnceLock<Trace> = OnceLock::new();

/// The folder that all tests of this run write to.
pub fn folder() -> Option<PathBuf> {
    std::env::var_os(VARIABLE)
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from)
}

/// The variables that a command of cofferdam logs by: for tests that start one in an environment of its own.
pub fn variables() -> impl Iterator<Item = (&'static str, OsString)> {
    ["COFFERDAM_LOG", "COFFERDAM_LOG_PATH"]
        .into_iter()
        .filter_map(|name| Some((name, std::env::var_os(name)?)))
}

/// Adds what a test captured, such as the output of a command.
pub fn record(bytes: impl AsRef<[u8]>) {
    if let Some(mut file) = TRACE.get().map(|trace| &trace.recorded) {
        // One write: other threads record, too.
        let line = [bytes.as_ref(), b"\n"].concat();
        file.write_all(&line).unwrap_or_else(|error| broken(&error));
    }
}

/// Has the search look for a secret that was made at random.
pub fn watch(name: &str, secret: &str) {
    if let Some(mut file) = TRACE.get().map(|trace| &trace.watched) {
        let line = format!("{name}\t{secret}\n");
        file.write_all(line.as_bytes())
            .unwrap_or_else(|error| broken(&error));
    }
}

/// Begins before `main`, and so before any test: a test harness has no other place for that.
#[ctor(unsafe)]
fn begin() {
    let Some(folder) = folder() else { return };
    if let Err(error) = begin_in(folder) {
        broken(&error);
    }
}

fn begin_in(folder: PathBuf) -> std::io::Result<()> {
    fs::create_dir_all(folder.join(WATCHED))?;
    let program = std::env::current_exe()?;
    let program = program
        .file_stem()
        .and_then(OsStr::to_str)
        .unwrap_or("test");
    let name = format!("{program}-{}", process::id());
    let open = |path: PathBuf| OpenOptions::new().create(true).append(true).open(path);
    let trace = Trace {
        logged: open(folder.join(format!("{name}.log")))?,
        recorded: open(folder.join(format!("{name}.recorded")))?,
        watched: open(folder.join(WATCHED).join(&name))?,
    };
    let to = trace.logged.try_clone()?;
    if TRACE.set(trace).is_err() {
        return Ok(());
    }
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(std::sync::Mutex::new(to))
        .init();
    // rustls and wasmtime speak to `log`.
    if log::set_logger(&Logged).is_ok() {
        log::set_max_level(log::LevelFilter::Trace);
    }
    Ok(())
}

/// The crate `log`, into the same file.
struct Logged;

impl log::Log for Logged {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if let Some(mut file) = TRACE.get().map(|trace| &trace.logged) {
            let line = format!(
                "{} log {}: {}\n",
                record.level(),
                record.target(),
                record.args()
            );
            file.write_all(line.as_bytes())
                .unwrap_or_else(|error| broken(&error));
        }
    }

    fn flush(&self) {}
}

/// A run whose log is cut short proves nothing.
fn broken(error: &std::io::Error) {
    eprintln!("{VARIABLE}: cannot write to the folder: {error}");
    process::abort();
}
