//! Workspaces: which path a name stands for, and which names a listing of paths means.
//!
//! Without these rules a workspace named `..` is another workspace's state, and one named `a/b` is written but
//! never listed.

use crate::config::{self, Settings};
use crate::contract::{Error, ErrorCode};
use crate::failure::Context;
use crate::platform::Platform;
use crate::s3::{Page, S3};

/// The workspace that always exists.
pub(crate) const DEFAULT: &str = "default";

/// Terraform's prefix, when none is configured. The only one for which a refused listing is no error, as there.
const DEFAULT_PREFIX: &str = "env:";

/// The path of a workspace's state.
pub(crate) fn state_path(context: &Context<'_>, workspace: &str) -> Result<String, Error> {
    let settings = context.settings;
    if workspace == DEFAULT {
        return Ok(settings.key.clone());
    }
    if !is_name(workspace) {
        return Err(context.invalid(
            "workspace",
            format!(
                "{workspace:?} cannot be the name of a workspace: it must not be empty, \".\" or \
                 \"..\", and must not hold \"/\" or control characters."
            ),
        ));
    }
    if !can_have_workspaces(settings) {
        return Err(context.invalid(
            "workspace",
            format!(
                "there can be no workspace but \"{DEFAULT}\": the key \"{}\" or the \
                 workspace_key_prefix \"{}\" has a part that is empty, \".\" or \"..\", and the \
                 paths of other workspaces would not mean the same to every tool.",
                settings.key, settings.workspace_key_prefix
            ),
        ));
    }
    Ok(format!("{}{workspace}/{}", root(settings), settings.key))
}

/// The names of all workspaces: `default`, then the others, sorted.
pub(crate) fn list<P: Platform>(
    context: &Context<'_>,
    platform: &P,
    s3: &S3<'_, P>,
) -> Result<Vec<String>, Error> {
    let settings = context.settings;
    let mut names = vec![DEFAULT.to_owned()];
    if !can_have_workspaces(settings) {
        return Ok(names);
    }
    let root = root(settings);
    let mut token: Option<String> = None;
    loop {
        let Page { keys, next } = match s3.list(&root, token.as_deref()) {
            Ok(page) => page,
            Err(failed) => {
                let mut error = context.failed(&failed);
                if error.code == ErrorCode::AccessDenied
                    && settings.workspace_key_prefix == DEFAULT_PREFIX
                {
                    platform.report(config::Diagnostic {
                        severity: config::Severity::Warning,
                        summary: "Workspaces cannot be listed".to_owned(),
                        detail: format!(
                            "Only \"{DEFAULT}\" is shown; there may be others: {}",
                            error.message
                        ),
                        attribute: None,
                    });
                    return Ok(vec![DEFAULT.to_owned()]);
                }
                error.message = format!("the workspaces cannot be listed: {}", error.message);
                return Err(error);
            }
        };
        let found = keys.iter().filter_map(|key| {
            let (name, rest) = key.strip_prefix(&root)?.split_once('/')?;
            (rest == settings.key && is_name(name) && name != DEFAULT).then_some(name)
        });
        // In nearly this order they come.
        for name in found {
            if let Err(place) = names[1..].binary_search_by(|known| known.as_str().cmp(name)) {
                names.insert(1 + place, name.to_owned());
            }
        }
        if next.is_none() {
            break;
        }
        if next == token {
            return Err(context.error(
                ErrorCode::Other,
                "the workspaces cannot be listed: the store goes in circles, its page names \
                 itself as the next one."
                    .to_owned(),
            ));
        }
        token = next;
    }
    Ok(names)
}

fn is_name(workspace: &str) -> bool {
    !matches!(workspace, "" | "." | "..")
        && !workspace.contains(|character: char| character == '/' || character.is_control())
}

/// What the paths of all workspaces but `default` begin with.
pub(crate) fn root(settings: &Settings) -> String {
    match settings.workspace_key_prefix.as_str() {
        "" => String::new(),
        prefix => format!("{prefix}/"),
    }
}

/// Whether there can be workspaces other than `default`. Where a path has such parts, other tools clean it when they write
/// and take it literally when they list.
pub(crate) fn can_have_workspaces(settings: &Settings) -> bool {
    let clean = |path: &str| !path.split('/').any(|part| matches!(part, "" | "." | ".."));
    clean(&settings.key)
        && (settings.workspace_key_prefix.is_empty() || clean(&settings.workspace_key_prefix))
}
