//! Sends a request until it is answered: signs, judges, waits and repeats, within the budget of the call.
//!
//! The one thing that must not get lost on the way is whether an earlier attempt may have taken effect: a write that
//! was repeated and is then refused has perhaps met itself.

use std::cell::RefCell;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::config::Settings;
use crate::credentials::{Credentials, Memory, Outside, ProviderError, Services, Session};
use crate::platform::{
    AccessKey, HttpBody, HttpRequest, HttpResponse, Method, Platform, Timeouts, TransportError,
};

use super::error::StoreError;
use super::pace::Pace;
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

/// Where a request goes, and what its signature is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'p> {
    /// As credentials are scoped, such as `s3`.
    pub(crate) service: &'static str,
    /// `http` or `https`.
    pub(crate) scheme: &'p str,
    /// Host and, unless it is the scheme's default, port.
    pub(crate) authority: &'p str,
    pub(crate) region: &'p str,
}

/// One operation on a service, to be sent.
pub(crate) struct Request<'r> {
    pub(crate) place: Place<'r>,
    pub(crate) method: Method,
    /// Whether it can change something there: then an attempt without an answer leaves a doubt.
    pub(crate) changes: bool,
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
    /// The store goes on refusing the time of the signature, or does not say what time it has.
    pub(crate) wrong_clock: bool,
}

impl Failure {
    /// For an answer that says it was done but makes no sense. `ambiguous`: it may have been done.
    pub(crate) fn misunderstood(what: &str, ambiguous: bool) -> Self {
        Self {
            cause: Cause::Transport(TransportError::Broken(what.to_owned())),
            attempts: 1,
            ambiguous,
            out_of_time: false,
            wrong_clock: false,
        }
    }

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
    session: &'a Session,
    memory: &'a Memory,
    /// None: attempts are not held back.
    pace: Option<&'a Mutex<Pace>>,
    /// What to add to our clock to get the store's. Seconds.
    skew: &'a AtomicI64,
    /// When the call must end, on the monotonic clock.
    deadline: Option<Duration>,
    /// Fetched anew by every call: the host may change them at any time.
    credentials: RefCell<Option<Credentials>>,
}

impl<'a, P: Platform> Client<'a, P> {
    pub(crate) fn new(
        platform: &'a P,
        settings: &'a Settings,
        session: &'a Session,
        memory: &'a Memory,
        pace: Option<&'a Mutex<Pace>>,
        skew: &'a AtomicI64,
        budget: Option<Duration>,
    ) -> Self {
        Self {
            platform,
            settings,
            session,
            memory,
            pace,
            skew,
            deadline: budget.map(|budget| platform.monotonic().saturating_add(budget)),
            credentials: RefCell::new(None),
        }
    }

    /// Sends a request, several times if need be.
    pub(crate) fn send(&self, request: &Request<'_>) -> Result<Answer, Failure> {
        let mut failure = Failure {
            cause: Cause::BudgetSpent,
            attempts: 0,
            ambiguous: false,
            out_of_time: false,
            wrong_clock: false,
        };
        let mut retries = 0;
        let mut resynchronised = false;
        let mut reauthenticated = false;
        loop {
            if self.remaining() == Some(Duration::ZERO) {
                failure.out_of_time = true;
                return Err(failure);
            }
            if !self.keep_pace() {
                failure.out_of_time = true;
                return Err(failure);
            }
            let clock = self.store_clock();
            failure.attempts += 1;
            let outcome = self.attempt(request, clock);
            self.learn_pace(outcome.as_ref().err());
            failure.cause = match outcome {
                Ok(answer) => return Ok(answer),
                Err(cause) => cause,
            };
            failure.ambiguous |= request.changes && failure.cause.may_have_happened();
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
                verdict => {
                    failure.wrong_clock = verdict == Verdict::Resynchronise;
                    return Err(failure);
                }
            }
        }
    }

    /// Sends all of them at once, each a single time, and judges the answers in their order. What happened to a request
    /// without an answer is for the caller to find out.
    pub(crate) fn send_all_once(&self, requests: &[Request<'_>]) -> Vec<Result<Answer, Cause>> {
        let clock = self.store_clock();
        let headers: Result<Vec<_>, _> = requests
            .iter()
            .map(|request| self.signed_headers(request, &self.key()?, clock))
            .collect();
        let headers = match headers {
            Ok(headers) => headers,
            Err(cause) => return requests.iter().map(|_| Err(cause.clone())).collect(),
        };
        let ready: Vec<_> = requests
            .iter()
            .zip(&headers)
            .map(|(request, headers)| self.ready(request, headers))
            .collect();
        let responses = self.platform.send_all(&ready).into_iter();
        responses
            .zip(requests)
            .map(|(response, request)| judge(response.map_err(Cause::Transport)?, request))
            .collect()
    }

    /// Waits, unless the call would then be out of time.
    pub(crate) fn pause(&self, duration: Duration) -> bool {
        let fits = self.remaining().is_none_or(|left| duration < left);
        if fits {
            self.platform.sleep(duration);
        }
        fits
    }

    /// Waits until the adaptive mode lets an attempt go; false as [`Self::pause`].
    fn keep_pace(&self) -> bool {
        let take = || {
            let mut pace = self.pace?.lock().unwrap_or_else(PoisonError::into_inner);
            pace.take(self.platform.monotonic())
        };
        while let Some(wait) = take() {
            if !self.pause(wait) {
                return false;
            }
        }
        true
    }

    fn learn_pace(&self, failure: Option<&Cause>) {
        let Some(pace) = self.pace else { return };
        let is_throttled =
            matches!(failure, Some(Cause::Store(error)) if retry::is_throttling(error));
        let mut pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
        pace.learn(is_throttled, self.platform.monotonic());
    }

    /// Waits before a conditional request is repeated that collided with another one; see [`Self::pause`].
    pub(crate) fn pause_after_collision(&self, round: u32) -> bool {
        self.pause(retry::collision_pause(round, self.platform.next_u64()))
    }

    /// How much of the call's time is left. None: it may take as long as it wants.
    pub(crate) fn remaining(&self) -> Option<Duration> {
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
        let response = self.platform.send(&self.ready(request, &headers));
        judge(response.map_err(Cause::Transport)?, request)
    }

    /// The request as the platform takes it.
    fn ready<'r>(
        &self,
        request: &'r Request<'_>,
        headers: &'r [(String, String)],
    ) -> HttpRequest<'r> {
        let upload = request.body.map_or(0, |body| body.bytes.len() as u64);
        HttpRequest {
            method: request.method,
            scheme: request.place.scheme,
            authority: request.place.authority,
            path_and_query: &request.path_and_query,
            headers,
            body: request.body.map(|body| body.bytes),
            timeouts: Timeouts {
                connect: CONNECT_TIMEOUT,
                first_byte: FIRST_BYTE_TIMEOUT + Duration::from_secs(upload / SLOWEST_UPLOAD),
                between_bytes: BETWEEN_BYTES_TIMEOUT,
                total: self.remaining(),
            },
        }
    }

    fn signed_headers(
        &self,
        request: &Request<'_>,
        key: &AccessKey,
        clock: Duration,
    ) -> Result<Vec<(String, String)>, Cause> {
        let mut headers = request.headers.clone();
        headers.push(("user-agent".to_owned(), user_agent(self.settings)));
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
            authority: request.place.authority,
            path_and_query: &request.path_and_query,
            headers: &headers,
            payload_sha256: &payload_sha256,
            region: request.place.region,
            service: request.place.service,
            time: clock,
        };
        let signature = sign::signature(&signable, key, self.session.signing_keys())
            .map_err(Cause::Unsendable)?;
        headers.extend(signature);
        Ok(headers)
    }

    /// What to sign with, good at this moment.
    fn key(&self) -> Result<AccessKey, Cause> {
        let now = self.platform.now().as_secs();
        if let Some(known) = &*self.credentials.borrow()
            && known.expires_at.is_none_or(|end| now < end)
        {
            return Ok(known.key.clone());
        }
        let fresh = self.with_services(|outside| self.session.credentials(outside))?;
        let key = fresh.key.clone();
        self.credentials.replace(Some(fresh));
        Ok(key)
    }

    /// Asks for credentials anew. False: there are none but those that were just refused.
    fn renew_key(&self) -> bool {
        let Some(refused) = self.credentials.take() else {
            return false;
        };
        let fresh = self.with_services(|outside| self.session.renewed(&refused.key, outside));
        match fresh {
            Ok(Some(fresh)) => {
                self.credentials.replace(Some(fresh));
                true
            }
            Ok(None) | Err(_) => false,
        }
    }

    fn with_services<T>(
        &self,
        ask: impl Fn(Outside<'_>) -> Result<T, ProviderError>,
    ) -> Result<T, Cause> {
        let services = Services {
            platform: self.platform,
            user_agent: &user_agent(self.settings),
            deadline: self.deadline,
            attempts: self.settings.credential_attempts,
            endpoints: &self.settings.credential_endpoints,
            memory: self.memory,
        };
        let outside = Outside {
            platform: self.platform,
            providers: &services,
        };
        ask(outside).map_err(|error| Cause::Credentials(Box::new(error)))
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

fn user_agent(settings: &Settings) -> String {
    match &settings.user_agent_suffix {
        Some(suffix) => format!("{USER_AGENT} {suffix}"),
        None => USER_AGENT.to_owned(),
    }
}

/// Takes the answer for what it is.
fn judge(response: HttpResponse, request: &Request<'_>) -> Result<Answer, Cause> {
    match (response.status, request.method) {
        (200..=299, Method::Get | Method::Post) => {
            collect(response, request.limit).map_err(Cause::Transport)
        }
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
            // One of this length was cut short by us.
            if body.len() < MAX_NOTICE && !is_intact(&response, &body) {
                return Err(Cause::Transport(altered()));
            }
            Err(Cause::Store(Box::new(StoreError::of(&response, &body))))
        }
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
    if let AnswerBody::Whole(bytes) = &body
        && !is_intact(&response, bytes)
    {
        return Err(altered());
    }
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

/// Whether a body is the one that was sent, as far as DynamoDB's checksum tells.
fn is_intact(response: &HttpResponse, body: &[u8]) -> bool {
    let Some(expected) = response.header("x-amz-crc32") else {
        return true;
    };
    expected.trim().parse() == Ok(crc32(body))
}

/// CRC-32 as in IEEE 802.3, bit by bit: answers are short, and a table would be longer than they.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

fn altered() -> TransportError {
    TransportError::Broken("the answer does not have the checksum that came with it".to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_of_dynamodb_is_understood() {
        // From an answer of DynamoDB's to a successful PutItem.
        assert_eq!(crc32(b"{}"), 2_745_614_147);
        assert_eq!(crc32(b""), 0);
    }
}
