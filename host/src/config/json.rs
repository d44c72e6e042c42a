//! Backend blocks in HCL's JSON syntax, where a block may be an object or a list of objects at every level,
//! and `//` is a comment.

use std::path::Path;

use serde_json::Value;

use super::error::{ConfigError, Place};
use super::files::{Declared, place};
use super::{Arguments, SUPPORTED};

/// The `backend` and `cloud` blocks of a configuration file.
pub(super) fn backend_blocks(path: &Path, text: &str) -> Result<Vec<Declared>, ConfigError> {
    let source = Source { path, text };
    let root = source.parse()?;
    let mut found = Vec::new();
    for terraform in nested(&root, "terraform") {
        for _ in nested(terraform, "cloud") {
            found.push(Declared {
                kind: "cloud".to_owned(),
                config: Ok(Arguments::new()),
                place: source.nth("cloud", 0),
            });
        }
        let bodies = nested(terraform, "backend")
            .into_iter()
            .flat_map(|backend| {
                let kinds = backend.as_object().into_iter().flatten();
                kinds
                    .filter(|(kind, _)| *kind != "//")
                    .flat_map(|(kind, body)| bodies(body).into_iter().map(move |body| (kind, body)))
            });
        for (kind, body) in bodies {
            let place = source.nth("backend", found.len());
            let config = match (kind.as_str(), body) {
                (SUPPORTED, Value::Object(arguments)) => source
                    .check(arguments, "", &place)
                    .map(|()| arguments_of(arguments)),
                (SUPPORTED, _) => {
                    return Err(ConfigError::Syntax {
                        place,
                        reason: "a backend block is an object".to_owned(),
                    });
                }
                _ => Ok(Arguments::new()),
            };
            found.push(Declared {
                kind: kind.clone(),
                config,
                place,
            });
        }
    }
    Ok(found)
}

/// A file that is the body of a backend block. Its strings are taken as they stand.
pub(super) fn body(path: &Path, text: &str) -> Result<Arguments, ConfigError> {
    let source = Source { path, text };
    match source.parse()? {
        Value::Object(arguments) => Ok(arguments_of(&arguments)),
        _ => Err(ConfigError::Syntax {
            place: place(path, text, 0),
            reason: "a JSON object with the arguments is wanted".to_owned(),
        }),
    }
}

struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn parse(&self) -> Result<Value, ConfigError> {
        serde_json::from_str(self.text).map_err(|error| ConfigError::Syntax {
            place: Place {
                path: self.path.to_owned(),
                line: error.line(),
            },
            reason: format!("not valid JSON (column {})", error.column()),
        })
    }

    /// The line of the n-th property of this name, or the first one: the parser keeps no positions.
    fn nth(&self, name: &str, n: usize) -> Place {
        let quoted = format!("\"{name}\"");
        let properties =
            |&(at, _): &(usize, &str)| self.text[at + quoted.len()..].trim_start().starts_with(':');
        let mut found = self.text.match_indices(&quoted).filter(properties);
        let first = found.next();
        let chosen = if n == 0 {
            first
        } else {
            found.nth(n - 1).or(first)
        };
        place(self.path, self.text, chosen.map_or(0, |(at, _)| at))
    }

    /// Terraform takes templates in these strings as they stand, OpenTofu evaluates them: refused, as
    /// either reading would be wrong for somebody.
    fn check(&self, arguments: &Arguments, prefix: &str, block: &Place) -> Result<(), ConfigError> {
        for (name, value) in arguments.iter().filter(|(name, _)| *name != "//") {
            let argument = format!("{prefix}{name}");
            let items = match value {
                Value::Array(items) => items.as_slice(),
                value => std::slice::from_ref(value),
            };
            for item in items {
                match item {
                    Value::String(text) if text.contains("${") || text.contains("%{") => {
                        return Err(ConfigError::NotLiteral {
                            argument,
                            place: match self.nth(name, 0) {
                                place if place.line >= block.line => place,
                                _ => block.clone(),
                            },
                            what: "a template",
                        });
                    }
                    Value::Object(fields) => self.check(fields, &format!("{argument}."), block)?,
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// The blocks of this type in a body.
fn nested<'a>(body: &'a Value, name: &str) -> Vec<&'a Value> {
    bodies(body)
        .into_iter()
        .filter_map(|body| body.get(name))
        .flat_map(bodies)
        .collect()
}

/// One block, or each of a list.
fn bodies(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Null => Vec::new(),
        value => vec![value],
    }
}

fn arguments_of(body: &Arguments) -> Arguments {
    let mut arguments = body.clone();
    arguments.retain(|name, _| name != "//");
    arguments
}
