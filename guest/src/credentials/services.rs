//! The providers that talk to services, put together.
//!
//! Without one place that has them all, each step of the chain would have to know time limits, endpoints and user agents
//! of calls that are none of its business.

use std::time::Duration;

use crate::config::ServiceLocation;
use crate::platform::Platform;

use super::imds::{self, Imds};
use super::sso::Sso;
use super::sts::{self, Sts};
use super::wire::Wire;
use super::{
    ContainerArguments, Credentials, Identity, ImdsArguments, ProviderError, Providers,
    RoleArguments, SsoArguments, WebIdentityArguments, container,
};

/// The services, as one call on one store reaches them.
pub(crate) struct Services<'a> {
    pub(crate) platform: &'a dyn Platform,
    /// Fit for a header.
    pub(crate) user_agent: &'a str,
    /// When the call must end, on the monotonic clock.
    pub(crate) deadline: Option<Duration>,
    /// How often a request is tried; at least 1. The metadata service has its own number.
    pub(crate) attempts: u32,
    pub(crate) endpoints: &'a Endpoints,
    pub(crate) memory: &'a imds::Memory,
}

/// Where STS and IAM are, or why they are nowhere: that matters only once they are asked.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    /// For the block's own roles and checks: `sts_region` counts.
    pub(crate) sts: Result<ServiceLocation, String>,
    /// For roles of profiles.
    pub(crate) sts_of_profiles: Result<ServiceLocation, String>,
    /// For the account id, where STS is not to be asked first.
    pub(crate) iam: Result<ServiceLocation, String>,
}

impl Services<'_> {
    fn wire(&self) -> Wire<'_> {
        Wire {
            platform: self.platform,
            user_agent: self.user_agent,
            deadline: self.deadline,
        }
    }

    fn sts(&self, profile: Option<&String>) -> Result<Sts<'_>, ProviderError> {
        let place = match profile {
            Some(_) => &self.endpoints.sts_of_profiles,
            None => &self.endpoints.sts,
        };
        Ok(Sts {
            wire: self.wire(),
            place: place.as_ref().map_err(ProviderError::new)?,
            attempts: self.attempts,
        })
    }

    fn instance<'i>(&'i self, arguments: &'i ImdsArguments) -> Imds<'i> {
        Imds {
            wire: self.wire(),
            arguments,
            memory: self.memory,
        }
    }
}

impl Providers for Services<'_> {
    /// The metadata service if the credentials are an instance's, else `iam:GetUser`; then `sts:GetCallerIdentity`; then
    /// `iam:ListRoles`.
    fn account(
        &self,
        credentials: &Credentials,
        instance: Option<&ImdsArguments>,
    ) -> Result<Identity, ProviderError> {
        let (wire, key) = (self.wire(), &credentials.key);
        let iam = self.endpoints.iam.as_ref().map_err(ProviderError::new);
        let mut errors = Vec::new();
        let first = match instance {
            Some(arguments) => (self.instance(arguments).identity().map(Some))
                .map_err(|error| ("EC2 Metadata IAM information", error)),
            None => (iam.clone())
                .and_then(|iam| sts::iam_user(wire, iam, key, self.attempts))
                .map_err(|error| ("iam:GetUser", error)),
        };
        match first {
            Ok(Some(identity)) => return Ok(identity),
            Ok(None) => {}
            Err(error) => errors.push(error),
        }
        match self.caller_identity(credentials) {
            Ok(identity) => return Ok(identity),
            Err(error) => errors.push(("sts:GetCallerIdentity", error)),
        }
        match iam.and_then(|iam| sts::iam_role(wire, iam, key, self.attempts)) {
            Ok(identity) => return Ok(identity),
            Err(error) => errors.push(("iam:ListRoles", error)),
        }
        let mut message =
            "AWS account ID not previously found and failed retrieving via all available methods; \
                           skip_requesting_account_id = true goes without it. Errors: "
                .to_owned();
        let mut retryable = false;
        for (index, (way, error)) in errors.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            message.push_str(&format!(
                "{separator}retrieving account information via {way}: {}",
                error.message
            ));
            retryable |= error.retryable;
        }
        let mut error = ProviderError::new(message);
        error.retryable = retryable;
        Err(error)
    }

    fn assume_role(
        &self,
        role: &RoleArguments,
        from: &Credentials,
    ) -> Result<Credentials, ProviderError> {
        self.sts(role.profile.as_ref())?.assume_role(role, from)
    }

    fn assume_role_with_web_identity(
        &self,
        role: &WebIdentityArguments,
    ) -> Result<Credentials, ProviderError> {
        self.sts(role.profile.as_ref())?
            .assume_role_with_web_identity(role)
    }

    fn caller_identity(&self, credentials: &Credentials) -> Result<Identity, ProviderError> {
        self.sts(None)?.caller_identity(&credentials.key)
    }

    fn container(&self, arguments: &ContainerArguments) -> Result<Credentials, ProviderError> {
        container::credentials(self.wire(), arguments, self.attempts)
    }

    fn imds(&self, arguments: &ImdsArguments) -> Result<Credentials, ProviderError> {
        self.instance(arguments).credentials()
    }

    fn sso(&self, arguments: &SsoArguments) -> Result<Credentials, ProviderError> {
        let sso = Sso {
            wire: self.wire(),
            arguments,
            attempts: self.attempts,
        };
        sso.credentials()
    }
}

#[cfg(test)]
mod recorder;
#[cfg(test)]
mod tests;
