//! The adaptive retry mode's brake: a rate of requests that falls when the service throttles and recovers slowly.
//!
//! Without it, `retry_mode = "adaptive"` would be a word. Constants and steps are those of AWS's SDKs: a cubic curve, as
//! of TCP CUBIC, through the rate at which the last throttling happened.

use std::time::Duration;

/// Weight of the newest half second in the measured rate.
const SMOOTH: f64 = 0.8;
/// What is left of the rate after a throttling.
const BETA: f64 = 0.7;
/// How steep the recovery is.
const SCALE: f64 = 0.4;
/// The lowest rate. Requests a second.
const MIN_FILL_RATE: f64 = 0.5;

/// A bucket of tokens, one for each attempt. Times are seconds on the monotonic clock.
#[derive(Debug)]
pub(crate) struct Pace {
    is_enabled: bool,
    fill_rate: f64,
    capacity: f64,
    tokens: f64,
    /// None: never.
    last_refill: Option<f64>,
    measured_rate: f64,
    last_bucket: f64,
    attempts: f64,
    last_max_rate: f64,
    last_throttle: f64,
}

impl Pace {
    /// No brake until the first throttling.
    pub(crate) fn new(now: Duration) -> Self {
        let now = now.as_secs_f64();
        Self {
            is_enabled: false,
            fill_rate: 0.0,
            capacity: 0.0,
            tokens: 0.0,
            last_refill: None,
            measured_rate: 0.0,
            last_bucket: now.floor(),
            attempts: 0.0,
            last_max_rate: 0.0,
            last_throttle: now,
        }
    }

    /// Takes a token for an attempt. None: go; else how long to wait before asking again.
    pub(crate) fn take(&mut self, now: Duration) -> Option<Duration> {
        if !self.is_enabled {
            return None;
        }
        self.refill(now.as_secs_f64());
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return None;
        }
        let wait = (1.0 - self.tokens) / self.fill_rate;
        // A nanosecond more: what is waited for must not be missed by rounding.
        Some(Duration::from_secs_f64(wait) + Duration::from_nanos(1))
    }

    /// Learns from an attempt that is over.
    pub(crate) fn learn(&mut self, was_throttled: bool, now: Duration) {
        let now = now.as_secs_f64();
        self.measure(now);
        let calculated = if was_throttled {
            let rate = match self.is_enabled {
                true => self.measured_rate.min(self.fill_rate),
                false => self.measured_rate,
            };
            self.last_max_rate = rate;
            self.last_throttle = now;
            self.is_enabled = true;
            BETA * rate
        } else {
            let since = now - self.last_throttle - self.time_to_recover();
            SCALE * since * since * since + self.last_max_rate
        };
        let rate = calculated.min(2.0 * self.measured_rate);
        self.refill(now);
        self.fill_rate = rate.max(MIN_FILL_RATE);
        self.capacity = rate.max(1.0);
        self.tokens = self.tokens.min(self.capacity);
    }

    /// Seconds from a throttling until the rate is back at what it was.
    fn time_to_recover(&self) -> f64 {
        (self.last_max_rate * (1.0 - BETA) / SCALE).cbrt()
    }

    fn measure(&mut self, now: f64) {
        let bucket = (now * 2.0).floor() / 2.0;
        self.attempts += 1.0;
        if bucket > self.last_bucket {
            let rate = self.attempts / (bucket - self.last_bucket);
            self.measured_rate = SMOOTH * rate + (1.0 - SMOOTH) * self.measured_rate;
            self.attempts = 0.0;
            self.last_bucket = bucket;
        }
    }

    fn refill(&mut self, now: f64) {
        if let Some(last) = self.last_refill {
            let filled = self.tokens + (now - last) * self.fill_rate;
            self.tokens = filled.min(self.capacity);
        }
        self.last_refill = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn nothing_is_held_back_before_the_first_throttling() {
        let mut pace = Pace::new(at(5.2));
        for step in 0..100 {
            assert_eq!(pace.take(at(5.2)), None);
            pace.learn(false, at(5.2 + f64::from(step) / 100.0));
        }
    }

    /// Attempts, whether each was throttled, and the rates that the SDKs arrive at.
    #[test]
    fn the_rates_are_those_of_the_sdks() {
        let mut pace = Pace::new(at(0.0));
        for (throttled, now, measured, filled) in [
            (false, 0.2, 0.000_000, 0.500_000),
            (false, 0.4, 0.000_000, 0.500_000),
            (false, 0.6, 4.800_000, 0.500_000),
            (false, 0.8, 4.800_000, 0.500_000),
            (false, 1.0, 4.160_000, 0.500_000),
            (false, 1.2, 4.160_000, 0.691_200),
            (false, 1.4, 4.160_000, 1.097_600),
            (false, 1.6, 5.632_000, 1.638_400),
            (false, 1.8, 5.632_000, 2.332_800),
            (true, 2.0, 4.326_400, 3.028_480),
            (false, 2.2, 4.326_400, 3.486_639),
            (false, 2.4, 4.326_400, 3.821_874),
            (false, 2.6, 5.665_280, 4.053_386),
            (false, 2.8, 5.665_280, 4.200_373),
            (false, 3.0, 4.333_056, 4.282_037),
            (true, 3.2, 4.333_056, 2.997_426),
            (false, 3.4, 4.333_056, 3.452_226),
        ] {
            pace.learn(throttled, at(now));
            assert!(
                (pace.measured_rate - measured).abs() < 1e-6,
                "{now}: {}",
                pace.measured_rate
            );
            assert!(
                (pace.fill_rate - filled).abs() < 1e-6,
                "{now}: {}",
                pace.fill_rate
            );
        }
    }

    #[test]
    fn after_a_throttling_attempts_are_spread_out() {
        let mut pace = Pace::new(at(0.0));
        pace.learn(true, at(0.1));
        let wait = pace.take(at(0.1)).unwrap();
        assert!(
            wait >= at(2.0),
            "one token at half a token a second: {wait:?}"
        );
        assert_eq!(pace.take(at(0.1) + wait), None);
        assert!(pace.take(at(0.1) + wait).is_some());
    }
}
