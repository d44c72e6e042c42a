//! The verdict: a pure function of what the store recorded and of what the writers were told.
//!
//! Without a judge apart from the writers, they would vouch for themselves; and without planted violations (below) nobody
//! would know that it can find any.

use std::collections::{BTreeMap, BTreeSet};

/// A run, once it is over.
#[derive(Clone, Default)]
pub struct Recorded {
    pub states: Vec<StateRecord>,
    /// What the writers were told, in the order in which they were.
    pub told: Vec<Told>,
}

/// The history of a state and of its lock.
#[derive(Clone, Default)]
pub struct StateRecord {
    pub name: String,
    pub revisions: Vec<Stored>,
    /// Each place of the lock.
    pub locks: Vec<Place>,
}

/// A revision, or a deletion.
#[derive(Clone)]
pub struct Stored {
    /// The place in the order of the store's effects.
    pub sequence: u64,
    pub content: Option<Content>,
}

/// What stands in a revision. Serials count from 1, and a first revision has no previous one.
#[derive(Clone, PartialEq)]
pub struct Content {
    pub hash: String,
    pub serial: u64,
    pub previous: Option<String>,
    /// Which write it is, of all that were ever tried.
    pub write: String,
}

/// One place of a lock, over time.
#[derive(Clone)]
pub struct Place {
    pub name: &'static str,
    /// Who holds it from one effect to the next.
    pub steps: Vec<(u64, Option<String>)>,
}

/// What a writer was told. `state`: the index of the record.
#[derive(Clone, Debug)]
pub enum Told {
    /// It does not count on the lock any more: it is about to release it, or it died.
    Gives { state: usize, holder: String },
    /// The lock is its own.
    Took { state: usize, holder: String },
    /// The write is stored. `under`: whose lock it was made under.
    Wrote {
        state: usize,
        write: String,
        under: Option<String>,
    },
}

/// A promise that was broken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Violation {
    Deleted {
        state: String,
    },
    Forked {
        state: String,
        serial: u64,
    },
    HeldTwice {
        state: String,
        by: [String; 2],
    },
    LostWrite {
        state: String,
        write: String,
    },
    WithoutLock {
        state: String,
        place: &'static str,
        write: String,
    },
}

/// All that is wrong.
pub fn judge(recorded: &Recorded) -> Vec<Violation> {
    let mut violations = Vec::new();
    for state in &recorded.states {
        chain(state, &mut violations);
        for place in &state.locks {
            one_holder(&state.name, place, &mut violations);
        }
    }
    claims(recorded, &mut violations);
    for told in &recorded.told {
        if let Told::Wrote {
            state,
            write,
            under,
        } = told
        {
            let state = &recorded.states[*state];
            kept(state, write, under.as_deref(), &mut violations);
        }
    }
    violations
}

/// Each revision follows the one before it.
fn chain(state: &StateRecord, violations: &mut Vec<Violation>) {
    let mut last: Option<&Content> = None;
    for stored in &state.revisions {
        let Some(content) = &stored.content else {
            violations.push(Violation::Deleted {
                state: state.name.clone(),
            });
            continue;
        };
        let follows = content.serial == last.map_or(1, |last| last.serial + 1)
            && content.previous.as_ref() == last.map(|last| &last.hash);
        if !follows {
            violations.push(Violation::Forked {
                state: state.name.clone(),
                serial: content.serial,
            });
        }
        last = Some(content);
    }
}

/// A place passes from one holder to another only by way of nobody.
fn one_holder(state: &str, place: &Place, violations: &mut Vec<Violation>) {
    for pair in place.steps.windows(2) {
        if let [(_, Some(one)), (_, Some(other))] = pair
            && one != other
        {
            violations.push(Violation::HeldTwice {
                state: state.to_owned(),
                by: [one.clone(), other.clone()],
            });
        }
    }
}

/// No two writers count on the same lock at a time.
fn claims(recorded: &Recorded, violations: &mut Vec<Violation>) {
    let mut holders: BTreeMap<usize, BTreeSet<&String>> = BTreeMap::new();
    for told in &recorded.told {
        match told {
            Told::Took { state, holder } => {
                let others = holders.entry(*state).or_default();
                violations.extend(others.iter().map(|other| Violation::HeldTwice {
                    state: recorded.states[*state].name.clone(),
                    by: [(*other).clone(), holder.clone()],
                }));
                others.insert(holder);
            }
            Told::Gives { state, holder } => {
                holders.entry(*state).or_default().remove(holder);
            }
            Told::Wrote { .. } => {}
        }
    }
}

/// An acknowledged write is in the history, and at its place its writer held the lock, wherever that has to be.
fn kept(state: &StateRecord, write: &str, under: Option<&str>, violations: &mut Vec<Violation>) {
    let is_it = |stored: &&Stored| {
        let content = stored.content.as_ref();
        content.is_some_and(|content| content.write == write)
    };
    let Some(stored) = state.revisions.iter().find(is_it) else {
        violations.push(Violation::LostWrite {
            state: state.name.clone(),
            write: write.to_owned(),
        });
        return;
    };
    let Some(holder) = under else { return };
    for place in &state.locks {
        let later = place
            .steps
            .partition_point(|(sequence, _)| *sequence < stored.sequence);
        let held = later
            .checked_sub(1)
            .and_then(|at| place.steps[at].1.as_deref());
        if held != Some(holder) {
            violations.push(Violation::WithoutLock {
                state: state.name.clone(),
                place: place.name,
                write: write.to_owned(),
            });
        }
    }
}

/// A run of two writes under a lock in one place, by `a` and then by `b`, in which all is well.
fn sound() -> Recorded {
    let stored = |sequence, serial: u64, previous: Option<&str>, write: &str| Stored {
        sequence,
        content: Some(Content {
            hash: format!("hash {serial}"),
            serial,
            previous: previous.map(str::to_owned),
            write: write.to_owned(),
        }),
    };
    let took = |holder: &str| Told::Took {
        state: 0,
        holder: holder.to_owned(),
    };
    let gives = |holder: &str| Told::Gives {
        state: 0,
        holder: holder.to_owned(),
    };
    let wrote = |write: &str, holder: &str| Told::Wrote {
        state: 0,
        write: write.to_owned(),
        under: Some(holder.to_owned()),
    };
    let a = Some("a".to_owned());
    let b = Some("b".to_owned());
    Recorded {
        states: vec![StateRecord {
            name: "state".to_owned(),
            revisions: vec![
                stored(2, 1, None, "a 1"),
                stored(5, 2, Some("hash 1"), "b 1"),
            ],
            locks: vec![Place {
                name: "s3",
                steps: vec![(1, a), (3, None), (4, b), (6, None)],
            }],
        }],
        told: vec![
            took("a"),
            wrote("a 1", "a"),
            gives("a"),
            took("b"),
            wrote("b 1", "b"),
            gives("b"),
        ],
    }
}

#[test]
fn nothing_is_found_where_all_is_well() {
    assert_eq!(judge(&sound()), []);
}

#[test]
fn a_lost_acknowledged_write_is_found() {
    let mut recorded = sound();
    recorded.states[0].revisions.pop();
    let violation = Violation::LostWrite {
        state: "state".to_owned(),
        write: "b 1".to_owned(),
    };
    assert_eq!(judge(&recorded), [violation]);
}

#[test]
fn a_fork_is_found() {
    let mut recorded = sound();
    let mut fork = recorded.states[0].revisions[1].clone();
    fork.sequence = 7;
    if let Some(content) = &mut fork.content {
        content.hash = "another".to_owned();
        content.write = "c 1".to_owned();
    }
    recorded.states[0].revisions.push(fork);
    let violation = Violation::Forked {
        state: "state".to_owned(),
        serial: 2,
    };
    assert_eq!(judge(&recorded), [violation]);
}

#[test]
fn a_revision_made_of_another_than_the_one_before_it_is_found() {
    let mut recorded = sound();
    if let Some(content) = &mut recorded.states[0].revisions[1].content {
        content.previous = Some("hash 0".to_owned());
    }
    let violation = Violation::Forked {
        state: "state".to_owned(),
        serial: 2,
    };
    assert_eq!(judge(&recorded), [violation]);
}

#[test]
fn a_deleted_state_is_found() {
    let mut recorded = sound();
    recorded.states[0].revisions.push(Stored {
        sequence: 9,
        content: None,
    });
    let violation = Violation::Deleted {
        state: "state".to_owned(),
    };
    assert_eq!(judge(&recorded), [violation]);
}

#[test]
fn a_lock_that_passes_to_another_without_a_release_is_found() {
    let mut recorded = sound();
    recorded.states[0].locks[0].steps.remove(1);
    let violation = Violation::HeldTwice {
        state: "state".to_owned(),
        by: ["a".to_owned(), "b".to_owned()],
    };
    assert_eq!(judge(&recorded), [violation]);
}

#[test]
fn two_who_count_on_one_lock_are_found_whatever_the_store_says() {
    let mut recorded = sound();
    recorded.told.swap(2, 3);
    let violation = Violation::HeldTwice {
        state: "state".to_owned(),
        by: ["a".to_owned(), "b".to_owned()],
    };
    assert_eq!(judge(&recorded), [violation]);
}

#[test]
fn a_write_after_its_lock_was_released_is_found() {
    let mut recorded = sound();
    recorded.states[0].locks[0].steps[3].0 = 5;
    recorded.states[0].revisions[1].sequence = 6;
    let violation = Violation::WithoutLock {
        state: "state".to_owned(),
        place: "s3",
        write: "b 1".to_owned(),
    };
    assert_eq!(judge(&recorded), [violation]);
}
