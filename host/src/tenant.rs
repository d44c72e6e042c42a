//! Whose a store is: a name for logs and metrics, and caps on what all stores of one tenant take together.
//!
//! Limits bound one call and one store. Without caps beside them a tenant with many stores, or with one caller that never
//! stops, would take the connections and the memory that the others in the process need.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes are counted in pieces of this size, so that a semaphore can count terabytes of them.
const PIECE: u64 = 1 << 10;

/// A tenant of this process. Cheap to clone; clones share the caps that are set before they are made, and so do all stores
/// that are [opened](crate::StoreBuilder::tenant) for one of them.
///
/// Whatever would exceed a cap waits for its turn, in the order in which it came, within the call's wall-clock limit. Only
/// caps and name are shared: each store has instances, connections, TLS sessions and credentials of its own.
///
/// ```
/// let tenant = cofferdam::Tenant::new("payments").concurrent_calls(16).connections(8).bytes(1 << 30);
/// assert_eq!(tenant.name(), "payments");
/// ```
#[derive(Clone, Debug)]
pub struct Tenant {
    name: Arc<str>,
    calls: Option<Arc<Semaphore>>,
    connections: Option<Arc<Pieces>>,
    bytes: Option<Arc<Pieces>>,
}

/// How many of them are free, and how many there are.
#[derive(Debug)]
struct Pieces {
    free: Arc<Semaphore>,
    all: u32,
}

impl Default for Tenant {
    /// The tenant of a store that is opened for none: without caps, named `none`.
    fn default() -> Self {
        Self::new("none")
    }
}

impl Tenant {
    /// A tenant without caps. Spans and metrics carry the name, so it should be short and no secret.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            calls: None,
            connections: None,
            bytes: None,
        }
    }

    /// Calls that run at once. At least 1.
    #[must_use]
    pub fn concurrent_calls(mut self, calls: usize) -> Self {
        self.calls = Some(semaphore(calls));
        self
    }

    /// Requests that are on their way at once, each with a connection of its own. At least 1.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        let all = u32::try_from(connections).unwrap_or(u32::MAX).max(1);
        self.connections = Some(Arc::new(Pieces {
            free: semaphore(all as usize),
            all,
        }));
        self
    }

    /// Bytes of states that are being worked on at once, in steps of 1 KiB. At least 1 KiB.
    ///
    /// A write counts with its state from its beginning to its end; whatever reads a state counts with the largest that it
    /// may find ([`Limits::state`](crate::Limits::state)), since nobody knows its size before. One that counts with more
    /// than the cap runs once nothing else does. A call holds about three times the bytes of its state, and never more than
    /// [`Limits::memory`](crate::Limits::memory) and one answer, whatever the component does.
    #[must_use]
    pub fn bytes(mut self, bytes: u64) -> Self {
        let all = pieces(bytes).max(1);
        self.bytes = Some(Arc::new(Pieces {
            free: semaphore(all as usize),
            all,
        }));
        self
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name, for labels.
    pub(crate) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// Waits until a call with a state of so many bytes may run. It takes all that it will need of calls and bytes here, in
    /// this order and before anything else, so that no two calls wait for each other.
    pub(crate) async fn call(&self, state: u64) -> CallTurn {
        let call = turn(self.calls.as_ref(), 1).await;
        let bytes = match &self.bytes {
            Some(bytes) => turn(Some(&bytes.free), pieces(state).min(bytes.all)).await,
            None => None,
        };
        CallTurn {
            _call: call,
            _bytes: bytes,
        }
    }

    /// Waits until a request may be sent.
    pub(crate) async fn connection(&self) -> Option<OwnedSemaphorePermit> {
        turn(self.connections.as_ref().map(|it| &it.free), 1).await
    }

    /// How many requests can be on their way at once. None: there is no cap.
    pub(crate) fn most_connections(&self) -> Option<u32> {
        self.connections.as_ref().map(|it| it.all)
    }
}

/// Others wait until it is dropped.
pub(crate) struct CallTurn {
    _call: Option<OwnedSemaphorePermit>,
    _bytes: Option<OwnedSemaphorePermit>,
}

fn semaphore(permits: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(permits.clamp(1, Semaphore::MAX_PERMITS)))
}

fn pieces(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(PIECE)).unwrap_or(u32::MAX)
}

/// None: there is no cap. A semaphore of a tenant is never closed.
async fn turn(permits: Option<&Arc<Semaphore>>, many: u32) -> Option<OwnedSemaphorePermit> {
    Arc::clone(permits?).acquire_many_owned(many).await.ok()
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;
    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn calls_beyond_the_cap_wait_in_the_order_in_which_they_came() {
        let tenant = Tenant::new("t").concurrent_calls(2);
        let (same, other) = (tenant.clone(), Tenant::new("other").concurrent_calls(1));
        let one = tenant.call(0).await;
        let two = same.call(0).await;
        let (mut third, mut fourth) = (pin!(tenant.call(0)), pin!(same.call(0)));
        assert!(poll!(&mut third).is_pending());
        assert!(poll!(&mut fourth).is_pending());
        assert!(other.call(0).now_or_never().is_some(), "another tenant");
        drop(one);
        assert!(poll!(&mut fourth).is_pending(), "it came later");
        assert!(poll!(&mut third).is_ready());
        drop(two);
        assert!(poll!(&mut fourth).is_ready());
    }

    #[tokio::test]
    async fn states_together_stay_below_the_cap_on_bytes() {
        let tenant = Tenant::new("t").bytes(10 << 10);
        let six = tenant.call(6 << 10).await;
        assert!(tenant.call(0).now_or_never().is_some(), "without a state");
        let four = tenant.call(4 << 10).await;
        let mut one = pin!(tenant.call(1));
        assert!(poll!(&mut one).is_pending());
        drop(four);
        assert!(poll!(&mut one).is_ready());
        drop(six);
    }

    #[tokio::test]
    async fn a_state_above_the_cap_on_bytes_waits_until_nothing_else_runs_and_then_does() {
        let tenant = Tenant::new("t").bytes(10 << 10);
        let small = tenant.call(1).await;
        let mut huge = pin!(tenant.call(u64::MAX));
        assert!(poll!(&mut huge).is_pending());
        let mut behind = pin!(tenant.call(1));
        assert!(poll!(&mut behind).is_pending(), "it would overtake");
        drop(small);
        assert!(poll!(&mut huge).is_ready());
    }

    #[tokio::test]
    async fn whoever_gives_up_waiting_leaves_its_turn_to_the_next() {
        let tenant = Tenant::new("t").concurrent_calls(1).bytes(1 << 10);
        let running = tenant.call(1 << 10).await;
        {
            let mut given_up = pin!(tenant.call(1));
            assert!(poll!(&mut given_up).is_pending());
        }
        drop(running);
        assert!(tenant.call(1).now_or_never().is_some());
    }

    #[test]
    fn a_tenant_without_caps_waits_for_nothing() {
        let tenant = Tenant::default();
        assert_eq!(tenant.name(), "none");
        for _ in 0..100 {
            std::mem::forget(tenant.call(u64::MAX).now_or_never().unwrap());
            assert!(tenant.connection().now_or_never().unwrap().is_none());
        }
    }
}
