//! AWS IAM Identity Center: a token out of the cache of the AWS CLI, and credentials for it.
//!
//! Without the refresh a session that is good for days ends after an hour, in the middle of a long run. A refreshed
//! token that is not written back whole, with all that other tools keep beside it, logs the person out of those.

use std::time::Duration;

use serde_json::Value;
use sha1::{Digest, Sha1};
use zeroize::Zeroizing;

use crate::aws::sign::hexadecimal;
use crate::calendar;
use crate::config::{Diagnostic, Severity};
use crate::platform::{Method, Refusal};
use crate::secret::Secret;

use super::wire::{self, Call, Effort, Wire, take_text};
use super::{Credentials, ProviderError, SsoArguments};

/// More than any token lives. Seconds.
const LONGEST_LIFE: u64 = 366 * 24 * 3600;

const CREATE_TOKEN: &str = "sso-oidc:CreateToken";
const GET_ROLE_CREDENTIALS: &str = "sso:GetRoleCredentials";

/// IAM Identity Center, as one profile uses it.
pub(super) struct Sso<'a> {
    pub(super) wire: Wire<'a>,
    pub(super) arguments: &'a SsoArguments,
    pub(super) attempts: u32,
}

impl Sso<'_> {
    pub(super) fn credentials(&self) -> Result<Credentials, ProviderError> {
        let token = self.token()?;
        let token = token.expose();
        let arguments = self.arguments;
        let portal = &arguments.portal.value;
        let prefix = portal.path.trim_end_matches('/');
        let mut path = format!("{prefix}/federation/credentials?account_id=");
        encode(&mut path, &arguments.account_id);
        path.push_str("&role_name=");
        encode(&mut path, &arguments.role_name);
        let secrets = [token];
        let call = Call {
            operation: GET_ROLE_CREDENTIALS,
            method: Method::Get,
            place: portal,
            path_and_query: &path,
            headers: vec![wire::header("x-amz-sso_bearer_token", token)],
            body: None,
            signer: None,
            secrets: &secrets,
            effort: Effort::usual(self.attempts),
        };
        let reply = self.wire.send(&call).map_err(|failed| {
            let mut error = wire::error(&call, &failed);
            match failed.refusal().map(|refusal| refusal.status) {
                Some(401) => error.message.push_str(&self.log_in()),
                Some(403 | 404) => {
                    let (account, role) = (&arguments.account_id, &arguments.role_name);
                    error.message.push_str(&format!(
                        ". Check sso_account_id and sso_role_name: this session may not take the role {role:?} in the \
                         account {account:?}"
                    ));
                }
                _ => {}
            }
            error
        })?;
        let mut object = reply.json().unwrap_or_default();
        let found = object.get_mut("roleCredentials").map(Value::take);
        let mut found = found.unwrap_or_default();
        let mut text = |name| take_text(&mut found, name);
        let parts = (
            text("accessKeyId"),
            text("secretAccessKey"),
            text("sessionToken"),
        );
        let credentials = wire::credentials(parts.0, parts.1, parts.2);
        let mut credentials = credentials.map_err(|what| wire::malformed(&call, what))?;
        // Milliseconds.
        let expiration = found["expiration"].as_u64().map(|time| time / 1000);
        if expiration.is_none() {
            return Err(wire::malformed(&call, "expiration"));
        }
        credentials.expires_at = expiration;
        credentials.account_id = Some(arguments.account_id.clone());
        Ok(credentials)
    }

    /// A token that is still good.
    fn token(&self) -> Result<Secret, ProviderError> {
        let path = self.path();
        let cached = self.cached(&path)?;
        if self.wire.platform.now().as_secs() <= cached.expires_at {
            return Ok(cached.token);
        }
        if self.arguments.session.is_none() {
            return Err(self.error("the SSO session has expired or is invalid"));
        }
        self.refreshed(&path, &cached.object).or_else(|error| {
            // A refresh token may be good for one use only, and somebody else may just have used it.
            match self.cached(&path) {
                Ok(cached) if self.wire.platform.now().as_secs() <= cached.expires_at => {
                    Ok(cached.token)
                }
                _ => Err(error),
            }
        })
    }

    /// Where the AWS CLI keeps the token.
    fn path(&self) -> String {
        let arguments = self.arguments;
        let name = arguments.session.as_ref().unwrap_or(&arguments.start_url);
        let name = hexadecimal(&Sha1::digest(name));
        format!("{}/{name}.json", arguments.cache_directory)
    }

    fn cached(&self, path: &str) -> Result<Cached, ProviderError> {
        let bytes = match self.wire.platform.read_file(path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(Refusal::NotFound) => {
                return Err(self.error(&format!("there is no cached SSO token ({path})")));
            }
            Err(refusal) => return Err(wire::unreadable("cached SSO token", path, &refusal)),
        };
        let unusable = |why: &str| self.error(&format!("the cached SSO token in {path} {why}"));
        let object = wire::json(&bytes).ok_or_else(|| unusable("is no JSON object"))?;
        let text = |name: &str| object[name].as_str().filter(|text| !text.is_empty());
        let (Some(token), Some(date)) = (text("accessToken"), text("expiresAt")) else {
            return Err(unusable("must contain accessToken and expiresAt"));
        };
        if !wire::is_header_value(token) {
            return Err(unusable("does not fit into a header"));
        }
        let expires_at = wire::seconds(date).ok_or_else(|| unusable("has no valid expiresAt"))?;
        Ok(Cached {
            token: Secret::new(token.to_owned()),
            expires_at,
            object,
        })
    }

    /// A new token for the refresh token that is cached, written back.
    fn refreshed(&self, path: &str, object: &Value) -> Result<Secret, ProviderError> {
        let now = self.wire.platform.now();
        let registration = object["registrationExpiresAt"].as_str();
        let is_registered = registration
            .and_then(wire::seconds)
            .is_none_or(|end| now.as_secs() <= end);
        let text = |name: &str| object[name].as_str().filter(|text| !text.is_empty());
        let (Some(_), Some(secret), Some(refresh), true) = (
            text("clientId"),
            text("clientSecret"),
            text("refreshToken"),
            is_registered,
        ) else {
            return Err(self.error("the cached SSO token has expired and cannot be refreshed"));
        };
        let body = wire::json_of(&[
            ("clientId", &object["clientId"]),
            ("clientSecret", &object["clientSecret"]),
            ("grantType", &Value::from("refresh_token")),
            ("refreshToken", &object["refreshToken"]),
        ]);
        let oidc = &self.arguments.oidc;
        let endpoint = format!("{}/token", oidc.path.trim_end_matches('/'));
        let secrets = [secret, refresh];
        let call = Call {
            operation: CREATE_TOKEN,
            method: Method::Post,
            place: oidc,
            path_and_query: &endpoint,
            headers: vec![wire::header("content-type", "application/json")],
            body: Some(body.as_bytes()),
            signer: None,
            secrets: &secrets,
            effort: Effort::usual(self.attempts),
        };
        let reply = self.wire.send(&call).map_err(|failed| {
            let mut error = wire::error(&call, &failed);
            error.message = format!("unable to refresh the SSO token: {}", error.message);
            if failed
                .refusal()
                .is_some_and(|refusal| matches!(refusal.status, 400 | 401))
            {
                error.message.push_str(&self.log_in());
            }
            error
        })?;
        let mut answer = reply.json().unwrap_or_default();
        let token = take_text(&mut answer, "accessToken");
        let token = token
            .filter(|token| wire::is_header_value(token))
            .ok_or_else(|| wire::malformed(&call, "access token"))?;
        let life = answer["expiresIn"].as_u64().unwrap_or(0).min(LONGEST_LIFE);
        let expires_at = now.saturating_add(Duration::from_secs(life));
        let date = calendar::format_rfc3339(expires_at);
        let fresh = [
            ("accessToken", Value::from(token.as_str())),
            ("expiresAt", Value::from(date)),
            // Replaced even by nothing: the old one is used up.
            ("refreshToken", answer["refreshToken"].take()),
        ];
        let is_kept = |name: &str| fresh.iter().all(|(replaced, _)| *replaced != name);
        let old = object.as_object().into_iter().flatten();
        let mut fields: Vec<_> = old.map(|(name, value)| (name.as_str(), value)).collect();
        fields.retain(|(name, _)| is_kept(name));
        for (name, value) in &fresh {
            if !value.is_null() {
                fields.push((name, value));
            }
        }
        self.keep(path, &wire::json_of(&fields));
        Ok(Secret::new(token))
    }

    /// Writes the cache back. The new token is good even where that fails, but then it is good for this run only.
    fn keep(&self, path: &str, json: &str) {
        let Err(refusal) = self.wire.platform.replace_file(path, json.as_bytes()) else {
            return;
        };
        let why = match &refusal {
            Refusal::Denied => "the host of this backend does not let it replace the file",
            Refusal::Failed(reason) => reason,
            Refusal::NotFound => "there is no such file",
        };
        self.wire.platform.report(Diagnostic {
            severity: Severity::Warning,
            summary: "Refreshed SSO token not cached".to_owned(),
            detail: format!(
                "unable to cache the refreshed SSO token in {path}: {why}. This run goes on with the new token; the next \
                 one may need a new login{}.",
                self.log_in()
            ),
            attribute: None,
        });
    }

    fn error(&self, why: &str) -> ProviderError {
        ProviderError::new(format!("{why}{}", self.log_in()))
    }

    /// What helps in the end.
    fn log_in(&self) -> String {
        match &self.arguments.session {
            Some(session) => format!(": log in with \"aws sso login --sso-session {session}\""),
            None => format!(
                ": log in with \"aws sso login --profile {}\"",
                self.arguments.profile
            ),
        }
    }
}

/// A token as it stands in the cache.
struct Cached {
    token: Secret,
    /// Seconds since 1970.
    expires_at: u64,
    /// All of the file.
    object: Value,
}

fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte.into());
        } else {
            out.extend(wire::escaped(byte).map(char::from));
        }
    }
}
