//! The way to STS: like that to the store, through proxies. What else proxies and authorities do is tested with the
//! transport, in the host.

use cofferdam_tests::credential_services::{CredentialServices, Operation};
use cofferdam_tests::proxy::Proxy;
use serde_json::json;

use super::{Machine, block, embedded, key_of, with};

/// Nobody has this name: only a proxy leads there.
const NOWHERE: &str = "http://sts.cofferdam.invalid";

#[tokio::test]
async fn sts_is_reached_through_the_proxy_and_not_where_no_proxy_says_so() {
    let server = embedded().await;
    let services = CredentialServices::start().await;
    services.hand_out(key_of(&server));
    let address = services.url().trim_start_matches("http://");
    let proxy = Proxy::start(address).await;
    let machine = Machine::new()
        .with("AWS_ACCESS_KEY_ID", "AKIASTORE")
        .with("AWS_SECRET_ACCESS_KEY", "canary-of-the-store");
    let mut block = block(&server);
    block["endpoints"]["sts"] = NOWHERE.into();
    let through = with(block.clone(), json!({ "http_proxy": proxy.url() }));
    machine.try_read(&through).await.unwrap();
    let request = services.requests_of(Operation::GetCallerIdentity).remove(0);
    assert_eq!(request.host, "sts.cofferdam.invalid");
    assert_eq!(request.access_key_id.as_deref(), Some("AKIASTORE"));

    let by_variable = Machine::new()
        .with("AWS_ACCESS_KEY_ID", "AKIASTORE")
        .with("AWS_SECRET_ACCESS_KEY", "canary-of-the-store")
        .with("HTTP_PROXY", proxy.url());
    by_variable.try_read(&block).await.unwrap();
    assert_eq!(services.requests().len(), 2);

    let around = with(
        through,
        json!({ "no_proxy": "sts.cofferdam.invalid", "max_retries": 1 }),
    );
    let text = machine.refusal(&around).await;
    assert!(text.contains("sts.cofferdam.invalid"), "{text}");
    assert_eq!(services.requests().len(), 2);
}
