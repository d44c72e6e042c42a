//! One instance of the component: its memory, its doors to the outside, and the deadlines of a call.
//!
//! An instance that trapped, ran into a limit or was left in the middle of a call is never used again: its
//! memory may be in any state.

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::{HasData, ResourceAny, ResourceTable, ResourceTableError};
use wasmtime::{Trap, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{FieldMapError, WasiHttpCtx, WasiHttpCtxView, WasiHttpView};
use zeroize::Zeroizing;

use crate::bindings::StateBackend;
use crate::bindings::cofferdam::state_backend::surroundings as wit;
use crate::bindings::cofferdam::state_backend::types as wit_types;
use crate::component::Loaded;
use crate::limits::{Account, LimitReached, count};
use crate::shared_credentials::{self, Share, SharedCredentials};
use crate::surroundings::{Refusal, Surroundings};
use crate::transport::{CallRecord, Door, Transport};
use crate::{
    ComponentError, Diagnostic, Error, Limit, Limits, Outcome, Tenant, convert, engine, observe,
};

/// Takes the warnings that arise while a store works.
pub(crate) type WarningSink = Arc<dyn Fn(Diagnostic) + Send + Sync>;

/// What instances of one store have in common.
#[derive(Clone)]
pub(crate) struct Environment {
    pub(crate) limits: Limits,
    pub(crate) tenant: Tenant,
    pub(crate) surroundings: Arc<dyn Surroundings>,
    pub(crate) credentials: SharedCredentials,
    pub(crate) transport: Arc<Transport>,
    pub(crate) warnings: WarningSink,
}

/// The host's side of one instance.
pub(crate) struct Guest {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    door: Door,
    account: Account,
    /// Processor time of the present call.
    cpu: Arc<CpuClock>,
    credentials: Share,
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
        if path == shared_credentials::PATH {
            return Ok(self.credentials.read().await.map_err(Into::into));
        }
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
        if path == shared_credentials::PATH {
            let replaced = self.credentials.replace(Zeroizing::new(bytes)).await;
            return Ok(replaced.map_err(Into::into));
        }
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
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(count(limits.headers));
        let mut store = wasmtime::Store::new(
            &component.engine,
            Guest {
                wasi: WasiCtx::builder().max_random_size(limits.random).build(),
                http,
                table: ResourceTable::new(),
                door: Door {
                    transport: Arc::clone(&environment.transport),
                    record: Arc::default(),
                },
                account: Account { limits, memory: 0 },
                cpu: Arc::default(),
                credentials: Share::new(&environment.credentials),
                environment: Arc::clone(environment),
            },
        );
        let handles = count(limits.handles);
        store.data_mut().table.set_max_capacity(handles);
        store.limiter(|guest| &mut guest.account);
        store.set_max_component_handles(handles);
        store.set_hostcall_fuel(count(limits.answer));
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |context| {
            let (used, at_once) = context.data().cpu.used();
            if used > limits.cpu {
                return Err(wasmtime::Error::new(LimitReached(Limit::Cpu(limits.cpu))));
            }
            // Ticks that passed while it waited are nobody's loss: with many stores at work every call has some.
            if at_once < engine::TICK {
                return Ok(UpdateDeadline::Continue(1));
            }
            let cpu = Arc::clone(&context.data().cpu);
            let turn = async move { cpu.next_turn(&LONG_COMPUTATIONS).await };
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(turn)))
        });
        let call = Call {
            cpu: Arc::clone(&store.data().cpu),
            ..Call::new(limits)
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
        observe::instance_made(&environment.tenant);
        Ok(Self {
            store,
            exports,
            all_exports,
            resource: None,
            idle_since: Instant::now(),
            calls: 0,
        })
    }

    /// Starts the accounts of a call, in which the component may hand over the usual amount at once.
    pub(crate) fn begin_call(&mut self) -> Call {
        let usual = self.store.data().environment.limits.answer;
        self.begin_call_that_answers(usual)
    }

    /// Starts the accounts of a call, in which the component may hand over so many bytes at once.
    pub(crate) fn begin_call_that_answers(&mut self, bytes: u64) -> Call {
        self.calls += 1;
        self.store.set_hostcall_fuel(count(bytes));
        let limits = self.store.data().environment.limits.answer(bytes);
        let call = Call::new(limits);
        let guest = self.store.data_mut();
        guest.cpu = Arc::clone(&call.cpu);
        guest.door.record = Arc::clone(&call.record);
        call
    }

    /// Gives back what a call holds only as long as it lasts.
    pub(crate) fn end_call(&mut self) {
        self.store.data_mut().credentials.release();
    }

    /// Bytes of memory that the instance took.
    pub(crate) fn memory(&self) -> u64 {
        self.store.data().account.memory
    }
}

/// The accounts of one call.
pub(crate) struct Call {
    /// What happened on the network.
    pub(crate) record: Arc<CallRecord>,
    cpu: Arc<CpuClock>,
    limits: Limits,
}

impl Call {
    fn new(limits: Limits) -> Self {
        Self {
            record: Arc::default(),
            cpu: Arc::default(),
            limits,
        }
    }
}

/// Turns of calls that compute for longer than a tick, in the whole process: one processor is left to all others. Without
/// that, whatever a neighbour does would wait at each step until every endless loop had its tick.
static LONG_COMPUTATIONS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    Arc::new(Semaphore::new(processors.saturating_sub(1).max(1)))
});

/// Runs while a call is worked on, and stands while it waits. Interruptions can't be counted instead: each
/// packet that wakes a call would cost it a whole one.
#[derive(Debug, Default)]
struct CpuClock(Mutex<CpuTime>);

#[derive(Debug, Default)]
struct CpuTime {
    spent: Duration,
    running_since: Option<Instant>,
    /// To go on after a tick.
    turn: Option<OwnedSemaphorePermit>,
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
        time.turn = None;
    }

    /// Lets other tasks run, then waits for a turn, which lasts until the clock stands again.
    async fn next_turn(&self, turns: &Arc<Semaphore>) {
        tokio::task::yield_now().await;
        // Nobody closes it.
        let turn = Arc::clone(turns).acquire_owned().await.ok();
        self.time().turn = turn;
    }

    /// So far, and since it was last resumed.
    fn used(&self) -> (Duration, Duration) {
        let time = self.time();
        let at_once = time
            .running_since
            .map_or(Duration::ZERO, |since| since.elapsed());
        (time.spent + at_once, at_once)
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
        Ok(Err(error)) => Err(ended(&error, &accounts.limits, outcome())),
        Err(_) => Err(Error::Limit {
            limit: Limit::WallClock(wall_clock),
            outcome: outcome(),
            read_back: None,
        }),
    }
}

fn ended(error: &wasmtime::Error, limits: &Limits, outcome: Outcome) -> Error {
    if let Some(limit) = limit_reached(error, limits) {
        return Error::Limit {
            limit,
            outcome,
            read_back: None,
        };
    }
    // Only kinds of traps are told: a message of the component could hold anything.
    let reason = match error.downcast_ref::<Trap>() {
        Some(Trap::UnreachableCodeReached) => "it panicked".to_owned(),
        Some(trap) => trap.to_string(),
        None => match error.root_cause().to_string() {
            text if text.starts_with(TOO_MANY) => text,
            _ => "it broke a rule of the host's interfaces".to_owned(),
        },
    };
    tracing::debug!(%reason, "component ended");
    Error::Trap {
        reason,
        outcome,
        read_back: None,
    }
}

/// What the engine says when a component is made of more instances, tables or memories than it may.
const TOO_MANY: &str = "resource limit exceeded";

/// The limit that an error of the engine is about. Wasmtime 48 has no types for three of them, but words of its own, which
/// tests keep an eye on.
fn limit_reached(error: &wasmtime::Error, limits: &Limits) -> Option<Limit> {
    if let Some(LimitReached(limit)) = error.downcast_ref::<LimitReached>() {
        return Some(*limit);
    }
    if let Some(ResourceTableError::Full) = error.downcast_ref::<ResourceTableError>() {
        return Some(Limit::Handles(limits.handles));
    }
    if let Some(FieldMapError::TooManyFields | FieldMapError::TotalSizeTooBig) =
        error.downcast_ref::<FieldMapError>()
    {
        return Some(Limit::Headers(limits.headers));
    }
    let text = error.root_cause().to_string();
    if text.ends_with("fuel allocated for hostcalls has been exhausted") {
        Some(Limit::Answer(limits.answer))
    } else if text.ends_with("store handle limit exceeded") {
        Some(Limit::Handles(limits.handles))
    } else if text.starts_with("requested len ") {
        Some(Limit::Random(limits.random))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn a_turn_to_compute_on_ends_when_the_clock_stands() {
        let turns = Arc::new(Semaphore::new(1));
        let (one, other) = (CpuClock::default(), CpuClock::default());
        one.resume();
        one.next_turn(&turns).await;
        let mut waiting = pin!(other.next_turn(&turns));
        for _ in 0..3 {
            assert!(poll!(&mut waiting).is_pending());
        }
        one.pause();
        waiting.await;
        assert_eq!(turns.available_permits(), 0);
        other.pause();
        assert_eq!(turns.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_computation_that_goes_on_lets_others_run_first() {
        let (turns, clock) = (Arc::new(Semaphore::new(1)), CpuClock::default());
        let mut turn = pin!(clock.next_turn(&turns));
        assert!(poll!(&mut turn).is_pending(), "although nobody has it");
        turn.await;
    }
}
