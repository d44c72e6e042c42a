//! Roles, and who may assume them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::Value;
use subtle::ConstantTimeEq as _;

use super::Error;
use crate::Secret;
use crate::dev_store::keyring::ACCOUNT;

/// A role of the embedded store's account. Whoever has a key may assume it, unless it is told otherwise.
#[derive(Clone)]
#[must_use]
pub struct Role {
    /// With its path.
    name: String,
    external_id: Option<String>,
    longest: i64,
    web_identity: Option<Secret>,
}

impl Role {
    /// A role of this name; `team/deploy` has a path.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            external_id: None,
            longest: 43_200,
            web_identity: None,
        }
    }

    /// Who assumes it must tell this external id.
    pub fn external_id(mut self, id: impl Into<String>) -> Self {
        self.external_id = Some(id.into());
        self
    }

    /// How long a session may last: 3600 to 43,200 seconds. Default: 12 hours.
    pub fn longest_session(mut self, seconds: u32) -> Self {
        self.longest = i64::from(seconds);
        self
    }

    /// The only web identity token that is taken for it. Default: any that is no expired JWT.
    pub fn web_identity(mut self, token: impl Into<String>) -> Self {
        self.web_identity = Some(Secret::new(token.into()));
        self
    }

    pub(super) fn admits(&self, external_id: Option<&str>) -> bool {
        let wanted = self.external_id.as_deref();
        wanted.is_none_or(|wanted| external_id == Some(wanted))
    }

    pub(super) fn check_duration(&self, seconds: i64) -> Result<(), Error> {
        if seconds <= self.longest {
            return Ok(());
        }
        Err(Error::validation(
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
                .to_owned(),
        ))
    }

    pub(super) fn check_web_identity(&self, token: &str, now: Timestamp) -> Result<(), Error> {
        let refused = |code, message: &str| Err(Error::new(StatusCode::BAD_REQUEST, code, message));
        if let Some(end) = end_of(token)
            && end <= now.as_second()
        {
            return refused(
                "ExpiredTokenException",
                "Token expired: current date/time must be before the expiration date/time",
            );
        }
        match &self.web_identity {
            Some(wanted) if !bool::from(wanted.expose().as_bytes().ct_eq(token.as_bytes())) => {
                refused(
                    "InvalidIdentityToken",
                    "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)",
                )
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Role")
            .field("name", &self.name)
            .field("longest", &self.longest)
            .finish_non_exhaustive()
    }
}

/// The role of an ARN. `None`: it may not be assumed, or is none of this account.
pub(super) fn find(roles: &[Role], arn: &str) -> Option<Role> {
    let account = arn.split(':').nth(4);
    let (_, path) = arn.split_once(":role/")?;
    if account != Some(ACCOUNT) {
        return None;
    }
    if roles.is_empty() {
        return Some(Role::new(path));
    }
    roles.iter().find(|role| role.name == path).cloned()
}

/// The last part of an ARN.
pub(super) fn name_of(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or_default()
}

/// When a token ends, if it is a JWT that says so. Seconds since 1970.
fn end_of(token: &str) -> Option<i64> {
    let claims = token.split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    claims.get("exp")?.as_i64()
}
