//! The backend block in the configuration files of a directory.
//!
//! Only files in which the words occur are parsed at all: a large module must not slow down every command,
//! nor an unusual expression in an unrelated file stop it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, Place};
use super::{Arguments, hcl, json};

/// A `backend` or `cloud` block.
#[derive(Debug)]
pub(super) struct Declared {
    /// The backend's type; `cloud` for a `cloud` block.
    pub(super) kind: String,
    /// Empty unless the type is `s3`: nobody asks for another backend's arguments. An error counts only if they are used:
    /// a block may be overridden, or what `init` made of it be known.
    pub(super) config: Result<Arguments, ConfigError>,
    pub(super) place: Place,
}

/// The block that is in force, if there is one.
pub(super) fn declared(directory: &Path) -> Result<Option<Declared>, ConfigError> {
    let (overrides, primary): (Vec<_>, Vec<_>) = configuration_files(directory)?
        .into_iter()
        .partition(|file| file.is_override);
    let mut found = None;
    for file in primary {
        for block in file.blocks()? {
            found = Some(only(found, block)?);
        }
    }
    // Each override file replaces what stood before it.
    for file in overrides {
        let mut replacement = None;
        for block in file.blocks()? {
            replacement = Some(only(replacement, block)?);
        }
        found = replacement.or(found);
    }
    Ok(found)
}

fn only(before: Option<Declared>, block: Declared) -> Result<Declared, ConfigError> {
    match before {
        None => Ok(block),
        Some(before) => Err(ConfigError::Duplicate {
            first: before.place,
            second: block.place,
        }),
    }
}

struct ConfigurationFile {
    path: PathBuf,
    is_json: bool,
    is_override: bool,
}

/// The endings of configuration files: of Terraform's, OpenTofu's that hides it, and whether it is JSON.
const ENDINGS: [(&str, &str, bool); 2] =
    [(".tf", ".tofu", false), (".tf.json", ".tofu.json", true)];

/// Sorted by name, as the tools read them.
fn configuration_files(directory: &Path) -> Result<Vec<ConfigurationFile>, ConfigError> {
    let read_error = |source| ConfigError::Read {
        path: directory.to_owned(),
        source,
    };
    // Nothing but names behind it: `main.tf`, not `./main.tf`, in messages.
    let listed = match directory {
        empty if empty.as_os_str().is_empty() => Path::new("."),
        named => named,
    };
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(listed).map_err(read_error)? {
        let entry = entry.map_err(read_error)?;
        // A name that is not Unicode cannot end like a configuration file's in any tool.
        if let Ok(name) = entry.file_name().into_string()
            && !is_ignored(&name)
            && !entry.path().is_dir()
        {
            names.insert(name);
        }
    }
    let classify = |name: &String| {
        ENDINGS.iter().find_map(|&(tf, tofu, is_json)| {
            let (stem, hidden) = match (name.strip_suffix(tofu), name.strip_suffix(tf)) {
                (Some(stem), _) => (stem, false),
                (None, Some(stem)) => (stem, names.contains(&format!("{stem}{tofu}"))),
                (None, None) => return None,
            };
            (!hidden).then(|| ConfigurationFile {
                path: directory.join(name),
                is_json,
                is_override: stem == "override" || stem.ends_with("_override"),
            })
        })
    };
    Ok(names.iter().filter_map(classify).collect())
}

/// Files of editors and hidden files.
fn is_ignored(name: &str) -> bool {
    name.starts_with('.') || name.ends_with('~') || (name.starts_with('#') && name.ends_with('#'))
}

impl ConfigurationFile {
    fn blocks(&self) -> Result<Vec<Declared>, ConfigError> {
        let text = read_text(&self.path)?;
        if !(text.contains("backend") || text.contains("cloud")) {
            return Ok(Vec::new());
        }
        if self.is_json {
            json::backend_blocks(&self.path, &text)
        } else {
            hcl::backend_blocks(&self.path, &text)
        }
    }
}

/// A text file without the byte order mark that it may begin with.
pub(super) fn read_text(path: &Path) -> Result<String, ConfigError> {
    let mut text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}

/// The line of a byte of a text, counted from 1.
pub(super) fn place(path: &Path, text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    Place {
        path: path.to_owned(),
        line: before.matches('\n').count() + 1,
    }
}
