//! The writers: those in this process that use the library, and those that are processes of their own.
//!
//! Each round one takes a state's lock, reads it, stores a successor that names what it was made of, and releases the
//! lock. A writer that dies never comes back: in its next round it has another name, and its lock is broken by whoever
//! finds it.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use cofferdam::{
    Error, ErrorCode, Expectation, LockInfo, Reading, StateStore, UnlockBy, WriteOptions,
};
use cofferdam_tests::tools;
use fastrand::Rng;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;

use crate::ground::{Ground, SECRET, STATES, hash};
use crate::judge::Told;

/// A round in so many goes without the lock, on states that have one.
const UNLOCKED: u8 = 10;
/// What a successor tries at most to get through, once nothing goes wrong any more.
const ATTEMPTS: usize = 20;

/// A writer in this process.
pub struct Library {
    ground: Arc<Ground>,
    number: usize,
    rng: Rng,
    stores: Vec<Arc<dyn StateStore>>,
    death: Receiver<()>,
}

impl Library {
    pub async fn new(ground: Arc<Ground>, number: usize, seed: u64) -> Self {
        let mut stores = Vec::new();
        for state in &STATES {
            stores.push(ground.open(state.key, state.locking).await);
        }
        Self {
            death: ground.death_of(number),
            ground,
            number,
            rng: rng(seed, number),
            stores,
        }
    }

    pub async fn work(mut self, end: Instant) {
        let mut number = 0;
        while Instant::now() < end {
            number += 1;
            let name = format!("library-{}-{number}", self.number);
            let state = self.rng.usize(..STATES.len());
            let takes_lock = STATES[state].is_locked && self.rng.u8(..UNLOCKED) > 0;
            let round = Round {
                ground: &self.ground,
                store: &*self.stores[state],
                state,
                name: &name,
            };
            tokio::select! {
                // What the call was doing goes on or not, as when a process ends.
                Some(()) = self.death.recv() => {
                    self.ground.count("kills: calls dropped");
                    self.ground.dies(state, &name);
                }
                _ = round.run(takes_lock) => {}
            }
            if number % 50 == 0 {
                self.ground.server.clear_requests();
            }
        }
    }

    /// Stores one more revision of each state, under its lock.
    pub async fn write_to_each(&mut self) {
        for (state, store) in self.stores.iter().enumerate() {
            let mut done = false;
            for attempt in 0..ATTEMPTS {
                let name = format!("successor-{state}-{attempt}");
                let round = Round {
                    ground: &self.ground,
                    store: &**store,
                    state,
                    name: &name,
                };
                done = round.run(true).await;
                if done {
                    break;
                }
            }
            assert!(done, "nobody gets through to state {state} any more");
            let holders = store.holders(STATES[state].workspace).await;
            assert_eq!(holders.expect("the holders"), [], "a lock is left behind");
        }
    }
}

/// What a writer does under one name.
struct Round<'a> {
    ground: &'a Ground,
    store: &'a dyn StateStore,
    state: usize,
    name: &'a str,
}

impl Round<'_> {
    /// Answers whether the write was acknowledged and the lock released.
    async fn run(&self, takes_lock: bool) -> bool {
        if !takes_lock {
            return self.write(None).await;
        }
        let info = LockInfo {
            who: format!("{}@chaos", self.name),
            ..LockInfo::new("chaos")
        };
        let (ground, state) = (self.ground, &STATES[self.state]);
        let held = match self.store.lock(state.workspace, &info).await {
            Ok(held) => held,
            Err(error) => {
                ground.note("lock", &error);
                // It may be held all the same; nobody works under it.
                ground.dies(self.state, self.name);
                if error.code() == Some(ErrorCode::Locked)
                    && let Some(error) = error.store()
                {
                    ground.bury(self.store, state, &error.holders).await;
                }
                return false;
            }
        };
        ground.tell(Told::Took {
            state: self.state,
            holder: self.name.to_owned(),
        });
        let wrote = self.write(Some(held.clone())).await;
        ground.tell(Told::Gives {
            state: self.state,
            holder: self.name.to_owned(),
        });
        match self
            .store
            .unlock(state.workspace, &UnlockBy::Held(held))
            .await
        {
            Ok(()) => wrote,
            Err(error) => {
                ground.note("unlock", &error);
                ground.dies(self.state, self.name);
                false
            }
        }
    }

    async fn write(&self, lock: Option<cofferdam::HeldLock>) -> bool {
        let under = lock.as_ref().map(|_| self.name.to_owned());
        let workspace = STATES[self.state].workspace;
        let made = successor(self.store, workspace, self.name).await;
        let (bytes, expect) = match made {
            Ok(made) => made,
            Err(error) => {
                self.ground.note("read", &error);
                return false;
            }
        };
        let options = WriteOptions { expect, lock };
        match self.store.write(workspace, bytes, &options).await {
            Ok(_) => {
                self.ground.tell(Told::Wrote {
                    state: self.state,
                    write: self.name.to_owned(),
                    under,
                });
                true
            }
            Err(error) => {
                self.ground.note("write", &error);
                false
            }
        }
    }
}

/// A writer whose rounds are processes: `cofferdam state push`.
pub struct Command {
    ground: Arc<Ground>,
    number: usize,
    rng: Rng,
    stores: Vec<Arc<dyn StateStore>>,
    /// One for each state.
    directories: Vec<TempDir>,
    cache: TempDir,
    death: Receiver<()>,
}

impl Command {
    pub async fn new(ground: Arc<Ground>, number: usize, seed: u64) -> Self {
        let mut stores = Vec::new();
        for state in &STATES {
            stores.push(ground.open(state.key, state.locking).await);
        }
        Self {
            death: ground.death_of(number),
            directories: (0..STATES.len()).map(|it| ground.workplace(it)).collect(),
            ground,
            number,
            rng: rng(seed, number),
            stores,
            cache: tempfile::tempdir().expect("a directory"),
        }
    }

    pub async fn work(mut self, end: Instant) {
        let mut number = 0;
        while Instant::now() < end {
            number += 1;
            let name = format!("command-{}-{number}", self.number);
            let state = self.rng.usize(..STATES.len());
            self.round(state, &name).await;
        }
    }

    /// `state push` stores a state only in place of one with an earlier serial: what it was made of, or it is refused.
    async fn round(&mut self, index: usize, name: &str) {
        let (state, store) = (&STATES[index], &*self.stores[index]);
        let bytes = match successor(store, state.workspace, name).await {
            Ok((bytes, _)) => bytes,
            Err(error) => return self.ground.note("read", &error),
        };
        let mut push = self.push(index, name, &bytes);
        // A death that came between two rounds is for this one.
        tokio::select! {
            Some(()) = self.death.recv() => {
                self.ground.count("kills: processes");
                push.start_kill().expect("it is killed");
            }
            _ = push.wait() => {}
        }
        let output = push.wait_with_output().await.expect("it ends");
        self.ground.dies(index, name);
        let said =
            [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
        self.ground.look_at_output(&said.concat());
        match output.status.code() {
            Some(0) => self.ground.tell(Told::Wrote {
                state: index,
                write: name.to_owned(),
                under: Some(name.to_owned()),
            }),
            Some(1) => self.ground.count("error: state push: exit code 1"),
            Some(75) => {
                self.ground.count("error: state push: locked");
                match store.holders(state.workspace).await {
                    Ok(holders) => self.ground.bury(store, state, &holders).await,
                    Err(error) => self.ground.note("holders", &error),
                }
            }
            // Killed.
            None => {}
            Some(code) => self.ground.suspect(format!("exit code {code}: {said:?}")),
        }
    }

    fn push(&self, state: usize, name: &str, bytes: &[u8]) -> tokio::process::Child {
        let directory = self.directories[state].path();
        std::fs::write(directory.join("new"), bytes).expect("a state");
        tools::cofferdam_in(directory)
            .args([
                "state",
                "push",
                "--workspace",
                STATES[state].workspace,
                "new",
            ])
            // Without a log: it would have gigabytes.
            .env_clear()
            .env("USER", name)
            .env("XDG_CACHE_HOME", self.cache.path())
            .spawn()
            .expect("the command starts")
    }
}

/// The next revision of what is stored, and what is to be stored for it to be that.
async fn successor(
    store: &dyn StateStore,
    workspace: &str,
    write: &str,
) -> Result<(Bytes, Expectation), Error> {
    let (stored, expect) = match store.read(workspace, None).await? {
        Reading::State(state) => (Some(state.bytes), Expectation::Revision(state.revision)),
        _ => (None, Expectation::Absent),
    };
    Ok((following(stored.as_deref(), write), expect))
}

/// The state that names the stored one as what it was made of.
pub fn following(stored: Option<&[u8]>, write: &str) -> Bytes {
    let serial = stored.map_or(0, serial) + 1;
    let previous = stored.map_or(Value::Null, |bytes| json!(hash(bytes)));
    let output = |value: Value| json!({ "value": value, "type": "string" });
    let state = json!({
        "version": 4,
        "terraform_version": "1.11.4",
        "serial": serial,
        "lineage": "chaos",
        "outputs": {
            "previous": output(previous),
            "secret": output(SECRET.into()),
            "write": output(write.into()),
        },
        "resources": [],
        "check_results": null,
    });
    state.to_string().into()
}

fn serial(state: &[u8]) -> u64 {
    let state: Value = serde_json::from_slice(state).expect("a state is JSON");
    state["serial"].as_u64().expect("a serial")
}

/// Numbers of a writer's own.
pub fn rng(seed: u64, number: usize) -> Rng {
    Rng::with_seed(seed ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
