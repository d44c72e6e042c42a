//! Everything that is stored, behind one lock.
//!
//! Without this module two writers whose conditions both hold could both be let in: a condition and the effect
//! that depends on it must be one critical section, and the order of these sections is the order that
//! [`Request::sequence`](super::Request::sequence) tells, for objects and items alike.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::SystemTime;

use s3s::{S3Error, S3Result, s3_error};

use super::disk::Disk;
use super::dynamo::Table;
use super::log::Caller;
use super::misbehaviour::RACE;
use super::versions::{Bucket, Settings};

/// All buckets and tables, in memory, and on disk when there is one.
pub(super) struct Contents {
    pub(super) disk: Option<Disk>,
    /// Whether generations are kept.
    recording: bool,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) buckets: BTreeMap<String, Bucket>,
    pub(super) tables: BTreeMap<String, Table>,
    sequence: u64,
    /// Why nothing is answered any more.
    stopped: Option<&'static str>,
}

impl State {
    pub(super) fn bucket(&mut self, name: &str) -> S3Result<&mut Bucket> {
        self.buckets
            .get_mut(name)
            .ok_or_else(|| s3_error!(NoSuchBucket, "The specified bucket does not exist"))
    }

    /// After a failed change nobody knows what a crash would leave on the disk: only a new start can tell, by
    /// reading it.
    pub(super) fn must(&mut self, done: io::Result<()>) -> Result<(), Failure> {
        done.map_err(|error| {
            self.stopped = Some("the disk failed under a change: start the store again");
            Failure::Disk(error)
        })
    }
}

/// Why a request was not answered, whatever it asks.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("The disk failed: {0}")]
    Disk(#[from] io::Error),
    #[error("{0}")]
    Stopped(&'static str),
}

impl From<Failure> for S3Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Disk(_) => s3_error!(InternalError, "{failure}"),
            Failure::Stopped(_) => s3_error!(ServiceUnavailable, "{failure}"),
        }
    }
}

impl Contents {
    pub(super) fn new(disk: Option<Disk>, recording: bool) -> io::Result<Self> {
        let mut state = State::default();
        if let Some(disk) = &disk {
            for (name, stored) in disk.load()? {
                let bucket = Bucket::new(stored.created, stored.settings, stored.versions);
                state.buckets.insert(name, bucket);
            }
            for (definition, items) in disk.load_tables()? {
                let table = Table::new(definition, items)?;
                state.tables.insert(table.name().to_owned(), table);
            }
        }
        Ok(Self {
            disk,
            recording,
            state: Mutex::new(state),
        })
    }

    /// Whether a change waits for a disk.
    pub(super) fn is_durable(&self) -> bool {
        self.disk.is_some()
    }

    pub(super) fn is_recording(&self) -> bool {
        self.recording
    }

    /// From here on nothing changes any more, and another process may have the directory.
    pub(super) fn stop(&self) {
        let mut state = self.state();
        state.stopped = Some("the store was stopped");
        if let Some(disk) = &self.disk {
            // What holds the lock then is the handle, which goes with the store.
            let _ = disk.release();
        }
    }

    /// A place in the order of effects for a request that never came as far as the contents.
    pub(super) fn next_sequence(&self) -> u64 {
        let mut state = self.state();
        state.sequence += 1;
        state.sequence
    }

    pub(super) fn create_bucket(
        &self,
        caller: &Caller,
        name: &str,
        settings: Settings,
    ) -> S3Result<()> {
        self.enter(caller, |state, _| {
            match state.buckets.entry(name.to_owned()) {
                Entry::Occupied(_) => Err(s3_error!(
                    BucketAlreadyOwnedByYou,
                    "The bucket exists, and you own it."
                )),
                Entry::Vacant(vacant) => {
                    if let Some(disk) = &self.disk {
                        disk.create_bucket(name, settings).map_err(Failure::Disk)?;
                    }
                    vacant.insert(Bucket::new(SystemTime::now(), settings, Vec::new()));
                    Ok(())
                }
            }
        })
    }

    pub(super) fn has_bucket(&self, caller: &Caller, name: &str) -> S3Result<()> {
        self.enter(caller, |state, _| state.bucket(name).map(|_| ()))
    }

    pub(super) fn buckets(&self, caller: &Caller) -> S3Result<Vec<(String, SystemTime)>> {
        self.enter(caller, |state, _| {
            Ok(state
                .buckets
                .iter()
                .map(|(name, bucket)| (name.clone(), bucket.created))
                .collect())
        })
    }

    /// The critical section: gives the request its place and lets it have its effect.
    pub(super) fn enter<T, E: From<Failure>>(
        &self,
        caller: &Caller,
        effect: impl FnOnce(&mut State, u64) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut state = self.state();
        state.sequence += 1;
        let sequence = state.sequence;
        caller.set_sequence(sequence);
        if let Some(reason) = state.stopped {
            return Err(Failure::Stopped(reason).into());
        }
        effect(&mut state, sequence)
    }

    /// The flaw of a racy store: looks at a condition in a step of its own, and lets others in before the effect.
    /// Answers whether it did so, and the condition counts as met.
    pub(super) fn race<E: From<Failure>>(
        &self,
        caller: &Caller,
        check: impl FnOnce(&mut State) -> Result<(), E>,
    ) -> Result<bool, E> {
        if caller.flaws.race {
            self.enter(caller, |state, _| check(state))?;
            thread::sleep(RACE);
        }
        Ok(caller.flaws.race)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
