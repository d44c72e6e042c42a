//! Which workspace is the current one, and choosing another.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use super::error::ConfigError;

/// The workspace that always exists.
const DEFAULT: &str = "default";

/// The file in the data directory that holds the chosen workspace's name.
const FILE: &str = "environment";

/// The current workspace: the one named on the command line, else by `TF_WORKSPACE` (`variable`), else the one
/// chosen last in this data directory, else `default`. Empty names count as none.
///
/// # Errors
/// When the data directory cannot be read.
pub fn selected_workspace(
    explicit: Option<&str>,
    variable: Option<&str>,
    data_dir: &Path,
) -> Result<String, ConfigError> {
    let named = [explicit, variable].into_iter().flatten();
    if let Some(name) = named.into_iter().find(|name| !name.is_empty()) {
        return Ok(name.to_owned());
    }
    let path = data_dir.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
        Ok(_) => Ok(DEFAULT.to_owned()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(DEFAULT.to_owned())
        }
        Err(source) => Err(ConfigError::Read { path, source }),
    }
}

/// Makes a workspace the chosen one of a data directory, which is created when it is missing. A reader sees the old name
/// or the new one, never half of it.
///
/// # Errors
/// When the name is not allowed, or the directory cannot be written.
pub fn select_workspace(data_dir: &Path, name: &str) -> Result<(), ConfigError> {
    check_workspace_name(name)?;
    let path = data_dir.join(FILE);
    let temporary = data_dir.join(format!(".{FILE}.{}", uuid::Uuid::new_v4()));
    let replace = || {
        std::fs::create_dir_all(data_dir)?;
        std::fs::File::create_new(&temporary)?.write_all(name.as_bytes())?;
        std::fs::rename(&temporary, &path)
    };
    replace().map_err(|source| {
        // The error that is reported is the first one.
        let _ = std::fs::remove_file(&temporary);
        ConfigError::Read {
            path: PathBuf::from(&path),
            source,
        }
    })
}

/// Whether a workspace may have this name: what Terraform's command line takes, without `.` and `..`, which
/// would be another workspace's path.
///
/// # Errors
/// [`ConfigError::WorkspaceName`].
pub fn check_workspace_name(name: &str) -> Result<(), ConfigError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.~$&+:=@".contains(c);
    if matches!(name, "" | "." | "..") || !name.chars().all(allowed) {
        return Err(ConfigError::WorkspaceName(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_beats_the_variable_which_beats_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path().join(".terraform");
        let current =
            |explicit, variable| selected_workspace(explicit, variable, &data_dir).unwrap();
        assert_eq!(current(None, None), "default");
        select_workspace(&data_dir, "chosen").unwrap();
        assert_eq!(current(None, None), "chosen");
        assert_eq!(current(None, Some("")), "chosen");
        assert_eq!(current(None, Some("variable")), "variable");
        assert_eq!(current(Some("given"), Some("variable")), "given");
    }

    #[test]
    fn choosing_replaces_the_name_and_leaves_nothing_else_behind() {
        let directory = tempfile::tempdir().unwrap();
        select_workspace(directory.path(), "a-longer-name").unwrap();
        select_workspace(directory.path(), "b").unwrap();
        let files: Vec<_> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(files, ["environment"]);
        assert_eq!(
            std::fs::read_to_string(directory.path().join("environment")).unwrap(),
            "b"
        );
    }

    #[test]
    fn names_that_are_not_url_safe_or_are_paths_are_refused() {
        for name in ["", ".", "..", "a/b", "a b", "a\n", "ä", "a?", "a%"] {
            assert!(check_workspace_name(name).is_err(), "{name:?}");
        }
        for name in ["default", "a.b", "...", "A-Z_0~$&+:=@"] {
            check_workspace_name(name).unwrap();
        }
    }
}
