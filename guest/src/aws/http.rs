//! Sends a request until it is answered: signs, judges, waits and repeats, within the budget of the call.
//!
//! The one thing that must not get lost on the way is whether an earlier attempt may have taken effect: a write that
//! was repeated and is then refused has perhaps met itself.

use std::cell::RefCell;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::config::{BucketLocation, Settings};
use crate::platform::{
    AccessKey, HttpBody, HttpRequest, HttpResponse, Method, Platform, Timeouts, TransportError,
};

use super::error::StoreError;
use super::retry::{self, Cause, Verdict};
use super::sign::{self, Signable};

const USER_AGENT: &str = concat!(
    "cofferdam/",
    env!("CARGO_PKG_VERSION"),
    " (+",
    env!("CARGO_PKG_REPOSITORY"),
    ")"
);

/// Terraform's, who waits 30 s for TCP and 10 s for TLS; a healthy store needs a tenth of a second.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// For the store to begin its answer, once it has the request.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(30);

/// For the store to send some more of its answer.
const BETWEEN_BYTES_TIMEOUT: Duration = Duration::from_secs(30);

/// The slowest upload that is waited for. Bytes a second.
const SLOWEST_UPLOAD: u64 = 64 * 1024;

/// How much of an answer is read that says nothing but "done" or "refused", so that the connection can be used again.
const MAX_NOTICE: usize = 64 * 1024;

/// However many attempts are configured: a host that refuses connections this often is down.
const MAX_REFUSED_CONNECTIONS: u32 = 9;

/// The last second that a signature can name, in the year 9999.
const END_OF_TIME: Duration = Duration::from_secs(253_402_300_799);

/// One operation on the store, to be sent.
pub(crate) struct Request<'r> {
    pub(crate) method: Method,
    /// Path, and query where there is one; percent-encoded, starts with `/`.
    pub(crate) path_and_query: String,
    /// Without those that every request has.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<Payload<'r>>,
    /// Largest answer to take. Bytes.
    pub(crate) limit: u64,
}

/// The body of a request.
#[derive(Clone, Copy)]
pub(crate) struct Payload<'r> {
    pub(crate) bytes: &'r [u8],
    pub(crate) sha256: [u8; 32],
}

/// A good answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: AnswerBody,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(known, _)| known == name)?;
        Some(value)
    }
}

/// What came with a good answer.
pub(crate) enum AnswerBody {
    /// It is larger than the request's limit. Bytes.
    TooLarge(u64),
    /// All of it.
    Whole(Vec<u8>),
}

impl std::fmt::Debug for AnswerBody {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AnswerBody::TooLarge(size) => write!(formatter, "TooLarge({size})"),
            AnswerBody::Whole(bytes) => write!(formatter, "Whole({} bytes)", bytes.len()),
        }
    }
}

/// No good answer.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// Why the last attempt failed.
    pub(crate) cause: Cause,
    /// How often the request was sent.
    pub(crate) attempts: u32,
    /// Whether any attempt may have changed the store.
    pub(crate) ambiguous: bool,
    /// The budget of the call was too small for another attempt.
    pub(crate) out_of_time: bool,
}

impl Failure {
    /// The store's error, when there is one.
    pub(crate) fn refusal(&self) -> Option<&StoreError> {
        match &self.cause {
            Cause::Store(error) => Some(error),
            _ => None,
        }
    }

    /// Whether the last answer was a refusal of which this holds.
    pub(crate) fn is(&self, property: impl Fn(&StoreError) -> bool) -> bool {
        self.refusal().is_some_and(property)
    }
}

/// Sends the requests of one call.
pub(crate) struct Client<'a, P> {
    platform: &'a P,
    settings: &'a Settings,
    location: &'a BucketLocation,
    /// What to add to our clock to get the store's. Seconds.
    skew: &'a AtomicI64,
    /// When the call must end, on the monotonic clock.
    deadline: Option<Duration>,
    /// Fetched once a call: the host may change them at any time.
    key: RefCell<Option<AccessKey>>,
}

impl<'a, P: Platform> Client<'a, P> {
    pub(crate) fn new(
        platform: &'a P,
        settings: &'a Settings,
        location: &'a BucketLocation,
        skew: &'a AtomicI64,
        budget: Option<Duration>,
    ) -> Self {
        Self {
            platform,
            settings,
            location,
            skew,
            deadline: budget.map(|budget| platform.monotonic().saturating_add(budget)),
            key: RefCell::new(None),
        }
    }

    /// Sends a request, several times if need be.
    pub(crate) fn send(&self, request: &Request<'_>) -> Result<Answer, Failure> {
        let mut failure = Failure {
            cause: Cause::BudgetSpent,
            attempts: 0,
            ambiguous: false,
            out_of_time: false,
        };
        let mut retries = 0;
        let mut resynchronised = false;
        let mut reauthenticated = false;
        loop {
            if self.remaining() == Some(Duration::ZERO) {
                failure.out_of_time = true;
                return Err(failure);
            }
            let clock = self.store_clock();
            failure.attempts += 1;
            failure.cause = match self.attempt(request, clock) {
                Ok(answer) => return Ok(answer),
                Err(cause) => cause,
            };
            failure.ambiguous |= request.method != Method::Get && failure.cause.may_have_happened();
            match retry::verdict(&failure.cause, clock) {
                Verdict::Again => {
                    retries += 1;
                    if retries >= self.attempts_worth(&failure.cause) {
                        return Err(failure);
                    }
                    let random = self.platform.next_u64();
                    let Some(pause) = retry::pause(retries, random, &failure.cause) else {
                        return Err(failure);
                    };
                    if !self.pause(pause) {
                        failure.out_of_time = true;
                        return Err(failure);
                    }
                }
                Verdict::Reauthenticate if !reauthenticated && self.renew_key() => {
                    reauthenticated = true;
                }
                Verdict::Resynchronise
                    if !resynchronised && self.adopt_clock(&failure.cause, clock) =>
                {
                    resynchronised = true;
                }
                _ => return Err(failure),
            }
        }
    }

    /// Waits, unless the call would then be out of time.
    pub(crate) fn pause(&self, duration: Duration) -> bool {
        let fits = self.remaining().is_none_or(|left| duration < left);
        if fits {
            self.platform.sleep(duration);
        }
        fits
    }

    /// Waits before a conditional request is repeated that collided with another one; see [`Self::pause`].
    pub(crate) fn pause_after_collision(&self, round: u32) -> bool {
        self.pause(retry::collision_pause(round, self.platform.next_u64()))
    }

    fn remaining(&self) -> Option<Duration> {
        let deadline = self.deadline?;
        Some(deadline.saturating_sub(self.platform.monotonic()))
    }

    fn attempts_worth(&self, cause: &Cause) -> u32 {
        match cause {
            Cause::Transport(TransportError::NotConnected(_)) => {
                self.settings.max_attempts.min(MAX_REFUSED_CONNECTIONS)
            }
            _ => self.settings.max_attempts,
        }
    }

    fn attempt(&self, request: &Request<'_>, clock: Duration) -> Result<Answer, Cause> {
        let key = self.key()?;
        let headers = self.signed_headers(request, &key, clock)?;
        let upload = request.body.map_or(0, |body| body.bytes.len() as u64);
        let response = self
            .platform
            .send(&HttpRequest {
                method: request.method,
                scheme: &self.location.scheme,
                authority: &self.location.authority,
                path_and_query: &request.path_and_query,
                headers: &headers,
                body: request.body.map(|body| body.bytes),
                timeouts: Timeouts {
                    connect: CONNECT_TIMEOUT,
                    first_byte: FIRST_BYTE_TIMEOUT + Duration::from_secs(upload / SLOWEST_UPLOAD),
                    between_bytes: BETWEEN_BYTES_TIMEOUT,
                    total: self.remaining(),
                },
            })
            .map_err(Cause::Transport)?;
        match (response.status, request.method) {
            (200..=299, Method::Get) => collect(response, request.limit).map_err(Cause::Transport),
            // The status says it all: what a later part of the answer could not say any more is ignored.
            (200..=299, _) | (304, Method::Get) => {
                let (response, _) = drain(response);
                Ok(Answer {
                    status: response.status,
                    headers: response.headers,
                    body: AnswerBody::Whole(Vec::new()),
                })
            }
            _ => {
                let (response, body) = drain(response);
                Err(Cause::Store(Box::new(StoreError::of(&response, &body))))
            }
        }
    }

    fn signed_headers(
        &self,
        request: &Request<'_>,
        key: &AccessKey,
        clock: Duration,
    ) -> Result<Vec<(String, String)>, Cause> {
        let mut headers = request.headers.clone();
        let user_agent = match &self.settings.user_agent_suffix {
            Some(suffix) => format!("{USER_AGENT} {suffix}"),
            None => USER_AGENT.to_owned(),
        };
        headers.push(("user-agent".to_owned(), user_agent));
        let payload_sha256 = match &request.body {
            Some(body) => {
                let length = body.bytes.len().to_string();
                headers.push(("content-length".to_owned(), length));
                sign::hexadecimal(&body.sha256)
            }
            None => sign::EMPTY_SHA256.to_owned(),
        };
        let signable = Signable {
            method: request.method,
            authority: &self.location.authority,
            path_and_query: &request.path_and_query,
            headers: &headers,
            payload_sha256: &payload_sha256,
            region: &self.location.region,
            time: clock,
        };
        let signature = sign::signature(&signable, key).map_err(Cause::Unsendable)?;
        headers.extend(signature);
        Ok(headers)
    }

    /// The credentials that the host lends, else those of the configuration.
    fn key(&self) -> Result<AccessKey, Cause> {
        if let Some(key) = &*self.key.borrow() {
            return Ok(key.clone());
        }
        let key = self.fetch_key().ok_or(Cause::NoCredentials)?;
        self.key.replace(Some(key.clone()));
        Ok(key)
    }

    fn fetch_key(&self) -> Option<AccessKey> {
        self.platform.credentials().or_else(|| {
            let own = self.settings.credentials.as_ref()?;
            Some(AccessKey {
                id: own.access_key_id.clone(),
                secret: own.secret_access_key.clone(),
                session_token: own.session_token.clone(),
            })
        })
    }

    /// Asks for credentials anew. False: they are the ones that were just refused.
    fn renew_key(&self) -> bool {
        let fresh = self.fetch_key();
        let old = self.key.replace(fresh.clone());
        match (fresh, old) {
            (Some(fresh), Some(old)) => {
                let token = |key: &AccessKey| {
                    key.session_token
                        .as_ref()
                        .map(|token| token.expose().to_owned())
                };
                fresh.id != old.id
                    || fresh.secret.expose() != old.secret.expose()
                    || token(&fresh) != token(&old)
            }
            _ => false,
        }
    }

    /// Our clock, corrected by what the store told us of its own.
    fn store_clock(&self) -> Duration {
        let now = self.platform.now();
        let skew = self.skew.load(Ordering::Relaxed);
        let correction = Duration::from_secs(skew.unsigned_abs());
        let clock = if skew < 0 {
            now.saturating_sub(correction)
        } else {
            now.saturating_add(correction)
        };
        clock.min(END_OF_TIME)
    }

    /// Takes the store's clock over from an error. False: the error names no time, or the one we used.
    fn adopt_clock(&self, cause: &Cause, used: Duration) -> bool {
        let Cause::Store(error) = cause else {
            return false;
        };
        let Some(theirs) = error.date else {
            return false;
        };
        if theirs.abs_diff(used) < Duration::from_secs(1) {
            return false;
        }
        let ours = i64::try_from(self.platform.now().as_secs()).unwrap_or(i64::MAX);
        let theirs = i64::try_from(theirs.as_secs()).unwrap_or(i64::MAX);
        self.skew
            .store(theirs.saturating_sub(ours), Ordering::Relaxed);
        true
    }
}

/// Reads a body whole: one that ends before its declared length is an error, never a shorter state.
fn collect(mut response: HttpResponse, limit: u64) -> Result<Answer, TransportError> {
    let declared = response
        .header("content-length")
        .map(|value| value.trim().parse::<u64>())
        .transpose()
        .map_err(|_| TransportError::Broken("the answer's length is no number".to_owned()))?;
    let body = match declared {
        Some(size) if size > limit => AnswerBody::TooLarge(size),
        _ => read_whole(&mut *response.body, declared, limit)?,
    };
    Ok(Answer {
        status: response.status,
        headers: response.headers,
        body,
    })
}

fn read_whole(
    body: &mut dyn HttpBody,
    declared: Option<u64>,
    limit: u64,
) -> Result<AnswerBody, TransportError> {
    let mut bytes = Vec::new();
    let capacity = declared.map_or(Ok(0), usize::try_from);
    let fits = capacity.is_ok_and(|capacity| bytes.try_reserve_exact(capacity).is_ok());
    if !fits {
        return Ok(AnswerBody::TooLarge(declared.unwrap_or(limit)));
    }
    while let Some(chunk) = body.next_chunk()? {
        let size = (bytes.len() + chunk.len()) as u64;
        if size > limit || bytes.try_reserve(chunk.len()).is_err() {
            return Ok(AnswerBody::TooLarge(size));
        }
        bytes.extend_from_slice(&chunk);
    }
    match declared {
        Some(declared) if declared != bytes.len() as u64 => Err(TransportError::Broken(format!(
            "the answer broke off after {} of {declared} bytes",
            bytes.len()
        ))),
        _ => Ok(AnswerBody::Whole(bytes)),
    }
}

/// Reads what there is of a body that matters little; a large or broken one is given up.
fn drain(mut response: HttpResponse) -> (HttpResponse, Vec<u8>) {
    let mut body = Vec::new();
    while body.len() < MAX_NOTICE {
        match response.body.next_chunk() {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) | Err(_) => break,
        }
    }
    body.truncate(MAX_NOTICE);
    (response, body)
}
