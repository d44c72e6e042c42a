//! The steps that try conditions, one request at a time.
//!
//! Each says in one sentence what it found: the person who reads it has to decide whether a team may lock here.

use crate::aws::retry::Cause;
use crate::operation::Operation;
use crate::platform::Platform;
use crate::s3::{Condition, Kind, tag};

use super::{Judged, Probe};

impl<P: Platform> Probe<'_, P> {
    /// Creates on condition that there is nothing, where there is nothing and where there is something. False: the store
    /// does not know how, or it could not be found out.
    pub(super) fn create(&mut self) -> bool {
        const NAME: &str = "create-on-absent";
        let created = self.insist(|probe| {
            // A fresh key each time: an answer that got lost would stand in the way.
            let (key, body) = (probe.fresh_key(), probe.fresh_body());
            probe.put(&key, Kind::Lock, &body, Condition::Absent)?;
            Ok((key, body))
        });
        let (key, body) = match created {
            Ok(created) => created,
            Err(cause) => {
                let stem = self.stem.clone();
                match self.judge(Operation::PutObject, &stem, Err(cause)) {
                    Judged::Refused | Judged::Done => self.find(
                        NAME,
                        "The store refuses to create an object that is not there (If-None-Match: \
                         *): use_lockfile cannot work here.",
                    ),
                    Judged::Unsupported(told) => self.find(
                        NAME,
                        &format!(
                            "The store does not know conditional writes, so that use_lockfile \
                             cannot work here. {told}"
                        ),
                    ),
                    Judged::Unclear(told) => self.leave_open(NAME, told),
                }
                return false;
            }
        };
        self.report
            .ok(NAME, "An object is created where there is none.");
        self.create_over(&key, &body)
    }

    fn create_over(&mut self, key: &str, body: &str) -> bool {
        const NAME: &str = "create-only-refused";
        let other = self.fresh_body();
        let answer = self.insist(|probe| probe.put(key, Kind::Lock, &other, Condition::Absent));
        let judged = self.judge(Operation::PutObject, key, answer);
        let stored = self.stored(key);
        let is_kept = matches!(&stored, Ok(Some(stored)) if stored.body == body);
        match (judged, stored) {
            (Judged::Done, _) => self.find(
                NAME,
                "The store silently ignores If-None-Match: * and overwrites what is there. With \
                 use_lockfile, any number of writers would hold the same lock.",
            ),
            (Judged::Unsupported(told), _) => self.find(
                NAME,
                &format!(
                    "The store does not know conditional writes, so that use_lockfile cannot work \
                     here. {told}"
                ),
            ),
            (Judged::Unclear(told), _) => self.leave_open(NAME, told),
            (Judged::Refused, Err(failed)) => {
                let told = self.words(&failed);
                self.leave_open(NAME, told);
            }
            (Judged::Refused, Ok(_)) if !is_kept => self.find(
                NAME,
                "The store says that it refuses to overwrite (If-None-Match: *), and overwrites \
                 all the same.",
            ),
            (Judged::Refused, Ok(_)) => {
                self.report
                    .ok(NAME, "An object that is there is not created over.");
                return true;
            }
        }
        false
    }

    /// Replaces on condition of the ETag, with the right one and with a stale one. False: there is nothing to race for.
    pub(super) fn replace(&mut self) -> bool {
        const NAME: &str = "stale-replace-refused";
        let replaced = self.insist(|probe| {
            let key = probe.fresh_key();
            let [first, second] = [probe.fresh_body(), probe.fresh_body()];
            let stale = tag(&probe.put(&key, Kind::Lock, &first, Condition::Anything)?);
            let Some(stale) = stale else { return Ok(None) };
            probe.put(&key, Kind::Lock, &second, Condition::Tag(&stale))?;
            Ok(Some((key, stale, second)))
        });
        let (key, stale, body) = match replaced {
            Ok(Some(replaced)) => replaced,
            Ok(None) => {
                self.find(
                    NAME,
                    "The store names no ETag for what it stores, so that no write can be fenced \
                     with one.",
                );
                return false;
            }
            Err(cause) => {
                let stem = self.stem.clone();
                match self.judge(Operation::PutObject, &stem, Err(cause)) {
                    Judged::Refused | Judged::Done => self.find(
                        NAME,
                        "The store refuses to replace an object by its own ETag (If-Match): no \
                         state could be written a second time.",
                    ),
                    Judged::Unsupported(told) => self.find(
                        NAME,
                        &format!(
                            "The store does not know If-Match, so that writes are not fenced. \
                             {told}"
                        ),
                    ),
                    Judged::Unclear(told) => self.leave_open(NAME, told),
                }
                return false;
            }
        };
        let other = self.fresh_body();
        let answer =
            self.insist(|probe| probe.put(&key, Kind::Lock, &other, Condition::Tag(&stale)));
        let judged = self.judge(Operation::PutObject, &key, answer);
        let stored = self.stored(&key);
        let is_kept = matches!(&stored, Ok(Some(stored)) if stored.body == body);
        match (judged, stored) {
            (Judged::Done, _) => self.find(
                NAME,
                "The store silently ignores If-Match and overwrites what somebody else wrote: \
                 writes are not fenced, and a writer whose lock was broken overwrites its \
                 successor's state.",
            ),
            (Judged::Unsupported(told), _) => self.find(
                NAME,
                &format!("The store does not know If-Match, so that writes are not fenced. {told}"),
            ),
            (Judged::Unclear(told), _) => self.leave_open(NAME, told),
            (Judged::Refused, Err(failed)) => {
                let told = self.words(&failed);
                self.leave_open(NAME, told);
            }
            (Judged::Refused, Ok(_)) if !is_kept => self.find(
                NAME,
                "The store says that it refuses a stale If-Match, and overwrites all the same.",
            ),
            (Judged::Refused, Ok(_)) => {
                self.report
                    .ok(NAME, "A write with a stale ETag is refused.");
                return true;
            }
        }
        false
    }

    /// Removes on condition of the ETag, with a stale one and with the right one.
    pub(super) fn delete_conditionally(&mut self) {
        const NAME: &str = "conditional-delete";
        const STALE: &str = "\"00000000000000000000000000000000\"";
        const SILENT: &str = "Whoever lost a lock, as it was broken, can remove its successor's.";
        const LOUD: &str = "A lock is then compared before it is deleted, and one that is taken \
                            over in between can be removed by its former holder.";
        let (key, body) = (self.fresh_key(), self.fresh_body());
        let stored = self.insist(|probe| probe.put(&key, Kind::Lock, &body, Condition::Anything));
        let current = match stored {
            Ok(answer) => tag(&answer),
            Err(cause) => {
                let told = self.told(Operation::PutObject, &key, &cause);
                return self.leave_open(NAME, told);
            }
        };
        let answer = self.insist(|probe| probe.delete(&key, Some(STALE)));
        let judged = self.judge(Operation::DeleteObject, &key, answer);
        let survives = match self.stored(&key) {
            Ok(stored) => stored.is_some(),
            Err(failed) => {
                let told = self.words(&failed);
                return self.leave_open(NAME, told);
            }
        };
        match judged {
            Judged::Done if survives => self.report.warning(
                NAME,
                format!(
                    "The store says that it deleted an object in spite of a stale If-Match, and \
                     kept it. {SILENT}"
                ),
            ),
            Judged::Done => {
                let detail = format!("The store silently ignores If-Match on DELETE. {SILENT}");
                self.report.warning(NAME, detail);
            }
            Judged::Unsupported(_) => {
                let detail = format!("The store does not know conditional deletes. {LOUD}");
                self.report.warning(NAME, detail);
            }
            Judged::Unclear(told) => self.leave_open(NAME, told),
            Judged::Refused if !survives => {
                let detail = format!("The store deletes in spite of a stale If-Match. {SILENT}");
                self.report.warning(NAME, detail);
            }
            Judged::Refused => {
                let answer = self.insist(|probe| probe.delete(&key, current.as_deref()));
                match (answer, self.stored(&key)) {
                    (_, Ok(None)) => self
                        .report
                        .ok(NAME, "Only the generation that is meant is deleted."),
                    (Ok(_), Err(failed)) => {
                        let told = self.words(&failed);
                        self.leave_open(NAME, told);
                    }
                    (Ok(_), Ok(Some(_))) => {
                        let detail = "The store says that it deleted an object, and it is still \
                                      there.";
                        self.find(NAME, detail);
                    }
                    (Err(cause), _) => {
                        let told = self.told(Operation::DeleteObject, &key, &cause);
                        self.leave_open(NAME, told);
                    }
                }
            }
        }
    }

    /// A lock that was released must be free.
    pub(super) fn create_after_delete(&mut self) {
        const NAME: &str = "create-after-delete";
        let outcome = self.insist(|probe| {
            let key = probe.fresh_key();
            let [first, second] = [probe.fresh_body(), probe.fresh_body()];
            probe.put(&key, Kind::Lock, &first, Condition::Absent)?;
            probe.delete(&key, None)?;
            let answer = probe.put(&key, Kind::Lock, &second, Condition::Absent);
            match &answer {
                Err(Cause::Store(error)) if error.is_failed_condition() => Ok(false),
                _ => answer.map(|_| true),
            }
        });
        match outcome {
            Ok(true) => self
                .report
                .ok(NAME, "What was deleted can be created again."),
            Ok(false) => self.find(
                NAME,
                "The store refuses to create an object again that was deleted, as it takes the \
                 delete marker for an object: a lock could be taken once and never again.",
            ),
            Err(cause) => {
                let told = self.told(Operation::PutObject, &self.stem, &cause);
                self.leave_open(NAME, told);
            }
        }
    }
}
