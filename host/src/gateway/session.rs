//! What the gateway remembers of the locks that it took: nothing that it could not do without.
//!
//! Terraform names its lock when it writes but not which revision it read. Without a session every write
//! would be fenced on what is stored at that moment, and a change made since the holder's read, under a
//! broken lock, would be overwritten.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{Expectation, HeldLock};

/// A digest (SHA-256) of a state's bytes.
pub(super) type Digest = [u8; 32];

/// A lock that this gateway took, and what its holder knows.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) lock: HeldLock,
    /// What the holder saw last: read first after it took the lock, or written since.
    pub(super) seen: Option<Expectation>,
    /// States that the holder sent and that may or may not have been stored.
    pub(super) unconfirmed: Vec<Digest>,
}

/// All workspaces that are being changed or have a session.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<String, Arc<Workspace>>>);

impl Sessions {
    /// A workspace, for reading only.
    pub(super) fn find(&self, name: &str) -> Option<Arc<Workspace>> {
        guard(&self.0).get(name).cloned()
    }

    /// A workspace, for changing it. To be given back to [`leave`](Self::leave).
    pub(super) fn enter(&self, name: &str) -> Arc<Workspace> {
        guard(&self.0).entry(name.to_owned()).or_default().clone()
    }

    /// Forgets a workspace that has no session and that nobody else is in.
    pub(super) fn leave(&self, name: &str, workspace: Arc<Workspace>) {
        let mut workspaces = guard(&self.0);
        // The map's and this one. No other can come while the map is locked.
        if Arc::strong_count(&workspace) == 2 && workspace.session().is_none() {
            workspaces.remove(name);
        }
    }
}

/// One workspace.
#[derive(Default)]
pub(super) struct Workspace {
    /// Held while a request changes the workspace.
    pub(super) turn: tokio::sync::Mutex<()>,
    session: Mutex<Option<Session>>,
}

impl Workspace {
    /// The session, as it is now.
    pub(super) fn session(&self) -> Option<Session> {
        guard(&self.session).clone()
    }

    /// The session of this lock id.
    pub(super) fn session_of(&self, id: &str) -> Option<Session> {
        self.session().filter(|session| session.lock.id == id)
    }

    /// A lock was taken. What its holder saw stays, should this be the repetition of a request: at worst a
    /// write is refused that could have been made.
    pub(super) fn begin(&self, lock: HeldLock) {
        let mut session = guard(&self.session);
        match &mut *session {
            Some(known) if known.lock.id == lock.id => known.lock = lock,
            _ => {
                *session = Some(Session {
                    lock,
                    seen: None,
                    unconfirmed: Vec::new(),
                })
            }
        }
    }

    /// The lock with this id was released or lost; `None`: any lock.
    pub(super) fn end(&self, id: Option<&str>) {
        guard(&self.session).take_if(|session| id.is_none_or(|id| session.lock.id == id));
    }

    /// The workspace was read during this session: the first time counts, as everything the holder does is
    /// based on that or on something newer.
    pub(super) fn read(&self, lock: &HeldLock, found: Expectation) {
        self.update(lock, |session| {
            session.seen.get_or_insert(found);
        });
    }

    /// The holder's change was stored.
    pub(super) fn changed(&self, lock: &HeldLock, newest: Expectation) {
        self.update(lock, |session| {
            session.seen = Some(newest);
            session.unconfirmed.clear();
        });
    }

    /// The holder's change may have been stored.
    pub(super) fn doubt(&self, lock: &HeldLock, sent: Digest) {
        self.update(lock, |session| {
            if !session.unconfirmed.contains(&sent) {
                session.unconfirmed.push(sent);
            }
        });
    }

    fn update(&self, lock: &HeldLock, change: impl FnOnce(&mut Session)) {
        if let Some(session) = guard(&self.session)
            .as_mut()
            .filter(|session| session.lock == *lock)
        {
            change(session);
        }
    }
}

/// Each critical section is a single assignment: what a panic could leave behind is still true.
fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(id: &str, token: &str) -> HeldLock {
        HeldLock {
            id: id.to_owned(),
            token: token.to_owned(),
        }
    }

    #[test]
    fn a_workspace_is_remembered_only_while_it_is_used_or_locked() {
        let sessions = Sessions::default();
        let (one, other) = (sessions.enter("w"), sessions.enter("w"));
        sessions.leave("w", one);
        assert!(sessions.find("w").is_some(), "somebody is still in it");
        other.begin(lock("a", "t"));
        sessions.leave("w", other);
        let place = sessions.enter("w");
        assert!(place.session_of("a").is_some(), "it is locked");
        place.end(Some("a"));
        sessions.leave("w", place);
        assert!(sessions.find("w").is_none());
    }

    #[test]
    fn what_belongs_to_another_lock_changes_nothing() {
        let place = Workspace::default();
        place.begin(lock("a", "t1"));
        place.read(&lock("a", "t0"), Expectation::Absent);
        place.changed(&lock("b", "t1"), Expectation::Absent);
        place.end(Some("b"));
        assert_eq!(place.session_of("a").unwrap().seen, None);
    }

    #[test]
    fn locking_again_under_the_same_id_keeps_the_fence() {
        let place = Workspace::default();
        place.begin(lock("a", "t1"));
        place.read(&lock("a", "t1"), Expectation::Absent);
        place.begin(lock("a", "t2"));
        assert_eq!(place.session().unwrap().seen, Some(Expectation::Absent));
        place.begin(lock("b", "t3"));
        assert_eq!(place.session().unwrap().seen, None);
    }
}
