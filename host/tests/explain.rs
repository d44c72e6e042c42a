//! `explain` and `iam-policy`: what they print, and what they never print.

#![allow(clippy::unwrap_used, reason = "a test reports by panicking")]
#![allow(dead_code, reason = "not every file of tests uses all of the harness")]

mod command;

use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use cofferdam::dev_store::DevStore;
use cofferdam::{Backend, Grant, PolicyOptions, Purpose};
use serde_json::{Value, json};
use tempfile::TempDir;

use command::{code, cofferdam, stderr, stdout};

/// 32 bytes, and as the argument has them.
const CUSTOMER_KEY: &str = "canary-customer-key-0123456789ab";
const CUSTOMER_KEY_TEXT: &str = "Y2FuYXJ5LWN1c3RvbWVyLWtleS0wMTIzNDU2Nzg5YWI=";
/// All that must not be printed.
const CANARIES: &[&str] = &[
    "canary-secret/+key",
    "canary-token/+=",
    "canary-environment",
    "canary:proxy@word",
    "canary%3Aproxy%40word",
    "canary-file-secret",
    "canary-container",
    "canary-endpoint",
    CUSTOMER_KEY,
];

/// A directory with a block, where AWS's variables are those that a test sets.
struct Place(TempDir);

impl Place {
    fn new(block: &Value) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = json!({"terraform": {"backend": {"s3": block}}});
        std::fs::write(directory.path().join("backend.tf.json"), file.to_string()).unwrap();
        Self(directory)
    }

    fn with_file(self, path: &str, text: &str) -> Self {
        let path = self.0.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = cofferdam(self.0.path());
        for (name, _) in std::env::vars() {
            if name.starts_with("AWS_") || name.to_uppercase().ends_with("_PROXY") {
                command.env_remove(name);
            }
        }
        command
            .env("HOME", self.0.path())
            .envs(variables.iter().copied())
            .args(arguments);
        command
    }

    fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        self.command(arguments, variables).output().unwrap()
    }

    fn explained(&self, variables: &[(&str, &str)]) -> Value {
        let output = self.run(&["explain", "--json"], variables);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn block(change: Value) -> Value {
    let mut block = json!({"bucket": "states", "key": "prod/app.tfstate", "region": "eu-west-1"});
    let change = change.as_object().unwrap().clone();
    block.as_object_mut().unwrap().extend(change);
    block
}

/// The keys of an object in order, with those of objects in it: `a b{c d}`.
fn shape(value: &Value) -> String {
    let Value::Object(object) = value else {
        return String::new();
    };
    let keys = object.iter().map(|(key, value)| match shape(value) {
        inner if inner.is_empty() => key.clone(),
        inner => format!("{key}{{{inner}}}"),
    });
    keys.collect::<Vec<_>>().join(" ")
}

const SHAPE: &str = "addressing addressing_reason bucket_url \
    credentials{access_key_id files passed_over profile source} diagnostics \
    encryption{kms_key_id mode note} endpoints{dynamodb iam{signing_region source url} \
    s3{signing_region source url} sso sts{signing_region source url}} format_version \
    grant{commands egress files profile variables} locking{dynamodb_table lockfile} \
    proxy{except http https} region{source value} retry{max_attempts mode} tags{lock state} \
    tls{roots source verify}";

#[test]
fn the_account_has_the_documented_keys_whatever_is_configured() {
    let endpoint = "{signing_region source url}";
    for (change, variables, replaced) in [
        (json!({}), &[][..], vec![]),
        (
            json!({"dynamodb_table": "t"}),
            &[][..],
            vec![("dynamodb", format!("dynamodb{endpoint}"))],
        ),
        (
            json!({"access_key": "AKIA1", "secret_key": "canary-secret/+key"}),
            &[
                ("HTTPS_PROXY", "http://u:canary%3Aproxy%40word@proxy.test"),
                ("NO_PROXY", "a.test"),
            ][..],
            vec![
                ("https}", "https{source url}}".to_owned()),
                ("proxy{except", "proxy{except{hosts source}".to_owned()),
            ],
        ),
    ] {
        let place = Place::new(&block(change.clone()));
        let account = place.explained(variables);
        let expected = replaced.iter().fold(SHAPE.to_owned(), |shape, (from, to)| {
            shape.replacen(from, to, 1)
        });
        assert_eq!(shape(&account), expected, "{change}");
        assert_eq!(account["format_version"], "1");
    }
    let document = include_str!("../../docs/explain.md");
    let words = SHAPE.split([' ', '{', '}']).filter(|word| !word.is_empty());
    for word in words {
        assert!(
            document.contains(&format!("`{word}`")),
            "{word} is not documented"
        );
    }
}

#[test]
fn each_value_says_where_it_comes_from() {
    let place = Place::new(&json!({"bucket": "states", "key": "k", "use_lockfile": true}));
    let account = place.explained(&[
        ("AWS_REGION", "eu-west-3"),
        ("AWS_ACCESS_KEY_ID", "AKIA1"),
        ("AWS_SECRET_ACCESS_KEY", "canary-environment"),
        ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9000"),
        ("HTTPS_PROXY", "socks5://proxy.test"),
    ]);
    for (path, expected) in [
        ("/region/value", "eu-west-3"),
        ("/region/source", "environment AWS_REGION"),
        ("/endpoints/s3/url", "http://127.0.0.1:9000"),
        ("/endpoints/s3/source", "environment AWS_ENDPOINT_URL_S3"),
        ("/endpoints/sts/source", "default"),
        ("/bucket_url", "http://127.0.0.1:9000/states"),
        ("/addressing", "path"),
        ("/credentials/source", "environment AWS_ACCESS_KEY_ID"),
        ("/credentials/access_key_id", "AKIA1"),
        ("/proxy/https/url", "socks5://proxy.test:1080"),
        ("/proxy/https/source", "environment HTTPS_PROXY"),
        ("/tls/roots", "system"),
        ("/grant/profile", "local"),
        ("/grant/commands", "own-files"),
    ] {
        assert_eq!(account.pointer(path).unwrap(), expected, "{path}");
    }
    let grant = &account["grant"];
    let names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "HOME"];
    for name in names {
        assert!(
            grant["variables"]
                .as_array()
                .unwrap()
                .contains(&name.into()),
            "{name}"
        );
    }
    let rules = grant["egress"].as_array().unwrap();
    for rule in [
        "GET,PUT,DELETE http://127.0.0.1:9000/states/k",
        "GET,PUT,DELETE http://127.0.0.1:9000/states/env%3A/<workspace>/k or <workspace>/k.tflock",
    ] {
        assert!(rules.contains(&rule.into()), "{rule}: {rules:#?}");
    }
}

#[test]
fn a_person_reads_the_same_in_sections() {
    let place = Place::new(&block(json!({"dynamodb_table": "locks"})));
    let output = place.run(&["explain"], &[("AWS_REGION", "us-east-1")]);
    let text = stdout(&output);
    for line in [
        "Store",
        "  region      eu-west-1  argument region",
        "Credentials",
        "  DynamoDB table  locks",
        "Grant",
        "  network   https://s3.eu-west-1.amazonaws.com, also FIPS and dualstack",
        "              GET,PUT,DELETE  /states/prod/app.tfstate.tflock",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
    let warned = stderr(&output);
    assert!(warned.contains("Warning: Deprecated Parameter"), "{warned}");
}

#[test]
fn a_configuration_with_errors_is_not_explained_and_gets_no_policy() {
    let place = Place::new(&json!({"bucket": "states", "key": "/k"}));
    let wrong = ["Missing region value", "must not start or end with"];
    for arguments in [&["explain"][..], &["iam-policy", "--for=plan"]] {
        let output = place.run(arguments, &[]);
        let told = (code(&output), stdout(&output));
        assert_eq!(told, (1, String::new()), "{arguments:?}");
        let words = stderr(&output);
        for error in wrong {
            assert!(words.contains(error), "{arguments:?}: {words}");
        }
    }
    let output = place.run(&["explain", "-json"], &[]);
    assert_eq!(
        (code(&output), stderr(&output)),
        (1, String::new()),
        "{}",
        stdout(&output)
    );
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shape(&told), "diagnostics format_version");
    assert_eq!(told["format_version"], "1");
    for (diagnostic, error) in told["diagnostics"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .zip(wrong)
    {
        assert_eq!(shape(diagnostic), "attribute detail severity summary");
        assert_eq!(diagnostic["severity"], "error");
        assert!(diagnostic.to_string().contains(error), "{diagnostic}");
    }
}

#[test]
fn a_directory_without_a_block_is_an_error_in_json_too() {
    let place = Place(tempfile::tempdir().unwrap());
    let output = place.run(&["explain", "--json"], &[]);
    assert_eq!(code(&output), 1);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let summary = &told["diagnostics"][0]["summary"];
    assert_eq!(summary, "No backend configuration");
}

#[test]
fn a_variable_is_named_as_it_was_read() {
    let place = Place::new(&block(json!({})));
    let account = place.explained(&[("AWS_ACCESS_KEY", "AKIA1"), ("AWS_SECRET_KEY", "canary")]);
    let source = &account["credentials"]["source"];
    assert_eq!(source, "environment AWS_ACCESS_KEY");
    let shared = "[profile dev]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = r\nservices = s\n\
                  [sso-session corp]\nsso_region = eu-west-3\nsso_start_url = https://start.test\n\
                  [services s]\nsso =\n  endpoint_url = https://file.test\n";
    let place = Place::new(&block(json!({"profile": "dev"}))).with_file(".aws/config", shared);
    for (variables, source) in [
        (&[][..], "services section of profile dev"),
        (
            &[("AWS_ENDPOINT_URL_SSO", "https://variable.test")],
            "environment AWS_ENDPOINT_URL_SSO",
        ),
    ] {
        let account = place.explained(variables);
        assert_eq!(account["endpoints"]["sso"]["source"], source);
    }
}

/// A secret as it stands, in base64 (at every offset), in hex and URL-encoded.
fn forms(secret: &str) -> Vec<String> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let url = secret.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    });
    let mut all = vec![
        secret.to_owned(),
        hex.to_uppercase(),
        hex,
        url.collect(),
        BASE64.encode(secret),
    ];
    for shift in 0..3 {
        let shifted = BASE64.encode(format!("{}{secret}", "x".repeat(shift)));
        all.push(shifted[4..shifted.len() - 4].to_owned());
    }
    all
}

fn assert_no_secret(output: &Output, case: &str) {
    let printed = format!("{}{}", stdout(output), stderr(output));
    for canary in CANARIES {
        for form in forms(canary) {
            assert!(
                !printed.contains(&form),
                "{case}: {canary} as {form}\n{printed}"
            );
        }
    }
}

#[test]
fn no_secret_is_printed_in_any_form_not_even_in_the_log() {
    let key = BASE64.encode(CUSTOMER_KEY);
    let of_block = block(json!({
        "access_key": "AKIA1", "secret_key": "canary-secret/+key", "token": "canary-token/+=",
        "encrypt": true, "sse_customer_key": key, "dynamodb_table": "t",
        "endpoints": {"s3": "https://u:canary-endpoint@s3.test/?x=canary-endpoint"},
    }));
    let of_role = block(json!({
        "assume_role_with_web_identity": {
            "role_arn": "arn:aws:iam::123456789012:role/r", "web_identity_token": "canary-token/+=",
        },
        "http_proxy": "http://u:canary%3Aproxy%40word@proxy.test", "https_proxy": "",
    }));
    let of_process = block(json!({"profile": "process"}));
    let of_profile = block(json!({"profile": "dev", "encrypt": true}));
    let shared = "[dev]\naws_access_key_id = AKIA2\naws_secret_access_key = canary-file-secret\n\
                  aws_session_token = canary-token/+=\n\
                  [process]\ncredential_process = get --password canary-file-secret\n";
    let proxy = "http://u:canary%3Aproxy%40word@proxy.test:3128";
    let environment = &[
        ("AWS_ACCESS_KEY_ID", "AKIA3"),
        ("AWS_SECRET_ACCESS_KEY", "canary-environment"),
        ("AWS_SESSION_TOKEN", "canary-token/+="),
        ("AWS_SSE_CUSTOMER_KEY", &key),
        ("HTTPS_PROXY", proxy),
        ("HTTP_PROXY", proxy),
        ("NO_PROXY", "http://u:canary:proxy@word@x"),
        (
            "AWS_ENDPOINT_URL_STS",
            "https://u:canary-endpoint@sts.test/",
        ),
        ("COFFERDAM_LOG", "trace"),
    ][..];
    let container = &[
        (
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "/v2/canary-container",
        ),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "canary-container"),
        ("COFFERDAM_LOG", "trace"),
    ][..];
    let nothing = block(json!({}));
    let mut count = 0;
    for (name, block, variables) in [
        ("block", &of_block, environment),
        ("profile", &of_profile, environment),
        ("environment", &nothing, environment),
        ("web identity", &of_role, environment),
        ("process", &of_process, environment),
        ("container", &nothing, container),
    ] {
        let place = Place::new(block).with_file(".aws/credentials", shared);
        for arguments in [
            &["explain"][..],
            &["explain", "--json"],
            &["iam-policy", "--all-workspaces"],
        ] {
            let output = place.run(arguments, variables);
            assert_eq!(code(&output), 0, "{name}: {}", stderr(&output));
            assert_no_secret(&output, name);
            count += 1;
        }
    }
    assert_eq!(count, 18);
    // The search finds what is there.
    let planted = BASE64.encode("xcanary-secret/+key and more");
    assert!(
        forms("canary-secret/+key")
            .iter()
            .any(|form| planted.contains(form))
    );
}

/// A secret in the form that something of this name would have, if there is a secret in it.
fn with_secret(name: &str) -> Option<&'static str> {
    let is_named = |words: &[&str]| words.iter().any(|word| name.to_lowercase().contains(word));
    match name {
        "AWS_SSE_CUSTOMER_KEY" | "sse_customer_key" => Some(CUSTOMER_KEY_TEXT),
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI" => Some("/v2/canary-container"),
        "AWS_CONTAINER_CREDENTIALS_FULL_URI" => Some("http://169.254.170.23/v1/canary-container"),
        "ec2_metadata_service_endpoint_mode" | "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE" => None,
        "AWS_ACCOUNT_ID_ENDPOINT_MODE" | "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS" => None,
        "use_fips_endpoint" | "use_dualstack_endpoint" | "endpoints" => None,
        "AWS_USE_FIPS_ENDPOINT" | "AWS_USE_DUALSTACK_ENDPOINT" => None,
        _ if is_named(&["file", "arn", "access_key_id"]) => None,
        "access_key" | "AWS_ACCESS_KEY" => None,
        _ if is_named(&["endpoint", "proxy", "url"]) => {
            Some("http://u:canary%3Aproxy%40word@place.test:3128/?canary-endpoint#canary-endpoint")
        }
        _ if is_named(&["secret", "token"]) => Some("canary-secret/+key"),
        _ => None,
    }
}

#[tokio::test]
async fn no_argument_and_no_variable_gives_its_secret_away() {
    let backend = Backend::builder().build().await.unwrap();
    let schema: Value = serde_json::from_str(&backend.schema().await.unwrap()).unwrap();
    let mut arguments = vec![];
    let mut variables = vec![
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
    ];
    variables.extend(cofferdam::LOCAL_VARIABLES);
    for argument in schema.as_array().unwrap() {
        let name = argument["name"].as_str().unwrap();
        let secret = with_secret(name);
        assert!(
            secret.is_some() || argument["sensitive"] != true || name == "access_key",
            "{name} is sensitive"
        );
        arguments.extend(secret.map(|secret| (name, secret)));
    }
    let variables: Vec<_> = variables
        .into_iter()
        .filter_map(|name| Some((name, with_secret(name)?)))
        .collect();
    assert!(arguments.len() > 15 && variables.len() > 20);

    let mut shown = 0;
    let mut assert_silent = |place: &Place, variables: &[(&str, &str)], case: &str| {
        for command in [
            &["explain"][..],
            &["explain", "--json"],
            &["iam-policy", "--all-workspaces"],
        ] {
            let log = ("COFFERDAM_LOG", "trace");
            let output = place.run(command, &[variables, &[log]].concat());
            assert!([0, 1].contains(&code(&output)), "{case}");
            assert_no_secret(&output, case);
            shown += u32::from(stdout(&output).contains("place.test"));
        }
    };
    for (name, secret) in arguments {
        // As it is meant, alone, and as something that it cannot be.
        let keys = json!({"access_key": "AKIA1", "secret_key": "canary-secret/+key", "encrypt": true,
            "dynamodb_table": "t"});
        for (rest, value) in [
            (keys, json!(secret)),
            (json!({}), json!(secret)),
            (json!({}), json!([secret])),
            (json!({"encrypt": true}), json!(format!("{secret}\n"))),
        ] {
            let mut block = block(rest);
            match name.split_once('.') {
                Some((object, field)) => {
                    block[object] =
                        json!({field: value, "role_arn": "arn:aws:iam::123456789012:role/r"});
                }
                None => block[name] = value,
            }
            assert_silent(&Place::new(&block), &[], name);
        }
    }
    let place = Place::new(&block(json!({"dynamodb_table": "t", "encrypt": true})));
    for (name, secret) in variables {
        assert_silent(&place, &[(name, secret)], name);
        let key_id = ("AWS_ACCESS_KEY_ID", "AKIA1");
        assert_silent(&place, &[key_id, (name, secret)], name);
    }
    // What stands beside the secrets in the same texts is printed.
    assert!(shown > 50, "{shown}");
}

fn policy(place: &Place, arguments: &[&str]) -> (Value, String) {
    let output = place.run(&[&["iam-policy"], arguments].concat(), &[]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let policy = serde_json::from_slice(&output.stdout).unwrap();
    (policy, stderr(&output))
}

fn objects(policy: &Value) -> Vec<&str> {
    let resources = policy["Statement"][0]["Resource"].as_array().unwrap();
    resources.iter().filter_map(Value::as_str).collect()
}

#[test]
fn a_policy_is_printed_alone_and_for_the_workspaces_that_are_meant() {
    const DEFAULT: &str = "arn:aws:s3:::states/prod/app.tfstate";
    let place = Place::new(&block(json!({"use_lockfile": true})));
    let of = |name: &str| format!("arn:aws:s3:::states/env:/{name}/prod/app.tfstate");
    for (arguments, expected) in [
        (&[][..], vec![DEFAULT.to_owned()]),
        (&["--workspace", "a"], vec![of("a")]),
        (&["-workspace=a", "--workspace=b"], vec![of("a"), of("b")]),
        (&["--all-workspaces"], vec![DEFAULT.to_owned(), of("*")]),
    ] {
        let (policy, notes) = policy(&place, arguments);
        assert_eq!(policy["Version"], "2012-10-17");
        assert_eq!(objects(&policy), expected, "{arguments:?}");
        assert!(notes.contains("403"), "{notes}");
    }
    let output = place.run(&["--workspace", "a", "iam-policy"], &[]);
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(objects(&printed), [of("a")]);
    let selected = place.with_file(".terraform/environment", "dev");
    assert_eq!(objects(&policy(&selected, &[]).0), [of("dev")]);
    let both = selected.run(&["iam-policy", "--workspace=a", "--all-workspaces"], &[]);
    assert_eq!(code(&both), 64);
    let unknown = selected.run(&["iam-policy", "--for=everything"], &[]);
    assert_eq!(code(&unknown), 64);
}

#[test]
fn the_policy_of_a_bucket_names_who_may_and_what_is_missing_in_it() {
    let place = Place::new(&block(json!({"dynamodb_table": "t"})));
    let role = "arn:aws:iam::123456789012:role/deploy";
    let (printed, notes) = policy(&place, &["--for", "outputs", "--principal", role]);
    for statement in printed["Statement"].as_array().unwrap() {
        assert_eq!(statement["Principal"]["AWS"], json!([role]));
    }
    assert!(notes.contains("DynamoDB table"), "{notes}");
    let refused = place.run(&["iam-policy", "--principal", "*"], &[]);
    assert_eq!(code(&refused), 1);
    assert!(stderr(&refused).contains("Invalid principal"));
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_makes_a_request() {
    let server = DevStore::builder().start().await.unwrap();
    let place = Place::new(&server.backend_block("k"));
    for arguments in [&["explain"][..], &["iam-policy", "--for=doctor"]] {
        let output = place.run(arguments, &[]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
    }
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn a_sealed_store_is_explained_without_a_look_at_the_machine() {
    let backend = Backend::builder().build().await.unwrap();
    let config = block(json!({"access_key": "AKIA1", "secret_key": "x", "use_lockfile": true}));
    let account = backend.explain(&config, &Grant::sealed()).await.unwrap();
    let grant = &account["grant"];
    assert_eq!(grant["profile"], "sealed");
    assert_eq!(grant["variables"], json!([]));
    assert_eq!(grant["files"], json!([]));
    assert_eq!(grant["commands"], "none");
    for rule in grant["egress"].as_array().unwrap() {
        let host = "https://states.s3";
        let in_path = "/states";
        let rule = rule.as_str().unwrap();
        assert!(rule.contains(host) || rule.contains(in_path), "{rule}");
    }
    let given = Grant::sealed().surroundings(std::sync::Arc::new(cofferdam::Nothing));
    let account = backend.explain(&config, &given).await.unwrap();
    assert!(account["grant"]["variables"].is_null());
    let options = PolicyOptions::new(Purpose::Plan).workspaces(["..".to_owned()]);
    let refused = backend.least_policy(&config, &given, &options).await;
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("Invalid workspace")
    );
}
