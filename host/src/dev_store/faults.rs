//! Failures on demand.
//!
//! Without this module nobody would know what a lost answer, a broken lock or a store without conditional writes
//! does to a state, until it happens.

use std::fmt;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use serde_json::Value;
use tokio::time::Sleep;

use super::misbehaviour::{Flaws, Misbehaviour};
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
    /// The request is held back for that many milliseconds before it has any effect. If the client goes away
    /// meanwhile it never has one, and is logged with status 0.
    DelayRequest {
        /// Milliseconds.
        ms: u64,
    },
    /// Before the request, somebody deletes an item of the store's own table.
    DeleteItem {
        /// The whole `LockID`.
        key: String,
    },
    /// Before the request, somebody deletes an object of the store's own bucket.
    DeleteObject {
        /// The whole key.
        key: String,
    },
    /// The lowest bit of one byte of the body is another than the headers say.
    FlipBit {
        /// Which byte, counted from 0; a body that is not so long comes unchanged.
        at: usize,
    },
    /// Nothing happens; the answer is bytes that are no XML, with status 200 for a listing, else 500.
    Garbage,
    /// `If-Match` of a DELETE is treated as if it had not been sent.
    IgnoreConditionalDelete,
    /// The conditions of a write are treated as if they had not been sent, as some stores do, silently.
    IgnoreConditions,
    /// `If-None-Match` of a write is treated as if it had not been sent.
    IgnoreCreateOnly,
    /// `If-Match` of a write is treated as if it had not been sent.
    IgnoreIfMatch,
    /// The effect happens, and the connection is closed in place of an answer.
    LoseAnswer,
    /// The conditions of a write are checked, others are let in, and then it happens.
    Race,
    /// Requests with a checksum among their headers, or with the wish for one, are answered 400 `InvalidArgument`
    /// and have no effect. Other requests do not count as matches.
    RefuseChecksums,
    /// Writes with `If-Match` or `If-None-Match` are answered 501 `NotImplemented` and have no effect. Other
    /// requests do not count as matches.
    RefuseConditions,
    /// Before the request, somebody writes an item of the store's own table.
    ReplaceItem {
        /// The whole `LockID`.
        key: String,
        /// Its new attributes, as [`DevStore::put_item`](super::DevStore::put_item) takes them.
        item: Value,
    },
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
    /// A listing shows the bucket as it was before the newest change to it.
    StaleListing,
    /// Nothing happens; the answer is this status with an error in the service's own form. Of S3, 429
    /// and 503 come with `Retry-After: 0`.
    Status {
        /// The HTTP status, 400 to 599.
        status: u16,
        /// The error's code, such as `SlowDown`.
        code: String,
    },
    /// For `If-None-Match: *`, a delete marker counts as an object.
    StickyDeleteMarkers,
    /// Nothing happens; the answer is 503 `SlowDown`, for a table 400 `ProvisionedThroughputExceededException`, of STS
    /// 400 `Throttling`.
    Throttle,
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
            Self::DelayRequest { ms } => write!(f, "DelayRequest({ms} ms)"),
            Self::DeleteItem { key } => write!(f, "DeleteItem({key:?})"),
            Self::DeleteObject { key } => write!(f, "DeleteObject({key:?})"),
            Self::FlipBit { at } => write!(f, "FlipBit(of byte {at})"),
            Self::Garbage => f.write_str("Garbage"),
            Self::IgnoreConditionalDelete => f.write_str("IgnoreConditionalDelete"),
            Self::IgnoreConditions => f.write_str("IgnoreConditions"),
            Self::IgnoreCreateOnly => f.write_str("IgnoreCreateOnly"),
            Self::IgnoreIfMatch => f.write_str("IgnoreIfMatch"),
            Self::LoseAnswer => f.write_str("LoseAnswer"),
            Self::Race => f.write_str("Race"),
            Self::RefuseChecksums => f.write_str("RefuseChecksums"),
            Self::RefuseConditions => f.write_str("RefuseConditions"),
            Self::ReplaceItem { key, .. } => write!(f, "ReplaceItem({key:?})"),
            Self::ReplaceObject { key, body } => {
                write!(f, "ReplaceObject({key:?}, {} bytes)", body.len())
            }
            Self::Reset => f.write_str("Reset"),
            Self::SkewClock { seconds } => write!(f, "SkewClock({seconds} s)"),
            Self::SlowBody { pause_ms } => write!(f, "SlowBody({pause_ms} ms)"),
            Self::StaleListing => f.write_str("StaleListing"),
            Self::Status { status, code } => write!(f, "Status({status} {code})"),
            Self::StickyDeleteMarkers => f.write_str("StickyDeleteMarkers"),
            Self::Throttle => f.write_str("Throttle"),
            Self::TruncateBody { after } => write!(f, "TruncateBody({after} bytes)"),
        }
    }
}

/// A request, as far as faults choose by it.
pub(super) struct Asked<'a> {
    pub(super) operation: &'a str,
    pub(super) key: &'a str,
    /// Whether it is a write to a bucket with `If-Match` or `If-None-Match`.
    pub(super) is_conditional_write: bool,
    /// Whether a checksum is among its headers, or the wish for one.
    pub(super) has_checksum: bool,
}

impl Asked<'_> {
    /// Whether there is something in the request that this fault is about.
    fn concerns(&self, fault: &Fault) -> bool {
        match fault {
            Fault::RefuseChecksums => self.has_checksum,
            Fault::RefuseConditions => self.is_conditional_write,
            _ => true,
        }
    }
}

/// Says what befalls a request, by its operation and key.
type Source = Box<dyn FnMut(&str, &str) -> Option<Fault> + Send>;

/// What is in force.
#[derive(Default)]
pub(super) struct Faults {
    rules: Mutex<Vec<FaultRule>>,
    source: Mutex<Option<Source>>,
    /// Each with the number of requests that it has seen.
    misbehaviours: Mutex<Vec<(Misbehaviour, u32)>>,
}

impl Faults {
    pub(super) fn add(&self, rule: FaultRule) {
        self.rules().push(rule);
    }

    pub(super) fn ask(&self, source: Source) {
        *self.source() = Some(source);
    }

    pub(super) fn clear(&self) {
        self.rules().clear();
        *self.source() = None;
    }

    pub(super) fn misbehave(&self, misbehaviours: impl IntoIterator<Item = Misbehaviour>) {
        let counted = misbehaviours.into_iter().map(|it| (it, 0));
        *self.misbehaviours() = counted.collect();
    }

    /// What befalls this request: what befalls all, then what the source says, then the rules in the order in which they
    /// were added.
    pub(super) fn befall(&self, asked: &Asked<'_>) -> Plan {
        let mut plan = Plan::default();
        for (misbehaviour, seen) in self.misbehaviours().iter_mut() {
            let fault = misbehaviour.fault();
            if asked.concerns(&fault) {
                *seen = seen.wrapping_add(1);
                if seen.is_multiple_of(misbehaviour.every()) {
                    plan.add(fault);
                }
            }
        }
        let source = &mut *self.source();
        let fault = source
            .as_mut()
            .and_then(|source| source(asked.operation, asked.key));
        if let Some(fault) = fault.filter(|fault| asked.concerns(fault)) {
            plan.add(fault);
        }
        let mut rules = self.rules();
        for rule in rules.iter_mut() {
            let matches = rule
                .operation
                .as_deref()
                .is_none_or(|it| it == asked.operation)
                && rule
                    .key_ends_with
                    .as_deref()
                    .is_none_or(|end| asked.key.ends_with(end))
                && asked.concerns(&rule.fault);
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
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn source(&self) -> MutexGuard<'_, Option<Source>> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn misbehaviours(&self) -> MutexGuard<'_, Vec<(Misbehaviour, u32)>> {
        let locked = self.misbehaviours.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }
}

/// The faults of one request, in the order in which they come about.
#[derive(Default)]
pub(super) struct Plan {
    /// What others do first.
    pub(super) interference: Vec<Interference>,
    pub(super) skew_seconds: Option<i64>,
    pub(super) instead: Option<Instead>,
    pub(super) flaws: Flaws,
    pub(super) lose_answer: bool,
    pub(super) delay: Option<Duration>,
    pub(super) hold: Option<Duration>,
    flip: Option<usize>,
    truncate: Option<usize>,
    pause: Option<Duration>,
}

/// Somebody sets an item or an object; none: deletes it.
pub(super) enum Interference {
    Item(String, Option<Value>),
    Object(String, Option<Bytes>),
}

/// What comes about in place of the request.
pub(super) enum Instead {
    Garbage,
    RefuseChecksums,
    RefuseConditions,
    Reset,
    Status { status: u16, code: String },
    Throttle,
}

impl Plan {
    fn add(&mut self, fault: Fault) {
        match fault {
            Fault::DelayAnswer { ms } => self.delay = Some(Duration::from_millis(ms)),
            Fault::DelayRequest { ms } => self.hold = Some(Duration::from_millis(ms)),
            Fault::DeleteItem { key } => self.interference.push(Interference::Item(key, None)),
            Fault::DeleteObject { key } => self.interference.push(Interference::Object(key, None)),
            Fault::FlipBit { at } => self.flip = Some(at),
            Fault::Garbage => self.instead = Some(Instead::Garbage),
            Fault::IgnoreConditionalDelete => self.flaws.ignore_conditional_delete = true,
            Fault::IgnoreConditions => {
                self.flaws.ignore_conditional_delete = true;
                self.flaws.ignore_create_only = true;
                self.flaws.ignore_if_match = true;
                self.flaws.ignore_items_conditions = true;
            }
            Fault::IgnoreCreateOnly => self.flaws.ignore_create_only = true,
            Fault::IgnoreIfMatch => self.flaws.ignore_if_match = true,
            Fault::LoseAnswer => self.lose_answer = true,
            Fault::Race => self.flaws.race = true,
            Fault::RefuseChecksums => self.instead = Some(Instead::RefuseChecksums),
            Fault::RefuseConditions => self.instead = Some(Instead::RefuseConditions),
            Fault::ReplaceItem { key, item } => {
                self.interference.push(Interference::Item(key, Some(item)));
            }
            Fault::ReplaceObject { key, body } => {
                self.interference
                    .push(Interference::Object(key, Some(body)));
            }
            Fault::Reset => self.instead = Some(Instead::Reset),
            Fault::SkewClock { seconds } => self.skew_seconds = Some(seconds),
            Fault::SlowBody { pause_ms } => self.pause = Some(Duration::from_millis(pause_ms)),
            Fault::StaleListing => self.flaws.stale_listing = true,
            Fault::Status { status, code } => self.instead = Some(Instead::Status { status, code }),
            Fault::StickyDeleteMarkers => self.flaws.sticky_delete_markers = true,
            Fault::Throttle => self.instead = Some(Instead::Throttle),
            Fault::TruncateBody { after } => self.truncate = Some(after),
        }
    }

    /// Spoils the body of an answer, if that is planned.
    pub(super) fn spoil(&self, body: AnswerBody) -> AnswerBody {
        if self.flip.is_none() && self.truncate.is_none() && self.pause.is_none() {
            return body;
        }
        AnswerBody::new(Spoiled {
            inner: body,
            flip: self.flip,
            left: self.truncate,
            flushed: false,
            pause: self.pause,
            sleep: None,
        })
    }
}

/// A body that comes slowly, in part, or altered.
struct Spoiled {
    inner: AnswerBody,
    /// How many bytes come before the one that is spoilt.
    flip: Option<usize>,
    /// How many bytes still come through.
    left: Option<usize>,
    flushed: bool,
    pause: Option<Duration>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Spoiled {
    fn flipped(&mut self, data: Bytes) -> Bytes {
        let Some(at) = self.flip else { return data };
        self.flip = at.checked_sub(data.len());
        if self.flip.is_some() {
            return data;
        }
        let mut altered = BytesMut::from(data);
        if let Some(byte) = altered.get_mut(at) {
            *byte ^= 1;
        }
        altered.freeze()
    }
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
        let frame = match frame.into_data() {
            Ok(mut data) => {
                if let Some(left) = &mut self.left {
                    data.truncate(*left);
                    *left -= data.len();
                }
                Frame::data(self.flipped(data))
            }
            Err(frame) => frame,
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

    fn asked<'a>(operation: &'a str, key: &'a str, is_conditional_write: bool) -> Asked<'a> {
        Asked {
            operation,
            key,
            is_conditional_write,
            has_checksum: false,
        }
    }

    #[test]
    fn a_misbehaviour_befalls_every_so_many_requests_until_it_is_ended() {
        let faults = Faults::default();
        let lost = || {
            let plans = (0..6).map(|_| faults.befall(&asked("GetObject", "a", false)));
            plans.map(|plan| plan.lose_answer).collect::<Vec<_>>()
        };
        faults.misbehave([Misbehaviour::LoseAnswers { every: 3 }]);
        assert_eq!(lost(), [false, false, true, false, false, true]);
        faults.misbehave([Misbehaviour::LoseAnswers { every: 0 }]);
        faults.clear();
        assert_eq!(lost(), [true; 6], "it is no rule");
        faults.misbehave([]);
        assert_eq!(lost(), [false; 6]);
    }

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
        let befallen = |operation, key| faults.befall(&asked(operation, key, true)).lose_answer;
        assert!(!befallen("GetObject", "a.tflock"));
        assert!(!befallen("PutObject", "a"));
        assert!(!befallen("PutObject", "a.tflock"), "skipped");
        assert!(befallen("PutObject", "a.tflock"));
        assert!(befallen("PutObject", "b.tflock"));
        assert!(!befallen("PutObject", "a.tflock"), "used up");
    }

    #[test]
    fn a_source_is_asked_with_every_request_until_faults_are_cleared() {
        let faults = Faults::default();
        let mut number = 0;
        faults.ask(Box::new(move |operation, _| {
            number += 1;
            (number == 2 && operation == "GetObject").then_some(Fault::LoseAnswer)
        }));
        let befallen = || faults.befall(&asked("GetObject", "a", false)).lose_answer;
        assert_eq!([befallen(), befallen(), befallen()], [false, true, false]);
        faults.ask(Box::new(|_, _| Some(Fault::LoseAnswer)));
        assert!(befallen());
        faults.clear();
        assert!(!befallen());
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
        assert!(
            faults
                .befall(&asked("PutObject", "a", false))
                .instead
                .is_none()
        );
        assert!(
            faults
                .befall(&asked("PutObject", "a", true))
                .instead
                .is_some()
        );
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
