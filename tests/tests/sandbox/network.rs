//! Components that want to talk to others than their own store.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use cofferdam::dev_store::DevStore;
use cofferdam::{Backend, ErrorCode, Grant, Resolve, StateStore};
use serde_json::{Value, json};

use crate::house::{House, limits};
use crate::server::{Server, status, with_headers};

const DENIED: &str = "HttpRequestDenied";
const PROHIBITED: &str = "DestinationIpProhibited";

/// Answers each question with the next list of addresses, and the last one for ever.
struct Resolver {
    answers: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Resolver {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let addresses = |list: &&[&str]| list.iter().map(|it| it.parse().unwrap()).collect();
        Arc::new(Self {
            answers: answers.iter().map(addresses).collect(),
            asked: AtomicUsize::new(0),
        })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Resolve for Resolver {
    async fn resolve(&self, _host: &str) -> io::Result<Vec<IpAddr>> {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(self.answers[turn.min(self.answers.len() - 1)].clone())
    }
}

/// A tenant's block with an endpoint of the tenant's choice.
fn block(endpoint: &str) -> Value {
    json!({ "bucket": "b", "key": "k", "endpoints": { "s3": endpoint } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_no_rule_names_is_refused() {
    let victim = Server::victim().await;
    let house = House::sealed().await;
    for url in [
        victim.url(),
        format!("http://localhost:{}/", victim.address.port()),
        format!("http://[::ffff:127.0.0.1]:{}/", victim.address.port()),
        "https://example.com/".to_owned(),
    ] {
        house.sees(&format!("get {url}"), DENIED).await;
    }
    assert_eq!(victim.connections(), 0);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_host_is_refused() {
    let theirs = DevStore::builder().start().await.unwrap();
    let ours = DevStore::builder().start().await.unwrap();
    let rule = format!("{}/{}/", ours.url(), ours.bucket());
    let house = House::granted(Grant::sealed().allow(rule.parse().unwrap())).await;
    for method in ["GET", "PUT", "DELETE"] {
        let request = format!("send {method} {}/{}/app", theirs.url(), theirs.bucket());
        house.sees(&request, DENIED).await;
    }
    assert_eq!(theirs.connections(), 0);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_services_are_refused_in_every_spelling() {
    let mut house = House::sealed().await;
    for host in [
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "[fd00:ec2::254]",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "[::169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::]",
    ] {
        house = house
            .reopened(Grant::sealed(), block(&format!("https://{host}")))
            .await;
        let plain = format!("get http://{host}/latest/meta-data/");
        house.sees(&plain, DENIED).await;
        let as_the_store = format!("get https://{host}/b/k");
        house.sees(&as_the_store, PROHIBITED).await;
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_resolves_to_a_private_address_is_no_way_in() {
    let victim = Server::victim().await;
    let port = victim.address.port();
    let mut house = House::sealed().await;
    let config = block(&format!("https://localhost:{port}"));
    house = house.reopened(Grant::sealed(), config).await;
    let request = format!("get https://localhost:{port}/b/k");
    house.sees(&request, PROHIBITED).await;
    for addresses in [
        &["127.0.0.1"][..],
        &["::1"],
        &["::ffff:127.0.0.1"],
        &["0.0.0.0"],
        &["10.0.0.1", "169.254.169.254"],
    ] {
        let resolver = Resolver::new(&[addresses]);
        let grant = Grant::sealed().resolver(Arc::clone(&resolver) as Arc<dyn Resolve>);
        let config = block(&format!("https://store.test:{port}"));
        house = house.reopened(grant, config).await;
        let request = format!("get https://store.test:{port}/b/k");
        house.sees(&request, PROHIBITED).await;
        assert_eq!(resolver.asked(), 1);
    }
    assert_eq!(victim.connections(), 0);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_rebinds_leads_to_the_address_that_was_judged() {
    let own = Server::start(|_| status(204)).await;
    let port = own.address.port();
    // Asked a second time, the name would lead elsewhere.
    let resolver = Resolver::new(&[&["127.0.0.1"], &["127.0.0.9"]]);
    let rule = format!("GET http://store.test:{port}/").parse().unwrap();
    let grant = Grant::sealed()
        .allow(rule)
        .resolver(Arc::clone(&resolver) as Arc<dyn Resolve>);
    let house = House::granted(grant).await;
    let request = format!("get http://store.test:{port}/");
    house.sees(&request, "Ok(204)").await;
    assert_eq!((resolver.asked(), own.connections()), (1, 1));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_rebinds_to_loopback_is_judged_anew() {
    let victim = Server::victim().await;
    let port = victim.address.port();
    // First there is no such host; then it is this one.
    let resolver = Resolver::new(&[&[], &["127.0.0.1"]]);
    let grant = Grant::sealed().resolver(Arc::clone(&resolver) as Arc<dyn Resolve>);
    let config = block(&format!("https://store.test:{port}"));
    let house = House::of(limits(), grant, config).await;
    let request = format!("get https://store.test:{port}/b/k");
    house.sees(&request, "DnsError").await;
    house.sees(&request, PROHIBITED).await;
    assert_eq!((resolver.asked(), victim.connections()), (2, 0));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_refused_where_https_is_required() {
    let resolver = Resolver::new(&[&["127.0.0.1"]]);
    let grant = Grant::sealed().resolver(Arc::clone(&resolver) as Arc<dyn Resolve>);
    let mut house = House::sealed().await;
    for endpoint in ["https://store.test", "http://store.test"] {
        house = house.reopened(grant.clone(), block(endpoint)).await;
        house.sees("get http://store.test/b/k", DENIED).await;
        house
            .sees("get ftp://store.test/b/k", "HttpProtocolError")
            .await;
    }
    assert_eq!(resolver.asked(), 0);
    house.close().await;
}

/// A house whose hostile tenant has the keys below `hostile/` of the neighbour's bucket, and the URL of the server.
async fn shared_bucket() -> (House, String) {
    let server = Arc::new(DevStore::builder().start().await.unwrap());
    let url = server.url();
    let rule = format!("GET,PUT,DELETE {url}/{}/hostile/", server.bucket());
    let grant = Grant::sealed().allow(rule.parse().unwrap());
    let house = House::at(server, limits(), grant, json!({})).await;
    (house, url)
}

/// What came to the server without a signature: hostile components have no keys.
fn unsigned(house: &House) -> Vec<String> {
    let requests = house.server.requests().into_iter();
    requests
        .filter(|request| request.access_key_id.is_none())
        .map(|request| format!("{} {}", request.method, request.key))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_key_in_the_same_bucket_is_refused() {
    let (house, url) = shared_bucket().await;
    for key in [
        "neighbour/state",
        "neighbour/state.tflock",
        "hostile",
        "hostile/../neighbour/state",
        "hostile/%2e%2e/neighbour/state",
        "hostile/%2E%2e%2fneighbour/state",
        "hostile/..%5cneighbour/state",
        "hostile/./../neighbour/state",
        "hostile%2f..%2fneighbour/state",
        "/hostile/state",
        "",
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            let request = format!("send {method} {url}/tfstate/{key}");
            house.sees(&request, DENIED).await;
        }
    }
    assert_eq!(unsigned(&house), [""; 0]);
    // The server takes no request without a signature; but this one came.
    house
        .sees(&format!("get {url}/tfstate/hostile/state"), "Ok(403)")
        .await;
    assert_eq!(unsigned(&house), ["GET hostile/state"]);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_bucket_on_the_same_host_is_refused() {
    let (house, url) = shared_bucket().await;
    for path in [
        "other/hostile/state",
        "tfstate2/hostile/state",
        "tfstate/../other/hostile/state",
        "",
    ] {
        house.sees(&format!("get {url}/{path}"), DENIED).await;
    }
    assert_eq!(unsigned(&house), [""; 0]);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_state_cannot_be_copied_into_ones_own() {
    let (house, url) = shared_bucket().await;
    let request = format!(
        "send PUT {url}/tfstate/hostile/state\nx-amz-copy-source: /tfstate/neighbour/state"
    );
    house.sees(&request, DENIED).await;
    let request = format!("send GET {url}/tfstate/hostile/state\nx-http-method-override: DELETE");
    house.sees(&request, DENIED).await;
    assert_eq!(unsigned(&house), [""; 0]);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_store_reaches_its_state_and_locks_and_neither_their_acl_nor_the_bucket() {
    let resolver = Resolver::new(&[&["127.0.0.1"]]);
    let grant = Grant::sealed().resolver(Arc::clone(&resolver) as Arc<dyn Resolve>);
    let config = block("https://store.test");
    let house = House::of(limits(), grant, config).await;
    for request in [
        "PUT https://store.test/b/k?acl",
        "PUT https://store.test/b/k2",
        "PUT https://store.test/b/env%3A/dev/other",
        "DELETE https://store.test/b",
        "POST https://store.test/b?delete",
        "GET https://store.test/b?policy",
        "GET https://store.test/b?list-type=2&prefix=",
        "GET https://store.test/",
    ] {
        house.sees(&format!("send {request}"), DENIED).await;
    }
    assert_eq!(resolver.asked(), 0);
    for request in [
        "PUT https://store.test/b/k",
        "DELETE https://store.test/b/k.tflock",
        "PUT https://store.test/b/env%3A/dev/k",
        "GET https://store.test/b?list-type=2&prefix=env%3A%2F",
    ] {
        // Allowed, and judged once more when the name was resolved.
        house.sees(&format!("send {request}"), PROHIBITED).await;
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_store_reaches_its_own_table_and_no_other() {
    let resolver = Resolver::new(&[&["127.0.0.1"]]);
    let grant = Grant::sealed().resolver(Arc::clone(&resolver) as Arc<dyn Resolve>);
    let config = json!({ "bucket": "b", "key": "k", "dynamodb_table": "locks",
        "endpoints": { "dynamodb": "https://tables.test" } });
    let house = House::of(limits(), grant, config).await;
    let ask = |operation: &str, body: &str| {
        format!(
            "send POST https://tables.test/\nx-amz-target: DynamoDB_20120810.{operation}\n\n{body}"
        )
    };
    for (operation, body) in [
        ("GetItem", r#"{"TableName":"other"}"#),
        ("GetItem", r#"{"TableName":"locks","TableName":"other"}"#),
        ("BatchGetItem", r#"{"RequestItems":{"other":{}}}"#),
        ("ExecuteStatement", r#"{"Statement":"SELECT * FROM other"}"#),
        ("ListTables", "{}"),
        ("DeleteTable", r#"{"TableName":"locks"}"#),
    ] {
        house.sees(&ask(operation, body), DENIED).await;
    }
    assert_eq!(resolver.asked(), 0);
    let own = ask("GetItem", r#"{"TableName":"locks"}"#);
    house.sees(&own, PROHIBITED).await;
    assert_eq!(resolver.asked(), 1);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn userinfo_in_the_authority_hides_no_host() {
    let victim = Server::victim().await;
    let rule = "GET http://good.example:80/".parse().unwrap();
    let house = House::granted(Grant::sealed().allow(rule)).await;
    for authority in ["good.example:80@", "good.example@", "user:password@"] {
        let request = format!("get http://{authority}{}/", victim.address);
        let seen = house.seen(&request).await;
        assert!(seen.contains(DENIED) || seen.contains("Refused"), "{seen}");
    }
    assert_eq!(victim.connections(), 0);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed_and_its_target_is_judged_anew() {
    let victim = Server::victim().await;
    let mut house = House::sealed().await;
    for target in [
        victim.url(),
        format!("http://localhost:{}", victim.address.port()),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "http://[::ffff:169.254.169.254]".to_owned(),
    ] {
        let location = format!("location: {target}/\r\n");
        let own = Server::start(move |_| with_headers(302, &location)).await;
        let rule = format!("GET {}/", own.url()).parse().unwrap();
        house = house.reopened(Grant::sealed().allow(rule), json!({})).await;
        house.sees(&format!("get {}/", own.url()), "Ok(302)").await;
        let seen = house.seen(&format!("follow {}/", own.url())).await;
        assert!(seen.contains("Ok(302)") && seen.contains(DENIED), "{seen}");
        assert_eq!(own.connections(), 2);
    }
    assert_eq!(victim.connections(), 0);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_opens_exactly_the_place_that_it_names() {
    let server = Server::start(|head| match head.starts_with("GET /open/x HTTP/1.1") {
        true => status(204),
        false => status(500),
    })
    .await;
    let url = server.url();
    let rule = format!("GET {url}/open/").parse().unwrap();
    let house = House::granted(Grant::sealed().allow(rule)).await;
    for path in ["shut/x", "open", "open/../shut/x", "open/%2e%2e/shut/x"] {
        house.sees(&format!("get {url}/{path}"), DENIED).await;
    }
    house.sees(&format!("get {url}/open/x"), "Ok(204)").await;
    assert_eq!(server.connections(), 1);
    house.close().await;
}

#[tokio::test]
async fn a_denied_request_tells_the_operator_which_rule_would_allow_it() {
    let server = DevStore::builder().start().await.unwrap();
    let port = server.address().port();
    let backend = Backend::builder().build().await.unwrap();
    let grant = Grant::sealed().resolver(Resolver::new(&[&["127.0.0.1"]]));
    for endpoint in [server.url(), format!("https://store.test:{port}")] {
        let mut config = server.backend_block("app");
        config["endpoints"]["s3"] = endpoint.clone().into();
        let store = backend.store(config.clone()).grant(grant.clone());
        let store = store.open().await.unwrap().store;
        let denied = store.read("default", None).await.map(|_| ()).unwrap_err();
        assert_eq!(denied.code(), Some(ErrorCode::Unreachable), "{denied:?}");
        let text = denied.to_string();
        let rule = format!("GET {endpoint}/tfstate/app");
        assert!(text.contains(&format!("`{rule}`")), "{text}");
        // With it, the request gets further.
        let store = backend
            .store(config)
            .grant(grant.clone().allow(rule.parse().unwrap()));
        let store = store.open().await.unwrap().store;
        let answer = store.read("default", None).await.map(|_| ());
        let denied = |text: String| text.contains("egress rule") || text.contains("a rule of the");
        assert!(!answer.is_err_and(|error| denied(error.to_string())));
    }
}
