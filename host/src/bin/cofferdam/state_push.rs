//! `state push`: Terraform's guards, then the bytes as they are, under the lock and fenced on what was read.

use std::io::Read as _;
use std::path::Path;

use bytes::Bytes;
use cofferdam::{
    Expectation, Push, PushRefusal, Reading, StateHeader, StateStore, Store, WriteOptions,
    check_push,
};

use crate::arguments::PushOptions;
use crate::failure::Failure;
use crate::locking::{Guard, under_lock};
use crate::session::Session;

pub(crate) async fn run(session: &Session, options: &PushOptions) -> Result<(), Failure> {
    let bytes = read(&options.file)?;
    // What is no state at all is refused before anybody is kept out by a lock.
    let header = StateHeader::read(&bytes).map_err(|reason| {
        Failure::new(
            format!(
                "Error reading source state {:?}",
                options.file.display().to_string()
            ),
            format!("This is not a state: {reason}."),
        )
    })?;
    let workspace = session.workspace()?;
    let store = session.open().await?;
    let pushed = under_lock(session, &store, &workspace, "state-push", async |guard| {
        push(&store, &workspace, bytes, options.force, guard).await
    })
    .await?;
    session.output.message(&match pushed {
        Push::Same => "The stored state is the same already: nothing was written.".to_owned(),
        Push::Store => format!("The state with serial {} was stored.", header.serial),
    });
    Ok(())
}

async fn push(
    store: &Store,
    workspace: &str,
    bytes: Bytes,
    force: bool,
    guard: &Guard,
) -> Result<Push, Failure> {
    let stored = match store.read(workspace, None).await {
        Ok(Reading::State(state)) => Some(state),
        Ok(_) => None,
        Err(error) => {
            return Err(Failure::store(
                "Failed to refresh destination state",
                &error,
            ));
        }
    };
    let verdict = check_push(stored.as_ref().map(|state| &*state.bytes), &bytes, force);
    match verdict {
        Ok(Push::Same) => return Ok(Push::Same),
        Ok(Push::Store) => {}
        Err(refusal) => return Err(refused(&refusal)),
    }
    guard.check()?;
    let options = WriteOptions {
        // Forced or not: what somebody wrote since the read is not overwritten.
        expect: stored.map_or(Expectation::Absent, |state| {
            Expectation::Revision(state.revision)
        }),
        lock: guard.lock.clone(),
    };
    match store.write(workspace, bytes, &options).await {
        Ok(_) => Ok(Push::Store),
        Err(error) => Err(Failure::store("Failed to write state", &error)),
    }
}

fn refused(refusal: &PushRefusal) -> Failure {
    let advice = match refusal {
        PushRefusal::NotAState(_) => "",
        _ => {
            "\n\nNothing was written. If you are certain that this state shall replace the stored one, use --force."
        }
    };
    Failure::new("Failed to write state", format!("{refusal}{advice}"))
}

fn read(path: &Path) -> Result<Bytes, Failure> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin()
            .lock()
            .read_to_end(&mut bytes)
            .map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    bytes.map(Bytes::from).map_err(|error| {
        Failure::new(
            "Cannot read the state",
            format!("{}: {error}.", path.display()),
        )
    })
}
