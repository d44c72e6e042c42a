//! Failures on demand.
//!
//! Without this module nobody would know what a lost answer, a broken lock or a store without conditional writes
//! does to a state, until it happens.

use std::fmt;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::server::{AnswerBody, BodyError};

/// What goes wrong, with which requests, and how often.
#[derive(Clone, Debug)]
pub struct FaultRule {
    /// The operation, such as `PutObject`; `None`: any.
    pub operation: Option<String>,
    /// What the key must end with; `None`: any key, and requests without one.
    pub key_ends_with: Option<String>,
    /// How many requests that match are let pass first.
    pub skip: u32,
    /// How many requests after those the fault befalls; then the rule is gone. [`u32::MAX`]: without end.
    pub times: u32,
    /// What happens to them.
    pub fault: Fault,
}

/// What goes wrong. Several rules may befall one request.
#[derive(Clone)]
#[non_exhaustive]
pub enum Fault {
    /// The effect happens, and the answer is held back for that many milliseconds.
    DelayAnswer {
        /// Milliseconds.
        ms: u64,
    },
    /// Before the request, somebody deletes an object of the store's own bucket.
    DeleteObject {
        /// The whole key.
        key: String,
    },
    /// Nothing happens; the answer is bytes that are no XML, with status 200 for a listing, else 500.
    Garbage,
    /// The conditions of a write are treated as if they had not been sent, as some stores do, silently.
    IgnoreConditions,
    /// The effect happens, and the connection is closed in place of an answer.
    LoseAnswer,
    /// Writes with `If-Match` or `If-None-Match` are answered 501 `NotImplemented` and have no effect. Other
    /// requests do not count as matches.
    RefuseConditions,
    /// Before the request, somebody writes an object of the store's own bucket.
    ReplaceObject {
        /// The whole key.
        key: String,
        /// Its new bytes.
        body: Bytes,
    },
    /// The connection is closed before anything happens.
    Reset,
    /// The store's clock is that many seconds ahead of the real one, or behind it: the `Date` of the answer
    /// says so, and a request signed more than 15 minutes off is refused with `RequestTimeTooSkewed`.
    SkewClock {
        /// Seconds; negative: behind.
        seconds: i64,
    },
    /// The body comes in pieces of 256 KiB, with that many milliseconds before each.
    SlowBody {
        /// Milliseconds.
        pause_ms: u64,
    },
    /// Nothing happens; the answer is this status with an S3 error. 429 and 503 come with `Retry-After: 0`.
    Status {
        /// The HTTP status, 400 to 599.
        status: u16,
        /// The error's code, such as `SlowDown`.
        code: String,
    },
    /// The connection is closed in the middle of the body; the headers promised all of it.
    TruncateBody {
        /// How many bytes come through.
        after: usize,
    },
}

impl fmt::Debug for Fault {
    /// The bytes may be a state: only their number is printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DelayAnswer { ms } => write!(f, "DelayAnswer({ms} ms)"),
            Self::DeleteObject { key } => write!(f, "DeleteObject({key:?})"),
            Self::Garbage => f.write_str("Garbage"),
            Self::IgnoreConditions => f.write_str("IgnoreConditions"),
            Self::LoseAnswer => f.write_str("LoseAnswer"),
            Self::RefuseConditions => f.write_str("RefuseConditions"),
            Self::ReplaceObject { key, body } => {
                write!(f, "ReplaceObject({key:?}, {} bytes)", body.len())
            }
            Self::Reset => f.write_str("Reset"),
            Self::SkewClock { seconds } => write!(f, "SkewClock({seconds} s)"),
            Self::SlowBody { pause_ms } => write!(f, "SlowBody({pause_ms} ms)"),
            Self::Status { status, code } => write!(f, "Status({status} {code})"),
            Self::TruncateBody { after } => write!(f, "TruncateBody({after} bytes)"),
        }
    }
}

/// The rules in force.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<Vec<FaultRule>>);

impl Faults {
    pub(super) fn add(&self, rule: FaultRule) {
        self.rules().push(rule);
    }

    pub(super) fn clear(&self) {
        self.rules().clear();
    }

    /// What befalls this request, in the order in which the rules were added.
    pub(super) fn befall(&self, operation: &str, key: &str, conditional_write: bool) -> Plan {
        let mut plan = Plan::default();
        let mut rules = self.rules();
        for rule in rules.iter_mut() {
            let matches = rule.operation.as_deref().is_none_or(|it| it == operation)
                && rule
                    .key_ends_with
                    .as_deref()
                    .is_none_or(|end| key.ends_with(end))
                && (conditional_write || !matches!(rule.fault, Fault::RefuseConditions));
            if !matches {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if rule.times > 0 {
                if rule.times != u32::MAX {
                    rule.times -= 1;
                }
                plan.add(rule.fault.clone());
            }
        }
        rules.retain(|rule| rule.times > 0);
        plan
    }

    fn rules(&self) -> MutexGuard<'_, Vec<FaultRule>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The faults of one request, in the order in which they come about.
#[derive(Default)]
pub(super) struct Plan {
    /// A key, and the bytes it gets; none: it is deleted.
    pub(super) interference: Vec<(String, Option<Bytes>)>,
    pub(super) skew_seconds: Option<i64>,
    pub(super) instead: Option<Instead>,
    pub(super) ignores_conditions: bool,
    pub(super) lose_answer: bool,
    pub(super) delay: Option<Duration>,
    truncate: Option<usize>,
    pause: Option<Duration>,
}

/// What comes about in place of the request.
pub(super) enum Instead {
    Garbage,
    RefuseConditions,
    Reset,
    Status { status: u16, code: String },
}

impl Plan {
    fn add(&mut self, fault: Fault) {
        match fault {
            Fault::DelayAnswer { ms } => self.delay = Some(Duration::from_millis(ms)),
            Fault::DeleteObject { key } => self.interference.push((key, None)),
            Fault::Garbage => self.instead = Some(Instead::Garbage),
            Fault::IgnoreConditions => self.ignores_conditions = true,
            Fault::LoseAnswer => self.lose_answer = true,
            Fault::RefuseConditions => self.instead = Some(Instead::RefuseConditions),
            Fault::ReplaceObject { key, body } => self.interference.push((key, Some(body))),
            Fault::Reset => self.instead = Some(Instead::Reset),
            Fault::SkewClock { seconds } => self.skew_seconds = Some(seconds),
            Fault::SlowBody { pause_ms } => self.pause = Some(Duration::from_millis(pause_ms)),
            Fault::Status { status, code } => self.instead = Some(Instead::Status { status, code }),
            Fault::TruncateBody { after } => self.truncate = Some(after),
        }
    }

    /// Spoils the body of an answer, if that is planned.
    pub(super) fn spoil(&self, body: AnswerBody) -> AnswerBody {
        if self.truncate.is_none() && self.pause.is_none() {
            return body;
        }
        AnswerBody::new(Spoiled {
            inner: body,
            left: self.truncate,
            flushed: false,
            pause: self.pause,
            sleep: None,
        })
    }
}

/// A body that comes slowly, or in part.
struct Spoiled {
    inner: AnswerBody,
    /// How many bytes still come through.
    left: Option<usize>,
    flushed: bool,
    pause: Option<Duration>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Body for Spoiled {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.left == Some(0) {
            if !self.flushed {
                // The server writes out what it has while the body has nothing for it.
                self.flushed = true;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            return Poll::Ready(Some(Err("the fault ends the body here".into())));
        }
        if let Some(pause) = self.pause {
            let sleep = self
                .sleep
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            std::task::ready!(sleep.as_mut().poll(context));
        }
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(context));
        self.sleep = None;
        let Some(Ok(frame)) = frame else {
            return Poll::Ready(frame);
        };
        let frame = match (frame.into_data(), self.left) {
            (Ok(data), Some(left)) => {
                let data = data.slice(..data.len().min(left));
                self.left = Some(left - data.len());
                Frame::data(data)
            }
            (Ok(data), None) => Frame::data(data),
            (Err(frame), _) => frame,
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_lets_pass_befalls_and_is_gone() {
        let faults = Faults::default();
        faults.add(FaultRule {
            operation: Some("PutObject".to_owned()),
            key_ends_with: Some(".tflock".to_owned()),
            skip: 1,
            times: 2,
            fault: Fault::LoseAnswer,
        });
        let befallen = |operation, key| faults.befall(operation, key, true).lose_answer;
        assert!(!befallen("GetObject", "a.tflock"));
        assert!(!befallen("PutObject", "a"));
        assert!(!befallen("PutObject", "a.tflock"), "skipped");
        assert!(befallen("PutObject", "a.tflock"));
        assert!(befallen("PutObject", "b.tflock"));
        assert!(!befallen("PutObject", "a.tflock"), "used up");
    }

    #[test]
    fn only_conditional_writes_count_for_refused_conditions() {
        let faults = Faults::default();
        faults.add(FaultRule {
            operation: None,
            key_ends_with: None,
            skip: 0,
            times: 1,
            fault: Fault::RefuseConditions,
        });
        assert!(faults.befall("PutObject", "a", false).instead.is_none());
        assert!(faults.befall("PutObject", "a", true).instead.is_some());
    }

    #[test]
    fn debug_output_holds_no_object_bytes() {
        let fault = Fault::ReplaceObject {
            key: "k".to_owned(),
            body: Bytes::from_static(b"password"),
        };
        assert!(!format!("{fault:?}").contains("password"));
    }
}
