//! What a block says of credentials, put together for the chain that finds them.
//!
//! Without this step the chain would have to know arguments, their older spellings and their defaults, and each could be
//! read in two ways.

use serde_json::Value;

use crate::credentials::{
    Arguments, Checks, Endpoints, FileArguments, ImdsMode, PlanError, RoleArguments, Session,
    StaticKeys, WebIdentityArguments,
};
use crate::json;
use crate::platform::AccessKey;
use crate::secret::Secret;

use super::block::Block;
use super::service::{Asked, Service, Variant};
use super::settings::{ServiceLocation, Sourced, is_header_text};
use super::{Diagnostic, Environment, endpoint, region};

/// The roles of a block, checked on their own.
pub(super) struct Roles {
    pub(super) assume_role: Option<RoleArguments>,
    pub(super) web_identity: Option<WebIdentityArguments>,
}

/// All that the chain takes from the block.
pub(super) fn arguments(
    block: &Block,
    environment: &dyn Environment,
    roles: Roles,
    imds: ImdsGiven,
    sso_endpoint: Option<String>,
    variant: Asked,
    diagnostics: &mut Vec<Diagnostic>,
) -> Arguments {
    let keys = block_keys(block, diagnostics);
    if keys.is_none() {
        check_environment_keys(environment, diagnostics);
    }
    let text = |name| {
        block
            .text(name)
            .filter(|it| !it.is_empty())
            .map(str::to_owned)
    };
    Arguments {
        keys,
        profile: text("profile"),
        files: FileArguments {
            config: block.texts("shared_config_files").to_vec(),
            credentials: block.texts("shared_credentials_files").to_vec(),
            older_credentials: text("shared_credentials_file"),
        },
        assume_role: roles.assume_role,
        web_identity: roles.web_identity,
        use_legacy_workflow: block.flag("use_legacy_workflow"),
        imds_endpoint: imds.endpoint,
        imds_mode: imds.mode,
        skip_metadata_api_check: block.choice("skip_metadata_api_check"),
        sso_endpoint,
        variant,
    }
}

/// What must hold of the credentials.
pub(super) fn checks(block: &Block) -> Checks {
    Checks {
        allowed_accounts: block.texts("allowed_account_ids").to_vec(),
        forbidden_accounts: block.texts("forbidden_account_ids").to_vec(),
        skip_credentials_validation: block.flag("skip_credentials_validation"),
        skip_requesting_account_id: block.flag("skip_requesting_account_id"),
    }
}

/// The arguments for the metadata service, checked.
pub(super) struct ImdsGiven {
    endpoint: Option<String>,
    mode: Option<ImdsMode>,
}

/// Where the metadata service is, as far as the block says.
pub(super) fn imds(block: &Block, diagnostics: &mut Vec<Diagnostic>) -> ImdsGiven {
    let endpoint = strict_url(block, "ec2_metadata_service_endpoint", diagnostics);
    let name = "ec2_metadata_service_endpoint_mode";
    let given = block.has(name).then(|| block.text(name)).flatten();
    let mode = match given {
        None | Some("") => None,
        Some("IPv4") => Some(ImdsMode::Ipv4),
        Some("IPv6") => Some(ImdsMode::Ipv6),
        Some(_) => {
            let detail = "Value must be one of [IPv4, IPv6]";
            diagnostics.push(Diagnostic::error("Invalid Value", detail).at(name));
            None
        }
    };
    ImdsGiven { endpoint, mode }
}

/// A URL that must be complete.
pub(super) fn strict_url(
    block: &Block,
    name: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<String> {
    let url = block.text(name).filter(|it| !it.is_empty())?;
    let shown = endpoint::redacted(url);
    let detail = match endpoint::judge(url) {
        endpoint::Verdict::Complete => match endpoint::Endpoint::parse(url) {
            Ok(endpoint) => return Some(endpoint.url()),
            Err(reason) => format!("The value {shown:?} cannot be used as an endpoint: {reason}"),
        },
        endpoint::Verdict::Incomplete(_) => format!(
            "The value must be a valid URL containing at least a scheme and hostname. Had {shown:?}"
        ),
        endpoint::Verdict::Unparsable(reason) => {
            format!("The value {shown:?} cannot be parsed as a URL: {reason}")
        }
    };
    diagnostics.push(Diagnostic::error("Invalid Value", detail).at(name));
    None
}

/// Where STS and IAM are.
pub(super) fn endpoints(
    block: &Block,
    region: &str,
    variant: Variant,
    sts: Option<&Sourced<String>>,
    iam: Option<&Sourced<String>>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Endpoints {
    let own_region = block.text("sts_region").filter(|it| !it.is_empty());
    if let Some(own) = own_region.filter(|it| !region::is_host_label(it)) {
        let detail = format!("Invalid AWS Region: {}", own.escape_debug());
        diagnostics.push(Diagnostic::error("Invalid region value", detail).at("sts_region"));
    }
    let sts_region = own_region.unwrap_or(region);
    let [sts, iam] = [sts, iam].map(|it| it.map(Sourced::as_custom));
    // A profile's role knows `sts_region` only together with an endpoint that is meant for STS alone.
    let region_of_profiles = match sts {
        Some(custom) if !custom.is_shared => sts_region,
        _ => region,
    };
    Endpoints {
        sts: Service::Sts.locate(sts_region, variant, sts),
        sts_of_profiles: Service::Sts.locate(region_of_profiles, variant, sts),
        iam: Service::Iam.locate(region, variant, iam),
    }
}

/// A plan that failed, as Terraform words it, and what was looked at.
pub(super) fn plan_failure(error: &PlanError) -> Diagnostic {
    let (summary, rest) = error.reason.split_once('\n').unwrap_or((&error.reason, ""));
    let others = crate::credentials::others(&error.passed_over, &error.looked_at);
    let detail = format!("{}{others}", rest.trim_end());
    Diagnostic::error(summary.trim_end(), detail.trim_start_matches(". "))
}

/// The block's keys. What is missing of them is an error, whatever the environment has: a half that is completed from
/// elsewhere would be somebody's who was not named.
fn block_keys(block: &Block, diagnostics: &mut Vec<Diagnostic>) -> Option<StaticKeys> {
    let argument = |name| block.text(name).filter(|text| !text.is_empty());
    let (id, secret) = (argument("access_key"), argument("secret_key"));
    let token = argument("token");
    [id, secret, token].iter().flatten().next()?;
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
    Some(StaticKeys {
        key: AccessKey {
            id: id?.to_owned(),
            secret: Secret::new(secret?.to_owned()),
            session_token: token.map(|token| Secret::new(token.to_owned())),
        },
        account_id: None,
    })
}

/// What a header cannot carry is told before it is used, without the value.
fn check_environment_keys(environment: &dyn Environment, diagnostics: &mut Vec<Diagnostic>) {
    let found = |argument| Sourced::from_environment(argument, environment);
    let (Some(id), Some(_)) = (found("access_key"), found("secret_key")) else {
        return;
    };
    for variable in [Some(id), found("token")].into_iter().flatten() {
        if !is_header_text(&variable.value) {
            let detail = format!(
                "The value of the {} must be printable ASCII characters without blanks",
                variable.described()
            );
            diagnostics.push(Diagnostic::error("Invalid Value", detail));
        }
    }
}

/// The account of credentials for [`explain`](super::explain()).
pub(super) fn explained(session: &Session, host_lends: bool) -> Value {
    let (plan, role) = session.parts();
    let (passed_over, files): (&[_], &[String]) = match plan {
        Ok(plan) => (&plan.passed_over, &plan.looked_at),
        Err(error) => (&error.passed_over, &error.looked_at),
    };
    let passed =
        |source: Value, reason: &str| json::object([("source", source), ("reason", reason.into())]);
    let mut passed_over: Vec<_> = passed_over
        .iter()
        .map(|it| passed(it.source.as_str().into(), it.reason))
        .collect();
    let base = match plan {
        Ok(plan) if host_lends => {
            let reason = "what the host lends comes first";
            passed_over.insert(0, passed(plan.base.to_string().into(), reason));
            None
        }
        Ok(plan) => Some(plan.base.clone()),
        Err(_) => None,
    };
    let source = base
        .unwrap_or(crate::credentials::Source::HostGiven)
        .with_role(role);
    json::object([
        ("source", source.to_string().into()),
        ("access_key_id", source.access_key_id().into()),
        ("profile", source.profile().into()),
        ("passed_over", passed_over.into()),
        ("files", files.to_vec().into()),
    ])
}

/// Where IAM Identity Center is asked, if it is.
pub(super) fn sso_portal(session: &Session) -> Option<&Sourced<ServiceLocation>> {
    Some(&session.parts().0.as_ref().ok()?.base.sso()?.portal)
}
