//! What differs on purpose, and why. What is not listed here must be the same.

use super::bench::Difference::{self, Outcome, Words};

const ACCOUNT: &str = "cofferdam asks for the account only where `allowed_account_ids` or `forbidden_account_ids` need it; Terraform asks in any case, and goes on whatever the answer";
const ALL_AT_ONCE: &str = "cofferdam tells everything that is wrong with the block at once";
const ATTEMPTS: &str = "The block sets `max_retries`, next to which the number has no effect; cofferdam does not look at it";
const BRACES: &str = "In JSON, Terraform takes `${…}` as it is written and OpenTofu evaluates it. cofferdam, which serves both, refuses it";
const EARLIER: &str = "cofferdam refuses what is wrong with the block before it asks anybody";
const FILES: &str = "cofferdam adds which files it read, and what to do";
const FRACTION: &str = "Terraform takes the whole part of the number";
const HEADING: &str = "Terraform has put all of it into the heading";
const INSIDE: &str = "The words are those for any other argument that is missing";
const JSON: &str = "The words are those that Terraform has for HCL";
const KEYS: &str = "cofferdam says which of the arguments is missing";
const LAZY: &str = "cofferdam fetches credentials with the first request that needs them, and its refusal stands under what was being done; it says which source was chosen, what was passed over, and which files were read";
const LOGIN: &str = "A later Terraform has this source. cofferdam refuses it, with what to do instead; Terraform 1.11 overlooks it";
const NO_SCHEME: &str = "cofferdam takes https, as OpenTofu does";
const NOT_SUPPORTED: &str = "Refused clearly, never ignored";
const OLDER: &str = "Terraform has removed the argument in 1.8 or 1.10; cofferdam takes it, with the warning or the refusal of before";
const PROXY: &str = "The URL may hold a password: cofferdam does not show it";
const STORE: &str = "cofferdam says which permission, bucket or region is the matter, and asks for the state, not for a list of workspaces";
const STS_REGION: &str =
    "`sts_region` counts for every call of STS; in Terraform, not for this one";
const SYSTEM: &str = "The words of the operating system, in another order";
const UNKNOWN_ENDPOINT: &str =
    "Terraform overlooks it. A misspelled endpoint would send the state elsewhere";

/// The case, and what differs in it.
pub const DIFFERENCES: &[(&str, Difference)] = &[
    (
        "keys in the block beside a profile that does not exist",
        Words(
            "loading configuration: failed to get shared config profile, missing",
            FILES,
        ),
    ),
    (
        "a token alone in the block",
        Words("static credentials are", KEYS),
    ),
    (
        "an id without a secret in the block",
        Words("static credentials are", KEYS),
    ),
    ("nothing at all", Words("no EC2 IMDS role found", LAZY)),
    ("the same in the legacy workflow", Outcome(OLDER)),
    (
        "the argument profile names none",
        Words("failed to get shared config profile, missing", FILES),
    ),
    (
        "AWS_PROFILE names none",
        Words("failed to get shared config profile, missing", FILES),
    ),
    (
        "half a pair in a profile",
        Words("partial credentials found for profile default", FILES),
    ),
    (
        "a profile with nothing in it",
        Words("no EC2 IMDS role found", LAZY),
    ),
    (
        "a source profile that does not exist",
        Words(
            "of profile missing, failed to get shared config profile, missing",
            FILES,
        ),
    ),
    (
        "a source profile without a role",
        Words(
            "credential type source_profile requires role_arn, profile default",
            FILES,
        ),
    ),
    (
        "credential_source EcsContainer outside a container",
        Words(
            "EcsContainer was specified as the credential_source, but neither",
            FILES,
        ),
    ),
    (
        "an unknown credential_source",
        Words(
            "credential_source values must be EcsContainer, Ec2InstanceMetadata, or Environment",
            FILES,
        ),
    ),
    (
        "a profile that wants a code",
        Words(
            "assume role with MFA enabled, but AssumeRoleTokenProvider session option not set",
            FILES,
        ),
    ),
    (
        "two ways in one profile",
        Words(
            "only one credential type may be specified per profile",
            FILES,
        ),
    ),
    (
        "a role that is refused",
        Words("the test wants AccessDenied", LAZY),
    ),
    ("the older arguments of a role", Outcome(OLDER)),
    (
        "the older arguments of a role beside assume_role",
        Outcome(OLDER),
    ),
    ("a role without its ARN", Words("is required", INSIDE)),
    (
        "a web identity in the environment without a role",
        Words("role ARN is not set", FILES),
    ),
    (
        "a web identity whose file is missing",
        Words("no such file", LAZY),
    ),
    (
        "a web identity that is refused",
        Words("the test wants AccessDenied", LAZY),
    ),
    (
        "a web identity in the environment with an own region for STS",
        Outcome(STS_REGION),
    ),
    (
        "SSO with a session whose token cannot be renewed",
        Words("cannot be refreshed", LAZY),
    ),
    (
        "SSO without a login",
        Words("ee0bfd2552fbd840c02cc48b6e823320543c450f.json", LAZY),
    ),
    (
        "SSO as it was before sessions, expired",
        Words("the SSO session has expired or is invalid", LAZY),
    ),
    (
        "SSO with half of its settings",
        Words(
            "is missing required configuration: sso_region, sso_account_id, sso_role_name",
            FILES,
        ),
    ),
    (
        "SSO with a session that does not exist",
        Words("failed to find SSO session section, missing", FILES),
    ),
    (
        "SSO that is refused",
        Words("the test wants UnauthorizedException", LAZY),
    ),
    ("a login of `aws login`", Outcome(LOGIN)),
    ("a command that fails", Words("exit status 3", LAZY)),
    (
        "a command of another version",
        Words("wrong version in process output (not 1)", LAZY),
    ),
    (
        "a command that forgets the secret",
        Words("missing SecretAccessKey in process output", LAZY),
    ),
    (
        "a container somewhere else",
        Words(
            "invalid endpoint host, \"192.0.2.7\", only loopback/ecs/eks hosts are allowed",
            LAZY,
        ),
    ),
    (
        "a container that refuses",
        Words("the test wants AccessDenied", LAZY),
    ),
    (
        "an instance without a role",
        Words("no EC2 IMDS role found", LAZY),
    ),
    (
        "an instance that is not to be asked",
        Words("no EC2 IMDS role found", LAZY),
    ),
    (
        "an account that is not allowed",
        Words("AWS account ID not allowed: 123456789012", LAZY),
    ),
    (
        "an account that is forbidden",
        Words("AWS account ID not allowed: 123456789012", LAZY),
    ),
    ("skip_credentials_validation", Outcome(ACCOUNT)),
    (
        "both of these and an account that is allowed",
        Words("AWS account ID not allowed:", LAZY),
    ),
    (
        "keys that STS does not know",
        Words("the test wants InvalidClientTokenId", LAZY),
    ),
    ("braces in a path", Outcome(BRACES)),
    ("an endpoint without a scheme", Outcome(NO_SCHEME)),
    ("an unknown endpoint", Outcome(UNKNOWN_ENDPOINT)),
    ("an IAM endpoint", Outcome(ACCOUNT)),
    (
        "an access point in the path",
        Words(
            "Path-style addressing cannot be used with ARN buckets",
            EARLIER,
        ),
    ),
    (
        "an access point of another region",
        Words("does not match client region", EARLIER),
    ),
    (
        "an access point of another region, which is forbidden",
        Words("does not match client region", EARLIER),
    ),
    ("a multi-region access point", Outcome(NOT_SUPPORTED)),
    ("a directory bucket", Outcome(NOT_SUPPORTED)),
    (
        "FIPS in China",
        Words("Partition does not support FIPS", EARLIER),
    ),
    (
        "dualstack at AWS_ENDPOINT_URL",
        Words("custom endpoint", EARLIER),
    ),
    (
        "http_proxy that is no URL",
        Words("Unable to parse URL", PROXY),
    ),
    (
        "https_proxy that is no URL",
        Words("Unable to parse URL", PROXY),
    ),
    (
        "a bundle that is missing",
        Words("no such file or directory", SYSTEM),
    ),
    ("a fraction for a number", Outcome(FRACTION)),
    ("an unknown argument", Words("named \"buckets\"", JSON)),
    (
        "nothing right",
        Words(
            "The attribute \"bucket\" is required by the backend",
            ALL_AT_ONCE,
        ),
    ),
    (
        "a customer key that is too short",
        Words("Invalid sse_customer_key value", EARLIER),
    ),
    (
        "a customer key that is no base64",
        Words("Invalid sse_customer_key value", EARLIER),
    ),
    (
        "a KMS key and a customer key in the environment",
        Words("Invalid encryption configuration", EARLIER),
    ),
    (
        "a bad customer key in the environment",
        Words("Invalid AWS_SSE_CUSTOMER_KEY value", EARLIER),
    ),
    (
        "an unknown way of retries in the environment",
        Words(
            "invalid AWS_RETRY_MODE value, unknown RetryMode, eager",
            HEADING,
        ),
    ),
    ("AWS_MAX_ATTEMPTS that is no number", Outcome(ATTEMPTS)),
    (
        "max_attempts that is no number in a profile",
        Outcome(ATTEMPTS),
    ),
    ("a bucket in another region", Words("301", STORE)),
    ("a permission that is missing", Words("403", STORE)),
    ("a bucket that is missing", Words("NoSuchBucket", STORE)),
    ("two attempts", Words("the test wants InternalError", STORE)),
    (
        "as many attempts as the environment says",
        Words("the test wants InternalError", STORE),
    ),
    (
        "as many attempts as a profile says",
        Words("the test wants InternalError", STORE),
    ),
    (
        "what cannot succeed is not tried again",
        Words("the test wants InvalidRequest", STORE),
    ),
    (
        "attempts at a role",
        Words("the test wants InternalFailure", LAZY),
    ),
    ("no_proxy", Words("no such host", STORE)),
];
