//! Stores that keep the protocol's words and not its promises.
//!
//! Without this module it would take a bad store in the wild to see what a backend does on one.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::faults::Fault;

/// How long a racy store leaves between a condition and its effect.
pub(super) const RACE: Duration = Duration::from_millis(20);

/// How a store misbehaves, all the time. The first three and `Racy` cost states; the others only work.
///
/// Written and read as a name such as `ignore-conditions`, with `=NUMBER` behind it where there is one to choose:
/// `lose-answers=3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Misbehaviour {
    /// DELETE with `If-Match` deletes whatever is there.
    IgnoreConditionalDelete,
    /// No condition of a write counts, neither on objects nor on items.
    IgnoreConditions,
    /// PUT with `If-None-Match: *` replaces what is there.
    IgnoreCreateOnly,
    /// PUT with `If-Match` replaces whatever is there.
    IgnoreIfMatch,
    /// The effect happens and the connection is closed in place of an answer.
    LoseAnswers {
        /// Every how many requests; 0 counts as 1.
        every: u32,
    },
    /// Conditions are checked, others are let in, and then the write happens, on objects and items. One request
    /// at a time is answered right.
    Racy,
    /// A request with a checksum header is answered 400.
    RefuseChecksums,
    /// A write to a bucket with `If-Match` or `If-None-Match` is answered 501.
    RefuseConditions,
    /// The clock is ahead or behind.
    SkewClock {
        /// Seconds; negative: behind.
        seconds: i64,
    },
    /// Listings show the bucket as it was before the newest change to it.
    StaleListing,
    /// In a bucket with versions, PUT with `If-None-Match: *` is answered 412 after a deletion.
    StickyDeleteMarkers,
    /// Requests are answered 503 `SlowDown`, those to tables 400 `ProvisionedThroughputExceededException`.
    Throttle {
        /// Every how many requests; 0 counts as 1.
        every: u32,
    },
}

impl Misbehaviour {
    /// All of them, with the numbers they have when none is given.
    pub const ALL: [Self; 12] = [
        Self::IgnoreConditionalDelete,
        Self::IgnoreConditions,
        Self::IgnoreCreateOnly,
        Self::IgnoreIfMatch,
        Self::LoseAnswers { every: 3 },
        Self::Racy,
        Self::RefuseChecksums,
        Self::RefuseConditions,
        Self::SkewClock { seconds: 3600 },
        Self::StaleListing,
        Self::StickyDeleteMarkers,
        Self::Throttle { every: 3 },
    ];

    /// Its name, without a number.
    pub fn name(self) -> &'static str {
        match self {
            Self::IgnoreConditionalDelete => "ignore-conditional-delete",
            Self::IgnoreConditions => "ignore-conditions",
            Self::IgnoreCreateOnly => "ignore-create-only",
            Self::IgnoreIfMatch => "ignore-if-match",
            Self::LoseAnswers { .. } => "lose-answers",
            Self::Racy => "racy",
            Self::RefuseChecksums => "refuse-checksums",
            Self::RefuseConditions => "refuse-conditions",
            Self::SkewClock { .. } => "skew-clock",
            Self::StaleListing => "stale-listing",
            Self::StickyDeleteMarkers => "sticky-delete-markers",
            Self::Throttle { .. } => "throttle",
        }
    }

    /// The fault that each of the requests it befalls meets.
    pub(super) fn fault(self) -> Fault {
        match self {
            Self::IgnoreConditionalDelete => Fault::IgnoreConditionalDelete,
            Self::IgnoreConditions => Fault::IgnoreConditions,
            Self::IgnoreCreateOnly => Fault::IgnoreCreateOnly,
            Self::IgnoreIfMatch => Fault::IgnoreIfMatch,
            Self::LoseAnswers { .. } => Fault::LoseAnswer,
            Self::Racy => Fault::Race,
            Self::RefuseChecksums => Fault::RefuseChecksums,
            Self::RefuseConditions => Fault::RefuseConditions,
            Self::SkewClock { seconds } => Fault::SkewClock { seconds },
            Self::StaleListing => Fault::StaleListing,
            Self::StickyDeleteMarkers => Fault::StickyDeleteMarkers,
            Self::Throttle { .. } => Fault::Throttle,
        }
    }

    /// Of how many requests it befalls one.
    pub(super) fn every(self) -> u32 {
        match self {
            Self::LoseAnswers { every } | Self::Throttle { every } => every.max(1),
            _ => 1,
        }
    }

    fn number(self) -> Option<i64> {
        match self {
            Self::LoseAnswers { every } | Self::Throttle { every } => Some(every.into()),
            Self::SkewClock { seconds } => Some(seconds),
            _ => None,
        }
    }

    fn with_number(self, number: i64) -> Option<Self> {
        match self {
            Self::LoseAnswers { .. } => {
                let every = number.try_into().ok()?;
                Some(Self::LoseAnswers { every })
            }
            Self::SkewClock { .. } => Some(Self::SkewClock { seconds: number }),
            Self::Throttle { .. } => {
                let every = number.try_into().ok()?;
                Some(Self::Throttle { every })
            }
            _ => None,
        }
    }
}

impl fmt::Display for Misbehaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self.number() {
            Some(number) => write!(f, "={number}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Misbehaviour {
    type Err = UnknownMisbehaviour;

    fn from_str(text: &str) -> Result<Self, UnknownMisbehaviour> {
        let (name, number) = match text.split_once('=') {
            Some((name, number)) => (name, Some(number)),
            None => (text, None),
        };
        let named = Self::ALL.into_iter().find(|it| it.name() == name);
        let chosen = match (named, number) {
            (Some(named), Some(number)) => number.parse().ok().and_then(|it| named.with_number(it)),
            (named, _) => named,
        };
        chosen.ok_or_else(|| UnknownMisbehaviour(text.to_owned()))
    }
}

/// A text names no [`Misbehaviour`].
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is none of {names}, each with =NUMBER where a number stands here", names = names())]
pub struct UnknownMisbehaviour(String);

fn names() -> String {
    let names = Misbehaviour::ALL.map(|it| it.to_string());
    names.join(", ")
}

/// What the store does wrong with one request that it answers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flaws {
    pub(super) ignore_conditional_delete: bool,
    pub(super) ignore_create_only: bool,
    pub(super) ignore_if_match: bool,
    pub(super) ignore_items_conditions: bool,
    /// Conditions are checked in a step of their own, before the effect.
    pub(super) race: bool,
    pub(super) stale_listing: bool,
    pub(super) sticky_delete_markers: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_misbehaviour_is_read_as_it_is_written() {
        for one in Misbehaviour::ALL {
            assert_eq!(one.to_string().parse::<Misbehaviour>().unwrap(), one);
            assert_eq!(one.name().parse::<Misbehaviour>().unwrap(), one);
        }
        let read = |text: &str| text.parse::<Misbehaviour>();
        let behind = Misbehaviour::SkewClock { seconds: -60 };
        assert_eq!(read("skew-clock=-60").unwrap(), behind);
        for wrong in ["", "racy=1", "throttle=", "throttle=-1", "Racy", "be-nice"] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains("ignore-create-only"), "{error}");
        }
    }
}
