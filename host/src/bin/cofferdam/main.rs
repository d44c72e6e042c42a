//! The `cofferdam` command: a person's way to the library.
//!
//! Exit codes: 0 done, 1 error, 2 `doctor`: locking is not safe, 64 wrong usage, 75 somebody else holds the lock, 130 and
//! 143 ended by SIGINT and SIGTERM; `exec` passes on those of its command.

#[cfg(test)]
use cofferdam_canaries as _;

mod arguments;
mod confirm;
mod demo;
mod dev;
mod doctor;
mod exec;
mod explain;
mod failure;
mod force_unlock;
mod hcl_text;
mod iam_policy;
mod interrupt;
mod lock_safety;
mod lock_status;
mod locking;
mod output;
mod repair_digest;
mod serve;
mod session;
mod site;
mod state_pull;
mod state_push;
mod verdict;
mod version;
mod workspace;

use std::fs::OpenOptions;
use std::process::ExitCode;
use std::sync::Mutex;

use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::EnvFilter;

use crate::arguments::{Arguments, Command, LockCommand, RepairCommand, StateCommand, parse};
use crate::failure::{Failure, USAGE};
use crate::output::Output;
use crate::session::Session;

fn main() -> ExitCode {
    let arguments = match parse(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing is left to tell if even this cannot be written.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    let output = Output::new(arguments.global.no_color);
    match start(arguments, output) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            for diagnostic in &failure.diagnostics {
                output.diagnostic(diagnostic);
            }
            ExitCode::from(failure.code)
        }
    }
}

fn start(arguments: Arguments, output: Output) -> Result<u8, Failure> {
    let Arguments { global, command } = arguments;
    log(output);
    if let Some(directory) = &global.chdir {
        std::env::set_current_dir(directory).map_err(|error| {
            Failure::new(
                "Error handling --chdir option",
                format!("Cannot change to {}: {error}.", directory.display()),
            )
        })?;
    }
    let runtime =
        runtime(&command).map_err(|error| Failure::new("Cannot start", format!("{error}.")))?;
    let session = Session::new(global, output);
    let answer = runtime.block_on(run(command, &session));
    // The process ends: to take the runtime apart would only take time.
    std::mem::forget(runtime);
    Ok(session.interrupted().unwrap_or(answer?))
}

/// Threads only for commands that serve others while they work, or race with themselves: they take time to start, and to
/// wake each other for every request. `exec` serves a single client, which waits for each answer.
fn runtime(command: &Command) -> std::io::Result<Runtime> {
    match command {
        Command::Demo(_) | Command::Dev(_) | Command::Doctor(_) | Command::Serve(_) => {
            Builder::new_multi_thread()
        }
        _ => Builder::new_current_thread(),
    }
    .enable_all()
    .build()
}

async fn run(command: Command, session: &Session) -> Result<u8, Failure> {
    match command {
        Command::Demo(options) => demo::run(session, &options).await?,
        Command::Dev(options) => dev::run(options).await?,
        Command::Doctor(options) => return doctor::run(session, &options).await,
        Command::Exec(options) => return exec::run(session, options).await,
        Command::Explain(options) => explain::run(session, &options).await?,
        Command::ForceUnlock(options) => force_unlock::run(session, &options).await?,
        Command::IamPolicy(options) => iam_policy::run(session, &options).await?,
        Command::Lock {
            command: LockCommand::Status(options),
        } => return lock_status::run(session, &options).await,
        Command::Repair {
            command: RepairCommand::Digest(options),
        } => repair_digest::run(session, &options).await?,
        Command::Serve(options) => serve::run(session, options).await?,
        Command::State { command } => match command {
            StateCommand::Pull => state_pull::run(session).await?,
            StateCommand::Push(options) => state_push::run(session, &options).await?,
        },
        Command::Version(options) => version::run(session, &options).await?,
        Command::Workspace { command } => workspace::run(session, command).await?,
    }
    Ok(0)
}

/// `COFFERDAM_LOG` takes what `RUST_LOG` takes elsewhere, such as `cofferdam=debug`. Unset: silence. The log goes to
/// standard error, or is added to the file that `COFFERDAM_LOG_PATH` names.
fn log(output: Output) {
    let Ok(filter) = std::env::var("COFFERDAM_LOG") else {
        return;
    };
    let log = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(filter));
    let Some(path) = std::env::var_os("COFFERDAM_LOG_PATH").filter(|path| !path.is_empty()) else {
        return log.with_writer(std::io::stderr).init();
    };
    match OpenOptions::new().create(true).append(true).open(&path) {
        Ok(file) => log.with_ansi(false).with_writer(Mutex::new(file)).init(),
        Err(error) => output.message(&format!(
            "Nothing is logged: cannot open {}, which COFFERDAM_LOG_PATH names: {error}.",
            path.display()
        )),
    }
}
