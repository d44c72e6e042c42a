//! Credentials on their way from files, commands and services to the signature of a request.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test reports by panicking"
)]

mod support;

use cofferdam_s3::Store;
use cofferdam_s3::contract::{ErrorCode, Expectation, Fence, OpenOptions, Outcome, Reading};
use support::{Fake, Fault, fact};

const CONFIG: &str = "/home/me/.aws/config";

/// A store of this block, on a machine with this config file.
fn open(fake: &Fake, config: &str, more: &str) -> Store<Fake> {
    {
        let mut world = fake.world();
        let home = ("HOME".to_owned(), "/home/me".to_owned());
        world.variables.extend([home]);
        world.files.insert(CONFIG.to_owned(), config.into());
    }
    let block = format!(
        "{{\"bucket\":\"tfstate\",\"key\":\"k\",\"region\":\"eu-west-1\",\"use_path_style\":true,\
         \"endpoints\":{{\"s3\":\"http://s3.test:9000\",\"sts\":\"http://sts.test\"}}{more}}}"
    );
    let options = OpenOptions {
        fence: Fence::Required,
        call_budget: None,
        max_state: 1000,
    };
    Store::open(fake.clone(), &block, options)
        .unwrap_or_else(|diagnostics| panic!("{diagnostics:?}"))
        .0
}

fn printed(id: &str) -> Vec<u8> {
    format!("{{\"Version\":1,\"AccessKeyId\":\"{id}\",\"SecretAccessKey\":\"CANARY\"}}").into()
}

/// Who signed each request, and what was asked for.
fn signers(fake: &Fake) -> Vec<String> {
    let world = fake.world();
    let signer = |request: &support::Request| {
        let authorization = request.header("authorization").unwrap();
        let (_, rest) = authorization.split_once("Credential=").unwrap();
        let mut scope = rest.split('/');
        let (id, service) = (scope.next().unwrap(), scope.nth(2).unwrap());
        format!("{id} {service}")
    };
    world.requests.iter().map(signer).collect()
}

const PROCESS: &str = "[default]\ncredential_process = get\n";
const UNCHECKED: &str = ",\"skip_credentials_validation\":true";

#[test]
fn a_command_is_run_once_and_again_after_an_expired_token() {
    let fake = Fake::default();
    let set = |id: &str| {
        let mut world = fake.world();
        world.commands.insert("get".to_owned(), printed(id));
    };
    set("AKIAONE");
    let store = open(&fake, PROCESS, UNCHECKED);
    assert!(matches!(
        store.read("default", None).unwrap(),
        Reading::Absent
    ));
    set("AKIATWO");
    assert!(matches!(
        store.read("default", None).unwrap(),
        Reading::Absent
    ));
    let expired = "<Error><Code>ExpiredToken</Code><Message>m</Message></Error>";
    fake.fault(1, Fault::Answer(400, expired));
    assert!(matches!(
        store.read("default", None).unwrap(),
        Reading::Absent
    ));
    assert_eq!(
        signers(&fake),
        ["AKIAONE s3", "AKIAONE s3", "AKIAONE s3", "AKIATWO s3"]
    );
}

#[test]
fn an_expired_token_that_nobody_can_replace_is_told_and_not_tried_again() {
    let fake = Fake::default();
    let config = "[default]\naws_access_key_id=AKIAFILE\naws_secret_access_key=CANARY\n";
    let store = open(&fake, config, UNCHECKED);
    let expired = "<Error><Code>ExpiredToken</Code><Message>m</Message></Error>";
    fake.fault(1, Fault::Answer(400, expired));
    let error = store.read("default", None).unwrap_err();
    assert_eq!(error.code, ErrorCode::Credentials);
    assert_eq!(fact(&error, "store-code"), Some("ExpiredToken"));
    assert_eq!(signers(&fake), ["AKIAFILE s3"]);
}

const IDENTITY: &str = "<GetCallerIdentityResponse><GetCallerIdentityResult>\
                        <Arn>arn:aws:iam::111122223333:user/me</Arn>\
                        </GetCallerIdentityResult></GetCallerIdentityResponse>";
const KEYS: &str = ",\"access_key\":\"AKIABLOCK\",\"secret_key\":\"CANARY\"";

#[test]
fn identity_is_checked_before_the_first_request_to_the_store_and_never_again() {
    let fake = Fake::default();
    let store = open(&fake, "", KEYS);
    fake.fault(1, Fault::Answer(200, IDENTITY));
    store.read("default", None).unwrap();
    store.read("default", None).unwrap();
    assert_eq!(
        signers(&fake),
        ["AKIABLOCK sts", "AKIABLOCK s3", "AKIABLOCK s3"]
    );
}

#[test]
fn in_an_account_that_is_not_allowed_nothing_is_read_or_written() {
    let fake = Fake::default();
    let more = format!("{KEYS},\"allowed_account_ids\":[\"444455556666\"]");
    let store = open(&fake, "", &more);
    for _ in 0..2 {
        fake.fault(1, Fault::Answer(200, IDENTITY));
        let error = store
            .write("default", b"{}", &support::expecting(Expectation::Absent))
            .unwrap_err();
        assert_eq!(error.code, ErrorCode::Credentials);
        assert_eq!(error.outcome, Outcome::NotDone);
        let text = "Invalid account ID: AWS account ID not allowed: 111122223333";
        assert!(error.message.contains(text), "{}", error.message);
    }
    assert_eq!(signers(&fake), ["AKIABLOCK sts", "AKIABLOCK sts"]);
}

#[test]
fn a_failure_of_sts_is_told_with_its_own_operation_and_source() {
    let fake = Fake::default();
    let store = open(&fake, "", KEYS);
    let refused = "<ErrorResponse><Error><Code>InvalidClientTokenId</Code><Message>no</Message></Error>\
                   <RequestId>R1</RequestId></ErrorResponse>";
    fake.fault(1, Fault::Answer(403, refused));
    let error = store.read("default", None).unwrap_err();
    assert_eq!(error.code, ErrorCode::Credentials);
    assert_eq!(fact(&error, "operation"), Some("sts:GetCallerIdentity"));
    assert_eq!(fact(&error, "store-code"), Some("InvalidClientTokenId"));
    assert!(
        error.message.contains("validating provider credentials"),
        "{}",
        error.message
    );
    assert!(!error.message.contains("CANARY"), "{}", error.message);
}

#[test]
fn adaptive_retries_hold_back_what_follows_a_throttling() {
    let fake = Fake::default();
    let more = format!("{KEYS}{UNCHECKED},\"retry_mode\":\"adaptive\"");
    let store = open(&fake, "", &more);
    store.read("default", None).unwrap();
    assert!(fake.world().slept.is_zero());
    let slow = "<Error><Code>SlowDown</Code><Message>m</Message></Error>";
    fake.fault(1, Fault::Answer(503, slow));
    store.read("default", None).unwrap();
    let once = fake.world().slept;
    store.read("default", None).unwrap();
    store.read("default", None).unwrap();
    assert!(
        fake.world().slept > once,
        "half a request a second at first"
    );
}

#[test]
fn what_one_instance_fetched_and_checked_another_one_takes_over() {
    let fake = Fake::default();
    fake.world().shares = true;
    let print = |id: &str| {
        let mut world = fake.world();
        world.commands.insert("get".to_owned(), printed(id));
    };
    let read = |store: &Store<Fake>| {
        let reading = store.read("default", None).unwrap();
        assert!(matches!(reading, Reading::Absent));
    };
    print("AKIAONE");
    let (one, other) = (open(&fake, PROCESS, ""), open(&fake, PROCESS, ""));
    fake.fault(1, Fault::Answer(200, IDENTITY));
    read(&one);
    // Nobody runs the command again unless what it printed is refused.
    print("AKIATWO");
    read(&other);
    let expired = "<Error><Code>ExpiredToken</Code><Message>m</Message></Error>";
    fake.fault(1, Fault::Answer(400, expired));
    read(&other);
    print("AKIATHREE");
    fake.fault(1, Fault::Answer(400, expired));
    read(&one);
    assert_eq!(
        signers(&fake),
        [
            "AKIAONE sts",
            "AKIAONE s3",
            "AKIAONE s3",
            "AKIAONE s3",
            "AKIATWO s3",
            "AKIAONE s3",
            "AKIATWO s3"
        ]
    );
}
