//! What a component may offer beside the contract: a look at the store itself.
//!
//! The contract must not change, and this interface may: it is looked up function by function, so that a component
//! without it serves all else. Without it nobody would notice a store that takes a second lock for an update.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentNamedList, ComponentType, Lift, Lower, ResourceAny,
};

use crate::bindings::cofferdam::state_backend::types as wit;
use crate::instance::{Environment, Instance, within};
use crate::observe::{Operation, observed};
use crate::store::{in_instance, worded};
use crate::{Error, ErrorCode, HeldLock, Outcome, Revision, Store, StoreError, convert};

const INTERFACE: &str = "cofferdam:state-backend/inspection@0.1.0";

/// Handles that a round of a probe may take for good: each of its requests does, and 16 writers meet in the bucket twice
/// and in the table once.
const HANDLES_PER_ROUND: u64 = 128;

/// How a store is [probed](Store::probe).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeOptions {
    rounds: u32,
    even_aws: bool,
    wall_clock: Duration,
}

impl Default for ProbeOptions {
    /// The backend's own number of rounds, nothing on AWS, 10 minutes.
    fn default() -> Self {
        Self {
            rounds: 0,
            even_aws: false,
            wall_clock: Duration::from_secs(600),
        }
    }
}

impl ProbeOptions {
    /// The largest number of rounds.
    pub const MAX_ROUNDS: u32 = 1000;

    /// How many races between 16 writers are run, up to [`MAX_ROUNDS`](Self::MAX_ROUNDS). 0: the backend's own
    /// number.
    #[must_use]
    pub fn rounds(mut self, rounds: u32) -> Self {
        self.rounds = rounds.min(Self::MAX_ROUNDS);
        self
    }

    /// Whether AWS's own endpoints are probed as well; otherwise they count as safe.
    #[must_use]
    pub fn even_aws(mut self, even_aws: bool) -> Self {
        self.even_aws = even_aws;
        self
    }

    /// Time that the whole probe may take, instead of what [`Limits`](crate::Limits) give a call.
    #[must_use]
    pub fn wall_clock(mut self, time: Duration) -> Self {
        self.wall_clock = time;
        self
    }
}

/// Whether locking is safe in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Verdict {
    /// Nothing was found that speaks against it. A probe can prove a race, it cannot prove that there is none.
    Safe,
    /// The store ignores a condition, or lets two writers win.
    Unsafe,
    /// It could not be found out.
    #[serde(other)]
    Unknown,
}

/// What came of one check of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CheckOutcome {
    /// The store does not do what locking needs.
    Failed,
    /// The store does.
    Ok,
    /// It works, but a person should know about it.
    Warning,
    /// It was not tried, or could not be.
    #[serde(other)]
    NotTested,
}

/// One check of a probe.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Check {
    /// Stable, for programs.
    pub name: String,
    /// What came of it.
    pub outcome: CheckOutcome,
    /// For a person; may be empty.
    #[serde(default)]
    pub detail: String,
    /// How long it took.
    #[serde(default)]
    pub latency_ms: Option<u64>,
}

/// Whether the bucket keeps versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Versioning {
    /// `enabled`, `suspended`, `off` or `unknown`.
    pub status: String,
    /// What to do about it; none: nothing.
    pub advice: Option<String>,
}

/// What was found out about the DynamoDB table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct DynamoDbTable {
    /// Its name.
    pub table: String,
    /// As DynamoDB words it; none: unknown.
    pub status: Option<String>,
    /// Whether its key is what Terraform needs; none: unknown.
    pub key_schema_ok: Option<bool>,
    /// For a person; none: nothing to say.
    pub detail: Option<String>,
}

/// What a [probe](Store::probe) found.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct ProbeReport {
    /// The conclusion.
    pub verdict: Verdict,
    /// Why, in sentences.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// URL of the store.
    pub endpoint: String,
    /// The bucket.
    pub bucket: String,
    /// Races that were run.
    #[serde(default)]
    pub rounds: u32,
    /// Writers in each of them.
    #[serde(default)]
    pub contenders: u32,
    /// Whether anything was tried out; otherwise the verdict comes from what is known of the endpoint.
    #[serde(default)]
    pub probed: bool,
    /// All checks, in the order in which they ran.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// Whether the bucket keeps versions; none: not asked.
    #[serde(default)]
    pub versioning: Option<Versioning>,
    /// How far the store's clock is ahead of this one.
    #[serde(default)]
    pub clock_skew_seconds: Option<i64>,
    /// Milliseconds that a request of each kind (`put`, `get`, `delete`, `list`) took.
    #[serde(default)]
    pub latency_ms: BTreeMap<String, Option<u64>>,
    /// The table, when the configuration names one.
    #[serde(default)]
    pub dynamodb: Option<DynamoDbTable>,
    /// Lines for a `.tfbackend` file that fit this store.
    #[serde(default)]
    pub suggestions: Vec<String>,
    /// The whole report as the backend wrote it.
    #[serde(skip)]
    pub json: Value,
}

/// One generation of a state, as far as a digest is concerned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Generation {
    /// Which one.
    pub revision: Revision,
    /// Bytes.
    pub size: u64,
    /// MD5 of the bytes, in hex: what the digest should be.
    pub md5: String,
    /// `None`: the bytes do not tell.
    pub serial: Option<u64>,
    /// `None`: the bytes do not tell.
    pub lineage: Option<String>,
}

/// A digest, and what it should be the digest of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DigestReport {
    /// The DynamoDB table.
    pub table: String,
    /// Key of the item that holds the digest.
    pub item: String,
    /// `None`: no digest is recorded, which blocks nobody.
    pub recorded: Option<String>,
    /// The state that is stored; `None`: there is none.
    pub stored: Option<Generation>,
    /// The generation that the recorded digest belongs to, if it is another one that the bucket still keeps.
    pub described: Option<Generation>,
}

impl Store {
    /// Tries out, in the store itself, what the configuration relies on for locking. Works under keys of its own
    /// beside the state and removes them again.
    ///
    /// Its races are between 16 writers: with fewer [`connections`](crate::Limits::connections), of the store or of its
    /// [tenant](crate::Tenant::connections), it never says [`Verdict::Safe`] of what it tried out.
    ///
    /// # Errors
    /// [`ErrorCode::Unsupported`] when the component does not offer it; or what any call may fail with, when nothing
    /// at all could be found out.
    pub async fn probe(&self, options: ProbeOptions) -> Result<ProbeReport, Error> {
        let call = self.probe_in_an_instance(options);
        observed(self.tenant(), Operation::Probe, None, call, |_| None).await
    }

    async fn probe_in_an_instance(&self, options: ProbeOptions) -> Result<ProbeReport, Error> {
        let exports = self.inspection()?;
        let inner = &self.inner;
        let started = Instant::now();
        let _turn = inner.turn(options.wall_clock, 0).await?;
        // An instance of its own: it may take longer, and makes more requests than any other call.
        let mut limits = inner.environment.limits.wall_clock(options.wall_clock);
        limits.handles += u64::from(options.rounds) * HANDLES_PER_ROUND;
        let environment = Arc::new(Environment {
            limits,
            ..Environment::clone(&inner.environment)
        });
        let (mut instance, _) = inner.opened(&environment).await?;
        let call = instance.begin_call();
        let time = options.wall_clock.saturating_sub(started.elapsed());
        let wit_options = WitProbeOptions {
            rounds: options.rounds,
            even_aws: options.even_aws,
        };
        let probing = exports.probe(&mut instance, wit_options);
        let answer = within(time, &call, probing).await?;
        let text = answer.map_err(|error| worded(error, &call.record))?;
        let cap = self.tenant().most_connections().map_or(u64::MAX, u64::from);
        report(&text, limits.connections.min(cap))
    }

    /// Compares a state and its recorded digest, and changes nothing.
    ///
    /// # Errors
    /// [`ErrorCode::Unsupported`] when the configuration names no table or the component does not offer it, or what
    /// any call may fail with.
    pub async fn compare_digest(&self, workspace: &str) -> Result<DigestReport, Error> {
        let call = async {
            let exports = self.inspection()?;
            let load = self.inner.load_of_reading();
            in_instance!(&self.inner, self.time(), load, |instance, resource| exports
                .compare_digest(&mut instance, resource, workspace))
        };
        let (tenant, operation) = (self.tenant(), Operation::CompareDigest);
        let report = observed(tenant, operation, Some(workspace), call, |_| None).await?;
        Ok(DigestReport {
            table: report.table,
            item: report.item,
            recorded: report.recorded,
            stored: report.stored.map(generation),
            described: report.described.map(generation),
        })
    }

    /// Records `digest`, or with `None` removes what is recorded, provided that `expected` is recorded now. `lock`: as
    /// in [`WriteOptions`](crate::WriteOptions).
    ///
    /// # Errors
    /// [`ErrorCode::StateChanged`] when something else is recorded, [`ErrorCode::LockMismatch`],
    /// [`ErrorCode::Unsupported`] as in [`compare_digest`](Self::compare_digest), or what any call may fail with.
    pub async fn record_digest(
        &self,
        workspace: &str,
        expected: Option<&str>,
        digest: Option<&str>,
        lock: Option<&HeldLock>,
    ) -> Result<(), Error> {
        let lock = lock.map(convert::to_held_lock);
        let call = async {
            let exports = self.inspection()?;
            in_instance!(&self.inner, self.time(), |instance, resource| exports
                .record_digest(
                    &mut instance,
                    (resource, workspace, expected, digest, lock.as_ref())
                ))
        };
        let (tenant, operation) = (self.tenant(), Operation::RecordDigest);
        observed(tenant, operation, Some(workspace), call, |_| None).await
    }

    fn inspection(&self) -> Result<&Inspection, Error> {
        self.inner.component.inspection.as_ref().ok_or_else(|| {
            failure(
                ErrorCode::Unsupported,
                "this component does not offer inspection: it cannot probe a store, nor compare or mend digests"
                    .to_owned(),
            )
        })
    }
}

/// Where a component has the functions of the interface.
pub(crate) struct Inspection {
    compare_digest: ComponentExportIndex,
    /// None: the component does not offer this one.
    pub(crate) least_policy: Option<ComponentExportIndex>,
    probe: ComponentExportIndex,
    record_digest: ComponentExportIndex,
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct WitProbeOptions {
    rounds: u32,
    #[component(name = "even-aws")]
    even_aws: bool,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct WitGeneration {
    revision: wit::Revision,
    size: u64,
    md5: String,
    serial: Option<u64>,
    lineage: Option<String>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct WitDigestReport {
    table: String,
    item: String,
    recorded: Option<String>,
    stored: Option<WitGeneration>,
    described: Option<WitGeneration>,
}

type RecordDigest<'a> = (
    ResourceAny,
    &'a str,
    Option<&'a str>,
    Option<&'a str>,
    Option<&'a wit::HeldLock>,
);

type Answer<T, E = wit::Error> = wasmtime::Result<Result<T, E>>;

impl Inspection {
    /// None: the component does not offer it, or not all of it.
    pub(crate) fn of(component: &Component) -> Option<Self> {
        let interface = component.get_export_index(None, INTERFACE)?;
        let function = |name| component.get_export_index(Some(&interface), name);
        Some(Self {
            compare_digest: function("compare-digest")?,
            least_policy: function("least-policy"),
            probe: function("probe")?,
            record_digest: function("record-digest")?,
        })
    }

    async fn probe(&self, instance: &mut Instance, options: WitProbeOptions) -> Answer<String> {
        let store = instance
            .resource
            .ok_or_else(|| wasmtime::Error::msg("the store is not open"))?;
        run(instance, &self.probe, (store, options)).await
    }

    async fn compare_digest(
        &self,
        instance: &mut Instance,
        store: ResourceAny,
        workspace: &str,
    ) -> Answer<WitDigestReport> {
        run(instance, &self.compare_digest, (store, workspace)).await
    }

    async fn record_digest(
        &self,
        instance: &mut Instance,
        arguments: RecordDigest<'_>,
    ) -> Answer<()> {
        run(instance, &self.record_digest, arguments).await
    }
}

/// Runs a function. One of another type than here fails, as a broken rule of the interface.
pub(crate) async fn run<A, T, E>(
    instance: &mut Instance,
    function: &ComponentExportIndex,
    arguments: A,
) -> Answer<T, E>
where
    A: ComponentNamedList + Lower + Send + Sync,
    T: ComponentType + Lift + Send + Sync + 'static,
    E: ComponentType + Lift + Send + Sync + 'static,
{
    let function = instance
        .all_exports
        .get_typed_func::<A, (Result<T, E>,)>(&mut instance.store, function)?;
    let (answer,) = function.call_async(&mut instance.store, arguments).await?;
    Ok(answer)
}

fn generation(it: WitGeneration) -> Generation {
    Generation {
        revision: convert::revision(it.revision),
        size: it.size,
        md5: it.md5,
        serial: it.serial,
        lineage: it.lineage,
    }
}

/// `at_once`: how many requests the probe could have on their way.
fn report(text: &str, at_once: u64) -> Result<ProbeReport, Error> {
    let unreadable = |error: serde_json::Error| {
        failure(
            ErrorCode::Other,
            format!("the component's report about the store cannot be read: {error}"),
        )
    };
    let mut json: Value = serde_json::from_str(text).map_err(unreadable)?;
    let mut report = ProbeReport::deserialize(&json).map_err(unreadable)?;
    // The component cannot know that its writers did not meet.
    if report.rounds > 0 && at_once < u64::from(report.contenders) {
        if report.verdict == Verdict::Safe {
            report.verdict = Verdict::Unknown;
            let reason = format!(
                "A race takes {} writers at once, and this store's limit `connections` or its tenant's cap lets only {at_once} requests be on their way: allow more, and try again.",
                report.contenders
            );
            report.reasons.insert(0, reason);
            json["verdict"] = json!(report.verdict);
            json["reasons"] = json!(report.reasons);
        }
        report.contenders = u32::try_from(at_once).unwrap_or(u32::MAX);
        json["contenders"] = json!(at_once);
    }
    Ok(ProbeReport { json, ..report })
}

pub(crate) fn failure(code: ErrorCode, message: String) -> Error {
    StoreError {
        code,
        message,
        outcome: Outcome::NotDone,
        retryable: false,
        holders: Vec::new(),
        facts: Vec::new(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn whole() -> Value {
        json!({
            "format_version": "1", "verdict": "unsafe", "reasons": ["It is racy."],
            "endpoint": "http://127.0.0.1:9000", "bucket": "b", "rounds": 8, "contenders": 16, "probed": true,
            "checks": [
                {"name": "race", "outcome": "failed", "detail": "2 winners", "latency_ms": 7},
                {"name": "conditional-delete", "outcome": "not-tested", "detail": "", "latency_ms": null},
            ],
            "versioning": {"status": "Disabled", "advice": "Switch it on."},
            "clock_skew_seconds": -2, "latency_ms": {"put": 3, "get": 1, "delete": null, "list": 2},
            "dynamodb": {"table": "locks", "status": "ACTIVE", "key_schema_ok": true, "detail": ""},
            "suggestions": ["use_lockfile = true"],
        })
    }

    #[test]
    fn a_report_is_read_whole_and_kept_as_it_was() {
        let json = whole();
        let report = report(&json.to_string(), 16).unwrap();
        assert_eq!(report.verdict, Verdict::Unsafe);
        assert_eq!(report.checks[0].outcome, CheckOutcome::Failed);
        assert_eq!(report.checks[0].latency_ms, Some(7));
        assert_eq!(report.checks[1].outcome, CheckOutcome::NotTested);
        assert_eq!(report.versioning.unwrap().status, "Disabled");
        assert_eq!(report.latency_ms["delete"], None);
        assert_eq!(report.dynamodb.unwrap().key_schema_ok, Some(true));
        assert_eq!(report.json, json);
    }

    #[test]
    fn what_could_not_be_asked_may_be_null() {
        let mut json = whole();
        json["dynamodb"] =
            json!({"table": "locks", "status": null, "key_schema_ok": null, "detail": null});
        json["clock_skew_seconds"] = Value::Null;
        json["versioning"] = json!({"status": "unknown", "advice": null});
        let report = report(&json.to_string(), 16).unwrap();
        assert_eq!(report.dynamodb.unwrap().status, None);
    }

    #[test]
    fn words_that_this_host_does_not_know_are_never_good_news() {
        let mut json = whole();
        json["verdict"] = "excellent".into();
        json["checks"][0]["outcome"] = "splendid".into();
        json["news"] = 1.into();
        let report = report(&json.to_string(), 16).unwrap();
        assert_eq!(report.verdict, Verdict::Unknown);
        assert_eq!(report.checks[0].outcome, CheckOutcome::NotTested);
    }

    #[test]
    fn writers_that_could_not_meet_prove_no_safety_but_harm() {
        let mut json = whole();
        for (verdict, expected) in [
            ("safe", Verdict::Unknown),
            ("unknown", Verdict::Unknown),
            ("unsafe", Verdict::Unsafe),
        ] {
            json["verdict"] = verdict.into();
            let report = report(&json.to_string(), 15).unwrap();
            assert_eq!((report.verdict, report.contenders), (expected, 15));
            assert_eq!(report.json["verdict"], json!(expected));
            assert_eq!(report.json["reasons"], json!(report.reasons));
        }
        // Where nothing was tried out, nobody had to meet.
        json["verdict"] = "safe".into();
        json["rounds"] = 0.into();
        let report = report(&json.to_string(), 1).unwrap();
        assert_eq!(report.verdict, Verdict::Safe);
    }

    #[test]
    fn what_is_no_report_is_an_error() {
        for text in ["", "[]", "{}", r#"{"verdict": 3}"#] {
            assert_eq!(
                report(text, 16).unwrap_err().code(),
                Some(ErrorCode::Other),
                "{text}"
            );
        }
    }
}
