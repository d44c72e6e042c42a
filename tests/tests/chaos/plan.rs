//! What befalls each request, from one seed.
//!
//! Without a plan that counts requests, a run that found something could not even be run alike.

use cofferdam::dev_store::Fault;
use fastrand::Rng;

/// A request in so many is befallen in calm times.
const CALM: u32 = 15;
/// In a storm.
const STORM: u32 = 3;
/// A storm comes at a request in so many,
const EVERY: u32 = 600;
/// and lasts so many requests.
const LASTS: u32 = 60;
/// At a request in so many a writer dies.
const DEATHS: u32 = 120;

/// What happens at a request.
#[derive(Debug)]
pub enum Event {
    Fault(Fault),
    /// The writer of this number dies.
    Kill(usize),
}

/// One entry for each request, in the order in which they come.
pub struct Plan {
    rng: Rng,
    writers: usize,
    /// Requests until the storm is over.
    storm: u32,
}

impl Plan {
    pub fn new(seed: u64, writers: usize) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            writers,
            storm: 0,
        }
    }

    pub fn next(&mut self) -> Option<Event> {
        let rng = &mut self.rng;
        if rng.u32(..DEATHS) == 0 {
            return Some(Event::Kill(rng.usize(..self.writers)));
        }
        self.storm = match self.storm {
            0 if rng.u32(..EVERY) == 0 => LASTS,
            left => left.saturating_sub(1),
        };
        let one_in = if self.storm > 0 { STORM } else { CALM };
        (rng.u32(..one_in) == 0).then(|| Event::Fault(fault(rng)))
    }
}

fn fault(rng: &mut Rng) -> Fault {
    match rng.u8(..14) {
        0..=2 => Fault::Reset,
        3..=5 => Fault::LoseAnswer,
        6 | 7 => Fault::Throttle,
        8 => Fault::Status {
            status: 503,
            code: "ServiceUnavailable".to_owned(),
        },
        9 => Fault::Status {
            status: 500,
            code: "InternalError".to_owned(),
        },
        10 => Fault::SkewClock {
            seconds: if rng.bool() { 3600 } else { -3600 },
        },
        11 => Fault::DelayRequest {
            ms: rng.u64(1..100),
        },
        12 => Fault::DelayAnswer {
            ms: rng.u64(1..100),
        },
        _ => Fault::TruncateBody {
            after: rng.usize(..200),
        },
    }
}

/// What a fault is called in the figures.
pub fn kind(fault: &Fault) -> String {
    let text = format!("{fault:?}");
    let name = text.split('(').next().unwrap_or_default();
    match fault {
        Fault::Status { status, .. } => format!("{name} {status}"),
        _ => name.to_owned(),
    }
}

#[test]
fn a_seed_replays_its_plan() {
    let plan = |seed| {
        let mut plan = Plan::new(seed, 8);
        (0..5000)
            .map(|_| format!("{:?}", plan.next()))
            .collect::<Vec<_>>()
    };
    assert_eq!(plan(1), plan(1));
    assert_ne!(plan(1), plan(2));
}
