//! Eight writers, with the library, the command, `cofferdam exec` and a gateway, on an embedded store on which everything
//! goes wrong: resets, 503s, lost answers, a skewed clock, and the death of writers and gateways at any moment. Afterwards the store's own history is the judge ([`judge`](judge::judge)): every
//! acknowledged write is there, the revisions of each state are a chain, and no lock was held twice.
//!
//! - `COFFERDAM_CHAOS_SECONDS`: how long it goes on; 20 unless set.
//! - `COFFERDAM_CHAOS_SEED`: the seed; without it one is chosen at random. It is printed.
//!
//! What a seed replays is the plan: the fault that befalls the first, the second, the n-th request that comes to the store,
//! which writer dies at that moment, and what each writer sets out to do in each of its rounds. Which writer's request is
//! the n-th is up to the scheduler, so the same seed is a like run, not the same one.
//!
//! It needs the command: `cargo build --release` makes it. `--nocapture` prints the figures.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "this is test code: a panic is how it reports"
)]

#[path = "chaos/gateways.rs"]
mod gateways;
#[path = "chaos/ground.rs"]
mod ground;
#[path = "chaos/judge.rs"]
mod judge;
#[path = "chaos/plan.rs"]
mod plan;
#[path = "chaos/writers.rs"]
mod writers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tracing::subscriber::NoSubscriber;

use gateways::{Client, Exec, Gateways};
use ground::Ground;
use writers::{Command, Library};

/// Writers in this process, with the library.
const LIBRARIES: usize = 3;
/// Writers that run `cofferdam state push`.
const COMMANDS: usize = 2;
/// Writers that run a command under `cofferdam exec`.
const EXECS: usize = 1;
/// Writers through gateways that they share, `cofferdam serve`.
const CLIENTS: usize = 2;
const WRITERS: usize = LIBRARIES + COMMANDS + EXECS + CLIENTS;

#[test]
fn chaos_loses_no_acknowledged_write_forks_no_state_and_gives_no_lock_to_two() {
    let seed = number("COFFERDAM_CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..));
    let seconds = number("COFFERDAM_CHAOS_SECONDS").unwrap_or(20);
    println!("chaos: COFFERDAM_CHAOS_SEED={seed} COFFERDAM_CHAOS_SECONDS={seconds}");
    // A runtime of its own that logs nothing: at the level `trace` this would be gigabytes.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_start(|| {
            std::mem::forget(tracing::subscriber::set_default(NoSubscriber::default()));
        })
        .build()
        .expect("a runtime");
    let chaos = run(seed, Duration::from_secs(seconds));
    runtime
        .block_on(runtime.spawn(chaos))
        .expect("the chaos comes to its end");
}

async fn run(seed: u64, time: Duration) {
    let ground = Arc::new(Ground::new(seed, WRITERS).await);
    let gateways = Arc::new(Gateways::new(ground.clone()));
    let end = Instant::now() + time;
    let writers = (0..WRITERS).map(|number| {
        let (ground, gateways) = (ground.clone(), gateways.clone());
        tokio::spawn(async move {
            match number {
                0..LIBRARIES => Library::new(ground, number, seed).await.work(end).await,
                it if it < LIBRARIES + COMMANDS => {
                    Command::new(ground, number, seed).await.work(end).await;
                }
                it if it < LIBRARIES + COMMANDS + EXECS => {
                    Exec::new(ground, number, seed).work(end).await;
                }
                _ => Client::new(ground, gateways, number, seed).work(end).await,
            }
        })
    });
    for ended in join_all(writers.collect::<Vec<_>>()).await {
        ended.expect("a writer works to the end");
    }

    gateways.close().await;
    ground.calm();
    // All of them are dead now. Whoever comes next gets through, whatever they left.
    let mut successor = Library::new(ground.clone(), WRITERS, seed).await;
    successor.write_to_each().await;

    let recorded = ground.recorded();
    println!("{}", ground.figures(&recorded));
    let violations = judge::judge(&recorded);
    assert!(violations.is_empty(), "seed {seed}: {violations:#?}");
    assert_eq!(ground.suspicious(), Vec::<String>::new(), "seed {seed}");
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable} must be a number, not {text:?}")))
}
