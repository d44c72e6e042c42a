//! What of this machine a store may see: credentials, variables, files, commands.
//!
//! The component imports neither files nor the environment; it asks here, and the default answer is no.
//! Without this module a tenant's configuration could name a file or a command of the service that runs it.

mod local;

use std::sync::Arc;

use async_trait::async_trait;

use crate::Secret;
pub use local::Local;

/// Credentials for signing.
#[derive(Clone, Debug)]
pub struct AccessKey {
    /// The access key id.
    pub id: String,
    /// The secret access key.
    pub secret: Secret,
    /// The session token of temporary credentials.
    pub session_token: Option<Secret>,
    /// Seconds since 1970; `None`: they do not expire.
    pub expires_at: Option<u64>,
}

/// Why the host does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The grant does not allow it.
    Denied,
    /// Allowed, but it went wrong. The reason holds no secret.
    Failed(String),
    /// Allowed, but there is no such thing.
    NotFound,
}

/// What of this machine a store may see. Every method refuses unless an implementation says otherwise.
#[async_trait]
pub trait Surroundings: Send + Sync {
    /// Credentials that come before the backend's own chain; `None`: it uses its chain.
    async fn credentials(&self) -> Result<Option<AccessKey>, Refusal> {
        Err(Refusal::Denied)
    }

    /// An environment variable; `None`: it is not set.
    async fn variable(&self, _name: &str) -> Result<Option<String>, Refusal> {
        Err(Refusal::Denied)
    }

    /// The content of a file.
    async fn read_file(&self, _path: &str) -> Result<Vec<u8>, Refusal> {
        Err(Refusal::Denied)
    }

    /// Replaces a file, whole or not at all.
    async fn replace_file(&self, _path: &str, _bytes: &[u8]) -> Result<(), Refusal> {
        Err(Refusal::Denied)
    }

    /// The standard output of a command.
    async fn run(&self, _command: &str) -> Result<Vec<u8>, Refusal> {
        Err(Refusal::Denied)
    }
}

/// Nothing at all: what a sealed store sees.
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

impl Surroundings for Nothing {}

/// The variables that a store on a person's own machine may see: what AWS's tools read for credentials, regions,
/// endpoints and retries, Terraform's suffix of the user agent, and the home directory that paths begin with.
///
/// Not those of proxies and certificates (`HTTPS_PROXY`, `AWS_CA_BUNDLE`, …): the host reads them itself.
pub const LOCAL_VARIABLES: &[&str] = &[
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_ACCOUNT_ID",
    "AWS_ACCOUNT_ID_ENDPOINT_MODE",
    "AWS_CONFIG_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_DEFAULT_PROFILE",
    "AWS_DEFAULT_REGION",
    "AWS_DISABLE_CLOCK_SKEW_CORRECTION",
    "AWS_DYNAMODB_ENDPOINT",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
    "AWS_EC2_METADATA_V1_DISABLED",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_DYNAMODB",
    "AWS_ENDPOINT_URL_IAM",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_SSO",
    "AWS_ENDPOINT_URL_SSO_OIDC",
    "AWS_ENDPOINT_URL_STS",
    "AWS_EXECUTION_ENV",
    "AWS_IAM_ENDPOINT",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_MAX_ATTEMPTS",
    "AWS_METADATA_URL",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_REQUEST_CHECKSUM_CALCULATION",
    "AWS_RESPONSE_CHECKSUM_VALIDATION",
    "AWS_RETRY_MODE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_S3_DISABLE_EXPRESS_SESSION_AUTH",
    "AWS_S3_DISABLE_MULTIREGION_ACCESS_POINTS",
    "AWS_S3_ENDPOINT",
    "AWS_S3_USE_ARN_REGION",
    "AWS_SDK_UA_APP_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SHARED_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_SSE_CUSTOMER_KEY",
    "AWS_STS_ENDPOINT",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_WEB_IDENTITY_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "HOME",
    "TF_APPEND_USER_AGENT",
];

/// Adds the operator's credentials to other surroundings.
pub(crate) struct WithCredentials {
    pub(crate) key: AccessKey,
    pub(crate) inner: Arc<dyn Surroundings>,
}

#[async_trait]
impl Surroundings for WithCredentials {
    async fn credentials(&self) -> Result<Option<AccessKey>, Refusal> {
        Ok(Some(self.key.clone()))
    }

    async fn variable(&self, name: &str) -> Result<Option<String>, Refusal> {
        self.inner.variable(name).await
    }

    async fn read_file(&self, path: &str) -> Result<Vec<u8>, Refusal> {
        self.inner.read_file(path).await
    }

    async fn replace_file(&self, path: &str, bytes: &[u8]) -> Result<(), Refusal> {
        self.inner.replace_file(path, bytes).await
    }

    async fn run(&self, command: &str) -> Result<Vec<u8>, Refusal> {
        self.inner.run(command).await
    }
}
