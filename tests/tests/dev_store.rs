//! The embedded store, over HTTP, as its clients see it.

#![allow(
    clippy::unwrap_used,
    reason = "also the helpers of tests fail by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use cofferdam::dev_store::{DevStore, Fault, FaultRule};
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsAuthorizer, AwsCredential, Checksum};
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, UpdateVersion};

// From here on all that the tests log is searched for secrets.
use cofferdam_canaries as _;

#[path = "dev_store/encryption.rs"]
mod encryption;
#[path = "dev_store/misbehaviour.rs"]
mod misbehaviour;
#[path = "dev_store/sts.rs"]
mod sts;
#[path = "dev_store/tables.rs"]
mod tables;
#[path = "dev_store/tags.rs"]
mod tags;
#[path = "dev_store/versions.rs"]
mod versions;

/// Sends single requests, signed as told.
struct Client {
    http: HttpClient<HttpConnector, Full<Bytes>>,
    url: String,
    credential: AwsCredential,
    region: String,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn etag(&self) -> &str {
        self.headers["etag"].to_str().unwrap()
    }

    fn code(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let inner = text.split_once("<Code>").map_or("", |(_, rest)| rest);
        inner.split('<').next().unwrap_or_default().to_owned()
    }
}

impl Client {
    fn new(store: &DevStore) -> Self {
        Self {
            http: HttpClient::builder(TokioExecutor::new()).build_http(),
            url: store.url(),
            credential: AwsCredential {
                key_id: store.access_key_id().to_owned(),
                secret_key: store.secret_access_key().to_owned(),
                token: None,
            },
            region: store.region().to_owned(),
        }
    }

    async fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, String> {
        self.try_send_to("s3", method, path, headers, body).await
    }

    async fn try_send_to(
        &self,
        service: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, String> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.into();
        let mut request = request.body(body.clone().into()).unwrap();
        AwsAuthorizer::new(&self.credential, service, &self.region)
            .try_authorize(&mut request, None)
            .unwrap();
        let request = request.map(|_| Full::new(body));
        let answer = self
            .http
            .request(request)
            .await
            .map_err(|error| error.to_string())?;
        let (head, body) = answer.into_parts();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body
                .collect()
                .await
                .map_err(|error| error.to_string())?
                .to_bytes(),
        })
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        self.try_send(method, path, headers, body).await.unwrap()
    }
}

fn object_store(store: &DevStore) -> AmazonS3 {
    AmazonS3Builder::new()
        .with_endpoint(store.url())
        .with_allow_http(true)
        .with_bucket_name(store.bucket())
        .with_region(store.region())
        .with_access_key_id(store.access_key_id())
        .with_secret_access_key(store.secret_access_key())
        .with_checksum_algorithm(Checksum::SHA256)
        .build()
        .unwrap()
}

async fn start() -> (DevStore, Client) {
    let store = DevStore::builder().start().await.unwrap();
    let client = Client::new(&store);
    (store, client)
}

fn once(operation: &str, fault: Fault) -> FaultRule {
    FaultRule {
        operation: Some(operation.to_owned()),
        key_ends_with: None,
        skip: 0,
        times: 1,
        fault,
    }
}

#[tokio::test]
async fn only_the_right_key_region_and_time_are_let_in() {
    let (store, mut client) = start().await;
    store.put_object("s", "secret state").unwrap();
    let unsigned: Request<Full<Bytes>> = Request::get(format!("{}/tfstate/s", store.url()))
        .body(Full::default())
        .unwrap();
    let answer = client.http.request(unsigned).await.unwrap();
    assert_eq!(answer.status(), 403, "no signature");

    let answer = client.send("GET", "/tfstate/s", &[], "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, "secret state");

    let right = client.credential.secret_key.clone();
    client.credential.secret_key = "wrong".to_owned();
    // Large enough that it is still being sent when the answer is ready.
    let answer = client
        .send("PUT", "/tfstate/s", &[], vec![b'x'; 4_000_000])
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.code()),
        (403, "SignatureDoesNotMatch".to_owned())
    );
    client.credential.secret_key = right;

    client.region = "eu-west-1".to_owned();
    let answer = client.send("GET", "/tfstate/s", &[], "").await;
    assert_eq!(answer.code(), "AuthorizationHeaderMalformed");
    assert_eq!(answer.headers["x-amz-bucket-region"], "us-east-1");
    client.region = "us-east-1".to_owned();

    client.credential.token = Some("token".to_owned());
    let answer = client.send("GET", "/tfstate/s", &[], "").await;
    assert_eq!(answer.code(), "InvalidToken");
    client.credential.token = None;

    client.credential.key_id = "UNKNOWN".to_owned();
    let answer = client.send("GET", "/tfstate/s", &[], "").await;
    assert_eq!(answer.code(), "InvalidAccessKeyId");

    assert_eq!(store.object("s").unwrap(), "secret state");
    assert_eq!(store.history("s").len(), 1, "nothing was written");
}

#[tokio::test]
async fn conditions_decide_writes_and_deletes() {
    let (store, client) = start().await;
    let send = |method, headers: &'static [(&str, &str)]| {
        client.send(method, "/tfstate/env%3A/a/s", headers, "one")
    };
    let answer = send("PUT", &[("if-match", "\"0\"")]).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code()),
        (404, "NoSuchKey".to_owned())
    );
    let answer = send("DELETE", &[("if-match", "\"0\"")]).await;
    assert_eq!(answer.status, 404);
    assert_eq!(
        send("DELETE", &[]).await.status,
        204,
        "deleting what is absent"
    );
    let first = send("PUT", &[("if-none-match", "*")]).await;
    assert_eq!(first.status, 200);
    assert_eq!(
        first.etag(),
        "\"f97c5d29941bfb1b2fdab0874906ab82\"",
        "the MD5"
    );
    let answer = send("PUT", &[("if-none-match", "*")]).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code()),
        (412, "PreconditionFailed".to_owned())
    );
    let answer = send("PUT", &[("if-match", "\"0\"")]).await;
    assert_eq!(answer.status, 412);
    let answer = send("DELETE", &[("if-match", "\"0\"")]).await;
    assert_eq!(answer.status, 412);
    let answer = client
        .send(
            "PUT",
            "/tfstate/env%3A/a/s",
            &[("if-match", first.etag())],
            "two",
        )
        .await;
    assert_eq!(answer.status, 200);
    let answer = client
        .send(
            "DELETE",
            "/tfstate/env%3A/a/s",
            &[("if-match", answer.etag())],
            "",
        )
        .await;
    assert_eq!(answer.status, 204);

    let bodies: Vec<Option<Bytes>> = store
        .history("env:/a/s")
        .into_iter()
        .map(|generation| generation.body)
        .collect();
    assert_eq!(bodies, [Some("one".into()), Some("two".into()), None]);
    let answer = client.send("PUT", "/nowhere/s", &[], "one").await;
    assert_eq!(
        (answer.status.as_u16(), answer.code()),
        (404, "NoSuchBucket".to_owned())
    );
}

#[tokio::test]
async fn reads_honour_conditions_and_ranges() {
    let (store, client) = start().await;
    store.put_object("s", "0123456789").unwrap();
    let get = |headers: Vec<(&'static str, String)>| {
        let client = &client;
        async move {
            let headers: Vec<(&str, &str)> = headers
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            client.send("GET", "/tfstate/s", &headers, "").await
        }
    };
    let whole = get(vec![]).await;
    assert_eq!(whole.body, "0123456789");
    let etag = whole.etag().to_owned();
    let same = get(vec![("if-none-match", etag.clone())]).await;
    assert_eq!(
        (same.status.as_u16(), same.body.len(), same.etag()),
        (304, 0, etag.as_str())
    );
    assert_eq!(
        get(vec![("if-none-match", "\"0\"".into())]).await.status,
        200
    );
    assert_eq!(get(vec![("if-match", "\"0\"".into())]).await.status, 412);
    let part = get(vec![("range", "bytes=2-4".into())]).await;
    assert_eq!(
        (part.status.as_u16(), part.body.as_ref()),
        (206, &b"234"[..])
    );
    assert_eq!(part.headers["content-range"], "bytes 2-4/10");
    let tail = get(vec![("range", "bytes=8-99".into())]).await;
    assert_eq!(tail.body, "89");
    assert_eq!(get(vec![("range", "bytes=10-".into())]).await.status, 416);
    let missing = client.send("GET", "/tfstate/none", &[], "").await;
    assert_eq!(missing.code(), "NoSuchKey");
    let head = client.send("HEAD", "/tfstate/s", &[], "").await;
    assert_eq!(
        (&head.headers["content-length"], head.body.len()),
        (&"10".parse().unwrap(), 0)
    );
    assert_eq!(
        client.send("HEAD", "/tfstate/none", &[], "").await.status,
        404
    );
}

#[tokio::test]
async fn checksums_are_verified_kept_and_returned_on_demand() {
    let (store, client) = start().await;
    // The SHA-256 of "state" and of "other".
    let right = "S6aXNcpTdl7WpwnttWxuoja3GTo7KaazkMNG8PQ0Dk4=";
    let wrong = "2SmKENGwc1g33EvYXaxkGw887yekfl1TpU8vP1svz/o=";
    let put = |value: &'static str| {
        let client = &client;
        async move {
            client
                .send(
                    "PUT",
                    "/tfstate/s",
                    &[("x-amz-checksum-sha256", value)],
                    "state",
                )
                .await
        }
    };
    assert_eq!(put(wrong).await.code(), "BadDigest");
    assert!(store.object("s").is_none());
    let stored = put(right).await;
    assert_eq!(stored.headers["x-amz-checksum-sha256"], right);
    let plain = client.send("GET", "/tfstate/s", &[], "").await;
    assert!(!plain.headers.contains_key("x-amz-checksum-sha256"));
    let mode = [("x-amz-checksum-mode", "ENABLED")];
    let checked = client.send("GET", "/tfstate/s", &mode, "").await;
    assert_eq!(checked.headers["x-amz-checksum-sha256"], right);
    assert_eq!(checked.headers["x-amz-checksum-type"], "FULL_OBJECT");
    let answer = client
        .send(
            "PUT",
            "/tfstate/s",
            &[("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")],
            "state",
        )
        .await;
    assert_eq!(answer.code(), "BadDigest");
}

#[tokio::test]
async fn another_implementation_of_the_protocol_gets_along_with_it() {
    let (store, _) = start().await;
    let s3 = object_store(&store);
    let path = "env:/a b/ü/terraform.tfstate".into();
    let created = s3
        .put_opts(&path, "one".into(), PutOptions::from(PutMode::Create))
        .await
        .unwrap();
    let again = s3
        .put_opts(&path, "two".into(), PutOptions::from(PutMode::Create))
        .await;
    assert!(
        matches!(again, Err(object_store::Error::AlreadyExists { .. })),
        "{again:?}"
    );
    let update = PutMode::Update(UpdateVersion::from(created));
    s3.put_opts(&path, "two".into(), update.clone().into())
        .await
        .unwrap();
    let stale = s3.put_opts(&path, "three".into(), update.into()).await;
    assert!(
        matches!(stale, Err(object_store::Error::Precondition { .. })),
        "{stale:?}"
    );
    assert_eq!(s3.get(&path).await.unwrap().bytes().await.unwrap(), "two");
    assert_eq!(s3.get_range(&path, 1..3).await.unwrap(), "wo");

    for number in 0..1203 {
        store.put_object(&format!("many/{number:04}"), "x").unwrap();
    }
    let listed: Vec<_> = s3.list(Some(&"many".into())).try_collect().await.unwrap();
    assert_eq!(listed.len(), 1203, "over two pages");
    let folded = s3.list_with_delimiter(None).await.unwrap();
    let prefixes: Vec<_> = folded.common_prefixes.iter().map(AsRef::as_ref).collect();
    assert_eq!(prefixes, ["env:", "many"]);
    let paths = futures_util::stream::iter(listed.into_iter().map(|it| Ok(it.location))).boxed();
    let deleted: Vec<_> = s3.delete_stream(paths).try_collect().await.unwrap();
    assert_eq!(deleted.len(), 1203);
    assert_eq!(store.keys().len(), 1);
}

#[tokio::test]
async fn an_upload_in_parts_becomes_one_object() {
    let (store, client) = start().await;
    let created = client
        .send(
            "POST",
            "/tfstate/big?uploads=",
            &[("x-amz-checksum-algorithm", "SHA256")],
            "",
        )
        .await;
    let text = String::from_utf8(created.body.to_vec()).unwrap();
    let id = text
        .split("<UploadId>")
        .nth(1)
        .unwrap()
        .split('<')
        .next()
        .unwrap()
        .to_owned();
    let first = Bytes::from(vec![b'a'; 5 * 1024 * 1024]);
    let last = Bytes::from_static(b"end");
    let mut list = String::new();
    for (number, body) in [(2, &last), (1, &first)] {
        let path = format!("/tfstate/big?partNumber={number}&uploadId={id}&x-id=UploadPart");
        let answer = client.send("PUT", &path, &[], body.clone()).await;
        assert_eq!(answer.status, 200);
        list.insert_str(
            0,
            &format!(
                "<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag></Part>",
                answer.etag()
            ),
        );
    }
    assert!(store.object("big").is_none());
    let complete = format!("/tfstate/big?uploadId={id}");
    let wrong = format!(
        "<CompleteMultipartUpload>{}</CompleteMultipartUpload>",
        list.replace("<PartNumber>2", "<PartNumber>3")
    );
    assert_eq!(
        client.send("POST", &complete, &[], wrong).await.code(),
        "InvalidPart"
    );
    let right = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
    let answer = client.send("POST", &complete, &[], right.clone()).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let stored = store.object("big").unwrap();
    assert_eq!(
        (stored.len(), &stored[..2], &stored[stored.len() - 3..]),
        (first.len() + 3, &b"aa"[..], &b"end"[..])
    );
    assert_eq!(
        client.send("POST", &complete, &[], right).await.code(),
        "NoSuchUpload"
    );
    let head = client
        .send(
            "HEAD",
            "/tfstate/big",
            &[("x-amz-checksum-mode", "ENABLED")],
            "",
        )
        .await;
    assert!(head.etag().ends_with("-2\""), "{}", head.etag());
    assert_eq!(head.headers["x-amz-checksum-type"], "COMPOSITE");
}

#[tokio::test]
async fn one_of_many_contenders_wins_and_the_log_tells_which() {
    let (store, _) = start().await;
    let store = Arc::new(store);
    for round in 0..20 {
        let path = format!("/tfstate/{round}.tflock");
        let contenders = (0..16).map(|number| {
            let (client, path) = (Client::new(&store), path.clone());
            tokio::spawn(async move {
                let body = number.to_string();
                client
                    .send("PUT", &path, &[("if-none-match", "*")], body)
                    .await
                    .status
            })
        });
        let mut winners = Vec::new();
        for (number, contender) in contenders.collect::<Vec<_>>().into_iter().enumerate() {
            match contender.await.unwrap().as_u16() {
                200 => winners.push(number.to_string()),
                status => assert_eq!(status, 412),
            }
        }
        assert_eq!(winners.len(), 1);
        let key = format!("{round}.tflock");
        assert_eq!(store.object(&key).unwrap(), winners[0]);
        let history = store.history(&key);
        assert_eq!(history.len(), 1);
        let requests = store.requests();
        let first = requests.iter().find(|request| request.key == key).unwrap();
        assert_eq!(
            (first.sequence, first.status),
            (history[0].sequence, 200),
            "the first effect wins"
        );
    }
    let sequences: BTreeSet<u64> = store.requests().iter().map(|it| it.sequence).collect();
    assert_eq!(sequences.len(), 20 * 16, "every request has its own place");
}

#[tokio::test]
async fn faults_befall_requests_as_ruled() {
    let (store, client) = start().await;
    let put = |headers: &'static [(&str, &str)], body: &'static str| {
        client.try_send("PUT", "/tfstate/s", headers, body)
    };

    store.inject(once("PutObject", Fault::LoseAnswer));
    assert!(put(&[], "lost").await.is_err());
    assert_eq!(store.object("s").unwrap(), "lost", "the effect happened");

    store.inject(once("PutObject", Fault::Reset));
    assert!(put(&[], "reset").await.is_err());
    assert_eq!(store.object("s").unwrap(), "lost", "nothing happened");

    store.inject(once(
        "PutObject",
        Fault::Status {
            status: 503,
            code: "SlowDown".to_owned(),
        },
    ));
    let answer = put(&[], "slow").await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), answer.code()),
        (503, "SlowDown".to_owned())
    );
    assert_eq!(store.object("s").unwrap(), "lost");

    store.inject(once("PutObject", Fault::RefuseConditions));
    assert_eq!(put(&[], "unconditional").await.unwrap().status, 200);
    assert_eq!(
        put(&[("if-none-match", "*")], "refused")
            .await
            .unwrap()
            .status,
        501
    );

    store.inject(once("PutObject", Fault::IgnoreConditions));
    assert_eq!(
        put(&[("if-none-match", "*")], "ignored")
            .await
            .unwrap()
            .status,
        200
    );
    assert_eq!(store.object("s").unwrap(), "ignored");

    store.inject(once(
        "PutObject",
        Fault::DeleteObject {
            key: "s".to_owned(),
        },
    ));
    assert_eq!(
        put(&[("if-none-match", "*")], "after")
            .await
            .unwrap()
            .status,
        200
    );

    let replaced = Fault::ReplaceObject {
        key: "s".to_owned(),
        body: "other's".into(),
    };
    store.inject(once("GetObject", replaced));
    let get = || client.try_send("GET", "/tfstate/s", &[], "");
    assert_eq!(get().await.unwrap().body, "other's");

    store.inject(once("GetObject", Fault::TruncateBody { after: 3 }));
    assert!(get().await.is_err());
    store.inject(once("GetObject", Fault::SlowBody { pause_ms: 1 }));
    assert_eq!(get().await.unwrap().body, "other's");
    store.inject(once("GetObject", Fault::DelayAnswer { ms: 1 }));
    assert_eq!(get().await.unwrap().status, 200);
    store.inject(once("ListObjectsV2", Fault::Garbage));
    let answer = client.send("GET", "/tfstate?list-type=2", &[], "").await;
    assert_eq!(
        (answer.status.as_u16(), answer.code()),
        (200, String::new())
    );
    store.inject(once("GetObject", Fault::Garbage));
    assert_eq!(get().await.unwrap().status, 500);

    store.inject(once("GetObject", Fault::SkewClock { seconds: 3600 }));
    let answer = get().await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), answer.code()),
        (403, "RequestTimeTooSkewed".to_owned())
    );
    // Less than 15 minutes off is let in, and the answer still tells the store's time.
    store.inject(once("GetObject", Fault::SkewClock { seconds: 600 }));
    let skewed = get().await.unwrap();
    let real = get().await.unwrap();
    assert_eq!(
        (skewed.status.as_u16(), real.status.as_u16()),
        (200, 200),
        "every rule is used up"
    );
    assert_ne!(skewed.headers["date"], real.headers["date"]);
}

#[tokio::test]
async fn the_log_tells_what_was_asked_and_connections_are_reused() {
    let (store, client) = start().await;
    let agent = [("user-agent", "test/1"), ("if-none-match", "*")];
    client
        .send("PUT", "/tfstate/env%3A/a/s", &agent, "body")
        .await;
    client.send("GET", "/tfstate/env%3A/a/s", &[], "").await;
    client.send("GET", "/tfstate/none", &[], "").await;
    let requests = store.requests();
    let seen: Vec<_> = requests
        .iter()
        .map(|it| (it.connection, it.operation, it.key.as_str(), it.status))
        .collect();
    assert_eq!(
        seen,
        [
            (1, "PutObject", "env:/a/s", 200),
            (1, "GetObject", "env:/a/s", 200),
            (1, "GetObject", "none", 404),
        ]
    );
    assert_eq!(requests[0].if_none_match.as_deref(), Some("*"));
    assert_eq!(requests[0].user_agent.as_deref(), Some("test/1"));
    assert_eq!(
        requests[0].access_key_id.as_deref(),
        Some(store.access_key_id())
    );
    assert_eq!(requests[0].etag, requests[1].etag);
    assert_eq!(store.connections(), 1);
    store.clear_requests();
    assert!(store.requests().is_empty());
    assert!(!format!("{store:?}").contains(store.secret_access_key()));
    assert!(!format!("{:?}", store.history("env:/a/s")).contains("body"));
}

#[tokio::test]
async fn an_address_that_others_can_reach_is_refused_unless_allowed() {
    let listen = "0.0.0.0:0".parse().unwrap();
    let error = DevStore::builder()
        .listen(listen)
        .start()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
    DevStore::builder()
        .listen(listen)
        .allow_remote(true)
        .start()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_directory_keeps_objects_and_belongs_to_one_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new/store");
    let store = DevStore::builder().directory(&path).start().await.unwrap();
    let long = "k".repeat(900);
    let keys = [
        "a",
        "A",
        "env:/x/s.tflock",
        ".hidden",
        "ü/ %2F",
        long.as_str(),
    ];
    for key in keys {
        store.put_object(key, format!("body of {key}")).unwrap();
    }
    store.put_object("gone", "x").unwrap();
    store.delete_object("gone").unwrap();
    let client = Client::new(&store);
    let etag = client
        .send("PUT", "/tfstate/empty", &[], "")
        .await
        .etag()
        .to_owned();

    let error = DevStore::builder()
        .directory(&path)
        .start()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");

    drop(store);
    // What a crash leaves of a write that was not finished.
    std::fs::write(path.join(".staging/torn"), "cofferdam-object-1 {").unwrap();
    let store = DevStore::builder().directory(&path).start().await.unwrap();
    let mut expected: Vec<&str> = keys.iter().copied().chain(["empty"]).collect();
    expected.sort_unstable();
    assert_eq!(store.keys(), expected);
    for key in keys {
        assert_eq!(store.object(key).unwrap(), format!("body of {key}"));
    }
    let again = Client::new(&store)
        .send("HEAD", "/tfstate/empty", &[], "")
        .await;
    assert_eq!(again.etag(), etag);
    assert!(
        std::fs::read_dir(path.join(".staging"))
            .unwrap()
            .next()
            .is_none()
    );
    store.shutdown().await;

    let file = path.join("tfstate/a");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    let error = DevStore::builder()
        .directory(&path)
        .start()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("tfstate/a"), "{error}");

    std::fs::write(directory.path().join("file"), "").unwrap();
    let error = DevStore::builder()
        .directory(directory.path())
        .start()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("other files"), "{error}");
}

/// Not a test of its own: the process that [`a_killed_store_lost_nothing_it_acknowledged`] kills.
#[tokio::test]
#[ignore = "runs as a child process of another test"]
async fn child_that_serves_a_directory_until_it_is_killed() {
    let Ok(directory) = std::env::var("COFFERDAM_TEST_DIRECTORY") else {
        return;
    };
    let builder = DevStore::builder()
        .directory(directory)
        .credentials("ID", "SECRET");
    let store = builder.start().await.unwrap();
    println!("\nlistening on {}", store.url());
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_store_lost_nothing_it_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    // What each writer was told: its newest acknowledged number, and the one in flight at the kill.
    let mut told: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    for round in 0..5_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--ignored",
                "--nocapture",
                "child_that_serves_a_directory_until_it_is_killed",
            ])
            .env("COFFERDAM_TEST_DIRECTORY", &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = std::io::BufReader::new(child.stdout.take().unwrap());
        let url = output
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("listening on ").map(str::to_owned))
            .unwrap();
        let writers: Vec<_> = (0..4_usize)
            .map(|writer| {
                let client = Client {
                    http: HttpClient::builder(TokioExecutor::new()).build_http(),
                    url: url.clone(),
                    credential: AwsCredential {
                        key_id: "ID".to_owned(),
                        secret_key: "SECRET".to_owned(),
                        token: None,
                    },
                    region: "us-east-1".to_owned(),
                };
                let acknowledged = told.get(&writer).map_or(0, |(newest, _)| *newest);
                tokio::spawn(async move {
                    let mut newest = acknowledged;
                    for number in (round + 1) * 1_000_000.. {
                        let path = format!("/tfstate/{writer}");
                        let body = format!("{number} ").repeat(2000);
                        match client.try_send("PUT", &path, &[], body).await {
                            Ok(answer) if answer.status == 200 => newest = number,
                            _ => return (writer, newest, number),
                        }
                    }
                    (writer, newest, 0)
                })
            })
            .collect();
        // The kill comes after some writes were acknowledged, in the middle of others.
        let probe = path.join("tfstate/0");
        while number_in(&probe) < (round + 1) * 1_000_000 + 10 * round {
            assert!(
                child.try_wait().unwrap().is_none(),
                "the store ended by itself"
            );
            tokio::task::yield_now().await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for writer in writers {
            let (writer, newest, in_flight) = writer.await.unwrap();
            told.insert(writer, (newest, in_flight));
        }
        let store = DevStore::builder().directory(&path).start().await.unwrap();
        for (writer, (newest, in_flight)) in &mut told {
            let Some(object) = store.object(&writer.to_string()) else {
                assert_eq!(*newest, 0, "writer {writer} in round {round}");
                continue;
            };
            let text = std::str::from_utf8(&object).unwrap();
            let numbers: BTreeSet<u64> = text
                .split_whitespace()
                .map(|number| number.parse().unwrap())
                .collect();
            let stored = *numbers.first().unwrap();
            assert_eq!(
                (numbers.len(), text.split_whitespace().count()),
                (1, 2000),
                "no torn object"
            );
            assert!(
                stored == *newest || stored == *in_flight,
                "writer {writer} was told {newest}, had {in_flight} in flight, and finds {stored}"
            );
            // What was in flight may count; now it is known.
            *newest = stored;
        }
        store.shutdown().await;
    }
    assert!(
        told.values().any(|(newest, _)| *newest > 0),
        "something was acknowledged"
    );
}

/// The number that a writer stored, read past the store; 0: none yet.
fn number_in(file: &std::path::Path) -> u64 {
    let Ok(bytes) = std::fs::read(file) else {
        return 0;
    };
    let text = String::from_utf8_lossy(&bytes);
    let body = text.split_once('\n').map_or("", |(_, body)| body);
    let number = body.split(' ').next().map(str::parse);
    number.and_then(Result::ok).unwrap_or(0)
}
