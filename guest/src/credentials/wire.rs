//! One request to a service that knows credentials, sent until it is answered.
//!
//! These requests carry the most secret things there are, and some go to places that are often not there. Without one
//! place that sends them, a token would end up in the text of an error, a metadata service that does not exist would
//! hang every command, and each provider would have its own idea of what is worth another attempt.

use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::aws::error::{StoreError, presentable};
use crate::aws::retry::{self, Cause, Verdict};
use crate::aws::sign::{self, Signable, SigningKeys};
use crate::aws::xml;
use crate::calendar;
use crate::config::ServiceLocation;
use crate::contract::ErrorCode;
use crate::platform::{
    AccessKey, HttpRequest, HttpResponse, Method, Platform, Refusal, Timeouts, TransportError,
};
use crate::secret::Secret;

use super::{Credentials, ProviderError};

/// No answer that holds credentials or an error is larger. Bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// What a provider needs to send requests.
#[derive(Clone, Copy)]
pub(super) struct Wire<'a> {
    pub(super) platform: &'a dyn Platform,
    /// Fit for a header.
    pub(super) user_agent: &'a str,
    /// When the call must end, on the monotonic clock.
    pub(super) deadline: Option<Duration>,
}

/// One request.
pub(super) struct Call<'c> {
    /// Such as `sts:AssumeRole`.
    pub(super) operation: &'static str,
    pub(super) method: Method,
    pub(super) place: &'c ServiceLocation,
    /// Percent-encoded, starts with `/`.
    pub(super) path_and_query: &'c str,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Option<&'c [u8]>,
    /// The service to sign for, and with what.
    pub(super) signer: Option<(&'static str, &'c AccessKey)>,
    /// What the request holds and no error may repeat.
    pub(super) secrets: &'c [&'c str],
    pub(super) effort: Effort,
}

/// How much a request is worth.
#[derive(Clone, Copy)]
pub(super) struct Effort {
    /// At least 1.
    pub(super) attempts: u32,
    pub(super) connect: Duration,
    pub(super) first_byte: Duration,
    /// Longest wait between two attempts.
    pub(super) longest_pause: Duration,
    /// Error codes that are worth another attempt besides the usual ones.
    pub(super) transient_codes: &'static [&'static str],
    /// Whether it is worth one that no answer came.
    pub(super) is_silence_transient: bool,
}

impl Effort {
    /// For a service that is surely there.
    pub(super) fn usual(attempts: u32) -> Self {
        Self {
            attempts,
            connect: Duration::from_secs(20),
            first_byte: Duration::from_secs(30),
            longest_pause: Duration::from_secs(20),
            transient_codes: &[],
            is_silence_transient: true,
        }
    }
}

/// A good answer. Its body may hold secrets.
pub(super) struct Reply {
    headers: Vec<(String, String)>,
    pub(super) body: Zeroizing<Vec<u8>>,
}

impl Reply {
    /// The first header of that name, which is in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(known, _)| known == name)?;
        Some(value)
    }

    /// The body as a JSON object.
    pub(super) fn json(&self) -> Option<Value> {
        json(&self.body)
    }
}

/// No good answer.
pub(super) struct Failed {
    pub(super) cause: Cause,
    attempts: u32,
    /// The service goes on refusing the time of the signature, or does not say what time it has.
    pub(super) wrong_clock: bool,
}

impl Failed {
    /// The service's error, when there is one.
    pub(super) fn refusal(&self) -> Option<&StoreError> {
        match &self.cause {
            Cause::Store(error) => Some(error),
            _ => None,
        }
    }

    /// No answer came, or none was waited for.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self.cause, Cause::Transport(_))
    }
}

impl Wire<'_> {
    /// Sends a request, several times if need be.
    pub(super) fn send(&self, call: &Call<'_>) -> Result<Reply, Failed> {
        let mut attempts = 0;
        let mut cause = Cause::BudgetSpent;
        // The service's clock, as far as it told it, and ours at that moment.
        let mut clocks: Option<(Duration, Duration)> = None;
        loop {
            if self.remaining() == Some(Duration::ZERO) {
                return Err(Failed {
                    cause,
                    attempts,
                    wrong_clock: false,
                });
            }
            let now = self.platform.now();
            let clock = match clocks {
                Some((theirs, ours)) => theirs.saturating_add(now.saturating_sub(ours)),
                None => now,
            };
            attempts += 1;
            cause = match self.attempt(call, clock) {
                Ok(reply) => return Ok(reply),
                Err(cause) => cause,
            };
            let verdict = judge(call, &cause, clock);
            let failed = match verdict {
                Verdict::Again => {
                    let pause = retry::pause(attempts, self.platform.next_u64(), &cause);
                    let pause = pause.map(|pause| pause.min(call.effort.longest_pause));
                    attempts >= call.effort.attempts || !pause.is_some_and(|it| self.pause(it))
                }
                Verdict::Resynchronise if clocks.is_none() => {
                    let theirs = match &cause {
                        Cause::Store(error) => error.date,
                        _ => None,
                    };
                    clocks = theirs.map(|theirs| (theirs, self.platform.now()));
                    clocks.is_none()
                }
                _ => true,
            };
            if failed {
                return Err(Failed {
                    cause,
                    attempts,
                    wrong_clock: verdict == Verdict::Resynchronise,
                });
            }
        }
    }

    /// Sends a request, and turns what goes wrong into an error.
    pub(super) fn ask(&self, call: &Call<'_>) -> Result<Reply, ProviderError> {
        self.send(call).map_err(|failed| error(call, &failed))
    }

    fn pause(&self, duration: Duration) -> bool {
        let fits = self.remaining().is_none_or(|left| duration < left);
        if fits {
            self.platform.sleep(duration);
        }
        fits
    }

    fn remaining(&self) -> Option<Duration> {
        let deadline = self.deadline?;
        Some(deadline.saturating_sub(self.platform.monotonic()))
    }

    fn attempt(&self, call: &Call<'_>, clock: Duration) -> Result<Reply, Cause> {
        let headers = self.headers(call, clock)?;
        let response = self.platform.send(&HttpRequest {
            method: call.method,
            scheme: &call.place.scheme,
            authority: &call.place.authority,
            path_and_query: call.path_and_query,
            headers: &headers,
            body: call.body,
            timeouts: Timeouts {
                connect: call.effort.connect,
                first_byte: call.effort.first_byte,
                between_bytes: call.effort.first_byte,
                total: self.remaining(),
            },
        });
        let mut response = response.map_err(Cause::Transport)?;
        let is_good = (200..=299).contains(&response.status);
        match (read(&mut response), is_good) {
            (Ok(body), true) => Ok(Reply {
                headers: response.headers,
                body,
            }),
            (Err(error), true) => Err(Cause::Transport(error)),
            // The status says the most of it.
            (body, false) => {
                let body = body.unwrap_or_default();
                let refusal = refusal(&response, &body, call.secrets);
                Err(Cause::Store(Box::new(refusal)))
            }
        }
    }

    fn headers(&self, call: &Call<'_>, clock: Duration) -> Result<Vec<(String, String)>, Cause> {
        let mut headers = call.headers.clone();
        headers.push(header("user-agent", self.user_agent));
        if let Some(body) = call.body {
            headers.push(header("content-length", &body.len().to_string()));
        }
        if let Some((service, key)) = call.signer {
            let payload_sha256 = sign::hexadecimal(&Sha256::digest(call.body.unwrap_or_default()));
            let signable = Signable {
                method: call.method,
                authority: &call.place.authority,
                path_and_query: call.path_and_query,
                headers: &headers,
                payload_sha256: &payload_sha256,
                region: &call.place.region,
                service,
                time: clock,
            };
            headers.extend(
                sign::signature(&signable, key, &SigningKeys::default())
                    .map_err(Cause::Unsendable)?,
            );
        }
        Ok(headers)
    }
}

/// A header. The name is in lower case.
pub(super) fn header(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// A JSON object. None: it is none.
pub(super) fn json(bytes: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(bytes).ok()?;
    let value: Value = serde_json::from_str(text).ok()?;
    value.is_object().then_some(value)
}

/// A JSON object, written.
pub(super) fn json_of(fields: &[(&str, &Value)]) -> Zeroizing<String> {
    let mut json = Zeroizing::new(String::from("{"));
    for (name, value) in fields {
        if json.len() > 1 {
            json.push(',');
        }
        json.push_str(&crate::json::text(&Value::from(*name)));
        json.push(':');
        json.push_str(&Zeroizing::new(crate::json::text(value)));
    }
    json.push('}');
    json
}

/// Takes a text out of a JSON object, without a copy. None: there is none, or an empty one.
pub(super) fn take_text(object: &mut Value, name: &str) -> Option<String> {
    match object.get_mut(name)?.take() {
        Value::String(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

/// Credentials out of the parts of an answer; the parts must be fit for a header.
///
/// # Errors
/// Names the part that is missing or malformed.
pub(super) fn credentials(
    id: Option<String>,
    secret: Option<String>,
    session_token: Option<String>,
) -> Result<Credentials, &'static str> {
    let is_fit = |text: &String| text.bytes().all(|byte| byte.is_ascii_graphic());
    let id = id.filter(is_fit).ok_or("access key id")?;
    let secret = secret.ok_or("secret access key")?;
    if session_token.as_ref().is_some_and(|token| !is_fit(token)) {
        return Err("session token");
    }
    Ok(Credentials {
        key: AccessKey {
            id,
            secret: Secret::new(secret),
            session_token: session_token.map(Secret::new),
        },
        expires_at: None,
        account_id: None,
    })
}

/// A file that cannot be read.
pub(super) fn unreadable(what: &str, path: &str, refusal: &Refusal) -> ProviderError {
    let why = match refusal {
        Refusal::Denied => {
            "the host of this backend does not let it read the file. Whoever runs it has to allow it"
        }
        Refusal::Failed(reason) => reason,
        Refusal::NotFound => "there is no such file",
    };
    ProviderError::new(format!("cannot read the {what} in {path}: {why}"))
}

/// A byte as it stands in a URL or a form.
pub(super) fn escaped(byte: u8) -> [u8; 3] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |value: u8| DIGITS[usize::from(value & 15)];
    [b'%', digit(byte >> 4), digit(byte)]
}

/// Whether a text can be the value of a header.
pub(super) fn is_header_value(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// A date of RFC 3339, in seconds since 1970.
pub(super) fn seconds(date: &str) -> Option<u64> {
    let (seconds, _) = calendar::parse_rfc3339(date)?;
    u64::try_from(seconds).ok()
}

/// An answer without what was asked for.
pub(super) fn malformed(call: &Call<'_>, what: &str) -> ProviderError {
    let mut error = ProviderError::new(format!(
        "{} at {} answered without a usable {what}",
        call.operation,
        url(call)
    ));
    error.facts = vec![header("operation", call.operation)];
    error
}

/// Turns what went wrong into an error that says what to do.
pub(super) fn error(call: &Call<'_>, failed: &Failed) -> ProviderError {
    let url = url(call);
    let operation = call.operation;
    let mut facts = vec![
        header("operation", operation),
        header("attempts", &failed.attempts.to_string()),
    ];
    let (code, why, retryable) = match &failed.cause {
        Cause::Store(refusal) => {
            facts.push(header("status", &refusal.status.to_string()));
            for (name, text) in [
                ("store-code", &refusal.code),
                ("request-id", &refusal.request_id),
            ] {
                if let Some(text) = text {
                    facts.push(header(name, text));
                }
            }
            let code = if retry::is_throttling(refusal) {
                ErrorCode::Throttled
            } else {
                ErrorCode::Credentials
            };
            let retryable = retry::is_transient(refusal);
            (code, format!("{url} answered {}", said(refusal)), retryable)
        }
        Cause::Transport(TransportError::Broken(text)) => (
            ErrorCode::Unreachable,
            format!("the connection to {url} failed: {text}"),
            true,
        ),
        Cause::Transport(TransportError::Denied(text)) => {
            let method = call.method.as_str();
            facts.push(header("rule", &format!("{method} {url}")));
            (
                ErrorCode::Unreachable,
                format!(
                    "the host of this backend does not let it reach {url}: {text}. Whoever runs it has to allow this \
                     destination"
                ),
                false,
            )
        }
        Cause::Transport(TransportError::NotConnected(text)) => (
            ErrorCode::Unreachable,
            format!("there is no connection to {url}: {text}"),
            true,
        ),
        Cause::Transport(TransportError::TimedOut(text)) => (
            ErrorCode::TimedOut,
            format!("{url} did not answer in time: {text}"),
            true,
        ),
        Cause::Transport(TransportError::Unusable(text)) => (
            ErrorCode::Unreachable,
            format!("{url} cannot be reached: {text}"),
            false,
        ),
        Cause::Unsendable(text) => (
            ErrorCode::Credentials,
            format!("the request cannot be made: {text}"),
            false,
        ),
        Cause::BudgetSpent | Cause::Credentials(_) => (
            ErrorCode::TimedOut,
            "the time that this call may take was spent before the request could be sent"
                .to_owned(),
            true,
        ),
    };
    let mut message = format!("{operation}: {why}");
    if failed.attempts > 1 {
        message.push_str(&format!(" ({} attempts)", failed.attempts));
    }
    ProviderError {
        code,
        message,
        retryable,
        facts,
    }
}

/// Where a request goes, for a person.
fn url(call: &Call<'_>) -> String {
    format!("{}://{}", call.place.scheme, call.place.authority)
}

/// The service's own words.
fn said(refusal: &StoreError) -> String {
    let mut text = refusal.status.to_string();
    if let Some(code) = &refusal.code {
        text.push(' ');
        text.push_str(code);
    }
    if let Some(message) = &refusal.message {
        text.push_str(&format!(", \"{message}\""));
    }
    if let Some(id) = &refusal.request_id {
        text.push_str(&format!(" (request id {id})"));
    }
    text
}

fn judge(call: &Call<'_>, cause: &Cause, clock: Duration) -> Verdict {
    match cause {
        Cause::Store(error) if call.effort.transient_codes.contains(&error.code()) => {
            Verdict::Again
        }
        Cause::Transport(_) if !call.effort.is_silence_transient => Verdict::Final,
        _ => match retry::verdict(cause, clock) {
            Verdict::Resynchronise if call.signer.is_none() => Verdict::Final,
            verdict => verdict,
        },
    }
}

fn read(response: &mut HttpResponse) -> Result<Zeroizing<Vec<u8>>, TransportError> {
    let declared = response
        .header("content-length")
        .and_then(|value| value.trim().parse::<usize>().ok());
    let mut body = Zeroizing::new(Vec::with_capacity(declared.unwrap_or(0).min(MAX_ANSWER)));
    while let Some(chunk) = response.body.next_chunk()? {
        let chunk = Zeroizing::new(chunk);
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(TransportError::Broken("the answer is too large".to_owned()));
        }
        body.extend_from_slice(&chunk);
    }
    match declared {
        Some(declared) if declared != body.len() => Err(TransportError::Broken(format!(
            "the answer broke off after {} of {declared} bytes",
            body.len()
        ))),
        _ => Ok(body),
    }
}

/// Reads an error, which may repeat what was sent.
fn refusal(response: &HttpResponse, body: &[u8], secrets: &[&str]) -> StoreError {
    let body = without(&String::from_utf8_lossy(body), secrets);
    let mut error = StoreError::of(response, body.as_bytes());
    let kind = response.header("content-type").unwrap_or_default();
    if error.code.is_none() && error.message.is_none() && kind.starts_with("text/plain") {
        error.message = presentable(&body);
    }
    // Escaped, it was not found before.
    for text in [&mut error.code, &mut error.message].into_iter().flatten() {
        *text = without(text, secrets);
    }
    error
}

/// The first text of each of these elements, which are named by the end of their path, in an XML document.
pub(super) fn texts<const N: usize>(document: &[u8], names: [&str; N]) -> [Option<String>; N] {
    let mut found = [const { None }; N];
    visit(document, &names, &mut found);
    found
}

fn visit(document: &[u8], names: &[&str], found: &mut [Option<String>]) {
    // What was read of a document that breaks off still counts; what is missing is missed later.
    let _ = xml::visit_texts(document, |path, text| {
        for (name, place) in names.iter().zip(found.iter_mut()) {
            let is_named = path
                .strip_suffix(name)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('/'));
            if is_named && place.is_none() && !text.is_empty() {
                *place = Some(text.clone());
            }
        }
    });
}

/// A text that repeats no secret.
fn without(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, "…");
    }
    text
}
