//! The rules for a backend block, in the order and with the words of Terraform.
//!
//! Without them, a missing region or a key with a stray slash shows up as a refusal of S3's in the
//! middle of an apply, or as a state in a place where no other tool looks for it.
//!
//! Every rule looks at its argument alone, so that one run tells all that is wrong. First comes
//! what Terraform says when it checks a block, then what it says when it opens the backend.

use crate::credentials::{PlanError, Session, plan, set};
use crate::platform::Surroundings;

use super::block::Block;
use super::encryption;
use super::location;
use super::region;
use super::schema::SCHEMA;
use super::service::Service;
use super::settings::{RetryMode, Settings, Sourced, is_header_text};
use super::shared::Shared;
use super::{Diagnostic, Environment, Severity, credentials, endpoints, roles};

/// Attempts when neither the block nor the environment limits them: the standard mode of AWS's
/// SDKs.
const STANDARD_ATTEMPTS: u32 = 3;

/// Arguments that Terraform keeps apart in a rule of its own.
const EXCLUSIVE: &[[&str; 2]] = &[
    ["kms_key_id", "sse_customer_key"],
    ["shared_credentials_file", "shared_credentials_files"],
    ["force_path_style", "use_path_style"],
    ["allowed_account_ids", "forbidden_account_ids"],
];

/// What there is to say about a block, and what it stands for.
pub(super) struct Checked {
    pub(super) diagnostics: Vec<Diagnostic>,
    /// None: one of the diagnostics is an error.
    pub(super) resolved: Option<Resolved>,
}

/// What a block without errors stands for.
pub(super) struct Resolved {
    pub(super) settings: Settings,
    pub(super) session: Session,
    /// What is set and encrypts nothing.
    pub(super) encryption_note: Option<&'static str>,
}

/// Checks a block and makes settings of it. The shared files are read only where `surroundings` are given.
pub(super) fn check(
    config: &str,
    environment: &dyn Environment,
    surroundings: Option<&dyn Surroundings>,
) -> Checked {
    let mut diagnostics = Vec::new();
    let resolved = Block::parse(config, &mut diagnostics)
        .and_then(|block| apply(&block, environment, surroundings, &mut diagnostics));
    let is_usable = !diagnostics.iter().any(|it| it.severity == Severity::Error);
    Checked {
        resolved: resolved.filter(|_| is_usable),
        diagnostics,
    }
}

fn apply(
    block: &Block,
    environment: &dyn Environment,
    surroundings: Option<&dyn Surroundings>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Resolved> {
    require(block, environment, diagnostics);
    check_paths(block, diagnostics);
    let region = region(block, environment, diagnostics);
    check_exclusive(block, diagnostics);
    encryption::check_kms_key(block, diagnostics);
    let assume_role = roles::assume_role(block, diagnostics);
    let web_identity = roles::web_identity(block, environment, diagnostics);
    check_spellings(block, diagnostics);
    let mut given = |new, old| endpoints::given(block, [new, old], diagnostics);
    let given_s3 = given("endpoints.s3", "endpoint");
    let given_dynamodb = given("endpoints.dynamodb", "dynamodb_endpoint");
    let given_iam = given("endpoints.iam", "iam_endpoint");
    let given_sts = given("endpoints.sts", "sts_endpoint");
    let given_sso = credentials::strict_url(block, "endpoints.sso", diagnostics);
    let given_mode = given_retry_mode(block, diagnostics);
    let imds = credentials::imds(block, diagnostics);
    let older_role = roles::older_role(block, diagnostics);
    if block.has("use_legacy_workflow") {
        let detail = "The parameter \"use_legacy_workflow\" is deprecated. The ability to override the \
             default credential chain ordering will be removed in a future minor version.";
        let warning = Diagnostic::warning("Deprecated Parameter", detail);
        diagnostics.push(warning.at("use_legacy_workflow"));
    }

    // From here on, what Terraform says when it opens the backend.
    check_region(block, region.as_ref(), diagnostics);
    let (encryption, encryption_note) = encryption::find(block, environment, diagnostics);
    check_variables(environment, diagnostics);
    let roles = credentials::Roles {
        assume_role: assume_role.or(older_role),
        web_identity,
    };
    let asked = endpoints::asked_variant(block, environment, diagnostics);
    let arguments = credentials::arguments(
        block,
        environment,
        roles,
        imds,
        given_sso,
        asked,
        diagnostics,
    );
    let plan = match surroundings {
        Some(surroundings) => plan(&arguments, surroundings),
        None => Err(PlanError::not_made()),
    };
    if let (Err(error), Some(surroundings)) = (&plan, surroundings)
        && surroundings.credentials().is_none()
    {
        diagnostics.push(credentials::plan_failure(error));
    }
    let shared = Shared {
        environment,
        profile: plan.as_ref().ok().map(|plan| &plan.settings),
    };
    let s3_endpoint = given_s3.or_else(|| endpoints::of("endpoints.s3", shared, diagnostics));
    let dynamodb_table = non_empty(block, "dynamodb_table");
    // Without a table nobody goes there.
    let dynamodb_endpoint = dynamodb_table.and_then(|_| {
        given_dynamodb.or_else(|| endpoints::of("endpoints.dynamodb", shared, diagnostics))
    });
    let iam_endpoint = given_iam.or_else(|| endpoints::of("endpoints.iam", shared, diagnostics));
    let sts_endpoint = given_sts.or_else(|| endpoints::of("endpoints.sts", shared, diagnostics));
    let variant = shared.variant(asked);
    let may_cross = shared.may_cross_regions(diagnostics);
    let bucket = block.text("bucket").unwrap_or_default();
    // What a profile may change is judged once it is read.
    let is_all_read = surroundings.is_some();
    if let Some(region) = region.as_ref().filter(|_| is_all_read) {
        let custom = s3_endpoint.as_ref().map(|it| shared.custom_s3(it));
        endpoints::check_variant(Service::S3, region, variant, custom, diagnostics);
        if dynamodb_table.is_some() {
            let custom = dynamodb_endpoint.as_ref().map(|it| (it, it.as_custom()));
            endpoints::check_variant(Service::DynamoDb, region, variant, custom, diagnostics);
        }
    }
    let use_path_style = block.flag("use_path_style") || block.flag("force_path_style");
    let of_access_point = || {
        let region = region.as_ref().filter(|_| is_all_read)?;
        let (region, _) = variant.of_region(&region.value);
        location::check_access_point(bucket, &region, may_cross)
    };
    diagnostics.extend(location::check(bucket, use_path_style).or_else(of_access_point));
    let acl = acl(block, diagnostics);
    let max_attempts = max_attempts(block, shared, diagnostics);
    let retry_mode = given_mode.or_else(|| retry_mode_of(shared, diagnostics));
    let user_agent_suffix = shared.user_agent_suffix(diagnostics);
    let credential_endpoints = credentials::endpoints(
        block,
        region.as_ref().map_or("", |it| &it.value),
        variant,
        sts_endpoint.as_ref(),
        iam_endpoint.as_ref(),
        diagnostics,
    );

    // All at once: each early end of its own would bring along code that drops all the rest.
    let texts = block.text("key").zip(block.text("workspace_key_prefix"));
    let (Some((key, prefix)), Some(region), Some(max_attempts)) = (texts, region, max_attempts)
    else {
        return None;
    };
    let (plain, variant) = variant.of_region(&region.value);
    let settings = Settings {
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        workspace_key_prefix: prefix.to_owned(),
        region: Sourced {
            value: plain.into_owned(),
            source: region.source,
        },
        variant,
        credential_endpoints,
        credential_attempts: shared.max_attempts().unwrap_or(STANDARD_ATTEMPTS),
        s3_endpoint,
        iam_endpoint,
        sts_endpoint,
        use_path_style,
        use_lockfile: block.flag("use_lockfile"),
        dynamodb_table: dynamodb_table.map(str::to_owned),
        dynamodb_endpoint,
        encryption,
        state_tags: tags(block, "state_tags"),
        lock_tags: tags(block, "lock_tags"),
        acl,
        max_attempts,
        retry_mode: retry_mode.unwrap_or_default(),
        skip_s3_checksum: block.flag("skip_s3_checksum"),
        user_agent_suffix,
    };
    let role = arguments.assume_role;
    Some(Resolved {
        settings,
        session: Session::new(plan, role, credentials::checks(block)),
        encryption_note,
    })
}

fn require(block: &Block, environment: &dyn Environment, diagnostics: &mut Vec<Diagnostic>) {
    // A field is required only within its object.
    let is_in_question = |name: &str| match name.split_once('.') {
        Some((object, _)) => block.has(object),
        None => true,
    };
    let required = SCHEMA
        .iter()
        .filter(|it| it.required && is_in_question(it.name));
    let is_missing = |name: &str| {
        let stands_in =
            || name.contains('.') && Sourced::from_environment(name, environment).is_some();
        !block.has(name) && !stands_in()
    };
    for argument in required.clone().filter(|it| is_missing(it.name)) {
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
    let region = non_empty(block, "region")
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

/// Arguments of which only one can be set.
fn check_exclusive(block: &Block, diagnostics: &mut Vec<Diagnostic>) {
    for names in EXCLUSIVE {
        // An empty text counts as not set.
        let is_set = |name: &&str| block.has(name) && block.text(name) != Some("");
        if names.iter().all(is_set) {
            let detail = format!("Only one of {} can be set.", names.join(", "));
            diagnostics.push(Diagnostic::error("Invalid Attribute Combination", detail));
        }
    }
}

/// Deprecated spellings, and those that stand beside their replacement.
fn check_spellings(block: &Block, diagnostics: &mut Vec<Diagnostic>) {
    let old = SCHEMA.iter().filter(|it| block.has(it.name));
    let old = old.filter(|it| !roles::is_older(it.name));
    let old = old.filter_map(|it| Some((it, it.deprecated?)));
    for (argument, replacement) in old.clone() {
        let detail = format!(
            "The parameter \"{}\" is deprecated. Use parameter \"{replacement}\" instead.",
            argument.name
        );
        diagnostics.push(Diagnostic::warning("Deprecated Parameter", detail).at(argument.name));
    }
    for (argument, _) in old {
        let is_exclusive = |name: &str| EXCLUSIVE.iter().any(|names| names.contains(&name));
        if is_exclusive(argument.name) {
            continue;
        }
        for other in argument.conflicts.iter().filter(|it| block.has(it)) {
            let detail = format!(
                "The parameters \"{}\" and \"{other}\" cannot be configured together.",
                argument.name
            );
            diagnostics.push(Diagnostic::error("Conflicting Parameters", detail));
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
    let is_argument = non_empty(block, "region").is_some();
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
    for variable in SCHEMA.iter().flat_map(|it| it.environment) {
        let Some(replacement) = variable.deprecated else {
            continue;
        };
        if set(environment, variable.name).is_some() {
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

fn acl(block: &Block, diagnostics: &mut Vec<Diagnostic>) -> Option<String> {
    let acl = non_empty(block, "acl")?;
    if !is_header_text(acl) {
        let detail = "The value must be printable ASCII characters without blanks";
        diagnostics.push(Diagnostic::error("Invalid Value", detail).at("acl"));
    }
    Some(acl.to_owned())
}

/// Tags as a form, sorted by key. None: there are none.
fn tags(block: &Block, argument: &str) -> Option<String> {
    let encoded = |text| location::encoded(text).replace("%20", "+");
    let tags = block.map(argument)?.iter();
    let tags: Vec<_> = tags
        .map(|(key, value)| format!("{}={}", encoded(key), encoded(value)))
        .collect();
    (!tags.is_empty()).then(|| tags.join("&"))
}

/// Attempts in all, at least one. None: there is an error.
fn max_attempts(
    block: &Block,
    shared: Shared<'_>,
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
    let variable = Sourced::from_environment("max_retries", shared.environment);
    let detail = match (variable, shared.profile) {
        (Some(variable), _) if variable.value.trim().parse::<u32>().is_err() => format!(
            "The value of the {} must be a whole number of at least 0",
            variable.described()
        ),
        (None, Some(profile)) => match profile.number("max_attempts") {
            Err(reason) => reason,
            Ok(_) => return Some(shared.max_attempts().unwrap_or(STANDARD_ATTEMPTS)),
        },
        _ => return Some(shared.max_attempts().unwrap_or(STANDARD_ATTEMPTS)),
    };
    diagnostics.push(Diagnostic::error("Invalid Value", detail));
    None
}

/// How the block paces retries. None: it does not say.
fn given_retry_mode(block: &Block, diagnostics: &mut Vec<Diagnostic>) -> Option<RetryMode> {
    let name = "retry_mode";
    let given = non_empty(block, name).filter(|_| block.has(name))?;
    RetryMode::parse(given)
        .map_err(|reason| diagnostics.push(Diagnostic::error("Invalid Value", reason).at(name)))
        .ok()
}

/// How environment or profile pace retries.
fn retry_mode_of(shared: Shared<'_>, diagnostics: &mut Vec<Diagnostic>) -> Option<RetryMode> {
    let (text, prefix) = match Sourced::from_environment("retry_mode", shared.environment) {
        Some(variable) => (variable.value, "invalid AWS_RETRY_MODE value"),
        None => {
            let text = shared.profile?.text("retry_mode")?;
            (
                text.to_owned(),
                "failed to load retry_mode from shared config",
            )
        }
    };
    RetryMode::parse(&text)
        .map_err(|reason| {
            let detail = format!("{prefix}, {reason}");
            diagnostics.push(Diagnostic::error("Invalid Value", detail));
        })
        .ok()
}

/// A text argument that says something.
fn non_empty<'b>(block: &'b Block, name: &str) -> Option<&'b str> {
    block.text(name).filter(|text| !text.is_empty())
}
