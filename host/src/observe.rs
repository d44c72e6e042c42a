//! What an operator sees of each call: a `tracing` span, and counters and histograms through the `metrics` facade.
//!
//! Without this module nobody could tell which tenant is slow, refused or busy. Neither spans nor labels hold anything of a
//! state, a lock or a credential; labels hold no workspace either, because their number would have no bound.

use std::time::{Duration, Instant};

use metrics::{Unit, counter, histogram};
use tracing::{Instrument as _, Span, field};

use crate::{Error, ErrorCode, Limit, Outcome, Tenant};

const CALLS: &str = "cofferdam_calls_total";
const CALLS_UNKNOWN: &str = "cofferdam_calls_unknown_total";
const CALL_DURATION: &str = "cofferdam_call_duration_seconds";
const CALL_WAIT: &str = "cofferdam_call_wait_seconds";
const INSTANCES: &str = "cofferdam_instances_total";
const NETWORK_BYTES: &str = "cofferdam_network_bytes_total";
const REQUESTS: &str = "cofferdam_requests_total";
const STATE_BYTES: &str = "cofferdam_state_bytes";

/// A metric of this library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DocumentedMetric {
    /// As recorders see it.
    pub name: &'static str,
    /// `counter` or `histogram`.
    pub kind: &'static str,
    /// The names of its labels, sorted.
    pub labels: &'static [&'static str],
    /// What it counts.
    pub what: &'static str,
    unit: Unit,
}

#[rustfmt::skip]
const METRICS: &[DocumentedMetric] = &[
    row(CALL_DURATION, "histogram", &["operation", "tenant"], Unit::Seconds, "time of a call, waiting for its turn included"),
    row(CALL_WAIT, "histogram", &["tenant"], Unit::Seconds, "time that a call waited for its turn, because of the limit `calls` or of the tenant's caps"),
    row(CALLS, "counter", &["operation", "outcome", "tenant"], Unit::Count, "calls that ended"),
    row(CALLS_UNKNOWN, "counter", &["operation", "tenant"], Unit::Count, "calls that failed and may have changed the store all the same"),
    row(INSTANCES, "counter", &["tenant"], Unit::Count, "instances of the component that were made"),
    row(NETWORK_BYTES, "counter", &["direction", "tenant"], Unit::Bytes, "bodies of requests (`sent`) and of responses (`received`)"),
    row(REQUESTS, "counter", &["outcome", "tenant"], Unit::Count, "requests of the component: answered, by the class of the status (`2xx`), `denied` by the egress rules, or `failed`"),
    row(STATE_BYTES, "histogram", &["operation", "tenant"], Unit::Bytes, "size of a state that was read or written"),
];

const fn row(
    name: &'static str,
    kind: &'static str,
    labels: &'static [&'static str],
    unit: Unit,
    what: &'static str,
) -> DocumentedMetric {
    DocumentedMetric {
        name,
        kind,
        labels,
        what,
        unit,
    }
}

/// Every metric that the library records, in the order of the names.
pub fn documented_metrics() -> impl Iterator<Item = DocumentedMetric> {
    METRICS.iter().copied()
}

/// Tells the recorder of the process what the metrics mean. To be called once, after it is installed; without that they have
/// no help text.
pub fn describe_metrics() {
    for metric in METRICS {
        if metric.kind == "counter" {
            metrics::describe_counter!(metric.name, metric.unit, metric.what);
        } else {
            metrics::describe_histogram!(metric.name, metric.unit, metric.what);
        }
    }
}

/// What a caller asks of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    CompareDigest,
    Delete,
    Holders,
    Lock,
    Probe,
    Read,
    RecordDigest,
    Unlock,
    Workspaces,
    Write,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::CompareDigest => "compare-digest",
            Self::Delete => "delete",
            Self::Holders => "holders",
            Self::Lock => "lock",
            Self::Probe => "probe",
            Self::Read => "read",
            Self::RecordDigest => "record-digest",
            Self::Unlock => "unlock",
            Self::Workspaces => "workspaces",
            Self::Write => "write",
        }
    }

    /// Whether the store may have changed if nobody waited for the end.
    fn changes(self) -> bool {
        !matches!(
            self,
            Self::CompareDigest | Self::Holders | Self::Read | Self::Workspaces
        )
    }
}

/// Runs a call in a span and counts it. `size`: the bytes of the state in its answer, or of the one it stored, if any.
pub(crate) async fn observed<T>(
    tenant: &Tenant,
    operation: Operation,
    workspace: Option<&str>,
    call: impl Future<Output = Result<T, Error>>,
    size: impl FnOnce(&T) -> Option<u64>,
) -> Result<T, Error> {
    let span = tracing::info_span!(
        "state_store",
        tenant = tenant.name(),
        operation = operation.name(),
        workspace,
        duration_us = field::Empty,
        bytes = field::Empty,
        outcome = field::Empty,
        unknown = field::Empty,
    );
    let mut running = Running {
        tenant,
        operation,
        span: span.clone(),
        begun: Instant::now(),
        // What holds if nobody waits for the end.
        outcome: "cancelled",
        unknown: operation.changes(),
        bytes: None,
    };
    let answer = call.instrument(span).await;
    match &answer {
        Ok(answer) => {
            running.outcome = "ok";
            running.unknown = false;
            running.bytes = size(answer);
        }
        Err(error) => {
            running.outcome = outcome(error);
            running.unknown = error.outcome() == Outcome::Unknown;
        }
    }
    answer
}

/// A call; whenever it is dropped it ended.
struct Running<'t> {
    tenant: &'t Tenant,
    operation: Operation,
    span: Span,
    begun: Instant,
    outcome: &'static str,
    unknown: bool,
    bytes: Option<u64>,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let (duration, tenant) = (self.begun.elapsed(), || self.tenant.shared_name());
        let (operation, outcome) = (self.operation.name(), self.outcome);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.span.record("duration_us", micros);
        self.span.record("outcome", outcome);
        self.span.record("unknown", self.unknown);
        counter!(CALLS, "tenant" => tenant(), "operation" => operation, "outcome" => outcome)
            .increment(1);
        histogram!(CALL_DURATION, "tenant" => tenant(), "operation" => operation).record(duration);
        if self.unknown {
            counter!(CALLS_UNKNOWN, "tenant" => tenant(), "operation" => operation).increment(1);
        }
        if let Some(bytes) = self.bytes {
            self.span.record("bytes", bytes);
            // Whole up to 8 PB.
            histogram!(STATE_BYTES, "tenant" => tenant(), "operation" => operation)
                .record(bytes as f64);
        }
    }
}

/// A call had its turn after this time.
pub(crate) fn waited(tenant: &Tenant, time: Duration) {
    histogram!(CALL_WAIT, "tenant" => tenant.shared_name()).record(time);
}

/// An instance was made.
pub(crate) fn instance_made(tenant: &Tenant) {
    counter!(INSTANCES, "tenant" => tenant.shared_name()).increment(1);
}

/// A request of the component ended so.
pub(crate) fn request_ended(tenant: &Tenant, outcome: &'static str) {
    counter!(REQUESTS, "tenant" => tenant.shared_name(), "outcome" => outcome).increment(1);
}

/// Bytes of one body, counted when it is dropped.
pub(crate) struct Traffic {
    tenant: Tenant,
    direction: &'static str,
    bytes: u64,
}

impl Traffic {
    /// To the network.
    pub(crate) fn sent(tenant: &Tenant) -> Self {
        Self::of(tenant, "sent")
    }

    /// From the network.
    pub(crate) fn received(tenant: &Tenant) -> Self {
        Self::of(tenant, "received")
    }

    fn of(tenant: &Tenant, direction: &'static str) -> Self {
        Self {
            tenant: tenant.clone(),
            direction,
            bytes: 0,
        }
    }

    pub(crate) fn count(&mut self, bytes: u64) {
        self.bytes += bytes;
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        if self.bytes > 0 {
            let tenant = self.tenant.shared_name();
            counter!(NETWORK_BYTES, "tenant" => tenant, "direction" => self.direction)
                .increment(self.bytes);
        }
    }
}

/// The value of the label `outcome` for a failed call.
fn outcome(error: &Error) -> &'static str {
    match error {
        Error::Component(_) => "component",
        Error::Configuration(_) => "configuration",
        Error::Limit { limit, .. } => match limit {
            Limit::Answer(_) => "limit-answer",
            Limit::Cpu(_) => "limit-cpu",
            Limit::Handles(_) => "limit-handles",
            Limit::Headers(_) => "limit-headers",
            Limit::Memory(_) => "limit-memory",
            Limit::Random(_) => "limit-random",
            Limit::TableElements(_) => "limit-table-elements",
            Limit::WallClock(_) => "limit-wall-clock",
        },
        Error::Store(error) => match error.code {
            ErrorCode::AccessDenied => "access-denied",
            ErrorCode::Credentials => "credentials",
            ErrorCode::DigestMismatch => "digest-mismatch",
            ErrorCode::InvalidArgument => "invalid-argument",
            ErrorCode::LockMismatch => "lock-mismatch",
            ErrorCode::Locked => "locked",
            ErrorCode::NoSuchBucket => "no-such-bucket",
            ErrorCode::Other => "other",
            ErrorCode::StateChanged => "state-changed",
            ErrorCode::Throttled => "throttled",
            ErrorCode::TimedOut => "timed-out",
            ErrorCode::TooLarge => "too-large",
            ErrorCode::Unreachable => "unreachable",
            ErrorCode::Unsupported => "unsupported",
        },
        Error::Trap { .. } => "trap",
    }
}
