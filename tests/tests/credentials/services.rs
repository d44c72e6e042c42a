//! IAM Identity Center, containers, and the metadata service.

use std::os::unix::fs::PermissionsExt as _;

use cofferdam::dev_store::DevStore;
use cofferdam_tests::credential_services::{
    CredentialServices, IMDS_TOKEN, ImdsVersions, Operation, Reply,
};
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

use super::{CANARY, Machine, block_with_sts, embedded, is_state, key_of};

/// The store, and services that hand out its key.
async fn start() -> (DevStore, CredentialServices, Value) {
    let server = embedded().await;
    let services = CredentialServices::start().await;
    services.hand_out(key_of(&server));
    let block = block_with_sts(&server, &services);
    (server, services, block)
}

/// Where the AWS CLI caches the token of this session, below the home directory.
fn cache_of(name: &str) -> String {
    let name: String = Sha1::digest(name)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("home/.aws/sso/cache/{name}.json")
}

const SESSION: &str = "[default]\nsso_session = work\nsso_account_id = 123456789012\nsso_role_name = deploy\n\
                       [sso-session work]\nsso_region = eu-west-1\nsso_start_url = https://work.awsapps.com/start\n";

fn with_sso(services: &CredentialServices, config: &str) -> Machine {
    Machine::new()
        .with_config(config)
        .with("AWS_ENDPOINT_URL_SSO", services.url())
        .with("AWS_ENDPOINT_URL_SSO_OIDC", services.url())
}

/// As `aws sso login` writes it.
fn cached(expires_at: &str) -> Value {
    json!({
        "startUrl": "https://work.awsapps.com/start",
        "region": "eu-west-1",
        "accessToken": "canary-access",
        "expiresAt": expires_at,
        "clientId": "client",
        "clientSecret": "canary-client",
        "refreshToken": "canary-refresh",
        "registrationExpiresAt": "2099-01-01T00:00:00Z",
        "somethingNew": { "kept": true },
    })
}

#[tokio::test]
async fn an_sso_token_that_lasts_is_used_as_it_is() {
    let (_server, services, block) = start().await;
    services.require_sso_token(Some("canary-access"));
    let machine = with_sso(&services, SESSION);
    let cache = cache_of("work");
    machine.write(&cache, &cached("2099-01-01T00:00:00Z").to_string());
    let before = machine.read(&cache);
    assert!(is_state(&machine.try_read(&block).await.unwrap()));
    assert_eq!(
        services.operations(),
        [Operation::GetRoleCredentials, Operation::GetCallerIdentity]
    );
    let request = &services.requests()[0];
    assert_eq!(
        request.path,
        "/federation/credentials?account_id=123456789012&role_name=deploy"
    );
    assert_eq!(machine.read(&cache), before);
}

#[tokio::test]
async fn an_sso_token_that_ended_is_refreshed_and_cached_for_all_other_tools() {
    let (_server, services, block) = start().await;
    services.answer(
        Operation::CreateToken,
        Reply::SsoToken {
            access_token: "canary-fresh".to_owned(),
            refresh_token: Some("canary-next".to_owned()),
            lasts_seconds: 3600,
        },
    );
    let machine = with_sso(&services, SESSION);
    let cache = cache_of("work");
    machine.write(&cache, &cached("2020-01-01T00:00:00Z").to_string());
    assert!(is_state(&machine.try_read(&block).await.unwrap()));
    assert_eq!(
        services.operations(),
        [
            Operation::CreateToken,
            Operation::GetRoleCredentials,
            Operation::GetCallerIdentity
        ]
    );
    let sent: Value = serde_json::from_str(&services.requests()[0].body).unwrap();
    assert_eq!(
        sent,
        json!({ "clientId": "client", "clientSecret": "canary-client", "grantType": "refresh_token",
                "refreshToken": "canary-refresh" })
    );
    let mut written: Value = serde_json::from_str(&machine.read(&cache)).unwrap();
    let end: jiff::Timestamp = written["expiresAt"].as_str().unwrap().parse().unwrap();
    assert!(end > jiff::Timestamp::now());
    written["expiresAt"] = "2020-01-01T00:00:00Z".into();
    let mut expected = cached("2020-01-01T00:00:00Z");
    expected["accessToken"] = "canary-fresh".into();
    expected["refreshToken"] = "canary-next".into();
    assert_eq!(written, expected);
    let mode = std::fs::metadata(machine.path(&cache))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    // The next run uses what the first one wrote.
    services.clear_requests();
    assert!(is_state(&machine.try_read(&block).await.unwrap()));
    assert_eq!(services.operations()[0], Operation::GetRoleCredentials);
}

#[tokio::test]
async fn an_sso_session_that_is_over_says_how_to_log_in() {
    let (_server, services, block) = start().await;
    let machine = with_sso(&services, SESSION);
    let login = "aws sso login --sso-session work";
    let text = machine.refusal(&block).await;
    assert!(
        text.contains("there is no cached SSO token") && text.contains(login),
        "{text}"
    );

    services.answer(Operation::CreateToken, Reply::error(400, "invalid_grant"));
    let cache = cache_of("work");
    let old = cached("2020-01-01T00:00:00Z").to_string();
    machine.write(&cache, &old);
    let text = machine.refusal(&block).await;
    assert!(
        text.contains("unable to refresh the SSO token") && text.contains(login),
        "{text}"
    );
    assert_eq!(machine.read(&cache), old, "nothing is lost");

    let mut without = cached("2020-01-01T00:00:00Z");
    without.as_object_mut().unwrap().remove("refreshToken");
    machine.write(&cache, &without.to_string());
    let text = machine.refusal(&block).await;
    assert!(
        text.contains("cannot be refreshed") && text.contains(login),
        "{text}"
    );

    let older = "[profile old]\nsso_start_url = https://old.awsapps.com/start\nsso_region = eu-west-1\n\
                 sso_account_id = 123456789012\nsso_role_name = deploy\n";
    let machine = with_sso(&services, older).with("AWS_PROFILE", "old");
    let cache = cache_of("https://old.awsapps.com/start");
    machine.write(&cache, &cached("2020-01-01T00:00:00Z").to_string());
    services.clear_requests();
    let text = machine.refusal(&block).await;
    assert!(text.contains("the SSO session has expired"), "{text}");
    assert!(text.contains("aws sso login --profile old"), "{text}");
    assert!(
        services.requests().is_empty(),
        "the older form is never refreshed"
    );
}

fn on_an_instance(services: &CredentialServices) -> Machine {
    Machine::new()
        .with("AWS_EC2_METADATA_DISABLED", "")
        .with("AWS_EC2_METADATA_SERVICE_ENDPOINT", services.url())
}

#[tokio::test]
async fn an_instances_role_comes_with_a_session_token_of_the_metadata_service() {
    let (_server, services, block) = start().await;
    services.set_imds(ImdsVersions::OnlyV2);
    let machine = on_an_instance(&services);
    assert!(is_state(&machine.try_read(&block).await.unwrap()));
    assert_eq!(
        services.operations(),
        [
            Operation::ImdsToken,
            Operation::ImdsRole,
            Operation::ImdsCredentials,
            Operation::GetCallerIdentity
        ]
    );
    let requests = services.requests();
    let life = requests[0].header("x-aws-ec2-metadata-token-ttl-seconds");
    assert_eq!(life, Some("300"));
    for request in &requests[1..3] {
        assert_eq!(request.header("x-aws-ec2-metadata-token"), Some(IMDS_TOKEN));
    }
}

#[tokio::test]
async fn an_instance_without_session_tokens_is_asked_without_unless_that_is_ruled_out() {
    let (_server, services, block) = start().await;
    services.set_imds(ImdsVersions::OnlyV1);
    let machine = on_an_instance(&services);
    assert!(is_state(&machine.try_read(&block).await.unwrap()));
    let requests = services.requests();
    assert_eq!(requests[1].operation, Operation::ImdsRole);
    assert_eq!(requests[1].header("x-aws-ec2-metadata-token"), None);

    let machine = machine.with("AWS_EC2_METADATA_V1_DISABLED", "true");
    services.clear_requests();
    let text = machine.refusal(&block).await;
    assert!(text.contains("failed to get API token"), "{text}");
    assert!(!services.operations().contains(&Operation::ImdsRole));
}

#[tokio::test]
async fn an_instance_without_a_role_says_what_else_was_looked_for() {
    let (_server, services, block) = start().await;
    services.answer(Operation::ImdsRole, Reply::error(404, "NotFound"));
    let machine = on_an_instance(&services);
    let text = machine.refusal(&block).await;
    for part in [
        "no EC2 IMDS role found",
        "AWS_ACCESS_KEY_ID",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        ".aws/config",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let machine = machine.with("AWS_EC2_METADATA_DISABLED", "true");
    services.clear_requests();
    let text = machine.refusal(&block).await;
    assert!(text.contains("AWS_EC2_METADATA_DISABLED"), "{text}");
    assert!(services.requests().is_empty());
}

#[tokio::test]
async fn a_containers_keys_come_with_the_token_of_its_file() {
    let (server, services, block) = start().await;
    services.hand_out(key_of(&server).lasting(0));
    services.require_container_token(Some("canary-one"));
    let machine = Machine::new();
    machine.write("project/token", "canary-one");
    let machine = machine
        .with(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            &services.container_uri(),
        )
        .with("AWS_CONTAINER_AUTHORIZATION_TOKEN", "canary-not-this-one");
    let file = machine.path("project/token");
    let machine = machine.with("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &file);
    assert!(is_state(&machine.try_read(&block).await.unwrap()));
    assert_eq!(services.operations()[0], Operation::ContainerCredentials);

    // As EKS rotates it.
    services.require_container_token(Some("canary-two"));
    let text = machine.refusal(&block).await;
    assert!(
        text.contains("container credentials") && text.contains("403"),
        "{text}"
    );
    machine.write("project/token", "canary-two");
    assert!(is_state(&machine.try_read(&block).await.unwrap()));

    let elsewhere = machine.with(
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "http://203.0.113.1/container",
    );
    let text = elsewhere.refusal(&block).await;
    assert!(text.contains("only loopback/ecs/eks hosts"), "{text}");
    assert!(!text.contains(CANARY), "{text}");
}
