//! Many at once: exactly one gets the lock, and no increment of a counter in the state is lost.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "this is test code: a panic is how it reports"
)]

use std::collections::BTreeSet;
use std::sync::Arc;

use cofferdam::dev_store::DevStore;
use cofferdam::{
    Error, ErrorCode, Expectation, HeldLock, LockInfo, Reading, StateStore, UnlockBy, WriteOptions,
};
use cofferdam_tests::component::Component;
use cofferdam_tests::conformance::{Flavour, Opening, info, record};
use cofferdam_tests::servers::embedded_store;
use cofferdam_tests::{Locking, Ministack, RawDynamoDb, RawS3, Site, digest_of};
use futures_util::future::join_all;
use http::StatusCode;
use tokio::sync::Barrier;

const KEY: &str = "race/terraform.tfstate";
const LOCK: &str = "race/terraform.tfstate.tflock";
const ROUNDS: usize = 100;
/// Half of them cofferdam, the other half requests as Terraform sends them.
const CONTENDERS: usize = 16;
const WRITERS: usize = 8;
const INCREMENTS: usize = 50;
/// With a lock only one of the writers gets on at a time.
const LOCKED_INCREMENTS: usize = 10;

/// A race on the embedded store and one on ministack.
macro_rules! races {
    ($($on_embedded_store:ident, $on_ministack:ident: $ours:expr, $raw:expr;)+) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $on_embedded_store() {
            race_on_embedded_store($ours, $raw).await;
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn $on_ministack() {
            let Some(ministack) = Ministack::start().await else {
                return;
            };
            race(ministack.site(), $ours, $raw).await;
        }
    )+};
}

races! {
    one_of_sixteen_gets_the_file_in_the_embedded_store,
    one_of_sixteen_gets_the_file_in_ministack: Locking::LockFile, Locking::LockFile;

    one_of_sixteen_gets_the_item_in_the_embedded_store,
    one_of_sixteen_gets_the_item_in_ministack: Locking::DynamoDb, Locking::DynamoDb;

    one_of_sixteen_gets_both_locks_in_the_embedded_store,
    one_of_sixteen_gets_both_locks_in_ministack: Locking::Both, Locking::Both;

    one_of_sixteen_gets_on_where_half_know_the_table_alone_in_the_embedded_store,
    one_of_sixteen_gets_on_where_half_know_the_table_alone_in_ministack: Locking::Both, Locking::DynamoDb;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_increment_is_lost_on_the_embedded_store() {
    let server = embedded_store().await;
    count(&Site::of(&server), Locking::LockFile).await;
    assert_every_number_was_stored_once(&server, WRITERS * INCREMENTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_increment_is_lost_on_ministack() {
    let Some(ministack) = Ministack::start().await else {
        return;
    };
    count(ministack.site(), Locking::LockFile).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_increment_is_lost_beside_a_table_on_the_embedded_store() {
    let server = embedded_store().await;
    count(&Site::of(&server), Locking::DynamoDb).await;
    assert_every_number_was_stored_once(&server, WRITERS * INCREMENTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_increment_is_lost_under_both_locks_of_the_embedded_store() {
    let server = embedded_store().await;
    count_locked(&Site::of(&server)).await;
    assert_every_number_was_stored_once(&server, WRITERS * LOCKED_INCREMENTS);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_increment_is_lost_under_both_locks_of_ministack() {
    let Some(ministack) = Ministack::start().await else {
        return;
    };
    count_locked(ministack.site()).await;
}

/// The store's own history must tell the same as the contenders: each lock was stored once and then deleted.
async fn race_on_embedded_store(ours: Locking, raw: Locking) {
    let server = embedded_store().await;
    let site = Site::of(&server);
    let winners = race(&site, ours, raw).await;

    if raw.has_file() {
        let history = server.history(LOCK);
        let bodies = history.iter().map(|generation| {
            let body = generation.body.as_deref()?;
            Some(std::str::from_utf8(body).expect("a record is UTF-8"))
        });
        assert_each_lock_was_stored_once(bodies, &winners);
    }
    if raw.has_item() {
        let history = server.item_history(&site.lock_id(KEY, "default"));
        let records = history.iter().map(|generation| {
            let item = generation.item.as_ref()?;
            Some(item["Info"]["S"].as_str().expect("a record"))
        });
        assert_each_lock_was_stored_once(records, &winners);
    }
    let by_terraform = winners
        .iter()
        .filter(|winner| winner.contains("raw"))
        .count();
    println!("{by_terraform} of {ROUNDS} rounds were won by requests as Terraform sends them");
}

fn assert_each_lock_was_stored_once<'a>(
    history: impl Iterator<Item = Option<&'a str>>,
    winners: &[String],
) {
    let history: Vec<Option<&str>> = history.map(|record| record.map(id_in)).collect();
    let expected: Vec<Option<&str>> = winners
        .iter()
        .flat_map(|winner| [Some(winner.as_str()), None])
        .collect();
    assert_eq!(history, expected, "the history of the lock names others");
}

/// Lets all contenders at the lock at once, round by round, and answers the winners' ids. `ours` is what cofferdam
/// takes, `raw` what the others do; they must have a place in common.
async fn race(site: &Site, ours: Locking, raw: Locking) -> Vec<String> {
    let contenders = open_contenders(site, ours, raw).await;
    let referee = open(&Component::load().await, site, Locking::Both).await;
    let mut winners = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let barrier = Barrier::new(CONTENDERS);
        let attempts = contenders.iter().enumerate().map(|(number, contender)| {
            let barrier = &barrier;
            async move {
                let id = format!("{}-{round}-{number}", contender.kind());
                barrier.wait().await;
                contender.try_lock(site, &id).await.then_some(id)
            }
        });
        let mut won: Vec<String> = join_all(attempts).await.into_iter().flatten().collect();
        assert_eq!(
            won.len(),
            1,
            "round {round} on {} has winners {won:?}",
            site.name
        );
        let winner = won.remove(0);
        let takes = if winner.contains("raw") { raw } else { ours };
        let holders = referee.holders("default").await.expect("the holders");
        let found: Vec<(&str, &str)> = holders
            .iter()
            .map(|holder| {
                let info = holder.info.as_ref().expect("a readable record");
                (holder.place.as_str(), info.id.as_str())
            })
            .collect();
        let mut expected = Vec::new();
        if takes.has_file() {
            expected.push(("s3", winner.as_str()));
        }
        if takes.has_item() {
            expected.push(("dynamodb", winner.as_str()));
        }
        assert_eq!(found, expected, "round {round} on {}", site.name);

        let by_id = UnlockBy::Id(winner.clone());
        referee
            .unlock("default", &by_id)
            .await
            .expect("the winner's lock is released");
        winners.push(winner);
    }
    let distinct: BTreeSet<&String> = winners.iter().collect();
    assert_eq!(distinct.len(), ROUNDS);
    winners
}

enum Contender {
    Cofferdam(Arc<dyn StateStore>),
    Raw(Box<Raw>),
}

/// Takes locks with requests of its own, in the order in which Terraform sends them.
struct Raw {
    bucket: RawS3,
    table: RawDynamoDb,
    locking: Locking,
}

impl Contender {
    fn kind(&self) -> &'static str {
        match self {
            Self::Cofferdam(_) => "cofferdam",
            Self::Raw(_) => "raw",
        }
    }

    /// One attempt. Whoever loses must be told so properly: an error of another kind is no loss.
    async fn try_lock(&self, site: &Site, id: &str) -> bool {
        match self {
            Self::Cofferdam(store) => {
                let info = LockInfo {
                    who: "cofferdam@race".to_owned(),
                    ..info(id)
                };
                match store.lock("default", &info).await {
                    Ok(held) => held.id == id,
                    Err(error) if error.code() == Some(ErrorCode::Locked) => false,
                    Err(error) => panic!("{id}: {error:?}"),
                }
            }
            Self::Raw(raw) => raw.try_lock(site, id).await,
        }
    }
}

impl Raw {
    async fn try_lock(&self, site: &Site, id: &str) -> bool {
        let record = record(site, id, KEY);
        if self.locking.has_file() && !self.create_file(&record).await {
            return false;
        }
        if !self.locking.has_item() || self.create_item(site, &record).await {
            return true;
        }
        if self.locking.has_file() {
            let file = self.bucket.delete(LOCK).await;
            file.expect_success("give the file back");
        }
        false
    }

    async fn create_file(&self, record: &str) -> bool {
        let answer = self.bucket.put_lock(LOCK, record.to_owned()).await;
        match answer.status {
            StatusCode::OK => true,
            StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT => false,
            status => panic!("{record}: {status} {:?}", answer.body),
        }
    }

    async fn create_item(&self, site: &Site, record: &str) -> bool {
        let lock_id = site.lock_id(KEY, "default");
        let answer = self.table.put_lock(&lock_id, record).await;
        let body = String::from_utf8_lossy(&answer.body);
        match answer.status {
            StatusCode::OK => true,
            StatusCode::BAD_REQUEST if body.contains("ConditionalCheckFailedException") => false,
            status => panic!("{record}: {status} {body}"),
        }
    }
}

async fn open_contenders(site: &Site, ours: Locking, raw: Locking) -> Vec<Contender> {
    let component = Component::load().await;
    let mut contenders = Vec::with_capacity(CONTENDERS);
    for number in 0..CONTENDERS {
        contenders.push(match number % 2 {
            0 => Contender::Cofferdam(open(&component, site, ours).await),
            _ => Contender::Raw(Box::new(Raw {
                bucket: RawS3::new(site),
                table: RawDynamoDb::new(site),
                locking: raw,
            })),
        });
    }
    contenders
}

/// Every writer adds one to the number in the state, again and again, with nothing but the fence between
/// them: no lock is taken.
async fn count(site: &Site, locking: Locking) {
    let writers = open_writers(site, locking).await;
    let refused: usize = join_all(writers.iter().map(|store| increments(&**store)))
        .await
        .iter()
        .sum();
    assert_counted(site, WRITERS * INCREMENTS).await;
    println!("{refused} writes were refused on {}", site.name);
    if locking.has_item() {
        // Where two writers met, none may be recorded; a wrong one must not be.
        let state = RawS3::new(site).object(KEY).await.expect("a state");
        let table = RawDynamoDb::new(site);
        let digest = table.digest(&site.lock_id(KEY, "default")).await;
        assert!(digest.is_none_or(|digest| digest == digest_of(&state)));
    }
}

async fn increments(store: &dyn StateStore) -> usize {
    let mut refused = 0;
    for _ in 0..INCREMENTS {
        while let Err(error) = increment(store, None).await {
            assert_eq!(error.code(), Some(ErrorCode::StateChanged), "{error:?}");
            refused += 1;
        }
    }
    refused
}

/// The same under the lock, so that no write is ever refused and every digest is recorded.
async fn count_locked(site: &Site) {
    let writers = open_writers(site, Locking::Both).await;
    join_all(writers.iter().enumerate().map(async |(writer, store)| {
        for number in 0..LOCKED_INCREMENTS {
            let id = format!("{writer}-{number}");
            let held = wait_for_lock(&**store, &id).await;
            increment(&**store, Some(held.clone()))
                .await
                .expect("nobody writes without the lock");
            store
                .unlock("default", &UnlockBy::Held(held))
                .await
                .expect("the lock is ours");
        }
    }))
    .await;
    assert_counted(site, WRITERS * LOCKED_INCREMENTS).await;
    let state = RawS3::new(site).object(KEY).await.expect("a state");
    let table = RawDynamoDb::new(site);
    let lock_id = site.lock_id(KEY, "default");
    assert_eq!(table.digest(&lock_id).await, Some(digest_of(&state)));
    assert_eq!(table.record(&lock_id).await, None);
    assert_eq!(RawS3::new(site).object(LOCK).await, None);
}

async fn wait_for_lock(store: &dyn StateStore, id: &str) -> HeldLock {
    loop {
        match store.lock("default", &info(id)).await {
            Ok(held) => return held,
            Err(error) => assert_eq!(error.code(), Some(ErrorCode::Locked), "{error:?}"),
        }
    }
}

async fn increment(store: &dyn StateStore, lock: Option<HeldLock>) -> Result<(), Error> {
    let (number, expect) = match store.read("default", None).await? {
        Reading::State(state) => (
            number_in(&state.bytes),
            Expectation::Revision(state.revision),
        ),
        _ => (0, Expectation::Absent),
    };
    // The writer's name makes two writes of one number differ, as two states do.
    let text = format!(
        "{{\"number\": {}, \"lineage\": \"{}\"}}",
        number + 1,
        uuid::Uuid::new_v4()
    );
    store
        .write("default", text.into(), &WriteOptions { expect, lock })
        .await
        .map(|_| ())
}

async fn open_writers(site: &Site, locking: Locking) -> Vec<Arc<dyn StateStore>> {
    let component = Component::load().await;
    let mut writers = Vec::with_capacity(WRITERS);
    for _ in 0..WRITERS {
        writers.push(open(&component, site, locking).await);
    }
    writers
}

async fn open(component: &Component, site: &Site, locking: Locking) -> Arc<dyn StateStore> {
    let opening = Opening::new(site.block_with(KEY, locking));
    component.open(opening).await.expect("the store opens")
}

async fn assert_counted(site: &Site, total: usize) {
    let stored = RawS3::new(site).object(KEY).await.expect("a state");
    assert_eq!(
        number_in(&stored),
        total,
        "increments were lost on {}",
        site.name
    );
}

fn assert_every_number_was_stored_once(server: &DevStore, total: usize) {
    let stored: Vec<usize> = server
        .history(KEY)
        .iter()
        .filter_map(|generation| generation.body.as_deref())
        .map(number_in)
        .collect();
    let expected: Vec<usize> = (1..=total).collect();
    assert_eq!(stored, expected, "a number was stored twice or skipped");
}

fn number_in(state: &[u8]) -> usize {
    let state: serde_json::Value = serde_json::from_slice(state).expect("a state is JSON");
    let number = state["number"].as_u64().expect("a number");
    usize::try_from(number).expect("a small number")
}

fn id_in(record: &str) -> &str {
    let (_, rest) = record.split_once("\"ID\":\"").expect("a lock record");
    rest.split_once('"').expect("an end of the id").0
}
