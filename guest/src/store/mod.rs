//! The store: states are read, written and deleted so that nobody overwrites what they have not seen.
//!
//! A lock alone does not do that: it can be broken, expire with its holder, or never have been taken. Here the
//! revision that was read comes back with the write, the store compares, and where an answer got lost, what is
//! stored decides what happened.

mod digest;
mod write;

use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use crate::aws::error::StoreError;
use crate::aws::http::Client;
use crate::aws::pace::Pace;
use crate::config::{self, BucketLocation, Resolution, RetryMode, Settings};
use crate::contract::{
    DeleteOptions, Diagnostic, DigestReport, Error, ErrorCode, Expectation, HeldLock, Holder,
    LockInfo, OpenOptions, Outcome, ProbeOptions, Reading, Revision, State, UnlockBy, WriteOptions,
};
use crate::credentials::{Memory, Session};
use crate::dynamodb::DynamoDb;
use crate::failure::{Context, ErrorExt};
use crate::lock::Lock;
use crate::operation::Failed;
use crate::platform::Platform;
use crate::probe::Probe;
use crate::s3::{Got, Object, S3};
use crate::state_head::StateHead;
use crate::workspace;

/// How often a conditional request is made anew when what is stored gives no reason for its refusal.
pub(crate) const MAX_ROUNDS: u32 = 5;

/// The states that one configuration names. It remembers the store's clock, and nothing that matters.
pub struct Store<P> {
    platform: P,
    settings: Settings,
    session: Session,
    /// What the EC2 metadata service told.
    memory: Memory,
    /// None: retries are not adaptive.
    pace: Option<Mutex<Pace>>,
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
        let Resolution {
            settings,
            session,
            warnings,
        } = config::resolve(config, &platform)
            .map_err(|errors| errors.into_iter().map(Diagnostic::from).collect::<Vec<_>>())?;
        let pace = match settings.retry_mode {
            RetryMode::Adaptive => Some(Mutex::new(Pace::new(platform.monotonic()))),
            RetryMode::Standard => None,
        };
        let store = Self {
            platform,
            location: settings.bucket_location(),
            settings,
            session,
            memory: Memory::default(),
            pace,
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
        let s3 = self.s3(&self.client());
        workspace::list(&self.context(None), &self.platform, &s3)
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

    /// Tries out in the store itself what this configuration relies on, under keys of its own
    /// ([`KEY_INFIX`](crate::probe::KEY_INFIX)), and removes them again. The answer is a JSON object:
    ///
    /// - `format_version`: `"1"`. Fields and checks may be added under the same version.
    /// - `verdict`: whether locks are safe here: `safe`, `unsafe`, or `unknown` when something that decides could not be
    ///   tried. `reasons`: sentences, the gravest first: what is wrong, what could not be told and which permission that
    ///   takes, what is left behind. A safe store may have some, too.
    /// - `endpoint`, `bucket`; `probed`: false for AWS's own endpoints unless asked, which are only looked at.
    /// - `rounds`, `contenders`: how many races were run (0: none), between how many writers.
    /// - `checks`: what was tried, objects of `name`, `outcome` (`ok`, `failed`, `not-tested`, `warning`), `detail` (a
    ///   sentence) and `latency_ms` (of its last request, or null). Names: `upload` (only when nothing can be stored),
    ///   `checksum-accepted`, `encryption-accepted` (when it is refused), `encryption-honoured`, `tags-accepted`,
    ///   `acl-accepted`, `create-on-absent`, `create-only-refused`, `one-creator-wins`, `stale-replace-refused`,
    ///   `one-replacer-wins`, `conditional-delete`, `create-after-delete`, `visible-at-once`, `versioning`, `clock`,
    ///   `table-shape`, `table-create-only-refused`, `table-one-creator-wins`, `table-conditional-delete`.
    /// - `versioning`: `status` (`enabled`, `suspended`, `off`, `unknown`) and `advice` (a command, or null).
    /// - `clock_skew_seconds`: how much later the store's clock is; null: it did not say.
    /// - `latency_ms`: mean of `put`, `get`, `delete`, `list`; null where there was none.
    /// - `dynamodb`: null without a table, else `table`, `status` (null: unknown), `key_schema_ok` (null: unknown) and
    ///   `detail`.
    /// - `suggestions`: lines for the configuration, such as `skip_s3_checksum = true`.
    ///
    /// # Errors
    /// Nothing could be found out.
    pub fn probe(&self, options: ProbeOptions) -> Result<String, Error> {
        let context = self.context(None);
        let client = self.client();
        let table = DynamoDb::new(Rc::clone(&client), &self.settings);
        Probe::new(
            &self.platform,
            &context,
            client,
            table.as_ref(),
            options.rounds,
        )
        .run(options)
    }

    /// Compares a state and its recorded digest.
    ///
    /// # Errors
    /// As the contract says, for this and for the next.
    pub fn compare_digest(&self, workspace: &str) -> Result<DigestReport, Error> {
        self.call(workspace)?.compare_digest()
    }

    /// Records a digest, or removes the one that is recorded.
    ///
    /// # Errors
    /// As the contract says.
    pub fn record_digest(
        &self,
        workspace: &str,
        expected: Option<&str>,
        digest: Option<&str>,
        lock: Option<&HeldLock>,
    ) -> Result<(), Error> {
        self.call(workspace)?.record_digest(expected, digest, lock)
    }

    fn call<'a>(&'a self, workspace: &'a str) -> Result<Call<'a, P>, Error> {
        let context = self.context(Some(workspace));
        let client = self.client();
        Ok(Call {
            platform: &self.platform,
            options: self.options,
            path: workspace::state_path(&context, workspace)?,
            context,
            s3: self.s3(&client),
            table: DynamoDb::new(client, &self.settings),
        })
    }

    fn context<'a>(&'a self, workspace: Option<&'a str>) -> Context<'a> {
        Context {
            settings: &self.settings,
            location: &self.location,
            workspace,
        }
    }

    fn s3<'a>(&'a self, client: &Rc<Client<'a, P>>) -> S3<'a, P> {
        S3::new(Rc::clone(client), &self.settings, &self.location)
    }

    /// For one call: its budget begins now.
    fn client(&self) -> Rc<Client<'_, P>> {
        let budget = self.options.call_budget;
        Rc::new(Client::new(
            &self.platform,
            &self.settings,
            &self.session,
            &self.memory,
            self.pace.as_ref(),
            &self.skew,
            budget.map(|milliseconds| Duration::from_millis(milliseconds.into())),
        ))
    }
}

/// One call for one workspace.
struct Call<'a, P> {
    platform: &'a P,
    options: OpenOptions,
    context: Context<'a>,
    s3: S3<'a, P>,
    /// None: the configuration names no table.
    table: Option<DynamoDb<'a, P>>,
    /// Key of the state.
    path: String,
}

impl<P: Platform> Call<'_, P> {
    fn read(&self, known: Option<&Revision>) -> Result<Reading, Error> {
        let known = known.map(|revision| revision.tag.as_str());
        let got = self
            .get(known)
            .map_err(|failed| self.context.failed(&failed))?;
        let got = match &self.table {
            Some(table) => self.verified(table, got)?,
            None => got,
        };
        match got {
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
        match &self.table {
            Some(table) => self.delete_with_digest(table, options),
            None => self.delete_state(&options.expect),
        }
    }

    fn delete_state(&self, expect: &Expectation) -> Result<(), Error> {
        let fail = |failed: Failed| self.context.failed(&failed);
        match expect {
            Expectation::Absent => {
                let found = self.get(None).map_err(fail)?;
                if is_as_expected(&found, expect) {
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
            Expectation::Revision(revision) => self.delete_fenced(revision, expect),
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
        let table = self.table.as_ref();
        Lock::new(self.platform, &self.context, &self.s3, table, &self.path)
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
