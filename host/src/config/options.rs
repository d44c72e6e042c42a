//! `--backend-config`: files with the body of a backend block, and single arguments.

use std::path::Path;

use serde_json::Value;

use super::error::ConfigError;
use super::files::read_text;
use super::{hcl, json};

/// The arguments, in the order in which they were given. As in Terraform, what holds a `=` is an argument, whose value
/// is a string unless it is written as an object or a list, and all else a file: HCL, or JSON when it begins with a brace.
pub(super) fn read(
    directory: &Path,
    options: &[String],
) -> Result<Vec<(String, Value)>, ConfigError> {
    let mut arguments = Vec::new();
    for option in options {
        match option.split_once('=') {
            Some(("", _)) => return Err(ConfigError::Option),
            // As in Terraform: what looks like an object or a list is read as one.
            Some((name, value)) if value.trim_start().starts_with(['{', '[']) => {
                let text = format!("{name} = {value}");
                arguments.extend(hcl::body(Path::new("--backend-config"), &text)?);
            }
            Some((name, value)) => arguments.push((name.to_owned(), Value::from(value))),
            None => {
                let path = directory.join(option);
                let text = read_text(&path)?;
                arguments.extend(match text.trim_start().starts_with('{') {
                    true => json::body(&path, &text)?,
                    false => hcl::body(&path, &text)?,
                });
            }
        }
    }
    Ok(arguments)
}
