//! What one call may use up, as data. Every limit has a default, and none can be switched off: neither by leaving it out
//! nor by a zero.

use std::time::Duration;

use wasmtime::ResourceLimiter;

use crate::{Limit, parse_go_duration};

/// What one call may use up.
///
/// Each limit has a method here and a name for operators: [`with`](Self::with) reads `NAME=VALUE`, and
/// [`documented`](Self::documented) lists names, defaults and meanings.
///
/// ```
/// use std::time::Duration;
/// use cofferdam::Limits;
/// let limits = Limits::default().wall_clock(Duration::from_secs(30));
/// assert_eq!(limits, Limits::default().with("wall-clock=30s")?);
/// # Ok::<(), cofferdam::LimitsError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub(crate) answer: u64,
    pub(crate) concurrent_calls: u64,
    pub(crate) connections: u64,
    pub(crate) cpu: Duration,
    pub(crate) handles: u64,
    pub(crate) headers: u64,
    pub(crate) instances: u64,
    pub(crate) memories: u64,
    pub(crate) memory: u64,
    pub(crate) random: u64,
    /// None: [`BESIDE_STATE`] more than a state.
    request: Option<u64>,
    /// As `request`.
    response: Option<u64>,
    pub(crate) state: u64,
    pub(crate) table_elements: u64,
    pub(crate) tables: u64,
    pub(crate) wall_clock: Duration,
}

impl Default for Limits {
    /// 64 calls at once, 30 s of processor time, 256 MiB of memory, states of 100 MB, 5 minutes; the rest as
    /// [`documented`](Self::documented) tells.
    fn default() -> Self {
        Self {
            answer: 8 << 20,
            concurrent_calls: 64,
            connections: 64,
            cpu: Duration::from_secs(30),
            // What a component made by an ordinary toolchain needs, with room to spare; as are the counts below.
            // Together they bound what the host keeps for an instance besides its memory.
            handles: 2_000,
            headers: 128 << 10,
            instances: 64,
            memories: 8,
            memory: 256 << 20,
            random: 64 << 10,
            request: None,
            response: None,
            state: 100_000_000,
            table_elements: 20_000,
            tables: 32,
            wall_clock: Duration::from_secs(300),
        }
    }
}

/// What may come beside a state, in one body or in one crossing: an error, a listing, revisions.
const BESIDE_STATE: u64 = 4 << 20;

/// One limit, as operators write it.
struct Row {
    name: &'static str,
    kind: Kind,
    /// Below this nothing works.
    least: u64,
    what: &'static str,
}

/// What is counted, and where it stands.
enum Kind {
    Bytes(fn(&mut Limits) -> &mut u64),
    BytesBesideState(fn(&mut Limits) -> &mut Option<u64>),
    Count(fn(&mut Limits) -> &mut u64),
    Time(fn(&mut Limits) -> &mut Duration),
}

use Kind::{Bytes, BytesBesideState, Count, Time};

#[rustfmt::skip]
const ROWS: &[Row] = &[
    row("answer", Bytes(|it| &mut it.answer), 2 << 20, "what the component may hand to the host at once, a state that is read apart"),
    row("calls", Count(|it| &mut it.concurrent_calls), 1, "calls of one store at once; further ones wait"),
    row("connections", Count(|it| &mut it.connections), 1, "requests of one store on their way at once, each with a connection of its own; further ones wait"),
    row("cpu", Time(|it| &mut it.cpu), 1, "processor time of one call, in steps of 10 ms"),
    row("handles", Count(|it| &mut it.handles), 256, "resources that one instance may hold: streams, requests, timers"),
    row("headers", Bytes(|it| &mut it.headers), 4 << 10, "the headers of one request, in memory, or of one response, as sent"),
    row("instances", Count(|it| &mut it.instances), 1, "core instances that a component may be made of"),
    row("memories", Count(|it| &mut it.memories), 1, "memories of one instance"),
    row("memory", Bytes(|it| &mut it.memory), 1 << 20, "all memories of one instance together; a state needs about its own size"),
    row("random", Bytes(|it| &mut it.random), 64, "random bytes that one question is answered with"),
    row("request", BytesBesideState(|it| &mut it.request), 1 << 10, "the body of one request"),
    row("response", BytesBesideState(|it| &mut it.response), 1 << 10, "the body of one response"),
    row("state", Bytes(|it| &mut it.state), 1, "the largest state to read or write"),
    row("table-elements", Count(|it| &mut it.table_elements), 1, "elements of one table of functions"),
    row("tables", Count(|it| &mut it.tables), 1, "tables of one instance"),
    row("wall-clock", Time(|it| &mut it.wall_clock), 1, "time of one call, waiting included"),
];

const fn row(name: &'static str, kind: Kind, least: u64, what: &'static str) -> Row {
    Row {
        name,
        kind,
        least,
        what,
    }
}

/// One limit, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DocumentedLimit {
    /// As it is written in `NAME=VALUE`.
    pub name: &'static str,
    /// Its default.
    pub default: String,
    /// What it bounds.
    pub what: &'static str,
}

/// Why a text sets no limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` sets no limit: {reason}")]
pub struct LimitsError {
    text: String,
    reason: String,
}

impl Limits {
    /// These limits with one of them set as in `memory=512MiB`. Values are bytes (a number, with `KB`, `MB`, `GB`, `KiB`,
    /// `MiB` or `GiB`), durations (`30s`, `1m30s`) or counts.
    ///
    /// # Errors
    /// When there is no such limit, or the value is no such thing or so small that nothing could work. There is no value
    /// for "without limit".
    pub fn with(mut self, text: &str) -> Result<Self, LimitsError> {
        let fail = |reason: String| LimitsError {
            text: text.to_owned(),
            reason,
        };
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| fail("write NAME=VALUE, such as `memory=512MiB`".to_owned()))?;
        let (name, value) = (name.trim(), value.trim());
        let row = ROWS.iter().find(|row| row.name == name).ok_or_else(|| {
            let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
            fail(format!("the limits are {}", names.join(", ")))
        })?;
        let parsed = match row.kind {
            Bytes(_) | BytesBesideState(_) => bytes(value)
                .ok_or_else(|| fail("it is a number of bytes, such as `512MiB`".to_owned()))?,
            Count(_) => value
                .parse()
                .map_err(|_| fail("it is a whole number".to_owned()))?,
            Time(_) => {
                let time = parse_go_duration(value).map_err(|error| fail(error.to_string()))?;
                u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
            }
        };
        if parsed < row.least {
            let least = row.shown(row.least);
            return Err(fail(format!("it cannot be less than {least}")));
        }
        match row.kind {
            Bytes(field) | Count(field) => *field(&mut self) = parsed,
            BytesBesideState(field) => *field(&mut self) = Some(parsed),
            Time(field) => *field(&mut self) = Duration::from_nanos(parsed),
        }
        Ok(self)
    }

    /// Every limit with its default and its meaning, in the order of the names.
    pub fn documented() -> impl Iterator<Item = DocumentedLimit> {
        ROWS.iter().map(|row| {
            let mut limits = Self::default();
            let default = match row.kind {
                Bytes(field) | Count(field) => row.shown(*field(&mut limits)),
                BytesBesideState(_) => format!("`state` + {}", row.shown(BESIDE_STATE)),
                Time(field) => {
                    let time = field(&mut limits).as_nanos();
                    row.shown(u64::try_from(time).unwrap_or(u64::MAX))
                }
            };
            DocumentedLimit {
                name: row.name,
                default,
                what: row.what,
            }
        })
    }

    /// What the component may hand to the host at once, in bytes, a state that is read apart. At least 2 MiB, the largest
    /// piece of a body and some. Default 8 MiB.
    #[must_use]
    pub fn answer(mut self, bytes: u64) -> Self {
        self.answer = bytes.max(2 << 20);
        self
    }

    /// Calls of one store that run at once; further ones wait. At least 1. Default 64.
    #[must_use]
    pub fn concurrent_calls(mut self, calls: usize) -> Self {
        self.concurrent_calls = calls.max(1) as u64;
        self
    }

    /// Requests of one store that are on their way at once, each with a connection of its own; further ones wait. At least
    /// 1. Default 64.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.max(1) as u64;
        self
    }

    /// Processor time of one call, in steps of 10 ms. Default 30 s.
    #[must_use]
    pub fn cpu(mut self, time: Duration) -> Self {
        self.cpu = time;
        self
    }

    /// Resources that one instance may hold: streams, requests, timers. At least 256. Default 2000.
    #[must_use]
    pub fn handles(mut self, handles: usize) -> Self {
        self.handles = handles.max(256) as u64;
        self
    }

    /// The headers of one request, as they lie in memory, or of one response, as they are sent, in bytes. At least 4 KiB.
    /// Default 128 KiB.
    #[must_use]
    pub fn headers(mut self, bytes: u64) -> Self {
        self.headers = bytes.max(4 << 10);
        self
    }

    /// Memory of one instance, in bytes. A state needs about its own size. Default 256 MiB.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// The body of one request, in bytes. Default: a [state](Self::state) and 4 MiB.
    #[must_use]
    pub fn request(mut self, bytes: u64) -> Self {
        self.request = Some(bytes);
        self
    }

    /// The body of one response, in bytes. Default: a [state](Self::state) and 4 MiB.
    #[must_use]
    pub fn response(mut self, bytes: u64) -> Self {
        self.response = Some(bytes);
        self
    }

    /// The largest state to read or write, in bytes. Default 100 MB (100,000,000).
    #[must_use]
    pub fn state(mut self, bytes: u64) -> Self {
        self.state = bytes;
        self
    }

    /// Time that one call may take, waiting included. Default 5 minutes.
    #[must_use]
    pub fn wall_clock(mut self, time: Duration) -> Self {
        self.wall_clock = time;
        self
    }

    /// What the backend is told: it should give up a little earlier and say how it stands.
    pub(crate) fn call_budget(&self) -> Duration {
        self.wall_clock - self.wall_clock.min(Duration::from_secs(50)) / 10
    }

    /// Bytes that the component may hand to the host when it answers a read.
    pub(crate) fn read_answer(&self) -> u64 {
        self.answer.max(self.beside_state())
    }

    pub(crate) fn max_request(&self) -> u64 {
        self.request.unwrap_or_else(|| self.beside_state())
    }

    pub(crate) fn max_response(&self) -> u64 {
        self.response.unwrap_or_else(|| self.beside_state())
    }

    fn beside_state(&self) -> u64 {
        self.state.saturating_add(BESIDE_STATE)
    }
}

/// A limit as the engine and the runtime count.
pub(crate) fn count(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

impl Row {
    fn shown(&self, value: u64) -> String {
        match self.kind {
            Bytes(_) | BytesBesideState(_) => {
                let units = [("MiB", 1_u64 << 20), ("MB", 1_000_000), ("KiB", 1 << 10)];
                let whole = units
                    .iter()
                    .find(|unit| value >= unit.1 && value.is_multiple_of(unit.1));
                whole.map_or_else(
                    || format!("{value} bytes"),
                    |(unit, size)| format!("{} {unit}", value / size),
                )
            }
            Count(_) => value.to_string(),
            Time(_) if value < 1_000_000_000 => format!("{value} ns"),
            Time(_) => format!("{} s", value / 1_000_000_000),
        }
    }
}

/// A number of bytes, with or without a unit.
fn bytes(text: &str) -> Option<u64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit: u64 = match unit.trim_start() {
        "" => 1,
        "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// Counts what one instance takes of the engine.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) limits: Limits,
    /// Bytes of memory.
    pub(crate) memory: u64,
}

/// Carries a [`Limit`] through the engine, which knows only its own errors.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct LimitReached(pub(crate) Limit);

impl ResourceLimiter for Account {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self
            .memory
            .saturating_sub(current as u64)
            .saturating_add(desired as u64);
        if total > self.limits.memory {
            return Err(wasmtime::Error::new(LimitReached(Limit::Memory(
                self.limits.memory,
            ))));
        }
        self.memory = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired as u64 > self.limits.table_elements {
            return Err(wasmtime::Error::new(LimitReached(Limit::TableElements(
                self.limits.table_elements,
            ))));
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        count(self.limits.instances)
    }

    fn tables(&self) -> usize {
        count(self.limits.tables)
    }

    fn memories(&self) -> usize {
        count(self.limits.memories)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_has_a_name_and_can_be_set_by_it() {
        for row in ROWS {
            let value = match row.kind {
                Bytes(_) | BytesBesideState(_) => "77MiB",
                Count(_) => "777",
                Time(_) => "77s",
            };
            let limits = Limits::default()
                .with(&format!("{}={value}", row.name))
                .unwrap();
            assert_ne!(limits, Limits::default(), "{}", row.name);
            assert!(!row.what.is_empty());
        }
        let sorted = ROWS.windows(2).all(|pair| pair[0].name < pair[1].name);
        assert!(sorted, "by name");
    }

    #[test]
    fn values_have_units() {
        let memory = |text: &str| Limits::default().with(&format!("memory={text}"));
        for (text, bytes) in [
            ("2000000", 2_000_000),
            ("2MB", 2_000_000),
            ("2 MiB", 2 << 20),
            ("1GiB", 1 << 30),
        ] {
            assert_eq!(memory(text).unwrap().memory, bytes, "{text}");
        }
        let limits = Limits::default().with("wall-clock = 1m30s").unwrap();
        assert_eq!(limits.wall_clock, Duration::from_secs(90));
    }

    #[test]
    fn no_value_takes_a_limit_away() {
        for text in [
            "memory=0",
            "memory=-1",
            "memory=unlimited",
            "memory=",
            "memory",
            "memory=99999999999GiB",
            "wall-clock=0",
            "wall-clock=30",
            "calls=0",
            "calls=1.5",
            "cores=1",
            "",
        ] {
            let error = Limits::default().with(text).unwrap_err();
            assert!(
                error.to_string().contains("sets no limit"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn bodies_may_be_as_large_as_a_state_and_some_unless_told_otherwise() {
        let limits = Limits::default().state(500 << 20);
        assert_eq!(limits.max_request(), 504 << 20);
        assert_eq!(limits.response(1 << 20).max_response(), 1 << 20);
        assert_eq!(limits.read_answer(), 504 << 20);
    }
}
