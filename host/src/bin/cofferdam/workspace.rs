//! `workspace …`, in Terraform's words.
//!
//! `list --json`: `{"format_version", "workspaces": [{"name", "is_current"}]}`; `show --json`:
//! `{"format_version", "workspace"}`.

use bytes::Bytes;
use cofferdam::config::{ConfigError, check_workspace_name, select_workspace};
use cofferdam::{
    ErrorCode, Expectation, Reading, StateStore, Store, Tracked, WriteOptions, empty_state, tracked,
};
use serde_json::json;

use crate::arguments::{self, Format, WorkspaceCommand};
use crate::failure::Failure;
use crate::locking::{Guard, under_lock};
use crate::output::{data, json, printable};
use crate::session::{Session, workspace_variable};

const DEFAULT: &str = "default";

pub(crate) async fn run(session: &Session, command: WorkspaceCommand) -> Result<(), Failure> {
    match command {
        WorkspaceCommand::Delete(options) => delete(session, &options).await,
        WorkspaceCommand::List(options) => list(session, &options).await,
        WorkspaceCommand::New(options) => new(session, &options.name).await,
        WorkspaceCommand::Select(options) => select(session, &options).await,
        WorkspaceCommand::Show(options) => show(session, &options),
    }
}

async fn list(session: &Session, options: &Format) -> Result<(), Failure> {
    let current = session.workspace()?;
    let names = names(&session.open().await?).await?;
    if options.json {
        let workspaces: Vec<_> = names
            .iter()
            .map(|name| json!({ "name": name, "is_current": *name == current }))
            .collect();
        return json(json!({ "workspaces": workspaces }));
    }
    let lines: String = names
        .iter()
        .map(|name| {
            let mark = if *name == current { '*' } else { ' ' };
            format!("{mark} {}\n", printable(name).replace('\n', "\\n"))
        })
        .collect();
    data(lines.as_bytes())?;
    if workspace_variable().is_some() {
        session.output.message(
            "\nThe active workspace is being overridden using the TF_WORKSPACE environment\nvariable.",
        );
    }
    Ok(())
}

fn show(session: &Session, options: &Format) -> Result<(), Failure> {
    let current = session.workspace()?;
    if options.json {
        return json(json!({ "workspace": current }));
    }
    data(format!("{}\n", printable(&current)).as_bytes())
}

async fn select(session: &Session, options: &arguments::SelectOptions) -> Result<(), Failure> {
    let name = &options.name;
    not_overridden(
        "The selected workspace is currently overridden using the TF_WORKSPACE\nenvironment variable.\n\nTo select a new workspace, either update this environment variable or unset\nit and then run this command again.",
    )?;
    allowed(name)?;
    let store = session.open().await?;
    if names(&store).await?.contains(name) {
        select_workspace(&session.data_dir(), name)?;
        session
            .output
            .message(&format!("Switched to workspace {name:?}."));
        return Ok(());
    }
    if options.or_create {
        return create(session, &store, name).await;
    }
    Err(missing(name))
}

async fn new(session: &Session, name: &str) -> Result<(), Failure> {
    not_overridden(
        "The workspace is currently overridden using the TF_WORKSPACE environment\nvariable. You cannot create a new workspace when using this setting.\n\nTo create a new workspace, either unset this environment variable or update it\nto match the workspace name you are trying to create, and then run this command\nagain.",
    )?;
    allowed(name)?;
    if name == DEFAULT {
        return Err(exists(name));
    }
    let store = session.open().await?;
    create(session, &store, name).await
}

async fn create(session: &Session, store: &Store, name: &str) -> Result<(), Failure> {
    under_lock(session, store, name, "workspace-new", async |guard| {
        let options = WriteOptions {
            expect: Expectation::Absent,
            lock: guard.lock.clone(),
        };
        match store
            .write(name, Bytes::from(empty_state()), &options)
            .await
        {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some(ErrorCode::StateChanged) => Err(exists(name)),
            Err(error) => Err(Failure::store("Failed to create the workspace", &error)),
        }
    })
    .await?;
    select_workspace(&session.data_dir(), name)?;
    session.output.message(&format!(
        "Created and switched to workspace {name:?}!\n\nYou're now on a new, empty workspace. Workspaces isolate their state,\nso if you run \"terraform plan\" Terraform will not see any existing state\nfor this configuration."
    ));
    Ok(())
}

async fn delete(session: &Session, options: &arguments::DeleteOptions) -> Result<(), Failure> {
    let name = &options.name;
    if name == DEFAULT {
        return Err(Failure::new("Cannot delete the default workspace", ""));
    }
    if *name == session.workspace()? {
        return Err(Failure::new(
            format!("Workspace {name:?} is your active workspace"),
            "You cannot delete the currently active workspace. Please switch\nto another workspace and try again.",
        ));
    }
    let store = session.open().await?;
    under_lock(session, &store, name, "workspace-delete", async |guard| {
        delete_under_lock(&store, options, guard).await
    })
    .await?;
    session
        .output
        .message(&format!("Deleted workspace {name:?}!"));
    Ok(())
}

async fn delete_under_lock(
    store: &Store,
    options: &arguments::DeleteOptions,
    guard: &Guard,
) -> Result<(), Failure> {
    let name = &options.name;
    let state = match store.read(name, None).await {
        Ok(Reading::State(state)) => state,
        Ok(_) => return Err(missing(name)),
        Err(error) => return Err(Failure::store("Failed to load state", &error)),
    };
    if !options.force {
        empty(name, &state.bytes)?;
    }
    guard.check()?;
    let options = cofferdam::DeleteOptions {
        expect: Expectation::Revision(state.revision),
        lock: guard.lock.clone(),
    };
    store
        .delete(name, &options)
        .await
        .map_err(|error| Failure::store("Failed to delete the workspace", &error))
}

/// Refuses a workspace whose state still tracks something, or may do so.
fn empty(name: &str, state: &[u8]) -> Result<(), Failure> {
    const CONSEQUENCE: &str = "Deleting this workspace would cause Terraform to lose track of any associated remote objects, which would then require you to delete them manually outside of Terraform. You should destroy these objects with Terraform before deleting the workspace.\n\nIf you want to delete this workspace anyway, and have Terraform forget about these managed objects, use the --force option to disable this safety check.";
    let found = match tracked(state) {
        Ok(Tracked::Instances(instances)) if instances.is_empty() => return Ok(()),
        Ok(Tracked::Instances(instances)) => format!(
            "Workspace {name:?} is currently tracking the following resource instances:\n{}",
            instances
                .iter()
                .map(|address| format!("  - {address}\n"))
                .collect::<String>(),
        ),
        Ok(Tracked::Encrypted) => format!(
            "The state of workspace {name:?} is encrypted, so that cofferdam cannot tell which resource instances it tracks.\n"
        ),
        Err(reason) => format!(
            "The state of workspace {name:?} cannot be read, so that nobody can tell which resource instances it tracks: {reason}.\n"
        ),
    };
    Err(Failure::new(
        "Workspace is not empty",
        format!("{found}\n{CONSEQUENCE}"),
    ))
}

async fn names(store: &Store) -> Result<Vec<String>, Failure> {
    store
        .workspaces()
        .await
        .map_err(|error| Failure::store("Failed to get configured named states", &error))
}

fn not_overridden(text: &str) -> Result<(), Failure> {
    match workspace_variable() {
        Some(_) => Err(Failure::new("Workspace is overridden", text)),
        None => Ok(()),
    }
}

fn allowed(name: &str) -> Result<(), ConfigError> {
    check_workspace_name(name)
}

fn exists(name: &str) -> Failure {
    Failure::new(format!("Workspace {name:?} already exists"), "")
}

fn missing(name: &str) -> Failure {
    Failure::new(
        format!("Workspace {name:?} doesn't exist"),
        "You can create this workspace with the \"new\" subcommand\nor include the \"--or-create\" flag with the \"select\" subcommand.",
    )
}
