//! Credentials that stand in the block or in the environment.
//!
//! Without these rules half a pair of keys would be completed from elsewhere, and a state would be
//! written with the rights of somebody who was not named.

use crate::secret::Secret;

use super::block::Block;
use super::settings::{Sourced, StaticCredentials, is_header_text};
use super::{Diagnostic, Environment};

/// A source of credentials that was there and was not used.
pub(super) struct PassedOver {
    pub(super) source: String,
    pub(super) reason: &'static str,
}

/// The block's keys, else the environment's, never a mixture; and what was passed over.
pub(super) fn find(
    block: &Block,
    environment: &dyn Environment,
    diagnostics: &mut Vec<Diagnostic>,
) -> (Option<StaticCredentials>, Vec<PassedOver>) {
    let mut passed_over = Vec::new();
    let is_given = |name: &&str| block.text(name).is_some_and(|text| !text.is_empty());
    let found = if ["access_key", "secret_key", "token"].iter().any(is_given) {
        let in_environment = |name| Sourced::from_environment(name, environment);
        if let Some(variable) = ["access_key", "secret_key"]
            .into_iter()
            .find_map(in_environment)
        {
            passed_over.push(PassedOver {
                source: variable.source,
                reason: "the block's credentials come first",
            });
        }
        in_block(block, diagnostics)
    } else {
        in_environment(environment, &mut passed_over, diagnostics)
    };
    if let Some(profile) = Sourced::from_environment("profile", environment) {
        passed_over.push(PassedOver {
            source: profile.source,
            reason: match found {
                Some(_) => "static credentials come first",
                None => "profiles are not supported yet",
            },
        });
    }
    (found, passed_over)
}

/// The block's keys. What is missing of them is an error, whatever the environment has.
fn in_block(block: &Block, diagnostics: &mut Vec<Diagnostic>) -> Option<StaticCredentials> {
    let argument = |name| block.text(name).filter(|text| !text.is_empty());
    let (id, secret) = (argument("access_key"), argument("secret_key"));
    let token = argument("token");
    for (name, value) in [("access_key", id), ("secret_key", secret)] {
        // An argument of a wrong type has its own diagnostic.
        let is_of_wrong_type = block.has(name) && block.text(name).is_none();
        if value.is_none() && !is_of_wrong_type {
            let detail = format!(
                "Static credentials are incomplete: \"access_key\" and \"secret_key\" must be set together, \
                 and \"token\" only with both. \"{name}\" is not set."
            );
            let summary = "No valid credential sources found";
            diagnostics.push(Diagnostic::error(summary, detail).at(name));
        }
    }
    for (name, value) in [("access_key", id), ("token", token)] {
        if value.is_some_and(|value| !is_header_text(value)) {
            let detail = "The value must be printable ASCII characters without blanks";
            diagnostics.push(Diagnostic::error("Invalid Value", detail).at(name));
        }
    }
    Some(StaticCredentials {
        access_key_id: id?.to_owned(),
        secret_access_key: Secret::new(secret?.to_owned()),
        session_token: token.map(|token| Secret::new(token.to_owned())),
        source: "argument access_key".to_owned(),
    })
}

/// The environment's keys. Half a pair counts as none.
fn in_environment(
    environment: &dyn Environment,
    passed_over: &mut Vec<PassedOver>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<StaticCredentials> {
    let id = Sourced::from_environment("access_key", environment);
    let secret = Sourced::from_environment("secret_key", environment);
    let (id, secret) = match (id, secret) {
        (Some(id), Some(secret)) => (id, secret),
        (Some(id), None) => {
            passed_over.push(PassedOver {
                source: id.source,
                reason: "AWS_SECRET_ACCESS_KEY is not set",
            });
            return None;
        }
        (None, Some(secret)) => {
            passed_over.push(PassedOver {
                source: secret.source,
                reason: "AWS_ACCESS_KEY_ID is not set",
            });
            return None;
        }
        (None, None) => return None,
    };
    let token = Sourced::from_environment("token", environment);
    for variable in [Some(&id), token.as_ref()].into_iter().flatten() {
        if !is_header_text(&variable.value) {
            let detail = format!(
                "The value of the {} must be printable ASCII characters without blanks",
                variable.described()
            );
            diagnostics.push(Diagnostic::error("Invalid Value", detail));
        }
    }
    Some(StaticCredentials {
        access_key_id: id.value,
        secret_access_key: Secret::new(secret.value),
        session_token: token.map(|token| Secret::new(token.value)),
        source: id.source,
    })
}
