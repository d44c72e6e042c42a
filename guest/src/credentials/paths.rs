//! Paths as people write them: `~` and variables.
//!
//! Without the expansion a profile's file is looked for under a directory named `~`.

use crate::config::Environment;

use super::files::set;

/// The home directory, without a slash at its end. None: the environment names none.
pub(super) fn home(environment: &dyn Environment) -> Option<String> {
    let home = set(environment, "HOME").or_else(|| set(environment, "USERPROFILE"))?;
    Some(home.trim_end_matches(['/', '\\']).to_owned())
}

/// A path with `$VAR`, `${VAR}` and then a leading `~` replaced. An unset variable stands for nothing.
///
/// # Errors
/// The `~` stands for no directory.
pub(crate) fn expand(path: &str, environment: &dyn Environment) -> Result<String, String> {
    let path = with_variables(path, environment);
    let Some(rest) = path.strip_prefix('~') else {
        return Ok(path);
    };
    if !rest.is_empty() && !rest.starts_with(['/', '\\']) {
        return Err("cannot expand user-specific home dir".to_owned());
    }
    match home(environment) {
        Some(home) => Ok(format!("{home}{rest}")),
        None => Err("the environment variable HOME is not set".to_owned()),
    }
}

/// As the shell does it, and as Go does: a name is letters, digits and `_`, or one special character.
fn with_variables(text: &str, environment: &dyn Environment) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let is_name = |it: char| it.is_ascii_alphanumeric() || it == '_';
        let (name, remainder) = match after.strip_prefix('{') {
            Some(braced) => match braced.split_once('}') {
                Some(parts) => parts,
                // Bad syntax is swallowed.
                None => ("", braced),
            },
            None if after.starts_with(|it: char| it.is_ascii_digit() || "*#$@!?-".contains(it)) => {
                after.split_at(1)
            }
            None => {
                let end = after.find(|it| !is_name(it)).unwrap_or(after.len());
                if end == 0 {
                    expanded.push('$');
                }
                after.split_at(end)
            }
        };
        if !name.is_empty() {
            expanded.push_str(&environment.variable(name).unwrap_or_default());
        }
        rest = remainder;
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::fake::Fake;

    #[test]
    fn variables_and_the_home_directory_are_expanded() {
        let fake = Fake::new(&[("HOME", "/home/me/"), ("DIR", "~/d"), ("A_1", "x")]);
        for (path, expanded) in [
            ("/etc/aws", Ok("/etc/aws")),
            ("~", Ok("/home/me")),
            ("~/.aws/config", Ok("/home/me/.aws/config")),
            ("$DIR/c", Ok("/home/me/d/c")),
            ("/a/${A_1}b/$A_1-c", Ok("/a/xb/x-c")),
            ("/a/$UNSET/b", Ok("/a//b")),
            ("/a$/b", Ok("/a$/b")),
            ("/a$1b", Ok("/ab")),
            ("/a${b", Ok("/ab")),
            ("/a/~/b", Ok("/a/~/b")),
            ("~other/c", Err("cannot expand user-specific home dir")),
        ] {
            let found = expand(path, &fake);
            let found = found.as_deref().map_err(String::as_str);
            assert_eq!(found, expanded, "{path}");
        }
    }

    #[test]
    fn without_a_home_directory_a_tilde_is_an_error() {
        let nothing = Fake::new(&[]);
        assert!(expand("~/x", &nothing).is_err());
        let windows = Fake::new(&[("USERPROFILE", "C:\\Users\\me")]);
        assert_eq!(expand("~/x", &windows).unwrap(), "C:\\Users\\me/x");
    }
}
