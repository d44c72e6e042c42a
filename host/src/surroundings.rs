//! What of this machine a store may see: credentials, variables, files, commands.
//!
//! The component imports neither files nor the environment; it asks here, and the default answer is no.
//! Without this module a tenant's configuration could name a file or a command of the service that runs it.

use std::sync::Arc;

use async_trait::async_trait;

use crate::Secret;

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

/// The variables that a store on a person's own machine may see.
///
/// Credentials, region, endpoint and retry settings of AWS's tools, and Terraform's suffix of the user
/// agent: what Terraform's `s3` backend reads for the arguments that this version knows.
pub const LOCAL_VARIABLES: &[&str] = &[
    "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_MAX_ATTEMPTS",
    "AWS_REGION",
    "AWS_S3_ENDPOINT",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SSE_CUSTOMER_KEY",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_USE_FIPS_ENDPOINT",
    "TF_APPEND_USER_AGENT",
];

/// This process's environment, as far as [`LOCAL_VARIABLES`] go: what a store on a person's own machine sees.
#[derive(Clone, Copy, Debug)]
pub struct Local;

#[async_trait]
impl Surroundings for Local {
    async fn credentials(&self) -> Result<Option<AccessKey>, Refusal> {
        Ok(None)
    }

    async fn variable(&self, name: &str) -> Result<Option<String>, Refusal> {
        if !LOCAL_VARIABLES.contains(&name) {
            return Err(Refusal::Denied);
        }
        Ok(std::env::var(name).ok())
    }
}

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
