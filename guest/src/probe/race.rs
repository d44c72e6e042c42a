//! Many writers at once, of whom one may win.
//!
//! A store that checks and then writes is right one at a time and wrong under load: without a race it passes for safe.

use crate::aws::retry::Cause;
use crate::operation::Operation;
use crate::platform::Platform;
use crate::s3::{Condition, Kind};

use super::report::Verdict;
use super::{CONTENDERS, Probe};
use crate::s3::tag;

/// A race counts when as many contenders were judged at all, and not merely sent away by a store under load.
const QUORUM: usize = CONTENDERS / 2;

/// How many races may come to nothing before it is given up.
const MAX_VOID: u32 = 4;

/// How a race ended.
pub(super) enum Race {
    /// Several took effect, or none that was told so. Why that is so.
    Lost(String),
    /// Exactly one won.
    Won,
    /// Too few took part; what the store said to one who did not.
    Void(Option<Cause>),
}

impl<P: Platform> Probe<'_, P> {
    /// Races to create one object.
    pub(super) fn race_to_create(&mut self) {
        const NAME: &str = "one-creator-wins";
        self.race(NAME, "If-None-Match: *", &mut |probe| {
            let key = probe.fresh_key();
            let bodies = probe.bodies();
            let answers = probe.put_all(&key, &bodies, Condition::Absent);
            let stored = probe.stored(&key).map_err(|failed| failed.failure.cause)?;
            let found = stored.map(|stored| stored.body);
            let race = judge(
                &answers,
                bodies.iter().position(|it| Some(it) == found.as_ref()),
            );
            // Less to clean up if it ends before its time.
            let _ = probe.delete(&key, None);
            Ok(race)
        });
    }

    /// Races to replace one object.
    pub(super) fn race_to_replace(&mut self) {
        const NAME: &str = "one-replacer-wins";
        let (key, first) = (self.fresh_key(), self.fresh_body());
        let stored = self.insist(|probe| probe.put(&key, Kind::Lock, &first, Condition::Anything));
        let mut current = match stored {
            Ok(answer) => tag(&answer),
            Err(cause) => {
                let told = self.told(Operation::PutObject, &key, &cause);
                return self.leave_open(NAME, told);
            }
        };
        self.race(NAME, "If-Match", &mut |probe| {
            let bodies = probe.bodies();
            let tag = current.clone().unwrap_or_default();
            let answers = probe.put_all(&key, &bodies, Condition::Tag(&tag));
            let stored = probe.stored(&key).map_err(|failed| failed.failure.cause)?;
            let found = stored.as_ref().map(|stored| &stored.body);
            let race = judge(&answers, bodies.iter().position(|it| Some(it) == found));
            current = stored.and_then(|stored| stored.tag);
            Ok(race)
        });
    }

    /// Runs races of one kind and tells how they ended.
    pub(super) fn race(
        &mut self,
        name: &'static str,
        condition: &str,
        run: &mut dyn FnMut(&mut Self) -> Result<Race, Cause>,
    ) {
        let mut done = 0;
        let mut void = 0;
        let mut why = None;
        while done < self.rounds && void < MAX_VOID && self.has_time() {
            match run(self) {
                Ok(Race::Won) => done += 1,
                Ok(Race::Lost(how)) => {
                    let round = done + 1;
                    let detail = format!(
                        "{how} (round {round}, {CONTENDERS} writers at once with {condition}): \
                         two writers could hold the same lock."
                    );
                    return self.find_race(name, &detail);
                }
                Ok(Race::Void(cause)) => {
                    void += 1;
                    why = cause.or(why);
                }
                Err(cause) => {
                    void += 1;
                    why = Some(cause);
                }
            }
        }
        if done == self.rounds {
            let detail = format!(
                "{CONTENDERS} writers at once with {condition}, {done} times: one of them won \
                 each time. A race can be proved by trying, its absence cannot."
            );
            return self.report.ok(name, detail);
        }
        let mut told = format!("Only {done} of {} races could be run", self.rounds);
        match why {
            Some(cause) => {
                let stem = self.stem.clone();
                let words = self.told(Operation::PutObject, &stem, &cause);
                told.push_str(&format!(": {words}"));
            }
            None => told.push_str(": the time of this call ran out, or the store let nobody win."),
        }
        self.leave_open(name, told);
    }

    fn find_race(&mut self, name: &'static str, detail: &str) {
        if name.starts_with("table") {
            self.report.failed(name, Verdict::Unsafe, detail);
        } else {
            self.find(name, detail);
        }
    }

    pub(super) fn bodies(&mut self) -> Vec<String> {
        (0..CONTENDERS).map(|_| self.fresh_body()).collect()
    }
}

/// Judges a race by what each contender was told, and by whose bytes are stored.
pub(super) fn judge<A>(answers: &[Result<A, Cause>], stored: Option<usize>) -> Race {
    let winners: Vec<_> = (0..answers.len())
        .filter(|it| answers[*it].is_ok())
        .collect();
    let was_refused = |answer: &Result<A, Cause>| match answer {
        Err(Cause::Store(error)) => error.is_failed_condition() || error.is_conflict(),
        _ => false,
    };
    let refused = answers.iter().filter(|it| was_refused(it)).count();
    match (winners.as_slice(), stored) {
        ([_, _, ..], _) => Race::Lost(format!("The store is racy: {} writers won", winners.len())),
        ([winner], Some(stored)) if *winner != stored => Race::Lost(
            "The store is racy: one writer won, and what another one wrote is stored".to_owned(),
        ),
        ([_], None) => {
            Race::Lost("The store told a writer that it had won, and stored nothing".to_owned())
        }
        // Whose answer was lost, or a refusal of its own repetition, has won all the same.
        (_, Some(_)) if winners.len() + refused >= QUORUM => Race::Won,
        _ => Race::Void(answers.iter().find_map(|answer| match answer {
            Err(cause) if !was_refused(answer) => Some(cause.clone()),
            _ => None,
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::error::StoreError;
    use crate::platform::TransportError;

    fn refused() -> Result<(), Cause> {
        Err(Cause::Store(Box::new(StoreError {
            status: 412,
            ..StoreError::default()
        })))
    }

    fn lost() -> Result<(), Cause> {
        Err(Cause::Transport(TransportError::Broken("reset".to_owned())))
    }

    /// Sixteen contenders: the first ones as given, all others refused.
    fn among(first: impl IntoIterator<Item = Result<(), Cause>>) -> Vec<Result<(), Cause>> {
        let mut all: Vec<_> = first.into_iter().collect();
        while all.len() < CONTENDERS {
            all.push(refused());
        }
        all
    }

    #[test]
    fn one_who_was_told_so_or_whose_answer_was_lost_wins() {
        for (first, stored) in [
            (vec![Ok(())], 0),
            (vec![refused(), Ok(()), lost()], 1),
            (vec![lost(), lost()], 1),
            (vec![refused()], 0),
        ] {
            assert!(matches!(judge(&among(first), Some(stored)), Race::Won));
        }
    }

    #[test]
    fn two_who_took_effect_are_a_race() {
        for (first, stored) in [
            (vec![Ok(()), Ok(())], Some(0)),
            (vec![Ok(()), lost()], Some(1)),
            (vec![Ok(())], Some(7)),
            (vec![Ok(())], None),
        ] {
            assert!(matches!(judge(&among(first), stored), Race::Lost(_)));
        }
    }

    #[test]
    fn a_race_without_contenders_counts_for_nothing() {
        let mut all = vec![Ok(())];
        all.extend((1..CONTENDERS).map(|_| lost()));
        assert!(matches!(judge(&all, Some(0)), Race::Void(Some(_))));
        assert!(matches!(judge(&among([]), None), Race::Void(None)));
    }
}
