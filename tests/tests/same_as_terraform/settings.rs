//! Cases about everything but credentials: regions, endpoints, addressing, proxies, and what is refused.

use cofferdam_tests::credential_services::{Operation, Reply};
use serde_json::{Value, json};

use super::bench::{Case, case};

pub fn cases() -> Vec<Case> {
    let groups = [
        regions(),
        endpoints(),
        endpoints_in_files(),
        addressing(),
        transport(),
        types(),
        validation(),
        retries(),
    ];
    groups.into_iter().flatten().collect()
}

/// With keys in the environment, and these arguments.
fn with(name: &'static str, arguments: Value) -> Case {
    case(name).env_keys("AKIAENV").block(arguments)
}

const ROLE: &str = "arn:aws:iam::123456789012:role/one";

const PROFILE_WITH_REGION: &str = "[default]\nregion = us-west-2\n";

fn regions() -> Vec<Case> {
    vec![
        with("AWS_REGION", json!({"region": null})).env("AWS_REGION", "us-west-2"),
        with("AWS_DEFAULT_REGION", json!({"region": null})).env("AWS_DEFAULT_REGION", "us-west-2"),
        with(
            "AWS_REGION before AWS_DEFAULT_REGION",
            json!({"region": null}),
        )
        .env("AWS_REGION", "us-west-2")
        .env("AWS_DEFAULT_REGION", "us-east-2"),
        with("the argument region before the environment", json!({}))
            .env("AWS_REGION", "us-west-2"),
        with("no region", json!({"region": null})),
        with("a region in a profile only", json!({"region": null})).config(PROFILE_WITH_REGION),
        with("an empty region", json!({"region": ""})),
        with("an unknown region", json!({"region": "moon-east-1"})),
        with(
            "an unknown region in the environment",
            json!({"region": null}),
        )
        .env("AWS_REGION", "moon-east-1"),
        with(
            "skip_region_validation",
            json!({"region": "moon-east-1", "skip_region_validation": true}),
        ),
        with("China", json!({"region": "cn-north-1"})),
        with("GovCloud", json!({"region": "us-gov-west-1"})),
        with("sts_region", json!({"sts_region": "us-west-2"})),
    ]
}

fn endpoints() -> Vec<Case> {
    let stub = "http://elsewhere.example:8080";
    vec![
        with(
            "endpoints",
            json!({"endpoints": {"s3": stub, "sts": "https://sts.example"}, "use_path_style": true}),
        ),
        with(
            "endpoints with another region for STS",
            json!({"endpoints": {"sts": "https://sts.example"}, "sts_region": "us-west-2"}),
        ),
        with("endpoint", json!({"endpoint": stub})),
        with(
            "endpoint and endpoints.s3",
            json!({"endpoint": stub, "endpoints": {"s3": stub}}),
        ),
        with(
            "sts_endpoint and iam_endpoint",
            json!({
                "sts_endpoint": "https://sts.example", "iam_endpoint": "https://iam.example",
            }),
        ),
        with("AWS_ENDPOINT_URL_S3", json!({})).env("AWS_ENDPOINT_URL_S3", stub),
        with(
            "endpoints.s3 before AWS_ENDPOINT_URL_S3",
            json!({"endpoints": {"s3": "http://argument.example"}}),
        )
        .env("AWS_ENDPOINT_URL_S3", stub),
        with("AWS_S3_ENDPOINT", json!({})).env("AWS_S3_ENDPOINT", stub),
        with("AWS_ENDPOINT_URL_S3 before AWS_S3_ENDPOINT", json!({}))
            .env("AWS_S3_ENDPOINT", "http://older.example")
            .env("AWS_ENDPOINT_URL_S3", stub),
        with("AWS_STS_ENDPOINT", json!({})).env("AWS_STS_ENDPOINT", "https://sts.example"),
        with("AWS_ENDPOINT_URL", json!({})).env("AWS_ENDPOINT_URL", stub),
        with("AWS_ENDPOINT_URL_S3 before AWS_ENDPOINT_URL", json!({}))
            .env("AWS_ENDPOINT_URL", "http://all.example")
            .env("AWS_ENDPOINT_URL_S3", stub),
        with("AWS_ENDPOINT_URL is to be ignored", json!({}))
            .env("AWS_ENDPOINT_URL", stub)
            .env("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true"),
        with(
            "AWS_ENDPOINT_URL_S3 although configured endpoints are to be ignored",
            json!({}),
        )
        .env("AWS_ENDPOINT_URL_S3", stub)
        .env("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true"),
        with(
            "an endpoint without a scheme",
            json!({"endpoints": {"s3": "elsewhere.example"}}),
        ),
        with(
            "an endpoint with a path",
            json!({"endpoints": {"s3": "https://elsewhere.example/base"}, "use_path_style": true}),
        ),
        with(
            "an endpoint that is no URL",
            json!({"endpoints": {"s3": "http://elsewhere.example:port"}}),
        ),
        with(
            "an SSO endpoint without a scheme",
            json!({"endpoints": {"sso": "elsewhere.example"}}),
        ),
        with("an unknown endpoint", json!({"endpoints": {"sqs": stub}})),
        with("a DynamoDB table", json!({"dynamodb_table": "locks"})),
        with(
            "a DynamoDB endpoint",
            json!({"dynamodb_table": "locks", "endpoints": {"dynamodb": "https://dynamodb.example"}}),
        ),
        with(
            "dynamodb_endpoint",
            json!({"dynamodb_table": "locks", "dynamodb_endpoint": "https://dynamodb.example"}),
        ),
        with(
            "an IAM endpoint",
            json!({"skip_credentials_validation": true, "endpoints": {"iam": "https://iam.example"}}),
        ),
    ]
}

fn endpoints_in_files() -> Vec<Case> {
    let services = "[default]\nservices = mine\nendpoint_url = http://profile.example\n\
        [services mine]\ns3 =\n  endpoint_url = http://section.example\n";
    vec![
        with("endpoint_url in a profile", json!({}))
            .config("[default]\nendpoint_url = http://profile.example\n"),
        with("endpoint_url in a section of services", json!({})).config(services),
        with("AWS_ENDPOINT_URL before a section of services", json!({}))
            .config(services)
            .env("AWS_ENDPOINT_URL", "http://all.example"),
        with(
            "endpoints.s3 before a section of services",
            json!({"endpoints": {"s3": "http://argument.example"}}),
        )
        .config(services),
        with("a section of services that is to be ignored", json!({})).config(&services.replacen(
            '\n',
            "\nignore_configured_endpoint_urls = true\n",
            1,
        )),
    ]
}

fn addressing() -> Vec<Case> {
    let arn = "arn:aws:s3:us-west-2:123456789012:accesspoint/mine";
    vec![
        with("use_path_style", json!({"use_path_style": true})),
        with("force_path_style", json!({"force_path_style": true})),
        with(
            "use_path_style and force_path_style",
            json!({"use_path_style": true, "force_path_style": true}),
        ),
        with("a bucket with a dot", json!({"bucket": "my.states"})),
        with(
            "a bucket with a dot at an endpoint without TLS",
            json!({"bucket": "my.states", "endpoints": {"s3": "http://elsewhere.example"}}),
        ),
        with("a bucket with capitals", json!({"bucket": "My_States"})),
        with(
            "an access point",
            json!({"bucket": arn, "region": "us-west-2"}),
        ),
        with("an access point of another region", json!({"bucket": arn})),
        with(
            "an access point of another region, which is allowed",
            json!({"bucket": arn}),
        )
        .env("AWS_S3_USE_ARN_REGION", "true"),
        with(
            "an access point in the path",
            json!({"bucket": arn, "use_path_style": true}),
        ),
        with(
            "an access point of another region, which is forbidden",
            json!({"bucket": arn}),
        )
        .env("AWS_S3_USE_ARN_REGION", "false"),
        with(
            "a multi-region access point",
            json!({"bucket": "arn:aws:s3::123456789012:accesspoint/alias.mrap"}),
        ),
        with(
            "a directory bucket",
            json!({"bucket": "states--use1-az4--x-s3"}),
        ),
        with("use_fips_endpoint", json!({"use_fips_endpoint": true})),
        with(
            "use_dualstack_endpoint",
            json!({"use_dualstack_endpoint": true}),
        ),
        with(
            "FIPS and dualstack",
            json!({"use_fips_endpoint": true, "use_dualstack_endpoint": true}),
        ),
        with("FIPS in the environment", json!({})).env("AWS_USE_FIPS_ENDPOINT", "true"),
        with(
            "FIPS in China",
            json!({"use_fips_endpoint": true, "region": "cn-north-1"}),
        ),
        with(
            "dualstack at AWS_ENDPOINT_URL",
            json!({"use_dualstack_endpoint": true}),
        )
        .env("AWS_ENDPOINT_URL", "http://all.example"),
    ]
}

fn transport() -> Vec<Case> {
    vec![
        with(
            "no proxy in the environment",
            json!({"endpoints": {"s3": "{stub}", "sts": "{stub}"}, "use_path_style": true}),
        )
        .env("HTTP_PROXY", "{unset}")
        .env("HTTPS_PROXY", "{unset}"),
        with("https_proxy", json!({"https_proxy": "{proxy}"})).env("HTTPS_PROXY", "{unset}"),
        with("http_proxy alone", json!({"http_proxy": "{proxy}"}))
            .env("HTTP_PROXY", "{unset}")
            .env("HTTPS_PROXY", "{unset}"),
        with(
            "no_proxy",
            json!({"no_proxy": "elsewhere.invalid", "endpoints": {"s3": "http://elsewhere.invalid"}}),
        ),
        with(
            "no_proxy for something else",
            json!({"no_proxy": "other.invalid", "endpoints": {"s3": "http://elsewhere.invalid"}}),
        ),
        with(
            "no_proxy in the environment, and another one in the block",
            json!({
                "no_proxy": "other.invalid", "endpoints": {"s3": "http://elsewhere.invalid"},
            }),
        )
        .env("NO_PROXY", "elsewhere.invalid"),
        with(
            "http_proxy that is no URL",
            json!({"http_proxy": "http://user:hunter2@proxy.example:port"}),
        ),
        with(
            "https_proxy that is no URL",
            json!({"https_proxy": "http://proxy.example:port"}),
        ),
        with(
            "custom_ca_bundle",
            json!({"custom_ca_bundle": "{dir}/authority.pem"}),
        )
        .env("AWS_CA_BUNDLE", "{unset}"),
        with(
            "a bundle that is missing",
            json!({"custom_ca_bundle": "{dir}/missing.pem"}),
        ),
        with("insecure", json!({"insecure": true})).env("AWS_CA_BUNDLE", "{unset}"),
    ]
}

fn types() -> Vec<Case> {
    vec![
        with(
            "numbers and truths as texts",
            json!({"max_retries": "1", "encrypt": "true", "use_path_style": "true"}),
        ),
        with(
            "a number as a text of letters",
            json!({"max_retries": "many"}),
        ),
        with("a truth as a text of letters", json!({"encrypt": "yes"})),
        with("a number for a text", json!({"region": 7})),
        with("a list for a text", json!({"bucket": ["states"]})),
        with("a text for a list", json!({"shared_config_files": "a"})),
        with("a fraction for a number", json!({"max_retries": 1.5})),
        with("a null", json!({"encrypt": null, "acl": Value::Null})),
        with("an unknown argument", json!({"buckets": "states"})),
    ]
}

fn validation() -> Vec<Case> {
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    vec![
        with("no bucket", json!({"bucket": null})),
        with("an empty bucket", json!({"bucket": ""})),
        with("no key", json!({"key": null})),
        with("an empty key", json!({"key": ""})),
        with("a key that begins with a slash", json!({"key": "/app"})),
        with("a key that ends with a slash", json!({"key": "app/"})),
        with("a key with two slashes in a row", json!({"key": "app//terraform.tfstate"})),
        with("a prefix that begins with a slash", json!({"workspace_key_prefix": "/env"})),
        with("a prefix that ends with a slash", json!({"workspace_key_prefix": "env/"})),
        with("nothing right", json!({"bucket": null, "key": "/app", "region": null, "kms_key_id": "x"})),
        with("a KMS key", json!({"encrypt": true, "kms_key_id": "arn:aws:kms:eu-west-1:123456789012:key/5a6f5f3e-4b2a-4d1e-9c66-1a2b3c4d5e6f"})),
        with("a KMS key that is none", json!({"encrypt": true, "kms_key_id": "arn:aws:s3:::states"})),
        with("a customer key", json!({"encrypt": true, "sse_customer_key": key})),
        with("a customer key that is too short", json!({"encrypt": true, "sse_customer_key": "AAEC"})),
        with("a customer key that is no base64", json!({"encrypt": true, "sse_customer_key": "-".repeat(44)})),
        with("a KMS key and a customer key", json!({"encrypt": true, "kms_key_id": "x", "sse_customer_key": key})),
        with("a KMS key and a customer key in the environment", json!({
            "encrypt": true, "kms_key_id": "arn:aws:kms:eu-west-1:123456789012:key/5a6f5f3e-4b2a-4d1e-9c66-1a2b3c4d5e6f",
        }))
        .env("AWS_SSE_CUSTOMER_KEY", key),
        with("a bad customer key in the environment", json!({"encrypt": true})).env("AWS_SSE_CUSTOMER_KEY", "AAEC"),
    ]
}

/// A store that is out of order.
fn trying(name: &'static str, arguments: Value) -> Case {
    // Terraform asks twice who it is.
    let only_the_store =
        json!({"skip_credentials_validation": true, "skip_requesting_account_id": true});
    with(name, arguments)
        .block(only_the_store)
        .counting()
        .services(|it| it.answer(Operation::S3, Reply::error(500, "InternalError")))
}

fn retries() -> Vec<Case> {
    vec![
        with("an unknown way of retries", json!({"retry_mode": "eager"})),
        with("an unknown way of retries in the environment", json!({}))
            .env("AWS_RETRY_MODE", "eager"),
        with("adaptive retries", json!({"retry_mode": "adaptive"})),
        trying("two attempts", json!({"max_retries": 2})),
        trying(
            "as many attempts as the environment says",
            json!({"max_retries": 0}),
        )
        .env("AWS_MAX_ATTEMPTS", "2"),
        trying(
            "as many attempts as a profile says",
            json!({"max_retries": 0}),
        )
        .config("[default]\nmax_attempts = 2\n")
        .env("AWS_MAX_ATTEMPTS", "{unset}"),
        trying(
            "what cannot succeed is not tried again",
            json!({"max_retries": 3}),
        )
        .services(|it| it.answer(Operation::S3, Reply::error(400, "InvalidRequest"))),
        trying(
            "attempts at a role",
            json!({"max_retries": 7, "assume_role": {"role_arn": ROLE}}),
        )
        .env("AWS_MAX_ATTEMPTS", "2")
        .services(|it| it.answer(Operation::AssumeRole, Reply::error(500, "InternalFailure"))),
        with("AWS_MAX_ATTEMPTS that is no number", json!({})).env("AWS_MAX_ATTEMPTS", "many"),
        with("max_attempts that is no number in a profile", json!({}))
            .config("[default]\nmax_attempts = many\n"),
        with("a bucket in another region", json!({})).services(|it| {
            it.answer(
                Operation::S3,
                Reply::Error {
                    status: 301,
                    code: "PermanentRedirect".to_owned(),
                    message: "elsewhere".to_owned(),
                },
            );
        }),
        with("a permission that is missing", json!({}))
            .services(|it| it.answer(Operation::S3, Reply::error(403, "AccessDenied"))),
        with("a bucket that is missing", json!({}))
            .services(|it| it.answer(Operation::S3, Reply::error(404, "NoSuchBucket"))),
    ]
}
