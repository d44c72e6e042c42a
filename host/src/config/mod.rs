//! Where a backend block comes from: the same places as Terraform's.
//!
//! Without this module people would have to repeat their backend block for cofferdam, and one day the copy
//! would name another key than the original: two tools, two states.
//!
//! Three sources, and what counts when they meet:
//!
//! 1. **The configuration files** of the directory: the `backend` block in the `terraform` blocks of `.tf`,
//!    `.tofu`, `.tf.json` and `.tofu.json`. As in OpenTofu, `x.tofu` hides `x.tf`; as in both tools, a block in
//!    an override file (`override.tf`, `*_override.tf`, …) replaces the others whole. Only literal values:
//!    what refers to variables, locals or functions is refused by name, unless the next source holds it.
//! 2. **What `terraform init` left** under `TF_DATA_DIR` (default `.terraform`): the merged block, options of
//!    `init -backend-config` included. When its type is `s3` it replaces the block of the files, because it
//!    is what Terraform itself would use; where a value in the files differs from it there is a warning.
//! 3. **`--backend-config`**, merged over either, argument by argument; later ones win.
//!
//! | files say | init left | counts |
//! |---|---|---|
//! | `s3` | nothing | the block of the files |
//! | `s3`, or no backend | `s3` | what init left |
//! | `s3` | another backend | error: run `terraform init` |
//! | another backend | anything | `--backend-config` alone; an error without any |
//! | no backend | nothing, or another backend | `--backend-config` alone; an error without any |
//!
//! An argument that is `null` counts as absent. A dotted name (`endpoints.s3=…`) stays one; it replaces the
//! field of an object given before, and is replaced by an object given after it.

mod error;
mod files;
mod hcl;
mod initialised;
mod json;
mod options;
mod workspace;

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use self::files::Declared;
use self::initialised::Initialised;
use crate::{Diagnostic, Severity};

pub use self::error::{ConfigError, Place};
pub use self::workspace::{check_workspace_name, select_workspace, selected_workspace};

/// The arguments of a backend block, in JSON's terms.
pub type Arguments = Map<String, Value>;

/// The one backend that this program implements.
const SUPPORTED: &str = "s3";

/// Where the arguments of a backend block are looked for. `Debug` shows nothing of `backend_config`.
#[derive(Clone)]
pub struct BackendSources {
    /// The directory of the configuration files. Empty: the current one.
    pub directory: PathBuf,
    /// Where `terraform init` keeps its data.
    pub data_dir: PathBuf,
    /// Each a file or `key=value`; later ones win. Relative files are looked for in `directory`. May hold secrets.
    pub backend_config: Vec<String>,
}

impl fmt::Debug for BackendSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendSources")
            .field("directory", &self.directory)
            .field("data_dir", &self.data_dir)
            .finish_non_exhaustive()
    }
}

/// The backend block of type `s3` that all sources make together. `Debug` shows the arguments' names only.
#[derive(Clone, PartialEq)]
pub struct BackendBlock {
    /// The arguments, without nulls.
    pub config: Arguments,
    /// Where they come from, for messages.
    pub origin: String,
    /// What the person should know about the choice.
    pub warnings: Vec<Diagnostic>,
}

impl fmt::Debug for BackendBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.config.keys().map(String::as_str).collect();
        f.debug_struct("BackendBlock")
            .field("config", &names)
            .field("origin", &self.origin)
            .field("warnings", &self.warnings)
            .finish()
    }
}

/// The data directory that belongs to a directory of configuration: `TF_DATA_DIR`, else `.terraform`.
pub fn data_dir(directory: &Path) -> PathBuf {
    let name = std::env::var_os("TF_DATA_DIR").filter(|name| !name.is_empty());
    directory.join(name.unwrap_or_else(|| ".terraform".into()))
}

/// The type of the backend that the configuration files of a directory declare (`cloud` for a `cloud` block), and where.
///
/// # Errors
/// As [`BackendSources::load`], as far as the files go.
pub fn declared_backend(directory: &Path) -> Result<Option<(String, Place)>, ConfigError> {
    Ok(files::declared(directory)?.map(|declared| (declared.kind, declared.place)))
}

/// The type of the backend that `terraform init` was last run for in this data directory.
///
/// # Errors
/// When the file that it left cannot be read.
pub fn initialised_backend(data_dir: &Path) -> Result<Option<String>, ConfigError> {
    Ok(initialised::read(data_dir)?.map(|initialised| initialised.kind))
}

impl BackendSources {
    /// Puts the block together. See the [module](self) for what counts when.
    ///
    /// # Errors
    /// When there is no block, several, one of another backend, one that is not literal, or a file that
    /// cannot be read. Each names file and line, where there is one.
    pub fn load(&self) -> Result<BackendBlock, ConfigError> {
        let options = options::read(&self.directory, &self.backend_config)?;
        let declared = files::declared(&self.directory)?;
        let initialised = initialised::read(&self.data_dir)?;
        let mut block = self.base(declared, initialised, !options.is_empty())?;
        if !options.is_empty() {
            if !block.origin.is_empty() {
                block.origin += " and ";
            }
            block.origin += "--backend-config";
        }
        for (name, value) in options {
            set(&mut block.config, name, value);
        }
        drop_nulls(&mut block.config);
        Ok(block)
    }

    /// What `--backend-config` is merged over.
    fn base(
        &self,
        declared: Option<Declared>,
        initialised: Option<Initialised>,
        has_options: bool,
    ) -> Result<BackendBlock, ConfigError> {
        let other = match (declared, initialised) {
            (Some(declared), _) if declared.kind != SUPPORTED => ConfigError::OtherBackend {
                kind: declared.kind,
                place: declared.place,
            },
            (Some(declared), Some(initialised)) if initialised.kind != SUPPORTED => {
                return Err(ConfigError::InitialisedOtherwise {
                    kind: initialised.kind,
                    path: initialised.path,
                    place: declared.place,
                });
            }
            (declared, Some(initialised)) if initialised.kind == SUPPORTED => {
                return Ok(of_init(declared, initialised));
            }
            (Some(declared), _) => {
                return Ok(BackendBlock {
                    config: declared.config?,
                    origin: declared.place.to_string(),
                    warnings: Vec::new(),
                });
            }
            (None, Some(initialised)) => ConfigError::InitialisedOther {
                kind: initialised.kind,
                path: initialised.path,
            },
            (None, None) => ConfigError::NoBackend {
                directory: self.directory.clone(),
            },
        };
        if has_options {
            return Ok(BackendBlock {
                config: Arguments::new(),
                origin: String::new(),
                warnings: Vec::new(),
            });
        }
        Err(other)
    }
}

/// The block that `terraform init` left, and a warning when the files have moved on since.
fn of_init(declared: Option<Declared>, initialised: Initialised) -> BackendBlock {
    let mut warnings = Vec::new();
    let origin = initialised.path.display().to_string();
    // Values that only the tool that ran init could work out are not compared.
    if let Some((mut config, place)) =
        declared.and_then(|declared| Some((declared.config.ok()?, declared.place)))
    {
        drop_nulls(&mut config);
        let mut kept = initialised.config.clone();
        drop_nulls(&mut kept);
        let differing: Vec<&str> = config
            .iter()
            .filter(|(name, value)| !same(value, kept.get(*name)))
            .map(|(name, _)| name.as_str())
            .collect();
        if !differing.is_empty() {
            warnings.push(Diagnostic {
                severity: Severity::Warning,
                summary: "Backend block differs from what init left".to_owned(),
                detail: format!(
                    "The backend block at {place} has other values than {origin} for: {}. The latter are used, as Terraform itself would use them. If the block was changed since, run \"terraform init\" again.",
                    differing.join(", "),
                ),
                attribute: None,
            });
        }
    }
    BackendBlock {
        config: initialised.config,
        origin,
        warnings,
    }
}

/// Whether Terraform would have turned the declared value into the kept one: it converts to the argument's type,
/// adds absent fields of objects, and sorts sets.
fn same(declared: &Value, kept: Option<&Value>) -> bool {
    match (declared, kept) {
        (Value::Object(declared), Some(Value::Object(kept))) => declared
            .iter()
            .all(|(name, value)| same(value, kept.get(name))),
        (Value::Array(declared), Some(Value::Array(kept))) => {
            declared.len() == kept.len()
                && declared
                    .iter()
                    .all(|value| kept.iter().any(|kept| same(value, Some(kept))))
        }
        (declared, Some(kept)) => declared == kept || scalar(declared) == scalar(kept),
        (_, None) => false,
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// Sets an argument, replacing what was said of it before under either spelling of a field.
fn set(arguments: &mut Arguments, name: String, value: Value) {
    match name.split_once('.') {
        Some((object, field)) => {
            if let Some(Value::Object(fields)) = arguments.get_mut(object) {
                fields.remove(field);
            }
        }
        None => arguments.retain(|given, _| {
            given
                .strip_prefix(name.as_str())
                .is_none_or(|rest| !rest.starts_with('.'))
        }),
    }
    arguments.insert(name, value);
}

fn drop_nulls(arguments: &mut Arguments) {
    arguments.retain(|_, value| !value.is_null());
    for value in arguments.values_mut() {
        if let Value::Object(fields) = value {
            drop_nulls(fields);
        }
    }
}

#[cfg(test)]
mod tests;
