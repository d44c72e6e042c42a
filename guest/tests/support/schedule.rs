//! Several callers at once whose requests come in an order that the test chooses.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use cofferdam_s3::Store;
use cofferdam_s3::config::{Diagnostic, Environment};
use cofferdam_s3::contract::{Fence, OpenOptions};
use cofferdam_s3::platform::{
    Clock, Credentials, HttpRequest, HttpResponse, Random, Surroundings, Transport, TransportError,
};

use super::Fake;

/// Callers of one fake.
pub struct Crew {
    fake: Fake,
    plan: Arc<(Mutex<Plan>, Condvar)>,
}

struct Plan {
    /// Whose turn it is; afterwards they go one after the other.
    turns: VecDeque<usize>,
    finished: Vec<bool>,
}

impl Plan {
    fn next(&mut self) -> Option<usize> {
        while self.turns.front().is_some_and(|who| self.finished[*who]) {
            self.turns.pop_front();
        }
        let first = || self.finished.iter().position(|finished| !finished);
        self.turns.front().copied().or_else(first)
    }
}

impl Crew {
    pub fn new(fake: Fake, size: usize, turns: Vec<usize>) -> Self {
        let plan = Plan {
            turns: turns.into(),
            finished: vec![false; size],
        };
        Self {
            fake,
            plan: Arc::new((Mutex::new(plan), Condvar::new())),
        }
    }

    pub fn hand(&self, me: usize) -> Hand {
        Hand {
            fake: self.fake.clone(),
            plan: Arc::clone(&self.plan),
            me,
        }
    }
}

/// One caller.
#[derive(Clone)]
pub struct Hand {
    fake: Fake,
    plan: Arc<(Mutex<Plan>, Condvar)>,
    me: usize,
}

impl Hand {
    pub fn open(self, more: &str) -> Store<Hand> {
        let options = OpenOptions {
            fence: Fence::Required,
            call_budget: None,
            max_state: 1000,
        };
        let (store, _) = Store::open(self, &Fake::config(more), options).unwrap();
        store
    }

    /// Says that this caller sends no more.
    pub fn finish(&self) {
        self.plan.0.lock().unwrap().finished[self.me] = true;
        self.plan.1.notify_all();
    }
}

impl Transport for Hand {
    fn send(&self, request: &HttpRequest<'_>) -> Result<HttpResponse, TransportError> {
        let (plan, changed) = &*self.plan;
        let mut plan = plan.lock().unwrap();
        while plan.next() != Some(self.me) {
            plan = changed.wait(plan).unwrap();
        }
        let answer = self.fake.send(request);
        plan.turns.pop_front();
        changed.notify_all();
        answer
    }
}

impl Clock for Hand {
    fn now(&self) -> Duration {
        self.fake.now()
    }

    fn monotonic(&self) -> Duration {
        self.fake.monotonic()
    }

    fn sleep(&self, duration: Duration) {
        self.fake.sleep(duration);
    }
}

impl Random for Hand {
    fn next_u64(&self) -> u64 {
        self.fake.next_u64()
    }
}

impl Environment for Hand {
    fn variable(&self, name: &str) -> Option<String> {
        self.fake.variable(name)
    }
}

impl Surroundings for Hand {
    fn credentials(&self) -> Option<Credentials> {
        self.fake.credentials()
    }

    fn report(&self, diagnostic: Diagnostic) {
        self.fake.report(diagnostic);
    }
}
