//! Operations through the sandbox, beside the same requests by a native client ([`baseline`]).
//!
//! `cargo bench --bench operations`. At its end it prints a table with the ratios and the targets; it never fails on either: a
//! busy machine is no defect.

#![allow(
    clippy::expect_used,
    reason = "this is test code: a panic is how it reports"
)]

mod baseline;

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use cofferdam::dev_store::DevStore;
use cofferdam::{
    Backend, Expectation, LockInfo, Reading, StateStore, Store, UnlockBy, WriteOptions,
};
use cofferdam_tests::{Site, tools};
use criterion::Criterion;
use object_store::PutMode;
use serde_json::Value;
use tokio::runtime::Runtime;

use baseline::{Native, open, verdict};

const KEY: &str = "app/terraform.tfstate";
const SANDBOX: &str = "cofferdam";
const BASELINE: &str = "object_store";
const SMALL: usize = 1024;
const LARGE: usize = 10_000_000;

/// An operation, the most that its ratio may be, and the time above the baseline that is fine whatever the ratio.
struct Target {
    operation: &'static str,
    ratio: f64,
    slack: Duration,
}

const READ: Target = Target {
    operation: "warm read, 1 KB",
    ratio: 1.2,
    slack: Duration::from_micros(100),
};
const ROUND: Target = Target {
    operation: "lock, read, write, unlock, 1 KB",
    ratio: 1.2,
    slack: Duration::from_micros(100),
};
const LARGE_READ: Target = Target {
    operation: "read, 10 MB",
    ratio: 1.3,
    slack: Duration::ZERO,
};
const LARGE_WRITE: Target = Target {
    operation: "write, 10 MB",
    ratio: 1.3,
    slack: Duration::ZERO,
};
const OPEN: &str = "open a store";
const OPEN_TARGET: Duration = Duration::from_micros(200);

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let runtime = Runtime::new().expect("a runtime");
    small(&mut criterion, &runtime);
    large(&mut criterion, &runtime);
    criterion.final_summary();
    for target in [READ, ROUND, LARGE_READ, LARGE_WRITE] {
        tell(&target);
    }
    if let Some(time) = median(OPEN, SANDBOX) {
        let verdict = verdict(time <= OPEN_TARGET);
        println!("{OPEN:32} {time:>10.1?}, target {OPEN_TARGET:?}: {verdict}");
    }
}

/// One embedded store with one state in it, opened by both.
struct Bench {
    _server: DevStore,
    backend: Backend,
    block: Value,
    store: Store,
    baseline: Native,
    body: Bytes,
}

impl Bench {
    async fn new(bytes: usize) -> Self {
        let server = DevStore::builder().recording(false).start().await;
        let server = server.expect("the embedded store starts");
        let body = Bytes::from(vec![b'x'; bytes]);
        server
            .put_object(KEY, body.to_vec())
            .expect("the object is stored");
        let site = Site::of(&server);
        let block = site.block(KEY);
        let backend = Backend::builder().build().await;
        let backend = backend.expect("the component loads");
        let store = open(&backend, &block).await;
        Self {
            _server: server,
            backend,
            block,
            store,
            baseline: Native::new(&site),
            body,
        }
    }

    async fn read(&self) {
        let read = self.store.read("default", None).await;
        black_box(read.expect("the state is read"));
    }

    async fn write(&self, options: &WriteOptions) {
        let written = self.store.write("default", self.body.clone(), options);
        black_box(written.await.expect("the state is written"));
    }

    async fn round(&self) {
        let lock = self.store.lock("default", &LockInfo::new("bench")).await;
        let lock = lock.expect("the lock is free");
        let read = self.store.read("default", None).await;
        let Reading::State(state) = read.expect("the state is read") else {
            return;
        };
        let options = WriteOptions {
            expect: Expectation::Revision(state.revision),
            lock: Some(lock.clone()),
        };
        self.write(&options).await;
        let released = self.store.unlock("default", &UnlockBy::Held(lock)).await;
        released.expect("the lock is released");
    }

    async fn baseline_round(&self) {
        const LOCK: &str = "app/baseline.tflock";
        let record = Bytes::from_static(&[b'l'; 200]);
        self.baseline.put(LOCK, record, PutMode::Create).await;
        let (_, version) = self.baseline.get(KEY).await;
        let update = PutMode::Update(version);
        self.baseline.put(KEY, self.body.clone(), update).await;
        self.baseline.delete(LOCK).await;
    }
}

fn small(criterion: &mut Criterion, runtime: &Runtime) {
    let bench = runtime.block_on(Bench::new(SMALL));
    let mut group = criterion.benchmark_group(READ.operation);
    group.bench_function(SANDBOX, |it| it.to_async(runtime).iter(|| bench.read()));
    group.bench_function(BASELINE, |it| {
        it.to_async(runtime).iter(|| bench.baseline.get(KEY));
    });
    group.finish();

    let mut group = criterion.benchmark_group(ROUND.operation);
    group.bench_function(SANDBOX, |it| it.to_async(runtime).iter(|| bench.round()));
    group.bench_function(BASELINE, |it| {
        it.to_async(runtime).iter(|| bench.baseline_round());
    });
    group.finish();

    let mut group = criterion.benchmark_group(OPEN);
    group.bench_function(SANDBOX, |it| {
        it.to_async(runtime)
            .iter(|| open(&bench.backend, &bench.block));
    });
    group.finish();
}

fn large(criterion: &mut Criterion, runtime: &Runtime) {
    let bench = runtime.block_on(Bench::new(LARGE));
    let mut group = criterion.benchmark_group(LARGE_READ.operation);
    group.sample_size(20);
    group.bench_function(SANDBOX, |it| it.to_async(runtime).iter(|| bench.read()));
    group.bench_function(BASELINE, |it| {
        it.to_async(runtime).iter(|| bench.baseline.get(KEY));
    });
    group.finish();

    let options = WriteOptions {
        expect: Expectation::Anything,
        lock: None,
    };
    let mut group = criterion.benchmark_group(LARGE_WRITE.operation);
    group.sample_size(20);
    group.bench_function(SANDBOX, |it| {
        it.to_async(runtime).iter(|| bench.write(&options));
    });
    group.bench_function(BASELINE, |it| {
        it.to_async(runtime).iter(|| {
            bench
                .baseline
                .put(KEY, bench.body.clone(), PutMode::Overwrite)
        });
    });
    group.finish();
}

/// The line of the table, if both were measured.
fn tell(target: &Target) {
    let operation = target.operation;
    let measured = (median(operation, SANDBOX), median(operation, BASELINE));
    let (Some(ours), Some(theirs)) = measured else {
        return;
    };
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    let met = ratio <= target.ratio || ours <= theirs + target.slack;
    let verdict = verdict(met);
    println!(
        "{operation:32} {ours:>10.1?} / {theirs:>10.1?} = {ratio:.2}, target {:.1} or + {:?}: {verdict}",
        target.ratio, target.slack,
    );
}

/// The median that Criterion noted, of this run or of the last one that measured it.
fn median(group: &str, function: &str) -> Option<Duration> {
    // Criterion's name for a directory.
    let group = group.replace(['/', '?', '"', '\\', ':', '*', '<', '>', '|'], "_");
    let file = tools::target()
        .join("criterion")
        .join(group)
        .join(function)
        .join("new/estimates.json");
    let estimates: Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    let nanoseconds = estimates["median"]["point_estimate"].as_f64()?;
    Some(Duration::from_secs_f64(nanoseconds / 1e9))
}
