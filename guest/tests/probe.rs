//! The probe: what it says of stores that misbehave, each in its own way, and that it leaves nothing behind.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test reports by panicking"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cofferdam_s3::Store;
use cofferdam_s3::config::{Diagnostic, Environment};
use cofferdam_s3::contract::{ErrorCode, Fence, OpenOptions, ProbeOptions};
use cofferdam_s3::platform::{
    Clock, Credentials, HttpBody, HttpRequest, HttpResponse, Method, Random, Surroundings,
    Transport, TransportError,
};
use cofferdam_s3::probe::KEY_INFIX;
use serde_json::{Value, json};
use support::*;

/// How a store misbehaves.
#[derive(Clone, Debug, Default)]
struct Odd {
    /// Of these, conditions are not looked at.
    ignores: Vec<Ignored>,
    /// Conditions of PUT are answered with this.
    refuses_conditions: Option<(u16, &'static str)>,
    refuses_conditional_delete: bool,
    /// Of those who write at once, so many are not judged by their condition, beginning with this round (from 0).
    racy: Option<(usize, usize)>,
    /// What was deleted counts as there for a create.
    keeps_markers: bool,
    /// A header whose requests are refused with this.
    refuses_header: Option<(&'static str, u16, &'static str)>,
    /// Uploads without this header are refused.
    wants_header: Option<&'static str>,
    /// Requests of this kind are forbidden.
    forbids: Option<&'static str>,
    /// Objects under a customer's key are read without it.
    gives_away: bool,
    /// Headers that answers to reads have.
    echoes: Vec<(&'static str, &'static str)>,
    lists_nothing: bool,
    /// The answer to the question about versions; and then versions are kept.
    versioning: Option<&'static str>,
    /// Seconds.
    clock: i64,
    /// What DescribeTable says: name, type and role of each part of the key.
    table: Option<Vec<(&'static str, &'static str, &'static str)>>,
    ignores_table_conditions: bool,
    no_table: bool,
    /// No version can be removed.
    forbids_versions: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ignored {
    Delete,
    IfMatch,
    IfNoneMatch,
}

#[derive(Default)]
struct Memory {
    /// Deleted paths.
    deleted: BTreeSet<String>,
    /// Paths that were stored under a customer's key.
    locked: BTreeSet<String>,
    /// Path, version, and whether it is a marker.
    versions: Vec<(String, String, bool)>,
    races: usize,
    seen: Vec<String>,
    most_at_once: usize,
}

/// A store that misbehaves, in front of one that does not.
#[derive(Clone, Default)]
struct OddStore {
    inner: Fake,
    odd: Odd,
    memory: Arc<Mutex<Memory>>,
}

impl OddStore {
    fn new(odd: Odd) -> Self {
        let store = Self {
            odd,
            ..Self::default()
        };
        let mut world = store.inner.world();
        world.quirks.page = 1000;
        world.latency = Duration::from_millis(20);
        drop(world);
        store.inner.put(STATE, &state(1));
        store
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap()
    }

    fn open(&self, more: &str, budget: Option<u32>) -> Store<OddStore> {
        let endpoint = match more.contains("\"endpoints\"") {
            true => "",
            false => {
                ",\"endpoints\":{\"s3\":\"http://s3.test:9000\",\"dynamodb\":\"http://db.test:8000\"}"
            }
        };
        let lockfile = match more.contains("use_lockfile") {
            true => "",
            false => ",\"use_lockfile\":true",
        };
        let config = [
            "{\"bucket\":\"tfstate\",\"key\":\"app/terraform.tfstate\",\"region\":\"eu-west-1\"",
            ",\"access_key\":\"AKIAIOSFODNN7EXAMPLE\",\"secret_key\":\"CANARY-SECRET\"",
            ",\"use_path_style\":true,\"skip_credentials_validation\":true",
            endpoint,
            lockfile,
            more,
            "}",
        ]
        .concat();
        let options = OpenOptions {
            fence: Fence::Required,
            call_budget: budget,
            max_state: 1000,
        };
        let opened = Store::open(self.clone(), &config, options);
        opened
            .unwrap_or_else(|diagnostics| panic!("{diagnostics:?}"))
            .0
    }

    fn probe_with(&self, more: &str, rounds: u32) -> Value {
        let options = ProbeOptions {
            rounds,
            even_aws: false,
        };
        let told = self.open(more, None).probe(options).unwrap();
        assert!(!told.contains("CANARY"), "{told}");
        serde_json::from_str(&told).unwrap()
    }

    fn probe(&self) -> Value {
        self.probe_with("", 0)
    }

    /// Fails unless the state alone is stored, unchanged.
    #[track_caller]
    fn assert_clean(&self, told: &Value) {
        let world = self.inner.world();
        let objects: Vec<_> = world.objects.keys().collect();
        assert_eq!(objects, [STATE], "{told:#}");
        assert_eq!(world.objects[STATE], state(1));
        assert!(world.items.is_empty(), "{:?}", world.items);
        drop(world);
        assert_eq!(self.memory().versions, [], "{told:#}");
    }

    fn answer(
        &self,
        request: &HttpRequest<'_>,
        competing: bool,
    ) -> Result<HttpResponse, TransportError> {
        let path = request.path_and_query.to_owned();
        let odd = &self.odd;
        self.memory()
            .seen
            .push(format!("{} {path}", request.method.as_str()));
        let has = |name: &str| request.headers.iter().any(|(known, _)| known == name);
        let is_conditional =
            has("if-match") || (has("if-none-match") && request.method == Method::Put);
        let is_table = has("x-amz-target");
        if !is_table {
            let kind = match (request.method, path.split_once('?')) {
                (method, None) => method.as_str(),
                (_, Some((_, query))) if query.contains("list-type") => "list",
                (_, Some((_, query))) if query.contains("versions") => "versions",
                _ => "versioning",
            };
            if odd.forbids == Some(kind) {
                return Ok(refusal(403, "AccessDenied"));
            }
        }
        if path.ends_with("?versioning=") {
            let status = odd.versioning.map(|it| format!("<Status>{it}</Status>"));
            let status = status.unwrap_or_default();
            let body = match status.as_str() {
                // As S3 answers for a bucket that never kept versions.
                "" => "<VersioningConfiguration xmlns=\"x\"/>".to_owned(),
                status => format!("<VersioningConfiguration>{status}</VersioningConfiguration>"),
            };
            return Ok(response(200, vec![], body));
        }
        if let Some((header, status, code)) = odd.refuses_header
            && has(header)
        {
            return Ok(refusal(status, code));
        }
        if request.method == Method::Put && odd.wants_header.is_some_and(|header| !has(header)) {
            return Ok(refusal(400, "InvalidRequest"));
        }
        if is_conditional && request.method == Method::Put {
            if let Some((status, code)) = odd.refuses_conditions {
                return Ok(refusal(status, code));
            }
            if odd.keeps_markers && has("if-none-match") && self.memory().deleted.contains(&path) {
                return Ok(refusal(412, "PreconditionFailed"));
            }
        }
        if is_conditional && request.method == Method::Delete && odd.refuses_conditional_delete {
            return Ok(refusal(501, "NotImplemented"));
        }
        if is_table {
            return self.answer_for_table(request);
        }
        if let Some((path, query)) = path.split_once('?')
            && odd.versioning.is_some()
            && !query.contains("list-type")
        {
            return Ok(self.answer_about_versions(path, query));
        }
        const KEY: &str = "x-amz-server-side-encryption-customer-key";
        let is_locked = self.memory().locked.contains(&path);
        if request.method == Method::Get && is_locked && !has(KEY) && !odd.gives_away {
            return Ok(refusal(400, "InvalidRequest"));
        }
        let dropped: &[&str] = match request.method {
            Method::Delete if odd.ignores.contains(&Ignored::Delete) => &["if-match"],
            Method::Put if competing => &["if-match", "if-none-match"],
            Method::Put => match odd.ignores.as_slice() {
                [Ignored::IfMatch] => &["if-match"],
                [Ignored::IfNoneMatch] => &["if-none-match"],
                [Ignored::IfMatch, Ignored::IfNoneMatch] => &["if-match", "if-none-match"],
                _ => &[],
            },
            _ => &[],
        };
        let headers: Vec<_> = request
            .headers
            .iter()
            .filter(|(name, _)| !dropped.contains(&name.as_str()))
            .cloned()
            .collect();
        let mut response = self.inner.send(&HttpRequest {
            headers: &headers,
            ..copy(request)
        })?;
        if odd.lists_nothing && path.contains("list-type=2") {
            let body = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
            return Ok(self.dated(super_response(200, body)));
        }
        if (200..300).contains(&response.status) {
            let mut memory = self.memory();
            match request.method {
                Method::Put => {
                    memory.deleted.remove(&path);
                    if has(KEY) {
                        memory.locked.insert(path.clone());
                    }
                }
                Method::Delete => {
                    memory.deleted.insert(path.clone());
                }
                _ => {}
            }
            let is_marker = request.method == Method::Delete;
            if odd.versioning.is_some() && request.method != Method::Get {
                let id = format!("v{}", memory.seen.len());
                memory.versions.push((path, id.clone(), is_marker));
                response.headers.push(("x-amz-version-id".to_owned(), id));
                if is_marker {
                    let header = ("x-amz-delete-marker".to_owned(), "true".to_owned());
                    response.headers.push(header);
                }
            } else if request.method == Method::Get {
                for (name, value) in &odd.echoes {
                    response
                        .headers
                        .push(((*name).to_owned(), (*value).to_owned()));
                }
            }
        }
        Ok(self.dated(response))
    }

    fn dated(&self, mut response: HttpResponse) -> HttpResponse {
        let seconds = self
            .inner
            .now()
            .as_secs()
            .saturating_add_signed(self.odd.clock);
        let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let date = ("date".to_owned(), httpdate::fmt_http_date(time));
        response.headers.retain(|(name, _)| name != "date");
        response.headers.push(date);
        response
    }

    fn answer_about_versions(&self, path: &str, query: &str) -> HttpResponse {
        let mut memory = self.memory();
        if let Some(id) = query.strip_prefix("versionId=") {
            if self.odd.forbids_versions {
                return refusal(403, "AccessDenied");
            }
            memory.versions.retain(|(_, version, _)| version != id);
            return response(204, vec![], String::new());
        }
        assert!(query.ends_with("&versions="), "{path}?{query}");
        let mut xml = "<ListVersionsResult>".to_owned();
        for (path, id, is_marker) in &memory.versions {
            let kind = if *is_marker {
                "DeleteMarker"
            } else {
                "Version"
            };
            let key = &path["/tfstate/".len()..];
            xml.push_str(&format!(
                "<{kind}><Key>{key}</Key><VersionId>{id}</VersionId></{kind}>"
            ));
        }
        xml.push_str("</ListVersionsResult>");
        response(200, vec![], xml)
    }

    fn answer_for_table(&self, request: &HttpRequest<'_>) -> Result<HttpResponse, TransportError> {
        let target = request
            .headers
            .iter()
            .find(|(name, _)| name == "x-amz-target");
        let operation = target
            .unwrap()
            .1
            .strip_prefix("DynamoDB_20120810.")
            .unwrap();
        if self.odd.forbids == Some(operation) {
            let body = "{\"__type\":\"x#AccessDeniedException\",\"message\":\"m\"}";
            return Ok(response(400, vec![], body.to_owned()));
        }
        if operation == "DescribeTable" {
            if self.odd.no_table {
                let body = "{\"__type\":\"x#ResourceNotFoundException\",\"message\":\"m\"}";
                return Ok(response(400, vec![], body.to_owned()));
            }
            let parts = self
                .odd
                .table
                .clone()
                .unwrap_or(vec![("LockID", "S", "HASH")]);
            let types: Vec<_> = parts
                .iter()
                .map(|(name, kind, _)| json!({"AttributeName": name, "AttributeType": kind}))
                .collect();
            let key: Vec<_> = parts
                .iter()
                .map(|(name, _, role)| json!({"AttributeName": name, "KeyType": role}))
                .collect();
            let table =
                json!({"TableStatus": "ACTIVE", "AttributeDefinitions": types, "KeySchema": key});
            return Ok(response(200, vec![], json!({"Table": table}).to_string()));
        }
        if !self.odd.ignores_table_conditions {
            return self.inner.send(request);
        }
        let mut body: Value = serde_json::from_slice(request.body.unwrap()).unwrap();
        body.as_object_mut().unwrap().remove("ConditionExpression");
        let body = body.to_string();
        self.inner.send(&HttpRequest {
            body: Some(body.as_bytes()),
            ..copy(request)
        })
    }
}

fn copy<'r>(request: &HttpRequest<'r>) -> HttpRequest<'r> {
    HttpRequest {
        method: request.method,
        scheme: request.scheme,
        authority: request.authority,
        path_and_query: request.path_and_query,
        headers: request.headers,
        body: request.body,
        timeouts: request.timeouts,
    }
}

fn super_response(status: u16, body: &str) -> HttpResponse {
    response(status, vec![], body.to_owned())
}

fn response(status: u16, headers: Vec<(String, String)>, body: String) -> HttpResponse {
    HttpResponse {
        status,
        headers,
        body: Box::new(Whole(Some(body.into_bytes()))),
    }
}

fn refusal(status: u16, code: &str) -> HttpResponse {
    super_response(
        status,
        &format!("<Error><Code>{code}</Code><Message>m</Message></Error>"),
    )
}

struct Whole(Option<Vec<u8>>);

impl HttpBody for Whole {
    fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, TransportError> {
        Ok(self.0.take().filter(|bytes| !bytes.is_empty()))
    }
}

impl Clock for OddStore {
    fn now(&self) -> Duration {
        self.inner.now()
    }

    fn monotonic(&self) -> Duration {
        self.inner.monotonic()
    }

    fn sleep(&self, duration: Duration) {
        self.inner.sleep(duration);
    }
}

impl Random for OddStore {
    fn next_u64(&self) -> u64 {
        self.inner.next_u64()
    }
}

impl Environment for OddStore {
    fn variable(&self, name: &str) -> Option<String> {
        self.inner.variable(name)
    }
}

impl Surroundings for OddStore {
    fn credentials(&self) -> Option<Credentials> {
        self.inner.credentials()
    }

    fn report(&self, diagnostic: Diagnostic) {
        self.inner.report(diagnostic);
    }
}

impl Transport for OddStore {
    fn send(&self, request: &HttpRequest<'_>) -> Result<HttpResponse, TransportError> {
        self.answer(request, false)
    }

    /// The store sees them in another order than they were sent in.
    fn send_all(&self, requests: &[HttpRequest<'_>]) -> Vec<Result<HttpResponse, TransportError>> {
        let race = {
            let mut memory = self.memory();
            memory.most_at_once = memory.most_at_once.max(requests.len());
            memory.races += usize::from(requests.len() > 1);
            memory.races
        };
        let careless = match self.odd.racy {
            Some((many, from)) if requests.len() > 1 && race > from => many,
            _ => 0,
        };
        let mut answers: Vec<_> = requests.iter().map(|_| None).collect();
        for (place, index) in (0..requests.len()).rev().enumerate() {
            answers[index] = Some(self.answer(&requests[index], place < careless));
        }
        answers.into_iter().map(Option::unwrap).collect()
    }
}

fn outcomes(told: &Value) -> BTreeMap<String, String> {
    let checks = told["checks"].as_array().unwrap().iter();
    let text = |it: &Value| it.as_str().unwrap().to_owned();
    let outcomes: BTreeMap<_, _> = checks
        .clone()
        .map(|check| (text(&check["name"]), text(&check["outcome"])))
        .collect();
    assert_eq!(
        outcomes.len(),
        checks.len(),
        "a check stands twice: {told:#}"
    );
    outcomes
}

/// Fails unless the verdict is this, the check ended so, and the reasons hold these texts.
#[track_caller]
fn assert_told(told: &Value, verdict: &str, (check, outcome): (&str, &str), texts: &[&str]) {
    assert_eq!(told["verdict"], verdict, "{told:#}");
    assert_eq!(
        outcomes(told).get(check).map(String::as_str),
        Some(outcome),
        "{check}: {told:#}"
    );
    let reasons = told["reasons"].to_string();
    for text in texts {
        assert!(reasons.contains(text), "{text}: {told:#}");
    }
}

const SAFE: [&str; 11] = [
    "checksum-accepted",
    "clock",
    "conditional-delete",
    "create-after-delete",
    "create-on-absent",
    "create-only-refused",
    "one-creator-wins",
    "one-replacer-wins",
    "stale-replace-refused",
    "versioning",
    "visible-at-once",
];

#[test]
fn a_store_that_does_everything_right_is_safe() {
    let store = OddStore::new(Odd {
        versioning: Some("Enabled"),
        ..Odd::default()
    });
    let told = store.probe();
    assert_eq!(told["verdict"], "safe", "{told:#}");
    assert_eq!(told["reasons"], json!([]));
    assert_eq!(told["format_version"], "1");
    assert_eq!(told["endpoint"], "http://s3.test:9000");
    assert_eq!(told["bucket"], "tfstate");
    assert_eq!(
        (&told["rounds"], &told["contenders"]),
        (&json!(8), &json!(16))
    );
    assert_eq!(told["probed"], true);
    assert_eq!(
        told["versioning"],
        json!({"status": "enabled", "advice": null})
    );
    assert_eq!(told["clock_skew_seconds"], 0);
    let latency = json!({"put": 20, "get": 20, "delete": 20, "list": 20});
    assert_eq!(told["latency_ms"], latency);
    assert_eq!(told["dynamodb"], Value::Null);
    assert_eq!(told["suggestions"], json!([]));
    let all = outcomes(&told);
    assert_eq!(all.keys().collect::<Vec<_>>(), SAFE);
    assert!(all.values().all(|outcome| outcome == "ok"), "{told:#}");
    store.assert_clean(&told);
    assert_eq!(store.memory().most_at_once, 16);
    assert!(store.memory().races >= 16);
}

#[test]
fn only_keys_of_its_own_are_touched() {
    let store = OddStore::new(Odd::default());
    store.probe_with(&table(true), 1);
    let key = format!("/tfstate/app/terraform.tfstate{KEY_INFIX}7fffffffffffffff-");
    let prefix = "prefix=app%2Fterraform.tfstate.cofferdam-probe-7fffffffffffffff";
    for seen in &store.memory().seen {
        let (method, path) = seen.split_once(' ').unwrap();
        let is_own = path.starts_with(&key)
            || (method == "GET" && path.contains(prefix))
            || seen == "GET /tfstate?versioning="
            || seen == "POST /";
        assert!(is_own, "{seen}");
    }
    let item = format!("tfstate/app/terraform.tfstate{KEY_INFIX}");
    let mut items = 0;
    for request in &store.inner.world().requests {
        if request.header("x-amz-target").is_some() {
            let body = request.json();
            let id = [&body["Key"], &body["Item"]].map(|it| it["LockID"]["S"].as_str());
            assert!(
                id.iter().flatten().any(|id| id.starts_with(&item)),
                "{body}"
            );
            items += 1;
        }
    }
    assert!(items > 16);
}

#[test]
fn a_store_that_silently_ignores_conditions_is_unsafe() {
    use Ignored::{IfMatch, IfNoneMatch};
    for (ignores, check, text) in [
        (
            vec![IfNoneMatch],
            "create-only-refused",
            "silently ignores If-None-Match",
        ),
        (
            vec![IfMatch],
            "stale-replace-refused",
            "silently ignores If-Match",
        ),
        (
            vec![IfMatch, IfNoneMatch],
            "create-only-refused",
            "silently ignores If-None-Match",
        ),
    ] {
        let store = OddStore::new(Odd {
            ignores,
            ..Odd::default()
        });
        let told = store.probe();
        assert_told(&told, "unsafe", (check, "failed"), &[text]);
        store.assert_clean(&told);
    }
}

#[test]
fn a_store_that_refuses_conditions_is_unsafe_for_lock_files() {
    for answer in [
        (501, "NotImplemented"),
        (400, "InvalidArgument"),
        (400, "NotImplemented"),
    ] {
        let store = OddStore::new(Odd {
            refuses_conditions: Some(answer),
            ..Odd::default()
        });
        let told = store.probe();
        let text = "does not know conditional writes, so that use_lockfile cannot work";
        assert_told(&told, "unsafe", ("create-on-absent", "failed"), &[text]);
        assert_eq!(outcomes(&told)["one-creator-wins"], "not-tested");
        store.assert_clean(&told);

        // The lock stands in the table there.
        let told = store.probe_with(&table(false), 1);
        assert_told(
            &told,
            "safe",
            ("create-on-absent", "failed"),
            &["The lock stands in the table"],
        );
        store.assert_clean(&told);
    }
}

#[test]
fn a_racy_store_is_unsafe_also_when_it_shows_late() {
    for (many, from) in [(2, 0), (16, 0), (2, 7)] {
        let store = OddStore::new(Odd {
            racy: Some((many, from)),
            ..Odd::default()
        });
        let told = store.probe();
        assert_told(&told, "unsafe", ("one-creator-wins", "failed"), &["racy"]);
        store.assert_clean(&told);
    }
    // Only those who replace.
    let store = OddStore::new(Odd {
        racy: Some((3, 8)),
        ..Odd::default()
    });
    let told = store.probe();
    assert_told(&told, "unsafe", ("one-replacer-wins", "failed"), &["racy"]);
    assert_eq!(outcomes(&told)["one-creator-wins"], "ok");
    store.assert_clean(&told);
    // More rounds than it takes find it.
    let store = OddStore::new(Odd {
        racy: Some((2, 20)),
        ..Odd::default()
    });
    assert_eq!(store.probe_with("", 8)["verdict"], "safe");
    let told = store.probe_with("", 30);
    assert_eq!(
        (&told["verdict"], &told["rounds"]),
        (&json!("unsafe"), &json!(30))
    );
}

#[test]
fn a_store_without_conditional_deletes_is_safe_with_a_warning() {
    for (odd, text) in [
        (
            Odd {
                ignores: vec![Ignored::Delete],
                ..Odd::default()
            },
            "silently ignores If-Match on DELETE",
        ),
        (
            Odd {
                refuses_conditional_delete: true,
                ..Odd::default()
            },
            "does not know conditional deletes",
        ),
    ] {
        let store = OddStore::new(odd);
        let told = store.probe();
        assert_told(&told, "safe", ("conditional-delete", "warning"), &[text]);
        store.assert_clean(&told);
    }
}

#[test]
fn a_store_that_takes_delete_markers_for_objects_is_unsafe() {
    let store = OddStore::new(Odd {
        keeps_markers: true,
        versioning: Some("Enabled"),
        ..Odd::default()
    });
    let told = store.probe();
    assert_told(
        &told,
        "unsafe",
        ("create-after-delete", "failed"),
        &["delete marker"],
    );
    store.assert_clean(&told);
}

#[test]
fn what_is_forbidden_is_not_tested_and_names_the_permission() {
    for (kind, verdict, check, permission) in [
        ("PUT", "unknown", "upload", "s3:PutObject"),
        ("DELETE", "unknown", "conditional-delete", "s3:DeleteObject"),
        ("GET", "unknown", "create-only-refused", "s3:GetObject"),
        ("list", "safe", "visible-at-once", "s3:ListBucket"),
        ("versioning", "safe", "versioning", "s3:GetBucketVersioning"),
    ] {
        let store = OddStore::new(Odd {
            forbids: Some(kind),
            ..Odd::default()
        });
        let told = store.probe_with("", 2);
        assert_told(&told, verdict, (check, "not-tested"), &[permission]);
        if kind == "DELETE" {
            let left = store.inner.world().objects.len();
            assert_eq!(left, 2, "as little as possible is left");
            assert!(
                told["reasons"].to_string().contains("left behind"),
                "{told:#}"
            );
        } else {
            store.assert_clean(&told);
        }
    }
}

#[test]
fn a_store_that_cannot_be_reached_or_does_not_know_us_is_an_error() {
    let denied = TransportError::Denied("no".to_owned());
    let key = "<Error><Code>InvalidAccessKeyId</Code></Error>";
    let bucket = "<Error><Code>NoSuchBucket</Code></Error>";
    for (fault, code) in [
        (Fault::Fails(denied), ErrorCode::Unreachable),
        (Fault::Answer(403, key), ErrorCode::Credentials),
        (Fault::Answer(404, bucket), ErrorCode::NoSuchBucket),
    ] {
        let store = OddStore::new(Odd::default());
        store.inner.fault(1, fault);
        let options = ProbeOptions {
            rounds: 0,
            even_aws: false,
        };
        let error = store.open("", None).probe(options).unwrap_err();
        assert_eq!(error.code, code);
        store.assert_clean(&Value::Null);
    }
}

#[test]
fn a_store_that_refuses_or_wants_checksums_gets_the_argument_for_it() {
    let refuses = Odd {
        refuses_header: Some(("x-amz-checksum-sha256", 400, "InvalidArgument")),
        ..Odd::default()
    };
    let wants = Odd {
        wants_header: Some("x-amz-checksum-sha256"),
        ..Odd::default()
    };
    for (odd, more, line) in [
        (refuses, "", "skip_s3_checksum = true"),
        (
            wants,
            ",\"skip_s3_checksum\":true",
            "skip_s3_checksum = false",
        ),
    ] {
        let store = OddStore::new(odd);
        let told = store.probe_with(more, 2);
        assert_told(&told, "safe", ("checksum-accepted", "failed"), &[line]);
        assert_eq!(told["suggestions"], json!([line]));
        assert_eq!(outcomes(&told)["one-creator-wins"], "ok");
        store.assert_clean(&told);
    }
    let told = OddStore::new(Odd::default()).probe_with(",\"skip_s3_checksum\":true", 1);
    assert_eq!(outcomes(&told)["checksum-accepted"], "not-tested");
}

#[test]
fn what_is_configured_and_refused_is_named_and_the_rest_is_tried() {
    for (header, more, check, suggestions) in [
        (
            "x-amz-server-side-encryption",
            ",\"encrypt\":true",
            "encryption-accepted",
            json!(["encrypt = false"]),
        ),
        (
            "x-amz-tagging",
            ",\"lock_tags\":{\"a\":\"b\"}",
            "tags-accepted",
            json!([]),
        ),
        (
            "x-amz-acl",
            ",\"acl\":\"private\"",
            "acl-accepted",
            json!([]),
        ),
    ] {
        let store = OddStore::new(Odd {
            refuses_header: Some((header, 501, "NotImplemented")),
            ..Odd::default()
        });
        let told = store.probe_with(more, 1);
        let text = "nothing can be written here";
        assert_told(&told, "unknown", (check, "failed"), &[text]);
        assert_eq!(told["suggestions"], suggestions);
        assert_eq!(outcomes(&told)["one-creator-wins"], "ok");
        store.assert_clean(&told);

        let told = OddStore::new(Odd::default()).probe_with(more, 1);
        assert_eq!(told["verdict"], "safe", "{told:#}");
    }
}

#[test]
fn an_encryption_has_to_show() {
    let key =
        ",\"encrypt\":true,\"sse_customer_key\":\"a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=\"";
    let kms = ",\"encrypt\":true,\"kms_key_id\":\"alias/k\"";
    let sse = "x-amz-server-side-encryption";
    let gives_away = Odd {
        gives_away: true,
        ..Odd::default()
    };
    let echoing = |value| Odd {
        echoes: vec![(sse, value)],
        ..Odd::default()
    };
    for (odd, more, verdict, outcome, texts) in [
        (Odd::default(), key, "safe", "ok", vec![]),
        (
            gives_away,
            key,
            "unsafe",
            "failed",
            vec!["without the encryption that is ordered"],
        ),
        (echoing("AES256"), ",\"encrypt\":true", "safe", "ok", vec![]),
        (
            Odd::default(),
            ",\"encrypt\":true",
            "safe",
            "warning",
            vec!["does not say that it encrypts"],
        ),
        (echoing("aws:kms"), kms, "safe", "ok", vec![]),
        (
            echoing("AES256"),
            kms,
            "safe",
            "failed",
            vec!["does not say that it encrypts with KMS"],
        ),
    ] {
        let store = OddStore::new(odd);
        let told = store.probe_with(more, 1);
        assert_told(&told, verdict, ("encryption-honoured", outcome), &texts);
        assert!(!told.to_string().contains("a2tra2tr"), "{told:#}");
        store.assert_clean(&told);
    }
}

#[test]
fn versioning_that_is_off_is_told_with_the_remedy() {
    for (versioning, status) in [(None, "off"), (Some("Suspended"), "suspended")] {
        let store = OddStore::new(Odd {
            versioning,
            ..Odd::default()
        });
        let told = store.probe_with("", 1);
        assert_told(
            &told,
            "safe",
            ("versioning", "warning"),
            &["put-bucket-versioning"],
        );
        assert_eq!(told["versioning"]["status"], status);
        assert_eq!(
            told["versioning"]["advice"],
            "aws s3api put-bucket-versioning --bucket tfstate --versioning-configuration \
             Status=Enabled"
        );
        store.assert_clean(&told);
    }
}

#[test]
fn versions_that_cannot_be_removed_are_named() {
    let store = OddStore::new(Odd {
        versioning: Some("Enabled"),
        forbids_versions: true,
        ..Odd::default()
    });
    let told = store.probe_with("", 1);
    assert_eq!(told["verdict"], "safe");
    let reasons = told["reasons"].to_string();
    assert!(reasons.contains("s3:DeleteObjectVersion"), "{told:#}");
    assert!(
        reasons.contains("old versions and delete markers"),
        "{told:#}"
    );
    assert_eq!(store.inner.world().objects.len(), 1);

    let store = OddStore::new(Odd {
        versioning: Some("Enabled"),
        forbids: Some("versions"),
        ..Odd::default()
    });
    let told = store.probe_with("", 1);
    assert!(
        told["reasons"]
            .to_string()
            .contains("s3:ListBucketVersions"),
        "{told:#}"
    );
    // What was stored is gone all the same; markers stand.
    assert!(
        store
            .memory()
            .versions
            .iter()
            .all(|(_, _, is_marker)| *is_marker)
    );
}

#[test]
fn the_clock_is_compared() {
    for (clock, outcome) in [(0, "ok"), (59, "ok"), (-90, "warning"), (400, "failed")] {
        let store = OddStore::new(Odd {
            clock,
            ..Odd::default()
        });
        let told = store.probe_with("", 1);
        assert_eq!(told["verdict"], "safe", "{told:#}");
        assert_eq!(outcomes(&told)["clock"], outcome, "{told:#}");
        let found = told["clock_skew_seconds"].as_i64().unwrap();
        assert!(found.abs_diff(clock) <= 1, "{found}");
    }
}

#[test]
fn a_store_that_does_not_tell_about_versions_is_not_said_to_keep_none() {
    for versioning in ["Perhaps", "</Status></VersioningConfiguration><x>"] {
        let store = OddStore::new(Odd {
            versioning: Some(versioning),
            ..Odd::default()
        });
        let told = store.probe_with("", 1);
        assert_told(
            &told,
            "safe",
            ("versioning", "not-tested"),
            &["does not tell"],
        );
        assert_eq!(told["versioning"]["status"], "unknown");
    }
}

#[test]
fn a_listing_that_lags_is_a_warning() {
    let store = OddStore::new(Odd {
        lists_nothing: true,
        ..Odd::default()
    });
    let told = store.probe_with("", 1);
    assert_told(
        &told,
        "safe",
        ("visible-at-once", "warning"),
        &["not listed at once"],
    );
}

#[test]
fn a_table_is_described_and_tried_out() {
    let more = table(false);
    let store = OddStore::new(Odd {
        versioning: Some("Enabled"),
        ..Odd::default()
    });
    let told = store.probe_with(&more, 2);
    assert_eq!(told["verdict"], "safe", "{told:#}");
    assert_eq!(
        told["dynamodb"],
        json!({
            "table": "locks", "status": "ACTIVE", "key_schema_ok": true,
            "detail": "The table's key is LockID, of type S (String).",
        })
    );
    let all = outcomes(&told);
    for check in [
        "table-shape",
        "table-create-only-refused",
        "table-one-creator-wins",
        "table-conditional-delete",
    ] {
        assert_eq!(all[check], "ok", "{told:#}");
    }
    store.assert_clean(&told);

    let wrong = |table| Odd {
        table: Some(table),
        ..Odd::default()
    };
    let careless = Odd {
        ignores_table_conditions: true,
        ..Odd::default()
    };
    let absent = Odd {
        no_table: true,
        ..Odd::default()
    };
    let forbidding = |operation| Odd {
        forbids: Some(operation),
        ..Odd::default()
    };
    for (odd, verdict, check, text) in [
        (
            wrong(vec![("ID", "S", "HASH")]),
            "unsafe",
            ("table-shape", "failed"),
            "partition key ID of type S",
        ),
        (
            wrong(vec![("LockID", "N", "HASH")]),
            "unsafe",
            ("table-shape", "failed"),
            "of type N",
        ),
        (
            wrong(vec![("LockID", "S", "HASH"), ("Sort", "S", "RANGE")]),
            "unsafe",
            ("table-shape", "failed"),
            "sort key Sort",
        ),
        (
            absent,
            "unsafe",
            ("table-shape", "failed"),
            "there is no such table",
        ),
        (
            careless,
            "unsafe",
            ("table-create-only-refused", "failed"),
            "silently ignores the condition",
        ),
        (
            forbidding("DescribeTable"),
            "safe",
            ("table-shape", "not-tested"),
            "dynamodb:DescribeTable",
        ),
        (
            forbidding("PutItem"),
            "unknown",
            ("table-create-only-refused", "not-tested"),
            "dynamodb:PutItem",
        ),
        (
            forbidding("GetItem"),
            "unknown",
            ("table-create-only-refused", "not-tested"),
            "dynamodb:GetItem",
        ),
    ] {
        let store = OddStore::new(odd);
        let told = store.probe_with(&more, 1);
        assert_told(&told, verdict, check, &[text]);
        store.assert_clean(&told);
    }
}

#[test]
fn aws_itself_is_only_looked_at_unless_asked() {
    let own = ",\"endpoints\":{}";
    let spelt = ",\"endpoints\":{\"s3\":\"https://s3.eu-west-1.amazonaws.com\"}";
    for more in [own, spelt] {
        let store = OddStore::new(Odd::default());
        let told = store.probe_with(more, 0);
        assert_told(
            &told,
            "safe",
            ("versioning", "warning"),
            &["put-bucket-versioning"],
        );
        assert_eq!(
            (&told["probed"], &told["rounds"]),
            (&json!(false), &json!(0))
        );
        assert_eq!(told["endpoint"], "https://s3.eu-west-1.amazonaws.com");
        assert_eq!(store.memory().seen, ["GET /tfstate?versioning="]);

        let options = ProbeOptions {
            rounds: 1,
            even_aws: true,
        };
        let told = store.open(more, None).probe(options).unwrap();
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(
            (&told["probed"], &told["verdict"]),
            (&json!(true), &json!("safe"))
        );
        store.assert_clean(&told);
    }
    let store = OddStore::new(Odd {
        forbids: Some("versioning"),
        ..Odd::default()
    });
    let told = store.probe_with(own, 0);
    assert_told(
        &told,
        "safe",
        ("versioning", "not-tested"),
        &["s3:GetBucketVersioning"],
    );
    assert_eq!(told["versioning"]["status"], "unknown");
}

#[test]
fn a_probe_without_time_leaves_open_what_it_did_not_try_and_cleans_up() {
    for budget in [100, 500, 1000, 2000] {
        let store = OddStore::new(Odd::default());
        let options = ProbeOptions {
            rounds: 100,
            even_aws: false,
        };
        let told = store.open("", Some(budget)).probe(options).unwrap();
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["verdict"], "unknown", "{budget}: {told:#}");
        store.assert_clean(&told);
    }
    let store = OddStore::new(Odd::default());
    let told = store.open("", Some(4000)).probe(ProbeOptions {
        rounds: 1000,
        even_aws: false,
    });
    let told: Value = serde_json::from_str(&told.unwrap()).unwrap();
    assert_told(
        &told,
        "unknown",
        ("one-creator-wins", "not-tested"),
        &["of 1000 races"],
    );
}

#[test]
fn a_fault_at_any_request_leaves_nothing_behind_and_makes_no_store_unsafe() {
    let slow = "<Error><Code>SlowDown</Code></Error>";
    let internal = "<Error><Code>InternalError</Code></Error>";
    let conflict = "<Error><Code>ConditionalRequestConflict</Code></Error>";
    let denied = "<Error><Code>AccessDenied</Code></Error>";
    let faults: [fn() -> Fault; 3] = [
        || Fault::Fails(TransportError::Broken("reset".to_owned())),
        || Fault::Fails(TransportError::NotConnected("refused".to_owned())),
        || Fault::LostAnswer,
    ];
    let answers = [
        Some((503, slow, false)),
        Some((500, internal, true)),
        Some((409, conflict, false)),
        Some((403, denied, false)),
    ];
    for versioning in [None, Some("Enabled")] {
        let odd = Odd {
            versioning,
            ..Odd::default()
        };
        let store = OddStore::new(odd.clone());
        store.probe_with(&table(true), 1);
        let requests = store.inner.world().requests.len();
        assert!(requests > 50);
        for n in 1..=requests {
            for kind in 0..faults.len() + answers.len() {
                let store = OddStore::new(odd.clone());
                let fault = match kind.checked_sub(faults.len()).and_then(|it| answers[it]) {
                    None => faults[kind](),
                    Some((status, body, true)) => Fault::DoneBut(status, body),
                    Some((status, body, false)) => Fault::Answer(status, body),
                };
                store.inner.fault(n, fault);
                let options = ProbeOptions {
                    rounds: 1,
                    even_aws: false,
                };
                let Ok(told) = store.open(&table(true), None).probe(options) else {
                    assert_eq!(n, 1, "an error although the store was reached");
                    store.assert_clean(&Value::Null);
                    continue;
                };
                let told: Value = serde_json::from_str(&told).unwrap();
                assert_ne!(
                    told["verdict"], "unsafe",
                    "request {n}, fault {kind}: {told:#}"
                );
                let world = store.inner.world();
                assert_eq!(
                    world.objects.len(),
                    1,
                    "request {n}, fault {kind}: {told:#}"
                );
                assert!(
                    world.items.is_empty(),
                    "request {n}, fault {kind}: {told:#}"
                );
                drop(world);
                if !told["reasons"].to_string().contains("old versions") {
                    let left = store.memory().versions.clone();
                    assert_eq!(left, [], "request {n}, fault {kind}: {told:#}");
                }
            }
        }
    }
}
