//! `credential_process`: a command of a profile that prints credentials.
//!
//! Whoever names a command runs it on the operator's machine, so that it is the host that decides and runs. What the
//! command prints is secret: no error repeats it.

use serde_json::Value;
use zeroize::Zeroizing;

use crate::platform::{Refusal, Surroundings};

use super::wire::{self, take_text};
use super::{Credentials, Origin, ProcessArguments, ProviderError};

/// Has the command run, and reads what it prints.
pub(super) fn credentials(
    surroundings: &dyn Surroundings,
    arguments: &ProcessArguments,
) -> Result<Credentials, ProviderError> {
    let printed = surroundings
        .run(arguments.command.expose())
        .map_err(|refusal| refused(arguments, refusal))?;
    let printed = Zeroizing::new(printed);
    read(&printed).map_err(|why| {
        ProviderError::new(format!(
            "credential_process of profile \"{}\": {why}",
            arguments.profile
        ))
    })
}

fn refused(arguments: &ProcessArguments, refusal: Refusal) -> ProviderError {
    let profile = &arguments.profile;
    let why = match (refusal, arguments.origin) {
        (Refusal::Denied, Origin::BlockFile) => {
            "it stands in a file that the block names, and commands out of such files are not run: \
             whoever writes the block could run anything. Move the profile to your own ~/.aws/config, \
             or allow it with --allow-credential-process"
        }
        (Refusal::Denied, Origin::UserFile) => {
            "the host of this backend does not run it. On a person's own machine, commands out of \
             ~/.aws/config and ~/.aws/credentials are run, and out of other files with \
             --allow-credential-process; for a sealed store, none are. Whoever runs it has to allow it, \
             or lend credentials"
        }
        (Refusal::Failed(reason), _) => {
            let message = format!("error in credential_process of profile \"{profile}\": {reason}");
            return ProviderError::new(message);
        }
        (Refusal::NotFound, _) => "there is no such command",
    };
    ProviderError::new(format!(
        "credential_process of profile \"{profile}\": {why}"
    ))
}

fn read(printed: &[u8]) -> Result<Credentials, String> {
    // The parser's messages name what it expected and the place, never the text.
    let text = str::from_utf8(printed)
        .map_err(|_| "parse failed of process output: it is not UTF-8".to_owned())?;
    let mut object: Value = serde_json::from_str(text)
        .map_err(|error| format!("parse failed of process output: {error}"))?;
    if !object.is_object() {
        return Err("parse failed of process output: it is no JSON object".to_owned());
    }
    if object.get("Version").and_then(Value::as_u64) != Some(1) {
        return Err("wrong version in process output (not 1)".to_owned());
    }
    let mut text = |name| take_text(&mut object, name);
    let id = text("AccessKeyId").ok_or("missing AccessKeyId in process output")?;
    let secret = text("SecretAccessKey").ok_or("missing SecretAccessKey in process output")?;
    let mut credentials = wire::credentials(Some(id), Some(secret), text("SessionToken"))
        .map_err(|what| format!("malformed {what} in process output"))?;
    if let Some(date) = text("Expiration") {
        let expires_at = wire::seconds(&date);
        credentials.expires_at = Some(expires_at.ok_or("malformed Expiration in process output")?);
    }
    credentials.account_id = text("AccountId");
    Ok(credentials)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_prints_is_read_and_never_repeated() {
        for (printed, outcome) in [
            (
                r#"{"Version":1,"AccessKeyId":"AKIA","SecretAccessKey":"CANARY","SessionToken":"t","Expiration":"2026-11-23T01:25:24Z","AccountId":"123456789012"}"#,
                Ok(("AKIA", Some(1_795_397_124), Some("123456789012"))),
            ),
            (
                r#"{"Version":1,"AccessKeyId":"AKIA","SecretAccessKey":"CANARY"}"#,
                Ok(("AKIA", None, None)),
            ),
            (
                r#"{"Version":2,"AccessKeyId":"AKIA","SecretAccessKey":"CANARY"}"#,
                Err("wrong version in process output (not 1)"),
            ),
            (
                r#"{"AccessKeyId":"AKIA","SecretAccessKey":"CANARY"}"#,
                Err("wrong version in process output (not 1)"),
            ),
            (
                r#"{"Version":1,"SecretAccessKey":"CANARY"}"#,
                Err("missing AccessKeyId in process output"),
            ),
            (
                r#"{"Version":1,"AccessKeyId":"AKIA","SecretAccessKey":""}"#,
                Err("missing SecretAccessKey in process output"),
            ),
            (
                r#"{"Version":1,"AccessKeyId":"AKIA","SecretAccessKey":"CANARY","Expiration":"soon"}"#,
                Err("malformed Expiration in process output"),
            ),
            (
                r#"{"Version":1,"AccessKeyId":"AK\nIA","SecretAccessKey":"CANARY"}"#,
                Err("malformed access key id in process output"),
            ),
            (
                "CANARY",
                Err("parse failed of process output: expected value at line 1 column 1"),
            ),
            (
                "[1]",
                Err("parse failed of process output: it is no JSON object"),
            ),
        ] {
            let found = read(printed.as_bytes());
            assert!(!format!("{found:?}").contains("CANARY"), "{printed}");
            let found = found.map(|it| (it.key.id, it.expires_at, it.account_id));
            let found = found.as_ref().map(|(id, expires_at, account_id)| {
                (id.as_str(), *expires_at, account_id.as_deref())
            });
            assert_eq!(found.map_err(String::as_str), outcome, "{printed}");
        }
    }
}
