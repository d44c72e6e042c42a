//! The lock: a record in one place or two, made on condition that there is none, as Terraform and OpenTofu make it.
//!
//! What can go wrong is not the happy case but the answer that gets lost: a lock that was taken and is reported as
//! somebody else's blocks a whole team, and one that is released although it was another's lets two writers in. So
//! after every doubt the record is read, and what is stored decides. With two places there is also the lock that is
//! held in one of them only: it is never handed out, and whoever releases it is told.
//!
//! The places come in the order that all tools share, the lock file first: two who took them in different orders would
//! each wait for the other. What happens in one place is in `protocol`, the places themselves in `file` and `item`.

mod file;
mod item;
mod protocol;
mod token;

use std::time::Duration;

use crate::config::{Diagnostic, Severity};
use crate::contract::{Error, ErrorCode, HeldLock, Holder, LockInfo, Outcome, UnlockBy};
use crate::dynamodb::DynamoDb;
use crate::failure::{Context, ErrorExt};
use crate::lock_record;
use crate::platform::Platform;
use crate::s3::S3;

use file::LockFile;
use item::LockItem;
use protocol::{Found, Place, Removal, Taken};
use token::Token;

/// How long after it was taken a lock is believed in unseen.
const BELIEVED_FOR: Duration = Duration::from_secs(10);

/// The lock of one workspace, for one call.
pub(crate) struct Lock<'a, P> {
    platform: &'a P,
    context: &'a Context<'a>,
    /// One at least.
    places: Vec<Box<dyn Place + 'a>>,
    /// What stands in the record: bucket and key of the state.
    path: String,
}

impl<'a, P: Platform> Lock<'a, P> {
    /// The lock of the state with this key.
    pub(crate) fn new(
        platform: &'a P,
        context: &'a Context<'a>,
        s3: &'a S3<'a, P>,
        table: Option<&'a DynamoDb<'a, P>>,
        state: &str,
    ) -> Result<Self, Error> {
        let path = format!("{}/{state}", context.settings.bucket);
        let mut places: Vec<Box<dyn Place + 'a>> = Vec::new();
        if context.settings.use_lockfile {
            places.push(Box::new(LockFile::new(s3, context, state)));
        }
        if let Some(table) = table {
            places.push(Box::new(LockItem::new(table, context, &path)));
        }
        if places.is_empty() {
            return Err(context.error(
                ErrorCode::Unsupported,
                "this configuration names no lock: set use_lockfile = true, or dynamodb_table."
                    .to_owned(),
            ));
        }
        Ok(Self {
            platform,
            context,
            places,
            path,
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
        let mut all = Vec::new();
        for place in self.places() {
            match self.take(place, &info.id, &record) {
                Ok(taken) => all.push((place, taken)),
                Err(error) => return Err(self.give_back(all, &info.id, error)),
            }
        }
        let mut token = Token {
            taken: u64::try_from(self.platform.now().as_millis()).ok(),
            marks: Vec::new(),
        };
        for (place, taken) in all {
            token.add(place.name(), taken.mark);
        }
        Ok(HeldLock {
            id: info.id,
            token: token.encode(&self.path),
        })
    }

    pub(crate) fn release(&self, by: &UnlockBy) -> Result<(), Error> {
        let (id, token) = match by {
            UnlockBy::Held(held) => (Some(held.id.as_str()), self.token(&held.token)?),
            UnlockBy::Id(id) if id.is_empty() => {
                let message = "a lock has an id.".to_owned();
                return Err(self.context.invalid("by", message));
            }
            UnlockBy::Id(id) => (Some(id.as_str()), Token::default()),
            UnlockBy::Token(token) => (None, self.token(token)?),
        };
        let mut results = Vec::new();
        for place in self.places() {
            let mark = token.mark(place.name());
            // A token that was found in one place breaks the lock there, and no other.
            if id.is_none() && mark.is_none() && !token.marks.is_empty() {
                continue;
            }
            let is_meant = |found: &Found| match id {
                Some(id) => found.has_id(id),
                None => found.has_mark(mark),
            };
            results.push((
                place,
                self.remove(place, mark.map(str::to_owned), &is_meant),
            ));
        }
        if results.is_empty() {
            let message =
                "the token is one of a lock in a place that this configuration does not name.";
            return Err(self.context.invalid("token", message.to_owned()));
        }
        self.conclude(results, matches!(by, UnlockBy::Id(_)))
    }

    pub(crate) fn holders(&self) -> Result<Vec<Holder>, Error> {
        let mut holders = Vec::new();
        for place in self.places() {
            match place.read() {
                Ok(found) => holders.extend(found.map(|found| self.holder(place, found))),
                Err(failed) => return Err(self.context.failed(&failed).held_by(holders)),
            }
        }
        Ok(holders)
    }

    /// Fails unless the lock is still held so, in every place. One that was taken a moment ago is believed in.
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
        let mut differing = Vec::new();
        for place in self.places() {
            match place.read() {
                Ok(Some(found))
                    if found.has_id(&held.id) || found.has_mark(token.mark(place.name())) => {}
                Ok(found) => differing.push((place, found)),
                Err(failed) => return Err(self.context.failed(&failed)),
            }
        }
        if differing.is_empty() {
            return Ok(());
        }
        Err(self.mismatch(differing))
    }

    fn places(&self) -> impl Iterator<Item = &(dyn Place + 'a)> {
        self.places.iter().map(|place| &**place)
    }

    /// Undoes what this call did in other places before it failed in one. What it only found there is left alone: the
    /// caller may hold it since an earlier call.
    fn give_back(&self, all: Vec<(&dyn Place, Taken)>, id: &str, mut error: Error) -> Error {
        for (place, taken) in all.into_iter().filter(|(_, taken)| taken.is_new) {
            let reason = match self.remove(place, taken.mark, &|found| found.has_id(id)) {
                Err(left) => left.message,
                // Perhaps ours after all.
                Ok(Removal::NotMeant(Some(found))) if found.info.is_none() => {
                    "what was found there cannot be read.".to_owned()
                }
                Ok(_) => continue,
            };
            error.message.push_str(&format!(
                "\n\nBefore that, {} was locked, and could not be released again: {reason}\nRelease \
                 it with force-unlock and the ID {id}.",
                place.shown()
            ));
            error.outcome = Outcome::Unknown;
        }
        error
    }

    /// What a release comes to, of what it did in each place.
    fn conclude(
        &self,
        results: Vec<(&dyn Place, Result<Removal, Error>)>,
        by_id: bool,
    ) -> Result<(), Error> {
        let mut released = Vec::new();
        let mut differing = Vec::new();
        let mut failures = Vec::new();
        for (place, result) in results {
            match result {
                Ok(Removal::Done) => released.push(place.shown()),
                Ok(Removal::NotMeant(found)) => differing.push((place, found)),
                Err(error) => failures.push((place, error)),
            }
        }
        let nothing_left = failures.is_empty() && differing.iter().all(|(_, it)| it.is_none());
        if nothing_left && differing.is_empty() {
            return Ok(());
        }
        if nothing_left && !released.is_empty() {
            let absent: Vec<_> = differing.iter().map(|(place, _)| place.shown()).collect();
            let message = format!(
                "the lock of {} was held in part: it was released at {}, but there was none at {}. \
                 Nothing is locked any more. Somebody removed a part of it, or taking it was cut \
                 short: make sure that nobody else wrote meanwhile.",
                self.path,
                released.join(" and "),
                absent.join(" and ")
            );
            if by_id {
                self.platform.report(Diagnostic {
                    severity: Severity::Warning,
                    summary: "Only a part of the lock was there".to_owned(),
                    detail: message,
                    attribute: None,
                });
                return Ok(());
            }
            return Err(self.context.error(ErrorCode::LockMismatch, message));
        }
        let mut errors = failures.into_iter();
        let Some((place, mut error)) = errors.next() else {
            let mut error = self.mismatch(differing);
            if !released.is_empty() {
                let own = format!("It was released at {}.", released.join(" and "));
                error.message = format!("{}\n\n{own}", error.message);
            }
            return Err(error);
        };
        if self.places.len() > 1 {
            error.message = format!("at {}: {}", place.shown(), error.message);
        }
        for (place, other) in errors {
            let more = format!("\n\nAt {}: {}", place.shown(), other.message);
            error.message.push_str(&more);
            if other.outcome == Outcome::Unknown {
                error.outcome = Outcome::Unknown;
            }
        }
        if !differing.is_empty() {
            let other = self.mismatch(differing);
            error.message.push_str(&format!("\n\n{}", other.message));
            error.holders = other.holders;
        }
        if !released.is_empty() {
            error.message.push_str(&format!(
                "\n\nThe lock was released at {}; the rest of it is left.",
                released.join(" and ")
            ));
            error.outcome = Outcome::Unknown;
        }
        Err(error)
    }

    fn token(&self, token: &str) -> Result<Token, Error> {
        Token::decode(token, &self.path).ok_or_else(|| {
            let message = "the token is not one of this workspace's lock.".to_owned();
            self.context.invalid("token", message)
        })
    }

    fn holder(&self, place: &dyn Place, found: Found) -> Holder {
        let mut token = Token::default();
        token.add(place.name(), found.mark);
        Holder {
            place: place.name().to_owned(),
            info: found.info,
            token: token.encode(&self.path),
        }
    }
}
