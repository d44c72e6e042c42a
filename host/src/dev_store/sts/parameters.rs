//! The parameters of a request and their rules, which are AWS's.
//!
//! Without them a session name or a duration that AWS refuses would pass here.

use http::StatusCode;
use serde_json::Value;

use super::Error;

/// Seconds. A role may allow less.
const DURATIONS: std::ops::RangeInclusive<i64> = 900..=43_200;

/// Seconds, unless something else is ordered.
const DEFAULT_DURATION: i64 = 3600;

/// Characters of a session policy.
const LONGEST_POLICY: usize = 2048;

const MOST_POLICIES: usize = 10;
const MOST_TAGS: usize = 50;

/// The fields of the form.
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(super) fn of(body: &[u8]) -> Self {
        let fields = form_urlencoded::parse(body);
        Self(
            fields
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        )
    }

    /// An empty value is none.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|it| !it.is_empty())
    }

    /// A value that must be there, of so many characters.
    pub(super) fn within(
        &self,
        name: &str,
        member: &str,
        least: usize,
        most: usize,
    ) -> Result<&str, Error> {
        let Some(value) = self.get(name) else {
            return Err(constraint("null", member, "Member must not be null"));
        };
        let length = value.chars().count();
        if length < least {
            let rule = format!("Member must have length greater than or equal to {least}");
            return Err(constraint(&shown(name, value), member, &rule));
        }
        if length > most {
            let rule = format!("Member must have length less than or equal to {most}");
            return Err(constraint(&shown(name, value), member, &rule));
        }
        Ok(value)
    }

    /// What has no effect here but must be well-formed all the same.
    pub(super) fn check_rest(&self) -> Result<(), Error> {
        if self.get("ExternalId").is_some() {
            let id = self.within("ExternalId", "externalId", 2, 1224)?;
            matching(id, "externalId", "[\\w+=,.@:\\/-]*", b"+=,.@:/-")?;
        }
        if self.get("SourceIdentity").is_some() {
            let who = self.within("SourceIdentity", "sourceIdentity", 2, 64)?;
            matching(who, "sourceIdentity", "[\\w+=,.@-]*", b"+=,.@-")?;
        }
        if let Some(policy) = self.get("Policy") {
            self.within("Policy", "policy", 1, LONGEST_POLICY)?;
            if !serde_json::from_str::<Value>(policy).is_ok_and(|it| it.is_object()) {
                return Err(Error::new(
                    StatusCode::BAD_REQUEST,
                    "MalformedPolicyDocument",
                    "Syntax errors in policy.",
                ));
            }
        }
        for (list, end, most) in [
            ("PolicyArns.member.", ".arn", MOST_POLICIES),
            ("Tags.member.", ".Key", MOST_TAGS),
            ("TransitiveTagKeys.member.", "", MOST_TAGS),
        ] {
            let is_one = |name: &str| name.starts_with(list) && name.ends_with(end);
            let count = self.0.iter().filter(|(name, _)| is_one(name)).count();
            if count > most {
                let member = list.trim_end_matches(".member.");
                let rule = format!("Member must have length less than or equal to {most}");
                return Err(constraint(&format!("{count} of them"), member, &rule));
            }
        }
        Ok(())
    }
}

/// The ARN of the role.
pub(super) fn role_arn(parameters: &Parameters) -> Result<&str, Error> {
    let arn = parameters.within("RoleArn", "roleArn", 20, 2048)?;
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    match parts[..] {
        ["arn", partition, "iam", "", account, resource]
            if !partition.is_empty()
                && account.len() == 12
                && account.bytes().all(|byte| byte.is_ascii_digit())
                && resource
                    .strip_prefix("role/")
                    .is_some_and(|name| !name.is_empty()) =>
        {
            Ok(arn)
        }
        _ => Err(Error::validation(format!("{arn} is invalid"))),
    }
}

pub(super) fn session_name(parameters: &Parameters) -> Result<&str, Error> {
    let name = parameters.within("RoleSessionName", "roleSessionName", 2, 64)?;
    matching(name, "roleSessionName", "[\\w+=,.@-]*", b"+=,.@-")?;
    Ok(name)
}

/// Seconds.
pub(super) fn duration(parameters: &Parameters) -> Result<i64, Error> {
    let Some(text) = parameters.get("DurationSeconds") else {
        return Ok(DEFAULT_DURATION);
    };
    let Ok(seconds) = text.parse::<i64>() else {
        return Err(Error::new(
            StatusCode::BAD_REQUEST,
            "MalformedInput",
            "DurationSeconds is no number",
        ));
    };
    let rule = if seconds < *DURATIONS.start() {
        format!(
            "Member must have value greater than or equal to {}",
            DURATIONS.start()
        )
    } else if seconds > *DURATIONS.end() {
        format!(
            "Member must have value less than or equal to {}",
            DURATIONS.end()
        )
    } else {
        return Ok(seconds);
    };
    Err(constraint(text, "durationSeconds", &rule))
}

/// `more`: what is allowed besides letters, digits and the underscore.
fn matching(text: &str, member: &str, pattern: &str, more: &[u8]) -> Result<(), Error> {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || more.contains(&byte);
    if text.bytes().all(is_fit) {
        return Ok(());
    }
    let rule = format!("Member must satisfy regular expression pattern: {pattern}");
    Err(constraint(text, member, &rule))
}

fn constraint(value: &str, member: &str, rule: &str) -> Error {
    let value = match value {
        "null" => "null".to_owned(),
        value => format!("'{value}'"),
    };
    Error::validation(format!(
        "1 validation error detected: Value {value} at '{member}' failed to satisfy constraint: {rule}"
    ))
}

/// A value as an error repeats it.
fn shown(name: &str, value: &str) -> String {
    match name {
        "WebIdentityToken" => "(secret)".to_owned(),
        _ => value.to_owned(),
    }
}
