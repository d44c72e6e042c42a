//! The order of the steps on the bucket, and what can be seen of it without conditions: versions, clock, listings.
//!
//! Without the list of what decides, a step that was not reached would pass for one that went well.

use crate::aws::http::AnswerBody;
use crate::aws::retry::Cause;
use crate::contract::{Error, ErrorCode};
use crate::operation::Operation;
use crate::platform::Platform;
use crate::s3::{Condition, Kind, Versioning, versioning_of};

use super::Probe;
use super::report::{NOT_REACHED, Verb, Verdict};

/// A clock that is further off is worth a word, and a signature is refused from 15 minutes on. Seconds.
const NOTABLE_SKEW: u64 = 60;
const DANGEROUS_SKEW: u64 = 5 * 60;

/// What decides whether locks and fences hold. One that was not reached leaves it open.
const DECIDING: [&str; 7] = [
    "create-on-absent",
    "create-only-refused",
    "one-creator-wins",
    "stale-replace-refused",
    "one-replacer-wins",
    "conditional-delete",
    "create-after-delete",
];

impl<P: Platform> Probe<'_, P> {
    /// Makes sure that there is a bucket that answers.
    pub(super) fn reach_bucket(&mut self) -> Result<(), Error> {
        let key = self.fresh_key();
        let Err(failed) = self.stored(&key) else {
            return Ok(());
        };
        let error = self.context.failed(&failed);
        match error.code {
            // The steps that follow tell more.
            ErrorCode::AccessDenied | ErrorCode::Unsupported => Ok(()),
            _ => Err(error),
        }
    }

    pub(super) fn try_bucket(&mut self) {
        self.try_all_steps();
        for name in DECIDING {
            if !self.report.has(name) {
                self.leave_open(name, NOT_REACHED.to_owned());
            }
        }
    }

    /// Ends early where nothing more can be found out.
    fn try_all_steps(&mut self) {
        if !self.upload() || !self.remove() {
            return;
        }
        self.check_encryption();
        let knows_create = self.create();
        if knows_create {
            self.race_to_create();
        }
        if self.replace() {
            self.race_to_replace();
        }
        self.delete_conditionally();
        if knows_create {
            self.create_after_delete();
        }
        self.see_at_once();
    }

    /// Whether what a probe makes can be removed again; otherwise it makes nothing more.
    fn remove(&mut self) -> bool {
        let Some(key) = self.traces.any() else {
            return true;
        };
        match self.insist(|probe| probe.delete(&key, None)) {
            Ok(_) => true,
            Err(cause) => {
                let told = self.told(Operation::DeleteObject, &key, &cause);
                self.leave_open("conditional-delete", told);
                false
            }
        }
    }

    /// What was stored has to be seen at once, by readers and in listings.
    fn see_at_once(&mut self) {
        const NAME: &str = "visible-at-once";
        let stored = self.insist(|probe| {
            let (key, body) = (probe.fresh_key(), probe.fresh_body());
            probe.put(&key, Kind::Lock, &body, Condition::Anything)?;
            Ok((key, body))
        });
        let (key, body) = match stored {
            Ok(stored) => stored,
            Err(cause) => {
                let told = self.told(Operation::PutObject, &self.stem, &cause);
                return self.report.not_tested(NAME, Verdict::Safe, told);
            }
        };
        let is_read = match self.insist(|probe| probe.get(&key)) {
            Ok(answer) => matches!(&answer.body, AnswerBody::Whole(it) if it == body.as_bytes()),
            Err(Cause::Store(error)) if error.is_no_such_key() => false,
            Err(cause) => {
                let told = self.told(Operation::GetObject, &key, &cause);
                return self.report.not_tested(NAME, Verdict::Safe, told);
            }
        };
        let start = self.platform.monotonic();
        let listed = self.s3().list(&key, None);
        let took = self.platform.monotonic().saturating_sub(start);
        self.report
            .took(Verb::List, took.as_millis().try_into().unwrap_or(u64::MAX));
        match listed {
            _ if !is_read => self.report.warning(
                NAME,
                "What was stored is not read at once: the store is eventually consistent. Keep \
                 all writers at one endpoint in one region.",
            ),
            Ok(page) if page.keys.contains(&key) => {
                self.report
                    .ok(NAME, "What was stored is read and listed at once.");
            }
            Ok(_) => self.report.warning(
                NAME,
                "What was stored is not listed at once: a new workspace may be missing from a \
                 list for a while.",
            ),
            Err(failed) => {
                let told = self.words(&failed);
                self.report.not_tested(NAME, Verdict::Safe, told);
            }
        }
    }

    /// Whether the bucket keeps versions, asked as often as any read.
    pub(super) fn see_versioning(&mut self) {
        let found = self.s3().versioning();
        match found {
            Ok(found) => self.tell_versioning(found),
            Err(failed) => {
                let told = self.words(&failed);
                self.report.not_tested("versioning", Verdict::Safe, told);
            }
        }
    }

    /// The same of a store that is not probed otherwise: asked once, and no matter for alarm.
    pub(super) fn see_versioning_once(&mut self) {
        let (answer, _) = {
            let s3 = self.s3();
            self.once(s3.versioning_request())
        };
        self.note(None, &answer);
        match answer {
            Ok(answer) => self.tell_versioning(versioning_of(&answer)),
            Err(cause) => {
                let bucket = self.settings.bucket.clone();
                let told = self.told(Operation::GetBucketVersioning, &bucket, &cause);
                self.report.not_tested("versioning", Verdict::Safe, told);
            }
        }
    }

    fn tell_versioning(&mut self, found: Versioning) {
        let bucket = &self.settings.bucket;
        let known = match found {
            Versioning::Enabled => {
                self.report.versioning = "enabled";
                let detail =
                    "The bucket keeps versions: a state that was overwritten can be had back.";
                return self.report.ok("versioning", detail);
            }
            Versioning::Off => "off",
            Versioning::Suspended => "suspended",
            Versioning::Untold => {
                let detail = "The store does not tell whether the bucket keeps versions.";
                return self.report.not_tested("versioning", Verdict::Safe, detail);
            }
        };
        let advice = format!(
            "aws s3api put-bucket-versioning --bucket {bucket} --versioning-configuration \
             Status=Enabled"
        );
        self.report.versioning = known;
        let detail = format!(
            "Versioning of the bucket \"{bucket}\" is {known}: a state that was overwritten or \
             deleted is gone. Switch it on: {advice}"
        );
        self.report.versioning_advice = Some(advice);
        self.report.warning("versioning", detail);
    }

    pub(super) fn see_clock(&mut self) {
        const NAME: &str = "clock";
        let Some(skew) = self.report.clock_skew else {
            return;
        };
        let off = skew.unsigned_abs();
        let direction = if skew < 0 { "fast" } else { "slow" };
        let detail = format!("The clock of this machine is {off} s {direction} of the store's.");
        if off >= DANGEROUS_SKEW {
            let detail = format!(
                "{detail} Stores refuse signatures that are 15 minutes off. Set it, or let NTP do \
                 so."
            );
            self.report.failed(NAME, Verdict::Safe, detail);
        } else if off >= NOTABLE_SKEW {
            self.report.warning(NAME, detail);
        } else {
            self.report
                .ok(NAME, "The clocks of this machine and of the store agree.");
        }
    }

    /// Something that makes locks unsafe; where they stand in the table, only writes are worse off.
    pub(super) fn find(&mut self, name: &'static str, detail: &str) {
        if self.relies_on_bucket() {
            self.report.failed(name, Verdict::Unsafe, detail);
        } else {
            let detail = format!("{detail} The lock stands in the table, and is not affected.");
            self.report.failed(name, Verdict::Safe, detail);
        }
    }

    /// Something that decides and could not be found out.
    pub(super) fn leave_open(&mut self, name: &'static str, told: String) {
        let verdict = if name.starts_with("table") || self.relies_on_bucket() {
            Verdict::Unknown
        } else {
            Verdict::Safe
        };
        self.report.not_tested(name, verdict, told);
    }
}
