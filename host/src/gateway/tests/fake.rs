//! A linearizable store in memory that can be told to fail, to lose an answer, or to wait.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{
    DeleteOptions, Error, ErrorCode, Expectation, HeldLock, Holder, LockInfo, Outcome, Reading,
    Revision, State, StateStore, StoreError, UnlockBy, WriteOptions,
};

/// The store. Every call is logged as `<call> <workspace>`.
#[derive(Default)]
pub struct FakeStore(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    workspaces: BTreeMap<String, Slot>,
    generation: u64,
    no_locking: bool,
    faults: Vec<Fault>,
    pauses: Vec<Pause>,
    log: Vec<String>,
}

#[derive(Default)]
struct Slot {
    state: Option<State>,
    lock: Option<Holder>,
    /// A lock in the other of two places; no call but `holders` knows of it.
    elsewhere: Option<Holder>,
}

struct Fault {
    call: &'static str,
    done: bool,
    error: StoreError,
}

struct Pause {
    call: &'static str,
    reached: oneshot::Sender<()>,
    go_on: oneshot::Receiver<()>,
}

/// The two ends of a pause.
pub struct Paused {
    /// Resolves when a call has come to the pause.
    pub reached: oneshot::Receiver<()>,
    /// Ends the pause.
    pub go_on: oneshot::Sender<()>,
}

impl FakeStore {
    /// A store whose configuration names no lock.
    pub fn without_locking() -> Self {
        let store = Self::default();
        store.inner().no_locking = true;
        store
    }

    /// Makes the next call of this name fail; `done`: after it has taken effect.
    pub fn fail(&self, call: &'static str, done: bool, code: ErrorCode) {
        let outcome = if done {
            Outcome::Unknown
        } else {
            Outcome::NotDone
        };
        let error = StoreError {
            outcome,
            retryable: true,
            ..error(code, "a fault")
        };
        self.inner().faults.push(Fault { call, done, error });
    }

    /// Makes the next call of this name wait before it does anything.
    pub fn pause(&self, call: &'static str) -> Paused {
        let (tell, reached) = oneshot::channel();
        let (go_on, wait) = oneshot::channel();
        self.inner().pauses.push(Pause {
            call,
            reached: tell,
            go_on: wait,
        });
        Paused { reached, go_on }
    }

    /// What is stored, past every fault.
    pub fn stored(&self, workspace: &str) -> Option<Bytes> {
        self.inner()
            .slot(workspace)
            .state
            .as_ref()
            .map(|state| state.bytes.clone())
    }

    /// Stores a state past every lock and fence, as a client would that cares for neither.
    pub fn force(&self, workspace: &str, bytes: &'static [u8]) {
        self.inner().put(workspace, Bytes::from_static(bytes));
    }

    /// Replaces the lock: by nothing, by another's, or by a record that cannot be read.
    pub fn replace_lock(&self, workspace: &str, info: Option<Option<LockInfo>>) {
        let mut inner = self.inner();
        inner.generation += 1;
        let token = format!("t{}", inner.generation);
        inner.slot(workspace).lock = info.map(|info| Holder {
            place: "s3".to_owned(),
            info,
            token,
        });
    }

    /// A lock in DynamoDB beside the one in S3.
    pub fn lock_elsewhere(&self, workspace: &str, info: LockInfo) {
        self.inner().slot(workspace).elsewhere = Some(Holder {
            place: "dynamodb".to_owned(),
            info: Some(info),
            token: "elsewhere".to_owned(),
        });
    }

    /// The id of the lock that is held.
    pub fn lock_id(&self, workspace: &str) -> Option<String> {
        self.inner().slot(workspace).lock.as_ref().map(|holder| {
            holder
                .info
                .as_ref()
                .map_or_else(|| "?".to_owned(), |info| info.id.clone())
        })
    }

    /// The calls since the last time this was asked.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.inner().log)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Logs a call, waits if it is told to, and lets it take effect at one moment.
    async fn call<T>(
        &self,
        call: &'static str,
        workspace: &str,
        effect: impl FnOnce(&mut Inner) -> Result<T, StoreError>,
    ) -> Result<T, Error> {
        let pause = {
            let mut inner = self.inner();
            let place = inner.pauses.iter().position(|pause| pause.call == call);
            place.map(|place| inner.pauses.remove(place))
        };
        if let Some(pause) = pause {
            let _ = pause.reached.send(());
            let _ = pause.go_on.await;
        }
        let mut inner = self.inner();
        inner.log.push(format!("{call} {workspace}"));
        let place = inner.faults.iter().position(|fault| fault.call == call);
        match place.map(|place| inner.faults.remove(place)) {
            None => Ok(effect(&mut inner)?),
            Some(fault) => {
                if fault.done {
                    effect(&mut inner)?;
                }
                Err(fault.error.into())
            }
        }
    }
}

impl Inner {
    fn slot(&mut self, workspace: &str) -> &mut Slot {
        self.workspaces.entry(workspace.to_owned()).or_default()
    }

    fn put(&mut self, workspace: &str, bytes: Bytes) -> Revision {
        self.generation += 1;
        let revision = Revision {
            tag: format!("\"r{}\"", self.generation),
            version: None,
        };
        self.slot(workspace).state = Some(State {
            bytes,
            revision: revision.clone(),
        });
        revision
    }

    fn check(
        &mut self,
        workspace: &str,
        expect: &Expectation,
        lock: Option<&HeldLock>,
    ) -> Result<(), StoreError> {
        let slot = self.slot(workspace);
        let holders: Vec<_> = slot.lock.iter().cloned().collect();
        if let Some(lock) = lock
            && !holders.iter().any(|holder| holder.token == lock.token)
        {
            return Err(StoreError {
                holders,
                ..error(ErrorCode::LockMismatch, "the lock is lost")
            });
        }
        let fits = match (expect, &slot.state) {
            (Expectation::Anything, _) | (Expectation::Absent, None) => true,
            (Expectation::Revision(expected), Some(state)) => *expected == state.revision,
            _ => false,
        };
        if fits {
            Ok(())
        } else {
            Err(error(ErrorCode::StateChanged, "the state has changed"))
        }
    }

    fn locking(&self) -> Result<(), StoreError> {
        if self.no_locking {
            return Err(error(
                ErrorCode::Unsupported,
                "the configuration names no lock",
            ));
        }
        Ok(())
    }
}

#[async_trait]
impl StateStore for FakeStore {
    async fn workspaces(&self) -> Result<Vec<String>, Error> {
        Ok(self.inner().workspaces.keys().cloned().collect())
    }

    async fn read(&self, workspace: &str, _known: Option<&Revision>) -> Result<Reading, Error> {
        self.call("read", workspace, |inner| {
            Ok(inner
                .slot(workspace)
                .state
                .clone()
                .map_or(Reading::Absent, Reading::State))
        })
        .await
    }

    async fn write(
        &self,
        workspace: &str,
        bytes: Bytes,
        options: &WriteOptions,
    ) -> Result<Revision, Error> {
        self.call("write", workspace, |inner| {
            inner.check(workspace, &options.expect, options.lock.as_ref())?;
            Ok(inner.put(workspace, bytes))
        })
        .await
    }

    async fn delete(&self, workspace: &str, options: &DeleteOptions) -> Result<(), Error> {
        self.call("delete", workspace, |inner| {
            if workspace == "default" {
                return Err(error(
                    ErrorCode::InvalidArgument,
                    "`default` cannot be deleted",
                ));
            }
            inner.check(workspace, &options.expect, options.lock.as_ref())?;
            inner.slot(workspace).state = None;
            Ok(())
        })
        .await
    }

    async fn lock(&self, workspace: &str, info: &LockInfo) -> Result<HeldLock, Error> {
        self.call("lock", workspace, |inner| {
            inner.locking()?;
            inner.generation += 1;
            let token = format!("t{}", inner.generation);
            let slot = inner.slot(workspace);
            let lock = slot.lock.get_or_insert_with(|| {
                let path = format!("bucket/{workspace}");
                Holder {
                    place: "s3".to_owned(),
                    info: Some(LockInfo {
                        path,
                        ..info.clone()
                    }),
                    token,
                }
            });
            if lock.info.as_ref().is_none_or(|holder| holder.id != info.id) {
                let holders = vec![lock.clone()];
                return Err(StoreError {
                    holders,
                    ..error(ErrorCode::Locked, "the lock is held")
                });
            }
            Ok(HeldLock {
                id: info.id.clone(),
                token: lock.token.clone(),
            })
        })
        .await
    }

    async fn unlock(&self, workspace: &str, by: &UnlockBy) -> Result<(), Error> {
        self.call("unlock", workspace, |inner| {
            inner.locking()?;
            let lock = &mut inner.slot(workspace).lock;
            let fits = lock.as_ref().is_some_and(|holder| match by {
                UnlockBy::Held(HeldLock { token, .. }) | UnlockBy::Token(token) => {
                    holder.token == *token
                }
                UnlockBy::Id(id) => holder.info.as_ref().is_some_and(|info| info.id == *id),
            });
            if !fits {
                let holders = lock.iter().cloned().collect();
                return Err(StoreError {
                    holders,
                    ..error(ErrorCode::LockMismatch, "not your lock")
                });
            }
            *lock = None;
            Ok(())
        })
        .await
    }

    async fn holders(&self, workspace: &str) -> Result<Vec<Holder>, Error> {
        self.call("holders", workspace, |inner| {
            inner.locking()?;
            let slot = inner.slot(workspace);
            Ok(slot.lock.iter().chain(&slot.elsewhere).cloned().collect())
        })
        .await
    }
}

fn error(code: ErrorCode, message: &str) -> StoreError {
    StoreError {
        code,
        message: message.to_owned(),
        outcome: Outcome::NotDone,
        retryable: false,
        holders: Vec::new(),
        facts: Vec::new(),
    }
}
