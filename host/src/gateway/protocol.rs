//! The protocol: what each request does to the store.
//!
//! Two rules keep states safe. A write never goes ahead unless the stored state is what its sender knows;
//! where that is not remembered, the state is read *before* the lock, so that a lock found in place proves
//! that nobody who respects it wrote in between. And every request may come twice: what is already as the
//! request wants it is answered with 200.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, de::IgnoredAny};
use sha2::{Digest as _, Sha256};

use super::{
    answer::Answer,
    session::{Digest, Sessions, Workspace},
    target::Action,
};
use crate::{
    DeleteOptions, Error, ErrorCode, Expectation, HeldLock, Holder, LockInfo, Outcome, Reading,
    State, StateStore, UnlockBy, WriteOptions,
};

/// A request with all that it carries.
pub(super) enum Call {
    Change(Change),
    Read,
}

/// A request that changes a state or its lock.
pub(super) enum Change {
    Delete { lock: Option<String> },
    ForceUnlock,
    Lock(LockInfo),
    Unlock { lock: String },
    Write { lock: Option<String>, bytes: Bytes },
}

impl Call {
    /// Puts a request together, and refuses what cannot be meant. `digested`: it came with a digest of its
    /// body, as every request of the client does that carries one, be it empty.
    pub(super) fn new(
        action: Action,
        lock: Option<String>,
        digested: bool,
        body: Bytes,
    ) -> Result<Self, Answer> {
        let change = match action {
            Action::Read => return Ok(Self::Read),
            Action::Write if body.is_empty() => {
                return Err(bad("the body is empty: there is no empty state"));
            }
            Action::Write if lock.is_none() && is_lock_record(&body) => {
                return Err(bad(
                    "this is a lock record, not a state: with `lock_method = \"POST\"` the `lock_address` must end in /lock",
                ));
            }
            Action::Write => Change::Write { lock, bytes: body },
            Action::Delete if digested || !body.is_empty() => {
                return Err(bad(
                    "this would delete the state: with `unlock_method = \"DELETE\"` the `unlock_address` must end in /lock",
                ));
            }
            Action::Delete => Change::Delete { lock },
            Action::Unlock if body.is_empty() => Change::ForceUnlock,
            Action::Unlock => Change::Unlock {
                lock: record(&body)?.id,
            },
            Action::Lock => {
                let mut info = record(&body)?;
                if info.created.is_empty() {
                    info.created = Timestamp::now().to_string();
                }
                Change::Lock(info)
            }
        };
        Ok(Self::Change(change))
    }

    /// The id of the lock that it is about.
    pub(super) fn lock(&self) -> Option<&str> {
        match self {
            Self::Change(Change::Delete { lock } | Change::Write { lock, .. }) => lock.as_deref(),
            Self::Change(Change::Lock(LockInfo { id, .. }) | Change::Unlock { lock: id }) => {
                Some(id)
            }
            Self::Change(Change::ForceUnlock) | Self::Read => None,
        }
    }

    /// Who asks, where the request says it: the `Who` of a lock record, no proof of anything.
    pub(super) fn who(&self) -> Option<&str> {
        match self {
            Self::Change(Change::Lock(info)) => Some(&info.who),
            _ => None,
        }
    }
}

/// A store with the gateway's memory of it.
pub(super) struct Protocol {
    store: Arc<dyn StateStore>,
    sessions: Sessions,
    allow_force_unlock: bool,
    allow_no_locking: bool,
    refuse_locks: Option<String>,
}

impl Protocol {
    pub(super) fn new(
        store: Arc<dyn StateStore>,
        allow_force_unlock: bool,
        allow_no_locking: bool,
        refuse_locks: Option<String>,
    ) -> Self {
        Self {
            store,
            sessions: Sessions::default(),
            allow_force_unlock,
            allow_no_locking,
            refuse_locks,
        }
    }

    /// Does what a request asks for. Changes of one workspace wait for each other; reads do not.
    pub(super) async fn perform(&self, workspace: &str, call: Call) -> Result<Answer, Answer> {
        match call {
            Call::Change(change) => self.change(workspace, change).await,
            Call::Read => self.read(workspace).await,
        }
    }

    async fn change(&self, workspace: &str, change: Change) -> Result<Answer, Answer> {
        let place = self.sessions.enter(workspace);
        let answer = {
            let _alone = place.turn.lock().await;
            let turn = Turn {
                protocol: self,
                name: workspace,
                place: &place,
            };
            match change {
                Change::Delete { lock } => turn.delete(lock.as_deref()).await,
                Change::ForceUnlock => turn.force_unlock().await,
                Change::Lock(info) => turn.lock(&info).await,
                Change::Unlock { lock } => turn.unlock(&lock).await,
                Change::Write { lock, bytes } => turn.write(lock.as_deref(), bytes).await,
            }
        };
        self.sessions.leave(workspace, place);
        answer
    }

    async fn read(&self, workspace: &str) -> Result<Answer, Answer> {
        // The session as it was before: a read that began earlier says nothing about what its holder saw.
        let session = self
            .sessions
            .find(workspace)
            .and_then(|place| Some((place.session()?.lock, place)));
        let reading = self.store.read(workspace, None).await?;
        if let Some((lock, place)) = session {
            place.read(&lock, expectation(&reading));
        }
        match reading {
            Reading::State(state) => Ok(Answer::state(state.bytes)),
            Reading::Absent | Reading::Unchanged => Err(Answer::text(
                StatusCode::NOT_FOUND,
                "there is no state in this workspace yet",
            )),
        }
    }
}

/// A request's turn to change a workspace.
struct Turn<'a> {
    protocol: &'a Protocol,
    name: &'a str,
    place: &'a Workspace,
}

/// On what conditions a change may go ahead.
struct Terms {
    expect: Expectation,
    lock: Option<HeldLock>,
    /// What was read to find out, if anything was.
    stored: Option<Bytes>,
    /// What the sender may have stored before.
    unconfirmed: Vec<Digest>,
}

impl Turn<'_> {
    async fn lock(&self, info: &LockInfo) -> Result<Answer, Answer> {
        if let Some(reason) = &self.protocol.refuse_locks {
            return Err(Answer::text(StatusCode::UNPROCESSABLE_ENTITY, reason));
        }
        let held = self
            .store()
            .lock(self.name, info)
            .await
            .map_err(no_locking)?;
        self.place.begin(held);
        Ok(Answer::done())
    }

    async fn unlock(&self, id: &str) -> Result<Answer, Answer> {
        let by = match self.place.session_of(id) {
            Some(session) => UnlockBy::Held(session.lock),
            None => UnlockBy::Id(id.to_owned()),
        };
        let released = gone_is_released(self.store().unlock(self.name, &by).await);
        if released.is_ok() || is(&released, ErrorCode::LockMismatch) {
            self.place.end(Some(id));
        }
        released.map_err(no_locking)?;
        Ok(Answer::done())
    }

    /// Terraform's force-unlock sends no id: whatever is found is broken, and nothing that comes after.
    async fn force_unlock(&self) -> Result<Answer, Answer> {
        if !self.protocol.allow_force_unlock {
            return Err(conflict(
                "an unlock without a lock ID breaks whatever lock is held, and this gateway was started without allowing that: start it with --allow-force-unlock, or use `cofferdam force-unlock ID`",
            ));
        }
        for holder in self.store().holders(self.name).await.map_err(no_locking)? {
            let by = UnlockBy::Token(holder.token);
            gone_is_released(self.store().unlock(self.name, &by).await)?;
        }
        self.place.end(None);
        Ok(Answer::done())
    }

    async fn write(&self, id: Option<&str>, bytes: Bytes) -> Result<Answer, Answer> {
        let mut terms = self.terms(id).await?;
        if id.is_none() {
            refuse_older(&bytes, terms.stored.as_ref())?;
        }
        if terms.stored.as_ref() == Some(&bytes) {
            return Ok(self.stored(terms.lock.as_ref(), terms.expect));
        }
        let mut written = self.try_write(&bytes, &terms).await;
        if is(&written, ErrorCode::StateChanged)
            && let Reading::State(State {
                bytes: stored,
                revision,
            }) = self.look().await?
        {
            if stored == bytes {
                return Ok(self.stored(terms.lock.as_ref(), Expectation::Revision(revision)));
            }
            // Not somebody else's change but the sender's own, of which it had no answer.
            if terms.unconfirmed.contains(&digest(&stored)) {
                terms.expect = Expectation::Revision(revision);
                written = self.try_write(&bytes, &terms).await;
            }
        }
        match written {
            Ok(newest) => Ok(self.stored(terms.lock.as_ref(), newest)),
            Err(error) => {
                if let (Outcome::Unknown, Some(lock)) = (error.outcome(), &terms.lock) {
                    self.place.doubt(lock, digest(&bytes));
                }
                Err(error.into())
            }
        }
    }

    async fn try_write(&self, bytes: &Bytes, terms: &Terms) -> Result<Expectation, Error> {
        let options = WriteOptions {
            expect: terms.expect.clone(),
            lock: terms.lock.clone(),
        };
        self.store()
            .write(self.name, bytes.clone(), &options)
            .await
            .map(Expectation::Revision)
    }

    async fn delete(&self, id: Option<&str>) -> Result<Answer, Answer> {
        let Terms { expect, lock, .. } = self.terms(id).await?;
        let deleted = self
            .store()
            .delete(
                self.name,
                &DeleteOptions {
                    expect,
                    lock: lock.clone(),
                },
            )
            .await;
        if is(&deleted, ErrorCode::StateChanged) && self.look().await? == Reading::Absent {
            return Ok(self.stored(lock.as_ref(), Expectation::Absent));
        }
        deleted?;
        Ok(self.stored(lock.as_ref(), Expectation::Absent))
    }

    /// On what terms the sender, who says that it holds the lock with this id or none, may change the
    /// workspace.
    async fn terms(&self, id: Option<&str>) -> Result<Terms, Answer> {
        if let Some(session) = id.and_then(|id| self.place.session_of(id)) {
            let (expect, stored) = match session.seen {
                Some(seen) => (seen, None),
                None => {
                    let reading = self.look().await?;
                    (expectation(&reading), bytes_of(reading))
                }
            };
            return Ok(Terms {
                expect,
                lock: Some(session.lock),
                stored,
                unconfirmed: session.unconfirmed,
            });
        }
        let reading = self.look().await?;
        let holders = self.holders().await?;
        let foreign = |holder: &&Holder| {
            holder
                .info
                .as_ref()
                .is_none_or(|info| Some(&*info.id) != id)
        };
        let others: Vec<Holder> = holders.iter().filter(foreign).cloned().collect();
        if !others.is_empty() {
            return Err(Answer::held_by(&others));
        }
        if let (Some(id), []) = (id, &*holders) {
            return Err(conflict(format!(
                "nothing was changed: the lock {id:?} is not held any more, it was released or broken; read the state again before writing it"
            )));
        }
        let expect = expectation(&reading);
        Ok(Terms {
            expect,
            lock: None,
            stored: bytes_of(reading),
            unconfirmed: Vec::new(),
        })
    }

    async fn look(&self) -> Result<Reading, Error> {
        self.store().read(self.name, None).await
    }

    async fn holders(&self) -> Result<Vec<Holder>, Answer> {
        match self.store().holders(self.name).await {
            Err(error) if error.code() == Some(ErrorCode::Unsupported) => {
                if self.protocol.allow_no_locking {
                    return Ok(Vec::new());
                }
                Err(conflict(format!(
                    "{error}\nWithout a lock two writers could meet. Configure one (`use_lockfile = true`), or start the gateway with --allow-no-locking"
                )))
            }
            holders => Ok(holders?),
        }
    }

    fn store(&self) -> &dyn StateStore {
        &*self.protocol.store
    }

    fn stored(&self, lock: Option<&HeldLock>, newest: Expectation) -> Answer {
        if let Some(lock) = lock {
            self.place.changed(lock, newest);
        }
        Answer::done()
    }
}

/// A lock that is gone is released, so that the repetition of an unlock succeeds.
fn gone_is_released(released: Result<(), Error>) -> Result<(), Error> {
    match released {
        Err(Error::Store(error))
            if error.code == ErrorCode::LockMismatch && error.holders.is_empty() =>
        {
            Ok(())
        }
        released => released,
    }
}

/// Without a lock two writers who started from the same state can both pass the fence, one after the
/// other. Terraform counts its states: one that does not count further than the stored one of the same
/// lineage was made without knowing it.
fn refuse_older(sent: &Bytes, stored: Option<&Bytes>) -> Result<(), Answer> {
    #[derive(Deserialize)]
    struct Count {
        serial: u64,
        lineage: String,
    }
    let Some(stored) = stored.filter(|stored| *stored != sent) else {
        return Ok(());
    };
    let (Ok(sent), Ok(stored)) = (
        serde_json::from_slice::<Count>(sent),
        serde_json::from_slice::<Count>(stored),
    ) else {
        return Ok(());
    };
    if sent.lineage == stored.lineage && sent.serial <= stored.serial {
        return Err(conflict(format!(
            "nothing was changed: serial {} is stored, and this state has serial {} and was sent without a lock; somebody else was faster. Read the state again, and do not use -lock=false",
            stored.serial, sent.serial
        )));
    }
    Ok(())
}

fn expectation(reading: &Reading) -> Expectation {
    match reading {
        Reading::State(state) => Expectation::Revision(state.revision.clone()),
        // Nobody asked for `Unchanged`; to expect nothing is the reading of it that overwrites nothing.
        Reading::Absent | Reading::Unchanged => Expectation::Absent,
    }
}

fn bytes_of(reading: Reading) -> Option<Bytes> {
    match reading {
        Reading::State(state) => Some(state.bytes),
        Reading::Absent | Reading::Unchanged => None,
    }
}

fn digest(bytes: &Bytes) -> Digest {
    Sha256::digest(bytes).into()
}

fn is<T>(result: &Result<T, Error>, code: ErrorCode) -> bool {
    result
        .as_ref()
        .is_err_and(|error| error.code() == Some(code))
}

/// The one failure that the client must not repeat although the server lacks something: 501.
fn no_locking(error: Error) -> Answer {
    if error.code() != Some(ErrorCode::Unsupported) {
        return error.into();
    }
    Answer::text(
        StatusCode::NOT_IMPLEMENTED,
        format!(
            "{error}\nConfigure a lock (`use_lockfile = true`), or leave `lock_address` and `unlock_address` out of the http backend block"
        ),
    )
}

fn record(body: &Bytes) -> Result<LockInfo, Answer> {
    match serde_json::from_slice::<LockInfo>(body) {
        Ok(info) if !info.id.is_empty() => Ok(info),
        _ => Err(bad(
            "the body is not a lock record: a JSON object with a non-empty `ID` is expected",
        )),
    }
}

/// Whether it is what clients send with LOCK. No state has such keys at its top.
fn is_lock_record(body: &Bytes) -> bool {
    #[derive(Deserialize)]
    struct Record {
        #[serde(rename = "ID")]
        _id: IgnoredAny,
        #[serde(rename = "Operation")]
        _operation: IgnoredAny,
        #[serde(rename = "Who")]
        _who: IgnoredAny,
    }
    serde_json::from_slice::<Record>(body).is_ok()
}

fn conflict(reason: impl Into<String>) -> Answer {
    Answer::text(StatusCode::CONFLICT, reason)
}

fn bad(reason: &str) -> Answer {
    Answer::text(StatusCode::BAD_REQUEST, reason)
}
