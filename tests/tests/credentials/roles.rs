//! Roles: through a profile, out of the block, and with web identities.

use cofferdam::StateStore as _;
use cofferdam::dev_store::{DevStore, Role};
use cofferdam_tests::credential_services::{CredentialServices, Operation};
use cofferdam_tests::servers::another_user;
use cofferdam_tests::{Ministack, RawS3, Site, Terraform};
use serde_json::{Value, json};

use super::{
    CANARY, KEY, Machine, ROLE, STATE, asked, block, block_with_sts, embedded, is_state, key_of,
    with,
};

/// A profile whose role is assumed with the keys of another one.
fn chained(id: &str, secret: &str, role: &str) -> String {
    format!(
        "[profile app]\nrole_arn = {role}\nsource_profile = base\nexternal_id = from-the-file\n\
         [profile base]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n"
    )
}

#[tokio::test]
async fn a_profile_assumes_its_role_with_the_keys_of_its_source_profile() {
    let server = DevStore::builder()
        .role(Role::new("deploy").external_id("from-the-file"))
        .start()
        .await
        .unwrap();
    server.put_object(KEY, STATE).unwrap();
    let (id, secret) = (server.access_key_id(), server.secret_access_key());
    let machine = Machine::new().with_config(&chained(id, secret, ROLE));
    let block = with(block(&server), json!({ "profile": "app" }));
    let store = machine.open(&block).await.unwrap();
    assert!(is_state(&store.read("default", None).await.unwrap()));
    assert!(is_state(&store.read("default", None).await.unwrap()));
    let own = |operation: &str| format!("{operation} by {id}");
    assert_eq!(
        asked(&server),
        [
            own("AssumeRole"),
            "GetCallerIdentity by role".to_owned(),
            "GetObject by role".to_owned(),
            "GetObject by role".to_owned(),
        ]
    );
}

#[tokio::test]
async fn a_role_that_wants_another_external_id_is_refused_with_what_to_look_at() {
    let server = DevStore::builder()
        .role(Role::new("deploy").external_id("another"))
        .start()
        .await
        .unwrap();
    let (id, secret) = (server.access_key_id(), server.secret_access_key());
    let machine = Machine::new().with_config(&chained(id, secret, ROLE));
    let text = machine
        .refusal(&with(block(&server), json!({ "profile": "app" })))
        .await;
    for part in [
        "sts:AssumeRole",
        "AccessDenied",
        ROLE,
        "trust policy",
        "profile",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains(secret), "{text}");
}

#[tokio::test]
async fn a_role_of_the_block_is_assumed_with_the_role_of_the_profile() {
    let server = embedded().await;
    let config = chained("AKIASTORE", "canary-of-the-store", ROLE);
    let machine = Machine::new().with_config(&config);
    let more = json!({
        "profile": "app",
        "assume_role": { "role_arn": "arn:aws:iam::123456789012:role/second", "session_name": "me" },
    });
    let reading = machine.try_read(&with(block(&server), more)).await;
    assert!(is_state(&reading.unwrap()));
    assert_eq!(
        asked(&server),
        [
            "AssumeRole by AKIASTORE",
            "AssumeRole by role",
            "GetCallerIdentity by role",
            "GetObject by role"
        ]
    );
    let requests = server.requests();
    assert_eq!(requests[1].key, "arn:aws:iam::123456789012:role/second");
    assert_ne!(requests[1].access_key_id, requests[2].access_key_id);
}

#[tokio::test]
async fn an_account_that_is_not_allowed_is_refused_before_anything_is_read() {
    let server = embedded().await;
    let machine = Machine::new()
        .with("AWS_ACCESS_KEY_ID", "AKIASTORE")
        .with("AWS_SECRET_ACCESS_KEY", "canary-of-the-store");
    for (more, is_allowed) in [
        (json!({ "allowed_account_ids": ["123456789012"] }), true),
        (json!({ "allowed_account_ids": ["999999999999"] }), false),
        (json!({ "forbidden_account_ids": ["123456789012"] }), false),
    ] {
        server.clear_requests();
        let block = with(block(&server), more.clone());
        if is_allowed {
            assert!(is_state(&machine.try_read(&block).await.unwrap()), "{more}");
            continue;
        }
        let text = machine.refusal(&block).await;
        assert!(
            text.contains("AWS account ID not allowed: 123456789012"),
            "{text}"
        );
        assert_eq!(asked(&server), ["GetCallerIdentity by AKIASTORE"], "{more}");
    }
}

#[tokio::test]
async fn a_web_identity_comes_from_a_file_that_is_read_anew_or_inline_or_from_the_environment() {
    let server = embedded().await;
    let services = CredentialServices::start().await;
    // They end at once: every call asks for others.
    services.hand_out(key_of(&server).lasting(0));
    let block = with(
        block_with_sts(&server, &services),
        json!({ "skip_credentials_validation": true }),
    );
    let tokens = || {
        let requests = services.requests_of(Operation::AssumeRoleWithWebIdentity);
        services.clear_requests();
        let token = |request: &cofferdam_tests::credential_services::Recorded| {
            assert_eq!(request.access_key_id, None, "it is not signed");
            request.field("WebIdentityToken").unwrap()
        };
        requests.iter().map(token).collect::<Vec<_>>()
    };

    let machine = Machine::new();
    machine.write("project/token", "canary-one");
    let file = machine.path("project/token");
    let from_file = with(
        block.clone(),
        json!({ "assume_role_with_web_identity": { "role_arn": ROLE, "web_identity_token_file": file } }),
    );
    let store = machine.open(&from_file).await.unwrap();
    store.read("default", None).await.unwrap();
    machine.write("project/token", "canary-two");
    store.read("default", None).await.unwrap();
    assert_eq!(tokens(), ["canary-one", "canary-two"]);

    let inline = with(
        block.clone(),
        json!({ "assume_role_with_web_identity": { "role_arn": ROLE, "web_identity_token": "canary-inline" } }),
    );
    machine.try_read(&inline).await.unwrap();
    assert_eq!(tokens(), ["canary-inline"]);

    let machine = machine
        .with("AWS_ROLE_ARN", ROLE)
        .with("AWS_WEB_IDENTITY_TOKEN_FILE", &file)
        .with("AWS_ROLE_SESSION_NAME", "from-the-environment");
    machine.try_read(&block).await.unwrap();
    let request = services
        .requests_of(Operation::AssumeRoleWithWebIdentity)
        .remove(0);
    assert_eq!(
        request.field("RoleSessionName").unwrap(),
        "from-the-environment"
    );
    assert_eq!(tokens(), ["canary-two"]);

    std::fs::remove_file(&file).unwrap();
    let text = machine.refusal(&block).await;
    assert!(
        text.contains(&file) && text.contains("no such file"),
        "{text}"
    );
}

#[tokio::test]
async fn a_web_identity_that_the_role_does_not_take_is_refused_without_showing_it() {
    let server = DevStore::builder()
        .role(Role::new("deploy").web_identity("canary-right"))
        .start()
        .await
        .unwrap();
    let machine = Machine::new();
    let ordered = |token: &str| {
        let role = json!({ "role_arn": ROLE, "web_identity_token": token });
        with(
            block(&server),
            json!({ "assume_role_with_web_identity": role }),
        )
    };
    machine.try_read(&ordered("canary-right")).await.unwrap();
    // {"exp":1}
    for (token, code) in [
        ("canary-wrong", "InvalidIdentityToken"),
        ("e30.eyJleHAiOjF9.canary", "ExpiredTokenException"),
    ] {
        let text = machine.refusal(&ordered(token)).await;
        assert!(text.contains(code) && !text.contains(CANARY), "{text}");
    }
}

/// Makes a role on ministack that this user may assume, and that may do everything in buckets.
async fn make_role(site: &Site, user: &str) -> String {
    let root = RawS3::new(&Site {
        access_key_id: "test".to_owned(),
        secret_access_key: "test".to_owned(),
        ..site.clone()
    });
    let encoded = |document: Value| -> String {
        let text = document.to_string();
        text.bytes().map(|byte| format!("%{byte:02X}")).collect()
    };
    let trust = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Principal": { "AWS": user }, "Action": "sts:AssumeRole",
          "Condition": { "StringEquals": { "sts:ExternalId": "from-the-file" } } },
    ]});
    let policy = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": ["s3:*"], "Resource": "*" },
    ]});
    let call = async |form: String| {
        let form = format!("Version=2010-05-08&RoleName=deploy&{form}");
        let answer = root
            .query("iam", &form)
            .await
            .expect_success("a call of IAM");
        String::from_utf8(answer.to_vec()).unwrap()
    };
    let made = call(format!(
        "Action=CreateRole&AssumeRolePolicyDocument={}",
        encoded(trust)
    ))
    .await;
    call(format!(
        "Action=PutRolePolicy&PolicyName=buckets&PolicyDocument={}",
        encoded(policy)
    ))
    .await;
    let (_, rest) = made.split_once("<Arn>").unwrap();
    rest.split('<').next().unwrap().to_owned()
}

/// The ARN of whoever has the site's key.
async fn arn_of(site: &Site) -> String {
    let answer = RawS3::new(site)
        .query("sts", "Action=GetCallerIdentity&Version=2011-06-15")
        .await
        .expect_success("who is it");
    let text = String::from_utf8(answer.to_vec()).unwrap();
    let (_, rest) = text.split_once("<Arn>").unwrap();
    rest.split('<').next().unwrap().to_owned()
}

#[tokio::test]
async fn on_another_server_a_profile_assumes_its_role_too_and_with_its_own_key_may_do_nothing() {
    let Some(server) = Ministack::start().await else {
        return;
    };
    let site = server.site();
    let only_roles = json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Action": ["sts:AssumeRole", "sts:GetCallerIdentity"], "Resource": "*" },
    ]});
    let user = another_user(site, "assumer", &only_roles).await;
    let role = make_role(site, &arn_of(&user).await).await;
    RawS3::new(site)
        .put(KEY, STATE)
        .await
        .expect_success("a state");
    let config = chained(&user.access_key_id, &user.secret_access_key, &role);
    let machine = Machine::new().with_config(&config);
    let block = json!({
        "bucket": site.bucket,
        "key": KEY,
        "region": site.region,
        "use_path_style": true,
        "workspace_key_prefix": site.workspace_key_prefix,
        "endpoints": { "s3": site.url, "sts": site.url },
    });
    let as_role = with(block.clone(), json!({ "profile": "app" }));
    assert!(is_state(&machine.try_read(&as_role).await.unwrap()));

    let as_user = with(block.clone(), json!({ "profile": "base" }));
    let text = machine.refusal(&as_user).await;
    assert!(text.contains("AccessDenied"), "{text}");

    let elsewhere = format!("{role}-of-somebody-else");
    let config = chained(&user.access_key_id, &user.secret_access_key, &elsewhere);
    let text = machine.with_config(&config).refusal(&as_role).await;
    assert!(
        text.contains("sts:AssumeRole") && text.contains(&elsewhere),
        "{text}"
    );
}

/// Terraform takes the very same block and files, and asks STS more often.
#[tokio::test]
async fn the_real_terraform_takes_the_shortest_block_and_assumes_a_role_on_the_embedded_store() {
    let Some(terraform) = Terraform::installed() else {
        return;
    };
    let server = DevStore::builder().start().await.unwrap();
    let terraform = terraform
        .with_variable("AWS_ACCESS_KEY_ID", server.access_key_id())
        .with_variable("AWS_SECRET_ACCESS_KEY", server.secret_access_key())
        .with_backend("s3", &with(block(&server), json!({ "use_lockfile": true })));
    terraform.ok(&["init"]).await;
    terraform.apply("one").await;
    let role =
        json!({ "use_lockfile": true, "assume_role": { "role_arn": ROLE, "duration": "1h" } });
    terraform.set_backend("s3", &with(block(&server), role));
    server.clear_requests();
    terraform.ok(&["init", "-reconfigure"]).await;
    terraform.apply("two").await;
    let asked = asked(&server);
    assert!(asked.contains(&"PutObject by role".to_owned()), "{asked:?}");
    let own = server.access_key_id();
    let by_key: Vec<_> = asked.iter().filter(|it| it.ends_with(own)).collect();
    assert!(
        !by_key.is_empty() && by_key.iter().all(|it| it.starts_with("AssumeRole ")),
        "{asked:?}"
    );
}
