//! What a valid backend block stands for.
//!
//! The rest of the guest takes these settings and nothing else of the configuration: without them,
//! each request would decide anew where a region or a key comes from, and two could decide
//! differently.

use std::fmt;

use crate::credentials::Endpoints;
use crate::secret::Secret;

use super::location::{self, BucketLocation};
use super::service::{Custom, Service, Variant};
use super::{Environment, schema};

/// A backend block, checked, with its defaults and environment variables filled in.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The bucket's name, or the ARN of an access point.
    pub bucket: String,
    /// Path of the state of the workspace `default`. No slash at its ends, no empty part.
    pub key: String,
    /// First part of the path of other workspaces' states. May be empty; no slash at its ends.
    pub workspace_key_prefix: String,
    /// The region to sign for, by its real name. Can be one label of a host name.
    pub region: Sourced<String>,
    /// Which of AWS's own endpoints are wanted.
    pub variant: Variant,
    /// Where STS and IAM are.
    pub(crate) credential_endpoints: Endpoints,
    /// How often a request for credentials is tried. At least 1.
    pub(crate) credential_attempts: u32,
    /// An endpoint other than AWS's: `scheme://host[:port][/path]`, without a slash at its end,
    /// user name, query or the scheme's own port.
    pub s3_endpoint: Option<Sourced<String>>,
    /// An IAM endpoint other than AWS's, likewise.
    pub iam_endpoint: Option<Sourced<String>>,
    /// An STS endpoint other than AWS's, likewise.
    pub sts_endpoint: Option<Sourced<String>>,
    /// Whether the bucket must go into the path of the URL.
    pub use_path_style: bool,
    /// Whether to lock with an object in the bucket.
    pub use_lockfile: bool,
    /// DynamoDB table for locks and digests. None: there is neither. Not empty.
    pub dynamodb_table: Option<String>,
    /// A DynamoDB endpoint other than AWS's, in the form of [`s3_endpoint`](Self::s3_endpoint).
    pub dynamodb_endpoint: Option<Sourced<String>>,
    /// Server-side encryption of states and lock files.
    pub encryption: Encryption,
    /// Object tags of states, as the header `x-amz-tagging` has them. None: no tags.
    pub state_tags: Option<String>,
    /// Object tags of lock files, likewise.
    pub lock_tags: Option<String>,
    /// Canned ACL. Fit for a header.
    pub acl: Option<String>,
    /// How often a request is tried, the first attempt included. At least 1.
    pub max_attempts: u32,
    /// How attempts are paced.
    pub retry_mode: RetryMode,
    /// Whether to leave out checksum headers of uploads.
    pub skip_s3_checksum: bool,
    /// What to append to the user agent. Fit for a header.
    pub user_agent_suffix: Option<String>,
}

impl Settings {
    /// Where requests for the bucket go.
    pub fn bucket_location(&self) -> BucketLocation {
        location::of(
            &self.bucket,
            &self.region.value,
            self.s3_endpoint.as_ref().map(|it| it.value.as_str()),
            self.variant,
            self.use_path_style,
        )
    }

    /// URL of the S3 service, without a slash at its end.
    pub fn s3_url(&self) -> String {
        match &self.s3_endpoint {
            Some(endpoint) => endpoint.value.clone(),
            None => Service::S3.place(&self.region.value, self.variant).url(),
        }
    }

    /// Where requests for the table go.
    pub fn dynamodb_location(&self) -> ServiceLocation {
        let region = &self.region.value;
        let custom = self.dynamodb_endpoint.as_ref().map(Sourced::as_custom);
        let place = Service::DynamoDb.locate(region, self.variant, custom);
        // What is refused never became settings.
        place.unwrap_or_else(|_| Service::DynamoDb.place(region, self.variant))
    }
}

/// Where requests for one of AWS's services other than S3 go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceLocation {
    /// `http` or `https`.
    pub scheme: String,
    /// `host[:port]`, without the scheme's own port. What the header `Host` holds.
    pub authority: String,
    /// Path of the endpoint; `/` at least.
    pub path: String,
    /// The region to sign for.
    pub region: String,
}

impl ServiceLocation {
    /// URL of the service, without a slash at its end.
    pub fn url(&self) -> String {
        let path = self.path.trim_end_matches('/');
        format!("{}://{}{path}", self.scheme, self.authority)
    }
}

/// Server-side encryption, as `encrypt` and the arguments that depend on it order it.
#[derive(Clone, Debug, Default)]
pub enum Encryption {
    /// With keys of S3 (`AES256`).
    Aes256,
    /// With a key that travels with every request (SSE-C).
    CustomerKey(CustomerKey),
    /// With a key of KMS: its id, alias or ARN. Fit for a header.
    Kms(String),
    /// Left to the bucket.
    #[default]
    None,
}

/// A customer's own key, in the two forms that headers take.
#[derive(Clone, Debug)]
pub struct CustomerKey {
    /// The 32 bytes in base64.
    pub base64: Secret,
    /// Base64 of the MD5 of the 32 bytes. Kept as closely as the key.
    pub md5: Secret,
}

/// A value, and where it comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Such as `argument region` or `environment AWS_REGION`.
    pub source: String,
}

impl<T> Sourced<T> {
    pub(crate) fn argument(name: impl fmt::Display, value: T) -> Self {
        Self {
            value,
            source: format!("argument {name}"),
        }
    }

    /// The source for a sentence: `environment variable "AWS_REGION"`.
    pub(super) fn described(&self) -> String {
        match self.source.split_once(' ') {
            Some(("environment", name)) => format!("environment variable \"{name}\""),
            Some(("profile", name)) => format!("endpoint_url of profile \"{name}\""),
            _ => self.source.clone(),
        }
    }

    pub(crate) fn environment(name: impl fmt::Display, value: T) -> Self {
        Self {
            value,
            source: format!("environment {name}"),
        }
    }
}

impl Sourced<String> {
    /// This endpoint, with what variants of endpoints mean to it.
    pub(super) fn as_custom(&self) -> Custom<'_> {
        let source = &self.source;
        Custom {
            url: &self.value,
            is_shared: source == "environment AWS_ENDPOINT_URL"
                || !(source.starts_with("argument ") || source.starts_with("environment ")),
        }
    }

    /// The first variable of an argument that is set to something.
    pub(super) fn from_environment(argument: &str, environment: &dyn Environment) -> Option<Self> {
        let variables = schema::argument(argument)?.environment.iter();
        variables
            .filter_map(|it| Some(Self::environment(it.name, environment.variable(it.name)?)))
            .find(|variable| !variable.value.is_empty())
    }
}

/// How attempts are paced.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RetryMode {
    /// As [`Standard`](Self::Standard), and all requests slow down once the service asks for it.
    Adaptive,
    /// After each failure the pauses grow.
    #[default]
    Standard,
}

impl RetryMode {
    /// The name in configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Adaptive => "adaptive",
            Self::Standard => "standard",
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let modes = [Self::Adaptive, Self::Standard];
        let mode = modes.into_iter().find(|mode| mode.name() == text);
        mode.ok_or_else(|| format!("unknown RetryMode, {}", text.escape_debug()))
    }
}

/// Whether a text can be (part of) a header's value: printable ASCII without blanks.
pub(super) fn is_header_text(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}
