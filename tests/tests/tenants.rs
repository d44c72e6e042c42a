//! Tenants of one process: what they share is capped, what is theirs is apart, and what they do is seen.

#![allow(
    clippy::unwrap_used,
    reason = "also the helpers of tests fail by panicking"
)]

#[path = "tenants/gateway.rs"]
mod gateway;
#[path = "tenants/tls.rs"]
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cofferdam::dev_store::DevStore;
use cofferdam::{
    Backend, Error, ErrorCode, Expectation, Grant, Limit, Limits, LockInfo, Outcome, Reading,
    StateStore, Store, Tenant, UnlockBy, WriteOptions,
};
use cofferdam_canaries as _;
use futures_util::future::join_all;
use futures_util::poll;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::Dispatch;
use tracing_subscriber::fmt::format::FmtSpan;

const KEY: &str = "app/terraform.tfstate";

/// A store without states. It keeps the requests to the bucket `held` until it is told to answer them.
struct Held {
    url: String,
    inner: Arc<Inner>,
}

struct Inner {
    now: AtomicUsize,
    most: AtomicUsize,
    came: Semaphore,
    answers: Semaphore,
}

impl Held {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inner = Arc::new(Inner {
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            came: Semaphore::new(0),
            answers: Semaphore::new(0),
        });
        let serving = Arc::clone(&inner);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = Arc::clone(&serving);
                let service = service_fn(move |request| Arc::clone(&serving).answer(request));
                let server = hyper::server::conn::http1::Builder::new();
                tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { url, inner }
    }

    fn block(&self, bucket: &str) -> Value {
        json!({
            "bucket": bucket, "key": KEY, "region": "eu-west-1", "endpoints": { "s3": self.url },
            "use_path_style": true, "access_key": "AKIATENANT", "secret_key": "no-secret",
            "skip_credentials_validation": true, "skip_requesting_account_id": true,
            "skip_metadata_api_check": true, "skip_region_validation": true,
        })
    }

    /// Waits until so many more requests wait for their answers.
    async fn came(&self, requests: u32) {
        let came = self.inner.came.acquire_many(requests).await;
        came.unwrap().forget();
    }

    fn answer(&self, requests: usize) {
        self.inner.answers.add_permits(requests);
    }

    /// The most requests that waited for their answers at once.
    fn most(&self) -> usize {
        self.inner.most.load(Ordering::SeqCst)
    }
}

impl Inner {
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, http::Error> {
        if request.uri().path().starts_with("/held/") {
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            self.came.add_permits(1);
            self.answers.acquire().await.unwrap().forget();
            self.now.fetch_sub(1, Ordering::SeqCst);
        }
        let text = "<Error><Code>NoSuchKey</Code><Message>there is none</Message></Error>";
        Response::builder().status(404).body(text.into())
    }
}

async fn open(block: Value, tenant: &Tenant, limits: Limits) -> Store {
    let backend = Backend::builder().build().await.unwrap();
    let store = backend.store(block).grant(Grant::local());
    let opened = store.tenant(tenant).limits(limits).open().await;
    opened.unwrap().store
}

/// Twelve reads at once through three stores of a tenant; gives the number of those that ran at once, at least `expected`.
async fn crowd(tenant: Tenant, limits: Limits, expected: u32) -> usize {
    let server = Held::start().await;
    let mut stores = Vec::new();
    for _ in 0..3 {
        stores.push(open(server.block("held"), &tenant, limits).await);
    }
    let reads = (0..12).map(|number| {
        let store = stores[number % 3].clone();
        async move { store.read("default", None).await }
    });
    let reads = tokio::spawn(join_all(reads));
    server.came(expected).await;
    server.answer(12);
    for reading in reads.await.unwrap() {
        assert_eq!(reading.unwrap(), Reading::Absent);
    }
    server.most()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_all_stores_of_a_tenant_share_one_cap_and_all_of_them_end() {
    let tenant = Tenant::new("t").concurrent_calls(2);
    assert_eq!(crowd(tenant, Limits::default(), 2).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_all_stores_of_a_tenant_share_one_cap_and_all_of_them_end() {
    let tenant = Tenant::new("t").connections(3);
    assert_eq!(crowd(tenant, Limits::default(), 3).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_all_stores_of_a_tenant_share_one_cap_and_all_of_them_end() {
    let tenant = Tenant::new("t").bytes(5 << 20);
    assert_eq!(crowd(tenant, Limits::default().state(2 << 20), 2).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_without_caps_runs_everything_at_once() {
    assert_eq!(crowd(Tenant::new("t"), Limits::default(), 12).await, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_has_used_up_its_caps_delays_nobody_else() {
    let server = Held::start().await;
    let busy = Tenant::new("busy").concurrent_calls(1).connections(1);
    let busy = busy.bytes(1 << 10);
    let other = Tenant::new("other").concurrent_calls(1).connections(1);
    let stuck = open(server.block("held"), &busy, Limits::default()).await;
    let free = open(server.block("free"), &other, Limits::default()).await;

    let read = |store: &Store| {
        let store = store.clone();
        tokio::spawn(async move { store.read("default", None).await })
    };
    let stuck = [read(&stuck), read(&stuck), read(&stuck)];
    server.came(1).await;
    for _ in 0..5 {
        let reading = free.read("default", None).await.unwrap();
        assert_eq!(reading, Reading::Absent);
    }
    assert!(stuck.iter().all(|read| !read.is_finished()));
    server.answer(3);
    for read in stuck {
        assert_eq!(read.await.unwrap().unwrap(), Reading::Absent);
    }
    assert_eq!(server.most(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_the_tenants_turn_counts_as_time_of_the_call() {
    let server = Held::start().await;
    let tenant = Tenant::new("t").concurrent_calls(1);
    let patient = open(server.block("held"), &tenant, Limits::default()).await;
    let limits = Limits::default().wall_clock(Duration::from_millis(50));
    let impatient = open(server.block("held"), &tenant, limits).await;

    let first = tokio::spawn(async move { patient.read("default", None).await });
    server.came(1).await;
    let state = Bytes::from_static(b"{}");
    let options = WriteOptions {
        expect: Expectation::Absent,
        lock: None,
    };
    let error = impatient.write("default", state, &options).await;
    let error = error.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Limit {
                limit: Limit::WallClock(_),
                outcome: Outcome::NotDone,
                ..
            }
        ),
        "{error:?}"
    );
    server.answer(1);
    assert_eq!(first.await.unwrap().unwrap(), Reading::Absent);
    assert_eq!(server.most(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_of_one_endpoint_share_no_connection_and_no_credentials() {
    let server = DevStore::builder().start().await.unwrap();
    let mut foreign = server.backend_block(KEY);
    foreign["access_key"] = "AKIAFOREIGN".into();
    let one = open(
        server.backend_block(KEY),
        &Tenant::new("one"),
        Limits::default(),
    )
    .await;
    let two = open(foreign, &Tenant::new("two"), Limits::default()).await;
    for _ in 0..3 {
        assert_eq!(one.read("default", None).await.unwrap(), Reading::Absent);
        let refused = two.read("default", None).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::Credentials), "{refused}");
    }
    let keys: BTreeSet<_> = server
        .requests()
        .into_iter()
        .map(|request| (request.connection, request.access_key_id.unwrap()))
        .collect();
    let connections: BTreeSet<_> = keys.iter().map(|(connection, _)| connection).collect();
    assert_eq!(keys.len(), connections.len(), "{keys:?}");
    let ids: BTreeSet<_> = keys.iter().map(|(_, id)| id.as_str()).collect();
    assert_eq!(ids, BTreeSet::from(["AKIAFOREIGN", server.access_key_id()]));
}

/// What was recorded, by name and labels.
#[derive(Clone, Default)]
struct Recorded(Arc<Mutex<BTreeMap<String, Vec<f64>>>>);

struct Metric(Recorded, String);

impl Recorded {
    fn metric(&self, key: &Key) -> Arc<Metric> {
        let mut labels: Vec<_> = key
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()))
            .collect();
        labels.sort();
        let name = format!("{}{{{}}}", key.name(), labels.join(","));
        Arc::new(Metric(self.clone(), name))
    }

    fn values(&self, name: &str) -> Vec<f64> {
        let all = self.0.lock().unwrap();
        all.get(name).cloned().unwrap_or_default()
    }

    fn sum(&self, name: &str) -> f64 {
        self.values(name).iter().sum()
    }

    /// Names, with the names of their labels.
    fn shapes(&self) -> BTreeSet<(String, Vec<String>)> {
        let all = self.0.lock().unwrap();
        all.keys()
            .map(|key| {
                let (name, labels) = key.trim_end_matches('}').split_once('{').unwrap();
                let labels = labels.split(',');
                let labels = labels.map(|it| it.split('=').next().unwrap().to_owned());
                (name.to_owned(), labels.collect())
            })
            .collect()
    }
}

impl Metric {
    fn add(&self, value: f64) {
        let mut all = self.0.0.lock().unwrap();
        all.entry(self.1.clone()).or_default().push(value);
    }
}

impl CounterFn for Metric {
    fn increment(&self, value: u64) {
        self.add(value as f64);
    }

    fn absolute(&self, _value: u64) {
        unreachable!("counters only grow");
    }
}

impl HistogramFn for Metric {
    fn record(&self, value: f64) {
        self.add(value);
    }
}

impl Recorder for Recorded {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.metric(key))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.metric(key))
    }
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A subscriber that lives for ever. While there is but one, tracing asks the thread that comes to a place in the code first
/// whether anybody wants to hear of it, and that may be one without a subscriber.
fn keep_another_subscriber() {
    static OTHER: LazyLock<Dispatch> =
        LazyLock::new(|| Dispatch::new(tracing_subscriber::registry()));
    LazyLock::force(&OTHER);
}

/// Runs something in this thread with a recorder and a subscriber that writes down every span that ends.
async fn watched<T>(work: impl Future<Output = T>) -> (T, Recorded, String) {
    keep_another_subscriber();
    let (log, recorded) = (Log::default(), Recorded::default());
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_span_events(FmtSpan::CLOSE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let answer = {
        let _subscriber = tracing::subscriber::set_default(subscriber);
        let _recorder = metrics::set_default_local_recorder(&recorded);
        work.await
    };
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    (answer, recorded, log)
}

fn spans<'l>(log: &'l str, operation: &str) -> Vec<&'l str> {
    let operation = format!("operation=\"{operation}\"");
    log.lines()
        .filter(|line| line.contains("state_store{") && line.contains(&operation))
        .collect()
}

#[tokio::test]
async fn every_call_is_seen_with_tenant_operation_duration_bytes_and_outcome() {
    let server = DevStore::builder().start().await.unwrap();
    let held = Held::start().await;
    let text = r#"{"secret": "a state"}"#;
    let work = async {
        let tenant = Tenant::new("acme");
        let store = open(server.backend_block(KEY), &tenant, Limits::default()).await;
        let lock = store.lock("default", &LockInfo::new("test")).await.unwrap();
        let locked = store.lock("default", &LockInfo::new("test")).await;
        assert_eq!(locked.unwrap_err().code(), Some(ErrorCode::Locked));
        let options = WriteOptions {
            expect: Expectation::Absent,
            lock: Some(lock.clone()),
        };
        store.write("default", text.into(), &options).await.unwrap();
        store.read("default", None).await.unwrap();
        store.read("other", None).await.unwrap();
        store.holders("default").await.unwrap();
        store.workspaces().await.unwrap();
        let by = UnlockBy::Held(lock);
        store.unlock("default", &by).await.unwrap();

        // One that nobody waits for, and one whose requests are refused.
        let given_up = open(held.block("held"), &tenant, Limits::default()).await;
        let options = WriteOptions {
            expect: Expectation::Anything,
            lock: None,
        };
        {
            let mut write = pin!(given_up.write("default", text.into(), &options));
            let mut came = pin!(held.came(1));
            while poll!(&mut came).is_pending() {
                assert!(poll!(&mut write).is_pending());
                tokio::task::yield_now().await;
            }
        }
        let backend = Backend::builder().build().await.unwrap();
        let sealed = backend.store(held.block("free")).tenant(&tenant);
        let sealed = sealed.open().await.unwrap().store;
        let refused = sealed.read("default", None).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::Unreachable), "{refused}");
    };
    let ((), recorded, log) = watched(work).await;

    let calls = |operation: &str, outcome: &str| {
        recorded.sum(&format!(
            "cofferdam_calls_total{{operation={operation},outcome={outcome},tenant=acme}}"
        ))
    };
    for (operation, outcome, number) in [
        ("lock", "ok", 1.0),
        ("lock", "locked", 1.0),
        ("write", "ok", 1.0),
        ("write", "cancelled", 1.0),
        ("read", "ok", 2.0),
        ("read", "unreachable", 1.0),
        ("holders", "ok", 1.0),
        ("workspaces", "ok", 1.0),
        ("unlock", "ok", 1.0),
    ] {
        assert_eq!(calls(operation, outcome), number, "{operation} {outcome}");
    }
    let size = text.len() as f64;
    for operation in ["read", "write"] {
        let labels = format!("{{operation={operation},tenant=acme}}");
        let sizes = recorded.values(&format!("cofferdam_state_bytes{labels}"));
        assert_eq!(sizes, [size], "{operation}");
    }
    let reads = recorded.values("cofferdam_call_duration_seconds{operation=read,tenant=acme}");
    assert_eq!(reads.len(), 3);
    let unknown = recorded.sum("cofferdam_calls_unknown_total{operation=write,tenant=acme}");
    assert_eq!(unknown, 1.0);
    let instances = recorded.sum("cofferdam_instances_total{tenant=acme}");
    assert_eq!(instances, 3.0, "one for each store");
    let answered = |class: &str| {
        let name = format!("cofferdam_requests_total{{outcome={class},tenant=acme}}");
        recorded.sum(&name) as usize
    };
    let of_server = |class: u16| {
        let requests = server.requests().into_iter();
        requests.filter(|it| it.status / 100 == class).count()
    };
    assert_eq!(answered("2xx"), of_server(2));
    assert_eq!(answered("4xx"), of_server(4));
    assert!(answered("denied") > 0);
    for direction in ["sent", "received"] {
        let name = format!("cofferdam_network_bytes_total{{direction={direction},tenant=acme}}");
        assert!(recorded.sum(&name) >= size, "{direction}");
    }

    let documented: BTreeSet<_> = cofferdam::documented_metrics()
        .map(|it| {
            let labels = it.labels.iter().map(|label| (*label).to_owned());
            (it.name.to_owned(), labels.collect::<Vec<_>>())
        })
        .collect();
    assert_eq!(recorded.shapes(), documented);

    let written = spans(&log, "write");
    assert_eq!(written.len(), 2, "{log}");
    for field in [
        "tenant=\"acme\"".to_owned(),
        "workspace=\"default\"".to_owned(),
        format!("bytes={}", text.len()),
        "outcome=\"ok\"".to_owned(),
        "unknown=false".to_owned(),
        "duration_us=".to_owned(),
    ] {
        assert!(written[0].contains(&field), "{field} in {}", written[0]);
    }
    let cancelled = "outcome=\"cancelled\" unknown=true";
    assert!(written[1].contains(cancelled), "{}", written[1]);
    assert!(spans(&log, "lock")[1].contains("outcome=\"locked\""));
    for secret in ["a state", server.secret_access_key(), "no-secret"] {
        assert!(!log.contains(secret), "{secret} was logged: {log}");
    }
}
