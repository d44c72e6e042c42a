//! One instance of the component: its memory, its doors to the outside, and the deadlines of a call.
//!
//! An instance that trapped, ran into a limit or was left in the middle of a call is never used again: its
//! memory may be in any state.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use wasmtime::component::{HasData, ResourceAny, ResourceTable};
use wasmtime::{Trap, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::bindings::StateBackend;
use crate::bindings::cofferdam::state_backend::surroundings as wit;
use crate::bindings::cofferdam::state_backend::types as wit_types;
use crate::component::Loaded;
use crate::limits::{LimitReached, MemoryLimit};
use crate::surroundings::{Refusal, Surroundings};
use crate::transport::{CallRecord, Door, Transport};
use crate::{ComponentError, Diagnostic, Error, Limit, Limits, Outcome, convert};

/// Takes the warnings that arise while a store works.
pub(crate) type WarningSink = Arc<dyn Fn(Diagnostic) + Send + Sync>;

/// What instances of one store have in common.
#[derive(Clone)]
pub(crate) struct Environment {
    pub(crate) limits: Limits,
    /// Handles that one instance may have, see [`HANDLES`](crate::limits::HANDLES).
    pub(crate) handles: usize,
    pub(crate) surroundings: Arc<dyn Surroundings>,
    pub(crate) transport: Arc<Transport>,
    pub(crate) warnings: WarningSink,
}

/// The host's side of one instance.
pub(crate) struct Guest {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    door: Door,
    memory: MemoryLimit,
    /// Processor time of the present call.
    cpu: Arc<CpuClock>,
    environment: Arc<Environment>,
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.door,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

/// Tells the linker that the surroundings are answered by [`Guest`] itself.
pub(crate) struct HasGuest;

impl HasData for HasGuest {
    type Data<'a> = &'a mut Guest;
}

impl wit_types::Host for Guest {}

impl wit::Host for Guest {
    async fn credentials(
        &mut self,
    ) -> wasmtime::Result<Result<Option<wit::AccessKey>, wit::Refusal>> {
        let found = self.environment.surroundings.credentials().await;
        Ok(found
            .map(|key| {
                key.map(|key| wit::AccessKey {
                    id: key.id,
                    secret: key.secret.expose().to_owned(),
                    session_token: key.session_token.map(|token| token.expose().to_owned()),
                    expires_at: key.expires_at,
                })
            })
            .map_err(Into::into))
    }

    async fn variable(
        &mut self,
        name: String,
    ) -> wasmtime::Result<Result<Option<String>, wit::Refusal>> {
        Ok(self
            .environment
            .surroundings
            .variable(&name)
            .await
            .map_err(Into::into))
    }

    async fn read_file(&mut self, path: String) -> wasmtime::Result<Result<Vec<u8>, wit::Refusal>> {
        Ok(self
            .environment
            .surroundings
            .read_file(&path)
            .await
            .map_err(Into::into))
    }

    async fn replace_file(
        &mut self,
        path: String,
        bytes: Vec<u8>,
    ) -> wasmtime::Result<Result<(), wit::Refusal>> {
        Ok(self
            .environment
            .surroundings
            .replace_file(&path, &bytes)
            .await
            .map_err(Into::into))
    }

    async fn run(&mut self, command: String) -> wasmtime::Result<Result<Vec<u8>, wit::Refusal>> {
        Ok(self
            .environment
            .surroundings
            .run(&command)
            .await
            .map_err(Into::into))
    }

    async fn report(&mut self, diagnostic: wit::Diagnostic) -> wasmtime::Result<()> {
        (self.environment.warnings)(convert::diagnostic(diagnostic));
        Ok(())
    }
}

impl From<Refusal> for wit::Refusal {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Denied => Self::Denied,
            Refusal::Failed(reason) => Self::Failed(reason),
            Refusal::NotFound => Self::NotFound,
        }
    }
}

/// One instance, ready for a call.
pub(crate) struct Instance {
    pub(crate) store: wasmtime::Store<Guest>,
    pub(crate) exports: StateBackend,
    /// For what [`exports`](Self::exports) leaves out.
    pub(crate) all_exports: wasmtime::component::Instance,
    /// The contract's `store`; none for an instance that only answers questions about configurations.
    pub(crate) resource: Option<ResourceAny>,
    pub(crate) idle_since: Instant,
    /// Calls begun so far.
    pub(crate) calls: u32,
}

impl Instance {
    /// A fresh instance without any state.
    pub(crate) async fn new(
        component: &Loaded,
        environment: &Arc<Environment>,
    ) -> Result<Self, Error> {
        let limits = environment.limits;
        let mut store = wasmtime::Store::new(
            &component.engine,
            Guest {
                wasi: WasiCtx::builder().build(),
                http: WasiHttpCtx::new(),
                table: ResourceTable::new(),
                door: Door {
                    transport: Arc::clone(&environment.transport),
                    record: Arc::default(),
                },
                memory: MemoryLimit {
                    bytes: limits.memory,
                    used: 0,
                },
                cpu: Arc::default(),
                environment: Arc::clone(environment),
            },
        );
        store.data_mut().table.set_max_capacity(environment.handles);
        store.limiter(|guest| &mut guest.memory);
        store.set_max_component_handles(environment.handles);
        store.set_hostcall_fuel(limits.boundary_bytes());
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |context| {
            if context.data().cpu.used() > limits.cpu {
                return Err(wasmtime::Error::new(LimitReached(Limit::Cpu(limits.cpu))));
            }
            Ok(UpdateDeadline::YieldCustom(
                1,
                Box::pin(tokio::task::yield_now()),
            ))
        });
        let call = Call {
            record: Arc::default(),
            cpu: Arc::clone(&store.data().cpu),
        };
        let instantiation = async {
            let instance = component.pre.instantiate_async(&mut store).await?;
            Ok((component.exports.load(&mut store, &instance)?, instance))
        };
        let (exports, all_exports) = within(limits.wall_clock, &call, instantiation)
            .await
            .map_err(|error| match error {
                Error::Trap { reason, .. } => ComponentError::Instantiate(reason).into(),
                error => error,
            })?;
        Ok(Self {
            store,
            exports,
            all_exports,
            resource: None,
            idle_since: Instant::now(),
            calls: 0,
        })
    }

    /// Starts the accounts of a call.
    pub(crate) fn begin_call(&mut self) -> Call {
        self.calls += 1;
        let call = Call::default();
        let guest = self.store.data_mut();
        guest.cpu = Arc::clone(&call.cpu);
        guest.door.record = Arc::clone(&call.record);
        call
    }

    /// Bytes of memory that the instance took.
    pub(crate) fn memory(&self) -> u64 {
        self.store.data().memory.used
    }
}

/// The accounts of one call.
#[derive(Default)]
pub(crate) struct Call {
    /// What happened on the network.
    pub(crate) record: Arc<CallRecord>,
    cpu: Arc<CpuClock>,
}

/// Runs while a call is worked on, and stands while it waits. Interruptions can't be counted instead: each
/// packet that wakes a call would cost it a whole one.
#[derive(Debug, Default)]
struct CpuClock(Mutex<CpuTime>);

#[derive(Debug, Default)]
struct CpuTime {
    spent: Duration,
    running_since: Option<Instant>,
}

impl CpuClock {
    fn resume(&self) {
        self.time().running_since = Some(Instant::now());
    }

    fn pause(&self) {
        let mut time = self.time();
        if let Some(since) = time.running_since.take() {
            time.spent += since.elapsed();
        }
    }

    fn used(&self) -> Duration {
        let time = self.time();
        time.spent
            + time
                .running_since
                .map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn time(&self) -> MutexGuard<'_, CpuTime> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs one call of an instance under the wall clock and words what ends it.
pub(crate) async fn within<T>(
    wall_clock: Duration,
    accounts: &Call,
    call: impl Future<Output = wasmtime::Result<T>>,
) -> Result<T, Error> {
    let mut call = std::pin::pin!(call);
    let metered = std::future::poll_fn(|context| {
        accounts.cpu.resume();
        let polled = call.as_mut().poll(context);
        accounts.cpu.pause();
        polled
    });
    let outcome = || {
        if accounts.record.was_mutating() {
            Outcome::Unknown
        } else {
            Outcome::NotDone
        }
    };
    match tokio::time::timeout(wall_clock, metered).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(ended(&error, outcome())),
        Err(_) => Err(Error::Limit {
            limit: Limit::WallClock(wall_clock),
            outcome: outcome(),
            read_back: None,
        }),
    }
}

fn ended(error: &wasmtime::Error, outcome: Outcome) -> Error {
    if let Some(LimitReached(limit)) = error.downcast_ref::<LimitReached>() {
        return Error::Limit {
            limit: *limit,
            outcome,
            read_back: None,
        };
    }
    // Only kinds of traps are told: a message of the component could hold anything.
    let reason = match error.downcast_ref::<Trap>() {
        Some(Trap::UnreachableCodeReached) => "it panicked".to_owned(),
        Some(trap) => trap.to_string(),
        None => "it broke a rule of the host's interfaces".to_owned(),
    };
    tracing::debug!(%reason, "component ended");
    Error::Trap {
        reason,
        outcome,
        read_back: None,
    }
}
