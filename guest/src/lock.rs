//! The lock: an object next to the state, made with a conditional write, as Terraform and OpenTofu make it.
//!
//! What can go wrong is not the happy case but the answer that gets lost: a lock that was taken and is reported as
//! somebody else's blocks a whole team, and one that is released although it was another's lets two writers in. So
//! after every doubt the lock is read, and what is stored decides.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use sha2::{Digest, Sha256};

use crate::aws::error::StoreError;
use crate::aws::http::Payload;
use crate::contract::{Error, ErrorCode, HeldLock, Holder, LockInfo, Outcome, UnlockBy};
use crate::failure::{Context, ErrorExt};
use crate::lock_record;
use crate::platform::Platform;
use crate::s3::{Condition, Failed, Got, S3};
use crate::store::MAX_ROUNDS;

/// A record has some hundred bytes; what is larger is no record.
const MAX_RECORD: u64 = 1 << 20;

/// How long after it was taken a lock is believed in unseen.
const BELIEVED_FOR: Duration = Duration::from_secs(10);

/// The lock of one workspace, for one call.
pub(crate) struct Lock<'a, P> {
    platform: &'a P,
    context: &'a Context<'a>,
    s3: &'a S3<'a, P>,
    /// Key of the lock's object.
    key: String,
    /// What stands in the record: bucket and key of the state.
    path: String,
}

impl<'a, P: Platform> Lock<'a, P> {
    pub(crate) fn new(
        platform: &'a P,
        context: &'a Context<'a>,
        s3: &'a S3<'a, P>,
        state: &str,
    ) -> Result<Self, Error> {
        if !context.settings.use_lockfile {
            return Err(context.error(
                ErrorCode::Unsupported,
                "this configuration names no lock: set use_lockfile = true.".to_owned(),
            ));
        }
        Ok(Self {
            platform,
            context,
            s3,
            key: format!("{state}.tflock"),
            path: format!("{}/{state}", context.settings.bucket),
        })
    }

    pub(crate) fn acquire(&self, mut info: LockInfo) -> Result<HeldLock, Error> {
        if info.id.is_empty() {
            let message = "a lock has an id.".to_owned();
            return Err(self.context.invalid("info.id", message));
        }
        info.created = lock_record::normalised_date(&info.created).ok_or_else(|| {
            let message = "the lock's date must be one of RFC 3339, such as 2026-01-31T12:00:00Z.";
            self.context.invalid("info.created", message.to_owned())
        })?;
        info.path.clone_from(&self.path);
        let record = lock_record::to_json(&info);
        let payload = Payload {
            bytes: record.as_bytes(),
            sha256: Sha256::digest(&record).into(),
        };
        let mut lost = false;
        let mut round = 1;
        loop {
            let mut failed = match self.s3.put(&self.key, payload, Condition::Absent) {
                Ok(revision) => return Ok(self.held(info.id, revision.map(|it| it.tag))),
                Err(failed) => failed,
            };
            lost |= failed.failure.ambiguous;
            failed.failure.ambiguous = lost;
            if failed.failure.is(StoreError::is_condition_unsupported) {
                return Err(self.conditions_unsupported(&failed));
            }
            let refused = failed.failure.is(|error| error.status == 412);
            let collided = failed.failure.is(StoreError::is_conflict);
            if !(refused || collided || lost) {
                return Err(self.context.failed(&failed));
            }
            match self.look() {
                Ok(Some(found)) if found.has_id(&info.id) => {
                    return Ok(self.held(info.id, found.tag));
                }
                Ok(Some(found)) => {
                    let mut error = self.locked(vec![self.holder(found)]);
                    if lost && !refused {
                        error.outcome = Outcome::Unknown;
                    }
                    return Err(error);
                }
                // Whoever held it is gone.
                Ok(None) => {}
                Err(unread) if refused => return Err(self.locked_unread(&unread)),
                Err(_) => return Err(self.context.failed(&failed)),
            }
            let again = round < MAX_ROUNDS
                && (refused || (collided && self.s3.client.pause_after_collision(round)));
            if !again {
                return Err(if refused || collided {
                    self.locked(Vec::new())
                } else {
                    self.context.failed(&failed)
                });
            }
            round += 1;
        }
    }

    pub(crate) fn release(&self, by: &UnlockBy) -> Result<(), Error> {
        match by {
            UnlockBy::Held(held) => {
                let token = self.token(&held.token)?;
                self.remove(token.tag, |found| found.has_id(&held.id))
            }
            UnlockBy::Id(id) if id.is_empty() => {
                let message = "a lock has an id.".to_owned();
                Err(self.context.invalid("by", message))
            }
            UnlockBy::Id(id) => self.remove(None, |found| found.has_id(id)),
            UnlockBy::Token(token) => {
                let tag = self.token(token)?.tag;
                self.remove(tag.clone(), |found| found.tag.is_some() && found.tag == tag)
            }
        }
    }

    pub(crate) fn holders(&self) -> Result<Vec<Holder>, Error> {
        match self.look() {
            Ok(found) => Ok(found.map(|found| self.holder(found)).into_iter().collect()),
            Err(failed) => Err(self.context.failed(&failed)),
        }
    }

    /// Fails unless the lock is still held so. One that was taken a moment ago is believed in.
    pub(crate) fn check(&self, held: &HeldLock) -> Result<(), Error> {
        let token = self.token(&held.token)?;
        let age = token.taken.and_then(|taken| {
            self.platform
                .now()
                .checked_sub(Duration::from_millis(taken))
        });
        if age.is_some_and(|age| age <= BELIEVED_FOR) {
            return Ok(());
        }
        match self.look() {
            Ok(Some(found)) if found.has_id(&held.id) => Ok(()),
            Ok(Some(found)) if found.tag.is_some() && found.tag == token.tag => Ok(()),
            Ok(found) => Err(self.mismatch(found)),
            Err(failed) => Err(self.context.failed(&failed)),
        }
    }

    /// Removes the lock with this ETag; without one, the lock that `is_meant` of those that are found.
    fn remove(
        &self,
        mut tag: Option<String>,
        is_meant: impl Fn(&Found) -> bool,
    ) -> Result<(), Error> {
        let mut conditional = true;
        let mut seen = false;
        let mut lost = false;
        let mut round = 1;
        loop {
            if !seen && tag.is_none() {
                match self.look() {
                    Ok(Some(found)) if is_meant(&found) => tag = found.tag,
                    Ok(found) => return Err(self.mismatch(found)),
                    Err(failed) => return Err(self.context.failed(&failed)),
                }
            }
            let condition = tag.as_deref().filter(|_| conditional);
            let Err(mut failed) = self.s3.delete(&self.key, condition) else {
                return Ok(());
            };
            lost |= failed.failure.ambiguous;
            failed.failure.ambiguous = lost;
            let refused = failed.failure.is(StoreError::is_failed_condition);
            let collided = failed.failure.is(StoreError::is_conflict);
            let unsupported =
                condition.is_some() && failed.failure.is(StoreError::is_condition_unsupported);
            if !(refused || collided || unsupported || lost) {
                return Err(self.context.failed(&failed));
            }
            match self.look() {
                Ok(Some(found)) if is_meant(&found) => tag = found.tag,
                // The answer that got lost was the good one: the lock is not ours any more.
                Ok(_) if lost => return Ok(()),
                Ok(found) => return Err(self.mismatch(found)),
                Err(_) => return Err(self.context.failed(&failed)),
            }
            seen = true;
            if unsupported {
                conditional = false;
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

    fn look(&self) -> Result<Option<Found>, Failed> {
        Ok(match self.s3.get(&self.key, None, MAX_RECORD)? {
            Got::Absent | Got::Unchanged => None,
            Got::Object(object) => Some(Found {
                info: lock_record::from_json(&object.bytes),
                tag: object.tag,
            }),
            Got::TooLarge { tag, .. } => Some(Found { info: None, tag }),
        })
    }

    fn held(&self, id: String, tag: Option<String>) -> HeldLock {
        let taken = u64::try_from(self.platform.now().as_millis()).ok();
        HeldLock {
            id,
            token: self.to_token(tag, taken),
        }
    }

    fn holder(&self, found: Found) -> Holder {
        Holder {
            place: "s3".to_owned(),
            info: found.info,
            token: self.to_token(found.tag, None),
        }
    }

    fn to_token(&self, tag: Option<String>, taken: Option<u64>) -> String {
        let taken = taken.map(|taken| taken.to_string()).unwrap_or_default();
        let tag = tag.unwrap_or_default();
        // No header, and so no tag, holds a line break.
        BASE64.encode(format!("{taken}\n{tag}\n{}", self.key))
    }

    fn token(&self, token: &str) -> Result<Token, Error> {
        let parsed = BASE64
            .decode(token)
            .ok()
            .and_then(|text| Token::parse(&String::from_utf8(text).ok()?, &self.key));
        parsed.ok_or_else(|| {
            let message = "the token is not one of this workspace's lock.".to_owned();
            self.context.invalid("token", message)
        })
    }

    fn locked(&self, holders: Vec<Holder>) -> Error {
        let mut message = format!("the state {} is locked", self.path);
        match holders.first() {
            Some(Holder {
                info: Some(info), ..
            }) => message.push_str(&format!(
                " by somebody else.\n\n{}\n\nWait until it is released. If its holder is gone, \
                 release it with force-unlock and its ID.",
                lock_record::to_text(info)
            )),
            Some(_) => message.push_str(&format!(
                ", but the record of its holder at s3://{}/{} cannot be read. Wait until it is \
                 released. If its holder is gone, break it with its token.",
                self.context.settings.bucket, self.key
            )),
            None => message.push_str(
                ": others take and release it all the time, and this attempt never got it. Try \
                 again.",
            ),
        }
        let mut error = self
            .context
            .error(ErrorCode::Locked, message)
            .fact("key", &self.key);
        if let Some(info) = holders.first().and_then(|holder| holder.info.as_ref()) {
            error = error.fact("lock-id", &info.id);
        }
        error.retryable = true;
        error.held_by(holders)
    }

    /// The store refused the lock, so there is a holder; but it may not be read.
    fn locked_unread(&self, unread: &Failed) -> Error {
        let mut error = self.context.failed(unread);
        error.code = ErrorCode::Locked;
        error.message = format!(
            "the state {} is locked, but its holder is unknown: {}",
            self.path, error.message
        );
        error.retryable = true;
        error.held_by(vec![self.holder(Found {
            info: None,
            tag: None,
        })])
    }

    fn mismatch(&self, found: Option<Found>) -> Error {
        let mut message = format!("the lock of {} is ", self.path);
        match &found {
            None => message.push_str("gone: nobody holds it. It was released or broken."),
            Some(Found {
                info: Some(info), ..
            }) => message.push_str(&format!("not this one.\n\n{}", lock_record::to_text(info))),
            Some(_) => message.push_str(&format!(
                "another one, whose record at s3://{}/{} cannot be read; it can be broken with \
                 its token.",
                self.context.settings.bucket, self.key
            )),
        }
        self.context
            .error(ErrorCode::LockMismatch, message)
            .fact("key", &self.key)
            .held_by(found.map(|found| self.holder(found)).into_iter().collect())
    }

    fn conditions_unsupported(&self, failed: &Failed) -> Error {
        let mut error = self.context.failed(failed);
        error.code = ErrorCode::Unsupported;
        error.message.push_str(
            " This store does not know conditional writes, so that use_lockfile cannot keep two \
             writers apart on it: use a store that does.",
        );
        error
    }
}

/// A lock as it is stored.
struct Found {
    /// None: the record cannot be read.
    info: Option<LockInfo>,
    tag: Option<String>,
}

impl Found {
    fn has_id(&self, id: &str) -> bool {
        self.info.as_ref().is_some_and(|info| info.id == id)
    }
}

/// What a lock's token holds, besides the key of the lock's object: a token of one workspace is worth nothing in another.
struct Token {
    /// The ETag of the lock's object.
    tag: Option<String>,
    /// When it was taken by whoever has the token; milliseconds since 1970.
    taken: Option<u64>,
}

impl Token {
    fn parse(text: &str, key: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '\n');
        let taken = parts.next().filter(|taken| !taken.is_empty());
        let tag = parts.next()?;
        (parts.next()? == key).then_some(())?;
        Some(Self {
            tag: (!tag.is_empty()).then(|| tag.to_owned()),
            taken: taken.map(str::parse).transpose().ok()?,
        })
    }
}
