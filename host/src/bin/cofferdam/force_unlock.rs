//! `force-unlock`: releases the lock with this id, whoever holds it. It never touches the state.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use cofferdam::{StateStore, UnlockBy};

use crate::arguments::ForceUnlockOptions;
use crate::failure::Failure;
use crate::session::Session;

pub(crate) async fn run(session: &Session, options: &ForceUnlockOptions) -> Result<(), Failure> {
    let workspace = session.workspace()?;
    if !options.force {
        confirm(&workspace)?;
    }
    let store = session.open().await?;
    let by = match options.token {
        true => UnlockBy::Token(options.id.clone()),
        false => UnlockBy::Id(options.id.clone()),
    };
    store
        .unlock(&workspace, &by)
        .await
        .map_err(|error| Failure::store("Failed to unlock state", &error))?;
    session.output.message(
        "Terraform state has been successfully unlocked!\n\nThe state has been unlocked, and Terraform commands should now be able to\nobtain a new lock on the remote state.",
    );
    Ok(())
}

/// Only `yes` counts.
fn confirm(workspace: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(
            "Nobody to ask",
            "Standard input is not a terminal. To unlock without being asked, give --force.",
        ));
    }
    eprint!(
        "Do you really want to force-unlock?\n  The lock of workspace {workspace:?} will be removed.\n  This will allow local Terraform commands to modify this state, even though it\n  may still be in use. Only 'yes' will be accepted to confirm.\n\n  Enter a value: "
    );
    // What cannot be shown is not answered with `yes`.
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    if read.is_err() || answer.trim() != "yes" {
        return Err(Failure::new("force-unlock cancelled.", ""));
    }
    Ok(())
}
