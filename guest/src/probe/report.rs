//! What a probe found out, and the verdict that follows.
//!
//! The verdict is the worst that any check leaves possible: a probe that forgot one, or took "forbidden" for "fine",
//! would call a store safe on which two writers can hold one lock.

use serde_json::Value;

use crate::json;

/// Whether locks are safe in a store; the worst one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    Safe,
    Unknown,
    Unsafe,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Verdict::Safe => "safe",
            Verdict::Unknown => "unknown",
            Verdict::Unsafe => "unsafe",
        }
    }
}

/// The detail of a check that an earlier one made impossible. That one is the reason.
pub(super) const NOT_REACHED: &str = "Not tried, as it did not get so far.";

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Failed,
    /// Forbidden, out of reach, or out of time. Never taken for `Ok`.
    NotTested,
    Ok,
    Warning,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Outcome::Failed => "failed",
            Outcome::NotTested => "not-tested",
            Outcome::Ok => "ok",
            Outcome::Warning => "warning",
        }
    }
}

struct Check {
    name: &'static str,
    outcome: Outcome,
    /// The best verdict that this leaves.
    verdict: Verdict,
    /// One sentence or more.
    detail: String,
    latency: Option<u64>,
}

/// What the requests of one kind took.
#[derive(Default)]
struct Latency {
    count: u64,
    /// Milliseconds.
    total: u64,
}

/// Collects what is found out.
pub(super) struct Report {
    checks: Vec<Check>,
    latencies: [Latency; 4],
    /// Things that the checks do not show, such as objects that are left.
    pub(super) remarks: Vec<String>,
    pub(super) suggestions: Vec<String>,
    pub(super) endpoint: String,
    pub(super) bucket: String,
    pub(super) rounds: u32,
    pub(super) contenders: usize,
    pub(super) probed: bool,
    /// `enabled`, `suspended`, `off` or `unknown`.
    pub(super) versioning: &'static str,
    pub(super) versioning_advice: Option<String>,
    /// How much later the store's clock is than ours. Seconds.
    pub(super) clock_skew: Option<i64>,
    pub(super) dynamodb: Value,
    /// Of the request that was sent last. Milliseconds.
    last_latency: Option<u64>,
}

/// The kinds of requests whose latency is told.
#[derive(Clone, Copy)]
pub(super) enum Verb {
    Put = 0,
    Get = 1,
    Delete = 2,
    List = 3,
}

impl Report {
    pub(super) fn new(endpoint: String, bucket: String, contenders: usize) -> Self {
        Self {
            checks: Vec::new(),
            latencies: Default::default(),
            remarks: Vec::new(),
            suggestions: Vec::new(),
            endpoint,
            bucket,
            rounds: 0,
            contenders,
            probed: false,
            versioning: "unknown",
            versioning_advice: None,
            clock_skew: None,
            dynamodb: Value::Null,
            last_latency: None,
        }
    }

    /// Notes what one request took. Milliseconds.
    pub(super) fn took(&mut self, verb: Verb, milliseconds: u64) {
        let latency = &mut self.latencies[verb as usize];
        latency.count += 1;
        latency.total += milliseconds;
        self.last_latency = Some(milliseconds);
    }

    pub(super) fn ok(&mut self, name: &'static str, detail: impl Into<String>) {
        self.add(name, Outcome::Ok, Verdict::Safe, detail.into());
    }

    /// Something that the person should know, and that leaves locks safe.
    pub(super) fn warning(&mut self, name: &'static str, detail: impl Into<String>) {
        self.add(name, Outcome::Warning, Verdict::Safe, detail.into());
    }

    pub(super) fn failed(
        &mut self,
        name: &'static str,
        verdict: Verdict,
        detail: impl Into<String>,
    ) {
        self.add(name, Outcome::Failed, verdict, detail.into());
    }

    pub(super) fn not_tested(
        &mut self,
        name: &'static str,
        verdict: Verdict,
        detail: impl Into<String>,
    ) {
        self.add(name, Outcome::NotTested, verdict, detail.into());
    }

    pub(super) fn add(
        &mut self,
        name: &'static str,
        outcome: Outcome,
        verdict: Verdict,
        detail: String,
    ) {
        let latency = self.last_latency.take();
        self.checks.push(Check {
            name,
            outcome,
            verdict,
            detail,
            latency,
        });
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.checks.iter().any(|check| check.name == name)
    }

    pub(super) fn verdict(&self) -> Verdict {
        let verdicts = self.checks.iter().map(|check| check.verdict);
        verdicts.max().unwrap_or(Verdict::Safe)
    }

    /// As [`Store::probe`](crate::store::Store::probe) documents it.
    pub(super) fn to_json(&self) -> String {
        let mut reasons: Vec<&str> = Vec::new();
        for verdict in [Verdict::Unsafe, Verdict::Unknown, Verdict::Safe] {
            for check in &self.checks {
                let is_told = check.outcome != Outcome::Ok
                    && check.verdict == verdict
                    && check.detail != NOT_REACHED;
                if is_told && !reasons.contains(&check.detail.as_str()) {
                    reasons.push(&check.detail);
                }
            }
        }
        reasons.extend(self.remarks.iter().map(String::as_str));
        let checks: Vec<_> = self
            .checks
            .iter()
            .map(|check| {
                json::object([
                    ("name", check.name.into()),
                    ("outcome", check.outcome.name().into()),
                    ("detail", check.detail.as_str().into()),
                    ("latency_ms", check.latency.into()),
                ])
            })
            .collect();
        let mean = |verb: Verb| {
            let latency = &self.latencies[verb as usize];
            Value::from(latency.total.checked_div(latency.count))
        };
        let versioning = [
            ("status", self.versioning.into()),
            ("advice", self.versioning_advice.clone().into()),
        ];
        let latency = [
            ("put", mean(Verb::Put)),
            ("get", mean(Verb::Get)),
            ("delete", mean(Verb::Delete)),
            ("list", mean(Verb::List)),
        ];
        json::text(&json::object([
            ("format_version", "1".into()),
            ("verdict", self.verdict().name().into()),
            ("reasons", reasons.into()),
            ("endpoint", self.endpoint.as_str().into()),
            ("bucket", self.bucket.as_str().into()),
            ("rounds", self.rounds.into()),
            ("contenders", self.contenders.into()),
            ("probed", self.probed.into()),
            ("checks", checks.into()),
            ("versioning", json::object(versioning)),
            ("clock_skew_seconds", self.clock_skew.into()),
            ("latency_ms", json::object(latency)),
            ("dynamodb", self.dynamodb.clone()),
            ("suggestions", self.suggestions.clone().into()),
        ]))
    }
}
