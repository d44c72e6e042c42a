//! The instance metadata service of EC2: credentials of the instance's role.
//!
//! Most machines have no such service, and nothing answers at its address: without short time-outs every command there
//! hangs. And where there is one, it falters now and then: without the extension, credentials that AWS still takes would
//! be thrown away with it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::aws::error::presentable;
use crate::aws::retry::Cause;
use crate::config::ServiceLocation;
use crate::config::endpoint::Endpoint;
use crate::platform::{Method, Platform, TransportError};

use super::wire::{self, Call, Effort, Failed, Reply, Wire};
use super::{Credentials, Identity, ImdsArguments, ProviderError, container};

/// Where the service is, if it is.
const USUAL: [&str; 2] = ["http://169.254.169.254", "http://[fd00:ec2::254]"];

const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
const PROFILE: &str = "/latest/meta-data/iam/info";
const TOKEN: &str = "/latest/api/token";

/// How long a session token is asked for. Seconds.
const TOKEN_LIFE: u64 = 300;

/// Longest time between two looks at the role's credentials. Seconds.
const LONGEST_LIFE: u64 = 3600;

/// Credentials that live longer than this are kept as they are when there are no new ones. Seconds.
const COMFORTABLE: u64 = 5 * 60;

/// The extension of others lies between [`COMFORTABLE`] and as much more. Seconds.
const EXTENSION_SPREAD: u64 = 10 * 60;

const ATTEMPTS: u32 = 3;
const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// For one look-up, session token and repetitions included.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// What is remembered of the service between calls.
#[derive(Default)]
pub(crate) struct Memory(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// The endpoint that the rest is about.
    endpoint: String,
    /// It has answered before.
    is_there: bool,
    /// It gives no session tokens.
    is_v1: bool,
    /// A session token, and when it ends on the monotonic clock.
    token: Option<(Zeroizing<String>, Duration)>,
}

/// The service, as one configuration reaches it.
pub(super) struct Imds<'a> {
    pub(super) wire: Wire<'a>,
    pub(super) arguments: &'a ImdsArguments,
    pub(super) memory: &'a Memory,
}

impl Imds<'_> {
    /// The instance profile, whose ARN names the account.
    pub(super) fn identity(&self) -> Result<Identity, ProviderError> {
        let place = self.place()?;
        let reply = self.get(&place, PROFILE)?;
        let mut object = reply.json().unwrap_or_default();
        match wire::take_text(&mut object, "InstanceProfileArn") {
            Some(arn) if arn.split(':').count() >= 6 => Ok(Identity { arn }),
            _ => Err(ProviderError::new(
                "the EC2 instance metadata service names no instance profile",
            )),
        }
    }

    /// New credentials.
    pub(super) fn credentials(&self) -> Result<Credentials, ProviderError> {
        let place = &self.place()?;
        let roles = self.get(place, ROLES).map_err(|error| ProviderError {
            message: format!("no EC2 IMDS role found, {}", error.message),
            ..error
        })?;
        let roles = std::str::from_utf8(&roles.body).unwrap_or_default();
        let role = roles.lines().next().unwrap_or_default().trim();
        if role.is_empty() {
            return Err(ProviderError::new("unexpected empty EC2 IMDS role list"));
        }
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
        if !role.bytes().all(is_name) {
            return Err(ProviderError::new(
                "no EC2 IMDS role found: what the service answers is no name of a role",
            ));
        }
        let failed = |why: &str| {
            ProviderError::new(format!(
                "failed to get {role} EC2 IMDS role credentials, {why}"
            ))
        };
        let reply = self.get(place, &format!("{ROLES}{role}"));
        let reply = reply.map_err(|error| ProviderError {
            message: failed(&error.message).message,
            ..error
        })?;
        let mut object = reply
            .json()
            .ok_or_else(|| failed("the answer is no JSON"))?;
        let code = wire::take_text(&mut object, "Code").unwrap_or_default();
        if !code.eq_ignore_ascii_case("Success") {
            let message = wire::take_text(&mut object, "Message").unwrap_or_default();
            let shown = |text: &str| presentable(text).unwrap_or_default();
            return Err(failed(&format!("{}: {}", shown(&code), shown(&message))));
        }
        let credentials = container::read(&mut object);
        let mut credentials =
            credentials.map_err(|what| failed(&format!("the answer has no usable {what}")))?;
        let longest = self.wire.platform.now().as_secs() + LONGEST_LIFE;
        let expires_at = credentials.expires_at;
        let expires_at = expires_at.ok_or_else(|| failed("the answer has no expiration"))?;
        credentials.expires_at = Some(expires_at.min(longest));
        Ok(credentials)
    }

    fn place(&self) -> Result<ServiceLocation, ProviderError> {
        if self.arguments.is_disabled {
            return Err(ProviderError::new(
                "no EC2 IMDS role found, access disabled to EC2 IMDS by the argument skip_metadata_api_check or the \
                 environment variable AWS_EC2_METADATA_DISABLED",
            ));
        }
        let endpoint = Endpoint::parse(&self.arguments.endpoint).map_err(|why| {
            ProviderError::new(format!(
                "the endpoint of the EC2 instance metadata service cannot be used: {why}"
            ))
        })?;
        Ok(ServiceLocation {
            scheme: endpoint.scheme.to_owned(),
            authority: endpoint.authority(),
            path: endpoint.path,
            region: String::new(),
        })
    }

    /// One look-up.
    fn get(&self, place: &ServiceLocation, path: &str) -> Result<Reply, ProviderError> {
        let end = self.wire.platform.monotonic() + LOOK_UP_TIMEOUT;
        let deadline = self.wire.deadline.map_or(end, |other| other.min(end));
        let wire = Wire {
            deadline: Some(deadline),
            ..self.wire
        };
        let mut renewed = false;
        loop {
            let token = self.token(wire, place)?;
            let mut headers = Vec::new();
            if let Some(token) = &token {
                headers.push(wire::header("x-aws-ec2-metadata-token", token));
            }
            let secret = token.as_ref().map_or("", |token| token.as_str());
            let path = format!("{}{path}", place.path);
            let secrets = [secret];
            let call = self.call(Method::Get, place, &path, headers, &secrets);
            let failed = match wire.send(&call) {
                Ok(reply) => {
                    self.known(|known| known.is_there = true);
                    return Ok(reply);
                }
                Err(failed) => failed,
            };
            if status(&failed) == Some(401) && !renewed {
                renewed = true;
                self.known(|known| (known.is_v1, known.token) = (false, None));
                continue;
            }
            return Err(wire::error(&call, &failed));
        }
    }

    /// The session token. None: go on without one, as IMDSv1 did.
    fn token(
        &self,
        wire: Wire<'_>,
        place: &ServiceLocation,
    ) -> Result<Option<Zeroizing<String>>, ProviderError> {
        let now = wire.platform.monotonic();
        let known = self.known(|known| match &known.token {
            _ if known.is_v1 => Some(None),
            Some((token, end)) if now < *end => Some(Some(token.clone())),
            _ => None,
        });
        if let Some(token) = known {
            return Ok(token);
        }
        let life = TOKEN_LIFE.to_string();
        let headers = vec![wire::header("x-aws-ec2-metadata-token-ttl-seconds", &life)];
        let path = format!("{}{TOKEN}", place.path);
        let call = self.call(Method::Put, place, &path, headers, &[]);
        let failed = match wire.send(&call) {
            Ok(reply) => return self.keep(&call, &reply, now).map(Some),
            Err(failed) => failed,
        };
        let error = wire::error(&call, &failed);
        let is_never_given = failed.is_silence() || matches!(status(&failed), Some(403..=405));
        let is_denied = matches!(&failed.cause, Cause::Transport(TransportError::Denied(_)));
        if status(&failed) == Some(400) || self.arguments.is_v1_disabled || is_denied {
            let message = format!("failed to get API token, {}", error.message);
            return Err(ProviderError { message, ..error });
        }
        if is_never_given {
            self.known(|known| known.is_v1 = true);
        }
        Ok(None)
    }

    fn keep(
        &self,
        call: &Call<'_>,
        reply: &Reply,
        now: Duration,
    ) -> Result<Zeroizing<String>, ProviderError> {
        let token = std::str::from_utf8(&reply.body).unwrap_or_default().trim();
        if token.is_empty() || !wire::is_header_value(token) {
            return Err(wire::malformed(call, "session token"));
        }
        let life = reply.header("x-aws-ec2-metadata-token-ttl-seconds");
        let life = life.and_then(|life| life.trim().parse().ok());
        let life = Duration::from_secs(life.unwrap_or(TOKEN_LIFE).min(TOKEN_LIFE));
        let token = Zeroizing::new(token.to_owned());
        self.known(|known| {
            known.is_there = true;
            known.token = Some((token.clone(), now + life));
        });
        Ok(token)
    }

    fn call<'c>(
        &self,
        method: Method,
        place: &'c ServiceLocation,
        path_and_query: &'c str,
        headers: Vec<(String, String)>,
        secrets: &'c [&'c str],
    ) -> Call<'c> {
        Call {
            operation: "EC2 instance metadata",
            method,
            place,
            path_and_query,
            headers,
            // wasi:http sends no content-length of its own, and a PUT needs one.
            body: (method == Method::Put).then_some(b"".as_slice()),
            signer: None,
            secrets,
            effort: Effort {
                attempts: ATTEMPTS,
                connect: CONNECT_TIMEOUT,
                first_byte: FIRST_BYTE_TIMEOUT,
                longest_pause: LONGEST_PAUSE,
                transient_codes: &[],
                // Where nobody names the service and nothing ever answered, there is most likely nothing that could.
                is_silence_transient: !USUAL.contains(&self.arguments.endpoint.as_str())
                    || self.known(|known| known.is_there),
            },
        }
    }

    /// What is known of this endpoint.
    fn known<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        let mut known = self.memory.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.endpoint != self.arguments.endpoint {
            *known = Known {
                endpoint: self.arguments.endpoint.clone(),
                ..Known::default()
            };
        }
        look(&mut known)
    }
}

/// Credentials of before, for as long as the service falters: AWS goes on taking them then.
pub(super) fn extended(platform: &dyn Platform, mut old: Credentials) -> Credentials {
    let now = platform.now().as_secs();
    if old.expires_at.is_some_and(|end| end <= now + COMFORTABLE) {
        let random = platform.next_u64() % EXTENSION_SPREAD;
        old.expires_at = Some(now + COMFORTABLE + random);
    }
    old
}

fn status(failed: &Failed) -> Option<u16> {
    failed.refusal().map(|refusal| refusal.status)
}
