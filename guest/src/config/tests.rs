//! Tests of the whole way from a block to settings and diagnostics.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};

use super::schema::{Kind, SCHEMA, Value};
use super::*;
use crate::credentials::{Source, Token};
use crate::platform::{Credentials, Refusal};

/// Variables by name.
#[derive(Default)]
struct Variables(BTreeMap<&'static str, String>);

impl Environment for Variables {
    fn variable(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }
}

/// A file is a variable that is named by its path.
impl Surroundings for Variables {
    fn credentials(&self) -> Option<Credentials> {
        None
    }

    fn read_file(&self, path: &str) -> Result<Vec<u8>, Refusal> {
        let text = self.0.get(path).ok_or(Refusal::NotFound)?;
        Ok(text.clone().into_bytes())
    }

    fn report(&self, diagnostic: Diagnostic) {
        panic!("{diagnostic:?}");
    }
}

fn variables<const N: usize>(pairs: [(&'static str, &str); N]) -> Variables {
    let pairs = pairs
        .into_iter()
        .map(|(name, value)| (name, value.to_owned()));
    Variables(pairs.collect())
}

/// A block that is in order and silent, with changes; null takes an argument away.
fn block(changes: Json) -> String {
    let mut block = json!({
        "bucket": "states",
        "key": "app/terraform.tfstate",
        "region": "eu-west-1",
        "skip_credentials_validation": true,
    });
    for (name, value) in changes.as_object().unwrap() {
        block[name] = value.clone();
    }
    block.to_string()
}

fn settings(changes: Json, environment: &Variables) -> Settings {
    match resolve(&block(changes.clone()), environment) {
        Ok(resolution) => resolution.settings,
        Err(diagnostics) => panic!("{changes}: {diagnostics:#?}"),
    }
}

fn location(changes: Json) -> BucketLocation {
    settings(changes, &Variables::default()).bucket_location()
}

/// A diagnostic in one line: `E attribute: summary / detail`; `-` for the whole block.
fn lines(diagnostics: &[Diagnostic]) -> Vec<String> {
    diagnostics
        .iter()
        .map(|it| {
            let severity = match it.severity {
                Severity::Error => "E",
                Severity::Warning => "W",
            };
            let attribute = it.attribute.as_deref().unwrap_or("-");
            format!("{severity} {attribute}: {} / {}", it.summary, it.detail)
        })
        .collect()
}

#[track_caller]
fn assert_says<const N: usize>(changes: Json, environment: &Variables, expected: [&str; N]) {
    let found = lines(&validate(&block(changes.clone()), environment));
    assert_eq!(found, expected, "{changes}");
}

/// What there is to say when the store is opened, and the shared files are read.
#[track_caller]
fn assert_says_at_open<const N: usize>(
    changes: Json,
    environment: &Variables,
    expected: [&str; N],
) {
    let found = match resolve(&block(changes.clone()), environment) {
        Ok(resolution) => resolution.warnings,
        Err(diagnostics) => diagnostics,
    };
    assert_eq!(lines(&found), expected, "{changes}");
}

const MISSING: &str = "is required by the backend.\n\nRefer to the backend documentation for \
                       additional information which attributes are required.";

#[test]
fn a_block_in_order_says_nothing() {
    assert_says(json!({}), &Variables::default(), []);
}

#[test]
fn an_argument_that_is_null_counts_as_absent() {
    let mut all = serde_json::Map::new();
    for argument in SCHEMA {
        if !argument.required && !argument.name.contains('.') {
            all.insert(argument.name.to_owned(), Json::Null);
        }
    }
    all.insert("region".to_owned(), "eu-west-1".into());
    all.insert("skip_credentials_validation".to_owned(), true.into());
    all.insert("endpoints.s3".to_owned(), Json::Null);
    assert_says(Json::Object(all), &Variables::default(), []);
    assert_says(
        json!({"endpoints": {"s3": null, "sts": null}}),
        &Variables::default(),
        [],
    );
}

#[test]
fn what_is_no_json_object_is_refused_without_showing_it() {
    for config in [
        "",
        "{\"token\": \"canary\"",
        "[\"canary\"]",
        "\"canary\"",
        "null",
    ] {
        let diagnostics = validate(config, &Variables::default());
        assert_eq!(diagnostics.len(), 1, "{config}");
        let found = &diagnostics[0];
        assert_eq!(found.severity, Severity::Error);
        assert_eq!(found.summary, "Invalid backend configuration");
        assert!(
            found
                .detail
                .starts_with("The backend block must be a JSON object"),
            "{found:?}"
        );
        assert!(!format!("{found:?}").contains("canary"), "{found:?}");
        assert!(resolve(config, &Variables::default()).is_err(), "{config}");
        assert!(explain(config, &Variables::default()).is_err(), "{config}");
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once_in_terraforms_order() {
    let config = json!({
        "buket": "x",
        "assume_role": {"role_arn": "x"},
        "session_name": "n",
        "retry_mode": "x",
        "bucket": " \t",
        "workspace_key_prefix": "/env",
        "endpoint": "http://old",
        "endpoints": {"s3": "s3.example.com"},
        "use_lockfile": "perhaps",
        "max_retries": -1,
        "access_key": "AKIA",
    });
    let environment = variables([("AWS_S3_ENDPOINT", "http://older")]);
    let found: Vec<_> = validate(&config.to_string(), &environment)
        .into_iter()
        .map(|it| (it.summary, it.attribute.unwrap_or_default()))
        .collect();
    let found: Vec<_> = found
        .iter()
        .map(|(summary, attribute)| (summary.as_str(), attribute.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            ("Unsupported argument", "buket"),
            ("Incorrect attribute value type", "use_lockfile"),
            ("Missing Required Value", "key"),
            ("Invalid Value", "bucket"),
            ("Invalid Value", "workspace_key_prefix"),
            ("Missing region value", "region"),
            ("Invalid ARN", "assume_role.role_arn"),
            ("Deprecated Parameter", "endpoint"),
            ("Conflicting Parameters", ""),
            ("Complete URL Expected", "endpoints.s3"),
            ("Invalid Value", "retry_mode"),
            ("Conflicting Parameters", ""),
            ("Deprecated Environment Variable", ""),
            ("No valid credential sources found", "secret_key"),
            ("Invalid Value", "max_retries"),
        ]
    );
}

#[test]
fn bucket_and_key_are_required_and_not_blank() {
    assert_says(
        json!({"bucket": null, "key": null}),
        &Variables::default(),
        [
            &format!("E bucket: Missing Required Value / The attribute \"bucket\" {MISSING}"),
            &format!("E key: Missing Required Value / The attribute \"key\" {MISSING}"),
        ],
    );
    for blank in ["", " ", "\t\n"] {
        assert_says(
            json!({"bucket": blank, "key": blank}),
            &Variables::default(),
            [
                "E bucket: Invalid Value / The value cannot be empty or all whitespace",
                "E key: Invalid Value / The value cannot be empty or all whitespace",
            ],
        );
    }
}

#[test]
fn slashes_stand_inside_of_paths_only() {
    let ends = "Invalid Value / The value must not start or end with \"/\"";
    let double = "E key: Invalid Value / Value must not contain \"//\"";
    for key in ["/", "/a", "a/", "/a/"] {
        assert_says(
            json!({"key": key, "workspace_key_prefix": key}),
            &Variables::default(),
            [
                &format!("E key: {ends}"),
                &format!("E workspace_key_prefix: {ends}"),
            ],
        );
    }
    assert_says(json!({"key": "a//b"}), &Variables::default(), [double]);
    assert_says(
        json!({"key": "//"}),
        &Variables::default(),
        [&format!("E key: {ends}"), double],
    );
    assert_says(
        json!({"key": "a/b", "workspace_key_prefix": ""}),
        &Variables::default(),
        [],
    );
}

#[test]
fn the_region_comes_from_the_argument_then_from_two_variables() {
    let both = variables([
        ("AWS_REGION", "eu-north-1"),
        ("AWS_DEFAULT_REGION", "sa-east-1"),
    ]);
    let second = variables([("AWS_REGION", ""), ("AWS_DEFAULT_REGION", "sa-east-1")]);
    for (region, environment, value, source) in [
        (json!("us-east-1"), &both, "us-east-1", "argument region"),
        (json!(null), &both, "eu-north-1", "environment AWS_REGION"),
        (json!(""), &both, "eu-north-1", "environment AWS_REGION"),
        (
            json!(null),
            &second,
            "sa-east-1",
            "environment AWS_DEFAULT_REGION",
        ),
    ] {
        let found = settings(json!({"region": region}), environment).region;
        assert_eq!(
            (found.value.as_str(), found.source.as_str()),
            (value, source)
        );
    }
    for missing in [json!(null), json!("")] {
        assert_says(
            json!({"region": missing}),
            &variables([("AWS_REGION", "")]),
            [
                "E region: Missing region value / The \"region\" attribute or the \"AWS_REGION\" \
                 or \"AWS_DEFAULT_REGION\" environment variables must be set.",
            ],
        );
    }
}

#[test]
fn only_the_argument_must_be_a_region_that_aws_has() {
    let nobody = Variables::default();
    let unknown = ["E region: Invalid region value / Invalid AWS Region: nonesuch"];
    assert_says(json!({"region": "nonesuch"}), &nobody, unknown);
    assert_says(
        json!({"region": "nonesuch", "skip_region_validation": false}),
        &nobody,
        unknown,
    );
    assert_says(
        json!({"region": "nonesuch", "skip_region_validation": true}),
        &nobody,
        [],
    );
    assert_says(
        json!({"region": null}),
        &variables([("AWS_REGION", "nonesuch")]),
        [],
    );
}

#[test]
fn a_region_that_would_change_the_host_is_refused_wherever_it_comes_from() {
    let refused = ["E region: Invalid region value / Invalid AWS Region: evil.example/"];
    assert_says(
        json!({"region": "evil.example/", "skip_region_validation": true}),
        &Variables::default(),
        refused,
    );
    assert_says(
        json!({"region": null, "skip_region_validation": true}),
        &variables([("AWS_REGION", "evil.example/")]),
        refused,
    );
}

#[test]
fn an_unknown_argument_is_refused_with_the_nearest_name() {
    for (changes, detail) in [
        (
            json!({"buket": 1}),
            "buket: Unsupported argument / An argument named \"buket\" is not expected here. Did \
             you mean \"bucket\"?",
        ),
        (
            json!({"compartment": "x"}),
            "compartment: Unsupported argument / An argument named \"compartment\" is not \
             expected here.",
        ),
        (
            json!({"use_lock_file": true}),
            "use_lock_file: Unsupported argument / An argument named \"use_lock_file\" is not \
             expected here. Did you mean \"use_lockfile\"?",
        ),
        (
            json!({"endpoints": {"s4": "x"}}),
            "endpoints.s4: Unsupported argument / An argument named \"endpoints.s4\" is not \
             expected here. Did you mean \"endpoints.s3\"?",
        ),
        (
            json!({"a\"\nlong name": "x"}),
            "a\"\nlong name: Unsupported argument / An argument named \"a\\\"\\nlong name\" is \
             not expected here.",
        ),
    ] {
        assert_says(changes, &Variables::default(), [&format!("E {detail}")]);
    }
}

#[test]
fn an_unknown_field_of_an_object_is_refused_with_its_path() {
    assert_says(
        json!({"assume_role": {"role_arn": "arn:aws:iam::1:role/r", "rolearn": "x"}}),
        &Variables::default(),
        [
            "E assume_role.rolearn: Unsupported argument / An argument named \"assume_role.rolearn\" is not expected \
             here. Did you mean \"assume_role.role_arn\"?",
        ],
    );
}

#[test]
fn scalars_convert_as_in_terraform() {
    let nobody = Variables::default();
    for (value, flag) in [
        (json!(true), true),
        (json!("true"), true),
        (json!("1"), true),
        (json!(false), false),
        (json!("false"), false),
        (json!("0"), false),
        (json!(null), false),
    ] {
        let found = settings(json!({"use_lockfile": value}), &nobody);
        assert_eq!(found.use_lockfile, flag, "{value}");
    }
    for (value, attempts) in [
        (json!(7), 7),
        (json!("7"), 7),
        (json!(7.0), 7),
        (json!(null), 5),
    ] {
        let found = settings(json!({"max_retries": value}), &nobody);
        assert_eq!(found.max_attempts, attempts, "{value}");
    }
    for (value, key) in [(json!(5), "5"), (json!(true), "true"), (json!(1.5), "1.5")] {
        assert_eq!(settings(json!({"key": value}), &nobody).key, key);
    }
}

#[test]
fn a_wrong_type_is_told_with_the_type_that_is_required() {
    for (name, value, requirement) in [
        ("use_lockfile", json!("yes"), "a bool is required"),
        ("use_lockfile", json!("True"), "a bool is required"),
        ("encrypt", json!(1), "bool required"),
        ("encrypt", json!([true]), "bool required"),
        ("max_retries", json!("x"), "a number is required"),
        ("max_retries", json!("NaN"), "a number is required"),
        ("max_retries", json!(true), "number required"),
        ("bucket", json!(["x"]), "string required"),
        ("region", json!({}), "string required"),
        ("secret_key", json!(["canary"]), "string required"),
        ("endpoints", json!("x"), "object required"),
        ("endpoints.s3", json!([]), "string required"),
    ] {
        let mut changes = json!({"access_key": (name == "secret_key").then_some("AKIA")});
        changes[name] = value;
        assert_says(
            changes,
            &Variables::default(),
            [&format!(
                "E {name}: Incorrect attribute value type / Inappropriate value for attribute \
                 \"{name}\": {requirement}."
            )],
        );
    }
}

#[test]
fn the_endpoint_comes_from_the_first_of_five_places() {
    let environment = |names: &[&'static str]| {
        let pairs = names
            .iter()
            .map(|name| (*name, format!("http://{}.example", name.to_lowercase())));
        Variables(pairs.collect())
    };
    let all = ["AWS_ENDPOINT_URL_S3", "AWS_S3_ENDPOINT", "AWS_ENDPOINT_URL"];
    for (changes, names, expected) in [
        (
            json!({"endpoints": {"s3": "http://a"}}),
            &all[..],
            Some("argument endpoints.s3"),
        ),
        (
            json!({"endpoints.s3": "http://a"}),
            &all[..],
            Some("argument endpoints.s3"),
        ),
        (
            json!({"endpoint": "http://a"}),
            &all[..],
            Some("argument endpoint"),
        ),
        (json!({}), &all[..], Some("environment AWS_ENDPOINT_URL_S3")),
        (json!({}), &all[1..], Some("environment AWS_S3_ENDPOINT")),
        (json!({}), &all[2..], Some("environment AWS_ENDPOINT_URL")),
        (json!({}), &[][..], None),
    ] {
        let found = settings(changes.clone(), &environment(names)).s3_endpoint;
        let found = found.map(|it| it.source);
        assert_eq!(found.as_deref(), expected, "{changes} {names:?}");
    }
}

#[test]
fn a_name_with_a_dot_beats_the_object() {
    let found = settings(
        json!({"endpoints": {"s3": "http://object"}, "endpoints.s3": "http://flat"}),
        &Variables::default(),
    );
    assert_eq!(found.s3_endpoint.unwrap().value, "http://flat");
}

#[test]
fn the_switch_against_configured_endpoints_is_for_the_common_variable_alone() {
    let switch = ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "TRUE");
    let common = variables([switch, ("AWS_ENDPOINT_URL", "http://a")]);
    assert_eq!(settings(json!({}), &common).s3_endpoint, None);
    let own = variables([switch, ("AWS_ENDPOINT_URL_S3", "http://a")]);
    assert!(settings(json!({}), &own).s3_endpoint.is_some());
}

#[test]
fn old_spellings_are_taken_with_a_warning_and_not_beside_the_new_one() {
    let deprecated = "W endpoint: Deprecated Parameter / The parameter \"endpoint\" is \
                      deprecated. Use parameter \"endpoints.s3\" instead.";
    assert_says(
        json!({"endpoint": "http://a"}),
        &Variables::default(),
        [deprecated],
    );
    assert_says(
        json!({"endpoint": "http://a", "endpoints": {"s3": "http://b"}}),
        &Variables::default(),
        [
            deprecated,
            "E -: Conflicting Parameters / The parameters \"endpoint\" and \"endpoints.s3\" \
             cannot be configured together.",
        ],
    );
    assert_says(
        json!({"endpoints.s3": "http://a"}),
        &variables([("AWS_S3_ENDPOINT", "not used")]),
        [
            "W -: Deprecated Environment Variable / The environment variable \"AWS_S3_ENDPOINT\" \
             is deprecated. Use environment variable \"AWS_ENDPOINT_URL_S3\" instead.",
        ],
    );
}

/// A warning about a deprecated argument.
fn deprecated(name: &str, replacement: &str) -> String {
    format!(
        "W {name}: Deprecated Parameter / The parameter \"{name}\" is deprecated. Use parameter \
         \"{replacement}\" instead."
    )
}

#[test]
fn arguments_that_exclude_each_other_are_refused_as_in_terraform() {
    let only = |names: &str| {
        format!("E -: Invalid Attribute Combination / Only one of {names} can be set.")
    };
    let key = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=";
    assert_says(
        json!({"kms_key_id": "alias/a", "sse_customer_key": key}),
        &Variables::default(),
        [&only("kms_key_id, sse_customer_key")],
    );
    assert_says(
        json!({"kms_key_id": "", "sse_customer_key": key}),
        &Variables::default(),
        [],
    );
    let warning = deprecated("force_path_style", "use_path_style");
    assert_says(
        json!({"force_path_style": true, "use_path_style": false}),
        &Variables::default(),
        [&only("force_path_style, use_path_style"), &warning],
    );
    assert_says(
        json!({"force_path_style": true}),
        &Variables::default(),
        [&warning],
    );
    assert!(settings(json!({"force_path_style": true}), &Variables::default()).use_path_style);
}

#[test]
fn a_table_has_an_endpoint_of_its_own() {
    let table = deprecated("dynamodb_table", "use_lockfile");
    let environment = |names: &[&'static str]| {
        let pairs = names
            .iter()
            .map(|name| (*name, format!("http://{}.example/", name.to_lowercase())));
        Variables(pairs.collect())
    };
    let all = [
        "AWS_ENDPOINT_URL_DYNAMODB",
        "AWS_DYNAMODB_ENDPOINT",
        "AWS_ENDPOINT_URL",
    ];
    for (changes, names, source, url) in [
        (
            json!({"endpoints": {"dynamodb": "http://A:80/p/"}}),
            &all[..],
            "argument endpoints.dynamodb",
            "http://a/p",
        ),
        (
            json!({"endpoints.dynamodb": "h"}),
            &all[..],
            "argument endpoints.dynamodb",
            "https://h",
        ),
        (
            json!({"dynamodb_endpoint": "http://a"}),
            &all[..],
            "argument dynamodb_endpoint",
            "http://a",
        ),
        (
            json!({}),
            &all[..],
            "environment AWS_ENDPOINT_URL_DYNAMODB",
            "http://aws_endpoint_url_dynamodb.example",
        ),
        (
            json!({}),
            &all[1..],
            "environment AWS_DYNAMODB_ENDPOINT",
            "http://aws_dynamodb_endpoint.example",
        ),
        (
            json!({}),
            &all[2..],
            "environment AWS_ENDPOINT_URL",
            "http://aws_endpoint_url.example",
        ),
    ] {
        let mut changes = changes;
        changes["dynamodb_table"] = "locks".into();
        let found = settings(changes.clone(), &environment(names));
        assert_eq!(found.dynamodb_table.as_deref(), Some("locks"));
        assert_eq!(found.dynamodb_location().url(), url, "{changes}");
        let endpoint = found.dynamodb_endpoint.unwrap();
        assert_eq!(
            (endpoint.source.as_str(), endpoint.value.as_str()),
            (source, url)
        );
    }
    let found = settings(json!({"dynamodb_table": "locks"}), &Variables::default());
    assert_eq!(found.dynamodb_endpoint, None);
    let location = found.dynamodb_location();
    assert_eq!(location.url(), "https://dynamodb.eu-west-1.amazonaws.com");
    assert_eq!(
        (location.path.as_str(), location.region.as_str()),
        ("/", "eu-west-1")
    );

    let ignored = variables([
        ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true"),
        ("AWS_ENDPOINT_URL", "http://a"),
    ]);
    let found = settings(json!({"dynamodb_table": "locks"}), &ignored);
    assert_eq!((found.s3_endpoint, found.dynamodb_endpoint), (None, None));

    // An empty name is no table, and without one nobody goes there.
    for changes in [json!({}), json!({"dynamodb_table": ""})] {
        let found = settings(changes, &environment(&all));
        assert_eq!(
            (found.dynamodb_table, found.dynamodb_endpoint),
            (None, None)
        );
    }
    assert_says(
        json!({"dynamodb_table": "t", "dynamodb_endpoint": "http://a", "endpoints.dynamodb": "http://b"}),
        &variables([("AWS_DYNAMODB_ENDPOINT", "http://c")]),
        [
            &table,
            &deprecated("dynamodb_endpoint", "endpoints.dynamodb"),
            "E -: Conflicting Parameters / The parameters \"dynamodb_endpoint\" and \
             \"endpoints.dynamodb\" cannot be configured together.",
            "W -: Deprecated Environment Variable / The environment variable \
             \"AWS_DYNAMODB_ENDPOINT\" is deprecated. Use environment variable \
             \"AWS_ENDPOINT_URL_DYNAMODB\" instead.",
        ],
    );
}

#[test]
fn a_variable_that_stands_for_several_services_is_judged_once() {
    assert_says(
        json!({"dynamodb_table": "t"}),
        &variables([("AWS_ENDPOINT_URL", "h.example")]),
        [
            &deprecated("dynamodb_table", "use_lockfile"),
            "W -: Complete URL Expected / The value of the environment variable \
             \"AWS_ENDPOINT_URL\" should be a valid URL containing at least a scheme and \
             hostname. Had \"h.example\".\n\nUsing an incomplete URL, such as a hostname only, \
             may work, but may have unexpected behavior.",
        ],
    );
}

#[test]
fn a_kms_key_is_an_id_an_alias_or_an_arn() {
    let uuid = "01234567-89ab-1def-8123-456789abcdef";
    let mrk = "mrk-0123456789abcdef0123456789abcdef";
    let arn = |resource: &str| format!("arn:aws:kms:eu-west-1:123456789012:{resource}");
    for id in [
        uuid.to_owned(),
        mrk.to_owned(),
        "alias/a-b_c/D9".to_owned(),
        arn(&format!("key/{uuid}")),
        arn(&format!("key/{mrk}")),
        arn("alias/states"),
        String::new(),
    ] {
        for encrypt in [false, true] {
            let changes = json!({"kms_key_id": id, "encrypt": encrypt});
            assert_says(changes.clone(), &Variables::default(), []);
            let found = settings(changes, &Variables::default()).encryption;
            match (encrypt, id.as_str(), found) {
                (false, _, Encryption::None) | (true, "", Encryption::Aes256) => {}
                (true, id, Encryption::Kms(found)) => assert_eq!(found, id),
                (_, _, other) => panic!("{id} {encrypt}: {other:?}"),
            }
        }
    }
    for (id, kind) in [
        (format!("{uuid}junk"), "ID"),
        (format!("xx{mrk}"), "ID"),
        (format!("{mrk}0"), "ID"),
        (uuid.to_uppercase(), "ID"),
        (uuid.replace("-1def", "-6def"), "ID"),
        (uuid.replace("-8123", "-c123"), "ID"),
        ("alias/".to_owned(), "ID"),
        ("alias/a b".to_owned(), "ID"),
        ("alias/a\n".to_owned(), "ID"),
        ("mrk-é".to_owned(), "ID"),
        (" ".to_owned(), "ID"),
        ("arn:aws:kms".to_owned(), "ID"),
        (arn(uuid), "ARN"),
        (arn(&format!("key/{uuid}x")), "ARN"),
        (arn("key/alias/a"), "ARN"),
        ("arn:a b:kms:r:1:alias/a".to_owned(), "ARN"),
    ] {
        for encrypt in [false, true] {
            let expected = format!(
                "E kms_key_id: Invalid KMS Key {kind} / Value must be a valid KMS Key {kind}, got \
                 {id:?}"
            );
            let changes = json!({"kms_key_id": id, "encrypt": encrypt});
            assert_says(changes, &Variables::default(), [&expected]);
        }
    }
}

#[test]
fn a_customer_key_is_the_base64_of_32_bytes_from_the_block_or_the_environment() {
    let key = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=";
    // Go does not look at the last bits.
    let same = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2v=";
    let other = variables([("AWS_SSE_CUSTOMER_KEY", "canary")]);
    let variable = variables([("AWS_SSE_CUSTOMER_KEY", key)]);
    for (changes, environment) in [
        (json!({"sse_customer_key": key}), &Variables::default()),
        (json!({"sse_customer_key": same}), &Variables::default()),
        (json!({"sse_customer_key": key}), &other),
        (json!({}), &variable),
    ] {
        let mut changes = changes;
        for encrypt in [true, false] {
            changes["encrypt"] = encrypt.into();
            match settings(changes.clone(), environment).encryption {
                Encryption::CustomerKey(found) if encrypt => {
                    assert_eq!(found.base64.expose(), key);
                    assert_eq!(found.md5.expose(), "mT2HRsMGJ5IX5C+0rreZ8Q==");
                }
                Encryption::None if !encrypt => {}
                other => panic!("{other:?}"),
            }
        }
    }
    let short = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2trcQ==";
    let long = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2tr";
    for (value, requirement) in [
        ("short", "44 characters in length"),
        (&key[1..], "44 characters in length"),
        (
            &format!("!{}", &key[1..]),
            "base64 encoded: illegal base64 data at input byte 0",
        ),
        (
            &key.replace("s=", "-="),
            "base64 encoded: illegal base64 data at input byte 42",
        ),
        (short, "the base64 of 32 bytes"),
        (long, "the base64 of 32 bytes"),
    ] {
        for encrypt in [true, false] {
            assert_says(
                json!({"sse_customer_key": value, "encrypt": encrypt}),
                &Variables::default(),
                [&format!(
                    "E sse_customer_key: Invalid sse_customer_key value / sse_customer_key must \
                     be {requirement}"
                )],
            );
            assert_says(
                json!({"encrypt": encrypt}),
                &variables([("AWS_SSE_CUSTOMER_KEY", value)]),
                [&format!(
                    "E -: Invalid AWS_SSE_CUSTOMER_KEY value / The environment variable \
                     \"AWS_SSE_CUSTOMER_KEY\" must be {requirement}"
                )],
            );
        }
    }
    let conflict = "E -: Invalid encryption configuration / Only one of \"kms_key_id\" and the \
                    environment variable \"AWS_SSE_CUSTOMER_KEY\" can be set.\n\nThe \
                    \"kms_key_id\" is used for encryption with KMS-Managed Keys (SSE-KMS)\nwhile \
                    \"AWS_SSE_CUSTOMER_KEY\" is used for encryption with customer-managed keys \
                    (SSE-C).\nPlease choose one or the other.";
    for encrypt in [true, false] {
        let changes = json!({"kms_key_id": "alias/a", "encrypt": encrypt});
        assert_says(changes, &variable, [conflict]);
    }
}

#[test]
fn tags_are_a_form_in_the_order_of_their_keys() {
    let found = settings(
        json!({"state_tags": {"z": 1, "a b": "x&y=z/+é~", "on": true}, "lock_tags": {}}),
        &Variables::default(),
    );
    assert_eq!(
        found.state_tags.as_deref(),
        Some("a+b=x%26y%3Dz%2F%2B%C3%A9~&on=true&z=1")
    );
    assert_eq!(found.lock_tags, None);
    for (value, requirement) in [
        (json!("a=b"), "map of string required"),
        (json!({"a": null}), "every element must be a string"),
        (json!({"a": ["b"]}), "every element must be a string"),
    ] {
        let expected = format!(
            "E lock_tags: Incorrect attribute value type / Inappropriate value for attribute \
             \"lock_tags\": {requirement}."
        );
        assert_says(
            json!({"lock_tags": value}),
            &Variables::default(),
            [&expected],
        );
    }
}

#[test]
fn explain_tells_table_encryption_and_tags() {
    let explained = |changes: Json| {
        let found = explain(&block(changes), &Variables::default()).unwrap();
        serde_json::from_str::<Json>(&found).unwrap()
    };
    let found = explained(json!({
        "dynamodb_table": "locks", "endpoints": {"dynamodb": "http://h:8000/"}, "encrypt": true,
        "kms_key_id": "alias/states", "lock_tags": {"a": "b c"},
    }));
    assert_eq!(
        found["endpoints"]["dynamodb"],
        json!({"url": "http://h:8000", "signing_region": "eu-west-1", "source": "argument \
             endpoints.dynamodb"})
    );
    assert_eq!(
        found["locking"],
        json!({"lockfile": false, "dynamodb_table": "locks"})
    );
    let kms = json!({"mode": "aws:kms", "kms_key_id": "alias/states", "note": null});
    assert_eq!(found["encryption"], kms);
    assert_eq!(found["tags"], json!({"state": null, "lock": "a=b+c"}));

    let found = explained(json!({"dynamodb_table": "locks"}));
    assert_eq!(
        found["endpoints"]["dynamodb"],
        json!({
            "url": "https://dynamodb.eu-west-1.amazonaws.com", "signing_region": "eu-west-1", "source": "default",
        })
    );
    let key = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=";
    for (changes, mode, note) in [
        (
            json!({"kms_key_id": "alias/a"}),
            "none",
            Some("kms_key_id has no effect without encrypt = true"),
        ),
        (
            json!({"sse_customer_key": key}),
            "none",
            Some("sse_customer_key has no effect without encrypt = true"),
        ),
        (
            json!({"sse_customer_key": key, "encrypt": true}),
            "SSE-C",
            None,
        ),
    ] {
        let found = explained(changes);
        assert_eq!(
            found["encryption"],
            json!({"mode": mode, "kms_key_id": null, "note": note})
        );
    }
}

#[test]
fn an_endpoint_that_terraform_cannot_parse_is_refused_with_terraforms_words() {
    for (url, reason) in [
        (
            "127.0.0.1:9000",
            "first path segment in URL cannot contain colon",
        ),
        (
            "ht tp://x",
            "first path segment in URL cannot contain colon",
        ),
        (":x", "missing protocol scheme"),
        ("http://a b/", "invalid character \" \" in host name"),
        ("http://h:x", "invalid port \":x\" after host"),
        ("http://[::1", "missing ']' in host"),
        ("http://h/%zz", "invalid URL escape \"%zz\""),
        ("http://h%zz", "invalid URL escape \"%zz\""),
        (
            "http://h/\u{7f}",
            "net/url: invalid control character in URL",
        ),
    ] {
        assert_says(
            json!({"endpoints.s3": url}),
            &Variables::default(),
            [&format!(
                "E endpoints.s3: Invalid Value / The value {url:?} cannot be parsed as a URL: \
                 parse {url:?}: {reason}"
            )],
        );
    }
}

#[test]
fn an_endpoint_without_scheme_or_host_is_completed_with_a_warning() {
    let warning = |subject: &str, url: &str| {
        format!(
            "Complete URL Expected / {subject} should be a valid URL containing at least a scheme \
             and hostname. Had \"{url}\".\n\nUsing an incomplete URL, such as a hostname only, \
             may work, but may have unexpected behavior."
        )
    };
    for (url, complete) in [
        ("s3.example.com", "https://s3.example.com"),
        ("s3.example.com/base/", "https://s3.example.com/base"),
        ("localhost:9000", "https://localhost:9000"),
        ("//s3.example.com", "https://s3.example.com"),
    ] {
        let nobody = Variables::default();
        let expected = warning("The value", url);
        for name in ["endpoints.s3", "endpoint"] {
            let found = lines(&validate(&block(json!({name: url})), &nobody));
            assert_eq!(found.last(), Some(&format!("W {name}: {expected}")));
        }
        let found = settings(json!({"endpoints.s3": url}), &nobody).s3_endpoint;
        assert_eq!(found.unwrap().value, complete);
        let subject = "The value of the environment variable \"AWS_ENDPOINT_URL\"";
        assert_says(
            json!({}),
            &variables([("AWS_ENDPOINT_URL", url)]),
            [&format!("W -: {}", warning(subject, url))],
        );
    }
    assert_says(
        json!({"endpoints": {"s3": ""}}),
        &Variables::default(),
        [&format!("W endpoints.s3: {}", warning("The value", ""))],
    );
}

#[test]
fn an_endpoint_that_nothing_can_be_sent_to_is_refused() {
    let host = "the host must be a name of letters, digits, dots and hyphens, or an IP address";
    for (url, reason) in [
        ("ftp://h", "the scheme must be http or https"),
        ("s3://bucket", "the scheme must be http or https"),
        ("http://h..x", host),
        ("http://-é-", host),
        ("http://h%20x", host),
        ("http://[::g]", host),
        ("http://h:0", "the port must be between 1 and 65535"),
        ("http://h:65536", "the port must be between 1 and 65535"),
        (
            "http://h/a b",
            "the path must have its special characters percent-encoded",
        ),
        (
            "http://h/é",
            "the path must have its special characters percent-encoded",
        ),
        (
            "http://h/../x",
            "the path must not have the parts \".\" and \"..\"",
        ),
    ] {
        assert_says(
            json!({"endpoints.s3": url}),
            &Variables::default(),
            [&format!(
                "E endpoints.s3: Invalid Value / The value {url:?} cannot be used as an endpoint: \
                 {reason}"
            )],
        );
    }
    assert_says(
        json!({}),
        &variables([("AWS_ENDPOINT_URL_S3", "ftp://h")]),
        [
            "E -: Invalid Value / The value of the environment variable \"AWS_ENDPOINT_URL_S3\" \
             \"ftp://h\" cannot be used as an endpoint: the scheme must be http or https",
        ],
    );
}

#[test]
fn an_endpoint_has_one_form() {
    for (url, form) in [
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("HTTP://S3.Example.COM:80/", "http://s3.example.com"),
        (
            "https://s3.example.com:443/Base//",
            "https://s3.example.com/Base",
        ),
        ("https://s3.example.com:80", "https://s3.example.com:80"),
        ("http://h:", "http://h"),
        ("http://[::1]:9000/", "http://[::1]:9000"),
    ] {
        let found = settings(json!({"endpoints.s3": url}), &Variables::default());
        assert_eq!(found.s3_endpoint.unwrap().value, form);
    }
}

#[test]
fn what_an_endpoint_cannot_carry_is_left_out_with_a_warning_that_does_not_show_it() {
    for (url, form) in [
        ("https://user:canary@h:8443/p", "https://h:8443/p"),
        ("https://h/p?canary=1", "https://h/p"),
        ("https://h#canary", "https://h"),
        ("https://h?x=canary@evil.example", "https://h"),
    ] {
        assert_says(
            json!({"endpoints.s3": url}),
            &Variables::default(),
            [&format!(
                "W endpoints.s3: Endpoint shortened / The value has a user name, a query or a \
                 fragment, which requests cannot carry. They go to \"{form}\"."
            )],
        );
        let found = settings(json!({"endpoints.s3": url}), &Variables::default());
        assert_eq!(found.s3_endpoint.unwrap().value, form);
    }
}

#[test]
fn no_diagnostic_shows_the_user_name_or_password_of_an_endpoint() {
    for url in [
        "https://user:canary@h:x",
        "https://user:canary/@h",
        "https://us er:canary@h",
        "https://user:can%zzary@h",
        "user:canary@h",
        "//user:canary@h",
        "user:canary@h//x",
        "ftp://canary@h",
        "https://canary@",
        "https://user:a//canary@h",
        "https://user:a?canary@h",
    ] {
        for name in ["endpoints.s3", "endpoint"] {
            let found = validate(&block(json!({name: url})), &Variables::default());
            assert!(!found.is_empty(), "{url}");
            assert!(
                !format!("{found:?}").contains("canary"),
                "{url}: {found:#?}"
            );
        }
        let found = validate(&block(json!({})), &variables([("AWS_ENDPOINT_URL", url)]));
        assert!(
            !format!("{found:?}").contains("canary"),
            "{url}: {found:#?}"
        );
    }
}

#[test]
fn max_retries_is_the_number_of_attempts() {
    let limited = variables([("AWS_MAX_ATTEMPTS", "8")]);
    let unlimited = variables([("AWS_MAX_ATTEMPTS", "0")]);
    for (value, environment, attempts) in [
        (json!(null), &limited, 5),
        (json!(1), &limited, 1),
        (json!(0), &limited, 8),
        (json!(0), &unlimited, 3),
        (json!("0"), &Variables::default(), 3),
    ] {
        let found = settings(json!({"max_retries": value}), environment);
        assert_eq!(found.max_attempts, attempts, "{value}");
    }
    for value in [json!(-1), json!(1.5), json!(1e300), json!("-1")] {
        assert_says(
            json!({"max_retries": value}),
            &Variables::default(),
            ["E max_retries: Invalid Value / The value must be a whole number of at least 0"],
        );
    }
    assert_says(
        json!({"max_retries": 0}),
        &variables([("AWS_MAX_ATTEMPTS", "many")]),
        [
            "E -: Invalid Value / The value of the environment variable \"AWS_MAX_ATTEMPTS\" must \
             be a whole number of at least 0",
        ],
    );
}

/// The source of credentials that a block stands for.
fn source(changes: Json, environment: &Variables) -> Source {
    let resolution = resolve(&block(changes), environment).unwrap();
    let (plan, role) = resolution.session.parts();
    plan.as_ref().unwrap().base.clone().with_role(role)
}

#[test]
fn keys_come_from_the_block_or_from_the_environment_and_are_never_mixed() {
    let environment = variables([
        ("AWS_ACCESS_KEY_ID", "ENV"),
        ("AWS_SECRET_ACCESS_KEY", "env secret"),
        ("AWS_SESSION_TOKEN", "env-token"),
    ]);
    let pair = json!({"access_key": "BLOCK", "secret_key": "block secret"});
    let Source::Static(found) = source(pair, &environment) else {
        panic!("not the block's");
    };
    assert_eq!(found.key.id, "BLOCK");
    assert_eq!(found.key.secret.expose(), "block secret");
    assert!(found.key.session_token.is_none());

    let Source::Environment { keys: found, .. } = source(json!({"access_key": ""}), &environment)
    else {
        panic!("not the environment's");
    };
    assert_eq!(found.key.id, "ENV");
    assert_eq!(found.key.secret.expose(), "env secret");
    assert_eq!(found.key.session_token.unwrap().expose(), "env-token");
}

#[test]
fn the_environments_older_names_are_taken_when_the_new_ones_are_empty() {
    let environment = variables([
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_ACCESS_KEY", "OLD"),
        ("AWS_SECRET_KEY", "old secret"),
    ]);
    let found = source(json!({}), &environment);
    assert_eq!(found.access_key_id(), Some("OLD"));
}

#[test]
fn a_profile_that_is_in_no_file_is_an_error_when_the_store_is_opened() {
    let environment = variables([("HOME", "/h"), ("/h/.aws/config", "[profile a]\n")]);
    let found = resolve(&block(json!({"profile": "b"})), &environment);
    assert_eq!(
        lines(&found.unwrap_err()),
        [
            "E -: failed to get shared config profile, b / Files: /h/.aws/config, /h/.aws/credentials (not there)"
        ]
    );
    assert_says(json!({"profile": "b"}), &environment, []);
}

#[test]
fn a_profiles_settings_count_where_nobody_else_says() {
    let config = "[profile p]\nendpoint_url = http://all\nservices = s\nretry_mode = adaptive\n\
                  max_attempts = 7\n[services s]\ns3 =\n  endpoint_url = http://s3:9000\n";
    let environment = variables([("HOME", "/h"), ("/h/.aws/config", config)]);
    let found = settings(json!({"profile": "p", "max_retries": 0}), &environment);
    let s3 = found.s3_endpoint.unwrap();
    assert_eq!(s3.value, "http://s3:9000");
    assert_eq!(s3.source, "services section of profile p");
    assert_eq!(found.sts_endpoint.unwrap().source, "profile p");
    assert_eq!(found.credential_endpoints.sts.unwrap().authority, "all");
    assert_eq!(found.retry_mode, RetryMode::Adaptive);
    assert_eq!((found.max_attempts, found.credential_attempts), (7, 7));

    let environment = variables([
        ("HOME", "/h"),
        ("/h/.aws/config", config),
        ("AWS_PROFILE", "p"),
        ("AWS_ENDPOINT_URL", "http://env"),
        ("AWS_RETRY_MODE", "standard"),
    ]);
    let found = settings(json!({}), &environment);
    assert_eq!(
        found.s3_endpoint.unwrap().source,
        "environment AWS_ENDPOINT_URL"
    );
    assert_eq!(found.retry_mode, RetryMode::Standard);
    assert_eq!(found.max_attempts, 5);
    let found = settings(json!({"retry_mode": "adaptive"}), &environment);
    assert_eq!(found.retry_mode, RetryMode::Adaptive);

    let ignored = format!(
        "{config}[default]\nignore_configured_endpoint_urls = true\nendpoint_url = http://x\n"
    );
    let environment = variables([("HOME", "/h"), ("/h/.aws/config", &ignored)]);
    assert!(settings(json!({}), &environment).s3_endpoint.is_none());
}

/// STS, STS for profiles, IAM.
fn credential_places(changes: Json, environment: &Variables) -> [ServiceLocation; 3] {
    let found = settings(changes, environment).credential_endpoints;
    [found.sts, found.sts_of_profiles, found.iam].map(Result::unwrap)
}

#[test]
fn sts_is_asked_in_its_own_region() {
    let changes = json!({"sts_region": "us-east-1"});
    let found = credential_places(changes.clone(), &Variables::default());
    assert_eq!(found[0].authority, "sts.us-east-1.amazonaws.com");
    assert_eq!(found[1].authority, "sts.eu-west-1.amazonaws.com");
    assert_eq!(found[2].region, "us-east-1");
    for (variable, region) in [
        ("AWS_ENDPOINT_URL_STS", "us-east-1"),
        ("AWS_STS_ENDPOINT", "us-east-1"),
        ("AWS_ENDPOINT_URL", "eu-west-1"),
    ] {
        let environment = variables([(variable, "http://sts:1")]);
        let found = credential_places(changes.clone(), &environment);
        assert_eq!(found[0].authority, "sts:1");
        assert_eq!(found[0].region, "us-east-1");
        assert_eq!(found[1].region, region, "{variable}");
    }
    assert_says(
        json!({"sts_region": "a.b"}),
        &Variables::default(),
        ["E sts_region: Invalid region value / Invalid AWS Region: a.b"],
    );
}

#[test]
fn a_role_of_the_block_is_on_top_of_whatever_source() {
    let role = json!({
        "role_arn": "arn:aws:iam::1:role/r",
        "duration": "1h30m",
        "external_id": "e:x/y",
        "policy": " {\"a\":1} ",
        "policy_arns": ["arn:aws:iam::1:policy/b", "arn:aws:iam::1:policy/a"],
        "session_name": "n@m",
        "source_identity": "me",
        "tags": {"b": "2", "a": 1},
        "transitive_tag_keys": ["b", "a", "b"],
    });
    let environment = variables([("AWS_ACCESS_KEY_ID", "E"), ("AWS_SECRET_ACCESS_KEY", "E")]);
    let Source::AssumeRole { from, role } = source(json!({"assume_role": role}), &environment)
    else {
        panic!("no role");
    };
    assert_eq!(from.to_string(), "environment AWS_ACCESS_KEY_ID");
    assert_eq!(role.role_arn, "arn:aws:iam::1:role/r");
    assert_eq!(role.duration_seconds, 5400);
    assert_eq!(role.external_id.as_deref(), Some("e:x/y"));
    assert_eq!(role.policy.as_deref(), Some("{\"a\":1}"));
    assert_eq!(
        role.policy_arns,
        ["arn:aws:iam::1:policy/a", "arn:aws:iam::1:policy/b"]
    );
    assert_eq!(role.session_name.as_deref(), Some("n@m"));
    assert_eq!(role.source_identity.as_deref(), Some("me"));
    let tag = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(role.tags, [tag("a", "1"), tag("b", "2")]);
    assert_eq!(role.transitive_tag_keys, ["a", "b"]);
}

#[test]
fn a_role_is_checked_field_by_field_in_terraforms_words() {
    let arn = "arn:aws:iam::1:role/r";
    let characters = "Value can only contain letters, numbers, or the following characters:";
    let policy = "Invalid IAM Policy Document / Expected a JSON object describing the policy";
    for (field, value, expected) in [
        ("duration", json!("13h"), "Invalid Duration / Duration must be between 15m0s and 12h0m0s, had 13h0m0s".to_owned()),
        (
            "duration",
            json!("soon"),
            "Invalid Duration / The value \"soon\" cannot be parsed as a duration: time: invalid duration \"soon\""
                .to_owned(),
        ),
        ("external_id", json!("e"), "Invalid Value Length / Length must be between 2 and 1224, had 1".to_owned()),
        ("external_id", json!("a b"), format!("Invalid Value / {characters} =,.@/-")),
        ("session_name", json!("a:b"), format!("Invalid Value / {characters} =,.@-")),
        ("source_identity", json!("s"), "Invalid Value Length / Length must be between 2 and 64, had 1".to_owned()),
        ("policy", json!(" "), "Invalid Value / The value cannot be empty or all whitespace".to_owned()),
        ("policy", json!("x"), policy.to_owned()),
        ("policy", json!("\"x\""), format!("{policy}, had a JSON-encoded string.")),
        (
            "policy",
            json!("\"p.json\""),
            format!(
                "{policy}, had a JSON-encoded string.\n\nThe string \"p.json\" looks like a filename, please pass the \
                 contents of the file instead of the filename."
            ),
        ),
        (
            "policy",
            json!("\"{}\""),
            format!(
                "{policy}, had a JSON-encoded string.\n\nThe string content was valid JSON, your policy document may \
                 have been double-encoded."
            ),
        ),
        (
            "policy",
            json!("{0"),
            "Invalid JSON Document / The JSON document contains an error: key must be a string at line 1 column 2"
                .to_owned(),
        ),
        (
            "policy_arns",
            json!(["x"]),
            "Invalid ARN / The value \"x\" cannot be parsed as an ARN: arn: invalid prefix".to_owned(),
        ),
        (
            "policy_arns",
            json!([arn]),
            format!("Invalid IAM Policy ARN / Value must be a valid IAM Policy ARN, got {arn:?}"),
        ),
        (
            "role_arn",
            json!("arn:aws"),
            "Invalid ARN / The value \"arn:aws\" cannot be parsed as an ARN: arn: not enough sections".to_owned(),
        ),
        (
            "role_arn",
            json!("arn:aws:iam::1:user/u"),
            "Invalid IAM Role ARN / Value must be a valid IAM Role ARN, got \"arn:aws:iam::1:user/u\"".to_owned(),
        ),
        ("role_arn", json!(""), "Invalid Value / The value cannot be empty or all whitespace".to_owned()),
        (
            "role_arn",
            json!(null),
            format!("Missing Required Value / The attribute \"assume_role.role_arn\" {MISSING}"),
        ),
    ] {
        let mut role = json!({"role_arn": arn});
        role[field] = value;
        let expected = format!("E assume_role.{field}: {expected}");
        assert_says(json!({"assume_role": role}), &Variables::default(), [&expected]);
    }
}

#[test]
fn a_web_identity_has_exactly_one_token_and_the_environment_counts() {
    let arn = "arn:aws:iam::1:role/r";
    let web = |fields: Json| json!({"assume_role_with_web_identity": fields});
    let object = "E assume_role_with_web_identity:";
    let none = format!(
        "{object} Missing Required Value / Exactly one of web_identity_token, web_identity_token_file must be set."
    );
    assert_says(
        web(json!({"role_arn": arn})),
        &Variables::default(),
        [&none],
    );
    let both = format!(
        "{object} Invalid Attribute Combination / Only one of web_identity_token, web_identity_token_file can be set."
    );
    let tokens =
        json!({"role_arn": arn, "web_identity_token": "aaaa", "web_identity_token_file": "/bbb"});
    assert_says(web(tokens), &Variables::default(), [&both]);
    let short = "E assume_role_with_web_identity.web_identity_token: Invalid Value Length / Length must be between 4 and \
                 20000, had 3";
    let token = json!({"role_arn": arn, "web_identity_token": "abc"});
    assert_says(web(token), &Variables::default(), [short]);
    let missing = format!(
        "E assume_role_with_web_identity.role_arn: Missing Required Value / The attribute \
         \"assume_role_with_web_identity.role_arn\" {MISSING}"
    );
    assert_says(
        web(json!({"web_identity_token": "abcd"})),
        &Variables::default(),
        [&missing],
    );

    let environment = variables([
        ("AWS_ROLE_ARN", arn),
        ("AWS_ROLE_SESSION_NAME", "env"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "~/token"),
        ("HOME", "/h"),
    ]);
    let Source::WebIdentity(found) = source(web(json!({})), &environment) else {
        panic!("no web identity");
    };
    assert_eq!(found.role_arn, arn);
    assert_eq!(found.session_name.as_deref(), Some("env"));
    assert!(matches!(found.token, Token::File(path) if path == "/h/token"));
    assert_eq!(found.duration_seconds, None);
    let fields = json!({"role_arn": "arn:aws:iam::2:role/s", "web_identity_token": "abcd", "session_name": "own"});
    let Source::WebIdentity(found) = source(web(fields), &environment) else {
        panic!("no web identity");
    };
    assert_eq!(found.role_arn, "arn:aws:iam::2:role/s");
    assert_eq!(found.session_name.as_deref(), Some("own"));
    assert!(matches!(found.token, Token::Inline(_)));
}

#[test]
fn the_older_spelling_of_a_role_is_taken_with_one_warning() {
    let changes = json!({
        "role_arn": "not checked",
        "external_id": "x",
        "assume_role_duration_seconds": "1000",
        "assume_role_policy": " p ",
        "assume_role_tags": {"k": "v"},
    });
    let list = "  * assume_role_duration_seconds -> assume_role.duration\n  \
                * assume_role_policy           -> assume_role.policy\n  \
                * assume_role_tags             -> assume_role.tags\n  \
                * external_id                  -> assume_role.external_id\n  \
                * role_arn                     -> assume_role.role_arn\n";
    let warning = format!(
        "W -: Deprecated Parameters / The following parameters have been deprecated. Replace them as follows:\n{list}"
    );
    assert_says(changes.clone(), &Variables::default(), [&warning]);
    let Source::AssumeRole { role, .. } = source(changes.clone(), &Variables::default()) else {
        panic!("no role");
    };
    assert_eq!(role.role_arn, "not checked");
    assert_eq!(role.duration_seconds, 1000);
    assert_eq!(role.policy.as_deref(), Some("p"));

    let mut both = changes;
    both["assume_role"] = json!({"role_arn": "arn:aws:iam::1:role/r"});
    let error = format!(
        "E -: Conflicting Parameters / The following deprecated parameters conflict with the parameter \"assume_role\". \
         Replace them as follows:\n{list}"
    );
    assert_says(both, &Variables::default(), [&error]);
    let lonely = source(json!({"session_name": "n"}), &Variables::default());
    assert_eq!(
        lonely.to_string(),
        "EC2 instance metadata service",
        "without role_arn it does nothing"
    );
}

#[test]
fn the_rest_of_the_arguments_for_credentials_is_checked_in_terraforms_words() {
    for (changes, expected) in [
        (
            json!({"use_legacy_workflow": false}),
            "W use_legacy_workflow: Deprecated Parameter / The parameter \"use_legacy_workflow\" is deprecated. The \
             ability to override the default credential chain ordering will be removed in a future minor version.",
        ),
        (
            json!({"shared_credentials_file": "/x"}),
            "W shared_credentials_file: Deprecated Parameter / The parameter \"shared_credentials_file\" is deprecated. \
             Use parameter \"shared_credentials_files\" instead.",
        ),
        (
            json!({"allowed_account_ids": ["1"], "forbidden_account_ids": ["2"]}),
            "E -: Invalid Attribute Combination / Only one of allowed_account_ids, forbidden_account_ids can be set.",
        ),
        (
            json!({"retry_mode": "bogus"}),
            "E retry_mode: Invalid Value / unknown RetryMode, bogus",
        ),
        (
            json!({"ec2_metadata_service_endpoint_mode": "ipv4"}),
            "E ec2_metadata_service_endpoint_mode: Invalid Value / Value must be one of [IPv4, IPv6]",
        ),
        (
            json!({"ec2_metadata_service_endpoint": "h"}),
            "E ec2_metadata_service_endpoint: Invalid Value / The value must be a valid URL containing at least a scheme \
             and hostname. Had \"h\"",
        ),
        (
            json!({"endpoints": {"sso": "h"}}),
            "E endpoints.sso: Invalid Value / The value must be a valid URL containing at least a scheme and hostname. \
             Had \"h\"",
        ),
        (
            json!({"allowed_account_ids": "1"}),
            "E allowed_account_ids: Incorrect attribute value type / Inappropriate value for attribute \
             \"allowed_account_ids\": set of string required.",
        ),
    ] {
        assert_says(changes, &Variables::default(), [expected]);
    }
    let found = resolve(&block(json!({})), &variables([("AWS_RETRY_MODE", "x")]));
    assert_eq!(
        lines(&found.unwrap_err()),
        ["E -: Invalid Value / invalid AWS_RETRY_MODE value, unknown RetryMode, x"]
    );
}

#[test]
fn half_a_pair_in_the_block_is_an_error_even_with_a_pair_in_the_environment() {
    let environment = variables([("AWS_ACCESS_KEY_ID", "E"), ("AWS_SECRET_ACCESS_KEY", "E")]);
    let missing = |name: &str| {
        format!(
            "E {name}: No valid credential sources found / Static credentials are incomplete: \
             \"access_key\" and \"secret_key\" must be set together, and \"token\" only with \
             both. \"{name}\" is not set."
        )
    };
    assert_says(
        json!({"access_key": "A"}),
        &environment,
        [&missing("secret_key")],
    );
    assert_says(
        json!({"secret_key": "A"}),
        &environment,
        [&missing("access_key")],
    );
    assert_says(
        json!({"token": "A", "access_key": ""}),
        &environment,
        [&missing("access_key"), &missing("secret_key")],
    );
}

#[test]
fn what_cannot_stand_in_a_header_is_refused() {
    let rule = "must be printable ASCII characters without blanks";
    for value in ["a\n", "a b", "é"] {
        assert_says(
            json!({"acl": value, "access_key": value, "secret_key": "x", "token": value}),
            &Variables::default(),
            ["access_key", "token", "acl"]
                .map(|name| format!("E {name}: Invalid Value / The value {rule}"))
                .each_ref()
                .map(String::as_str),
        );
        assert_says(
            json!({}),
            &variables([
                ("AWS_ACCESS_KEY_ID", value),
                ("AWS_SECRET_ACCESS_KEY", "x"),
                ("AWS_SESSION_TOKEN", value),
            ]),
            ["AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"]
                .map(|name| {
                    format!(
                        "E -: Invalid Value / The value of the environment variable \
                             \"{name}\" {rule}"
                    )
                })
                .each_ref()
                .map(String::as_str),
        );
    }
    assert_says(
        json!({}),
        &variables([("TF_APPEND_USER_AGENT", "a\r\nx-evil: 1")]),
        [
            "W -: User agent not extended / The value of the environment variable \
             \"TF_APPEND_USER_AGENT\" has characters that a header cannot carry. It is left out \
             of the user agent.",
        ],
    );
}

#[test]
fn the_user_agent_is_extended_as_the_environment_says() {
    for (value, suffix) in [
        (" run/1 (ci) ", Some("run/1 (ci)")),
        ("  ", None),
        ("", None),
    ] {
        let found = settings(json!({}), &variables([("TF_APPEND_USER_AGENT", value)]));
        assert_eq!(found.user_agent_suffix.as_deref(), suffix);
    }
    let profile = ("/f", "[default]\nsdk_ua_app_id = from file\n");
    let files = json!({"shared_config_files": ["/f"]});
    let place = ("AWS_EXECUTION_ENV", "AWS/ECS\n1");
    for (environment, suffix) in [
        (variables([profile]), "app/from-file"),
        (variables([profile, ("AWS_SDK_UA_APP_ID", "é")]), "app/-"),
        (
            variables([profile, place, ("TF_APPEND_USER_AGENT", "run/1")]),
            "exec-env/AWS-ECS-1 app/from-file run/1",
        ),
    ] {
        let found = settings(files.clone(), &environment);
        assert_eq!(found.user_agent_suffix.as_deref(), Some(suffix));
    }
}

/// Endpoints of S3, DynamoDB, STS and IAM.
fn hosts(changes: Json, environment: &Variables) -> [String; 4] {
    let mut with_table = json!({"dynamodb_table": "t"});
    for (name, value) in changes.as_object().unwrap() {
        with_table[name] = value.clone();
    }
    let found = settings(with_table, environment);
    let known = &found.credential_endpoints;
    [
        found.bucket_location().authority,
        found.dynamodb_location().authority,
        known.sts.as_ref().unwrap().authority.clone(),
        known.iam.as_ref().unwrap().authority.clone(),
    ]
}

const PLAIN_HOSTS: [&str; 4] = [
    "states.s3.eu-west-1.amazonaws.com",
    "dynamodb.eu-west-1.amazonaws.com",
    "sts.eu-west-1.amazonaws.com",
    "iam.amazonaws.com",
];
const FIPS_HOSTS: [&str; 4] = [
    "states.s3-fips.eu-west-1.amazonaws.com",
    "dynamodb-fips.eu-west-1.amazonaws.com",
    "sts-fips.eu-west-1.amazonaws.com",
    "iam-fips.amazonaws.com",
];
const DUAL_HOSTS: [&str; 4] = [
    "states.s3.dualstack.eu-west-1.amazonaws.com",
    "dynamodb.eu-west-1.api.aws",
    "sts.eu-west-1.api.aws",
    "iam.global.api.aws",
];
const FIPS: &str = "AWS_USE_FIPS_ENDPOINT";
const DUAL: &str = "AWS_USE_DUALSTACK_ENDPOINT";

#[test]
fn fips_and_dualstack_come_from_block_environment_and_profile_in_this_order() {
    let file = |text: &'static str| ("/f", text);
    let on = "[default]\nuse_fips_endpoint = TRUE\n";
    let none = Variables::default();
    let files = json!({"shared_config_files": ["/f"]});
    let with = |name: &str, value: bool| {
        let mut changes = files.clone();
        changes[name] = value.into();
        changes
    };
    for (changes, environment, expected) in [
        (json!({}), none, PLAIN_HOSTS),
        (with("use_fips_endpoint", true), variables([]), FIPS_HOSTS),
        (
            with("use_dualstack_endpoint", true),
            variables([]),
            DUAL_HOSTS,
        ),
        (json!({}), variables([(FIPS, "True")]), FIPS_HOSTS),
        (json!({}), variables([(DUAL, "true")]), DUAL_HOSTS),
        (files.clone(), variables([file(on)]), FIPS_HOSTS),
        (
            files.clone(),
            variables([file("[default]\nuse_dualstack_endpoint = true\n")]),
            DUAL_HOSTS,
        ),
        // The profile's word is the last one, and what is not `true` there is false.
        (
            files.clone(),
            variables([file(on), (FIPS, "false")]),
            PLAIN_HOSTS,
        ),
        (
            files.clone(),
            variables([file("[default]\nuse_fips_endpoint = 1\n")]),
            PLAIN_HOSTS,
        ),
        // An argument that is false takes nothing back.
        (
            with("use_fips_endpoint", false),
            variables([(FIPS, "true")]),
            FIPS_HOSTS,
        ),
        (
            with("use_fips_endpoint", false),
            variables([file(on)]),
            FIPS_HOSTS,
        ),
        (
            with("use_fips_endpoint", true),
            variables([(FIPS, "false")]),
            FIPS_HOSTS,
        ),
    ] {
        assert_eq!(hosts(changes.clone(), &environment), expected, "{changes}");
    }
}

#[test]
fn a_variable_for_fips_or_dualstack_is_true_or_false() {
    for name in [FIPS, DUAL] {
        for changes in [json!({}), json!({"endpoints.s3": "http://h"})] {
            let expected = format!(
                "E -: Invalid Value / invalid value for environment variable, {name}=1, need true, false"
            );
            assert_says(changes, &variables([(name, "1")]), [&expected]);
        }
    }
}

#[test]
fn a_region_of_the_environment_may_order_fips() {
    let environment = variables([("AWS_REGION", "fips-eu-west-1")]);
    let changes = json!({"region": null, "dynamodb_table": "t"});
    let found = settings(changes.clone(), &environment);
    assert_eq!(hosts(changes, &environment), FIPS_HOSTS);
    assert_eq!(found.region.value, "eu-west-1");
    assert_eq!(found.bucket_location().region, "eu-west-1");
    assert_eq!(found.dynamodb_location().region, "eu-west-1");
    assert_eq!(found.credential_endpoints.sts.unwrap().region, "eu-west-1");
}

#[test]
fn an_endpoint_for_all_services_excludes_fips_and_dualstack() {
    let table = "dynamodb_table";
    let deprecated = deprecated(table, "use_lockfile");
    let refused = |reason: &str, service: &str, from: &str| {
        format!(
            "E -: Invalid endpoint configuration / {reason}\n\nThe endpoint of {service} is the {from}. One that \
             the block names, by \"endpoints.{service}\", is used as it is."
        )
    };
    let variable = "environment variable \"AWS_ENDPOINT_URL\"";
    for (name, of_s3, of_table) in [
        (
            FIPS,
            "A custom endpoint cannot be combined with FIPS",
            "Invalid Configuration: FIPS and custom endpoint are not supported",
        ),
        (
            DUAL,
            "Cannot set dual-stack in combination with a custom endpoint.",
            "Invalid Configuration: Dualstack and custom endpoint are not supported",
        ),
    ] {
        let all = [("AWS_ENDPOINT_URL", "http://h"), (name, "true")];
        let of_s3 = refused(of_s3, "s3", variable);
        let of_table = refused(of_table, "dynamodb", variable);
        assert_says_at_open(json!({}), &variables(all), [&of_s3]);
        assert_says_at_open(
            json!({table: "t"}),
            &variables(all),
            [&deprecated, &of_s3, &of_table],
        );
        // One that is named for its service is taken as it is.
        let own = json!({"endpoints": {"s3": "http://h", "dynamodb": "http://h"}, table: "t"});
        assert_says_at_open(own, &variables(all), [&deprecated]);
        for variable in ["AWS_S3_ENDPOINT", "AWS_ENDPOINT_URL_DYNAMODB"] {
            let own = variables([(variable, "http://h"), (name, "true")]);
            settings(json!({table: "t"}), &own);
        }
        let ignored = ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true");
        assert_says_at_open(json!({}), &variables([all[0], all[1], ignored]), []);
        // S3's own variable is read by Terraform and by the SDK.
        let own = [("AWS_ENDPOINT_URL_S3", "http://h"), (name, "true")];
        let of_s3 = of_s3.replace("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3");
        assert_says_at_open(json!({}), &variables(own), [&of_s3]);
        assert_says_at_open(json!({}), &variables([own[0], own[1], ignored]), []);
    }
    let profile = "[default]\nendpoint_url = http://h\nuse_fips_endpoint = true\n";
    let expected = refused(
        "A custom endpoint cannot be combined with FIPS",
        "s3",
        "endpoint_url of profile \"default\"",
    );
    let files = json!({"shared_config_files": ["/f"]});
    assert_says_at_open(files, &variables([("/f", profile)]), [&expected]);
}

#[test]
fn what_is_never_asked_may_be_nowhere() {
    // STS has the endpoint of all services, S3 its own: only a call of STS would fail.
    let all = [("AWS_ENDPOINT_URL", "http://h"), (FIPS, "true")];
    let own = json!({"endpoints.s3": "http://h"});
    let found = settings(own, &variables(all)).credential_endpoints;
    let reason = "Invalid Configuration: FIPS and custom endpoint are not supported";
    assert_eq!(found.sts.unwrap_err(), reason);
    assert_eq!(found.iam.unwrap_err(), reason);
}

#[test]
fn there_is_no_fips_where_the_partition_has_none() {
    let changes = json!({"region": "cn-north-1", "use_fips_endpoint": true});
    let expected = "E -: Invalid endpoint configuration / Partition does not support FIPS\n\nThis is about s3 in \
                    the region cn-north-1 (argument region), with use_fips_endpoint or use_dualstack_endpoint from \
                    the block, the environment or the profile.";
    assert_says_at_open(changes, &Variables::default(), [expected]);
}

#[test]
fn an_access_point_has_endpoints_of_all_variants() {
    let arn = "arn:aws:s3:us-west-2:123456789012:accesspoint/states";
    for (fips, dualstack, kind) in [
        (false, false, ""),
        (true, false, "-fips"),
        (false, true, ".dualstack"),
        (true, true, "-fips.dualstack"),
    ] {
        let found = location(json!({
            "bucket": arn, "region": "us-west-2", "use_fips_endpoint": fips,
            "use_dualstack_endpoint": dualstack,
        }));
        assert_eq!(
            found.url(),
            format!("https://states-123456789012.s3-accesspoint{kind}.us-west-2.amazonaws.com")
        );
        assert_eq!(found.region, "us-west-2");
    }
}

#[test]
fn iam_identity_center_has_endpoints_of_all_variants() {
    let file = "[default]\nsso_region = ap-south-1\nsso_start_url = https://s\nsso_account_id = 1\n\
                sso_role_name = r\nuse_fips_endpoint = true\n";
    let environment = variables([("/f", file), ("HOME", "/h"), (DUAL, "true")]);
    let config = block(json!({"shared_config_files": ["/f"]}));
    let found = resolve(&config, &environment).unwrap();
    let plan = found.session.parts().0.as_ref().unwrap();
    let sso = plan.base.sso().unwrap();
    assert_eq!(
        sso.portal.value.authority,
        "portal.sso-fips.ap-south-1.api.aws"
    );
    assert_eq!(sso.oidc.authority, "oidc-fips.ap-south-1.api.aws");
    let explained: Json = serde_json::from_str(&explain(&config, &environment).unwrap()).unwrap();
    assert_eq!(explained["endpoints"]["sso"]["source"], "default");
    assert_eq!(
        explained["endpoints"]["s3"]["url"],
        "https://s3-fips.dualstack.eu-west-1.amazonaws.com"
    );
}

#[test]
fn defaults_are_those_of_the_table() {
    let found = settings(json!({}), &Variables::default());
    assert_eq!(found.workspace_key_prefix, "env:");
    assert_eq!(found.max_attempts, 5);
    assert!(
        !found.use_path_style
            && !found.use_lockfile
            && !matches!(found.encryption, Encryption::Aes256)
            && !found.skip_s3_checksum
    );
    assert_eq!((found.acl, found.user_agent_suffix), (None, None));

    let found = settings(
        json!({
            "workspace_key_prefix": "", "use_path_style": true, "use_lockfile": true, "encrypt": true,
            "skip_s3_checksum": true, "acl": "bucket-owner-full-control",
        }),
        &Variables::default(),
    );
    assert_eq!(found.workspace_key_prefix, "");
    assert!(
        found.use_path_style
            && found.use_lockfile
            && matches!(found.encryption, Encryption::Aes256)
            && found.skip_s3_checksum
    );
    assert_eq!(found.acl.as_deref(), Some("bucket-owner-full-control"));
}

#[test]
fn a_bucket_is_where_its_name_and_the_endpoint_put_it() {
    for (changes, addressing, url) in [
        (
            json!({}),
            "virtual",
            "https://states.s3.eu-west-1.amazonaws.com",
        ),
        (
            json!({"region": "cn-north-1"}),
            "virtual",
            "https://states.s3.cn-north-1.amazonaws.com.cn",
        ),
        (
            json!({"region": "us-iso-east-1"}),
            "virtual",
            "https://states.s3.us-iso-east-1.c2s.ic.gov",
        ),
        (
            json!({"use_path_style": true}),
            "path",
            "https://s3.eu-west-1.amazonaws.com/states",
        ),
        (
            json!({"bucket": "a.states"}),
            "path",
            "https://s3.eu-west-1.amazonaws.com/a.states",
        ),
        (
            json!({"bucket": "My_States"}),
            "path",
            "https://s3.eu-west-1.amazonaws.com/My_States",
        ),
        (
            json!({"bucket": "ab"}),
            "path",
            "https://s3.eu-west-1.amazonaws.com/ab",
        ),
        (
            json!({"bucket": "a/b?c d"}),
            "path",
            "https://s3.eu-west-1.amazonaws.com/a%2Fb%3Fc%20d",
        ),
        (
            json!({"bucket": "a.states", "endpoints.s3": "http://h:9000"}),
            "virtual",
            "http://a.states.h:9000",
        ),
        (
            json!({"bucket": "10.0.0.1", "endpoints.s3": "http://h:9000"}),
            "path",
            "http://h:9000/10.0.0.1",
        ),
        (
            json!({"endpoints.s3": "https://h:443/base/"}),
            "virtual",
            "https://states.h/base",
        ),
        (
            json!({"endpoints.s3": "https://h/base/", "use_path_style": true}),
            "path",
            "https://h/base/states",
        ),
        (
            json!({"endpoints.s3": "http://127.0.0.1:9000"}),
            "path",
            "http://127.0.0.1:9000/states",
        ),
        (
            json!({"endpoints.s3": "http://[::1]:9000/"}),
            "path",
            "http://[::1]:9000/states",
        ),
    ] {
        let found = location(changes.clone());
        assert_eq!(
            (found.addressing, found.url().as_str()),
            (addressing, url),
            "{changes}"
        );
        assert_eq!(
            found.url(),
            format!(
                "{}://{}{}",
                found.scheme, found.authority, found.path_prefix
            )
        );
        assert!(!found.path_prefix.ends_with('/') && !found.reason.is_empty());
    }
}

#[test]
fn an_access_point_is_reached_in_its_own_region() {
    let arn = "arn:aws:s3:us-west-2:123456789012:accesspoint/states";
    let across = variables([("AWS_S3_USE_ARN_REGION", "TRUE")]);
    for bucket in [arn, &arn.replace('/', ":")] {
        let found = settings(json!({"bucket": bucket}), &across).bucket_location();
        assert_eq!(
            found.url(),
            "https://states-123456789012.s3-accesspoint.us-west-2.amazonaws.com"
        );
        assert_eq!(
            (found.region.as_str(), found.addressing),
            ("us-west-2", "virtual")
        );
    }
    let found = location(json!({
        "bucket": arn, "region": "us-west-2", "endpoints.s3": "https://h/p",
    }));
    assert_eq!(found.url(), "https://states-123456789012.h/p");
}

#[test]
fn an_access_point_of_another_region_needs_leave() {
    let arn = "arn:aws:s3:us-west-2:123456789012:accesspoint/states";
    let expected = "E bucket: Invalid Value / Invalid configuration: region from ARN `us-west-2` does not match client \
                    region `eu-west-1` and UseArnRegion is `false`\n\nFor an access point in another region, set \
                    AWS_S3_USE_ARN_REGION=true, or s3_use_arn_region = true in the profile.";
    let switch = "AWS_S3_USE_ARN_REGION";
    let profile = ("/f", "[default]\ns3_use_arn_region = true\n");
    let changes = json!({"bucket": arn, "shared_config_files": ["/f"]});
    for environment in [
        variables([]),
        variables([(switch, "false")]),
        variables([profile, (switch, "false")]),
    ] {
        assert_says_at_open(changes.clone(), &environment, [expected]);
    }
    let found = settings(changes.clone(), &variables([profile]));
    assert_eq!(found.bucket_location().region, "us-west-2");
    // Without the profile nobody can tell.
    assert_says(changes, &variables([profile]), []);
    let same = json!({"bucket": arn, "region": null});
    assert_says_at_open(same, &variables([("AWS_REGION", "fips-us-west-2")]), []);
    let wrong = "E -: Invalid Value / invalid value for environment variable, AWS_S3_USE_ARN_REGION=1, need true or false";
    assert_says_at_open(json!({}), &variables([(switch, "1")]), [wrong]);
}

#[test]
fn an_access_point_of_another_partition_is_refused() {
    let arn = "arn:aws-cn:s3:cn-north-1:123456789012:accesspoint/states";
    let expected = format!(
        "E bucket: Invalid Value / Client was configured for partition `aws` but ARN (`{arn}`) has `aws-cn`"
    );
    let across = variables([("AWS_S3_USE_ARN_REGION", "true")]);
    assert_says_at_open(json!({"bucket": arn}), &across, [&expected]);
}

#[test]
fn a_bucket_that_cannot_be_addressed_is_refused() {
    let arn = "arn:aws:s3:us-west-2:123456789012:accesspoint/states";
    let other = "The only ARN that can stand for a bucket is one of an access point, such as \
                 \"arn:aws:s3:eu-west-1:123456789012:accesspoint/states\".";
    for (changes, detail) in [
        (
            json!({"bucket": arn, "use_path_style": true}),
            "Path-style addressing cannot be used with ARN buckets",
        ),
        (
            json!({"bucket": "arn:aws:s3::123456789012:accesspoint/abc.mrap"}),
            "Multi-Region Access Points are not supported yet.",
        ),
        (
            json!({"bucket": "states--use1-az4--x-s3"}),
            "Directory buckets (S3 Express One Zone) are not supported yet.",
        ),
        (
            json!({"bucket": "arn:aws:s3:eu-west-1:1:accesspoint/evil.example/"}),
            other,
        ),
        (json!({"bucket": "arn:aws:sns:eu-west-1:1:topic"}), other),
    ] {
        let expected = format!("E bucket: Invalid Value / {detail}");
        assert_says(changes, &Variables::default(), [&expected]);
    }
}

#[test]
fn explain_tells_each_value_and_its_source() {
    let environment = variables([
        ("AWS_REGION", "eu-north-1"),
        ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "canary"),
        ("AWS_PROFILE", "work"),
        ("HOME", "/h"),
        ("/h/.aws/config", "[profile work]\n"),
    ]);
    let changes = json!({"region": null, "use_lockfile": true, "encrypt": true});
    let found = explain(&block(changes), &environment).unwrap();
    let found: Json = serde_json::from_str(&found).unwrap();
    assert_eq!(
        found,
        json!({
            "format_version": "1",
            "region": {"value": "eu-north-1", "source": "environment AWS_REGION"},
            "endpoints": {
                "s3": {
                    "url": "https://s3.eu-north-1.amazonaws.com",
                    "signing_region": "eu-north-1",
                    "source": "default",
                },
                "dynamodb": null,
                "sts": {
                    "url": "https://sts.eu-north-1.amazonaws.com",
                    "signing_region": "eu-north-1",
                    "source": "default",
                },
                "iam": {
                    "url": "https://iam.amazonaws.com",
                    "signing_region": "us-east-1",
                    "source": "default",
                },
                "sso": null,
            },
            "bucket_url": "https://states.s3.eu-north-1.amazonaws.com",
            "addressing": "virtual",
            "addressing_reason": "the bucket's name can be part of a host name",
            "credentials": {
                "source": "environment AWS_ACCESS_KEY_ID",
                "access_key_id": "AKIAEXAMPLE",
                "profile": null,
                "passed_over": [
                    {"source": "environment AWS_PROFILE", "reason": "keys in the environment come first"},
                ],
                "files": ["/h/.aws/config", "/h/.aws/credentials (not there)"],
            },
            "retry": {"mode": "standard", "max_attempts": 5},
            "locking": {"lockfile": true, "dynamodb_table": null},
            "encryption": {"mode": "AES256", "kms_key_id": null, "note": null},
            "tags": {"state": null, "lock": null},
            "diagnostics": [],
        })
    );
}

#[test]
fn explain_tells_where_an_access_point_is_asked() {
    let point = "arn:aws:s3:eu-west-1:123456789012:accesspoint/states";
    let own = json!("http://h:9000/p");
    for (endpoint, url, source) in [
        (
            Json::Null,
            "https://s3-accesspoint.eu-west-1.amazonaws.com",
            "default",
        ),
        (own, "http://h:9000/p", "argument endpoints.s3"),
    ] {
        let changes = json!({"bucket": point, "endpoints": {"s3": endpoint}});
        let found = explain(&block(changes), &Variables::default()).unwrap();
        let found: Json = serde_json::from_str(&found).unwrap();
        let expected = json!({"url": url, "signing_region": "eu-west-1", "source": source});
        assert_eq!(found["endpoints"]["s3"], expected);
    }
}

#[test]
fn explain_tells_what_was_passed_over_and_why() {
    let pair = json!({"access_key": "A", "secret_key": "S"});
    for (changes, environment, expected) in [
        (
            pair.clone(),
            variables([("AWS_ACCESS_KEY_ID", "E"), ("AWS_SECRET_ACCESS_KEY", "E")]),
            json!([{"source": "environment AWS_ACCESS_KEY_ID", "reason": "the block's own keys come first"}]),
        ),
        (
            pair,
            variables([("AWS_SECRET_KEY", "E")]),
            json!([{"source": "environment AWS_SECRET_KEY", "reason": "the block's own keys come first"}]),
        ),
        (
            json!({}),
            variables([("AWS_ACCESS_KEY_ID", "E")]),
            json!([{"source": "environment AWS_ACCESS_KEY_ID", "reason": "AWS_SECRET_ACCESS_KEY \
                 is not set"}]),
        ),
        (
            json!({}),
            variables([("AWS_SECRET_ACCESS_KEY", "E")]),
            json!([{"source": "environment AWS_SECRET_ACCESS_KEY", "reason": "AWS_ACCESS_KEY_ID is not set"}]),
        ),
    ] {
        let found = explain(&block(changes), &environment).unwrap();
        let found: Json = serde_json::from_str(&found).unwrap();
        assert_eq!(found["credentials"]["passed_over"], expected);
    }
}

#[test]
fn explain_gives_the_warnings_and_refuses_what_is_wrong() {
    let changes = json!({"endpoint": "http://h"});
    let found = explain(&block(changes), &Variables::default()).unwrap();
    let found: Json = serde_json::from_str(&found).unwrap();
    let summaries: Vec<_> = found["diagnostics"].as_array().unwrap().iter().collect();
    assert_eq!(summaries.len(), 1);
    assert_eq!(summaries[0]["summary"], "Deprecated Parameter");
    assert_eq!(summaries[0]["severity"], "warning");
    assert_eq!(summaries[0]["attribute"], "endpoint");
    assert_eq!(found["endpoints"]["s3"]["source"], "argument endpoint");
    assert_eq!(found["encryption"]["mode"], "none");

    let wrong = block(json!({"bucket": null}));
    let expected = validate(&wrong, &Variables::default());
    assert_eq!(
        explain(&wrong, &Variables::default()).unwrap_err(),
        expected
    );
}

#[test]
fn no_secret_shows_up_in_settings_diagnostics_or_explanations() {
    let changes = json!({
        "access_key": "AKIA", "secret_key": "canary-1", "token": "canary-2",
        "endpoints.s3": "https://user:canary-3@h?canary-4", "encrypt": true,
        "sse_customer_key": "canarycanarycanarycanarycanarycanarycanaryY=",
    });
    let environment = variables([
        ("AWS_ACCESS_KEY_ID", "AKIB"),
        ("AWS_SECRET_ACCESS_KEY", "canary-5"),
        ("AWS_SESSION_TOKEN", "canary-6"),
        (
            "AWS_SSE_CUSTOMER_KEY",
            "canarycanarycanarycanarycanarycanarycanaryY=",
        ),
    ]);
    for changes in [changes, json!({}), json!({"encrypt": true})] {
        let config = block(changes);
        let resolved = resolve(&config, &environment).unwrap();
        assert!(format!("{resolved:?}").contains("Secret(…)"));
        let explained = explain(&config, &environment).unwrap();
        for shown in [format!("{resolved:#?}"), explained] {
            assert!(!shown.contains("canary"), "{shown}");
        }
    }
    for broken in [
        json!({"secret_key": "canary"}),
        json!({"secret_key": ["canary"], "token": {"a": "canary"}, "access_key": "A"}),
        json!({"access_key": "A", "secret_key": "canary", "token": "canary\n"}),
        json!({"sse_customer_key": "canary", "http_proxy": "http://u:canary@h", "key": ""}),
        json!({"sse_customer_key": ["canary"], "encrypt": true}),
        json!({"sse_customer_key": "canary-canarycanarycanarycanarycanarycanary=", "encrypt": true}),
        json!({"secret_keys": "canary"}),
    ] {
        let found = validate(&block(broken.clone()), &environment);
        assert!(!found.is_empty(), "{broken}");
        assert!(
            !format!("{found:?}").contains("canary"),
            "{broken}: {found:#?}"
        );
    }
}

#[test]
fn the_schema_is_json_with_every_argument() {
    let schema: Json = serde_json::from_str(&schema_json()).unwrap();
    let rows = schema.as_array().unwrap();
    assert_eq!(rows.len(), SCHEMA.len());
    let row = |name: &str| rows.iter().find(|row| row["name"] == name).unwrap();
    assert_eq!(row("bucket")["required"], true);
    assert_eq!(row("workspace_key_prefix")["default"], "env:");
    assert_eq!(row("max_retries")["default"], 5);
    assert_eq!(row("use_lockfile")["default"], false);
    assert_eq!(row("skip_metadata_api_check")["default"], Json::Null);
    assert_eq!(
        row("region")["environment"],
        json!(["AWS_REGION", "AWS_DEFAULT_REGION"])
    );
    assert_eq!(row("secret_key")["sensitive"], true);
    assert_eq!(row("endpoint")["deprecated"], "endpoints.s3");
    assert_eq!(row("assume_role.tags")["type"], "map(string)");
    assert_eq!(
        row("use_fips_endpoint")["environment"],
        json!(["AWS_USE_FIPS_ENDPOINT"])
    );
}

#[test]
fn the_table_is_sound() {
    let names: BTreeSet<_> = SCHEMA.iter().map(|it| it.name).collect();
    assert_eq!(names.len(), SCHEMA.len(), "a name stands twice");
    for argument in SCHEMA {
        let name = argument.name;
        assert!(argument.documentation.ends_with('.'), "{name}");
        let default_fits = match argument.default {
            None => true,
            Some(Value::Bool(_)) => argument.kind == Kind::Bool,
            Some(Value::Number(_)) => argument.kind == Kind::Number,
            Some(Value::Text(_)) => argument.kind == Kind::String,
        };
        assert!(default_fits, "{name}");
        for other in argument.conflicts.iter().chain(&argument.deprecated) {
            assert!(names.contains(other), "{name}: {other}");
        }
        if let Some((object, _)) = name.split_once('.') {
            let object = SCHEMA.iter().find(|it| it.name == object).unwrap();
            assert_eq!(object.kind, Kind::Object, "{name}");
        }
    }
}
