//! The rules for a backend block, in the order and with the words of Terraform.
//!
//! Without them, a missing region or a key with a stray slash shows up as a refusal of S3's in the
//! middle of an apply, or as a state in a place where no other tool looks for it.
//!
//! Every rule looks at its argument alone, so that one run tells all that is wrong. First comes
//! what Terraform says when it checks a block, then what it says when it opens the backend.

use super::block::Block;
use super::endpoint::{self, Endpoint, Verdict};
use super::location;
use super::region;
use super::schema::{SCHEMA, Support};
use super::settings::{Settings, Sourced, is_header_text};
use super::static_keys::{self, PassedOver};
use super::{Diagnostic, Environment, Severity};

/// Attempts when neither the block nor the environment limits them: the standard mode of AWS's
/// SDKs.
const STANDARD_ATTEMPTS: u32 = 3;

/// What there is to say about a block, and what it stands for.
pub(super) struct Checked {
    pub(super) diagnostics: Vec<Diagnostic>,
    /// None: one of the diagnostics is an error.
    pub(super) resolved: Option<Resolved>,
}

/// What a block without errors stands for.
pub(super) struct Resolved {
    pub(super) settings: Settings,
    pub(super) passed_over: Vec<PassedOver>,
}

/// Checks a block and makes settings of it.
pub(super) fn check(config: &str, environment: &dyn Environment) -> Checked {
    let mut diagnostics = Vec::new();
    let resolved = Block::parse(config, &mut diagnostics)
        .and_then(|block| apply(&block, environment, &mut diagnostics));
    let is_usable = !diagnostics.iter().any(|it| it.severity == Severity::Error);
    Checked {
        resolved: resolved.filter(|_| is_usable),
        diagnostics,
    }
}

fn apply(
    block: &Block,
    environment: &dyn Environment,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Resolved> {
    require(block, diagnostics);
    check_paths(block, diagnostics);
    let region = region(block, environment, diagnostics);
    check_spellings(block, diagnostics);
    let given_endpoint = given_endpoint(block, diagnostics);

    // From here on, what Terraform says when it opens the backend.
    check_region(block, region.as_ref(), diagnostics);
    check_variables(environment, diagnostics);
    let s3_endpoint = given_endpoint.or_else(|| endpoint_of(environment, diagnostics));
    check_unsupported_variables(block, environment, s3_endpoint.is_some(), diagnostics);
    let use_path_style = block.flag("use_path_style");
    let bucket = block.text("bucket").unwrap_or_default();
    diagnostics.extend(location::check(bucket, use_path_style));
    let acl = acl(block, diagnostics);
    let max_attempts = max_attempts(block, environment, diagnostics);
    let user_agent_suffix = user_agent_suffix(environment, diagnostics);
    let (credentials, passed_over) = static_keys::find(block, environment, diagnostics);
    if !block.flag("skip_credentials_validation") {
        let detail = "This version of cofferdam does not ask STS whether the credentials are valid and \
             which account they belong to; the first request to S3 will tell. Set \
             \"skip_credentials_validation\" to true to silence this notice.";
        diagnostics.push(
            Diagnostic::warning("Credentials are not checked", detail)
                .at("skip_credentials_validation"),
        );
    }

    let settings = Settings {
        bucket: bucket.to_owned(),
        key: block.text("key")?.to_owned(),
        workspace_key_prefix: block.text("workspace_key_prefix")?.to_owned(),
        region: region?,
        credentials,
        s3_endpoint,
        use_path_style,
        use_lockfile: block.flag("use_lockfile"),
        encrypt: block.flag("encrypt"),
        acl,
        max_attempts: max_attempts?,
        skip_s3_checksum: block.flag("skip_s3_checksum"),
        user_agent_suffix,
    };
    Some(Resolved {
        settings,
        passed_over,
    })
}

fn require(block: &Block, diagnostics: &mut Vec<Diagnostic>) {
    let required = SCHEMA
        .iter()
        .filter(|it| it.required && it.support == Support::Now);
    for argument in required.clone().filter(|it| !block.has(it.name)) {
        let detail = format!(
            "The attribute \"{}\" is required by the backend.\n\nRefer to the backend documentation for \
             additional information which attributes are required.",
            argument.name
        );
        diagnostics.push(Diagnostic::error("Missing Required Value", detail).at(argument.name));
    }
    for argument in required {
        if block
            .text(argument.name)
            .is_some_and(|text| text.trim().is_empty())
        {
            let detail = "The value cannot be empty or all whitespace";
            diagnostics.push(Diagnostic::error("Invalid Value", detail).at(argument.name));
        }
    }
}

fn check_paths(block: &Block, diagnostics: &mut Vec<Diagnostic>) {
    let mut refuse = |name: &str, detail: &str| {
        diagnostics.push(Diagnostic::error("Invalid Value", detail).at(name));
    };
    let text = |name| block.text(name).unwrap_or_default();
    for name in ["key", "workspace_key_prefix"] {
        if text(name).starts_with('/') || text(name).ends_with('/') {
            refuse(name, "The value must not start or end with \"/\"");
        }
    }
    if text("key").contains("//") {
        refuse("key", "Value must not contain \"//\"");
    }
}

/// The region, from the block or the environment. A profile's would not do in Terraform either.
fn region(
    block: &Block,
    environment: &dyn Environment,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Sourced<String>> {
    let given = block.text("region").filter(|text| !text.is_empty());
    let region = given
        .map(|region| Sourced::argument("region", region.to_owned()))
        .or_else(|| Sourced::from_environment("region", environment));
    let is_of_wrong_type = block.has("region") && block.text("region").is_none();
    if region.is_none() && !is_of_wrong_type {
        let detail = "The \"region\" attribute or the \"AWS_REGION\" or \"AWS_DEFAULT_REGION\" environment \
             variables must be set.";
        diagnostics.push(Diagnostic::error("Missing region value", detail).at("region"));
    }
    region
}

/// Deprecated spellings, and those that stand beside their replacement.
fn check_spellings(block: &Block, diagnostics: &mut Vec<Diagnostic>) {
    let old = SCHEMA.iter().filter(|it| block.has(it.name));
    let old = old.filter_map(|it| Some((it, it.deprecated?)));
    for (argument, replacement) in old.clone() {
        let detail = format!(
            "The parameter \"{}\" is deprecated. Use parameter \"{replacement}\" instead.",
            argument.name
        );
        diagnostics.push(Diagnostic::warning("Deprecated Parameter", detail).at(argument.name));
    }
    for (argument, _) in old {
        for other in argument.conflicts.iter().filter(|it| block.has(it)) {
            let detail = format!(
                "The parameters \"{}\" and \"{other}\" cannot be configured together.",
                argument.name
            );
            diagnostics.push(Diagnostic::error("Conflicting Parameters", detail));
        }
    }
}

/// The endpoint that the block names, in either spelling.
fn given_endpoint(block: &Block, diagnostics: &mut Vec<Diagnostic>) -> Option<Sourced<String>> {
    // Both are checked before one of them is taken.
    let [new, old] = ["endpoints.s3", "endpoint"].map(|name| {
        let url = block.text(name)?;
        let subject = "The value";
        let url = normalised(url, subject, diagnostics, |it| it.at(name))?;
        Some(Sourced::argument(name, url))
    });
    new.or(old)
}

/// The endpoint that the environment names.
fn endpoint_of(
    environment: &dyn Environment,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Sourced<String>> {
    let found = Sourced::from_environment("endpoints.s3", environment)?;
    // This switch is for the variable of all services and for profiles, not for S3's own variables.
    if found.source == "environment AWS_ENDPOINT_URL"
        && is_true(environment, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
    {
        return None;
    }
    let subject = format!("The value of the {}", found.described());
    let value = normalised(&found.value, &subject, diagnostics, |it| it)?;
    Some(Sourced {
        value,
        source: found.source,
    })
}

/// An endpoint's URL in the one form that the rest of the guest knows. None: it is empty or of no
/// use.
fn normalised(
    url: &str,
    subject: &str,
    diagnostics: &mut Vec<Diagnostic>,
    at: impl Fn(Diagnostic) -> Diagnostic,
) -> Option<String> {
    let shown = endpoint::redacted(url);
    let complete = match endpoint::judge(url) {
        Verdict::Unparsable(reason) => {
            let detail = format!("{subject} {shown:?} cannot be parsed as a URL: {reason}");
            diagnostics.push(at(Diagnostic::error("Invalid Value", detail)));
            return None;
        }
        Verdict::Incomplete(complete) => {
            let detail = format!(
                "{subject} should be a valid URL containing at least a scheme and hostname. Had \
                 {shown:?}.\n\nUsing an incomplete URL, such as a hostname only, may work, but may have \
                 unexpected behavior."
            );
            diagnostics.push(at(Diagnostic::warning("Complete URL Expected", detail)));
            if url.is_empty() {
                return None;
            }
            complete
        }
        Verdict::Complete => url.to_owned(),
    };
    match Endpoint::parse(&complete) {
        Err(reason) => {
            let detail = format!("{subject} {shown:?} cannot be used as an endpoint: {reason}");
            diagnostics.push(at(Diagnostic::error("Invalid Value", detail)));
            None
        }
        Ok(endpoint) => {
            if endpoint.trimmed {
                let detail = format!(
                    "{subject} has a user name, a query or a fragment, which requests to S3 cannot carry. \
                     They go to {:?}.",
                    endpoint.url()
                );
                diagnostics.push(at(Diagnostic::warning("Endpoint shortened", detail)));
            }
            Some(endpoint.url())
        }
    }
}

/// The argument must be in AWS's table; a variable, and an argument that need not, must fit in a
/// host's name.
fn check_region(
    block: &Block,
    region: Option<&Sourced<String>>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let Some(region) = region else { return };
    let is_argument = block.text("region").is_some_and(|text| !text.is_empty());
    let is_valid = if is_argument && !block.flag("skip_region_validation") {
        region::is_known(&region.value)
    } else {
        region::is_host_label(&region.value)
    };
    if !is_valid {
        let detail = format!("Invalid AWS Region: {}", region.value.escape_debug());
        diagnostics.push(Diagnostic::error("Invalid region value", detail).at("region"));
    }
}

/// Deprecated variables, used or not.
fn check_variables(environment: &dyn Environment, diagnostics: &mut Vec<Diagnostic>) {
    let arguments = SCHEMA.iter().filter(|it| it.support == Support::Now);
    for variable in arguments.flat_map(|it| it.environment) {
        let Some(replacement) = variable.deprecated else {
            continue;
        };
        if is_set(environment, variable.name) {
            let detail = format!(
                "The environment variable \"{}\" is deprecated. Use environment variable \"{replacement}\" \
                 instead.",
                variable.name
            );
            diagnostics.push(Diagnostic::warning(
                "Deprecated Environment Variable",
                detail,
            ));
        }
    }
}

/// Variables that ask for protection which this version does not give. Passing over them would
/// store a state otherwise than its owner ordered.
fn check_unsupported_variables(
    block: &Block,
    environment: &dyn Environment,
    has_endpoint: bool,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let mut refuse = |name: &str| {
        let detail = format!(
            "The environment variable \"{name}\" applies to this configuration, but this version of \
             cofferdam does not support it yet. Unset it if the state does not depend on it."
        );
        diagnostics.push(Diagnostic::error(
            "Environment variable not supported yet",
            detail,
        ));
    };
    // Without `encrypt`, Terraform does not look at it either.
    if block.flag("encrypt") && is_set(environment, "AWS_SSE_CUSTOMER_KEY") {
        refuse("AWS_SSE_CUSTOMER_KEY");
    }
    for name in ["AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT"] {
        if !has_endpoint && is_true(environment, name) {
            refuse(name);
        }
    }
}

fn acl(block: &Block, diagnostics: &mut Vec<Diagnostic>) -> Option<String> {
    let acl = block.text("acl").filter(|text| !text.is_empty())?;
    if !is_header_text(acl) {
        let detail = "The value must be printable ASCII characters without blanks";
        diagnostics.push(Diagnostic::error("Invalid Value", detail).at("acl"));
    }
    Some(acl.to_owned())
}

/// Attempts in all, at least one. None: there is an error.
fn max_attempts(
    block: &Block,
    environment: &dyn Environment,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<u32> {
    let number = block.number("max_retries")?;
    if number.fract() != 0.0 || !(0.0..=f64::from(u32::MAX)).contains(&number) {
        let detail = "The value must be a whole number of at least 0";
        diagnostics.push(Diagnostic::error("Invalid Value", detail).at("max_retries"));
        return None;
    }
    if number > 0.0 {
        return Some(number as u32);
    }
    let Some(variable) = Sourced::from_environment("max_retries", environment) else {
        return Some(STANDARD_ATTEMPTS);
    };
    match variable.value.trim().parse() {
        Ok(0) => Some(STANDARD_ATTEMPTS),
        Ok(attempts) => Some(attempts),
        Err(_) => {
            let detail = format!(
                "The value of the {} must be a whole number of at least 0",
                variable.described()
            );
            diagnostics.push(Diagnostic::error("Invalid Value", detail));
            None
        }
    }
}

/// What to append to the user agent, as for Terraform.
fn user_agent_suffix(
    environment: &dyn Environment,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<String> {
    let suffix = environment.variable("TF_APPEND_USER_AGENT")?;
    let suffix = suffix.trim();
    if !suffix.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        let detail = "The value of the environment variable \"TF_APPEND_USER_AGENT\" has characters that a \
             header cannot carry. It is left out of the user agent.";
        diagnostics.push(Diagnostic::warning("User agent not extended", detail));
        return None;
    }
    (!suffix.is_empty()).then(|| suffix.to_owned())
}

fn is_set(environment: &dyn Environment, name: &str) -> bool {
    environment.variable(name).is_some_and(|it| !it.is_empty())
}

fn is_true(environment: &dyn Environment, name: &str) -> bool {
    let value = environment.variable(name);
    value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
}
