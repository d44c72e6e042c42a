//! Writes backend blocks that a person can paste.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// A `terraform` block with this backend.
pub(crate) fn backend_block(kind: &str, arguments: &Map<String, Value>) -> String {
    let mut text = format!("terraform {{\n  backend {} {{\n", quoted(kind));
    let width = arguments.keys().map(String::len).max().unwrap_or(0);
    for (name, value) in arguments {
        // A String takes all that is written to it.
        let _ = writeln!(text, "    {name:width$} = {}", literal(value));
    }
    text + "  }\n}\n"
}

/// A line for the shell that sets a variable.
pub(crate) fn export(name: &str, value: &str) -> String {
    format!("export {name}='{}'\n", value.replace('\'', r"'\''"))
}

fn literal(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Object(fields) => {
            let fields: Vec<_> = fields
                .iter()
                .map(|(name, value)| format!("{name} = {}", literal(value)))
                .collect();
            format!("{{ {} }}", fields.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(literal).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    }
}

/// A quoted template without interpolations. JSON's escapes are HCL's, but for two that it never needs here: control
/// characters, which both write as `\u`.
fn quoted(text: &str) -> String {
    Value::from(text)
        .to_string()
        .replace("\\b", "\\u0008")
        .replace("\\f", "\\u000c")
        .replace("${", "$${")
        .replace("%{", "%%{")
}

#[cfg(test)]
mod tests {
    use cofferdam::config::BackendSources;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_block_reads_back_as_it_was() {
        let arguments = json!({
            "bucket": "b \"q\" ${x} %{y} \\ \t é",
            "endpoints": { "s3": "http://127.0.0.1:9000" },
            "use_lockfile": true,
            "max_retries": 3,
            "list": ["a", "b"],
        });
        let Value::Object(arguments) = arguments else {
            panic!("not an object")
        };
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(
            directory.path().join("main.tf"),
            backend_block("s3", &arguments),
        )
        .unwrap();
        let sources = BackendSources {
            directory: directory.path().to_owned(),
            data_dir: directory.path().join(".terraform"),
            backend_config: Vec::new(),
        };
        assert_eq!(sources.load().unwrap().config, arguments);
    }

    #[test]
    fn the_shell_gets_the_value_itself() {
        assert_eq!(export("A", "x'$y"), "export A='x'\\''$y'\n");
    }
}
