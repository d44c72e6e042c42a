//! How a lock is taken and released in one place, and what is said when it is another's.
//!
//! Both places follow the same few rules, and each of them guards against a lock that is lost or doubled: an answer that
//! got lost proves nothing, a collision is no verdict, and what is deleted is what was read.

use crate::aws::error::StoreError;
use crate::contract::{Error, ErrorCode, Holder, LockInfo, Outcome};
use crate::failure::ErrorExt;
use crate::lock_record;
use crate::operation::Failed;
use crate::platform::Platform;
use crate::store::MAX_ROUNDS;

use super::Lock;

/// A place where a lock can be.
pub(super) trait Place {
    /// As the contract calls it, such as `s3`.
    fn name(&self) -> &'static str;

    /// For sentences.
    fn shown(&self) -> String;

    /// The argument that configures it.
    fn argument(&self) -> &'static str;

    /// Adds where it is to an error, as facts.
    fn locate(&self, error: Error) -> Error;

    /// Stores a record if there is none. Answers with its mark, if the store tells one.
    fn create(&self, record: &str) -> Result<Option<String>, Failed>;

    fn read(&self) -> Result<Option<Found>, Failed>;

    /// Removes the record with this mark; without one, whatever is there.
    fn delete(&self, mark: Option<&str>) -> Result<(), Failed>;

    /// Waits before a request is repeated that collided with another one. False: there is no time left.
    fn pause_after_collision(&self, round: u32) -> bool;
}

/// A lock as it is stored.
pub(super) struct Found {
    /// None: the record cannot be read.
    pub(super) info: Option<LockInfo>,
    /// Tells this record from every other one in the same place. None: it is not known.
    pub(super) mark: Option<String>,
}

impl Found {
    pub(super) fn has_id(&self, id: &str) -> bool {
        self.info.as_ref().is_some_and(|info| info.id == id)
    }

    pub(super) fn has_mark(&self, mark: Option<&str>) -> bool {
        mark.is_some() && self.mark.as_deref() == mark
    }
}

/// A lock that is held now.
pub(super) struct Taken {
    pub(super) mark: Option<String>,
    /// Whether this call may have made it.
    pub(super) is_new: bool,
}

/// What came of removing a lock.
pub(super) enum Removal {
    Done,
    /// There is none, or another one.
    NotMeant(Option<Found>),
}

impl<P: Platform> Lock<'_, P> {
    /// Takes the lock in one place.
    pub(super) fn take(&self, place: &dyn Place, id: &str, record: &str) -> Result<Taken, Error> {
        let mut lost = false;
        let mut round = 1;
        loop {
            let mut failed = match place.create(record) {
                Ok(mark) => return Ok(Taken { mark, is_new: true }),
                Err(failed) => failed,
            };
            lost |= failed.failure.ambiguous;
            failed.failure.ambiguous = lost;
            if failed.failure.is(StoreError::is_condition_unsupported) {
                return Err(self.conditions_unsupported(place, &failed));
            }
            let refused = failed.failure.is(StoreError::is_already_there);
            let collided = failed.failure.is(StoreError::is_conflict);
            if !(refused || collided || lost) {
                return Err(self.context.failed(&failed));
            }
            match place.read() {
                Ok(Some(found)) if found.has_id(id) => {
                    return Ok(Taken {
                        mark: found.mark,
                        is_new: lost,
                    });
                }
                Ok(Some(found)) => {
                    // What cannot be read may be anybody's.
                    let is_certain = refused && found.info.is_some();
                    let mut error = self.locked(place, vec![self.holder(place, found)]);
                    if lost && !is_certain {
                        error.outcome = Outcome::Unknown;
                    }
                    return Err(error);
                }
                // Whoever held it is gone.
                Ok(None) => {}
                Err(unread) if refused => {
                    let mut error = self.locked_unread(place, &unread);
                    if lost {
                        error.outcome = Outcome::Unknown;
                    }
                    return Err(error);
                }
                Err(_) => return Err(self.context.failed(&failed)),
            }
            let again =
                round < MAX_ROUNDS && (refused || (collided && place.pause_after_collision(round)));
            if !again {
                return Err(if refused || collided {
                    self.locked(place, Vec::new())
                } else {
                    self.context.failed(&failed)
                });
            }
            round += 1;
        }
    }

    /// Removes the lock with this mark; without one, the lock that `is_meant` if it is the one that is found.
    pub(super) fn remove(
        &self,
        place: &dyn Place,
        mut mark: Option<String>,
        is_meant: &dyn Fn(&Found) -> bool,
    ) -> Result<Removal, Error> {
        let mut conditional = true;
        let mut seen = false;
        let mut lost = false;
        let mut round = 1;
        loop {
            if !seen && mark.is_none() {
                match place.read() {
                    Ok(Some(found)) if is_meant(&found) => mark = found.mark,
                    Ok(found) => return Ok(Removal::NotMeant(found)),
                    Err(failed) => return Err(self.context.failed(&failed)),
                }
            }
            let condition = mark.as_deref().filter(|_| conditional);
            let Err(mut failed) = place.delete(condition) else {
                return Ok(Removal::Done);
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
            match place.read() {
                Ok(Some(found)) if is_meant(&found) => mark = found.mark,
                // The answer that got lost was the good one: the lock is not ours any more.
                Ok(_) if lost => return Ok(Removal::Done),
                Ok(found) => return Ok(Removal::NotMeant(found)),
                Err(_) => return Err(self.context.failed(&failed)),
            }
            seen = true;
            if unsupported {
                conditional = false;
                continue;
            }
            let again =
                round < MAX_ROUNDS && (refused || (collided && place.pause_after_collision(round)));
            if !again {
                return Err(self.context.failed(&failed));
            }
            round += 1;
        }
    }

    /// Some places do not hold the lock that was named, but others or none.
    pub(super) fn mismatch(&self, differing: Vec<(&dyn Place, Option<Found>)>) -> Error {
        let mut error = self.context.error(ErrorCode::LockMismatch, String::new());
        let is_everywhere = differing.len() == self.places.len();
        if is_everywhere && differing.iter().all(|(_, found)| found.is_none()) {
            error.message = format!(
                "the lock of {} is gone: nobody holds it. It was released or broken.",
                self.path
            );
        }
        let is_told = !error.message.is_empty();
        for (place, found) in differing {
            error = place.locate(error);
            if is_told {
                continue;
            }
            if !error.message.is_empty() {
                error.message.push_str("\n\n");
            }
            let shown = place.shown();
            let text = match &found {
                None => format!(
                    "the lock of {} is gone at {shown}: it was released or broken there.",
                    self.path
                ),
                Some(Found {
                    info: Some(info), ..
                }) => format!(
                    "the lock of {} at {shown} is not this one.\n\n{}",
                    self.path,
                    lock_record::to_text(info)
                ),
                Some(_) => format!(
                    "the lock of {} at {shown} is another one, whose record cannot be read; it can \
                     be broken with its token.",
                    self.path
                ),
            };
            error.message.push_str(&text);
            error
                .holders
                .extend(found.map(|found| self.holder(place, found)));
        }
        error
    }

    fn locked(&self, place: &dyn Place, holders: Vec<Holder>) -> Error {
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
                ", but the record of its holder at {} cannot be read. Wait until it is released. If \
                 its holder is gone, break it with its token.",
                place.shown()
            )),
            None => message.push_str(
                ": others take and release it all the time, and this attempt never got it. Try \
                 again.",
            ),
        }
        let mut error = place.locate(self.context.error(ErrorCode::Locked, message));
        if let Some(info) = holders.first().and_then(|holder| holder.info.as_ref()) {
            error = error.fact("lock-id", &info.id);
        }
        error.retryable = true;
        error.held_by(holders)
    }

    /// The store refused the lock, so there is a holder; but it may not be read.
    fn locked_unread(&self, place: &dyn Place, unread: &Failed) -> Error {
        let mut error = self.context.failed(unread);
        error.code = ErrorCode::Locked;
        error.message = format!(
            "the state {} is locked, but its holder is unknown: {}",
            self.path, error.message
        );
        error.retryable = true;
        let unknown = Found {
            info: None,
            mark: None,
        };
        error.held_by(vec![self.holder(place, unknown)])
    }

    fn conditions_unsupported(&self, place: &dyn Place, failed: &Failed) -> Error {
        let mut error = self.context.failed(failed);
        error.code = ErrorCode::Unsupported;
        error.message.push_str(&format!(
            " This store does not know conditional writes, so that {} cannot keep two writers \
             apart on it: use a store that does.",
            place.argument()
        ));
        error
    }
}
