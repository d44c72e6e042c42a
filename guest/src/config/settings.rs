//! What a valid backend block stands for.
//!
//! The rest of the guest takes these settings and nothing else of the configuration: without them,
//! each request would decide anew where a region or a key comes from, and two could decide
//! differently.

use std::fmt;

use crate::secret::Secret;

use super::location::{self, BucketLocation};
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
    /// The region to sign for. Can be one label of a host name.
    pub region: Sourced<String>,
    /// Static credentials. None: the block and the environment have none.
    pub credentials: Option<StaticCredentials>,
    /// An endpoint other than AWS's: `scheme://host[:port][/path]`, without a slash at its end,
    /// user name, query or the scheme's own port.
    pub s3_endpoint: Option<Sourced<String>>,
    /// Whether the bucket must go into the path of the URL.
    pub use_path_style: bool,
    /// Whether to lock with an object in the bucket. False: no lock is configured.
    pub use_lockfile: bool,
    /// Whether to ask for server-side encryption with AES256.
    pub encrypt: bool,
    /// Canned ACL. Fit for a header.
    pub acl: Option<String>,
    /// How often a request is tried, the first attempt included. At least 1.
    pub max_attempts: u32,
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
            self.use_path_style,
        )
    }
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
    pub(super) fn argument(name: impl fmt::Display, value: T) -> Self {
        Self {
            value,
            source: format!("argument {name}"),
        }
    }

    /// The source for a sentence: `environment variable "AWS_REGION"`.
    pub(super) fn described(&self) -> String {
        match self.source.split_once(' ') {
            Some(("environment", name)) => format!("environment variable \"{name}\""),
            _ => self.source.clone(),
        }
    }

    pub(super) fn environment(name: impl fmt::Display, value: T) -> Self {
        Self {
            value,
            source: format!("environment {name}"),
        }
    }
}

impl Sourced<String> {
    /// The first variable of an argument that is set to something.
    pub(super) fn from_environment(argument: &str, environment: &dyn Environment) -> Option<Self> {
        let variables = schema::argument(argument)?.environment.iter();
        variables
            .filter_map(|it| Some(Self::environment(it.name, environment.variable(it.name)?)))
            .find(|variable| !variable.value.is_empty())
    }
}

/// Credentials that stand in the block or in the environment.
#[derive(Clone, Debug)]
pub struct StaticCredentials {
    /// The access key id. No secret. Fit for a header.
    pub access_key_id: String,
    /// The secret access key.
    pub secret_access_key: Secret,
    /// The session token of temporary credentials. Fit for a header.
    pub session_token: Option<Secret>,
    /// Where the access key id comes from, such as `environment AWS_ACCESS_KEY_ID`.
    pub source: String,
}

/// Whether a text can be (part of) a header's value: printable ASCII without blanks.
pub(super) fn is_header_text(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}
