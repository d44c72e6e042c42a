//! What a tenant's configuration can't do: use the service's own files, commands, variables and metadata.

use cofferdam::dev_store::DevStore;
use cofferdam::{Grant, StateStore as _};
use cofferdam_tests::credential_services::{CredentialServices, Operation, Reply};
use serde_json::{Value, json};

use super::{Machine, ROLE, asked, block, embedded, is_state, key_of, open, said, with};

/// The state's own places, which are on loopback here.
fn sealed(server: &DevStore) -> Grant {
    let rule = format!("GET,PUT,DELETE {}/{}/", server.url(), server.bucket());
    Grant::sealed().allow(rule.parse().unwrap())
}

fn keys(server: &DevStore) -> Value {
    json!({ "access_key": server.access_key_id(), "secret_key": server.secret_access_key() })
}

#[tokio::test]
async fn a_sealed_configuration_reaches_no_source_of_the_machine() {
    let server = embedded().await;
    let services = CredentialServices::start().await;
    services.hand_out(key_of(&server));
    let machine = Machine::new();
    let trace = machine.path("project/ran");
    let config = format!(
        "[default]\ncredential_process = touch {trace}\n[profile app]\naws_access_key_id = AKIASTORE\n\
         aws_secret_access_key = canary-of-the-store\n"
    );
    machine.write("project/config", &config);
    machine.write("project/token", "canary-token");
    let (file, token) = (
        machine.path("project/config"),
        machine.path("project/token"),
    );
    for (more, part) in [
        (
            json!({ "profile": "app", "shared_config_files": [file] }),
            "app",
        ),
        (
            json!({ "shared_config_files": [file] }),
            "no EC2 IMDS role found",
        ),
        (
            json!({ "shared_credentials_files": [file], "profile": "app" }),
            "app",
        ),
        (
            json!({ "assume_role_with_web_identity": { "role_arn": ROLE, "web_identity_token_file": token } }),
            "does not let it read the file",
        ),
        (
            json!({ "ec2_metadata_service_endpoint": services.url(), "skip_metadata_api_check": false }),
            "Whoever runs it has to allow",
        ),
        (json!({}), "Whoever runs it has to allow"),
    ] {
        let block = with(block(&server), more.clone());
        let answer = match open(&block, sealed(&server)).await {
            Ok(store) => store.read("default", None).await,
            Err(error) => Err(error),
        };
        let text = said(answer);
        assert!(text.contains(part), "{more}: {text}");
    }
    assert!(!std::path::Path::new(&trace).exists());
    assert!(services.requests().is_empty());
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_sealed_role_is_assumed_where_a_rule_lets_it_reach_sts() {
    let server = embedded().await;
    let role = json!({ "assume_role": { "role_arn": ROLE } });
    let block = with(with(block(&server), keys(&server)), role);
    let store = open(&block, sealed(&server)).await.unwrap();
    let text = said(store.read("default", None).await);
    let url = server.url();
    assert!(
        text.contains("sts:AssumeRole") && text.contains(&url),
        "{text}"
    );
    assert!(server.requests().is_empty());

    let rule = format!("POST {}/", server.url()).parse().unwrap();
    let store = open(&block, sealed(&server).allow(rule)).await.unwrap();
    assert!(is_state(&store.read("default", None).await.unwrap()));
    assert_eq!(
        asked(&server),
        [
            "AssumeRole by AKIASTORE",
            "GetCallerIdentity by role",
            "GetObject by role"
        ]
    );
}

#[tokio::test]
async fn what_the_operator_lends_is_used_and_the_tenants_role_comes_on_top() {
    let server = embedded().await;
    let services = CredentialServices::start().await;
    services.hand_out(key_of(&server));
    let lent = cofferdam::AccessKey {
        id: "AKIALENT".to_owned(),
        secret: cofferdam::Secret::new("canary-lent"),
        session_token: None,
        expires_at: None,
    };
    let rule = format!("POST {}/", services.url()).parse().unwrap();
    let grant = sealed(&server).allow(rule).credentials(lent);
    let mut block = with(
        block(&server),
        json!({ "assume_role": { "role_arn": ROLE } }),
    );
    block["endpoints"]["sts"] = services.url().into();
    let store = open(&block, grant).await.unwrap();
    services.answer_once(Operation::AssumeRole, Reply::error(403, "AccessDenied"));
    let text = said(store.read("default", None).await);
    assert!(text.contains("Chosen: the host's credentials"), "{text}");
    assert!(!text.contains("EC2"), "nobody looked any further: {text}");
    assert!(is_state(&store.read("default", None).await.unwrap()));
    let request = services.requests_of(Operation::AssumeRole).remove(0);
    assert_eq!(request.access_key_id.as_deref(), Some("AKIALENT"));
    assert_eq!(asked(&server), ["GetObject by role"]);
}
