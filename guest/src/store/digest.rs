//! The digest: MD5 of the state, recorded in the table, by which all tools notice a state that is not the last one written.
//!
//! Recorded carelessly it blocks a whole team: a writer that dies between state and digest leaves a state that nobody can
//! read. So it is taken away before the state is written and put back after: a missing digest is never checked. Writers
//! without a lock can still meet; each then sees to it that no digest of its own outlives its state, and that no other one
//! stands beside it.

use std::time::Duration;

use md5::{Digest, Md5};

use crate::aws::error::StoreError;
use crate::aws::http::Payload;
use crate::aws::sign::hexadecimal;
use crate::config::{Diagnostic, Severity};
use crate::contract::{
    DeleteOptions, DigestReport, Error, ErrorCode, Generation, HeldLock, Outcome, Revision,
    WriteOptions,
};
use crate::dynamodb::{Attribute, DynamoDb, Item, ItemCondition};
use crate::failure::ErrorExt;
use crate::operation::Failed;
use crate::platform::Platform;
use crate::s3::{Got, Object};
use crate::state_head::StateHead;

use super::{Call, MAX_ROUNDS};

/// How long a state that does not fit its digest is read again: Terraform's time for S3 to become consistent.
const CONSISTENT_WITHIN: Duration = Duration::from_secs(10);

/// Terraform's pause between two of these reads.
const BETWEEN_READS: Duration = Duration::from_secs(2);

/// Among so many of the newest versions the one is looked for that a digest describes.
const VERSIONS: u32 = 100;

impl<P: Platform> Call<'_, P> {
    /// Compares what was read with the digest, and reads again for a while if they differ.
    ///
    /// `Unchanged` needs no comparison: the revision that the caller knows came from a read that was compared, or from a
    /// write of the caller's own. Whatever a later digest describes has another revision, and a write is fenced in any
    /// case.
    pub(super) fn verified(&self, table: &DynamoDb<'_, P>, mut got: Got) -> Result<Got, Error> {
        let start = self.platform.monotonic();
        loop {
            if matches!(got, Got::TooLarge { .. } | Got::Unchanged) {
                return Ok(got);
            }
            let Some(recorded) = self.recorded(table) else {
                return Ok(got);
            };
            if is_described(&got, &recorded) {
                return Ok(got);
            }
            let waited = self.platform.monotonic().saturating_sub(start);
            if waited >= CONSISTENT_WITHIN || !self.s3.client.pause(BETWEEN_READS) {
                return Err(self.digest_mismatch(table, &got, &recorded));
            }
            let known = match &got {
                Got::Object(object) => object.tag.as_deref(),
                _ => None,
            };
            let again = self.get(known);
            match again.map_err(|failed| self.context.failed(&failed))? {
                Got::Unchanged => {}
                other => got = other,
            }
        }
    }

    /// Writes a state, and its digest.
    pub(super) fn write_with_digest(
        &self,
        table: &DynamoDb<'_, P>,
        payload: Payload<'_>,
        options: &WriteOptions,
    ) -> Result<Revision, Error> {
        let is_locked = options.lock.is_some();
        let old = self.take_away(table, "written")?;
        let revision = match self.write_fenced(payload, &options.expect) {
            Ok(revision) => revision,
            Err(error) if error.outcome == Outcome::NotDone => {
                return Err(self.put_back(table, old, is_locked, error));
            }
            // It may still arrive: only if it has is there a digest that is right for good.
            Err(error) => match self.get(None) {
                Ok(Got::Object(object)) if object.bytes == payload.bytes => {
                    object.revision().ok_or(error)?
                }
                _ => return Err(error),
            },
        };
        let digest = md5(payload.bytes);
        self.record(table, &digest, &revision, is_locked)
            .map_err(|failed| self.not_recorded(failed, &digest, &revision))?;
        Ok(revision)
    }

    /// Deletes a state, and its digest.
    pub(super) fn delete_with_digest(
        &self,
        table: &DynamoDb<'_, P>,
        options: &DeleteOptions,
    ) -> Result<(), Error> {
        let old = self.take_away(table, "deleted")?;
        match self.delete_state(&options.expect) {
            Err(error) if error.outcome == Outcome::NotDone => {
                Err(self.put_back(table, old, options.lock.is_some(), error))
            }
            other => other,
        }
    }

    pub(super) fn compare_digest(&self) -> Result<DigestReport, Error> {
        let table = self.needed_table()?;
        let fail = |failed: Failed| self.context.failed(&failed);
        let stored = match self.get(None).map_err(fail)? {
            Got::Object(object) if !object.bytes.is_empty() => {
                Some(generation(&object).ok_or_else(|| self.no_tag())?)
            }
            Got::TooLarge { size, .. } => return Err(self.too_large(size)),
            _ => None,
        };
        let recorded = table
            .get(&self.digest_key(), Attribute::Digest)
            .map_err(fail)?
            .and_then(|item| item.value);
        let described = recorded
            .as_deref()
            .and_then(normalised)
            .filter(|digest| stored.as_ref().is_none_or(|stored| stored.md5 != *digest))
            .and_then(|digest| self.version_with(&digest));
        Ok(DigestReport {
            table: table.table.to_owned(),
            item: self.digest_key(),
            recorded,
            stored,
            described,
        })
    }

    pub(super) fn record_digest(
        &self,
        expected: Option<&str>,
        digest: Option<&str>,
        lock: Option<&HeldLock>,
    ) -> Result<(), Error> {
        let table = self.needed_table()?;
        let digest = match digest {
            Some(digest) => Some(normalised(digest).ok_or_else(|| {
                let message = "a digest has 32 hexadecimal digits.".to_owned();
                self.context.invalid("digest", message)
            })?),
            None => None,
        };
        self.check_lock(lock)?;
        let key = self.digest_key();
        let condition = ItemCondition::Holds(expected);
        let changed = match &digest {
            Some(digest) => table.put(&key, Attribute::Digest, digest, condition),
            None => table.delete(&key, Attribute::Digest, condition).map(drop),
        };
        let Err(failed) = changed else {
            return Ok(());
        };
        if !failed.failure.is(StoreError::is_failed_condition) {
            return Err(self.context.failed(&failed));
        }
        let found = table.get(&key, Attribute::Digest);
        let found = found.map_err(|failed| self.context.failed(&failed))?;
        let found = found.and_then(|item| item.value);
        if failed.failure.ambiguous && found == digest {
            // The answer that got lost was the good one.
            return Ok(());
        }
        let shown = found.as_deref().unwrap_or("none");
        let message = format!(
            "the digest of {} is not the one that was expected: {shown} is recorded. It was left as \
             it is. Compare again.",
            self.path
        );
        let mut error = self.at_digest(table, ErrorCode::StateChanged, message);
        if let Some(found) = found {
            error = error.fact("recorded-digest", found);
        }
        if failed.failure.ambiguous {
            error.outcome = Outcome::Unknown;
        }
        Err(error)
    }

    /// The recorded digest. None: there is none, or none that says anything; then nothing is compared.
    fn recorded(&self, table: &DynamoDb<'_, P>) -> Option<String> {
        let key = self.digest_key();
        let problem = match table.get(&key, Attribute::Digest) {
            Ok(None) => return None,
            Ok(Some(Item { value })) => match value.as_deref().and_then(normalised) {
                Some(digest) => return Some(digest),
                None => format!(
                    "The item {key:?} of {} holds no MD5. The next write repairs it.",
                    self.context.the_table()
                ),
            },
            Err(failed) => self.context.failed(&failed).message,
        };
        self.platform.report(Diagnostic {
            severity: Severity::Warning,
            summary: "State not compared with its digest".to_owned(),
            detail: format!(
                "s3://{}/{} was read, but whether it is the state that was written last is not \
                 known: {problem}",
                self.context.settings.bucket, self.path
            ),
            attribute: None,
        });
        None
    }

    /// Removes the digest before its state is changed. Answers with the one that was recorded.
    fn take_away(&self, table: &DynamoDb<'_, P>, done: &str) -> Result<Option<String>, Error> {
        let old = table.delete(
            &self.digest_key(),
            Attribute::Digest,
            ItemCondition::Anything,
        );
        match old {
            Ok(item) => Ok(item.and_then(|item| normalised(&item.value?))),
            Err(mut failed) => {
                // A digest that went all the same blocks nobody.
                failed.failure.ambiguous = false;
                let mut error = self.context.failed(&failed);
                error.message = format!(
                    "the state at s3://{}/{} was not {done}, as its digest has to be removed first: \
                     {}",
                    self.context.settings.bucket, self.path, error.message
                );
                Err(error)
            }
        }
    }

    /// Records the digest again that was taken away for a change that did not happen.
    fn put_back(
        &self,
        table: &DynamoDb<'_, P>,
        old: Option<String>,
        is_locked: bool,
        mut error: Error,
    ) -> Error {
        let Some(old) = old else {
            return error;
        };
        // Under a lock the state is what it was, unless somebody who takes none was there.
        let is_sure = is_locked && error.code != ErrorCode::StateChanged;
        if !is_sure && self.is_stored(&old, None) != Some(true) {
            return error;
        }
        let key = self.digest_key();
        let put = table.put(&key, Attribute::Digest, &old, ItemCondition::Absent);
        let failed = match put {
            Ok(()) if is_sure => None,
            Ok(()) => self.withdraw_unless_stored(table, &old, None).err(),
            // Somebody was faster.
            Err(failed) if failed.failure.is(StoreError::is_already_there) => None,
            Err(failed) => Some(failed),
        };
        if let Some(mut failed) = failed {
            failed.failure.ambiguous = false;
            error.message.push_str(&format!(
                " Its digest could not be recorded again, which blocks nobody: {}",
                self.context.failed(&failed).message
            ));
        }
        error
    }

    /// Records the digest of a state that was just written.
    fn record(
        &self,
        table: &DynamoDb<'_, P>,
        digest: &str,
        revision: &Revision,
        is_locked: bool,
    ) -> Result<(), Failed> {
        let key = self.digest_key();
        // What stands in the way of it.
        let mut seen: Option<Item> = None;
        let mut round = 1;
        loop {
            let condition = match &seen {
                Some(item) => ItemCondition::Holds(item.value.as_deref()),
                None => ItemCondition::Absent,
            };
            let failed = match table.put(&key, Attribute::Digest, digest, condition) {
                Ok(()) => break,
                Err(failed) => failed,
            };
            let refused = failed.failure.is(StoreError::is_already_there);
            let collided = failed.failure.is(StoreError::is_conflict);
            if refused {
                seen = table.get(&key, Attribute::Digest)?;
                if seen.as_ref().and_then(|item| item.value.as_deref()) == Some(digest) {
                    break;
                }
                // Whoever wrote a state after ours records its digest, too.
                if self.is_stored(digest, Some(&revision.tag)) == Some(false) {
                    return Ok(());
                }
            }
            let again = round < MAX_ROUNDS
                && (refused || (collided && table.client.pause_after_collision(round)));
            if !again {
                if refused {
                    // None at all blocks nobody.
                    table.delete(&key, Attribute::Digest, ItemCondition::Anything)?;
                }
                return Err(failed);
            }
            round += 1;
        }
        if is_locked {
            return Ok(());
        }
        self.withdraw_unless_stored(table, digest, Some(&revision.tag))
    }

    /// Removes a digest that this call recorded, if its state is not the newest any more: a writer without a lock may
    /// have looked for a digest just before.
    fn withdraw_unless_stored(
        &self,
        table: &DynamoDb<'_, P>,
        digest: &str,
        tag: Option<&str>,
    ) -> Result<(), Failed> {
        if self.is_stored(digest, tag) == Some(true) {
            return Ok(());
        }
        let condition = ItemCondition::Holds(Some(digest));
        match table.delete(&self.digest_key(), Attribute::Digest, condition) {
            Err(failed) if !failed.failure.is(StoreError::is_failed_condition) => Err(failed),
            _ => Ok(()),
        }
    }

    /// Whether the newest state is the one with this digest, and perhaps this ETag. None: that cannot be told.
    fn is_stored(&self, digest: &str, tag: Option<&str>) -> Option<bool> {
        // Most stores make the ETag of the MD5: then the state need not come along.
        let tag = tag.map_or_else(|| format!("\"{digest}\""), str::to_owned);
        match self.get(Some(&tag)) {
            Ok(Got::Unchanged) => Some(true),
            Ok(got) => Some(is_described(&got, digest)),
            Err(_) => None,
        }
    }

    /// The version that a digest describes, if the bucket still has it and lets us look.
    fn version_with(&self, digest: &str) -> Option<Generation> {
        let versions = self.s3.versions(&self.path, VERSIONS).ok()?;
        let version = versions.iter().find(|it| is_md5(&it.tag, digest))?;
        let limit = self.options.max_state;
        match self.s3.get_version(&self.path, &version.id, limit).ok()? {
            Got::Object(object) => generation(&object).filter(|it| it.md5 == digest),
            _ => None,
        }
    }

    fn needed_table(&self) -> Result<&DynamoDb<'_, P>, Error> {
        self.table.as_ref().ok_or_else(|| {
            self.context.error(
                ErrorCode::Unsupported,
                "this configuration names no dynamodb_table, so that no digests are recorded."
                    .to_owned(),
            )
        })
    }

    /// Key of the item that holds the digest.
    fn digest_key(&self) -> String {
        format!("{}/{}-md5", self.context.settings.bucket, self.path)
    }

    fn at_digest(&self, table: &DynamoDb<'_, P>, code: ErrorCode, message: String) -> Error {
        self.context
            .error(code, message)
            .fact("key", &self.path)
            .fact("table", table.table)
            .fact("item", self.digest_key())
    }

    /// Terraform's words, and what to do.
    fn digest_mismatch(&self, table: &DynamoDb<'_, P>, got: &Got, recorded: &str) -> Error {
        let calculated = match got {
            Got::Object(object) if !object.bytes.is_empty() => md5(&object.bytes),
            _ => String::new(),
        };
        let remedy = match calculated.as_str() {
            "" => "remove the Digest\nvalue stored in the DynamoDB table".to_owned(),
            digest => format!(
                "update the Digest\nvalue stored in the DynamoDB table to the following value: \
                 {digest}"
            ),
        };
        let message = format!(
            "state data in S3 does not have the expected content.\n\n\
             The checksum calculated for the state stored in S3 does not match the checksum\n\
             stored in DynamoDB.\n\n\
             Bucket: {}\n\
             Key:    {}\n\
             Calculated checksum: {calculated}\n\
             Stored checksum:     {recorded}\n\n\
             This may be caused by unusually long delays in S3 processing a previous state\n\
             update. Please wait for a minute or two and try again.\n\n\
             If this problem persists, and neither S3 nor DynamoDB are experiencing an\n\
             outage, you may need to manually verify the remote state and {remedy}\n\n\
             \"repair digest\" does so: it compares serial and lineage of both first. The digest is \
             in the item {:?} of {}.",
            self.context.settings.bucket,
            self.path,
            self.digest_key(),
            self.context.the_table(),
        );
        self.at_digest(table, ErrorCode::DigestMismatch, message)
            .fact("calculated-digest", calculated)
            .fact("recorded-digest", recorded)
    }

    /// The state is written, which is what counts; but nobody may take that for all that there was to do.
    fn not_recorded(&self, mut failed: Failed, digest: &str, revision: &Revision) -> Error {
        failed.failure.ambiguous = false;
        let mut error = self.context.failed(&failed);
        error.message = format!(
            "the state is written to s3://{}/{}, but its digest is not recorded: {}\n\nDo not write \
             it again. A missing digest blocks nobody, and the next write records one; to do so now, \
             store {digest} as Digest in the item {:?} of {}.",
            self.context.settings.bucket,
            self.path,
            error.message,
            self.digest_key(),
            self.context.the_table(),
        );
        error.outcome = Outcome::Unknown;
        error.retryable = false;
        error
            .fact("key", &self.path)
            .fact("digest", digest)
            .fact("stored-revision", &revision.tag)
    }
}

/// Whether a digest is the one of what was read. An empty object is no state and has none.
fn is_described(got: &Got, digest: &str) -> bool {
    match got {
        Got::Object(object) if object.bytes.is_empty() => false,
        // The store's word is enough where the bytes have a checksum, by which they are verified in any case.
        Got::Object(Object {
            tag: Some(tag),
            checksum: Some(_),
            ..
        }) if is_md5(tag, digest) => true,
        Got::Object(object) => md5(&object.bytes) == digest,
        Got::TooLarge { tag: Some(tag), .. } => is_md5(tag, digest),
        _ => false,
    }
}

/// Whether an ETag is this MD5.
fn is_md5(tag: &str, digest: &str) -> bool {
    tag.trim_matches('"').eq_ignore_ascii_case(digest)
}

fn generation(object: &Object) -> Option<Generation> {
    let StateHead { serial, lineage } = StateHead::of(&object.bytes);
    Some(Generation {
        revision: object.revision()?,
        size: object.bytes.len() as u64,
        md5: md5(&object.bytes),
        serial,
        lineage,
    })
}

/// In hexadecimal, lower case.
fn md5(bytes: &[u8]) -> String {
    hexadecimal(&Md5::digest(bytes))
}

/// A digest in lower case. None: it is none.
fn normalised(digest: &str) -> Option<String> {
    let is_digest = digest.len() == 32 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_digest.then(|| digest.to_ascii_lowercase())
}
