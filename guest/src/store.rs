//! The store: states are read, written and deleted so that nobody overwrites what they have not seen.
//!
//! A lock alone does not do that: it can be broken, expire with its holder, or never have been taken. Here the
//! revision that was read comes back with the write, the store compares, and where an answer got lost, what is
//! stored decides what happened.

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::aws::error::StoreError;
use crate::aws::http::Payload;
use crate::config::{self, BucketLocation, Environment, Settings};
use crate::contract::{
    DeleteOptions, Diagnostic, Error, ErrorCode, Expectation, Fence, HeldLock, Holder, LockInfo,
    OpenOptions, Outcome, Reading, Revision, State, UnlockBy, WriteOptions,
};
use crate::failure::{Context, ErrorExt};
use crate::lock::Lock;
use crate::platform::Platform;
use crate::s3::{Condition, Failed, Got, Object, S3};
use crate::state_head::StateHead;
use crate::workspace;

/// How often a conditional request is made anew when what is stored gives no reason for its refusal.
pub(crate) const MAX_ROUNDS: u32 = 5;

/// The states that one configuration names. It remembers the store's clock, and nothing that matters.
pub struct Store<P> {
    platform: P,
    settings: Settings,
    location: BucketLocation,
    options: OpenOptions,
    skew: AtomicI64,
}

impl<P: Platform> Store<P> {
    /// Opens the store that `config`, a backend block as JSON, names; and says what there is to say about it.
    /// Touches no network.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn open(
        platform: P,
        config: &str,
        options: OpenOptions,
    ) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let environment: &dyn Environment = &platform;
        let (settings, warnings) = config::resolve(config, environment)
            .map_err(|errors| errors.into_iter().map(Diagnostic::from).collect::<Vec<_>>())?;
        let store = Self {
            platform,
            location: settings.bucket_location(),
            settings,
            options,
            skew: AtomicI64::new(0),
        };
        Ok((store, warnings.into_iter().map(Diagnostic::from).collect()))
    }

    /// The names of the workspaces: `default` first, then the others, sorted.
    ///
    /// # Errors
    /// As the contract says, for this and for all that follow.
    pub fn workspaces(&self) -> Result<Vec<String>, Error> {
        workspace::list(&self.context(None), &self.platform, &self.s3())
    }

    /// The newest state, unless it is the one that is known. Its checksum is not verified here.
    ///
    /// # Errors
    /// As the contract says.
    pub fn read(&self, workspace: &str, known: Option<&Revision>) -> Result<Reading, Error> {
        self.call(workspace)?.read(known)
    }

    /// Stores a state, if what is stored is what the options expect.
    ///
    /// # Errors
    /// As the contract says.
    pub fn write(
        &self,
        workspace: &str,
        bytes: &[u8],
        options: &WriteOptions,
    ) -> Result<Revision, Error> {
        self.call(workspace)?.write(bytes, options)
    }

    /// Removes a workspace's state, if it is what the options expect.
    ///
    /// # Errors
    /// As the contract says.
    pub fn delete(&self, workspace: &str, options: &DeleteOptions) -> Result<(), Error> {
        self.call(workspace)?.delete(options)
    }

    /// Takes the lock of a workspace, or says who has it.
    ///
    /// # Errors
    /// As the contract says.
    pub fn lock(&self, workspace: &str, info: LockInfo) -> Result<HeldLock, Error> {
        self.call(workspace)?.lock()?.acquire(info)
    }

    /// Releases the lock of a workspace.
    ///
    /// # Errors
    /// As the contract says.
    pub fn unlock(&self, workspace: &str, by: &UnlockBy) -> Result<(), Error> {
        self.call(workspace)?.lock()?.release(by)
    }

    /// Who holds the lock of a workspace.
    ///
    /// # Errors
    /// As the contract says.
    pub fn holders(&self, workspace: &str) -> Result<Vec<Holder>, Error> {
        self.call(workspace)?.lock()?.holders()
    }

    fn call<'a>(&'a self, workspace: &'a str) -> Result<Call<'a, P>, Error> {
        let context = self.context(Some(workspace));
        Ok(Call {
            platform: &self.platform,
            options: self.options,
            path: workspace::state_path(&context, workspace)?,
            context,
            s3: self.s3(),
        })
    }

    fn context<'a>(&'a self, workspace: Option<&'a str>) -> Context<'a> {
        Context {
            settings: &self.settings,
            location: &self.location,
            workspace,
        }
    }

    fn s3(&self) -> S3<'_, P> {
        let budget = self.options.call_budget;
        S3::new(
            &self.platform,
            &self.settings,
            &self.location,
            &self.skew,
            budget.map(|milliseconds| Duration::from_millis(milliseconds.into())),
        )
    }
}

/// One call for one workspace.
struct Call<'a, P> {
    platform: &'a P,
    options: OpenOptions,
    context: Context<'a>,
    s3: S3<'a, P>,
    /// Key of the state.
    path: String,
}

impl<P: Platform> Call<'_, P> {
    fn read(&self, known: Option<&Revision>) -> Result<Reading, Error> {
        let known = known.map(|revision| revision.tag.as_str());
        match self
            .get(known)
            .map_err(|failed| self.context.failed(&failed))?
        {
            Got::Absent => Ok(Reading::Absent),
            Got::Object(object) if object.bytes.is_empty() => Ok(Reading::Absent),
            Got::Object(object) => {
                let revision = object.revision().ok_or_else(|| self.no_tag())?;
                Ok(Reading::State(State {
                    bytes: object.bytes,
                    revision,
                    checksum: object.checksum,
                }))
            }
            Got::TooLarge { size, .. } => Err(self.too_large(size)),
            Got::Unchanged => Ok(Reading::Unchanged),
        }
    }

    fn write(&self, bytes: &[u8], options: &WriteOptions) -> Result<Revision, Error> {
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
        self.write_fenced(Payload { bytes, sha256 }, &options.expect)
    }

    fn write_fenced(&self, payload: Payload<'_>, expect: &Expectation) -> Result<Revision, Error> {
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
            let mut failed = match self.s3.put(&self.path, payload, condition) {
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
        match self.s3.put(&self.path, payload, Condition::Anything) {
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

    fn delete(&self, options: &DeleteOptions) -> Result<(), Error> {
        if self.context.workspace == Some(workspace::DEFAULT) {
            return Err(self.context.invalid(
                "workspace",
                format!(
                    "the workspace \"{}\" cannot be deleted.",
                    workspace::DEFAULT
                ),
            ));
        }
        self.check_expectation(&options.expect)?;
        self.check_lock(options.lock.as_ref())?;
        let fail = |failed: Failed| self.context.failed(&failed);
        match &options.expect {
            Expectation::Absent => {
                let found = self.get(None).map_err(fail)?;
                if is_as_expected(&found, &options.expect) {
                    return Ok(());
                }
                Err(self.changed(&found, &[], false))
            }
            Expectation::Anything => match self.s3.delete(&self.path, None) {
                Err(failed) if failed.failure.ambiguous => match self.get(None) {
                    Ok(Got::Absent) => Ok(()),
                    _ => Err(fail(failed)),
                },
                other => other.map_err(fail),
            },
            Expectation::Revision(revision) => self.delete_fenced(revision, &options.expect),
        }
    }

    fn delete_fenced(&self, revision: &Revision, expect: &Expectation) -> Result<(), Error> {
        let mut tag = Some(revision.tag.as_str());
        let mut lost = false;
        let mut round = 1;
        loop {
            let Err(mut failed) = self.s3.delete(&self.path, tag) else {
                return Ok(());
            };
            lost |= failed.failure.ambiguous;
            failed.failure.ambiguous = lost;
            let refused = failed.failure.is(StoreError::is_failed_condition);
            let collided = failed.failure.is(StoreError::is_conflict);
            let unsupported =
                tag.is_some() && failed.failure.is(StoreError::is_condition_unsupported);
            if !(refused || collided || unsupported || lost) {
                return Err(self.context.failed(&failed));
            }
            match self.get(None) {
                Ok(Got::Absent) if lost => return Ok(()),
                Ok(found) if !is_as_expected(&found, expect) => {
                    return Err(self.changed(&found, &[], lost));
                }
                Ok(_) => {}
                Err(_) if refused => return Err(self.changed_unseen(&failed)),
                Err(_) => return Err(self.context.failed(&failed)),
            }
            if unsupported {
                // Deleting happens under the lock; only a writer without one could come in between.
                tag = None;
                continue;
            }
            let again = round < MAX_ROUNDS
                && (refused || (collided && self.s3.client.pause_after_collision(round)));
            if !again {
                return Err(self.context.failed(&failed));
            }
            round += 1;
        }
    }

    fn get(&self, known: Option<&str>) -> Result<Got, Failed> {
        self.s3.get(&self.path, known, self.options.max_state)
    }

    fn lock(&self) -> Result<Lock<'_, P>, Error> {
        Lock::new(self.platform, &self.context, &self.s3, &self.path)
    }

    fn check_lock(&self, held: Option<&HeldLock>) -> Result<(), Error> {
        match held {
            Some(held) => self.lock()?.check(held),
            None => Ok(()),
        }
    }

    fn check_expectation(&self, expect: &Expectation) -> Result<(), Error> {
        match expect {
            Expectation::Revision(revision) if revision.tag.is_empty() => Err(self
                .context
                .invalid("expect", "a revision has a tag.".to_owned())),
            _ => Ok(()),
        }
    }

    /// Somebody else has been here. `lost`: perhaps after us.
    fn changed(&self, found: &Got, written: &[u8], lost: bool) -> Error {
        let mut message = format!(
            "the state at s3://{}/{} is not the one that was expected: ",
            self.context.settings.bucket, self.path
        );
        let stored = match found {
            Got::Absent => {
                message.push_str("there is none.");
                StateHead::default()
            }
            Got::Object(Object { bytes, .. }) => StateHead::of(bytes),
            Got::TooLarge { size, .. } => {
                message.push_str(&format!("{size} bytes, more than the limit, are stored."));
                StateHead::default()
            }
            Got::Unchanged => StateHead::default(),
        };
        let written = StateHead::of(written);
        if let Some(serial) = stored.serial {
            message.push_str(&format!("serial {serial} is stored"));
            if let Some(serial) = written.serial {
                message.push_str(&format!(", serial {serial} was to be written"));
            }
            message.push('.');
        } else if let Got::Object(_) = found {
            message.push_str("another one is stored.");
        }
        message.push_str(
            " Nothing of it was overwritten. Read the state again and repeat what you did.",
        );
        let mut error = self
            .context
            .error(ErrorCode::StateChanged, message)
            .fact("key", &self.path);
        let facts = [
            ("stored-serial", stored.serial.map(|it| it.to_string())),
            ("stored-lineage", stored.lineage),
            ("written-serial", written.serial.map(|it| it.to_string())),
            ("written-lineage", written.lineage),
        ];
        for (name, value) in facts {
            if let Some(value) = value {
                error = error.fact(name, value);
            }
        }
        if lost {
            error.outcome = Outcome::Unknown;
        }
        error
    }

    /// The store refused the condition, and what is stored could not be read.
    fn changed_unseen(&self, refusal: &Failed) -> Error {
        let mut error = self.context.failed(refusal);
        error.code = ErrorCode::StateChanged;
        error.message.push_str(
            " The state is not the one that was expected, and what is stored now could not be \
             read. Read the state again and repeat what you did.",
        );
        error
    }

    fn too_large(&self, size: u64) -> Error {
        let limit = self.options.max_state;
        self.context
            .error(
                ErrorCode::TooLarge,
                format!(
                    "the state at s3://{}/{} has {size} bytes; at most {limit} are allowed here.",
                    self.context.settings.bucket, self.path
                ),
            )
            .fact("key", &self.path)
            .fact("size", size.to_string())
            .fact("limit", limit.to_string())
    }

    fn no_tag(&self) -> Error {
        self.context
            .error(
                ErrorCode::Unsupported,
                format!(
                    "the store names no ETag for s3://{}/{}: without one a state cannot be \
                     written safely.",
                    self.context.settings.bucket, self.path
                ),
            )
            .fact("key", &self.path)
    }
}

/// Whether what was found is what the caller expects. An empty object is no state.
fn is_as_expected(found: &Got, expect: &Expectation) -> bool {
    match (expect, found) {
        (Expectation::Absent, Got::Absent) | (Expectation::Anything, _) => true,
        (Expectation::Absent, Got::Object(object)) => object.bytes.is_empty(),
        (Expectation::Revision(revision), Got::Object(Object { tag, .. }))
        | (Expectation::Revision(revision), Got::TooLarge { tag, .. }) => {
            tag.as_ref() == Some(&revision.tag)
        }
        (Expectation::Revision(_), Got::Unchanged) => true,
        _ => false,
    }
}
