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
    Error, ErrorCode, Expectation, LockInfo, Reading, StateStore, UnlockBy, WriteOptions,
};
use cofferdam_tests::component::Component;
use cofferdam_tests::conformance::{Flavour, Opening, info, record};
use cofferdam_tests::{Ministack, RawS3, Site};
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

#[tokio::test(flavor = "multi_thread")]
async fn one_of_sixteen_gets_the_lock_of_the_embedded_store() {
    let server = DevStore::builder()
        .start()
        .await
        .expect("the embedded store starts");
    let winners = race(&Site::of(&server)).await;

    // The store's own history tells the same: each lock was stored once and then deleted, by its winner.
    let history = server.history(LOCK);
    let stored: Vec<&str> = history
        .iter()
        .filter_map(|generation| generation.body.as_deref())
        .map(|body| id_in(std::str::from_utf8(body).expect("a record is UTF-8")))
        .collect();
    assert_eq!(
        stored, winners,
        "the history of the lock names other winners"
    );
    let present: Vec<bool> = history
        .iter()
        .map(|generation| generation.body.is_some())
        .collect();
    assert_eq!(
        present,
        [true, false].repeat(ROUNDS),
        "a lock was stored over another"
    );
    let by_terraform = winners
        .iter()
        .filter(|winner| winner.contains("raw"))
        .count();
    println!("{by_terraform} of {ROUNDS} rounds were won by requests as Terraform sends them");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_sixteen_gets_the_lock_of_ministack() {
    let Some(ministack) = Ministack::start().await else {
        return;
    };
    race(ministack.site()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_increment_is_lost_on_the_embedded_store() {
    let server = DevStore::builder()
        .start()
        .await
        .expect("the embedded store starts");
    let site = Site::of(&server);
    count(&site).await;

    let stored: Vec<u64> = server
        .history(KEY)
        .iter()
        .filter_map(|generation| generation.body.as_deref())
        .map(number_in)
        .collect();
    let expected: Vec<u64> = (1..=total()).collect();
    assert_eq!(stored, expected, "a number was stored twice or skipped");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_increment_is_lost_on_ministack() {
    let Some(ministack) = Ministack::start().await else {
        return;
    };
    count(ministack.site()).await;
}

/// Lets all contenders at the lock at once, round by round, and answers the winners' ids.
async fn race(site: &Site) -> Vec<String> {
    let contenders: Vec<Contender> = open_contenders(site).await;
    let judge = RawS3::new(site);
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
        let stored = judge
            .object(LOCK)
            .await
            .expect("the winner's lock is stored");
        let stored = String::from_utf8_lossy(&stored).into_owned();
        assert_eq!(id_in(&stored), winner, "round {round} on {}", site.name);

        let by_id = UnlockBy::Id(winner.clone());
        let referee = contenders
            .iter()
            .find_map(Contender::store)
            .expect("half of them are ours");
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
    Raw(Box<RawS3>),
}

impl Contender {
    fn kind(&self) -> &'static str {
        match self {
            Self::Cofferdam(_) => "cofferdam",
            Self::Raw(_) => "raw",
        }
    }

    fn store(&self) -> Option<&Arc<dyn StateStore>> {
        match self {
            Self::Cofferdam(store) => Some(store),
            Self::Raw(_) => None,
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
            Self::Raw(client) => {
                let answer = client.put_lock(LOCK, record(site, id, KEY)).await;
                match answer.status {
                    StatusCode::OK => true,
                    StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT => false,
                    status => panic!("{id}: {status} {:?}", answer.body),
                }
            }
        }
    }
}

async fn open_contenders(site: &Site) -> Vec<Contender> {
    let component = Component::load().await;
    let mut contenders = Vec::with_capacity(CONTENDERS);
    for number in 0..CONTENDERS {
        contenders.push(match number % 2 {
            0 => Contender::Cofferdam(open(&component, site).await),
            _ => Contender::Raw(Box::new(RawS3::new(site))),
        });
    }
    contenders
}

/// Every writer adds one to the number in the state, again and again, with nothing but the fence between
/// them: no lock is taken.
async fn count(site: &Site) {
    let component = Component::load().await;
    let mut writers = Vec::with_capacity(WRITERS);
    for _ in 0..WRITERS {
        writers.push(open(&component, site).await);
    }
    let refused: usize = join_all(writers.iter().map(|store| increments(&**store)))
        .await
        .iter()
        .sum();
    let stored = RawS3::new(site).object(KEY).await.expect("a state");
    assert_eq!(
        number_in(&stored),
        total(),
        "increments were lost on {}",
        site.name
    );
    println!("{refused} writes were refused on {}", site.name);
}

async fn increments(store: &dyn StateStore) -> usize {
    let mut refused = 0;
    for _ in 0..INCREMENTS {
        while let Err(error) = increment(store).await {
            assert_eq!(error.code(), Some(ErrorCode::StateChanged), "{error:?}");
            refused += 1;
        }
    }
    refused
}

async fn increment(store: &dyn StateStore) -> Result<(), Error> {
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
        .write("default", text.into(), &WriteOptions { expect, lock: None })
        .await
        .map(|_| ())
}

async fn open(component: &Component, site: &Site) -> Arc<dyn StateStore> {
    let opening = Opening::new(site.block(KEY));
    component.open(opening).await.expect("the store opens")
}

fn total() -> u64 {
    u64::try_from(WRITERS * INCREMENTS).expect("a small number")
}

fn number_in(state: &[u8]) -> u64 {
    let state: serde_json::Value = serde_json::from_slice(state).expect("a state is JSON");
    state["number"].as_u64().expect("a number")
}

fn id_in(record: &str) -> &str {
    let (_, rest) = record.split_once("\"ID\":\"").expect("a lock record");
    rest.split_once('"').expect("an end of the id").0
}
