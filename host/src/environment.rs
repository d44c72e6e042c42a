//! Where environment variables come from, and how paths that name them are written.
//!
//! Without this module an embedder that acts for a person could show a store only its own environment, and no test
//! could show it any: a process cannot change its variables safely.

use std::collections::BTreeMap;
use std::sync::Arc;

/// A set of environment variables.
#[derive(Clone, Default)]
pub(crate) enum Environment {
    Given(Arc<BTreeMap<String, String>>),
    #[default]
    Process,
}

impl Environment {
    /// One variable as it stands; one that is no text does not exist.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        match self {
            Self::Given(variables) => variables.get(name).cloned(),
            Self::Process => std::env::var(name).ok(),
        }
    }

    /// The first of these variables that is not empty, and its name: an empty variable counts as unset.
    pub(crate) fn first<'n>(&self, names: &[&'n str]) -> Option<(&'n str, String)> {
        names.iter().find_map(|name| {
            let value = self.get(name).filter(|value| !value.is_empty())?;
            Some((*name, value))
        })
    }
}

/// A path as Terraform reads it: `$NAME` and `${NAME}` stand for variables (nothing, when unset), then a leading
/// `~` for the home directory. `None`: there is no home directory, or another user's is meant.
pub(crate) fn expand(path: &str, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
    let expanded = expand_variables(path, &variable);
    let Some(rest) = expanded.strip_prefix('~') else {
        return Some(expanded);
    };
    if !rest.is_empty() && !rest.starts_with('/') {
        return None;
    }
    let home = variable("HOME").filter(|home| !home.is_empty())?;
    Some(format!("{home}{rest}"))
}

fn expand_variables(path: &str, variable: &impl Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let braced = after
            .strip_prefix('{')
            .and_then(|inner| inner.split_once('}'));
        let (name, later) = match braced {
            Some(parts) => parts,
            None => {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                after.split_at(end.unwrap_or(after.len()))
            }
        };
        if name.is_empty() && braced.is_none() {
            expanded.push('$');
        }
        expanded.push_str(&variable(name).unwrap_or_default());
        rest = later;
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_variables_and_the_home_directory() {
        let variable = |name: &str| match name {
            "HOME" => Some("/home/a".to_owned()),
            "DIR" => Some("~/d".to_owned()),
            _ => None,
        };
        for (path, expected) in [
            ("/etc/x", Some("/etc/x")),
            ("~", Some("/home/a")),
            ("~/x", Some("/home/a/x")),
            ("~other/x", None),
            ("x~", Some("x~")),
            ("$HOME/x", Some("/home/a/x")),
            ("${HOME}x", Some("/home/ax")),
            ("$DIR/x", Some("/home/a/d/x")),
            ("$UNSET/x", Some("/x")),
            ("a$", Some("a$")),
            ("a$/b", Some("a$/b")),
            ("${HOME", Some("${HOME")),
        ] {
            assert_eq!(expand(path, variable).as_deref(), expected, "{path}");
        }
        assert_eq!(expand("~/x", |_| None), None);
    }
}
