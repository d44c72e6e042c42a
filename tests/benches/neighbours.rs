//! What a hostile component costs its neighbour: the time that a store takes for its reads and writes beside one that
//! misbehaves over and over in the same process, in times of what it takes alone. What is lost is not measured here but
//! tested (`tests/tests/sandbox`): nothing.
//!
//! `cargo bench --bench neighbours`. It prints a table, and knows no targets.

#![allow(
    clippy::expect_used,
    reason = "this is test code: a panic is how it reports"
)]

mod baseline;

use std::time::{Duration, Instant};

use bytes::Bytes;
use cofferdam::dev_store::DevStore;
use cofferdam::{
    Backend, ComponentSource, Expectation, Grant, StateStore as _, Store, Tenant, WriteOptions,
};
use cofferdam_tests::Site;
use cofferdam_tests::tools::build_component;
use serde_json::json;
use tokio::runtime::Runtime;

use baseline::open;

const KEY: &str = "neighbour/terraform.tfstate";
/// Reads and writes by turns.
const OPERATIONS: usize = 100;
const BYTES: usize = 1024;
/// Runs of each kind, each beside a run alone; the medians count.
const RUNS: usize = 5;

/// What a hostile tenant does, over and over.
struct Misdeed {
    what: &'static str,
    /// What the component is asked for.
    call: &'static str,
    callers: usize,
    /// How many of their calls may run at once; `None`: as many as a store's limits allow.
    cap: Option<usize>,
}

const fn alone(what: &'static str, call: &'static str) -> Misdeed {
    Misdeed {
        what,
        call,
        callers: 1,
        cap: None,
    }
}

const MISDEEDS: &[Misdeed] = &[
    alone("a loop without end", "loop"),
    Misdeed {
        callers: 8,
        ..alone("eight loops without end", "loop")
    },
    Misdeed {
        callers: 8,
        cap: Some(1),
        ..alone("eight loops, one call at once", "loop")
    },
    alone("memory without end", "memory"),
    alone("handles without end", "handles 1000000"),
    alone("headers without end", "headers 100000"),
    alone("output without end", "print"),
    alone("recursion without end", "recursion"),
    alone("panics", "panic"),
    alone("answers of 200 MB", "answer 200000000"),
    alone("random bytes without end", "random 1073741824"),
];

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    // On threads of its own: a store in the wild is somebody else's machine.
    let elsewhere = Runtime::new().expect("a runtime");
    let server = DevStore::builder().recording(false).start();
    let server = elsewhere.block_on(server);
    let server = server.expect("the embedded store starts");
    let here = Runtime::new().expect("a runtime");
    here.block_on(compare(&Site::of(&server)));
}

async fn compare(site: &Site) {
    let backend = Backend::builder().build().await;
    let backend = backend.expect("the component loads");
    let neighbour = open(&backend, &site.block(KEY)).await;
    let hostile = Backend::builder()
        .component(ComponentSource::File(build_component("cofferdam-hostile")))
        .build()
        .await
        .expect("the hostile component loads");
    // Its first run brings what it keeps.
    work(&neighbour).await;
    for misdeed in MISDEEDS {
        let tenant = Tenant::new("hostile");
        let tenant = match misdeed.cap {
            Some(calls) => tenant.concurrent_calls(calls),
            None => tenant,
        };
        let opening = hostile.store(json!({})).grant(Grant::sealed());
        let store = opening
            .tenant(&tenant)
            .open()
            .await
            .expect("it opens")
            .store;
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            alone.push(work(&neighbour).await);
            let callers: Vec<_> = (0..misdeed.callers)
                .map(|_| tokio::spawn(misbehave(store.clone(), misdeed.call)))
                .collect();
            beside.push(work(&neighbour).await);
            for caller in callers {
                caller.abort();
                // It says that it was ended.
                let _ = caller.await;
            }
        }
        let (alone, beside) = (median(alone), median(beside));
        let ratio = beside.all.as_secs_f64() / alone.all.as_secs_f64();
        println!(
            "{OPERATIONS} operations beside {:30} {:>8.1?} / {:>8.1?} alone = {ratio:.2}, the slowest one {:.1?} / {:.1?}",
            misdeed.what, beside.all, alone.all, beside.slowest, alone.slowest,
        );
    }
}

/// Again and again, until it is aborted.
async fn misbehave(store: Store, call: &str) {
    loop {
        let answer = store.read(call, None).await;
        assert!(answer.is_err(), "a misdeed ends in an error");
    }
}

/// What the operations took.
#[derive(Clone, Copy)]
struct Run {
    all: Duration,
    slowest: Duration,
}

fn median(mut runs: Vec<Run>) -> Run {
    runs.sort_by_key(|run| run.all);
    runs[runs.len() / 2]
}

/// On the threads that all stores share, as in a service.
async fn work(store: &Store) -> Run {
    let store = store.clone();
    let working = tokio::spawn(async move {
        let begun = Instant::now();
        let mut slowest = Duration::ZERO;
        for turn in 0..OPERATIONS {
            let before = Instant::now();
            if turn % 2 == 0 {
                let options = WriteOptions {
                    expect: Expectation::Anything,
                    lock: None,
                };
                let body = Bytes::from(vec![b'y'; BYTES]);
                let written = store.write("default", body, &options).await;
                written.expect("the state is written");
            } else {
                let read = store.read("default", None).await;
                read.expect("the state is read");
            }
            slowest = slowest.max(before.elapsed());
        }
        Run {
            all: begun.elapsed(),
            slowest,
        }
    });
    working.await.expect("all operations succeed")
}
