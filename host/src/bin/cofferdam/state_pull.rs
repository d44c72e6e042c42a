//! `state pull`. Terraform parses the state and writes it anew; here the bytes are those that are stored.

use cofferdam::{Reading, StateStore};

use crate::failure::Failure;
use crate::output::data;
use crate::session::Session;

/// No state is no error, and prints nothing, as in Terraform.
pub(crate) async fn run(session: &Session) -> Result<(), Failure> {
    let workspace = session.workspace()?;
    let store = session.open().await?;
    let reading = store.read(&workspace, None).await;
    // The process ends: to take the sandbox apart would only take time.
    std::mem::forget(store);
    match reading {
        Ok(Reading::State(state)) => data(&state.bytes),
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::store("Failed to load state", &error)),
    }
}
