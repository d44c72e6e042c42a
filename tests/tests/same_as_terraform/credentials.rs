//! Cases about where credentials come from.

use cofferdam_tests::credential_services::{CredentialServices, Keys, Operation, Reply};
use serde_json::json;

use super::bench::{Case, case};

const ROLE: &str = "arn:aws:iam::123456789012:role/one";
const OTHER_ROLE: &str = "arn:aws:iam::123456789012:role/two";

/// Names of files in SSO's cache: SHA-1 of `corp`, and of `https://sso.example/start`.
const CACHE_OF_SESSION: &str = "home/.aws/sso/cache/ee0bfd2552fbd840c02cc48b6e823320543c450f.json";
const CACHE_OF_START_URL: &str =
    "home/.aws/sso/cache/98df91031e87f97bfc088c045be6442dc5d70b2a.json";

const SSO_SESSION: &str = "[default]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = dev\n\
    [sso-session corp]\nsso_region = eu-north-1\nsso_start_url = https://sso.example/start\n";
const SSO_LEGACY: &str = "[default]\nsso_region = eu-north-1\nsso_start_url = https://sso.example/start\n\
    sso_account_id = 123456789012\nsso_role_name = dev\n";

const VALID_TOKEN: &str = r#"{"accessToken": "sso-token", "expiresAt": "2199-01-01T00:00:00Z"}"#;
const EXPIRED_TOKEN: &str = r#"{"accessToken": "old", "expiresAt": "2020-01-01T00:00:00Z", "refreshToken": "again",
    "clientId": "client", "clientSecret": "client-secret", "registrationExpiresAt": "2199-01-01T00:00:00Z"}"#;
const EXPIRED_FOR_GOOD: &str = r#"{"accessToken": "old", "expiresAt": "2020-01-01T00:00:00Z"}"#;

pub fn cases() -> Vec<Case> {
    let groups = [
        keys(),
        profiles(),
        roles(),
        web_identities(),
        sso(),
        processes(),
        machines(),
        files(),
        accounts(),
    ];
    groups.into_iter().flatten().collect()
}

/// A section with a key pair.
fn pair(section: &str, id: &str) -> String {
    format!("[{section}]\naws_access_key_id = {id}\naws_secret_access_key = {{secret}}\n")
}

fn keys() -> Vec<Case> {
    vec![
        case("keys in the block")
            .block(json!({"access_key": "AKIABLOCK", "secret_key": "{secret}"})),
        case("keys and token in the block")
            .block(json!({"access_key": "AKIABLOCK", "secret_key": "{secret}", "token": "t"})),
        case("keys in the block, the environment and a profile")
            .block(json!({"access_key": "AKIABLOCK", "secret_key": "{secret}"}))
            .env_keys("AKIAENV")
            .env("AWS_PROFILE", "p")
            .credentials(&pair("p", "AKIAPROFILE")),
        case("keys in the block beside a profile that does not exist").block(
            json!({"access_key": "AKIABLOCK", "secret_key": "{secret}", "profile": "missing"}),
        ),
        case("a token alone in the block")
            .block(json!({"token": "t"}))
            .env_keys("AKIAENV"),
        case("an id without a secret in the block").block(json!({"access_key": "AKIABLOCK"})),
        case("keys in the environment").env_keys("AKIAENV"),
        case("keys and token in the environment")
            .env_keys("AKIAENV")
            .env("AWS_SESSION_TOKEN", "t"),
        case("the environment's other names")
            .env("AWS_ACCESS_KEY", "AKIAALIAS")
            .env("AWS_SECRET_KEY", "{secret}"),
        case("the environment's usual names before the other ones")
            .env_keys("AKIAENV")
            .env("AWS_ACCESS_KEY", "AKIAALIAS")
            .env("AWS_SECRET_KEY", "{secret}"),
        case("half a pair in the environment beside a profile")
            .env("AWS_ACCESS_KEY_ID", "AKIAENV")
            .credentials(&pair("default", "AKIAPROFILE")),
        case("an empty variable beside a profile")
            .env("AWS_ACCESS_KEY_ID", "")
            .env("AWS_SECRET_ACCESS_KEY", "")
            .credentials(&pair("default", "AKIAPROFILE")),
        case("nothing at all"),
    ]
}

fn profiles() -> Vec<Case> {
    let two = pair("default", "AKIADEFAULT") + &pair("p", "AKIAPROFILE");
    vec![
        case("the profile default").credentials(&two),
        case("the argument profile").block(json!({"profile": "p"})).credentials(&two),
        case("the argument profile beside keys in the environment")
            .block(json!({"profile": "p"}))
            .env_keys("AKIAENV")
            .credentials(&two),
        case("the same in the legacy workflow")
            .block(json!({"profile": "p", "use_legacy_workflow": true}))
            .env_keys("AKIAENV")
            .credentials(&two),
        case("AWS_PROFILE").env("AWS_PROFILE", "p").credentials(&two),
        case("AWS_PROFILE before AWS_DEFAULT_PROFILE")
            .env("AWS_PROFILE", "p")
            .env("AWS_DEFAULT_PROFILE", "default")
            .credentials(&two),
        case("AWS_DEFAULT_PROFILE").env("AWS_DEFAULT_PROFILE", "p").credentials(&two),
        case("a profile in the config file").env("AWS_PROFILE", "p").config(&pair("profile p", "AKIACONFIG")),
        case("a profile in both files")
            .env("AWS_PROFILE", "p")
            .config(&pair("profile p", "AKIACONFIG"))
            .credentials(&pair("p", "AKIACREDENTIALS")),
        case("the argument profile names none").block(json!({"profile": "missing"})).env_keys("AKIAENV"),
        case("AWS_PROFILE names none").env("AWS_PROFILE", "missing").env_keys("AKIAENV"),
        case("AWS_DEFAULT_PROFILE names none").env("AWS_DEFAULT_PROFILE", "missing").env_keys("AKIAENV"),
        case("half a pair in a profile").credentials("[default]\naws_access_key_id = AKIAHALF\n"),
        case("odd spelling in the files").credentials(
            "  [ default ] # mine\n  aws_access_key_id : AKIAODD # a comment\n  AWS_SECRET_ACCESS_KEY = '{secret}'\n",
        ),
        case("a profile with nothing in it").env("AWS_PROFILE", "p").config("[profile p]\nregion = us-east-1\n"),
    ]
}

fn roles() -> Vec<Case> {
    let chain = format!(
        "[default]\nrole_arn = {ROLE}\nsource_profile = middle\nexternal_id = outer\nrole_session_name = me\n\
         duration_seconds = 1800\n[profile middle]\nrole_arn = {OTHER_ROLE}\nsource_profile = base\n"
    );
    let all = json!({
        "role_arn": ROLE, "duration": "1h", "external_id": "outer", "policy": "{\"Version\":\"2012-10-17\",\"Statement\":[]}",
        "policy_arns": ["arn:aws:iam::123456789012:policy/p"], "session_name": "me", "source_identity": "it-is-me",
        "tags": {"team": "storage"}, "transitive_tag_keys": ["team"],
    });
    vec![
        case("a chain of source profiles").config(&chain).credentials(&pair("base", "AKIABASE")),
        case("a profile that is its own source").config(&format!(
            "[default]\nrole_arn = {ROLE}\nsource_profile = default\n{}",
            pair("default", "AKIASELF").trim_start_matches("[default]\n")
        )),
        case("a source profile that does not exist")
            .config(&format!("[default]\nrole_arn = {ROLE}\nsource_profile = missing\n")),
        case("a source profile without a role").config("[default]\nsource_profile = base\n").credentials(&pair("base", "AKIABASE")),
        case("credential_source Environment")
            .config(&format!("[profile p]\nrole_arn = {ROLE}\ncredential_source = Environment\n"))
            .block(json!({"profile": "p"}))
            .env_keys("AKIAENV"),
        case("credential_source EcsContainer")
            .config(&format!("[default]\nrole_arn = {ROLE}\ncredential_source = EcsContainer\n"))
            .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", "{stub}/container"),
        case("credential_source EcsContainer outside a container")
            .config(&format!("[default]\nrole_arn = {ROLE}\ncredential_source = EcsContainer\n")),
        case("credential_source Ec2InstanceMetadata")
            .config(&format!("[default]\nrole_arn = {ROLE}\ncredential_source = Ec2InstanceMetadata\n"))
            .env("AWS_EC2_METADATA_DISABLED", "{unset}")
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", "{stub}"),
        case("an unknown credential_source")
            .config(&format!("[default]\nrole_arn = {ROLE}\ncredential_source = Moon\n")),
        case("a profile that wants a code")
            .config(&format!("[default]\nrole_arn = {ROLE}\nsource_profile = base\nmfa_serial = arn:aws:iam::1:mfa/me\n"))
            .credentials(&pair("base", "AKIABASE")),
        case("two ways in one profile")
            .config(&format!("[default]\nrole_arn = {ROLE}\nsource_profile = base\ncredential_source = Environment\n"))
            .credentials(&pair("base", "AKIABASE")),
        case("assume_role with all its arguments").env_keys("AKIAENV").block(json!({"assume_role": all})),
        case("assume_role with keys in the block")
            .block(json!({"access_key": "AKIABLOCK", "secret_key": "{secret}", "assume_role": {"role_arn": ROLE}})),
        case("assume_role on top of a profile's role")
            .block(json!({"assume_role": {"role_arn": OTHER_ROLE}}))
            .config(&format!("[default]\nrole_arn = {ROLE}\nsource_profile = base\n"))
            .credentials(&pair("base", "AKIABASE")),
        case("a role that is refused")
            .env_keys("AKIAENV")
            .block(json!({"assume_role": {"role_arn": ROLE}}))
            .services(|it| it.answer(Operation::AssumeRole, Reply::error(403, "AccessDenied"))),
        case("the older arguments of a role").env_keys("AKIAENV").block(json!({
            "role_arn": ROLE, "session_name": "me", "external_id": "outer", "assume_role_duration_seconds": 1800,
            "assume_role_tags": {"team": "storage"}, "assume_role_transitive_tag_keys": ["team"],
        })),
        case("the older arguments of a role beside assume_role").env_keys("AKIAENV").block(json!({
            "role_arn": ROLE, "session_name": "me", "assume_role": {"role_arn": OTHER_ROLE},
        })),
        case("a role that is no ARN").env_keys("AKIAENV").block(json!({"assume_role": {"role_arn": "one"}})),
        case("a role of another kind")
            .env_keys("AKIAENV")
            .block(json!({"assume_role": {"role_arn": "arn:aws:iam::123456789012:user/one"}})),
        case("a role without its ARN").env_keys("AKIAENV").block(json!({"assume_role": {"session_name": "me"}})),
        case("a role for a minute")
            .env_keys("AKIAENV")
            .block(json!({"assume_role": {"role_arn": ROLE, "duration": "1m"}})),
        case("a session whose name is too short")
            .env_keys("AKIAENV")
            .block(json!({"assume_role": {"role_arn": ROLE, "session_name": "m"}})),
        case("a session whose name has a blank")
            .env_keys("AKIAENV")
            .block(json!({"assume_role": {"role_arn": ROLE, "session_name": "m e"}})),
        case("a policy that is no JSON")
            .env_keys("AKIAENV")
            .block(json!({"assume_role": {"role_arn": ROLE, "policy": "allow"}})),
        case("a policy's ARN of another kind")
            .env_keys("AKIAENV")
            .block(json!({"assume_role": {"role_arn": ROLE, "policy_arns": [OTHER_ROLE]}})),
    ]
}

fn web_identities() -> Vec<Case> {
    let block = json!({"role_arn": ROLE, "session_name": "me", "duration": "20m", "web_identity_token_file": "{dir}/token"});
    vec![
        case("a web identity in the environment")
            .env("AWS_WEB_IDENTITY_TOKEN_FILE", "{dir}/token")
            .env("AWS_ROLE_ARN", ROLE)
            .env("AWS_ROLE_SESSION_NAME", "me")
            .file("token", "jwt"),
        case("a web identity in the environment beside keys there")
            .env_keys("AKIAENV")
            .env("AWS_WEB_IDENTITY_TOKEN_FILE", "{dir}/token")
            .env("AWS_ROLE_ARN", ROLE)
            .file("token", "jwt"),
        case("a web identity in the environment without a role")
            .env("AWS_WEB_IDENTITY_TOKEN_FILE", "{dir}/token")
            .file("token", "jwt"),
        case("a web identity whose file is missing")
            .env("AWS_WEB_IDENTITY_TOKEN_FILE", "{dir}/missing")
            .env("AWS_ROLE_ARN", ROLE)
            .env("AWS_ROLE_SESSION_NAME", "me"),
        case("a web identity in a profile")
            .config(&format!("[default]\nrole_arn = {ROLE}\nrole_session_name = me\nweb_identity_token_file = {{dir}}/token\n"))
            .file("token", "jwt"),
        case("a web identity in the block, from a file")
            .block(json!({"assume_role_with_web_identity": block}))
            .file("token", "jwt"),
        case("a web identity in the block, inline").block(json!({
            "assume_role_with_web_identity": {"role_arn": ROLE, "session_name": "me", "web_identity_token": "jwt-inline"},
        })),
        case("a web identity, and a role on top")
            .block(json!({"assume_role_with_web_identity": block, "assume_role": {"role_arn": OTHER_ROLE}}))
            .file("token", "jwt"),
        case("a web identity in the block with two tokens").block(json!({
            "assume_role_with_web_identity": {"role_arn": ROLE, "web_identity_token": "jwt-inline", "web_identity_token_file": "{dir}/token"},
        })),
        case("a web identity in the block without a token")
            .block(json!({"assume_role_with_web_identity": {"role_arn": ROLE}})),
        case("a web identity that is refused")
            .block(json!({"assume_role_with_web_identity": block}))
            .file("token", "jwt")
            .services(|it| {
                it.answer(Operation::AssumeRoleWithWebIdentity, Reply::error(403, "AccessDenied"));
            }),
        case("a web identity in the environment with an own region for STS")
            .block(json!({"sts_region": "us-west-2"}))
            .env("AWS_WEB_IDENTITY_TOKEN_FILE", "{dir}/token")
            .env("AWS_ROLE_ARN", ROLE)
            .env("AWS_ROLE_SESSION_NAME", "me")
            .file("token", "jwt"),
    ]
}

fn sso() -> Vec<Case> {
    let portal_refuses: fn(&CredentialServices) = |it| {
        it.answer(
            Operation::GetRoleCredentials,
            Reply::error(401, "UnauthorizedException"),
        );
    };
    vec![
        case("SSO with a session")
            .config(SSO_SESSION)
            .file(CACHE_OF_SESSION, VALID_TOKEN),
        case("SSO with a session whose token has expired")
            .config(SSO_SESSION)
            .file(CACHE_OF_SESSION, EXPIRED_TOKEN),
        case("SSO with a session whose token cannot be renewed")
            .config(SSO_SESSION)
            .file(CACHE_OF_SESSION, EXPIRED_FOR_GOOD),
        case("SSO without a login").config(SSO_SESSION),
        case("SSO as it was before sessions")
            .config(SSO_LEGACY)
            .file(CACHE_OF_START_URL, VALID_TOKEN),
        case("SSO as it was before sessions, expired")
            .config(SSO_LEGACY)
            .file(CACHE_OF_START_URL, EXPIRED_TOKEN),
        case("SSO with half of its settings")
            .config("[default]\nsso_start_url = https://sso.example/start\n"),
        case("SSO with a session that does not exist").config("[default]\nsso_session = missing\n"),
        case("SSO that is refused")
            .config(SSO_SESSION)
            .file(CACHE_OF_SESSION, VALID_TOKEN)
            .services(portal_refuses),
        case("SSO at an endpoint of its own")
            .block(json!({"endpoints": {"sso": "{stub}"}}))
            .config(SSO_SESSION)
            .file(CACHE_OF_SESSION, VALID_TOKEN),
        case("a login of `aws login`")
            .config("[default]\nlogin_session = arn:aws:iam::123456789012:user/me\n"),
    ]
}

fn processes() -> Vec<Case> {
    let printing = |json: &str| format!("[default]\ncredential_process = cat {{dir}}/{json}\n");
    let keys = r#"{"Version": 1, "AccessKeyId": "AKIAPROCESS", "SecretAccessKey": "{secret}", "SessionToken": "t"}"#;
    vec![
        case("a command that prints keys")
            .config(&printing("keys"))
            .file("keys", keys),
        case("a command that fails").config("[default]\ncredential_process = exit 3\n"),
        case("a command of another version")
            .config(&printing("keys"))
            .file("keys", &keys.replace(": 1", ": 2")),
        case("a command that forgets the secret")
            .config(&printing("keys"))
            .file("keys", r#"{"Version": 1, "AccessKeyId": "AKIAPROCESS"}"#),
    ]
}

fn machines() -> Vec<Case> {
    let on_instance = |name| {
        case(name)
            .env("AWS_EC2_METADATA_DISABLED", "{unset}")
            .block(json!({"ec2_metadata_service_endpoint": "{stub}"}))
    };
    vec![
        case("a container, by a whole URI")
            .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", "{stub}/container")
            .env("AWS_CONTAINER_AUTHORIZATION_TOKEN", "agent"),
        case("a container, with a token in a file")
            .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", "{stub}/container")
            .env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "{dir}/token")
            .file("token", "agent"),
        case("a container, by a relative URI").env(
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "/v2/credentials/x",
        ),
        case("a container somewhere else").env(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "http://192.0.2.7/container",
        ),
        case("a container that refuses")
            .env("AWS_CONTAINER_CREDENTIALS_FULL_URI", "{stub}/container")
            .services(|it| {
                it.answer(
                    Operation::ContainerCredentials,
                    Reply::error(403, "AccessDenied"),
                )
            }),
        on_instance("an instance"),
        on_instance("an instance with the first version of the protocol")
            .services(|it| it.set_imds(cofferdam_tests::credential_services::ImdsVersions::OnlyV1)),
        on_instance("an instance without a role")
            .services(|it| it.answer(Operation::ImdsRole, Reply::error(404, "NotFound"))),
        case("an instance, at the usual address").env("AWS_EC2_METADATA_DISABLED", "{unset}"),
        case("an instance that is not to be asked")
            .block(json!({
                "skip_metadata_api_check": true, "ec2_metadata_service_endpoint": "{stub}",
            }))
            .env("AWS_EC2_METADATA_DISABLED", "false"),
        case("an instance that is to be asked in spite of the environment").block(json!({
            "skip_metadata_api_check": false, "ec2_metadata_service_endpoint": "{stub}",
        })),
        case("an endpoint of the instance that is none")
            .env_keys("AKIAENV")
            .block(json!({"ec2_metadata_service_endpoint": "there"})),
        case("an unknown mode of the instance's endpoint")
            .env_keys("AKIAENV")
            .block(json!({"ec2_metadata_service_endpoint_mode": "ipv4"})),
        on_instance("an instance that is looked up with other keys in a profile")
            .credentials(&pair("default", "AKIAPROFILE")),
    ]
}

fn files() -> Vec<Case> {
    let one = pair("default", "AKIAONE");
    let two = pair("default", "AKIATWO");
    vec![
        case("shared_credentials_files")
            .block(json!({"shared_credentials_files": ["{dir}/b", "{dir}/a"]}))
            .file("a", &one)
            .file("b", &two),
        case("shared_config_files")
            .block(json!({"shared_config_files": ["{dir}/a"], "profile": "p"}))
            .file("a", &pair("profile p", "AKIAONE")),
        case("shared_credentials_file").block(json!({"shared_credentials_file": "{dir}/a"})).file("a", &one),
        case("shared_credentials_file and shared_credentials_files")
            .block(json!({"shared_credentials_file": "{dir}/a", "shared_credentials_files": ["{dir}/b"]}))
            .file("a", &one)
            .file("b", &two),
        case("AWS_SHARED_CREDENTIALS_FILE before shared_credentials_file")
            .block(json!({"shared_credentials_file": "{dir}/a"}))
            .env("AWS_SHARED_CREDENTIALS_FILE", "{dir}/b")
            .file("a", &one)
            .file("b", &two),
        case("AWS_SHARED_CONFIG_FILE before AWS_CONFIG_FILE")
            .env("AWS_SHARED_CONFIG_FILE", "{dir}/a")
            .env("AWS_CONFIG_FILE", "{dir}/b")
            .file("a", &one)
            .file("b", &two),
        case("a path with a tilde")
            .block(json!({"shared_credentials_files": ["~/there/a"]}))
            .file("home/there/a", &one),
        case("a path with a variable")
            .block(json!({"shared_credentials_files": ["$HOME/there/a"]}))
            .file("home/there/a", &one),
        case("braces in a path")
            .block(json!({"shared_credentials_files": ["${HOME}/there/a"]}))
            .file("home/there/a", &one),
    ]
}

fn accounts() -> Vec<Case> {
    let with = |name, arguments| case(name).env_keys("AKIAENV").block(arguments);
    let services: fn(&CredentialServices) = |it| {
        it.answer(
            Operation::GetCallerIdentity,
            Reply::error(403, "InvalidClientTokenId"),
        );
    };
    vec![
        with(
            "an account that is allowed",
            json!({"allowed_account_ids": ["123456789012"]}),
        ),
        with(
            "an account that is not allowed",
            json!({"allowed_account_ids": ["000000000000"]}),
        ),
        with(
            "an account that is forbidden",
            json!({"forbidden_account_ids": ["123456789012"]}),
        ),
        with(
            "accounts that are allowed and forbidden",
            json!({"forbidden_account_ids": ["1"], "allowed_account_ids": ["2"]}),
        ),
        with(
            "skip_credentials_validation",
            json!({"skip_credentials_validation": true}),
        ),
        with(
            "skip_credentials_validation with an account that is allowed",
            json!({
                "skip_credentials_validation": true, "allowed_account_ids": ["123456789012"],
            }),
        ),
        with(
            "skip_requesting_account_id",
            json!({"skip_requesting_account_id": true}),
        ),
        with(
            "both of these",
            json!({"skip_credentials_validation": true, "skip_requesting_account_id": true}),
        ),
        with(
            "both of these and an account that is allowed",
            json!({"skip_credentials_validation": true, "skip_requesting_account_id": true, "allowed_account_ids": ["1"]}),
        ),
        with("keys that STS does not know", json!({})).services(services),
        case("keys that are handed out without a session token")
            .config("[default]\ncredential_process = cat {dir}/keys\n")
            .file(
                "keys",
                r#"{"Version": 1, "AccessKeyId": "AKIAPROCESS", "SecretAccessKey": "{secret}"}"#,
            )
            .services(|it| it.hand_out(Keys::new("AKIAX", "x"))),
    ]
}
