//! Where AWS's shared files are, and what single keys in them say.
//!
//! The component reads these files in full and decides; the host needs to know three things of them before it lets
//! the component's requests through: which commands, which token files and which hosts a person wrote down there.

use serde_json::Value;

use crate::environment::expand;

/// The paths of the shared files of one configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedFiles {
    /// A person's own: the usual ones in `~/.aws`, and those that the person's variables name.
    pub(crate) own: Vec<String>,
    /// Those that the backend block names.
    pub(crate) of_block: Vec<String>,
}

/// Variables that name one.
const VARIABLES: &[&str] = &[
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
];

impl SharedFiles {
    pub(crate) fn of(config: &Value, variable: impl Fn(&str) -> Option<String>) -> Self {
        let usual = ["~/.aws/config", "~/.aws/credentials"].map(str::to_owned);
        let by_variable = VARIABLES.iter().filter_map(|name| variable(name));
        let arguments = ["shared_config_files", "shared_credentials_files"];
        let of_block = arguments
            .iter()
            .flat_map(|argument| texts(config, argument))
            .chain(texts(config, "shared_credentials_file"));
        let expanded = |path: String| expand(&path, &variable).filter(|path| !path.is_empty());
        Self {
            own: usual
                .into_iter()
                .chain(by_variable)
                .filter_map(expanded)
                .collect(),
            of_block: of_block.filter_map(expanded).collect(),
        }
    }

    /// All of them.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &String> {
        self.own.iter().chain(&self.of_block)
    }
}

/// The texts of an argument: of one text, or of a set.
fn texts(config: &Value, argument: &str) -> Vec<String> {
    match config.get(argument) {
        Some(Value::Array(items)) => items
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        Some(Value::String(text)) => vec![text.clone()],
        _ => Vec::new(),
    }
}

/// Every value of a key, in whatever section it stands: comments and one pair of quotes taken off, lines that continue
/// it added. As Go's SDK reads them; what this reading should get wrong is refused, not allowed.
pub(crate) fn values(text: &str, key: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut continues = false;
    for line in text.split('\n') {
        let line = line.trim_end_matches('\r');
        let content = line.trim_start_matches([' ', '\t']);
        if content.is_empty() || content.starts_with(['#', ';']) {
            continue;
        }
        let indented = content.len() < line.len();
        match content.split_once(['=', ':']) {
            Some((name, value)) if !content.starts_with('[') => {
                continues = name.trim().eq_ignore_ascii_case(key);
                if continues {
                    found.push(clean(value).to_owned());
                }
            }
            None if indented && continues => {
                if let Some(last) = found.last_mut().filter(|last| !last.is_empty()) {
                    last.push('\n');
                    last.push_str(content);
                }
            }
            _ => continues = false,
        }
    }
    found
}

fn clean(value: &str) -> &str {
    let comment = [" #", " ;", "\t#", "\t;"];
    let end = comment.iter().filter_map(|mark| value.find(mark)).min();
    let value = value[..end.unwrap_or(value.len())].trim();
    ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote))
        .unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_files_of_a_person_and_of_a_block_are_told_apart() {
        let config = json!({
            "shared_config_files": ["./config", "$HOME/more"],
            "shared_credentials_file": "~/old",
        });
        let files = SharedFiles::of(&config, |name| match name {
            "HOME" => Some("/home/a".to_owned()),
            "AWS_CONFIG_FILE" => Some("/etc/aws".to_owned()),
            _ => None,
        });
        let own = [
            "/home/a/.aws/config",
            "/home/a/.aws/credentials",
            "/etc/aws",
        ];
        assert_eq!(files.own, own);
        assert_eq!(files.of_block, ["./config", "/home/a/more", "/home/a/old"]);
    }

    #[test]
    fn values_are_found_as_go_reads_them() {
        let text = "\
            [default]\r\n\
            credential_process = one --flag # a comment\r\n\
            [profile two]\n\
            \tCredential_Process : \"two 'a b'\"\n\
            # credential_process = commented out\n\
            credential_process=three#no-comment\n\
            not_credential_process = x\n\
            credential_process = four\n\
            \n\
            \x20 --more\n\
            \x20 --even=more\n\
            \x20 --not-of-it\n\
            [profile credential_process=five]\n\
            credential_process =\n\
            \x20 dropped\n";
        let expected = [
            "one --flag",
            "two 'a b'",
            "three#no-comment",
            "four\n--more",
            "",
        ];
        assert_eq!(values(text, "credential_process"), expected);
        assert!(values(text, "endpoint_url").is_empty());
    }

    #[test]
    fn an_endpoint_of_a_services_section_is_found() {
        let text = "[services local]\ns3 =\n  endpoint_url = http://127.0.0.1:9000\n";
        assert_eq!(values(text, "endpoint_url"), ["http://127.0.0.1:9000"]);
    }
}
