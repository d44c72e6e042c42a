//! Many tenants in one process: what one more idle store costs in memory, and whether 200 of them that work at once keep up
//! with native clients, and none of them starves.
//!
//! `cargo bench --bench tenants`. It prints the figures with their targets, and never fails on them. The server is another
//! process, so that none of its memory counts. Linux only: memory is read from `/proc`.

#![allow(
    clippy::expect_used,
    reason = "this is test code: a panic is how it reports"
)]

mod baseline;

use std::env;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cofferdam::dev_store::DevStore;
use cofferdam::{Backend, Expectation, StateStore as _, Store, WriteOptions};
use cofferdam_tests::Site;
use futures_util::future::join_all;
use object_store::PutMode;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use baseline::{Native, open, verdict};

/// First argument of the process that is the server.
const SERVE: &str = "serve-tenants";
const TENANTS: usize = 200;
/// Reads and writes by turns.
const OPERATIONS: usize = 20;
const BYTES: usize = 1024;
/// Runs of each kind; the median counts.
const RUNS: usize = 5;

/// At most this much of the time of native clients.
const WALL_TARGET: f64 = 1.3;
/// The slowest tenant takes at most so many times as long as the median one.
const SPREAD_TARGET: f64 = 3.0;
/// Resident memory of one more idle store. Bytes.
const IDLE_TARGET: u64 = 256 << 10;

fn main() {
    let runtime = || Runtime::new().expect("a runtime");
    if env::args().nth(1).is_some_and(|first| first == SERVE) {
        runtime().block_on(serve());
    } else if env::args().any(|argument| argument == "--bench") {
        runtime().block_on(compare());
    }
}

/// Says where it listens, and serves until its input ends.
async fn serve() {
    let server = DevStore::builder().recording(false).start().await;
    let server = server.expect("the embedded store starts");
    for tenant in 0..TENANTS {
        let stored = server.put_object(&key(tenant), vec![b'x'; BYTES]);
        stored.expect("the object is stored");
    }
    let site = Site::of(&server);
    println!(
        "{}",
        json!([
            site.url,
            site.bucket,
            site.region,
            site.access_key_id,
            site.secret_access_key
        ])
    );
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    ended.await.expect("nobody cancels it").expect("a pipe");
}

/// A server, which ends when its input is dropped.
fn server() -> (Child, Site) {
    let program = env::current_exe().expect("the path of this program");
    let mut command = Command::new(program);
    let command = command.arg(SERVE).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut line = String::new();
    let output = child.stdout.as_mut().expect("its output is a pipe");
    let read = BufReader::new(output).read_line(&mut line);
    read.expect("it says where it listens");
    let told: Value = serde_json::from_str(&line).expect("it says where it listens");
    let text = |index: usize| told[index].as_str().unwrap_or_default().to_owned();
    let site = Site {
        name: "the embedded store",
        url: text(0),
        bucket: text(1),
        region: text(2),
        access_key_id: text(3),
        secret_access_key: text(4),
        workspace_key_prefix: "env:",
        dynamodb: None,
    };
    (child, site)
}

async fn compare() {
    let (mut server, site) = server();
    let backend = Backend::builder().build().await;
    let backend = backend.expect("the component loads");
    let mut stores = Vec::with_capacity(TENANTS);
    let mut before = 0;
    for tenant in 0..TENANTS {
        // The first ones bring what all share.
        if tenant == TENANTS / 2 {
            before = resident();
        }
        let store = open(&backend, &site.block(&key(tenant))).await;
        store
            .read("default", None)
            .await
            .expect("the state is read");
        stores.push(store);
    }
    let idle = resident().saturating_sub(before) / (TENANTS / 2) as u64;
    println!(
        "one more idle store: {} KiB, target {} KiB: {}",
        idle >> 10,
        IDLE_TARGET >> 10,
        verdict(idle <= IDLE_TARGET)
    );

    let clients: Vec<_> = (0..TENANTS).map(|_| Arc::new(Native::new(&site))).collect();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(timed(stores.iter().enumerate().map(|it| work(it.0, it.1))).await);
        theirs.push(timed(clients.iter().enumerate().map(|it| native(it.0, it.1))).await);
    }
    ours.sort_by_key(|run| run.wall);
    theirs.sort_by_key(|run| run.wall);
    let (ours, theirs) = (ours[RUNS / 2], theirs[RUNS / 2]);
    let ratio = ours.wall.as_secs_f64() / theirs.wall.as_secs_f64();
    println!(
        "{TENANTS} tenants x {OPERATIONS} operations: {:.0?} / {:.0?} of object_store = {ratio:.2}, target {WALL_TARGET}: {}",
        ours.wall,
        theirs.wall,
        verdict(ratio <= WALL_TARGET)
    );
    println!(
        "slowest tenant / median one: {:.2} (object_store {:.2}), target {SPREAD_TARGET}: {}",
        ours.spread,
        theirs.spread,
        verdict(ours.spread <= SPREAD_TARGET)
    );
    drop(server.stdin.take());
    server.wait().expect("the server ends");
}

fn key(tenant: usize) -> String {
    format!("tenant-{tenant}/terraform.tfstate")
}

#[derive(Clone, Copy)]
struct Run {
    wall: Duration,
    /// The slowest tenant's time in that of the median one.
    spread: f64,
}

/// Runs all tenants at once.
async fn timed(tenants: impl Iterator<Item = impl Future<Output = ()>>) -> Run {
    let start = Instant::now();
    let mut ends = join_all(tenants.map(|tenant| async move {
        tenant.await;
        start.elapsed()
    }))
    .await;
    ends.sort();
    let median = ends[TENANTS / 2].as_secs_f64();
    Run {
        wall: ends[TENANTS - 1],
        spread: ends[TENANTS - 1].as_secs_f64() / median,
    }
}

async fn work(tenant: usize, store: &Store) {
    let store = store.clone();
    let work = async move {
        for turn in 0..OPERATIONS {
            if turn % 2 == 0 {
                let read = store.read("default", None).await;
                read.expect("the state is read");
            } else {
                let options = WriteOptions {
                    expect: Expectation::Anything,
                    lock: None,
                };
                let body = Bytes::from(vec![b'y'; BYTES]);
                let written = store.write("default", body, &options).await;
                written.expect("the state is written");
            }
        }
    };
    // On any thread, as in a service.
    let ended = tokio::spawn(work).await;
    ended.unwrap_or_else(|error| panic!("tenant {tenant}: {error}"));
}

async fn native(tenant: usize, client: &Arc<Native>) {
    let client = Arc::clone(client);
    let work = async move {
        let key = key(tenant);
        for turn in 0..OPERATIONS {
            if turn % 2 == 0 {
                client.get(&key).await;
            } else {
                let body = Bytes::from(vec![b'y'; BYTES]);
                client.put(&key, body, PutMode::Overwrite).await;
            }
        }
    };
    let ended = tokio::spawn(work).await;
    ended.unwrap_or_else(|error| panic!("tenant {tenant}: {error}"));
}

/// Resident memory of this process. Bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.map_or(0, |kilobytes| kilobytes << 10)
}
