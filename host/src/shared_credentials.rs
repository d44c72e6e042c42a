//! Credentials that the instances of one store share: fetched and checked by one, used by all.
//!
//! Calls that run at the same time run in instances of their own. Without this module each of them would assume the role
//! of the configuration for itself, again after every hundred calls, and all of them at once when it ends.
//!
//! The component asks for them as for a file, under a name that no file can have. Whoever finds none is to fetch them:
//! the others wait for it until it has, or its call ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};
use zeroize::Zeroizing;

use crate::surroundings::Refusal;

/// What the component calls them. A NUL is in no path.
pub(crate) const PATH: &str = "\0credentials";

/// How long to wait for another instance that is fetching; then this one fetches for itself. A role that is assumed, with
/// its attempts, takes less unless the network is down, and then nobody should have to wait for everybody.
const PATIENCE: Duration = Duration::from_secs(10);

/// More than any chain of roles has.
const LARGEST: usize = 256 * 1024;

/// What the instances of one store share. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct SharedCredentials(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    /// Empty: there are none.
    bytes: Zeroizing<Vec<u8>>,
    /// Which ones these are.
    generation: u64,
}

/// One instance's part in it.
pub(crate) struct Share {
    shared: SharedCredentials,
    /// The generation that it read last.
    seen: u64,
    /// Held while it fetches.
    lease: Option<OwnedMutexGuard<Kept>>,
}

impl Share {
    pub(crate) fn new(shared: &SharedCredentials) -> Self {
        Self {
            shared: shared.clone(),
            seen: 0,
            lease: None,
        }
    }

    /// What others fetched. `NotFound`: nobody did, and this instance is the one to.
    pub(crate) async fn read(&mut self) -> Result<Vec<u8>, Refusal> {
        if self.lease.is_some() {
            return Err(Refusal::NotFound);
        }
        let kept = self.lock().await?;
        self.seen = kept.generation;
        if kept.bytes.is_empty() {
            self.lease = Some(kept);
            return Err(Refusal::NotFound);
        }
        Ok(kept.bytes.to_vec())
    }

    /// Hands them to the others. Empty: what was read last is no good any more; others that came since are.
    pub(crate) async fn replace(&mut self, bytes: Zeroizing<Vec<u8>>) -> Result<(), Refusal> {
        if bytes.len() > LARGEST {
            return Err(Refusal::Failed("it is larger than 256 KiB".to_owned()));
        }
        let mut kept = match self.lease.take() {
            Some(kept) => kept,
            None => self.lock().await?,
        };
        if !bytes.is_empty() {
            kept.generation += 1;
            self.seen = kept.generation;
        } else if kept.generation != self.seen {
            return Ok(());
        }
        kept.bytes = bytes;
        Ok(())
    }

    /// Lets others try: the call is over.
    pub(crate) fn release(&mut self) {
        self.lease = None;
    }

    async fn lock(&self) -> Result<OwnedMutexGuard<Kept>, Refusal> {
        let lock = Arc::clone(&self.shared.0).lock_owned();
        let lock = tokio::time::timeout(PATIENCE, lock).await;
        lock.map_err(|_| Refusal::Denied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(text.as_bytes().to_vec())
    }

    #[tokio::test]
    async fn one_fetches_and_the_others_wait_for_it() {
        let shared = SharedCredentials::default();
        let (mut one, mut other) = (Share::new(&shared), Share::new(&shared));
        assert_eq!(one.read().await, Err(Refusal::NotFound));
        let waiting = tokio::spawn(async move {
            let read = other.read().await;
            (other, read)
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        one.replace(bytes("first")).await.unwrap();
        let (mut other, read) = waiting.await.unwrap();
        assert_eq!(read, Ok(b"first".to_vec()));

        // Both find them used up: they are fetched once.
        for share in [&mut one, &mut other] {
            assert_eq!(share.read().await, Ok(b"first".to_vec()));
        }
        one.replace(bytes("")).await.unwrap();
        assert_eq!(one.read().await, Err(Refusal::NotFound));
        one.replace(bytes("second")).await.unwrap();
        other.replace(bytes("")).await.unwrap();
        assert_eq!(other.read().await, Ok(b"second".to_vec()));
    }

    #[tokio::test]
    async fn whoever_ends_without_any_lets_the_next_one_try() {
        let shared = SharedCredentials::default();
        let (mut one, mut other) = (Share::new(&shared), Share::new(&shared));
        assert_eq!(one.read().await, Err(Refusal::NotFound));
        one.release();
        assert_eq!(other.read().await, Err(Refusal::NotFound));
        drop(other);
        assert_eq!(one.read().await, Err(Refusal::NotFound));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let shared = SharedCredentials::default();
        let (mut one, mut other) = (Share::new(&shared), Share::new(&shared));
        assert_eq!(one.read().await, Err(Refusal::NotFound));
        assert_eq!(other.read().await, Err(Refusal::Denied));
    }
}
