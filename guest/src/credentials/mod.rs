//! Where credentials come from: Terraform's order of sources, which is not that of AWS's SDKs.
//!
//! Without it a state would be written with the rights of whoever happens to be named in the environment, or the
//! machine's own, instead of those of the profile or role that the block names.
//!
//! Planning and executing are apart: a plan names exactly one source and touches no network, so that it can be told to a
//! person; executing it calls the services.

mod chain;
mod container;
#[cfg(test)]
mod fake;
mod files;
mod imds;
mod ini;
mod paths;
mod process;
mod profile;
mod services;
mod session;
mod shared;
mod sso;
mod sts;
#[cfg(test)]
mod tests;
mod wire;

pub(crate) use chain::{
    Arguments, ImdsMode, PlanError, ProfileSettings, TRUE_OR_FALSE, flag, plan,
};
pub(crate) use files::{FileArguments, set};
pub(crate) use imds::Memory;
pub(crate) use paths::expand;
pub(crate) use services::{Endpoints, Services};
pub(crate) use session::{Checks, Outside, Session, others};

use crate::config::{ServiceLocation, Sourced};
use crate::contract::ErrorCode;
use crate::platform::AccessKey;
pub(crate) use crate::platform::Credentials;
use crate::secret::Secret;

/// The one place that credentials come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A role, assumed with the credentials of another source.
    AssumeRole {
        from: Box<Source>,
        role: RoleArguments,
    },
    /// The endpoint that ECS or EKS gives a container.
    Container(ContainerArguments),
    /// Keys in the environment, and the variable of their id.
    Environment {
        variable: &'static str,
        keys: StaticKeys,
    },
    /// What the host lends.
    HostGiven,
    /// The role of the EC2 instance.
    Imds(ImdsArguments),
    /// A command of a profile.
    Process(ProcessArguments),
    /// Keys in a profile.
    Profile { name: String, keys: StaticKeys },
    /// IAM Identity Center.
    Sso(SsoArguments),
    /// Keys in the block.
    Static(StaticKeys),
    /// A role, assumed with an OpenID Connect token.
    WebIdentity(WebIdentityArguments),
}

/// Keys that are there without asking anybody.
#[derive(Clone, Debug)]
pub(crate) struct StaticKeys {
    pub(crate) key: AccessKey,
    /// `AWS_ACCOUNT_ID` or `aws_account_id`.
    pub(crate) account_id: Option<String>,
}

/// A role to assume. Texts are as they are sent: checked, trimmed.
#[derive(Clone, Debug, Default)]
pub(crate) struct RoleArguments {
    pub(crate) role_arn: String,
    /// 900 unless ordered otherwise.
    pub(crate) duration_seconds: u32,
    pub(crate) external_id: Option<String>,
    pub(crate) policy: Option<String>,
    /// Sorted.
    pub(crate) policy_arns: Vec<String>,
    /// None: one is made of the time.
    pub(crate) session_name: Option<String>,
    pub(crate) source_identity: Option<String>,
    /// Sorted by key.
    pub(crate) tags: Vec<(String, String)>,
    /// Sorted.
    pub(crate) transitive_tag_keys: Vec<String>,
    /// The profile that orders it. None: the block.
    pub(crate) profile: Option<String>,
}

/// A role to assume with a token. The call is not signed.
#[derive(Clone, Debug)]
pub(crate) struct WebIdentityArguments {
    pub(crate) role_arn: String,
    /// None: not sent.
    pub(crate) duration_seconds: Option<u32>,
    pub(crate) policy: Option<String>,
    /// Sorted.
    pub(crate) policy_arns: Vec<String>,
    /// None: one is made of the time.
    pub(crate) session_name: Option<String>,
    pub(crate) token: Token,
    /// The profile that orders it. None: the block or the environment.
    pub(crate) profile: Option<String>,
}

/// An OpenID Connect token.
#[derive(Clone, Debug)]
pub(crate) enum Token {
    /// The path of the file that holds it; read anew for every call, sent verbatim.
    File(String),
    /// The token itself.
    Inline(Secret),
}

/// What a profile says of IAM Identity Center.
#[derive(Clone, Debug)]
pub(crate) struct SsoArguments {
    pub(crate) profile: String,
    /// Name of the section `sso-session`. None: the older form, whose tokens are never refreshed.
    pub(crate) session: Option<String>,
    pub(crate) start_url: String,
    pub(crate) account_id: String,
    pub(crate) role_name: String,
    /// Where cached tokens are, without a slash at its end: `<home>/.aws/sso/cache`.
    pub(crate) cache_directory: String,
    /// `GetRoleCredentials`.
    pub(crate) portal: Sourced<ServiceLocation>,
    /// `CreateToken`.
    pub(crate) oidc: ServiceLocation,
}

/// A command that prints credentials.
#[derive(Clone, Debug)]
pub(crate) struct ProcessArguments {
    pub(crate) profile: String,
    /// As it stands in the file. May hold a secret: not to be shown.
    pub(crate) command: Secret,
    pub(crate) origin: Origin,
}

/// Whose a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// An argument of the block names it: whoever writes the block chooses it.
    BlockFile,
    /// It is the user's own: at its usual place, or where the environment says.
    UserFile,
}

/// Where a container's credentials are.
#[derive(Clone, Debug)]
pub(crate) struct ContainerArguments {
    pub(crate) address: ContainerAddress,
    /// `AWS_CONTAINER_AUTHORIZATION_TOKEN`.
    pub(crate) token: Option<Secret>,
    /// `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`, which comes first; read anew for every call.
    pub(crate) token_file: Option<String>,
}

/// The URL of a container's credentials, as the environment has it: not checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ContainerAddress {
    /// `AWS_CONTAINER_CREDENTIALS_FULL_URI`.
    Full(String),
    /// `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`.
    Relative(String),
}

/// How to reach the EC2 instance metadata service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImdsArguments {
    /// URL, without a slash at its end.
    pub(crate) endpoint: String,
    /// It must not be asked.
    pub(crate) is_disabled: bool,
    /// Never without a session token (IMDSv1).
    pub(crate) is_v1_disabled: bool,
}

/// Whose credentials they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Account and partition stand in it.
    pub(crate) arn: String,
}

/// Why a source has no credentials. The texts hold no secret.
#[derive(Clone, Debug)]
pub(crate) struct ProviderError {
    pub(crate) code: ErrorCode,
    /// Why, for the person; no stop at its end.
    pub(crate) message: String,
    /// Whether the same may succeed later without anybody changing anything.
    pub(crate) retryable: bool,
    /// Names as the contract lists them: `operation`, `status`, `store-code`, `request-id`, `permission`, `resource`.
    pub(crate) facts: Vec<(String, String)>,
}

impl ProviderError {
    /// What is there is wrong, or nothing is there.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            code: ErrorCode::Credentials,
            message: message.into(),
            retryable: false,
            facts: Vec::new(),
        }
    }

    /// The same, behind words that say what it was for.
    fn behind(mut self, purpose: &str) -> Self {
        self.message = format!("{purpose}: {}", self.message);
        self
    }
}

/// The services that know credentials.
pub(crate) trait Providers {
    /// The account by all the ways there are; `instance`: the credentials are that instance's own.
    fn account(
        &self,
        credentials: &Credentials,
        instance: Option<&ImdsArguments>,
    ) -> Result<Identity, ProviderError>;

    /// `sts:AssumeRole`, signed with `from`.
    fn assume_role(
        &self,
        role: &RoleArguments,
        from: &Credentials,
    ) -> Result<Credentials, ProviderError>;

    /// `sts:AssumeRoleWithWebIdentity`.
    fn assume_role_with_web_identity(
        &self,
        role: &WebIdentityArguments,
    ) -> Result<Credentials, ProviderError>;

    /// `sts:GetCallerIdentity`.
    fn caller_identity(&self, credentials: &Credentials) -> Result<Identity, ProviderError>;

    /// The endpoint of ECS or EKS.
    fn container(&self, arguments: &ContainerArguments) -> Result<Credentials, ProviderError>;

    /// The EC2 instance metadata service.
    fn imds(&self, arguments: &ImdsArguments) -> Result<Credentials, ProviderError>;

    /// IAM Identity Center; refreshes its token where that can be done.
    fn sso(&self, arguments: &SsoArguments) -> Result<Credentials, ProviderError>;
}
