//! A store: one configuration under one grant, served by a small pool of instances.
//!
//! Locks and revisions travel with the caller, so any instance can serve any call. That is why one that
//! trapped can be thrown away without losing anything, and why a slow read does not block an unlock.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};
use zeroize::Zeroizing;

use crate::bindings::cofferdam::state_backend::types as wit;
use crate::bindings::exports::cofferdam::state_backend::state_store as wit_store;
use crate::component::Loaded;
use crate::contract::{
    DeleteOptions, Diagnostic, ErrorCode, HeldLock, Holder, LockInfo, Outcome, Reading, Revision,
    State, StateStore, StoreError, UnlockBy, WriteOptions,
};
use crate::instance::{Environment, Instance, within};
use crate::observe::{Operation, observed};
use crate::tenant::CallTurn;
use crate::transport::CallRecord;
use crate::{ComponentError, Error, Limit, Tenant, checksum, convert, observe};

/// An instance that served nobody for this long serves nobody any more; the next call drops it.
const IDLE: Duration = Duration::from_secs(60);
/// An instance that grew beyond this is dropped after its call: memory of a component never shrinks.
const LARGE: u64 = 16 << 20;
/// An instance that served a call for each of so many handles that it may have (100 by default) is dropped. Each request
/// leaves an entry in the table of handles: wasmtime-wasi-http 48 never removes the options that a request was handed
/// with. A full table ends a call in its middle.
const HANDLES_PER_CALL: u64 = 20;
/// Instances that are kept for the next calls; further ones are made when they are needed, in 100 µs.
const KEPT: usize = 8;
/// What finding out what became of an aborted call may take.
const READ_BACK_TIME: Duration = Duration::from_secs(30);
/// Attempts to find out what became of a call whose answer is missing.
const READ_BACKS: u32 = 2;

/// Whether a store that refuses conditional writes may be used without them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fence {
    /// It may not: writes fail with [`ErrorCode::Unsupported`].
    #[default]
    Required,
    /// It may; each write made so is reported as a warning.
    WhenSupported,
}

/// The states that one configuration names, in the sandbox. Cheap to clone; clones share instances and
/// connections. Dropping it releases no lock.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) component: Arc<Loaded>,
    pub(crate) environment: Arc<Environment>,
    pub(crate) config: Zeroizing<String>,
    pub(crate) fence: Fence,
    pub(crate) idle: Mutex<Vec<Instance>>,
    pub(crate) permits: Semaphore,
}

/// What one call carries, in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// What the component may hand over at once.
    pub(crate) answer: u64,
    /// The state in it.
    pub(crate) state: u64,
}

/// The right to run a call. Others wait until it is dropped.
pub(crate) struct Turn<'s> {
    _store: SemaphorePermit<'s>,
    _tenant: CallTurn,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("component", &self.inner.component.sha256)
            .finish_non_exhaustive()
    }
}

/// Runs one call in an instance and puts the instance back if it is sound. The time counts from the wait for a free
/// place on. `$load`: what the call carries, if it is not the usual.
macro_rules! in_instance {
    ($inner:expr, $time:expr, |$instance:ident, $resource:ident| $call:expr) => {{
        let inner: &$crate::store::Inner = $inner;
        let load = inner.load();
        $crate::store::in_instance!(inner, $time, load, |$instance, $resource| $call)
    }};
    ($inner:expr, $time:expr, $load:expr, |$instance:ident, $resource:ident| $call:expr) => {{
        let inner: &$crate::store::Inner = $inner;
        let load: $crate::store::Load = $load;
        let time: std::time::Duration = $time;
        let started = std::time::Instant::now();
        let _turn = inner.turn(time, load.state).await?;
        let mut $instance = inner.instance().await?;
        let call = $instance.begin_call_that_answers(load.answer);
        let $resource = $instance.resource.ok_or_else($crate::store::not_open)?;
        let time = time.saturating_sub(started.elapsed());
        let answer = $crate::instance::within(time, &call, $call).await;
        inner.finish($instance, &call.record, answer)
    }};
}
pub(crate) use in_instance;

/// Runs one method of the contract's `store`.
macro_rules! call {
    ($inner:expr, $time:expr, $method:ident($($argument:expr),*)) => {
        call!($inner, $time, $inner.load(), $method($($argument),*))
    };
    ($inner:expr, $time:expr, $load:expr, $method:ident($($argument:expr),*)) => {
        in_instance!($inner, $time, $load, |instance, resource| instance
            .exports
            .cofferdam_state_backend_state_store()
            .store()
            .$method(&mut instance.store, resource, $($argument),*))
    };
}

impl Store {
    /// Opens the first instance; its warnings are the configuration's.
    pub(crate) async fn open(inner: Inner) -> Result<(Self, Vec<Diagnostic>), Error> {
        let (instance, warnings) = inner.fresh().await?;
        inner.put_back(instance);
        Ok((
            Self {
                inner: Arc::new(inner),
            },
            warnings,
        ))
    }

    /// SHA-256 of the component that serves this store, in hex.
    pub fn component_sha256(&self) -> &str {
        &self.inner.component.sha256
    }

    pub(crate) fn tenant(&self) -> &Tenant {
        &self.inner.environment.tenant
    }

    pub(crate) fn time(&self) -> Duration {
        self.inner.environment.limits.wall_clock
    }

    fn read_back_time(&self) -> Duration {
        self.time().min(READ_BACK_TIME)
    }

    async fn read_verified(
        &self,
        time: Duration,
        workspace: &str,
        known: Option<&Revision>,
    ) -> Result<Reading, Error> {
        let known = known.map(convert::to_revision);
        let mut attempts = 0;
        loop {
            let load = self.inner.load_of_reading();
            let read = call!(
                &self.inner,
                time,
                load,
                call_read(workspace, known.as_ref())
            );
            let unverified = match read? {
                wit::Reading::Absent => return Ok(Reading::Absent),
                wit::Reading::Unchanged => return Ok(Reading::Unchanged),
                wit::Reading::State(state) => convert::state(state),
            };
            let sound = match &unverified.checksum {
                Some(sum) => checksum::matches(&unverified.bytes, &sum.algorithm, &sum.value).await,
                None => true,
            };
            if sound {
                let convert::Unverified {
                    bytes, revision, ..
                } = unverified;
                return Ok(Reading::State(State { bytes, revision }));
            }
            attempts += 1;
            if attempts == READ_BACKS {
                return Err(altered(workspace).into());
            }
        }
    }

    async fn holders_within(&self, time: Duration, workspace: &str) -> Result<Vec<Holder>, Error> {
        let holders = call!(&self.inner, time, call_holders(workspace))?;
        Ok(holders.into_iter().map(convert::holder).collect())
    }

    /// Finds out what became of a write whose answer is missing.
    async fn after_lost_write(
        &self,
        workspace: &str,
        sha256: [u8; 32],
        error: Error,
    ) -> Result<Revision, Error> {
        match self
            .read_verified(self.read_back_time(), workspace, None)
            .await
        {
            Ok(Reading::State(state)) if checksum::sha256(&state.bytes).await == sha256 => {
                Ok(state.revision)
            }
            Ok(_) => Err(after_read_back(
                error,
                "read back, this state is not what is stored",
            )),
            Err(_) => Err(error),
        }
    }

    /// Finds out what became of a lock request whose answer is missing.
    async fn after_lost_lock(
        &self,
        workspace: &str,
        info: &LockInfo,
        error: Error,
    ) -> Result<HeldLock, Error> {
        match self.holders_within(self.read_back_time(), workspace).await {
            Ok(holders) if holds(&holders, &info.id) => {
                // Taking a lock again under the same id answers it.
                let info = convert::to_lock_info(info);
                call!(&self.inner, self.time(), call_lock(workspace, &info)).map(convert::held_lock)
            }
            Ok(_) => Err(after_read_back(
                error,
                "read back, the lock was not held under this id",
            )),
            Err(_) => Err(error),
        }
    }
}

#[async_trait]
impl StateStore for Store {
    async fn workspaces(&self) -> Result<Vec<String>, Error> {
        let call = async { call!(&self.inner, self.time(), call_workspaces()) };
        observed(self.tenant(), Operation::Workspaces, None, call, |_| None).await
    }

    async fn read(&self, workspace: &str, known: Option<&Revision>) -> Result<Reading, Error> {
        let call = self.read_verified(self.time(), workspace, known);
        let size = |reading: &Reading| match reading {
            Reading::State(state) => Some(state.bytes.len() as u64),
            Reading::Absent | Reading::Unchanged => None,
        };
        observed(self.tenant(), Operation::Read, Some(workspace), call, size).await
    }

    async fn write(
        &self,
        workspace: &str,
        bytes: Bytes,
        options: &WriteOptions,
    ) -> Result<Revision, Error> {
        let size = bytes.len() as u64;
        let call = self.write_and_read_back(workspace, bytes, options);
        let tenant = self.tenant();
        observed(tenant, Operation::Write, Some(workspace), call, |_| {
            Some(size)
        })
        .await
    }

    async fn delete(&self, workspace: &str, options: &DeleteOptions) -> Result<(), Error> {
        let call = self.delete_and_read_back(workspace, options);
        let tenant = self.tenant();
        observed(tenant, Operation::Delete, Some(workspace), call, |_| None).await
    }

    async fn lock(&self, workspace: &str, info: &LockInfo) -> Result<HeldLock, Error> {
        let call = self.lock_and_read_back(workspace, info);
        let tenant = self.tenant();
        observed(tenant, Operation::Lock, Some(workspace), call, |_| None).await
    }

    async fn unlock(&self, workspace: &str, by: &UnlockBy) -> Result<(), Error> {
        let call = self.unlock_and_read_back(workspace, by);
        let tenant = self.tenant();
        observed(tenant, Operation::Unlock, Some(workspace), call, |_| None).await
    }

    async fn holders(&self, workspace: &str) -> Result<Vec<Holder>, Error> {
        let call = self.holders_within(self.time(), workspace);
        let tenant = self.tenant();
        observed(tenant, Operation::Holders, Some(workspace), call, |_| None).await
    }
}

/// The operations of the contract, as they are observed below.
impl Store {
    async fn write_and_read_back(
        &self,
        workspace: &str,
        bytes: Bytes,
        options: &WriteOptions,
    ) -> Result<Revision, Error> {
        let sha256 = checksum::sha256(&bytes).await;
        let options = wit::WriteOptions {
            expect: convert::to_expectation(&options.expect),
            lock: options.lock.as_ref().map(convert::to_held_lock),
            sha256: Some(sha256.to_vec()),
        };
        let load = Load {
            state: bytes.len() as u64,
            ..self.inner.load()
        };
        match call!(
            &self.inner,
            self.time(),
            load,
            call_write(workspace, &bytes, &options)
        ) {
            Ok(revision) => Ok(convert::revision(revision)),
            // That the state is stored is known then; what is missing, its digest, no reading back would find.
            Err(error) if tells_revision(&error) => Err(error),
            Err(error) if error.outcome() == Outcome::Unknown => {
                self.after_lost_write(workspace, sha256, error).await
            }
            Err(error) => Err(error),
        }
    }

    async fn delete_and_read_back(
        &self,
        workspace: &str,
        options: &DeleteOptions,
    ) -> Result<(), Error> {
        let options = wit::DeleteOptions {
            expect: convert::to_expectation(&options.expect),
            lock: options.lock.as_ref().map(convert::to_held_lock),
        };
        match call!(&self.inner, self.time(), call_delete(workspace, &options)) {
            Err(error) if error.outcome() == Outcome::Unknown => {
                match self
                    .read_verified(self.read_back_time(), workspace, None)
                    .await
                {
                    Ok(Reading::Absent) => Ok(()),
                    Ok(_) => Err(after_read_back(
                        error,
                        "read back, the state is still there",
                    )),
                    Err(_) => Err(error),
                }
            }
            answer => answer,
        }
    }

    async fn lock_and_read_back(
        &self,
        workspace: &str,
        info: &LockInfo,
    ) -> Result<HeldLock, Error> {
        let wit_info = convert::to_lock_info(info);
        match call!(&self.inner, self.time(), call_lock(workspace, &wit_info)) {
            Ok(lock) => Ok(convert::held_lock(lock)),
            Err(error) if error.outcome() == Outcome::Unknown => {
                self.after_lost_lock(workspace, info, error).await
            }
            Err(error) => Err(error),
        }
    }

    async fn unlock_and_read_back(&self, workspace: &str, by: &UnlockBy) -> Result<(), Error> {
        let wit_by = convert::to_unlock_by(by);
        match call!(&self.inner, self.time(), call_unlock(workspace, &wit_by)) {
            Err(error) if error.outcome() == Outcome::Unknown => {
                match self.holders_within(self.read_back_time(), workspace).await {
                    Ok(holders) if !is_held(&holders, by) => Ok(()),
                    Ok(_) => Err(after_read_back(error, "read back, the lock is still held")),
                    Err(_) => Err(error),
                }
            }
            answer => answer,
        }
    }
}

impl Inner {
    /// What most calls carry.
    pub(crate) fn load(&self) -> Load {
        Load {
            answer: self.environment.limits.answer,
            state: 0,
        }
    }

    /// What a call carries that reads a state, of which nobody knows the size.
    pub(crate) fn load_of_reading(&self) -> Load {
        Load {
            answer: self.environment.limits.read_answer(),
            state: self.environment.limits.state,
        }
    }

    /// Waits until this store and its tenant may run one more call, with a state of so many bytes.
    pub(crate) async fn turn(&self, time: Duration, state: u64) -> Result<Turn<'_>, Error> {
        let tenant = &self.environment.tenant;
        let started = Instant::now();
        let turn = async {
            // In this order everywhere: whoever waits for the second holds nothing that its holders wait for.
            let store = self.permits.acquire().await.map_err(|_| not_open())?;
            let tenant = tenant.call(state).await;
            Ok(Turn {
                _store: store,
                _tenant: tenant,
            })
        };
        let turn = tokio::time::timeout(time, turn).await;
        observe::waited(tenant, started.elapsed());
        turn.unwrap_or_else(|_| {
            Err(Error::Limit {
                limit: Limit::WallClock(time),
                outcome: Outcome::NotDone,
                read_back: None,
            })
        })
    }

    /// An idle instance, or a fresh one.
    pub(crate) async fn instance(&self) -> Result<Instance, Error> {
        let idle = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(|instance| instance.idle_since.elapsed() < IDLE);
            idle.pop()
        };
        match idle {
            Some(instance) => Ok(instance),
            None => Ok(self.fresh().await?.0),
        }
    }

    async fn fresh(&self) -> Result<(Instance, Vec<Diagnostic>), Error> {
        self.opened(&self.environment).await
    }

    /// A fresh instance with the store open, and the warnings about the configuration.
    pub(crate) async fn opened(
        &self,
        environment: &Arc<Environment>,
    ) -> Result<(Instance, Vec<Diagnostic>), Error> {
        let limits = environment.limits;
        let mut instance = Instance::new(&self.component, environment).await?;
        let call = instance.begin_call();
        let options = wit_store::OpenOptions {
            fence: match self.fence {
                Fence::Required => wit_store::Fence::Required,
                Fence::WhenSupported => wit_store::Fence::WhenSupported,
            },
            call_budget: u32::try_from(limits.call_budget().as_millis()).ok(),
            max_state: limits.state,
        };
        let opened = within(
            limits.wall_clock,
            &call,
            instance
                .exports
                .cofferdam_state_backend_state_store()
                .store()
                .call_open(&mut instance.store, &self.config, options),
        )
        .await?;
        let diagnostics =
            |list: Vec<wit::Diagnostic>| list.into_iter().map(convert::diagnostic).collect();
        match opened {
            Ok(opened) => {
                instance.resource = Some(opened.store);
                Ok((instance, diagnostics(opened.warnings)))
            }
            Err(list) => Err(Error::Configuration(diagnostics(list))),
        }
    }

    /// Keeps the instance of a finished call unless the call broke it, and words the backend's error.
    pub(crate) fn finish<T>(
        &self,
        instance: Instance,
        record: &CallRecord,
        answer: Result<Result<T, wit::Error>, Error>,
    ) -> Result<T, Error> {
        let answer = answer?;
        self.put_back(instance);
        answer.map_err(|error| worded(error, record))
    }

    fn put_back(&self, mut instance: Instance) {
        instance.end_call();
        let limits = &self.environment.limits;
        let worn_out = u64::from(instance.calls) * HANDLES_PER_CALL >= limits.handles;
        if instance.memory() > LARGE || worn_out {
            return;
        }
        instance.idle_since = Instant::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(instance);
        }
    }
}

/// The backend's error; what the host itself kept from the network is named.
pub(crate) fn worded(error: wit::Error, record: &CallRecord) -> Error {
    let mut error = convert::store_error(error);
    if error.code == ErrorCode::Unreachable
        && let Some(denied) = record.denied()
    {
        error.message = format!("{}: {denied}", error.message);
    }
    error.into()
}

fn holds(holders: &[Holder], id: &str) -> bool {
    holders
        .iter()
        .any(|holder| holder.info.as_ref().is_some_and(|info| info.id == id))
}

/// Whether the lock may still be held. A record that cannot be read may be this one, and tokens are opaque: the
/// same lock may have several.
fn is_held(holders: &[Holder], by: &UnlockBy) -> bool {
    match by {
        UnlockBy::Held(HeldLock { id, .. }) | UnlockBy::Id(id) => holders
            .iter()
            .any(|holder| holder.info.as_ref().is_none_or(|info| info.id == *id)),
        UnlockBy::Token(_) => !holders.is_empty(),
    }
}

/// Whether a write failed after its state was stored.
fn tells_revision(error: &Error) -> bool {
    error
        .store()
        .is_some_and(|error| error.fact("stored-revision").is_some())
}

/// Adds what the store holds now. The outcome stays unknown: a request that was given up may still arrive,
/// and what it wrote may have been replaced since.
fn after_read_back(error: Error, finding: &'static str) -> Error {
    match error {
        Error::Limit { limit, outcome, .. } => Error::Limit {
            limit,
            outcome,
            read_back: Some(finding),
        },
        Error::Store(mut error) => {
            error.message = format!("{} ({finding})", error.message);
            Error::Store(error)
        }
        Error::Trap {
            reason, outcome, ..
        } => Error::Trap {
            reason,
            outcome,
            read_back: Some(finding),
        },
        error => error,
    }
}

fn altered(workspace: &str) -> StoreError {
    StoreError {
        code: ErrorCode::DigestMismatch,
        message: format!(
            "the state of workspace `{workspace}` does not have the checksum that the store recorded for it: the stored object, or every answer on the way here, is damaged"
        ),
        outcome: Outcome::NotDone,
        retryable: true,
        holders: Vec::new(),
        facts: vec![("workspace".to_owned(), workspace.to_owned())],
    }
}

pub(crate) fn not_open() -> Error {
    ComponentError::Instantiate("the store is not open".to_owned()).into()
}
