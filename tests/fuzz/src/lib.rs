//! Feeds a parser with inputs nobody thought of, on stable Rust.
//!
//! Without it the inputs of a test are those that its author had in mind, and a panic on another one ends a call in its
//! middle, with a lock held.
//!
//! A [`Target`] takes every input that is kept in `tests/fuzz/corpus/NAME`, then inputs mutated from them, until its time
//! is over. What it is given answers with a number that stands for what came about, such as the kinds of errors; an input
//! with a new number joins those that are mutated. That is how it gets beyond the first check without instrumentation. An
//! input that fails is made short, stored in the corpus, and taken again by every later run.
//!
//! - `COFFERDAM_FUZZ_SECONDS`: how long each target runs; 2 unless set.
//! - `COFFERDAM_FUZZ_SEED`: the seed; without it one is chosen at random. It is printed when something fails.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "this is test code: a panic is how it reports"
)]

mod mutate;
mod quiet;
mod watch;

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fastrand::Rng;

use watch::Watch;

/// How many inputs are mutated at most; later finds take the place of others.
const POOL: usize = 4000;

/// What is fed, and with what.
pub struct Target {
    name: &'static str,
    words: &'static [&'static str],
}

impl Target {
    /// A target with a folder of this name in the corpus; `words` are what its inputs are made of.
    pub fn new(name: &'static str, words: &'static [&'static str]) -> Self {
        Self { name, words }
    }

    /// Runs until the time is over. `check` panics when an input shows a fault, and else answers what came about.
    ///
    /// # Panics
    /// When an input shows a fault, or takes more than 30 seconds: then the whole process ends.
    pub fn run(&self, check: impl Fn(&[u8]) -> u64) {
        let seed = number("COFFERDAM_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..));
        let time = Duration::from_secs(number("COFFERDAM_FUZZ_SECONDS").unwrap_or(2));
        let mut pool = self.corpus();
        let kept = pool.len();
        assert!(kept > 0, "{} has no input", self.folder().display());
        let mut seen = BTreeSet::new();
        let watch = Watch::new(self.folder());
        let mut take = |input: &[u8]| {
            watch.begins(input);
            let came_about = catch_unwind(AssertUnwindSafe(|| check(input)));
            watch.ends();
            match came_about {
                Ok(came_about) => seen.insert(came_about),
                Err(_) => self.report(input, seed, &check),
            }
        };
        for input in &pool {
            take(input);
        }
        let mut rng = Rng::with_seed(seed);
        let (mut inputs, begun) = (0u64, Instant::now());
        while begun.elapsed() < time {
            let input = mutate::mutated(&mut rng, &pool, self.words);
            inputs += 1;
            if take(&input) {
                if pool.len() < POOL {
                    pool.push(input);
                } else {
                    // What is kept stays.
                    let place = rng.usize(kept.min(POOL - 1)..POOL);
                    pool[place] = input;
                }
            }
        }
        println!(
            "{}: {inputs} inputs from {kept} kept ones, {} different outcomes, seed {seed}",
            self.name,
            seen.len()
        );
    }

    fn report(&self, input: &[u8], seed: u64, check: &impl Fn(&[u8]) -> u64) -> ! {
        let fails = |input: &[u8]| catch_unwind(AssertUnwindSafe(|| check(input))).is_err();
        let short = quiet::quietly(|| mutate::minimised(input, fails));
        let path = keep(&self.folder(), "found", &short);
        panic!(
            "{}: {:?} shows a fault (seed {seed}). It is kept as {}: repair what it shows, and run the same test \
             again, which begins with it.",
            self.name,
            String::from_utf8_lossy(&short),
            path.display()
        );
    }

    /// What is kept, in the order of names, so that a seed replays.
    fn corpus(&self) -> Vec<Vec<u8>> {
        let Ok(files) = std::fs::read_dir(self.folder()) else {
            return Vec::new();
        };
        let mut paths: Vec<PathBuf> = files.flatten().map(|file| file.path()).collect();
        paths.sort();
        let inputs = paths.iter().map(std::fs::read);
        inputs
            .collect::<Result<_, _>>()
            .expect("a kept input can be read")
    }

    fn folder(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(self.name)
    }
}

/// A number that stands for what came about.
pub fn outcome(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// Stores an input under a name of its own.
fn keep(folder: &Path, what: &str, input: &[u8]) -> PathBuf {
    let path = folder.join(format!("{what}-{:016x}", outcome(input)));
    std::fs::write(&path, input).expect("the corpus can be written");
    path
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable} must be a number, not {text:?}")))
}
