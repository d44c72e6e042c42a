//! The page of the documentation on arguments: the schema table, and what each variable and profile key does.
//!
//! Without it, the answer to "where else does this value come from?" is spread over the code of the credential chain.
//! The component goes without this module: nobody reads the page there.

use super::schema::{Argument, SCHEMA, Value};

/// What a variable or a profile key does.
struct Row {
    name: &'static str,
    meaning: &'static str,
}

/// A key of a profile that stands in for arguments which neither block nor environment set.
struct ProfileKey {
    name: &'static str,
    arguments: &'static [&'static str],
    meaning: &'static str,
}

/// The page without its title.
pub(super) fn markdown() -> String {
    let mut text = format!(
        "## Arguments\n\nWhere an argument is not set, the first of its variables counts that is set and not empty, \
         then the key of the profile. `profile` says which profile.\n\n{}",
        head(&[
            "argument",
            "type",
            "default",
            "environment",
            "profile key",
            "meaning"
        ])
    );
    for argument in SCHEMA {
        text.push_str(&argument_row(argument));
    }
    text.push_str(
        "\n## Environment variables\n\nOf these the component sees what its host lets it: a sealed store none, a local \
         one all. The host itself reads those of proxies and certificates.\n\n",
    );
    text.push_str(&head(&["variable", "meaning"]));
    for row in VARIABLES {
        let stands_in = arguments_of_variable(row.name);
        text.push_str(&format!(
            "| `{}` | {} |\n",
            row.name,
            told(&stands_in, row.meaning)
        ));
    }
    text.push_str(
        "\n## Profile keys\n\nKeys of the shared config and credentials files, in the section of the profile that counts \
         where nothing else is said.\n\n",
    );
    text.push_str(&head(&["key", "meaning"]));
    for key in PROFILE_KEYS {
        text.push_str(&format!(
            "| `{}` | {} |\n",
            key.name,
            told(key.arguments, key.meaning)
        ));
    }
    text
}

fn argument_row(argument: &Argument) -> String {
    let default = match argument.default {
        None if argument.required => "required".to_owned(),
        None => String::new(),
        Some(Value::Bool(value)) => format!("`{value}`"),
        Some(Value::Number(value)) => format!("`{value}`"),
        Some(Value::Text(value)) => format!("`{value}`"),
    };
    let mut meaning = argument.documentation.replace('|', "\\|");
    if argument.sensitive {
        meaning.push_str(" Sensitive.");
    }
    if !argument.conflicts.is_empty() {
        meaning.push_str(&format!(" Not with {}.", quoted(argument.conflicts)));
    }
    if let Some(replacement) = argument.deprecated {
        meaning.push_str(&format!(" Deprecated: use `{replacement}`."));
    }
    let variables: Vec<_> = argument.environment.iter().map(|it| it.name).collect();
    let keys = PROFILE_KEYS
        .iter()
        .filter(|key| key.arguments.contains(&argument.name));
    let keys: Vec<_> = keys.map(|key| key.name).collect();
    format!(
        "| `{}` | {} | {default} | {} | {} | {meaning} |\n",
        argument.name,
        argument.kind.name(),
        quoted(&variables),
        quoted(&keys),
    )
}

/// What a variable or key stands in for, and what else there is to say of it.
fn told(stands_in: &[&str], meaning: &str) -> String {
    match (stands_in, meaning) {
        ([], meaning) => meaning.to_owned(),
        (arguments, "") => format!("Stands in for {}.", quoted(arguments)),
        (arguments, meaning) => format!("Stands in for {}. {meaning}", quoted(arguments)),
    }
}

fn arguments_of_variable(name: &str) -> Vec<&'static str> {
    let reads = |it: &&Argument| it.environment.iter().any(|variable| variable.name == name);
    SCHEMA.iter().filter(reads).map(|it| it.name).collect()
}

fn head(columns: &[&str]) -> String {
    format!(
        "| {} |\n|{}\n",
        columns.join(" | "),
        "---|".repeat(columns.len())
    )
}

fn quoted(names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

const fn row(name: &'static str, meaning: &'static str) -> Row {
    Row { name, meaning }
}

const fn key(
    name: &'static str,
    arguments: &'static [&'static str],
    meaning: &'static str,
) -> ProfileKey {
    ProfileKey {
        name,
        arguments,
        meaning,
    }
}

/// Every variable that is read, whether or not it stands in for an argument.
#[rustfmt::skip]
const VARIABLES: &[Row] = &[
    row("AWS_ACCESS_KEY", "Older name of `AWS_ACCESS_KEY_ID`, which comes first."),
    row("AWS_ACCESS_KEY_ID", "Counts only together with `AWS_SECRET_ACCESS_KEY`. Where `profile` is set, the profile comes first."),
    row("AWS_ACCOUNT_ID", "Account of the keys in the environment."),
    row("AWS_CA_BUNDLE", "PEM file of certificate authorities to trust instead of the system's."),
    row("AWS_CONFIG_FILE", "After `AWS_SHARED_CONFIG_FILE`, which Terraform alone knows. Not set either: `~/.aws/config`."),
    row("AWS_CONTAINER_AUTHORIZATION_TOKEN", "Token for the container's endpoint (ECS, EKS)."),
    row("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "File of that token; comes first, and is read anew each time."),
    row("AWS_CONTAINER_CREDENTIALS_FULL_URI", "URL of the container's credentials: `https`, or `http` at loopback and the addresses of ECS and EKS."),
    row("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "Path of the container's credentials at `169.254.170.2`. Comes before the full URI."),
    row("AWS_DEFAULT_PROFILE", "After `AWS_PROFILE`; one that is in no file counts as empty."),
    row("AWS_DEFAULT_REGION", "After `AWS_REGION`."),
    row("AWS_DYNAMODB_ENDPOINT", "Deprecated: use `AWS_ENDPOINT_URL_DYNAMODB`."),
    row("AWS_EC2_METADATA_DISABLED", "`true`: the EC2 metadata service is not asked, unless `skip_metadata_api_check` is `false`."),
    row("AWS_EC2_METADATA_SERVICE_ENDPOINT", ""),
    row("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "`IPv4` or `IPv6`, also in lower case."),
    row("AWS_EC2_METADATA_V1_DISABLED", "`true`: never without a session token (IMDSv1)."),
    row("AWS_ENDPOINT_URL", "Endpoint of all services that have none of their own. Not with FIPS or dualstack."),
    row("AWS_ENDPOINT_URL_DYNAMODB", ""),
    row("AWS_ENDPOINT_URL_IAM", ""),
    row("AWS_ENDPOINT_URL_S3", "Not with FIPS or dualstack."),
    row("AWS_ENDPOINT_URL_SSO", "The portal only, not the token service."),
    row("AWS_ENDPOINT_URL_SSO_OIDC", "Endpoint of the token service of IAM Identity Center."),
    row("AWS_ENDPOINT_URL_STS", ""),
    row("AWS_EXECUTION_ENV", "Where it runs, for the user agent."),
    row("AWS_IAM_ENDPOINT", "Deprecated: use `AWS_ENDPOINT_URL_IAM`."),
    row("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "`true`: `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_SSO_OIDC` and endpoints of profiles do not count."),
    row("AWS_MAX_ATTEMPTS", "Counts where `max_retries` is `0`, and for the requests for credentials."),
    row("AWS_METADATA_URL", "Deprecated: use `AWS_EC2_METADATA_SERVICE_ENDPOINT`."),
    row("AWS_PROFILE", "It must be in one of the files. Keys in the environment come before its credentials."),
    row("AWS_REGION", ""),
    row("AWS_RETRY_MODE", ""),
    row("AWS_ROLE_ARN", "Role for `AWS_WEB_IDENTITY_TOKEN_FILE`, also without the block."),
    row("AWS_ROLE_SESSION_NAME", "Also without the block."),
    row("AWS_S3_ENDPOINT", "Deprecated: use `AWS_ENDPOINT_URL_S3`."),
    row("AWS_S3_USE_ARN_REGION", "`true`: an access point may be in another region than `region`."),
    row("AWS_SDK_UA_APP_ID", "What it runs for, for the user agent."),
    row("AWS_SECRET_ACCESS_KEY", "Counts only together with `AWS_ACCESS_KEY_ID`."),
    row("AWS_SECRET_KEY", "Older name of `AWS_SECRET_ACCESS_KEY`, which comes first."),
    row("AWS_SESSION_TOKEN", "Counts only beside keys in the environment."),
    row("AWS_SHARED_CONFIG_FILE", ""),
    row("AWS_SHARED_CREDENTIALS_FILE", "Not set either: `~/.aws/credentials`."),
    row("AWS_SSE_CUSTOMER_KEY", "Not beside `kms_key_id`."),
    row("AWS_STS_ENDPOINT", "Deprecated: use `AWS_ENDPOINT_URL_STS`."),
    row("AWS_USE_DUALSTACK_ENDPOINT", "`true` or `false`, also in upper case; comes before the profile."),
    row("AWS_USE_FIPS_ENDPOINT", "`true` or `false`, also in upper case; comes before the profile. A region `fips-<region>` orders the same."),
    row("AWS_WEB_IDENTITY_TOKEN", "The token itself; only for the block `assume_role_with_web_identity`."),
    row("AWS_WEB_IDENTITY_TOKEN_FILE", "Also without the block: then the role `AWS_ROLE_ARN` is assumed, before any profile but that of `profile`."),
    row("HOME", "Where `~` and the usual places of the shared files are. On Windows `USERPROFILE`."),
    row("HTTPS_PROXY", ""),
    row("HTTP_PROXY", "Not read where `REQUEST_METHOD` is set (CGI)."),
    row("NO_PROXY", ""),
    row("TF_APPEND_USER_AGENT", "What to append to the user agent."),
    row("http_proxy", "After `HTTP_PROXY`."),
    row("https_proxy", "After `HTTPS_PROXY`."),
    row("no_proxy", "After `NO_PROXY`."),
];

/// Every key of a profile that is read.
#[rustfmt::skip]
const PROFILE_KEYS: &[ProfileKey] = &[
    key("aws_access_key_id", &[], "Keys of the profile, with `aws_secret_access_key`. Half a pair is an error."),
    key("aws_account_id", &[], "Account of the profile's keys."),
    key("aws_secret_access_key", &[], "See `aws_access_key_id`."),
    key("aws_session_token", &[], "Session token of the profile's keys."),
    key("credential_process", &[], "Command that prints credentials. The host runs it, out of the person's own files only."),
    key("credential_source", &[], "What the role is assumed with: `Ec2InstanceMetadata`, `Environment` or `EcsContainer`."),
    key("duration_seconds", &[], "How long the role's credentials last; 960 at least, else 900."),
    key("ec2_metadata_service_endpoint", &["ec2_metadata_service_endpoint"], ""),
    key("ec2_metadata_service_endpoint_mode", &["ec2_metadata_service_endpoint_mode"], "`IPv4` or `IPv6`, also in lower case."),
    key("ec2_metadata_v1_disabled", &[], "As `AWS_EC2_METADATA_V1_DISABLED`, which comes first."),
    key("endpoint_url", ENDPOINTS, "As `AWS_ENDPOINT_URL`, which comes first; in the section `services`, below a service's name, for that service."),
    key("external_id", &[], "External id for the role."),
    key("ignore_configured_endpoint_urls", &[], "As `AWS_IGNORE_CONFIGURED_ENDPOINT_URLS`."),
    key("login_session", &[], "Credentials of `aws login`: not supported, and refused unless another source of the profile comes first."),
    key("max_attempts", &["max_retries"], "As `AWS_MAX_ATTEMPTS`, which comes first."),
    key("mfa_serial", &[], "Refused: nobody is asked for a code."),
    key("retry_mode", &["retry_mode"], ""),
    key("role_arn", &[], "Role to assume with the source that the profile names."),
    key("role_session_name", &[], "Name of the session of that role."),
    key("s3_use_arn_region", &[], "As `AWS_S3_USE_ARN_REGION`, which comes first."),
    key("sdk_ua_app_id", &[], "As `AWS_SDK_UA_APP_ID`, which comes first."),
    key("services", &[], "Name of the section `services` with endpoints of services."),
    key("source_profile", &[], "Profile whose credentials the role is assumed with."),
    key("sso_account_id", &[], "Account to work in, by IAM Identity Center."),
    key("sso_region", &[], "Region of IAM Identity Center."),
    key("sso_role_name", &[], "Role to work with, by IAM Identity Center."),
    key("sso_session", &[], "Name of the section `sso-session` with `sso_region` and `sso_start_url`, whose tokens are renewed."),
    key("sso_start_url", &[], "Start page of IAM Identity Center."),
    key("use_dualstack_endpoint", &["use_dualstack_endpoint"], ""),
    key("use_fips_endpoint", &["use_fips_endpoint"], ""),
    key("web_identity_token_file", &[], "File of the OpenID Connect token that the role is assumed with."),
];

/// What has an endpoint of its own.
const ENDPOINTS: &[&str] = &[
    "endpoints.s3",
    "endpoints.dynamodb",
    "endpoints.iam",
    "endpoints.sts",
    "endpoints.sso",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_page_has_a_row_for_each_argument() {
        let text = markdown();
        let (arguments, _) = text.split_once("## Environment").unwrap();
        for argument in SCHEMA {
            let row = format!("\n| `{}` |", argument.name);
            assert_eq!(arguments.matches(&row).count(), 1, "{row}");
        }
        assert!(arguments.contains(
            "| `region` | string |  | `AWS_REGION`, `AWS_DEFAULT_REGION` |  | AWS region of the bucket. |\n"
        ));
        assert!(arguments.contains(
            "| `use_fips_endpoint` | bool | `false` | `AWS_USE_FIPS_ENDPOINT` | `use_fips_endpoint` | "
        ));
        assert!(arguments.contains("| `bucket` | string | required |"));
        for line in arguments.lines().filter(|line| line.starts_with('|')) {
            assert_eq!(line.replace("\\|", "").matches('|').count(), 7, "{line}");
        }
    }

    #[test]
    fn the_page_tells_what_each_variable_and_key_does() {
        let text = markdown();
        for variable in SCHEMA.iter().flat_map(|it| it.environment) {
            let rows = VARIABLES.iter().filter(|row| row.name == variable.name);
            assert_eq!(rows.count(), 1, "{}", variable.name);
        }
        for row in VARIABLES {
            let stands_in = arguments_of_variable(row.name);
            assert!(
                !stands_in.is_empty() || !row.meaning.is_empty(),
                "{}",
                row.name
            );
        }
        let names: BTreeSet<_> = SCHEMA.iter().map(|it| it.name).collect();
        for key in PROFILE_KEYS {
            assert!(
                !key.arguments.is_empty() || !key.meaning.is_empty(),
                "{}",
                key.name
            );
            assert!(
                key.arguments.iter().all(|it| names.contains(it)),
                "{}",
                key.name
            );
        }
        assert!(
            text.contains("\n| `AWS_S3_ENDPOINT` | Stands in for `endpoints.s3`. Deprecated: use ")
        );
        let in_order = |names: Vec<&str>| names.is_sorted();
        assert!(in_order(VARIABLES.iter().map(|row| row.name).collect()));
        assert!(in_order(PROFILE_KEYS.iter().map(|key| key.name).collect()));
    }
}
