//! `exec`: one command with a gateway of its own around it.
//!
//! The gateway listens on a free loopback port and takes only a token that this process made up; both reach
//! the command through its environment, so nothing is written anywhere and two of them never meet.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use cofferdam::config::{declared_backend, initialised_backend};
use cofferdam::gateway::{Gateway, RunningGateway, Token};
use cofferdam::{Diagnostic, Severity};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::ExecOptions;
use crate::failure::{Failure, diagnostic};
use crate::lock_safety;
use crate::serve::{USER, locks};
use crate::session::Session;

/// Settings of the `http` backend that would lead past what this gateway expects.
const CLEARED: &[&str] = &[
    "TF_HTTP_LOCK_ADDRESS",
    "TF_HTTP_LOCK_METHOD",
    "TF_HTTP_UNLOCK_ADDRESS",
    "TF_HTTP_UNLOCK_METHOD",
    "TF_HTTP_UPDATE_METHOD",
];

/// Answers the command's exit code; 128 and the signal's number if one ended it.
pub(crate) async fn run(session: &Session, options: ExecOptions) -> Result<u8, Failure> {
    let workspace = session.workspace()?;
    if let Some(warning) = passed_by(&session.directory())? {
        session.output.diagnostic(&warning);
    }
    // Then `terraform init -migrate-state` is to come, and must copy the workspace that the person means.
    let migrates = initialised_backend(&session.data_dir())?.is_some_and(|kind| kind != "http");
    let store = session.open().await?;
    let locks = locks(session, &store, &workspace).await?;
    let refuse_locks = lock_safety::at_start(session).await?;
    let token = Token::generate();
    let store = Arc::new(store);
    let gateway = Gateway::builder(store.clone())
        .listen(([127, 0, 0, 1], 0).into())
        .token(Some(token.clone()))
        .allow_force_unlock(options.allow_force_unlock)
        .allow_no_locking(session.global.allow_no_locking)
        .refuse_locks(refuse_locks)
        .start()
        .await
        .map_err(|error| Failure::new("Cannot start the gateway", format!("{error}.")))?;

    let status = run_command(options.command, |command| {
        environment(command, &gateway, &workspace, locks, &token);
        if !migrates {
            // The http backend knows one workspace only; the address chooses ours.
            command.env_remove("TF_WORKSPACE");
        }
    })
    .await;
    gateway.shutdown().await;
    // The process ends: to take the sandbox apart would only take time.
    std::mem::forget(store);
    Ok(exit_code(status?))
}

/// The warning to give when the command, if it is Terraform in this directory, would not use the gateway.
fn passed_by(directory: &Path) -> Result<Option<Diagnostic>, Failure> {
    let found = match declared_backend(directory)? {
        Some((kind, _)) if kind == "http" => return Ok(None),
        Some((kind, place)) => format!("{place} declares backend {kind:?}"),
        None => "The configuration of this directory declares no backend".to_owned(),
    };
    Ok(Some(diagnostic(
        Severity::Warning,
        "The command may pass by the sandbox",
        format!(
            "{found}, so that Terraform would not use the gateway that this command runs for it. Declare\n\n  terraform {{\n    backend \"http\" {{}}\n  }}\n\nand give the arguments of the s3 backend with --backend-config."
        ),
    )))
}

fn environment(
    command: &mut Command,
    gateway: &RunningGateway,
    workspace: &str,
    locks: bool,
    token: &Token,
) {
    let url = gateway.url(workspace);
    for name in CLEARED {
        command.env_remove(name);
    }
    if locks {
        command.env("TF_HTTP_LOCK_ADDRESS", &url);
        command.env("TF_HTTP_UNLOCK_ADDRESS", &url);
    }
    command
        .env("TF_HTTP_ADDRESS", &url)
        .env("TF_HTTP_USERNAME", USER)
        .env("TF_HTTP_PASSWORD", token.expose());
}

/// Runs the command to its end. It gets the signals that this process gets, and decides what to make of them.
async fn run_command(
    words: Vec<OsString>,
    prepare: impl FnOnce(&mut Command),
) -> Result<ExitStatus, Failure> {
    let failed =
        |error: std::io::Error| Failure::new("Cannot run the command", format!("{error}."));
    let mut words = words.into_iter();
    let program = words.next().unwrap_or_default();
    let mut command = Command::new(&program);
    command.args(words);
    prepare(&mut command);

    // Caught before the command starts, so that none ends this process alone.
    let mut interrupts = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminations = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hangups = signal(SignalKind::hangup()).map_err(failed)?;
    let mut child = command.spawn().map_err(|error| {
        Failure::new(
            "Cannot run the command",
            format!("{}: {error}.", program.display()),
        )
    })?;
    // A terminal sends Ctrl-C to both; twice would be Terraform's "at once".
    let on_terminal = std::io::stdin().is_terminal()
        || std::io::stdout().is_terminal()
        || std::io::stderr().is_terminal();
    loop {
        tokio::select! {
            status = child.wait() => return status.map_err(failed),
            _ = interrupts.recv() => if !on_terminal { pass_on(&child, "INT").await },
            _ = terminations.recv() => pass_on(&child, "TERM").await,
            _ = hangups.recv() => if !on_terminal { pass_on(&child, "HUP").await },
        }
    }
}

/// Sends a signal through the `kill` that every Unix has: the standard library offers no other than SIGKILL.
async fn pass_on(child: &Child, signal: &str) {
    let Some(id) = child.id() else { return };
    let mut kill = Command::new("kill");
    kill.args(["-s", signal, &id.to_string()])
        .stdin(Stdio::null());
    if let Err(error) = kill.status().await {
        tracing::warn!(%error, signal, "the signal could not be passed on");
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
