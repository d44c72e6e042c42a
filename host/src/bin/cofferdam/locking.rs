//! Work under a lock: taken, waited for, and released whatever happens in between.

use cofferdam::{
    Error, ErrorCode, HeldLock, LockInfo, Outcome, Severity, StateStore, Store, UnlockBy,
    wait_for_lock_or_stop,
};

use crate::failure::{Failure, diagnostic};
use crate::interrupt::Interrupt;
use crate::lock_safety;
use crate::session::Session;

/// What the work under a lock gets.
pub(crate) struct Guard {
    /// The lock to write under; `None`: there is none, and the person agreed to that.
    pub(crate) lock: Option<HeldLock>,
    interrupt: Interrupt,
}

impl Guard {
    /// Ends the work here if a signal came. To be asked before each step that changes something.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        self.interrupt.failure().map_or(Ok(()), Err)
    }

    /// Ready once a signal came; never otherwise.
    pub(crate) async fn stopped(&self) {
        self.interrupt.happened().await;
    }
}

/// Takes the lock of a workspace, does the work, and releases the lock. A signal ends the work at its next
/// [check](Guard::check). What was done by then is done, and told; the exit code is that of the signal.
pub(crate) async fn under_lock<T>(
    session: &Session,
    store: &Store,
    workspace: &str,
    operation: &str,
    work: impl AsyncFnOnce(&Guard) -> Result<T, Failure>,
) -> Result<T, Failure> {
    lock_safety::require(session).await?;
    let interrupt = session.interrupt()?;
    let lock = take(session, store, workspace, operation, interrupt).await?;
    let guard = Guard {
        lock,
        interrupt: interrupt.clone(),
    };
    let done = match guard.check() {
        Ok(()) => work(&guard).await,
        Err(failure) => Err(failure),
    };
    let released = match guard.lock {
        Some(lock) => release(store, workspace, lock).await,
        None => Ok(()),
    };
    match (done, released) {
        (Err(failure), Err(other)) => Err(failure.and(other)),
        (Err(failure), Ok(())) | (Ok(_), Err(failure)) => Err(failure),
        (Ok(done), Ok(())) => Ok(done),
    }
}

async fn take(
    session: &Session,
    store: &Store,
    workspace: &str,
    operation: &str,
    interrupt: &Interrupt,
) -> Result<Option<HeldLock>, Failure> {
    let info = LockInfo::new(operation);
    let mut told = None;
    let tell = |error: &Error| {
        let holder = error.store().and_then(|error| error.holders.first());
        let who = holder.and_then(|holder| holder.info.as_ref()).map_or_else(
            || "somebody whose record cannot be read".to_owned(),
            |info| {
                format!(
                    "{} (operation {}, ID {})",
                    info.who, info.operation, info.id
                )
            },
        );
        if told.as_ref() != Some(&who) {
            session
                .output
                .message(&format!("Waiting for the state lock, held by {who} ..."));
            told = Some(who);
        }
    };
    let timeout = session.global.lock_timeout;
    let taken = wait_for_lock_or_stop(store, workspace, &info, timeout, tell, interrupt.happened());
    let error = match taken.await {
        Ok(lock) => return Ok(Some(lock)),
        Err(error) => error,
    };
    if error.code() == Some(ErrorCode::Unsupported) {
        return without_lock(session, &error);
    }
    let mut failure = Failure::store("Error acquiring the state lock", &error);
    if error.code() == Some(ErrorCode::Locked) && timeout.is_zero() {
        failure =
            failure.with_advice("To wait for it, give --lock-timeout, such as --lock-timeout=5m.");
    }
    if error.outcome() == Outcome::Unknown {
        // It may be held after all, under the id that only this process knows.
        match store
            .unlock(workspace, &UnlockBy::Id(info.id.clone()))
            .await
        {
            Ok(()) => {}
            Err(other) if other.code() == Some(ErrorCode::LockMismatch) => {}
            Err(other) => failure = failure.and(not_released(&info.id, &other)),
        }
    }
    match interrupt.failure() {
        // A lock that somebody else holds is no news to whoever stopped waiting for it.
        Some(interrupted) if error.code() == Some(ErrorCode::Locked) => Err(interrupted),
        Some(interrupted) => Err(interrupted.and(failure)),
        None => Err(failure),
    }
}

/// Goes on without a lock if the person agreed to that.
fn without_lock(session: &Session, error: &Error) -> Result<Option<HeldLock>, Failure> {
    if !session.global.allow_no_locking {
        return Err(no_locking(error));
    }
    session.output.diagnostic(&diagnostic(
        Severity::Warning,
        "No state lock",
        format!("Working without a lock, as --allow-no-locking says: {error}"),
    ));
    Ok(None)
}

/// The refusal to go on without a lock.
pub(crate) fn no_locking(error: &Error) -> Failure {
    Failure::new(
        "No state lock",
        format!(
            "{error}\n\nWithout a lock others could change the state at the same time. To go on all the same, \
             give --allow-no-locking."
        ),
    )
}

async fn release(store: &Store, workspace: &str, lock: HeldLock) -> Result<(), Failure> {
    let id = lock.id.clone();
    store
        .unlock(workspace, &UnlockBy::Held(lock))
        .await
        .map_err(|error| not_released(&id, &error))
}

fn not_released(id: &str, error: &Error) -> Failure {
    Failure::store("Error releasing the state lock", error).with_advice(&format!(
        "The lock may still be held, and keep others out. If so, and once it is certain that nobody \
             works under it, release it with: cofferdam force-unlock {id}"
    ))
}
