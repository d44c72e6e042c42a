//! What one call may use up. Every limit has a default; none can be switched off by leaving it out.

use std::time::Duration;

use wasmtime::ResourceLimiter;

use crate::Limit;

/// What one call may use up.
///
/// ```
/// use std::time::Duration;
/// let limits = cofferdam::Limits::default().wall_clock(Duration::from_secs(30));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub(crate) concurrent_calls: usize,
    pub(crate) cpu: Duration,
    pub(crate) memory: u64,
    pub(crate) state: u64,
    pub(crate) wall_clock: Duration,
}

impl Default for Limits {
    /// 64 calls at once, 30 s of processor time, 256 MiB of memory, states of 100 MB, 5 minutes.
    fn default() -> Self {
        Self {
            concurrent_calls: 64,
            cpu: Duration::from_secs(30),
            memory: 256 << 20,
            state: 100_000_000,
            wall_clock: Duration::from_secs(300),
        }
    }
}

impl Limits {
    /// Calls of one store that run at once; further ones wait. At least 1. Default 64.
    #[must_use]
    pub fn concurrent_calls(mut self, calls: usize) -> Self {
        self.concurrent_calls = calls.clamp(1, tokio::sync::Semaphore::MAX_PERMITS);
        self
    }

    /// Processor time of one call, in steps of 10 ms. Default 30 s.
    #[must_use]
    pub fn cpu(mut self, time: Duration) -> Self {
        self.cpu = time;
        self
    }

    /// Memory of one instance, in bytes. A state needs about its own size. Default 256 MiB.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// The largest state to read or write, in bytes. Default 100 MB (100,000,000).
    #[must_use]
    pub fn state(mut self, bytes: u64) -> Self {
        self.state = bytes;
        self
    }

    /// Time that one call may take, waiting included. Default 5 minutes.
    #[must_use]
    pub fn wall_clock(mut self, time: Duration) -> Self {
        self.wall_clock = time;
        self
    }

    /// What the backend is told: it should give up a little earlier and say how it stands.
    pub(crate) fn call_budget(&self) -> Duration {
        self.wall_clock - self.wall_clock.min(Duration::from_secs(50)) / 10
    }

    /// Bytes that may cross the boundary in one call: a state, its copy in arguments, and small change.
    pub(crate) fn boundary_bytes(&self) -> usize {
        usize::try_from(self.state)
            .unwrap_or(usize::MAX)
            .saturating_add(32 << 20)
    }
}

/// Elements of one table, tables, memories, core instances and handles of one instance: what a component made
/// by an ordinary toolchain needs, with room to spare. Together they bound what the host keeps for it besides
/// its memory.
const TABLE_ELEMENTS: usize = 20_000;
const TABLES: usize = 32;
const MEMORIES: usize = 8;
const INSTANCES: usize = 64;
/// See [`TABLE_ELEMENTS`].
pub(crate) const HANDLES: usize = 2_000;

/// Counts the memory of one instance.
#[derive(Debug)]
pub(crate) struct MemoryLimit {
    pub(crate) bytes: u64,
    pub(crate) used: u64,
}

/// Carries a [`Limit`] through the engine, which knows only its own errors.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct LimitReached(pub(crate) Limit);

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self
            .used
            .saturating_sub(current as u64)
            .saturating_add(desired as u64);
        if total > self.bytes {
            return Err(wasmtime::Error::new(LimitReached(Limit::Memory(
                self.bytes,
            ))));
        }
        self.used = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS)
    }

    fn instances(&self) -> usize {
        INSTANCES
    }

    fn tables(&self) -> usize {
        TABLES
    }

    fn memories(&self) -> usize {
        MEMORIES
    }
}
