//! A process with two tenants: one whose component misbehaves on request, and a neighbour who works.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cofferdam::dev_store::DevStore;
use cofferdam::{
    Backend, ComponentSource, Error, Expectation, Grant, Limit, Limits, LockInfo, Reading,
    StateStore, Store, UnlockBy, WriteOptions,
};
use cofferdam_tests::tools::build_component;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The hostile component's file, built on first use.
pub fn hostile() -> PathBuf {
    static WASM: OnceLock<PathBuf> = OnceLock::new();
    let path = WASM.get_or_init(|| build_component("cofferdam-hostile"));
    path.clone()
}

/// Short enough for a test, and far from what anything in it takes.
pub fn limits() -> Limits {
    Limits::default()
        .cpu(Duration::from_secs(5))
        .wall_clock(Duration::from_secs(60))
}

/// A hostile store and its neighbour.
#[must_use]
pub struct House {
    backend: Backend,
    limits: Limits,
    pub store: Store,
    pub server: Arc<DevStore>,
    neighbour: Neighbour,
}

impl House {
    /// With a sealed store that no rule opens.
    pub async fn sealed() -> Self {
        Self::of(limits(), Grant::sealed(), json!({})).await
    }

    pub async fn limited(limits: Limits) -> Self {
        Self::of(limits, Grant::sealed(), json!({})).await
    }

    pub async fn granted(grant: Grant) -> Self {
        Self::of(limits(), grant, json!({})).await
    }

    pub async fn of(limits: Limits, grant: Grant, config: Value) -> Self {
        let server = Arc::new(DevStore::builder().start().await.unwrap());
        Self::at(server, limits, grant, config).await
    }

    /// With the neighbour's state on this server.
    pub async fn at(server: Arc<DevStore>, limits: Limits, grant: Grant, config: Value) -> Self {
        let backend = Backend::builder()
            .component(ComponentSource::File(hostile()))
            .build()
            .await
            .unwrap();
        let store = backend.store(config).limits(limits).grant(grant);
        let store = store.open().await.unwrap().store;
        let neighbour = Neighbour::move_in(Arc::clone(&server)).await;
        Self {
            backend,
            limits,
            store,
            server,
            neighbour,
        }
    }

    /// A further hostile store beside the same neighbour.
    pub async fn reopened(self, grant: Grant, config: Value) -> Self {
        let store = self.backend.store(config).limits(self.limits).grant(grant);
        let store = store.open().await.unwrap().store;
        Self { store, ..self }
    }

    /// The misdeed fails as `check` wants, and the same store serves the next call.
    pub async fn fails(&self, misdeed: &str, check: impl FnOnce(&Error) -> bool) {
        let answer = self.store.read(misdeed, None).await;
        let error = answer.map(|_| ()).expect_err("a misdeed ends in an error");
        assert!(check(&error), "{misdeed}: {error:?}");
        self.serves().await;
    }

    /// The misdeed runs into a limit, and the same store serves the next call.
    pub async fn hits(&self, misdeed: &str, wanted: Limit) {
        self.fails(
            misdeed,
            |error| matches!(error, Error::Limit { limit, .. } if *limit == wanted),
        )
        .await;
    }

    /// What the component saw, from its error message.
    pub async fn seen(&self, question: &str) -> String {
        let answer = self.store.read(question, None).await;
        let error = answer.map(|_| ()).expect_err("answers come as errors");
        assert!(error.code().is_some(), "{question}: {error:?}");
        error.to_string()
    }

    /// The component asked, and saw this in the answer.
    pub async fn sees(&self, question: &str, expected: &str) {
        let seen = self.seen(question).await;
        assert!(seen.contains(expected), "{question}: {seen}");
    }

    pub async fn serves(&self) {
        let next = self.store.read("default", None).await;
        assert!(matches!(next, Ok(Reading::Absent)), "{next:?}");
    }

    /// The neighbour did all that it set out to do, and lost nothing.
    pub async fn close(self) {
        self.neighbour.move_out().await;
    }
}

const STATE: &str = "neighbour/state";
/// What the neighbour does at least, however short the misdeed is.
const ROUNDS: usize = 5;

/// Locks, writes, reads and unlocks, round after round, in a sealed store of the embedded component.
struct Neighbour {
    server: Arc<DevStore>,
    stop: watch::Sender<bool>,
    work: JoinHandle<usize>,
}

impl Neighbour {
    async fn move_in(server: Arc<DevStore>) -> Self {
        let backend = Backend::builder().build().await.unwrap();
        let place = format!(
            "GET,PUT,DELETE {}/{}/{STATE}",
            server.url(),
            server.bucket()
        );
        let grant = Grant::sealed().allow(place.parse().unwrap());
        let store = backend.store(server.backend_block(STATE)).grant(grant);
        let store = store.open().await.unwrap().store;
        let (stop, stopped) = watch::channel(false);
        let (begun, mut first) = watch::channel(0);
        let work = tokio::spawn(async move {
            let mut rounds = 0;
            let mut expect = Expectation::Absent;
            while rounds < ROUNDS || !*stopped.borrow() {
                rounds += 1;
                expect = round(&store, rounds, expect).await;
                begun.send_replace(rounds);
            }
            rounds
        });
        // The misdeed falls between two rounds or into one.
        first.wait_for(|rounds| *rounds > 0).await.unwrap();
        Self { server, stop, work }
    }

    async fn move_out(self) {
        self.stop.send_replace(true);
        let rounds = self
            .work
            .await
            .expect("every operation of the neighbour works");
        let history = self.server.history(STATE);
        let states: Vec<_> = history.iter().filter_map(|it| it.body.clone()).collect();
        let wanted: Vec<_> = (1..=rounds).map(state).collect();
        assert_eq!(states, wanted, "every write, once and in order");
        let locks = self.server.history(&format!("{STATE}.tflock"));
        let taken = locks.iter().map(|it| it.body.is_some());
        assert!(
            taken.eq((0..2 * rounds).map(|step| step % 2 == 0)),
            "each lock is taken and released in turn"
        );
    }
}

async fn round(store: &Store, number: usize, expect: Expectation) -> Expectation {
    let lock = store.lock("default", &LockInfo::new("work")).await.unwrap();
    let options = WriteOptions {
        expect,
        lock: Some(lock.clone()),
    };
    let revision = store
        .write("default", state(number), &options)
        .await
        .unwrap();
    match store.read("default", None).await.unwrap() {
        Reading::State(read) => assert_eq!(read.bytes, state(number)),
        other => panic!("{other:?}"),
    }
    store
        .unlock("default", &UnlockBy::Held(lock))
        .await
        .unwrap();
    Expectation::Revision(revision)
}

fn state(serial: usize) -> bytes::Bytes {
    json!({ "version": 4, "serial": serial, "lineage": "neighbour" })
        .to_string()
        .into()
}
