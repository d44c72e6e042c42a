//! Writing a state so that nobody's is overwritten unseen.
//!
//! The revision that was read goes along as a condition, and after every refusal and every lost answer what is stored
//! decides: our own bytes, so it was done; what the caller expects, so it is worth another try; or somebody else's.

use sha2::{Digest, Sha256};

use crate::aws::error::StoreError;
use crate::aws::http::Payload;
use crate::config;
use crate::contract::{Error, ErrorCode, Expectation, Fence, Outcome, Revision, WriteOptions};
use crate::operation::Failed;
use crate::platform::Platform;
use crate::s3::{Condition, Got, Kind};

use super::{Call, MAX_ROUNDS, is_as_expected};

impl<P: Platform> Call<'_, P> {
    pub(super) fn write(&self, bytes: &[u8], options: &WriteOptions) -> Result<Revision, Error> {
        if bytes.is_empty() {
            return Err(self.context.invalid(
                "bytes",
                "an empty state is not written: it would be read as none. To remove a workspace, \
                 delete it."
                    .to_owned(),
            ));
        }
        let size = bytes.len() as u64;
        if size > self.options.max_state {
            return Err(self.too_large(size));
        }
        let sha256 = match &options.sha256 {
            None => Sha256::digest(bytes).into(),
            Some(given) => <[u8; 32]>::try_from(given.as_slice()).map_err(|_| {
                let message = format!("a SHA-256 has 32 bytes, not {}.", given.len());
                self.context.invalid("sha256", message)
            })?,
        };
        self.check_expectation(&options.expect)?;
        self.check_lock(options.lock.as_ref())?;
        let payload = Payload { bytes, sha256 };
        match &self.table {
            Some(table) => self.write_with_digest(table, payload, options),
            None => self.write_fenced(payload, &options.expect),
        }
    }

    pub(super) fn write_fenced(
        &self,
        payload: Payload<'_>,
        expect: &Expectation,
    ) -> Result<Revision, Error> {
        // The ETag of an empty object that stands where no state is expected.
        let mut empty: Option<String> = None;
        // Whether the state may be stored although no answer said so.
        let mut lost = false;
        let mut round = 1;
        loop {
            let condition = match (expect, &empty) {
                (Expectation::Absent, Some(tag)) => Condition::Tag(tag),
                (Expectation::Absent, None) => Condition::Absent,
                (Expectation::Anything, _) => Condition::Anything,
                (Expectation::Revision(revision), _) => Condition::Tag(&revision.tag),
            };
            let mut failed = match self.s3.put(&self.path, Kind::State, payload, condition) {
                Ok(stored) => return self.stored(stored, payload),
                Err(failed) => failed,
            };
            lost |= failed.failure.ambiguous;
            failed.failure.ambiguous = lost;
            let is_fenced = condition != Condition::Anything;
            let refused = is_fenced && failed.failure.is(StoreError::is_failed_condition);
            let collided = failed.failure.is(StoreError::is_conflict);
            if is_fenced && failed.failure.is(StoreError::is_condition_unsupported) {
                return self.write_unfenced(payload, expect, &failed);
            }
            if !(refused || collided || lost) {
                return Err(self.context.failed(&failed));
            }
            match self.get(None) {
                Ok(Got::Object(object)) if lost && object.bytes == payload.bytes => {
                    return object.revision().ok_or_else(|| self.no_tag());
                }
                Ok(found) if !is_as_expected(&found, expect) => {
                    return Err(self.changed(&found, payload.bytes, lost));
                }
                Ok(Got::Object(object)) if matches!(expect, Expectation::Absent) => {
                    empty = object.tag;
                }
                Ok(_) => empty = None,
                Err(_) if refused => return Err(self.changed_unseen(&failed)),
                Err(_) => return Err(self.context.failed(&failed)),
            }
            // What is stored is what the caller expects, so it is worth another try; but not after all the attempts of
            // a store in trouble.
            let again = round < MAX_ROUNDS
                && (refused || (collided && self.s3.client.pause_after_collision(round)));
            if !again {
                return Err(self.context.failed(&failed));
            }
            round += 1;
        }
    }

    /// For a store that refuses conditions: compares by reading, which leaves a gap, and says so.
    fn write_unfenced(
        &self,
        payload: Payload<'_>,
        expect: &Expectation,
        refusal: &Failed,
    ) -> Result<Revision, Error> {
        if self.options.fence == Fence::Required {
            let mut error = self.context.failed(refusal);
            error.code = ErrorCode::Unsupported;
            error.message.push_str(
                " This store does not know conditional writes, so that two writers could \
                 overwrite each other unseen: use a store that does, or allow it to be written \
                 without a fence.",
            );
            return Err(error);
        }
        self.platform.report(config::Diagnostic {
            severity: config::Severity::Warning,
            summary: "State written without a fence".to_owned(),
            detail: format!(
                "The store does not know conditional writes. s3://{}/{} is compared before it is \
                 written, but a writer that comes in between would be overwritten.",
                self.context.settings.bucket, self.path
            ),
            attribute: None,
        });
        let fail = |failed: Failed| self.context.failed(&failed);
        let found = match expect {
            Expectation::Revision(revision) => self.get(Some(&revision.tag)),
            _ => self.get(None),
        }
        .map_err(fail)?;
        let lost = refusal.failure.ambiguous;
        match &found {
            Got::Object(object) if lost && object.bytes == payload.bytes => {
                return object.revision().ok_or_else(|| self.no_tag());
            }
            found if !is_as_expected(found, expect) => {
                return Err(self.changed(found, payload.bytes, lost));
            }
            _ => {}
        }
        match self
            .s3
            .put(&self.path, Kind::State, payload, Condition::Anything)
        {
            Ok(stored) => self.stored(stored, payload),
            Err(failed) if failed.failure.ambiguous => match self.get(None) {
                Ok(Got::Object(object)) if object.bytes == payload.bytes => {
                    object.revision().ok_or_else(|| self.no_tag())
                }
                _ => Err(fail(failed)),
            },
            Err(failed) => Err(fail(failed)),
        }
    }

    /// The revision of what was just stored; asks for it where the store did not say.
    fn stored(&self, revision: Option<Revision>, payload: Payload<'_>) -> Result<Revision, Error> {
        if let Some(revision) = revision {
            return Ok(revision);
        }
        let found = match self.get(None) {
            Ok(Got::Object(object)) if object.bytes == payload.bytes => object.revision(),
            _ => None,
        };
        found.ok_or_else(|| {
            let mut error = self.no_tag();
            error.outcome = Outcome::Unknown;
            error
        })
    }
}
