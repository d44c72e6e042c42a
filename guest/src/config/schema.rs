//! The table of arguments: the one place that knows their names, types, defaults, environment
//! variables and documentation.
//!
//! Without it, the checks, the defaults, the schema that hosts read and the documentation would
//! drift apart. It holds every argument that a released Terraform or OpenTofu takes in a `backend
//! "s3"` block.

use serde_json::Value as Json;

use crate::json;

/// One argument of the backend block.
pub struct Argument {
    /// Its name; fields of an object are `object.field`.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Whether the block must have it (for a field: whether the object must).
    pub required: bool,
    /// What holds without it. None: nothing, or what the documentation says.
    pub default: Option<Value>,
    /// Variables that stand in for it, the first one first.
    pub environment: &'static [Variable],
    /// Whether its value must never be shown.
    pub sensitive: bool,
    /// What to use instead, when it is an old spelling.
    pub deprecated: Option<&'static str>,
    /// Arguments that cannot stand beside it.
    pub conflicts: &'static [&'static str],
    /// What it does, in Markdown.
    pub documentation: &'static str,
}

/// Types of arguments, in Terraform's words.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// `true` or `false`, also as text.
    Bool,
    /// Texts by name.
    Map,
    /// A number, also as text.
    Number,
    /// Named fields; each has a row of its own.
    Object,
    /// Texts in no order.
    Set,
    /// Text; a number or a bool is turned into one.
    String,
}

impl Kind {
    /// The name in schema and documentation.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Map => "map(string)",
            Self::Number => "number",
            Self::Object => "object",
            Self::Set => "set(string)",
            Self::String => "string",
        }
    }
}

/// A default.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Value {
    /// Of a bool.
    Bool(bool),
    /// Of a number.
    Number(u32),
    /// Of a string.
    Text(&'static str),
}

/// An environment variable that stands in for an argument. An empty one counts as not set.
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// The variable to use instead, when it is an old spelling.
    pub deprecated: Option<&'static str>,
}

/// The row of an argument.
pub(super) fn argument(name: &str) -> Option<&'static Argument> {
    SCHEMA.iter().find(|argument| argument.name == name)
}

/// The table as JSON, see [`schema_json`](super::schema_json).
pub(super) fn json() -> String {
    let rows: Vec<_> = SCHEMA
        .iter()
        .map(|argument| {
            let variables = argument.environment.iter().map(|variable| variable.name);
            let default = match argument.default {
                None => Json::Null,
                Some(Value::Bool(value)) => value.into(),
                Some(Value::Number(value)) => value.into(),
                Some(Value::Text(value)) => value.into(),
            };
            json::object([
                ("name", argument.name.into()),
                ("type", argument.kind.name().into()),
                ("required", argument.required.into()),
                ("default", default),
                ("environment", variables.collect()),
                ("sensitive", argument.sensitive.into()),
                ("deprecated", argument.deprecated.into()),
                ("conflicts", argument.conflicts.into()),
                ("documentation", argument.documentation.into()),
            ])
        })
        .collect();
    json::text(&rows.into())
}

/// What the rows below have in common.
const TEXT: Argument = Argument {
    name: "",
    kind: Kind::String,
    required: false,
    default: None,
    environment: &[],
    sensitive: false,
    deprecated: None,
    conflicts: &[],
    documentation: "",
};
const FLAG: Argument = Argument {
    kind: Kind::Bool,
    default: Some(Value::Bool(false)),
    ..TEXT
};
const MAP: Argument = Argument {
    kind: Kind::Map,
    ..TEXT
};
const OBJECT: Argument = Argument {
    kind: Kind::Object,
    ..TEXT
};
const SET: Argument = Argument {
    kind: Kind::Set,
    ..TEXT
};

const fn variable(name: &'static str) -> Variable {
    Variable {
        name,
        deprecated: None,
    }
}

const fn old_variable(name: &'static str, replacement: &'static str) -> Variable {
    Variable {
        name,
        deprecated: Some(replacement),
    }
}

/// Every argument. The sources are the documentation of Terraform's and of OpenTofu's `s3` backend.
pub const SCHEMA: &[Argument] = &[
    Argument {
        name: "bucket",
        required: true,
        documentation: "Bucket that keeps the state: a name, an access point's alias or an access \
                        point's ARN.",
        ..TEXT
    },
    Argument {
        name: "key",
        required: true,
        documentation: "Path of the state of the workspace `default` in the bucket. No `/` at either \
                        end, no `//`.",
        ..TEXT
    },
    Argument {
        name: "region",
        environment: &[variable("AWS_REGION"), variable("AWS_DEFAULT_REGION")],
        documentation: "AWS region of the bucket.",
        ..TEXT
    },
    Argument {
        name: "workspace_key_prefix",
        default: Some(Value::Text("env:")),
        documentation: "First part of the path of all other workspaces' states: \
                        `<prefix>/<workspace>/<key>`. May be empty; no `/` at either end.",
        ..TEXT
    },
    Argument {
        name: "access_key",
        environment: &[variable("AWS_ACCESS_KEY_ID"), variable("AWS_ACCESS_KEY")],
        documentation: "Access key id. Needs `secret_key`. Better left to the environment: tools copy \
                        the block to disk.",
        ..TEXT
    },
    Argument {
        name: "secret_key",
        environment: &[
            variable("AWS_SECRET_ACCESS_KEY"),
            variable("AWS_SECRET_KEY"),
        ],
        sensitive: true,
        documentation: "Secret access key. Needs `access_key`.",
        ..TEXT
    },
    Argument {
        name: "token",
        environment: &[variable("AWS_SESSION_TOKEN")],
        sensitive: true,
        documentation: "Session token of temporary credentials. Needs `access_key` and `secret_key`.",
        ..TEXT
    },
    Argument {
        name: "endpoints",
        kind: Kind::Object,
        documentation: "URLs of services other than AWS's own.",
        ..TEXT
    },
    Argument {
        name: "endpoints.s3",
        environment: &[
            variable("AWS_ENDPOINT_URL_S3"),
            old_variable("AWS_S3_ENDPOINT", "AWS_ENDPOINT_URL_S3"),
            variable("AWS_ENDPOINT_URL"),
        ],
        conflicts: &["endpoint"],
        documentation: "URL of an S3-compatible service. `AWS_ENDPOINT_URL` is not looked at when \
                        `AWS_IGNORE_CONFIGURED_ENDPOINT_URLS` is `true`.",
        ..TEXT
    },
    Argument {
        name: "endpoint",
        deprecated: Some("endpoints.s3"),
        conflicts: &["endpoints.s3"],
        documentation: "Older spelling of `endpoints.s3`.",
        ..TEXT
    },
    Argument {
        name: "use_path_style",
        conflicts: &["force_path_style"],
        documentation: "Put the bucket into the path of the URL (`https://host/bucket`) instead of the \
                        host name (`https://bucket.host`).",
        ..FLAG
    },
    Argument {
        name: "use_lockfile",
        documentation: "Lock with an object `<state>.tflock` next to the state, created by a \
                        conditional write.",
        ..FLAG
    },
    Argument {
        name: "encrypt",
        documentation: "Ask for server-side encryption of states and lock files: `AES256`, or with `kms_key_id` or \
                        `sse_customer_key`, which have no effect without it.",
        ..FLAG
    },
    Argument {
        name: "acl",
        documentation: "Canned ACL for states and lock files, sent as it is.",
        ..TEXT
    },
    Argument {
        name: "max_retries",
        kind: Kind::Number,
        default: Some(Value::Number(5)),
        environment: &[variable("AWS_MAX_ATTEMPTS")],
        documentation: "How often a request is tried in all, the first attempt included. `0`: as \
                        `AWS_MAX_ATTEMPTS` says, else 3.",
        ..TEXT
    },
    Argument {
        name: "skip_s3_checksum",
        documentation: "Send no checksum header with uploads, for services that do not understand it.",
        ..FLAG
    },
    Argument {
        name: "skip_credentials_validation",
        documentation: "Do not check the credentials with STS.",
        ..FLAG
    },
    Argument {
        name: "skip_requesting_account_id",
        documentation: "Do not look up the account's id.",
        ..FLAG
    },
    Argument {
        name: "skip_metadata_api_check",
        kind: Kind::Bool,
        documentation: "`true`: never ask the EC2 metadata service; `false`: ask it whatever the \
                        environment says.",
        ..TEXT
    },
    Argument {
        name: "skip_region_validation",
        documentation: "Accept a region that AWS's table of regions does not hold.",
        ..FLAG
    },
    Argument {
        name: "kms_key_id",
        conflicts: &["sse_customer_key"],
        documentation: "KMS key for server-side encryption with `encrypt`: id, alias or ARN. Not beside \
                        `AWS_SSE_CUSTOMER_KEY` either.",
        ..TEXT
    },
    Argument {
        name: "sse_customer_key",
        environment: &[variable("AWS_SSE_CUSTOMER_KEY")],
        sensitive: true,
        conflicts: &["kms_key_id"],
        documentation: "Customer's own key (SSE-C) for server-side encryption with `encrypt`: 32 bytes in base64. \
                        Better left to the environment: tools copy the block to disk.",
        ..TEXT
    },
    Argument {
        name: "state_tags",
        documentation: "Object tags of states.",
        ..MAP
    },
    Argument {
        name: "lock_tags",
        documentation: "Object tags of lock files.",
        ..MAP
    },
    Argument {
        name: "dynamodb_table",
        deprecated: Some("use_lockfile"),
        documentation: "DynamoDB table for locks and digests. Its partition key is `LockID`, of type String.",
        ..TEXT
    },
    Argument {
        name: "profile",
        environment: &[variable("AWS_PROFILE"), variable("AWS_DEFAULT_PROFILE")],
        documentation: "Profile of the shared AWS files to take credentials and settings from.",
        ..TEXT
    },
    Argument {
        name: "shared_config_files",
        environment: &[
            variable("AWS_SHARED_CONFIG_FILE"),
            variable("AWS_CONFIG_FILE"),
        ],
        documentation: "Paths of shared AWS config files.",
        ..SET
    },
    Argument {
        name: "shared_credentials_files",
        environment: &[variable("AWS_SHARED_CREDENTIALS_FILE")],
        conflicts: &["shared_credentials_file"],
        documentation: "Paths of shared AWS credentials files.",
        ..SET
    },
    Argument {
        name: "shared_credentials_file",
        deprecated: Some("shared_credentials_files"),
        conflicts: &["shared_credentials_files"],
        documentation: "Older spelling of `shared_credentials_files`, for one path.",
        ..TEXT
    },
    Argument {
        name: "assume_role",
        documentation: "Role to assume with the credentials that were found.",
        ..OBJECT
    },
    Argument {
        name: "assume_role.role_arn",
        required: true,
        documentation: "ARN of the role.",
        ..TEXT
    },
    Argument {
        name: "assume_role.duration",
        documentation: "How long the role's credentials last, such as `1h30m`; 15 minutes to 12 hours.",
        ..TEXT
    },
    Argument {
        name: "assume_role.external_id",
        documentation: "External id that the role's trust policy asks for.",
        ..TEXT
    },
    Argument {
        name: "assume_role.policy",
        documentation: "IAM policy, as JSON, that narrows the role's permissions.",
        ..TEXT
    },
    Argument {
        name: "assume_role.policy_arns",
        documentation: "ARNs of IAM policies that narrow the role's permissions.",
        ..SET
    },
    Argument {
        name: "assume_role.session_name",
        documentation: "Name of the session.",
        ..TEXT
    },
    Argument {
        name: "assume_role.source_identity",
        documentation: "Source identity of the session.",
        ..TEXT
    },
    Argument {
        name: "assume_role.tags",
        documentation: "Tags of the session.",
        ..MAP
    },
    Argument {
        name: "assume_role.transitive_tag_keys",
        documentation: "Keys of tags that later sessions inherit.",
        ..SET
    },
    Argument {
        name: "assume_role_with_web_identity",
        documentation: "Role to assume with an OpenID Connect token.",
        ..OBJECT
    },
    Argument {
        name: "assume_role_with_web_identity.role_arn",
        required: true,
        environment: &[variable("AWS_ROLE_ARN")],
        documentation: "ARN of the role.",
        ..TEXT
    },
    Argument {
        name: "assume_role_with_web_identity.duration",
        documentation: "How long the role's credentials last, such as `1h30m`; 15 minutes to 12 hours.",
        ..TEXT
    },
    Argument {
        name: "assume_role_with_web_identity.policy",
        documentation: "IAM policy, as JSON, that narrows the role's permissions.",
        ..TEXT
    },
    Argument {
        name: "assume_role_with_web_identity.policy_arns",
        documentation: "ARNs of IAM policies that narrow the role's permissions.",
        ..SET
    },
    Argument {
        name: "assume_role_with_web_identity.session_name",
        environment: &[variable("AWS_ROLE_SESSION_NAME")],
        documentation: "Name of the session.",
        ..TEXT
    },
    Argument {
        name: "assume_role_with_web_identity.web_identity_token",
        environment: &[variable("AWS_WEB_IDENTITY_TOKEN")],
        sensitive: true,
        conflicts: &["assume_role_with_web_identity.web_identity_token_file"],
        documentation: "The token itself.",
        ..TEXT
    },
    Argument {
        name: "assume_role_with_web_identity.web_identity_token_file",
        environment: &[variable("AWS_WEB_IDENTITY_TOKEN_FILE")],
        conflicts: &["assume_role_with_web_identity.web_identity_token"],
        documentation: "Path of the file that holds the token.",
        ..TEXT
    },
    Argument {
        name: "role_arn",
        deprecated: Some("assume_role.role_arn"),
        conflicts: &["assume_role"],
        documentation: "Older spelling of `assume_role.role_arn`.",
        ..TEXT
    },
    Argument {
        name: "session_name",
        deprecated: Some("assume_role.session_name"),
        conflicts: &["assume_role"],
        documentation: "Older spelling of `assume_role.session_name`.",
        ..TEXT
    },
    Argument {
        name: "external_id",
        deprecated: Some("assume_role.external_id"),
        conflicts: &["assume_role"],
        documentation: "Older spelling of `assume_role.external_id`.",
        ..TEXT
    },
    Argument {
        name: "assume_role_policy",
        deprecated: Some("assume_role.policy"),
        conflicts: &["assume_role"],
        documentation: "Older spelling of `assume_role.policy`.",
        ..TEXT
    },
    Argument {
        name: "assume_role_duration_seconds",
        kind: Kind::Number,
        deprecated: Some("assume_role.duration"),
        conflicts: &["assume_role"],
        documentation: "Older spelling of `assume_role.duration`, in seconds.",
        ..TEXT
    },
    Argument {
        name: "assume_role_policy_arns",
        deprecated: Some("assume_role.policy_arns"),
        conflicts: &["assume_role"],
        documentation: "Older spelling of `assume_role.policy_arns`.",
        ..SET
    },
    Argument {
        name: "assume_role_transitive_tag_keys",
        deprecated: Some("assume_role.transitive_tag_keys"),
        conflicts: &["assume_role"],
        documentation: "Older spelling of `assume_role.transitive_tag_keys`.",
        ..SET
    },
    Argument {
        name: "assume_role_tags",
        deprecated: Some("assume_role.tags"),
        conflicts: &["assume_role"],
        documentation: "Older spelling of `assume_role.tags`.",
        ..MAP
    },
    Argument {
        name: "use_legacy_workflow",
        documentation: "Let credentials of the environment win over a configured profile. Deprecated.",
        ..FLAG
    },
    Argument {
        name: "allowed_account_ids",
        conflicts: &["forbidden_account_ids"],
        documentation: "The only AWS accounts to work in.",
        ..SET
    },
    Argument {
        name: "forbidden_account_ids",
        conflicts: &["allowed_account_ids"],
        documentation: "AWS accounts not to work in.",
        ..SET
    },
    Argument {
        name: "ec2_metadata_service_endpoint",
        environment: &[
            variable("AWS_EC2_METADATA_SERVICE_ENDPOINT"),
            old_variable("AWS_METADATA_URL", "AWS_EC2_METADATA_SERVICE_ENDPOINT"),
        ],
        documentation: "URL of the EC2 metadata service.",
        ..TEXT
    },
    Argument {
        name: "ec2_metadata_service_endpoint_mode",
        default: Some(Value::Text("IPv4")),
        environment: &[variable("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE")],
        documentation: "How to reach the EC2 metadata service: `IPv4` or `IPv6`.",
        ..TEXT
    },
    Argument {
        name: "retry_mode",
        default: Some(Value::Text("standard")),
        environment: &[variable("AWS_RETRY_MODE")],
        documentation: "How retries are paced: `standard` or `adaptive`.",
        ..TEXT
    },
    Argument {
        name: "custom_ca_bundle",
        environment: &[variable("AWS_CA_BUNDLE")],
        documentation: "Path of a PEM file with the certificate authorities to trust instead of the \
                        system's.",
        ..TEXT
    },
    Argument {
        name: "http_proxy",
        environment: &[variable("HTTP_PROXY"), variable("http_proxy")],
        sensitive: true,
        documentation: "URL of the proxy for plain HTTP. The host of the component sees to it, as to the next \
                        three and to `insecure`.",
        ..TEXT
    },
    Argument {
        name: "https_proxy",
        environment: &[variable("HTTPS_PROXY"), variable("https_proxy")],
        sensitive: true,
        documentation: "URL of the proxy for HTTPS.",
        ..TEXT
    },
    Argument {
        name: "no_proxy",
        environment: &[variable("NO_PROXY"), variable("no_proxy")],
        documentation: "Hosts to reach without a proxy, separated by commas.",
        ..TEXT
    },
    Argument {
        name: "insecure",
        documentation: "Do not verify TLS certificates.",
        ..FLAG
    },
    Argument {
        name: "use_fips_endpoint",
        environment: &[variable("AWS_USE_FIPS_ENDPOINT")],
        documentation: "Use AWS's FIPS endpoints. Not with an endpoint that is named for all services at once. `false` \
                        does not undo what environment or profile order.",
        ..FLAG
    },
    Argument {
        name: "use_dualstack_endpoint",
        environment: &[variable("AWS_USE_DUALSTACK_ENDPOINT")],
        documentation: "Use AWS's endpoints that speak IPv6 too. As for `use_fips_endpoint`.",
        ..FLAG
    },
    Argument {
        name: "force_path_style",
        deprecated: Some("use_path_style"),
        conflicts: &["use_path_style"],
        documentation: "Older spelling of `use_path_style`.",
        ..FLAG
    },
    Argument {
        name: "sts_region",
        documentation: "Region of STS, if it is not `region`.",
        ..TEXT
    },
    Argument {
        name: "endpoints.dynamodb",
        environment: &[
            variable("AWS_ENDPOINT_URL_DYNAMODB"),
            old_variable("AWS_DYNAMODB_ENDPOINT", "AWS_ENDPOINT_URL_DYNAMODB"),
            variable("AWS_ENDPOINT_URL"),
        ],
        conflicts: &["dynamodb_endpoint"],
        documentation: "URL of a service to use instead of AWS's DynamoDB. `AWS_ENDPOINT_URL` as for \
                        `endpoints.s3`.",
        ..TEXT
    },
    Argument {
        name: "endpoints.iam",
        environment: &[
            variable("AWS_ENDPOINT_URL_IAM"),
            old_variable("AWS_IAM_ENDPOINT", "AWS_ENDPOINT_URL_IAM"),
            variable("AWS_ENDPOINT_URL"),
        ],
        conflicts: &["iam_endpoint"],
        documentation: "URL of a service to use instead of AWS's IAM.",
        ..TEXT
    },
    Argument {
        name: "endpoints.sts",
        environment: &[
            variable("AWS_ENDPOINT_URL_STS"),
            old_variable("AWS_STS_ENDPOINT", "AWS_ENDPOINT_URL_STS"),
            variable("AWS_ENDPOINT_URL"),
        ],
        conflicts: &["sts_endpoint"],
        documentation: "URL of a service to use instead of AWS's STS.",
        ..TEXT
    },
    Argument {
        name: "endpoints.sso",
        environment: &[
            variable("AWS_ENDPOINT_URL_SSO"),
            variable("AWS_ENDPOINT_URL"),
        ],
        documentation: "URL of a service to use instead of AWS's SSO.",
        ..TEXT
    },
    Argument {
        name: "dynamodb_endpoint",
        deprecated: Some("endpoints.dynamodb"),
        conflicts: &["endpoints.dynamodb"],
        documentation: "Older spelling of `endpoints.dynamodb`.",
        ..TEXT
    },
    Argument {
        name: "iam_endpoint",
        deprecated: Some("endpoints.iam"),
        conflicts: &["endpoints.iam"],
        documentation: "Older spelling of `endpoints.iam`.",
        ..TEXT
    },
    Argument {
        name: "sts_endpoint",
        deprecated: Some("endpoints.sts"),
        conflicts: &["endpoints.sts"],
        documentation: "Older spelling of `endpoints.sts`.",
        ..TEXT
    },
];
