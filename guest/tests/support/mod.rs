//! A store in memory behind a fake platform: no socket, no sleep, every request counted, and a fault wherever a test
//! wants one.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test reports by panicking"
)]

pub mod schedule;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use cofferdam_s3::Store;
use cofferdam_s3::config::{Diagnostic, Environment};
use cofferdam_s3::contract::{
    DeleteOptions, Error, Expectation, Fence, HeldLock, LockInfo, OpenOptions, Reading, Revision,
    State, UnlockBy, WriteOptions,
};
use cofferdam_s3::platform::{
    AccessKey, Clock, Credentials, HttpBody, HttpRequest, HttpResponse, Method, Random, Refusal,
    Surroundings, Transport, TransportError,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub const STATE: &str = "/tfstate/app/terraform.tfstate";
pub const LOCK: &str = "/tfstate/app/terraform.tfstate.tflock";
/// Key of the lock item.
pub const ITEM: &str = "tfstate/app/terraform.tfstate";
/// Key of the digest item.
pub const DIGEST: &str = "tfstate/app/terraform.tfstate-md5";
pub const DEV: &str = "/tfstate/env%3A/dev/app/terraform.tfstate";

/// 2026-11-23T01:25:24Z
pub const START: Duration = Duration::from_secs(1_795_397_124);

/// What happens to one request.
pub enum Fault {
    /// This comes back, and the store never sees the request.
    Answer(u16, &'static str),
    /// This comes back with headers, and the store never sees the request.
    AnswerWith(u16, Vec<(&'static str, String)>, &'static str),
    /// Something else happens to the objects first.
    Before(Box<dyn FnOnce(&mut Objects) + Send>),
    /// Something else happens to all that is stored first.
    BeforeAll(Box<dyn FnOnce(&mut World) + Send>),
    /// The store never sees it.
    Fails(TransportError),
    /// The store does it, and its answer gets lost.
    LostAnswer,
    /// The store does it, and answers so all the same.
    DoneBut(u16, &'static str),
    /// The answer ends in the middle.
    Truncated,
}

/// Objects by the path of their URL.
pub type Objects = BTreeMap<String, Vec<u8>>;

/// Items of the table by their key.
pub type Items = BTreeMap<String, Item>;

/// Attributes of text.
pub type Item = BTreeMap<String, String>;

/// What the store can do.
#[derive(Clone, Copy, Default)]
pub struct Quirks {
    /// 501 for every condition.
    pub no_conditions: bool,
    /// 501 for conditions on DELETE.
    pub no_conditional_delete: bool,
    /// Keys a page.
    pub page: usize,
    /// ETags are MD5s, as S3's without KMS.
    pub md5_tags: bool,
    /// No checksum of DynamoDB is right.
    pub bad_crc: bool,
}

#[derive(Default)]
pub struct World {
    pub objects: Objects,
    /// Older versions of objects, newest first: path, version, bytes.
    pub versions: Vec<(String, String, Vec<u8>)>,
    pub items: Items,
    pub quirks: Quirks,
    pub requests: Vec<Request>,
    pub faults: HashMap<usize, Fault>,
    pub slept: Duration,
    pub elapsed: Duration,
    /// How much later the store's clock is. Seconds.
    pub skew: i64,
    /// What one request takes.
    pub latency: Duration,
    pub reports: Vec<Diagnostic>,
    pub lent: Vec<Option<AccessKey>>,
    pub variables: HashMap<String, String>,
    /// By path.
    pub files: HashMap<String, Vec<u8>>,
    /// What a command prints. All others are denied.
    pub commands: HashMap<String, Vec<u8>>,
    /// Whether the host lets instances share their credentials.
    pub shares: bool,
}

/// Under which name.
const SHARED: &str = "\0credentials";

/// A request as it was sent.
#[derive(Clone)]
pub struct Request {
    pub method: Method,
    /// Scheme and authority.
    pub origin: String,
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: Option<Vec<u8>>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Such as `PutItem tfstate/k Info if absent`.
    fn told(&self, target: &str) -> String {
        let operation = target.strip_prefix("DynamoDB_20120810.").unwrap();
        let body = self.json();
        let key = body["Key"]["LockID"]["S"].as_str();
        let key = key.or(body["Item"]["LockID"]["S"].as_str());
        let condition = match body["ConditionExpression"].as_str() {
            None => "",
            Some(text) if text.starts_with("attribute_not_exists") => " if absent",
            Some(_) => " if equal",
        };
        format!("{operation} {}{condition}", key.unwrap_or_default())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(self.body.as_ref().unwrap()).unwrap()
    }

    fn key(&self) -> &str {
        self.path.split('?').next().unwrap()
    }
}

/// A fake of everything outside.
#[derive(Clone, Default)]
pub struct Fake(Arc<Mutex<World>>);

impl Fake {
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// Lets the `n`-th request from now on, counted from 1, meet a fault.
    pub fn fault(&self, n: usize, fault: Fault) {
        let mut world = self.world();
        let n = world.requests.len() + n;
        world.faults.insert(n, fault);
    }

    /// What was sent since the last call, such as `PUT /tfstate/k If-Match`.
    pub fn sent(&self) -> Vec<String> {
        let mut world = self.world();
        let told = std::mem::take(&mut world.requests);
        world.faults.clear();
        told.iter()
            .map(|request| {
                let condition = match (request.header("if-match"), request.header("if-none-match"))
                {
                    (Some(_), _) => " If-Match",
                    (_, Some("*")) => " If-None-Match:*",
                    (_, Some(_)) => " If-None-Match",
                    _ => "",
                };
                match request.header("x-amz-target") {
                    Some(target) => request.told(target),
                    None => format!("{} {}{condition}", request.method.as_str(), request.path),
                }
            })
            .collect()
    }

    pub fn put(&self, path: &str, bytes: &[u8]) {
        self.world().objects.insert(path.to_owned(), bytes.to_vec());
    }

    pub fn stored(&self, path: &str) -> Option<Vec<u8>> {
        self.world().objects.get(path).cloned()
    }

    /// Opens a store with a table, and with the lock file as said.
    pub fn open_with_table(&self, use_lockfile: bool) -> Store<Fake> {
        self.open_with(&table(use_lockfile), Fence::Required, None)
    }

    /// The body of the request with this number, counted from 0.
    pub fn body(&self, n: usize) -> String {
        String::from_utf8(self.world().requests[n].body.clone().unwrap()).unwrap()
    }

    /// One attribute of an item.
    pub fn item(&self, key: &str, attribute: &str) -> Option<String> {
        self.world().items.get(key)?.get(attribute).cloned()
    }

    pub fn put_item(&self, key: &str, attribute: &str, value: &str) {
        put_item(&mut self.world().items, key, attribute, value);
    }

    pub fn pass(&self, time: Duration) {
        self.world().elapsed += time;
    }

    pub fn open(&self) -> Store<Fake> {
        self.open_with("", Fence::Required, None)
    }

    /// The configuration that all tests share, and more.
    pub fn config(more: &str) -> String {
        format!(
            "{{\"bucket\":\"tfstate\",\"key\":\"app/terraform.tfstate\",\"region\":\"eu-west-1\",\
             \"access_key\":\"AKIAIOSFODNN7EXAMPLE\",\"secret_key\":\"CANARY-SECRET\",\
             \"endpoints\":{{\"s3\":\"http://s3.test:9000\"}},\"use_path_style\":true,\
             \"skip_credentials_validation\":true{more}{}}}",
            if more.contains("use_lockfile") {
                ""
            } else {
                ",\"use_lockfile\":true"
            }
        )
    }

    pub fn open_with(&self, more: &str, fence: Fence, budget: Option<u32>) -> Store<Fake> {
        let config = Self::config(more);
        let options = OpenOptions {
            fence,
            call_budget: budget,
            max_state: 1000,
        };
        Store::open(self.clone(), &config, options)
            .unwrap_or_else(|diagnostics| panic!("{diagnostics:?}"))
            .0
    }
}

impl Clock for Fake {
    fn now(&self) -> Duration {
        START + self.world().elapsed
    }

    fn monotonic(&self) -> Duration {
        self.world().elapsed
    }

    fn sleep(&self, duration: Duration) {
        let mut world = self.world();
        world.elapsed += duration;
        world.slept += duration;
    }
}

impl Random for Fake {
    fn next_u64(&self) -> u64 {
        u64::MAX / 2
    }
}

impl Environment for Fake {
    fn variable(&self, name: &str) -> Option<String> {
        self.world().variables.get(name).cloned()
    }
}

impl Surroundings for Fake {
    fn credentials(&self) -> Option<Credentials> {
        let mut world = self.world();
        if world.lent.is_empty() {
            return None;
        }
        Some(Credentials {
            key: world.lent.remove(0)?,
            expires_at: None,
            account_id: None,
        })
    }

    fn read_file(&self, path: &str) -> Result<Vec<u8>, Refusal> {
        let world = self.world();
        if path == SHARED && !world.shares {
            return Err(Refusal::Denied);
        }
        world.files.get(path).cloned().ok_or(Refusal::NotFound)
    }

    fn replace_file(&self, path: &str, bytes: &[u8]) -> Result<(), Refusal> {
        let mut world = self.world();
        if path == SHARED && !world.shares {
            return Err(Refusal::Denied);
        }
        if path == SHARED && bytes.is_empty() {
            world.files.remove(path);
            return Ok(());
        }
        world.files.insert(path.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn run(&self, command: &str) -> Result<Vec<u8>, Refusal> {
        let world = self.world();
        world.commands.get(command).cloned().ok_or(Refusal::Denied)
    }

    fn report(&self, diagnostic: Diagnostic) {
        self.world().reports.push(diagnostic);
    }
}

impl Transport for Fake {
    fn send(&self, request: &HttpRequest<'_>) -> Result<HttpResponse, TransportError> {
        let mut world = self.world();
        let request = Request {
            method: request.method,
            origin: format!("{}://{}", request.scheme, request.authority),
            path: request.path_and_query.to_owned(),
            headers: request.headers.iter().cloned().collect(),
            body: request.body.map(<[u8]>::to_vec),
        };
        world.requests.push(request.clone());
        let latency = world.latency;
        world.elapsed += latency;
        let number = world.requests.len();
        let date = httpdate::fmt_http_date(
            (std::time::SystemTime::UNIX_EPOCH + START + world.elapsed)
                .checked_add(Duration::from_secs(world.skew.unsigned_abs()))
                .unwrap(),
        );
        let answer = |status: u16, headers: Vec<(&str, String)>, body: &[u8]| {
            let mut all: Vec<_> = headers
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect();
            all.push(("date".to_owned(), date.clone()));
            if !all.iter().any(|(name, _)| name == "content-length") {
                all.push(("content-length".to_owned(), body.len().to_string()));
            }
            HttpResponse {
                status,
                headers: all,
                body: Box::new(Chunks(body.chunks(7).map(<[u8]>::to_vec).rev().collect())),
            }
        };
        match world.faults.remove(&number) {
            Some(Fault::Answer(status, body)) => Ok(answer(status, vec![], body.as_bytes())),
            Some(Fault::AnswerWith(status, headers, body)) => {
                Ok(answer(status, headers, body.as_bytes()))
            }
            Some(Fault::Before(change)) => {
                change(&mut world.objects);
                let (status, headers, body) = world.perform(&request);
                Ok(answer(status, headers, &body))
            }
            Some(Fault::BeforeAll(change)) => {
                change(&mut world);
                let (status, headers, body) = world.perform(&request);
                Ok(answer(status, headers, &body))
            }
            Some(Fault::Fails(error)) => Err(error),
            Some(Fault::LostAnswer) => {
                world.perform(&request);
                Err(TransportError::Broken("reset".to_owned()))
            }
            Some(Fault::DoneBut(status, body)) => {
                world.perform(&request);
                Ok(answer(status, vec![], body.as_bytes()))
            }
            Some(Fault::Truncated) => {
                let (status, mut headers, body) = world.perform(&request);
                headers.push(("content-length", body.len().to_string()));
                Ok(answer(status, headers, &body[..body.len() / 2]))
            }
            None => {
                let (status, headers, body) = world.perform(&request);
                Ok(answer(status, headers, &body))
            }
        }
    }
}

type Performed = (u16, Vec<(&'static str, String)>, Vec<u8>);

impl World {
    fn perform(&mut self, request: &Request) -> Performed {
        let now = request.header("x-amz-date").unwrap().to_owned();
        let is_late = self.skew.unsigned_abs() > 900 && now.starts_with("20261123T0125");
        if is_late {
            return error(403, "RequestTimeTooSkewed");
        }
        if let Some(target) = request.header("x-amz-target") {
            assert_eq!(request.path, "/");
            let (status, answer) = self.perform_on_table(target, &request.json());
            let answer = answer.to_string().into_bytes();
            let crc = crc32(&answer) ^ u32::from(self.quirks.bad_crc);
            let headers = vec![
                ("x-amzn-requestid", "REQ2".to_owned()),
                ("x-amz-crc32", crc.to_string()),
            ];
            return (status, headers, answer);
        }
        let etag = |bytes: &[u8]| self.etag(bytes);
        let path = request.key().to_owned();
        let stored = self.objects.get(&path).cloned();
        let condition = (request.header("if-match"), request.header("if-none-match"));
        let changes = request.method != Method::Get;
        let is_conditional = changes && condition != (None, None);
        if is_conditional
            && (self.quirks.no_conditions
                || (self.quirks.no_conditional_delete && request.method == Method::Delete))
        {
            return error(501, "NotImplemented");
        }
        match (condition, &stored) {
            ((Some(_), _), None) => return error(404, "NoSuchKey"),
            ((Some(tag), _), Some(bytes)) if tag != etag(bytes) => {
                return error(412, "PreconditionFailed");
            }
            ((_, Some("*")), Some(_)) if changes => return error(412, "PreconditionFailed"),
            ((_, Some(tag)), Some(bytes)) if tag == etag(bytes) => return (304, vec![], vec![]),
            _ => {}
        }
        match request.method {
            Method::Put => {
                let body = request.body.clone().unwrap();
                let length = request.header("content-length").unwrap();
                assert_eq!(length, body.len().to_string());
                let checksum = BASE64.encode(Sha256::digest(&body));
                if request
                    .header("x-amz-checksum-sha256")
                    .is_some_and(|given| given != checksum)
                {
                    return error(400, "XAmzContentSHA256Mismatch");
                }
                let tag = etag(&body);
                self.objects.insert(path, body);
                (200, vec![("etag", tag)], vec![])
            }
            Method::Delete => {
                self.objects.remove(&path);
                (204, vec![], vec![])
            }
            Method::Get if request.path.contains("list-type=2") => self.list(&request.path),
            Method::Get if request.path.ends_with("&versions=") => self.list_versions(),
            Method::Get if request.path.contains("?versionId=") => {
                let id = request.path.split_once("?versionId=").unwrap().1;
                let found = self
                    .versions
                    .iter()
                    .find(|(of, version, _)| *of == path && version == id);
                match found {
                    None => error(404, "NoSuchVersion"),
                    Some((_, _, bytes)) => (200, vec![("etag", etag(bytes))], bytes.clone()),
                }
            }
            Method::Get => match stored {
                None => error(404, "NoSuchKey"),
                Some(bytes) => {
                    let checksum = BASE64.encode(Sha256::digest(&bytes));
                    let headers = vec![("etag", etag(&bytes)), ("x-amz-checksum-sha256", checksum)];
                    (200, headers, bytes)
                }
            },
            Method::Post => error(405, "MethodNotAllowed"),
        }
    }

    pub fn etag(&self, bytes: &[u8]) -> String {
        match self.quirks.md5_tags {
            true => format!("\"{}\"", md5(bytes)),
            false => etag(bytes),
        }
    }

    fn list_versions(&self) -> Performed {
        let mut xml = String::from("<ListVersionsResult>");
        for (path, id, bytes) in &self.versions {
            let (key, tag) = (&path["/tfstate/".len()..], self.etag(bytes));
            xml.push_str(&format!(
                "<Version><Key>{key}</Key><VersionId>{id}</VersionId><ETag>{tag}</ETag></Version>"
            ));
        }
        xml.push_str("</ListVersionsResult>");
        (200, vec![], xml.into_bytes())
    }

    fn perform_on_table(&mut self, target: &str, body: &Value) -> (u16, Value) {
        assert_eq!(body["TableName"], "locks");
        let condition = body["ConditionExpression"].as_str();
        let key = body["Key"]["LockID"]["S"].as_str();
        let key = key.or(body["Item"]["LockID"]["S"].as_str());
        let stored = key.and_then(|key| self.items.get(key));
        let holds = match condition {
            None => true,
            Some("attribute_not_exists(LockID)") => stored.is_none(),
            Some("attribute_not_exists(Info)") => stored.is_none_or(|it| !it.contains_key("Info")),
            Some("attribute_not_exists(Digest)") => {
                stored.is_none_or(|it| !it.contains_key("Digest"))
            }
            Some(text) => {
                let (name, variable) = text.split_once(" = ").unwrap();
                let value = body["ExpressionAttributeValues"][variable]["S"].as_str();
                assert!(value.is_some(), "{body}");
                stored.and_then(|it| it.get(name)).map(String::as_str) == value
            }
        };
        if !holds {
            return table_error("ConditionalCheckFailedException");
        }
        let presented = |item: &Item| -> Value {
            let texts = item
                .iter()
                .map(|(name, value)| (name.clone(), json!({ "S": value })));
            Value::Object(texts.collect())
        };
        let key = key.map(str::to_owned);
        match (target.strip_prefix("DynamoDB_20120810."), key) {
            (Some("PutItem"), Some(key)) => {
                let item = body["Item"].as_object().unwrap().iter();
                let item =
                    item.map(|(name, it)| (name.clone(), it["S"].as_str().unwrap().to_owned()));
                self.items.insert(key, item.collect());
                (200, json!({}))
            }
            (Some("GetItem"), Some(key)) => {
                assert_eq!(body["ConsistentRead"], true);
                match self.items.get(&key) {
                    Some(item) => (200, json!({ "Item": presented(item) })),
                    None => (200, json!({})),
                }
            }
            (Some("DeleteItem"), Some(key)) => match self.items.remove(&key) {
                Some(item) => (200, json!({ "Attributes": presented(&item) })),
                None => (200, json!({})),
            },
            _ => table_error("UnknownOperationException"),
        }
    }

    fn list(&self, path: &str) -> Performed {
        let query: HashMap<_, _> = path
            .split_once('?')
            .unwrap()
            .1
            .split('&')
            .map(|pair| pair.split_once('=').unwrap())
            .collect();
        let prefix = query["prefix"].replace("%3A", ":").replace("%2F", "/");
        let start: usize = query
            .get("continuation-token")
            .map_or(0, |token| token.parse().unwrap());
        let size = self.quirks.page.max(1);
        let keys: Vec<_> = self
            .objects
            .keys()
            .map(|path| path["/tfstate/".len()..].replace("%3A", ":"))
            .filter(|key| key.starts_with(&prefix))
            .collect();
        let mut xml = String::from("<?xml version=\"1.0\"?><ListBucketResult xmlns=\"x\">");
        for key in keys.iter().skip(start).take(size) {
            xml.push_str(&format!("<Contents><Key>{key}</Key></Contents>"));
        }
        let more = start + size < keys.len();
        xml.push_str(&format!("<IsTruncated>{more}</IsTruncated>"));
        if more {
            let next = start + size;
            xml.push_str(&format!(
                "<NextContinuationToken>{next}</NextContinuationToken>"
            ));
        }
        xml.push_str("</ListBucketResult>");
        (200, vec![], xml.into_bytes())
    }
}

fn table_error(code: &str) -> (u16, Value) {
    let code = format!("com.amazonaws.dynamodb.v20120810#{code}");
    (400, json!({ "__type": code, "message": "m" }))
}

fn error(status: u16, code: &str) -> Performed {
    let xml = format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
    (
        status,
        vec![("x-amz-request-id", "REQ1".to_owned())],
        xml.into_bytes(),
    )
}

/// More of a configuration: a table, and the lock file as said.
pub fn table(use_lockfile: bool) -> String {
    format!(",\"dynamodb_table\":\"locks\",\"use_lockfile\":{use_lockfile}")
}

pub fn put_item(items: &mut Items, key: &str, attribute: &str, value: &str) {
    let item = [("LockID", key), (attribute, value)];
    let item = item.map(|(name, value)| (name.to_owned(), value.to_owned()));
    items.insert(key.to_owned(), Item::from(item));
}

pub fn md5(bytes: &[u8]) -> String {
    let digest = md5::Md5::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0xedb8_8320
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

/// Equal bytes have equal tags, as S3's MD5.
pub fn etag(bytes: &[u8]) -> String {
    format!("\"{}\"", BASE64.encode(&Sha256::digest(bytes)[..12]))
}

struct Chunks(Vec<Vec<u8>>);

impl HttpBody for Chunks {
    fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, TransportError> {
        Ok(self.0.pop())
    }
}

pub fn state(serial: u64) -> Vec<u8> {
    format!("{{\"version\":4,\"serial\":{serial},\"lineage\":\"l-1\"}}").into_bytes()
}

pub fn info(id: &str) -> LockInfo {
    LockInfo {
        id: id.to_owned(),
        operation: "OperationTypeApply".to_owned(),
        info: String::new(),
        who: "me@here".to_owned(),
        version: "1.11.4".to_owned(),
        created: "2026-11-23T01:25:24.500Z".to_owned(),
        path: String::new(),
    }
}

/// The id in a lock's record.
pub fn id_of(record: Vec<u8>) -> String {
    let record: Value = serde_json::from_slice(&record).unwrap();
    record["ID"].as_str().unwrap().to_owned()
}

pub fn record(id: &str) -> Vec<u8> {
    format!("{{\"ID\":\"{id}\",\"Who\":\"other@there\"}}").into_bytes()
}

pub fn expecting(expect: Expectation) -> WriteOptions {
    WriteOptions {
        expect,
        lock: None,
        sha256: None,
    }
}

pub fn under(lock: &HeldLock, expect: Expectation) -> WriteOptions {
    WriteOptions {
        lock: Some(lock.clone()),
        ..expecting(expect)
    }
}

pub fn deleting(expect: Expectation) -> DeleteOptions {
    DeleteOptions { expect, lock: None }
}

pub fn revision(bytes: &[u8]) -> Revision {
    Revision {
        tag: etag(bytes),
        version: None,
    }
}

pub fn whole(reading: Reading) -> State {
    match reading {
        Reading::State(state) => state,
        other => panic!("no state: {other:?}"),
    }
}

pub fn by(lock: &HeldLock) -> UnlockBy {
    UnlockBy::Held(lock.clone())
}

/// Id of the first holder that the error names.
pub fn holder_id(error: &Error) -> Option<&str> {
    Some(error.holders.first()?.info.as_ref()?.id.as_str())
}

pub fn fact<'e>(error: &'e Error, name: &str) -> Option<&'e str> {
    let (_, value) = error.facts.iter().find(|(known, _)| known == name)?;
    Some(value)
}
