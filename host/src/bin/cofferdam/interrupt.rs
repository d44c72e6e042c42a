//! SIGINT and SIGTERM while a lock is held: the step that runs is finished, then the lock is released.
//!
//! A process that simply died would leave its lock behind for somebody to find out about and break.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::failure::Failure;
use crate::output::Output;

/// Tells whether the process was asked to end.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(watch::Receiver<Option<u8>>);

impl Interrupt {
    /// Catches the signals from now on. The second one ends the process at once.
    pub(crate) fn catch(output: Output) -> Result<Self, Failure> {
        let (mut interrupts, mut terminations) = signals().map_err(cannot_catch)?;
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(async move {
            let code = next(&mut interrupts, &mut terminations).await;
            output.message(
                "Interrupt received: ending as soon as the request that runs is finished and the lock, if held, is \
                 released. A second one ends at once and may leave the lock behind.",
            );
            sender.send_replace(Some(code));
            let code = next(&mut interrupts, &mut terminations).await;
            std::process::exit(i32::from(code));
        });
        Ok(Self(receiver))
    }

    /// Ready once a signal came; never otherwise.
    pub(crate) async fn happened(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The exit code to end with, if a signal came.
    pub(crate) fn code(&self) -> Option<u8> {
        *self.0.borrow()
    }

    /// The failure to end with, if a signal came. It says nothing: the person knows.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.code().map(|code| Failure {
            diagnostics: Vec::new(),
            code,
        })
    }
}

/// Catches the signals that end a server from now on, and is ready when one came. To be called before the server is
/// announced: a signal that comes at once would end the process in the middle of a request, or be lost.
pub(crate) fn ending() -> Result<impl Future<Output = ()>, Failure> {
    let (mut interrupts, mut terminations) = signals().map_err(cannot_catch)?;
    Ok(async move {
        next(&mut interrupts, &mut terminations).await;
    })
}

fn signals() -> io::Result<(Signal, Signal)> {
    Ok((
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    ))
}

/// The next one's exit code, as shells count: 128 and the signal's number.
async fn next(interrupts: &mut Signal, terminations: &mut Signal) -> u8 {
    tokio::select! {
        _ = interrupts.recv() => 130,
        _ = terminations.recv() => 143,
    }
}

fn cannot_catch(error: io::Error) -> Failure {
    Failure::new("Cannot catch signals", format!("{error}."))
}
