//! `force-unlock`: releases the lock with this id, whoever holds it. It never touches the state.

use cofferdam::{StateStore, UnlockBy};

use crate::arguments::ForceUnlockOptions;
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::session::Session;

pub(crate) async fn run(session: &Session, options: &ForceUnlockOptions) -> Result<(), Failure> {
    let workspace = session.workspace()?;
    if !options.force {
        let question = format!(
            "Do you really want to force-unlock?\n  The lock of workspace {workspace:?} will be removed.\n  This will allow local Terraform commands to modify this state, even though it\n  may still be in use."
        );
        confirm(&question, "force-unlock", "--force")?;
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
