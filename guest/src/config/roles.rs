//! The roles that a block orders: `assume_role`, `assume_role_with_web_identity`, and the older spelling of the first.
//!
//! Without these rules a misspelt role or a duration that STS does not give is found out by its refusal, in the middle of a
//! run, and a policy that is the name of a file narrows nothing.

use crate::credentials::{RoleArguments, Token, WebIdentityArguments, expand};
use crate::secret::Secret;

use super::block::Block;
use super::duration;
use super::settings::Sourced;
use super::{Diagnostic, Environment};

/// How long a role's credentials last when nobody says. Seconds.
const USUAL_DURATION: u32 = 900;

/// Nanoseconds.
const DURATIONS: std::ops::RangeInclusive<i64> = 900_000_000_000..=43_200_000_000_000;

const WEB: &str = "assume_role_with_web_identity";

/// The older spellings and what they stand for, sorted.
const OLDER: &[(&str, &str)] = &[
    ("assume_role_duration_seconds", "assume_role.duration"),
    ("assume_role_policy", "assume_role.policy"),
    ("assume_role_policy_arns", "assume_role.policy_arns"),
    ("assume_role_tags", "assume_role.tags"),
    (
        "assume_role_transitive_tag_keys",
        "assume_role.transitive_tag_keys",
    ),
    ("external_id", "assume_role.external_id"),
    ("role_arn", "assume_role.role_arn"),
    ("session_name", "assume_role.session_name"),
];

/// The object `assume_role`.
pub(super) fn assume_role(
    block: &Block,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<RoleArguments> {
    if !block.has("assume_role") {
        return None;
    }
    let mut fields = Fields {
        block,
        object: "assume_role",
        diagnostics,
    };
    let role_arn = fields.role_arn();
    let duration_seconds = fields.duration();
    fields.check_length("external_id", 2, 1224);
    fields.check_characters("external_id", "=,.@/-", b"+=,.@:/-");
    let policy = fields.policy();
    let policy_arns = fields.policy_arns();
    for name in ["session_name", "source_identity"] {
        fields.check_name(name);
    }
    let text = |name| fields.text(name).map(str::to_owned);
    Some(RoleArguments {
        role_arn: role_arn?,
        duration_seconds: duration_seconds.unwrap_or(USUAL_DURATION),
        external_id: text("external_id"),
        policy,
        policy_arns,
        session_name: text("session_name"),
        source_identity: text("source_identity"),
        tags: tags(block, "assume_role.tags"),
        transitive_tag_keys: block.texts("assume_role.transitive_tag_keys").to_vec(),
        profile: None,
    })
}

/// The object `assume_role_with_web_identity`. What it lacks, the environment may have.
pub(super) fn web_identity(
    block: &Block,
    environment: &dyn Environment,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<WebIdentityArguments> {
    if !block.has(WEB) {
        return None;
    }
    let mut fields = Fields {
        block,
        object: WEB,
        diagnostics,
    };
    let in_environment = |name: &str| {
        let variable = Sourced::from_environment(&format!("{WEB}.{name}"), environment);
        variable.map(|it| it.value)
    };
    let role_arn = fields.role_arn().or_else(|| in_environment("role_arn"));
    let duration_seconds = fields.duration();
    let policy = fields.policy();
    let policy_arns = fields.policy_arns();
    fields.check_name("session_name");
    let session_name = fields.text("session_name").map(str::to_owned);
    let names = ["web_identity_token", "web_identity_token_file"];
    for name in names {
        fields.check_length(name, 4, 20_000);
    }
    let given = names.map(|name| fields.text(name).map(str::to_owned));
    let detail = match given {
        [Some(_), Some(_)] => "Only one of web_identity_token, web_identity_token_file can be set.",
        _ => "Exactly one of web_identity_token, web_identity_token_file must be set.",
    };
    let found = match given {
        [None, None] if !names.iter().any(|name| fields.has(name)) => {
            match in_environment("web_identity_token") {
                Some(token) => [Some(token), None],
                None => [None, in_environment("web_identity_token_file")],
            }
        }
        given => given,
    };
    let token = match found {
        [Some(token), None] => Some(Token::Inline(Secret::new(token))),
        [None, Some(path)] => match expand(&path, environment) {
            Ok(path) => Some(Token::File(path)),
            Err(reason) => {
                let detail = format!("The value {path:?} cannot be expanded: {reason}");
                fields.refuse("web_identity_token_file", "Invalid Value", detail);
                None
            }
        },
        [Some(_), Some(_)] => {
            let summary = "Invalid Attribute Combination";
            fields
                .diagnostics
                .push(Diagnostic::error(summary, detail).at(WEB));
            None
        }
        [None, None] => {
            // One of a wrong type has its own diagnostic.
            if !names.iter().any(|name| fields.has(name)) {
                let summary = "Missing Required Value";
                fields
                    .diagnostics
                    .push(Diagnostic::error(summary, detail).at(WEB));
            }
            None
        }
    };
    Some(WebIdentityArguments {
        role_arn: role_arn?,
        duration_seconds,
        policy,
        policy_arns,
        session_name: session_name.or_else(|| in_environment("session_name")),
        token: token?,
        profile: None,
    })
}

/// The older spelling. Terraform checks its types only.
pub(super) fn older_role(
    block: &Block,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<RoleArguments> {
    let used: Vec<_> = OLDER.iter().filter(|(name, _)| block.has(name)).collect();
    let width = used.iter().map(|(name, _)| name.len()).max()?;
    let is_conflict = block.has("assume_role");
    let mut detail = if is_conflict {
        "The following deprecated parameters conflict with the parameter \"assume_role\". Replace \
         them as follows:\n"
    } else {
        "The following parameters have been deprecated. Replace them as follows:\n"
    }
    .to_owned();
    for (name, replacement) in used {
        let padding = " ".repeat(width - name.len());
        detail.push_str(&format!("  * {name}{padding} -> {replacement}\n"));
    }
    if is_conflict {
        diagnostics.push(Diagnostic::error("Conflicting Parameters", detail));
        return None;
    }
    diagnostics.push(Diagnostic::warning("Deprecated Parameters", detail));
    let role_arn = block.text("role_arn")?.to_owned();
    if role_arn.is_empty() {
        let detail = "IAM Role ARN not set in assume role 1 of 1";
        diagnostics.push(Diagnostic::error("Cannot assume IAM Role", detail).at("role_arn"));
        return None;
    }
    let text = |name| block.text(name).filter(|text| !text.is_empty());
    let owned = |name| text(name).map(str::to_owned);
    let duration = block.number("assume_role_duration_seconds");
    let duration = duration.filter(|seconds| (1.0..=f64::from(u32::MAX)).contains(seconds));
    Some(RoleArguments {
        role_arn,
        duration_seconds: duration.map_or(USUAL_DURATION, |seconds| seconds as u32),
        external_id: owned("external_id"),
        policy: text("assume_role_policy").map(|policy| policy.trim().to_owned()),
        policy_arns: block.texts("assume_role_policy_arns").to_vec(),
        session_name: owned("session_name"),
        source_identity: None,
        tags: tags(block, "assume_role_tags"),
        transitive_tag_keys: block.texts("assume_role_transitive_tag_keys").to_vec(),
        profile: None,
    })
}

/// Whether an argument is one of the older spellings, which have a notice of their own.
pub(super) fn is_older(name: &str) -> bool {
    OLDER.iter().any(|(older, _)| *older == name)
}

/// The fields of an object, and where to complain of them.
struct Fields<'f> {
    block: &'f Block,
    object: &'static str,
    diagnostics: &'f mut Vec<Diagnostic>,
}

impl<'f> Fields<'f> {
    fn has(&self, name: &str) -> bool {
        self.block.has(&format!("{}.{name}", self.object))
    }

    fn text(&self, name: &str) -> Option<&'f str> {
        self.block.text(&format!("{}.{name}", self.object))
    }

    fn refuse(&mut self, name: &str, summary: &str, detail: impl Into<String>) {
        let attribute = format!("{}.{name}", self.object);
        self.diagnostics
            .push(Diagnostic::error(summary, detail).at(&attribute));
    }

    /// That it must be there is checked with all other arguments.
    fn role_arn(&mut self) -> Option<String> {
        let value = self.text("role_arn").filter(|arn| !arn.trim().is_empty())?;
        self.check_arn("role_arn", value, "role/", "Role");
        Some(value.to_owned())
    }

    /// Seconds.
    fn duration(&mut self) -> Option<u32> {
        let text = self.text("duration")?;
        let detail = match duration::parse(text) {
            Ok(nanoseconds) if DURATIONS.contains(&nanoseconds) => {
                return u32::try_from(nanoseconds / 1_000_000_000).ok();
            }
            Ok(nanoseconds) => format!(
                "Duration must be between 15m0s and 12h0m0s, had {}",
                duration::shown(nanoseconds)
            ),
            Err(reason) => format!("The value {text:?} cannot be parsed as a duration: {reason}"),
        };
        self.refuse("duration", "Invalid Duration", detail);
        None
    }

    fn check_name(&mut self, name: &str) {
        self.check_length(name, 2, 64);
        self.check_characters(name, "=,.@-", b"+=,.@-");
    }

    fn check_length(&mut self, name: &str, least: usize, most: usize) {
        let Some(length) = self.text(name).map(str::len) else {
            return;
        };
        if !(least..=most).contains(&length) {
            let detail = format!("Length must be between {least} and {most}, had {length}");
            self.refuse(name, "Invalid Value Length", detail);
        }
    }

    /// Letters, digits, `_` and some more. `told`: as Terraform lists them.
    fn check_characters(&mut self, name: &str, told: &str, more: &[u8]) {
        let is_fit =
            |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || more.contains(&byte);
        if self
            .text(name)
            .is_some_and(|text| !text.bytes().all(is_fit))
        {
            let detail = format!(
                "Value can only contain letters, numbers, or the following characters: {told}"
            );
            self.refuse(name, "Invalid Value", detail);
        }
    }

    fn policy_arns(&mut self) -> Vec<String> {
        let arns = self.block.texts(&format!("{}.policy_arns", self.object));
        for arn in arns {
            self.check_arn("policy_arns", arn, "policy/", "Policy");
        }
        arns.to_vec()
    }

    fn check_arn(&mut self, name: &str, arn: &str, resource: &str, kind: &str) {
        let parts: Vec<_> = arn.splitn(6, ':').collect();
        let problem = match parts.as_slice() {
            ["arn", _, _, _, _, rest] if rest.starts_with(resource) => return,
            ["arn", _, _, _, _, _] => {
                let detail = format!("Value must be a valid IAM {kind} ARN, got {arn:?}");
                return self.refuse(name, &format!("Invalid IAM {kind} ARN"), detail);
            }
            ["arn", _, ..] => "not enough sections",
            _ => "invalid prefix",
        };
        let detail = format!("The value {arn:?} cannot be parsed as an ARN: arn: {problem}");
        self.refuse(name, "Invalid ARN", detail);
    }

    /// A policy as it is sent.
    fn policy(&mut self) -> Option<String> {
        let policy = self.text("policy")?.trim();
        let (summary, detail) = match policy.as_bytes().first() {
            None => (
                "Invalid Value",
                "The value cannot be empty or all whitespace".to_owned(),
            ),
            Some(b'{') => match serde_json::from_str::<serde::de::IgnoredAny>(policy) {
                Ok(_) => return Some(policy.to_owned()),
                // The parser's messages name what it expected and the place, never the text.
                Err(error) => (
                    "Invalid JSON Document",
                    format!("The JSON document contains an error: {error}"),
                ),
            },
            Some(b'"') => ("Invalid IAM Policy Document", encoded_policy(policy)),
            Some(_) => (
                "Invalid IAM Policy Document",
                "Expected a JSON object describing the policy".to_owned(),
            ),
        };
        self.refuse("policy", summary, detail);
        None
    }
}

/// What is wrong with a policy that is a JSON text.
fn encoded_policy(policy: &str) -> String {
    let mut detail =
        "Expected a JSON object describing the policy, had a JSON-encoded string.".to_owned();
    if let Ok(serde_json::Value::String(content)) = serde_json::from_str(policy) {
        if content.ends_with(".json") {
            detail.push_str(&format!(
                "\n\nThe string {content:?} looks like a filename, please pass the contents of the \
                 file instead of the filename."
            ));
        } else if serde_json::from_str::<serde::de::IgnoredAny>(&content).is_ok() {
            detail.push_str(
                "\n\nThe string content was valid JSON, your policy document may have been \
                 double-encoded.",
            );
        }
    }
    detail
}

/// Sorted by key.
fn tags(block: &Block, name: &str) -> Vec<(String, String)> {
    let tags = block.map(name).into_iter().flatten();
    tags.map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}
