//! Which failures are worth another attempt, and after how long.
//!
//! Too eager, and a store in trouble is hammered; too lazy, and a dropped connection ends an apply.

use std::time::Duration;

use crate::credentials::ProviderError;
use crate::platform::TransportError;

use super::error::StoreError;

/// Longest wait between two attempts.
const MAX_BACKOFF: Duration = Duration::from_secs(20);

/// A store that asks for more patience than this gets no further attempt.
const MAX_RETRY_AFTER: u64 = 60;

/// Longest wait after a collision of two conditional requests.
const MAX_COLLISION: Duration = Duration::from_secs(2);

/// A signature's clock may be off by 5 minutes for AWS (15 for S3); from here on it may be the cause of a refusal.
const SUSPICIOUS_SKEW: Duration = Duration::from_secs(4 * 60);

/// Why an attempt failed.
#[derive(Clone, Debug)]
pub(crate) enum Cause {
    /// The call's budget was spent before the request could be sent.
    BudgetSpent,
    /// There are no credentials to sign with, or they are not to be used.
    Credentials(Box<ProviderError>),
    /// The store answered with an error.
    Store(Box<StoreError>),
    /// There was no answer.
    Transport(TransportError),
    /// The request cannot be made: a value does not fit into a header.
    Unsendable(String),
}

impl Cause {
    /// Whether the store may have done what was asked although this came back.
    pub(crate) fn may_have_happened(&self) -> bool {
        match self {
            Cause::Store(error) => error.status >= 500 && !error.is_not_implemented(),
            Cause::Transport(TransportError::Broken(_) | TransportError::TimedOut(_)) => true,
            _ => false,
        }
    }
}

/// What to do about a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Send it again after a pause.
    Again,
    /// Give up.
    Final,
    /// Sign again with fresh credentials.
    Reauthenticate,
    /// Sign again with the store's clock.
    Resynchronise,
}

/// Judges a failed attempt. `clock` is the time that the request was signed with.
pub(crate) fn verdict(cause: &Cause, clock: Duration) -> Verdict {
    match cause {
        Cause::Store(error) => match error.code() {
            "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => {
                Verdict::Reauthenticate
            }
            "RequestTimeTooSkewed" | "RequestExpired" | "RequestInTheFuture" => {
                Verdict::Resynchronise
            }
            "AccessDenied"
            | "AccessDeniedException"
            | "AuthFailure"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
                if error
                    .date
                    .is_some_and(|date| date.abs_diff(clock) > SUSPICIOUS_SKEW) =>
            {
                Verdict::Resynchronise
            }
            _ if is_transient(error) => Verdict::Again,
            _ => Verdict::Final,
        },
        Cause::Transport(
            TransportError::Broken(_)
            | TransportError::NotConnected(_)
            | TransportError::TimedOut(_),
        ) => Verdict::Again,
        _ => Verdict::Final,
    }
}

/// Whether the store asks for fewer requests.
pub(crate) fn is_throttling(error: &StoreError) -> bool {
    matches!(error.status, 429 | 503)
        || matches!(
            error.code(),
            "BandwidthLimitExceeded"
                | "EC2ThrottledException"
                | "LimitExceededException"
                | "PriorRequestNotComplete"
                | "ProvisionedThroughputExceededException"
                | "RequestLimitExceeded"
                | "RequestThrottled"
                | "RequestThrottledException"
                | "SlowDown"
                | "ThrottledException"
                | "Throttling"
                | "ThrottlingException"
                | "TooManyRequestsException"
                | "TransactionInProgressException"
        )
}

/// Whether the same request may well succeed later.
pub(crate) fn is_transient(error: &StoreError) -> bool {
    is_throttling(error)
        || matches!(error.status, 500 | 502 | 504)
        || matches!(error.code(), "RequestTimeout" | "RequestTimeoutException")
}

/// How long to wait before the `retry`-th retry, counted from 1, of a request that failed so. None: longer than
/// anybody waits.
pub(crate) fn pause(retry: u32, random: u64, cause: &Cause) -> Option<Duration> {
    let asked = match cause {
        Cause::Store(error) => error.retry_after.unwrap_or(0),
        _ => 0,
    };
    if asked > MAX_RETRY_AFTER {
        return None;
    }
    let longest = Duration::from_secs(1 << retry.min(5)).mul_f64(fraction(random));
    Some(longest.min(MAX_BACKOFF).max(Duration::from_secs(asked)))
}

/// How long to wait before the `retry`-th repetition, counted from 1, of a conditional request that collided with
/// another one. The other one ends soon: much shorter than [`pause`].
pub(crate) fn collision_pause(retry: u32, random: u64) -> Duration {
    let longest = Duration::from_millis(50 << retry.min(6)).mul_f64(fraction(random));
    longest.min(MAX_COLLISION)
}

/// A number in 0..1.
fn fraction(random: u64) -> f64 {
    // The upper 32 bits are as random as all of them, and every f64 holds them exactly.
    f64::from((random >> 32) as u32) / (f64::from(u32::MAX) + 1.0)
}
