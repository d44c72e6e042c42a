//! What environment and profile say where the block is silent.
//!
//! Without one place that asks both, in this order, a setting could come from a profile that a variable overrules.

use crate::credentials::{ProfileSettings, TRUE_OR_FALSE, flag, set};

use super::service::{Asked, Custom, Variant};
use super::settings::Sourced;
use super::{Diagnostic, Environment};

/// Where settings come from that the block does not have.
#[derive(Clone, Copy)]
pub(super) struct Shared<'a> {
    pub(super) environment: &'a dyn Environment,
    pub(super) profile: Option<&'a ProfileSettings>,
}

impl Shared<'_> {
    /// `AWS_MAX_ATTEMPTS` or the profile's `max_attempts`, if it is a number that makes sense.
    pub(super) fn max_attempts(self) -> Option<u32> {
        match Sourced::from_environment("max_retries", self.environment) {
            Some(variable) => variable.value.trim().parse().ok(),
            None => u32::try_from(self.profile?.number("max_attempts").ok()??).ok(),
        }
        .filter(|attempts| *attempts > 0)
    }

    pub(super) fn variant(self, asked: Asked) -> Variant {
        match self.profile {
            Some(profile) => profile.variant(asked),
            None => Variant {
                fips: asked.fips == Some(true),
                dualstack: asked.dualstack == Some(true),
            },
        }
    }

    /// Whether an access point may be in another region than the one that is configured.
    pub(super) fn may_cross_regions(self, diagnostics: &mut Vec<Diagnostic>) -> bool {
        let name = "AWS_S3_USE_ARN_REGION";
        switch(self.environment, name, TRUE_OR_FALSE, diagnostics)
            .or_else(|| self.profile?.flag("s3_use_arn_region"))
            .unwrap_or(false)
    }

    /// S3's endpoint. Terraform and the SDK both read its variable, unless that is switched off.
    pub(super) fn custom_s3(self, endpoint: &Sourced<String>) -> (&Sourced<String>, Custom<'_>) {
        let custom = endpoint.as_custom();
        let is_read_twice = endpoint.source == "environment AWS_ENDPOINT_URL_S3"
            && !self.ignores_configured_endpoints();
        let is_shared = custom.is_shared || is_read_twice;
        (
            endpoint,
            Custom {
                is_shared,
                ..custom
            },
        )
    }

    /// What to append to the user agent: where it runs, for what, and as for Terraform.
    pub(super) fn user_agent_suffix(self, diagnostics: &mut Vec<Diagnostic>) -> Option<String> {
        let variable = |name| set(self.environment, name);
        let place = variable("AWS_EXECUTION_ENV").map(|it| product("exec-env/", &it));
        let purpose = variable("AWS_SDK_UA_APP_ID");
        let purpose = purpose.or_else(|| Some(self.profile?.text("sdk_ua_app_id")?.to_owned()));
        let purpose = purpose.map(|it| product("app/", &it));
        let further = variable("TF_APPEND_USER_AGENT").map(|it| it.trim().to_owned());
        let is_fit = |text: &String| text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if !further.as_ref().is_none_or(is_fit) {
            let detail = "The value of the environment variable \"TF_APPEND_USER_AGENT\" has characters that a \
                 header cannot carry. It is left out of the user agent.";
            diagnostics.push(Diagnostic::warning("User agent not extended", detail));
        }
        let further = further.filter(|it| !it.is_empty() && is_fit(it));
        let parts: Vec<_> = [place, purpose, further].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    }

    pub(super) fn ignores_configured_endpoints(self) -> bool {
        let ignored = "ignore_configured_endpoint_urls";
        is_true(self.environment, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
            || self.profile.and_then(|profile| profile.flag(ignored)) == Some(true)
    }
}

/// A product as the SDK writes one: what no token can hold is a hyphen.
fn product(name: &str, value: &str) -> String {
    let is_fit = |it: &char| it.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(*it);
    let value = value.chars().map(|it| if is_fit(&it) { it } else { '-' });
    name.chars().chain(value).collect()
}

/// A variable that must be `true` or `false`, where it is set.
pub(super) fn switch(
    environment: &dyn Environment,
    name: &str,
    choice: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<bool> {
    flag(environment, name, choice).unwrap_or_else(|reason| {
        diagnostics.push(Diagnostic::error("Invalid Value", reason));
        None
    })
}

fn is_true(environment: &dyn Environment, name: &str) -> bool {
    let value = environment.variable(name);
    value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
}
