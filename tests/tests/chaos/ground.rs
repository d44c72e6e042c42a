//! Where the writers meet: the store, its states, and what is known of everybody.
//!
//! Without one place for what each writer was told, in one order, nobody could hold it against the store's history.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cofferdam::dev_store::DevStore;
use cofferdam::{Error, ErrorCode, Holder, StateStore, UnlockBy};
use cofferdam_tests::component::Component;
use cofferdam_tests::conformance::{Flavour as _, Opening};
use cofferdam_tests::{Locking, Site};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::judge::{Content, Place, Recorded, StateRecord, Stored, Told};
use crate::plan::{Event, Plan, kind};

/// Stands in every state, and may stand nowhere else.
pub const SECRET: &str = cofferdam_canaries::STATE;

/// A state that is fought over.
pub struct State {
    pub key: &'static str,
    pub workspace: &'static str,
    pub locking: Locking,
    /// Whether the writers in this process lock it; else they have the fence alone.
    pub is_locked: bool,
}

const fn state(
    key: &'static str,
    workspace: &'static str,
    locking: Locking,
    is_locked: bool,
) -> State {
    State {
        key,
        workspace,
        locking,
        is_locked,
    }
}

pub static STATES: [State; 6] = [
    state("chaos/file", "default", Locking::LockFile, true),
    state("chaos/file", "dev", Locking::LockFile, true),
    state("chaos/table", "default", Locking::DynamoDb, true),
    state("chaos/both", "default", Locking::Both, true),
    state("chaos/both", "dev", Locking::Both, true),
    state("chaos/fenced", "default", Locking::LockFile, false),
];

/// The store, and what is known.
pub struct Ground {
    pub server: DevStore,
    pub site: Site,
    component: Component,
    told: Mutex<Vec<Told>>,
    /// Writers whose locks may be broken: they will not come back.
    dead: Mutex<BTreeSet<String>>,
    /// Figures by name.
    counts: Arc<Mutex<BTreeMap<String, u64>>>,
    suspicious: Mutex<Vec<String>>,
    /// How each writer learns of its death.
    deaths: Mutex<Vec<Option<Receiver<()>>>>,
}

impl Ground {
    pub async fn new(seed: u64, writers: usize) -> Self {
        let server = DevStore::builder().start().await.expect("the store starts");
        let counts: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
        let (kills, deaths): (Vec<Sender<()>>, Vec<_>) = (0..writers)
            .map(|_| {
                let (kill, death) = mpsc::channel(1);
                (kill, Some(death))
            })
            .unzip();
        let mut plan = Plan::new(seed, writers);
        let counted = counts.clone();
        server.inject_each(move |_, _| match plan.next()? {
            Event::Fault(fault) => {
                count(&counted, format!("fault: {}", kind(&fault)));
                Some(fault)
            }
            Event::Kill(writer) => {
                // One that is about to die anyway need not be told twice.
                let _ = kills[writer].try_send(());
                None
            }
        });
        Self {
            site: Site::of(&server),
            component: Component::load().await,
            server,
            told: Mutex::default(),
            dead: Mutex::default(),
            counts,
            suspicious: Mutex::default(),
            deaths: Mutex::new(deaths),
        }
    }

    /// Nothing goes wrong from now on.
    pub fn calm(&self) {
        self.server.clear_faults();
    }

    /// How a writer learns of its death; it never comes for one that is not in the plan.
    pub fn death_of(&self, writer: usize) -> Receiver<()> {
        let death = locked(&self.deaths).get_mut(writer).and_then(Option::take);
        death.unwrap_or_else(|| {
            let (never, death) = mpsc::channel(1);
            std::mem::forget(never);
            death
        })
    }

    pub async fn open(&self, key: &str, locking: Locking) -> Arc<dyn StateStore> {
        let opening = Opening::new(self.site.block_with(key, locking));
        self.component.open(opening).await.expect("it opens")
    }

    /// A directory with the configuration of a state.
    pub fn workplace(&self, state: usize) -> TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        let block = self
            .site
            .block_with(STATES[state].key, STATES[state].locking);
        let configuration = json!({ "terraform": { "backend": { "s3": block } } });
        let file = directory.path().join("main.tf.json");
        std::fs::write(file, configuration.to_string()).expect("a configuration");
        directory
    }

    pub fn tell(&self, told: Told) {
        locked(&self.told).push(told);
    }

    /// From now on whoever finds a lock of this writer may break it.
    pub fn dies(&self, state: usize, name: &str) {
        self.tell(Told::Gives {
            state,
            holder: name.to_owned(),
        });
        locked(&self.dead).insert(name.to_owned());
    }

    /// Breaks those of the locks whose holders are dead, as a person would who knows that they are.
    pub async fn bury(&self, store: &dyn StateStore, state: &State, holders: &[Holder]) {
        for holder in holders {
            let name = holder.info.as_ref().map(|info| name_in(&info.who));
            let is_dead = name.is_some_and(|name| locked(&self.dead).contains(name));
            if is_dead {
                let by = UnlockBy::Token(holder.token.clone());
                match store.unlock(state.workspace, &by).await {
                    Ok(()) => self.count("locks of the dead broken"),
                    Err(error) => self.note("bury", &error),
                }
            }
        }
    }

    /// The same for whoever does not know the holders, and has no store.
    pub async fn bury_in(&self, state: usize) {
        let state = &STATES[state];
        let store = self.open(state.key, state.locking).await;
        match store.holders(state.workspace).await {
            Ok(holders) => self.bury(&*store, state, &holders).await,
            Err(error) => self.note("holders", &error),
        }
    }

    pub fn count(&self, what: impl Into<String>) {
        count(&self.counts, what.into());
    }

    /// Counts an error, and looks whether it is one that may be.
    pub fn note(&self, doing: &str, error: &Error) {
        let text = format!("{error} {error:?}");
        self.look_for_secrets(&text);
        match error.store() {
            // None of the faults is a refused key, nor anything that has no name.
            Some(error) if error.code == ErrorCode::Credentials => {
                self.suspect(format!("{doing}: {text}"))
            }
            Some(error) => self.count(format!("error: {doing}: {:?}", error.code)),
            None => self.suspect(format!("{doing}: {text}")),
        }
    }

    /// Neither keys nor states stand in what people read.
    pub fn look_for_secrets(&self, text: &str) {
        if text.contains(SECRET) || text.contains(self.server.secret_access_key()) {
            self.suspect(format!("a secret is told: {text}"));
        }
    }

    /// What a process said: no secret, and no panic.
    pub fn look_at_output(&self, text: &str) {
        self.look_for_secrets(text);
        if text.contains("panicked") {
            self.suspect(format!("a panic: {text}"));
        }
    }

    pub fn suspect(&self, what: String) {
        locked(&self.suspicious).push(what);
    }

    pub fn suspicious(&self) -> Vec<String> {
        locked(&self.suspicious).clone()
    }

    /// What the store did, and what the writers were told.
    pub fn recorded(&self) -> Recorded {
        Recorded {
            states: STATES.iter().map(|state| self.record(state)).collect(),
            told: locked(&self.told).clone(),
        }
    }

    fn record(&self, state: &State) -> StateRecord {
        let key = self.site.state_key(state.key, state.workspace);
        let revisions = self
            .server
            .history(&key)
            .into_iter()
            .map(|generation| Stored {
                sequence: generation.sequence,
                content: generation.body.as_deref().map(content),
            });
        let mut locks = Vec::new();
        if state.is_locked && state.locking.has_file() {
            let history = self.server.history(&format!("{key}.tflock"));
            let steps = history.into_iter().map(|generation| {
                let record = generation.body.as_deref().map(holder);
                (generation.sequence, record)
            });
            locks.push(Place {
                name: "s3",
                steps: steps.collect(),
            });
        }
        if state.is_locked && state.locking.has_item() {
            let lock_id = self.site.lock_id(state.key, state.workspace);
            let history = self.server.item_history(&lock_id);
            let steps = history.into_iter().map(|generation| {
                let item = generation.item.as_ref();
                let record = item.and_then(|item| item["Info"]["S"].as_str());
                (generation.sequence, record.map(|it| holder(it.as_bytes())))
            });
            locks.push(Place {
                name: "dynamodb",
                steps: steps.collect(),
            });
        }
        StateRecord {
            name: key,
            revisions: revisions.collect(),
            locks,
        }
    }

    /// What happened, for people.
    pub fn figures(&self, recorded: &Recorded) -> String {
        let mut text = String::new();
        for state in &recorded.states {
            let locks: usize = state.locks.iter().map(|place| place.steps.len()).sum();
            let revisions = state.revisions.len();
            let _ = writeln!(
                text,
                "{:<24} {revisions:>6} revisions, {locks:>6} changes of locks",
                state.name
            );
        }
        let told = recorded.told.iter();
        let writes = told
            .filter(|told| matches!(told, Told::Wrote { .. }))
            .count();
        let _ = writeln!(text, "{writes:>8}  writes acknowledged");
        for (what, count) in locked(&self.counts).iter() {
            let _ = writeln!(text, "{count:>8}  {what}");
        }
        text
    }
}

/// A writer's name in the `who` of its lock.
fn name_in(who: &str) -> &str {
    who.split('@').next().unwrap_or_default()
}

fn holder(record: &[u8]) -> String {
    let record: Value = serde_json::from_slice(record).expect("a lock record is JSON");
    name_in(record["Who"].as_str().expect("a holder")).to_owned()
}

fn content(bytes: &[u8]) -> Content {
    let state: Value = serde_json::from_slice(bytes).expect("a state is JSON");
    let output = |name: &str| state["outputs"][name]["value"].as_str().map(str::to_owned);
    Content {
        hash: hash(bytes),
        serial: state["serial"].as_u64().expect("a serial"),
        previous: output("previous"),
        write: output("write").expect("a write"),
    }
}

/// SHA-256, in hex.
pub fn hash(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn count(counts: &Mutex<BTreeMap<String, u64>>, what: String) {
    *locked(counts).entry(what).or_default() += 1;
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
