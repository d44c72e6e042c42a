//! Waiting for a lock that somebody else holds. A store makes one attempt; this loop, the same for the
//! command line and for programs, makes the others.
//!
//! Terraform's own loop gives up when it cannot read who holds the lock, which defeats `-lock-timeout` in
//! the very moment a lock changes hands; and without jitter many waiting runs knock at the same instant.

use std::future::{Future, pending};
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::{Error, ErrorCode, HeldLock, LockInfo, StateStore};

/// The first pause; each further one is twice as long, up to [`LONGEST_PAUSE`]: Terraform's schedule.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// See [`FIRST_PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_secs(16);

/// Takes a lock, waiting up to `timeout` for whoever holds it; zero is a single attempt.
///
/// Pauses between attempts are 1, 2, 4, 8, 16, 16 … seconds, each cut by up to a quarter at random and by
/// the deadline, at which the last attempt is made. All attempts carry the same record, so that an attempt
/// whose answer was lost is recognised. Before each pause `on_wait` gets the error that tells the holders.
///
/// Dropping the future while an attempt runs leaves open whether the lock was taken; to stop waiting, use
/// [`wait_for_lock_or_stop`].
///
/// # Errors
/// The last attempt's error; an error other than [`ErrorCode::Locked`] ends the wait at once.
pub async fn wait_for_lock(
    store: &dyn StateStore,
    workspace: &str,
    info: &LockInfo,
    timeout: Duration,
    on_wait: impl FnMut(&Error),
) -> Result<HeldLock, Error> {
    wait_for_lock_or_stop(store, workspace, info, timeout, on_wait, pending()).await
}

/// [`wait_for_lock`] that makes no further attempt once `stop` is ready. A running attempt is finished
/// first, so the answer tells for certain whether the lock is held.
///
/// # Errors
/// As [`wait_for_lock`]; after a stop, the error of the last attempt.
pub async fn wait_for_lock_or_stop(
    store: &dyn StateStore,
    workspace: &str,
    info: &LockInfo,
    timeout: Duration,
    mut on_wait: impl FnMut(&Error),
    stop: impl Future<Output = ()>,
) -> Result<HeldLock, Error> {
    let mut stop = pin!(stop);
    // None: later than the clock can tell, so for ever.
    let deadline = Instant::now().checked_add(timeout);
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match store.lock(workspace, info).await {
            Err(error) if error.code() == Some(ErrorCode::Locked) => error,
            answer => return answer,
        };
        let now = Instant::now();
        if deadline.is_some_and(|deadline| now >= deadline) {
            return Err(error);
        }
        on_wait(&error);
        let next = now + jittered(pause);
        tokio::select! {
            biased;
            () = &mut stop => return Err(error),
            () = sleep_until(deadline.map_or(next, |deadline| next.min(deadline))) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Between three quarters of the pause and all of it.
fn jittered(pause: Duration) -> Duration {
    let [random, ..] = *Uuid::new_v4().as_bytes();
    pause - pause * u32::from(random) / (4 * 256)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use bytes::Bytes;

    use super::*;
    use crate::{
        DeleteOptions, Holder, Outcome, Reading, Revision, StoreError, UnlockBy, WriteOptions,
    };

    /// Refuses the lock with these codes, one after the other, then grants it.
    struct Busy {
        refusals: Mutex<Vec<(ErrorCode, Vec<Holder>)>>,
        attempts: Mutex<Vec<(Instant, LockInfo)>>,
    }

    impl Busy {
        fn new(refusals: impl IntoIterator<Item = (ErrorCode, Vec<Holder>)>) -> Self {
            let mut refusals: Vec<_> = refusals.into_iter().collect();
            refusals.reverse();
            Self {
                refusals: Mutex::new(refusals),
                attempts: Mutex::default(),
            }
        }

        fn always() -> Self {
            Self::new((0..1000).map(|_| (ErrorCode::Locked, vec![holder()])))
        }

        fn attempts(&self) -> usize {
            self.attempts.lock().unwrap().len()
        }

        /// Seconds between one attempt and the next.
        fn pauses(&self) -> Vec<f64> {
            let attempts = self.attempts.lock().unwrap();
            attempts
                .windows(2)
                .map(|pair| (pair[1].0 - pair[0].0).as_secs_f64())
                .collect()
        }
    }

    fn holder() -> Holder {
        Holder {
            place: "s3".into(),
            info: Some(LockInfo::new("other")),
            token: "t".into(),
        }
    }

    #[async_trait]
    impl StateStore for Busy {
        async fn lock(&self, _: &str, info: &LockInfo) -> Result<HeldLock, Error> {
            self.attempts
                .lock()
                .unwrap()
                .push((Instant::now(), info.clone()));
            let Some((code, holders)) = self.refusals.lock().unwrap().pop() else {
                return Ok(HeldLock {
                    id: info.id.clone(),
                    token: "mine".into(),
                });
            };
            Err(StoreError {
                code,
                message: "refused".into(),
                outcome: Outcome::NotDone,
                retryable: true,
                holders,
                facts: Vec::new(),
            }
            .into())
        }

        async fn workspaces(&self) -> Result<Vec<String>, Error> {
            unreachable!("only the lock is asked for")
        }
        async fn read(&self, _: &str, _: Option<&Revision>) -> Result<Reading, Error> {
            unreachable!("only the lock is asked for")
        }
        async fn write(&self, _: &str, _: Bytes, _: &WriteOptions) -> Result<Revision, Error> {
            unreachable!("only the lock is asked for")
        }
        async fn delete(&self, _: &str, _: &DeleteOptions) -> Result<(), Error> {
            unreachable!("only the lock is asked for")
        }
        async fn unlock(&self, _: &str, _: &UnlockBy) -> Result<(), Error> {
            unreachable!("only the lock is asked for")
        }
        async fn holders(&self, _: &str) -> Result<Vec<Holder>, Error> {
            unreachable!("only the lock is asked for")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_timeout_there_is_one_attempt() {
        let store = Busy::always();
        let info = LockInfo::new("test");
        let error = wait_for_lock(&store, "default", &info, Duration::ZERO, |_| {
            panic!("must not wait")
        })
        .await
        .unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::Locked));
        assert_eq!(store.attempts(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_also_when_the_holder_cannot_be_read_and_keeps_its_record() {
        let store = Busy::new([
            (ErrorCode::Locked, vec![holder()]),
            (ErrorCode::Locked, vec![]),
        ]);
        let info = LockInfo::new("test");
        let mut told = Vec::new();
        let held = wait_for_lock(&store, "default", &info, Duration::from_secs(60), |error| {
            told.push(error.store().map(|error| error.holders.len()))
        })
        .await
        .unwrap();
        assert_eq!(held.id, info.id);
        assert_eq!(told, [Some(1), Some(0)]);
        assert!(
            store
                .attempts
                .lock()
                .unwrap()
                .iter()
                .all(|(_, sent)| *sent == info)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_sixteen_seconds_and_the_last_attempt_is_at_the_deadline() {
        let store = Busy::always();
        let timeout = Duration::from_secs(100);
        let started = Instant::now();
        wait_for_lock(&store, "default", &LockInfo::new("test"), timeout, |_| {})
            .await
            .unwrap_err();
        let pauses = store.pauses();
        for (pause, longest) in pauses.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 16.0]) {
            // A timer fires on whole milliseconds.
            assert!(
                (0.75 * longest..=longest + 0.002).contains(pause),
                "{pauses:?}"
            );
        }
        let end = started.elapsed();
        assert!(
            end >= timeout && end < timeout + Duration::from_millis(5),
            "{end:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn another_error_ends_the_wait_at_once() {
        let store = Busy::new([
            (ErrorCode::Locked, vec![]),
            (ErrorCode::AccessDenied, vec![]),
        ]);
        let error = wait_for_lock(
            &store,
            "default",
            &LockInfo::new("test"),
            Duration::MAX,
            |_| {},
        )
        .await
        .unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::AccessDenied));
        assert_eq!(store.attempts(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_the_wait_but_not_a_running_attempt() {
        let store = Busy::new([(ErrorCode::Locked, vec![])]);
        let info = LockInfo::new("test");
        let stopped = wait_for_lock_or_stop(
            &store,
            "default",
            &info,
            Duration::MAX,
            |_| {},
            std::future::ready(()),
        );
        assert_eq!(stopped.await.unwrap_err().code(), Some(ErrorCode::Locked));
        let taken = wait_for_lock_or_stop(
            &store,
            "default",
            &info,
            Duration::MAX,
            |_| {},
            std::future::ready(()),
        );
        assert_eq!(taken.await.unwrap().id, info.id);
    }

    #[test]
    fn jitter_only_ever_shortens_and_by_a_quarter_at_most() {
        for _ in 0..1000 {
            let pause = jittered(Duration::from_secs(16));
            assert!(pause > Duration::from_secs(12) - Duration::from_millis(1));
            assert!(pause <= Duration::from_secs(16));
        }
    }
}
