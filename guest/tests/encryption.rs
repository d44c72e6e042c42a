//! Encryption, tags, ACLs and checksums: what every request carries, and what a refusal makes of it.

#![allow(clippy::unwrap_used, reason = "a test reports by panicking")]

mod support;

use std::collections::BTreeMap;

use cofferdam_s3::contract::{ErrorCode, Expectation, Fence, Reading, UnlockBy};
use support::*;

/// 32 times `k`, and base64 of its MD5.
const KEY: &str = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=";
const KEY_MD5: &str = "mT2HRsMGJ5IX5C+0rreZ8Q==";

fn with_customer_key() -> String {
    format!(",\"encrypt\":true,\"sse_customer_key\":\"{KEY}\"")
}

/// Reads, writes, locks and unlocks, so that every kind of request is made; answers with the headers of each.
fn all_requests(fake: &Fake, more: &str) -> Vec<Request> {
    let store = fake.open_with(more, Fence::Required, None);
    assert!(matches!(
        store.read("default", None).unwrap(),
        Reading::Absent
    ));
    store
        .write("default", &state(1), &expecting(Expectation::Absent))
        .unwrap();
    let held = store.lock("default", info("a")).unwrap();
    store.lock("default", info("b")).unwrap_err();
    store.holders("default").unwrap();
    store.unlock("default", &UnlockBy::Held(held)).unwrap();
    std::mem::take(&mut fake.world().requests)
}

fn prefixed<'r>(request: &'r Request, prefix: &str) -> BTreeMap<&'r str, &'r str> {
    let headers = request.headers.iter();
    headers
        .filter(|(name, _)| name.starts_with(prefix))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

const SSE: &str = "x-amz-server-side-encryption";

#[test]
fn uploads_ask_for_the_encryption_that_is_configured_and_reads_for_none() {
    let id = "mrk-0123456789abcdef0123456789abcdef";
    let kms = format!(",\"encrypt\":true,\"kms_key_id\":\"{id}\"");
    let without = format!(",\"kms_key_id\":\"{id}\"");
    for (more, expected) in [
        ("", vec![]),
        (without.as_str(), vec![]),
        (",\"encrypt\":true", vec![(SSE, "AES256")]),
        (
            kms.as_str(),
            vec![
                (SSE, "aws:kms"),
                ("x-amz-server-side-encryption-aws-kms-key-id", id),
            ],
        ),
    ] {
        let requests = all_requests(&Fake::default(), more);
        assert!(requests.len() >= 6);
        for request in requests {
            let expected = match request.body {
                Some(_) => BTreeMap::from_iter(expected.clone()),
                None => BTreeMap::new(),
            };
            assert_eq!(prefixed(&request, SSE), expected, "{}", request.path);
        }
    }
}

#[test]
fn the_customer_key_travels_with_every_upload_and_every_read_of_state_and_lock() {
    let fake = Fake::default();
    let requests = all_requests(&fake, &with_customer_key());
    let expected = BTreeMap::from([
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ("x-amz-server-side-encryption-customer-key", KEY),
        ("x-amz-server-side-encryption-customer-key-md5", KEY_MD5),
    ]);
    let mut seen = BTreeMap::new();
    for request in requests {
        let is_lock = request.path.ends_with(".tflock");
        let method = request.method.as_str();
        *seen.entry((method, is_lock)).or_insert(0) += 1;
        if method == "DELETE" {
            assert_eq!(prefixed(&request, SSE), BTreeMap::new());
        } else {
            assert_eq!(prefixed(&request, SSE), expected, "{method}");
        }
    }
    let kinds = [
        ("DELETE", true),
        ("GET", false),
        ("GET", true),
        ("PUT", false),
        ("PUT", true),
    ];
    assert_eq!(seen.into_keys().collect::<Vec<_>>(), kinds);
}

#[test]
fn states_and_locks_carry_their_own_tags_and_both_the_acl() {
    let more = ",\"acl\":\"bucket-owner-full-control\",\"state_tags\":{\"b \
                c\":\"1&2\",\"a\":\"x=y/é\"},\"lock_tags\":{\"kind\":\"lock\"}";
    for request in all_requests(&Fake::default(), more) {
        let is_lock = request.path.ends_with(".tflock");
        let (tags, acl) = match (&request.body, is_lock) {
            (None, _) => (None, None),
            (Some(_), true) => (Some("kind=lock"), Some("bucket-owner-full-control")),
            (Some(_), false) => (
                Some("a=x%3Dy%2F%C3%A9&b+c=1%262"),
                Some("bucket-owner-full-control"),
            ),
        };
        assert_eq!(request.header("x-amz-tagging"), tags);
        assert_eq!(request.header("x-amz-acl"), acl);
    }
}

#[test]
fn without_checksums_no_request_has_a_header_of_them() {
    for request in all_requests(&Fake::default(), ",\"skip_s3_checksum\":true") {
        assert_eq!(prefixed(&request, "x-amz-checksum"), BTreeMap::new());
        assert_eq!(prefixed(&request, "x-amz-sdk"), BTreeMap::new());
        assert_eq!(request.header("x-amz-content-sha256").unwrap().len(), 64);
    }
    let mut with = 0;
    for request in all_requests(&Fake::default(), "") {
        let expected = match (request.method.as_str(), &request.body) {
            (_, Some(_)) => "x-amz-checksum-sha256",
            ("GET", _) => "x-amz-checksum-mode",
            _ => continue,
        };
        let found = prefixed(&request, "x-amz-checksum");
        assert_eq!(found.into_keys().collect::<Vec<_>>(), [expected]);
        with += 1;
    }
    assert!(with >= 5);
}

#[test]
fn a_body_that_breaks_off_is_not_a_state_under_a_customer_key_either() {
    let fake = Fake::default();
    fake.put(STATE, &state(1));
    let more = format!("{},\"max_retries\":1", with_customer_key());
    let store = fake.open_with(&more, Fence::Required, None);
    fake.fault(1, Fault::Truncated);
    let error = store.read("default", None).unwrap_err();
    assert_eq!(error.code, ErrorCode::Unreachable);
    assert!(error.message.contains("broke off"), "{}", error.message);
    assert_eq!(whole(store.read("default", None).unwrap()).bytes, state(1));
}

/// What the message of a refused call has to name.
#[track_caller]
fn assert_refused(
    more: &str,
    call: &str,
    answer: (u16, &'static str),
    expected: &[&str],
) -> ErrorCode {
    let fake = Fake::default();
    let store = fake.open_with(more, Fence::Required, None);
    let (status, body) = answer;
    fake.fault(1, Fault::Answer(status, body));
    let error = match call {
        "read" => store.read("default", None).map(drop),
        "lock" => store.lock("default", info("a")).map(drop),
        _ => store
            .write("default", &state(1), &expecting(Expectation::Absent))
            .map(drop),
    }
    .unwrap_err();
    for text in expected {
        let facts = format!("{:?}", error.facts);
        let found = error.message.contains(text) || facts.contains(text);
        assert!(found, "{text}: {error:?}");
    }
    assert!(!format!("{error:?}").contains(&KEY[..8]), "{error:?}");
    assert!(!format!("{error:?}").contains(KEY_MD5), "{error:?}");
    error.code
}

#[test]
fn an_object_under_another_key_says_so() {
    let own = with_customer_key();
    let another = "<Error><Code>InvalidRequest</Code><Message>The encryption parameters are not \
                   applicable to this object.</Message></Error>";
    let denied = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
    let missing = "<Error><Code>InvalidRequest</Code><Message>The object was stored using a form \
                   of Server Side Encryption. The correct parameters must be provided to retrieve \
                   the object.</Message></Error>";
    for (more, answer, code, expected) in [
        (
            &own,
            (400, another),
            ErrorCode::Unsupported,
            "with another customer key, or with none",
        ),
        (
            &own,
            (403, denied),
            ErrorCode::AccessDenied,
            "another customer key: check sse_customer_key",
        ),
        (
            &String::new(),
            (400, missing),
            ErrorCode::Unsupported,
            "set encrypt = true and sse_customer_key",
        ),
    ] {
        let found = assert_refused(more, "read", answer, &[expected]);
        assert_eq!(found, code, "{expected}");
    }
}

#[test]
fn an_expired_token_is_not_taken_for_a_wrong_customer_key() {
    let expired = "<Error><Code>InvalidToken</Code><Message>m</Message></Error>";
    let code = assert_refused(
        &with_customer_key(),
        "read",
        (400, expired),
        &["credentials"],
    );
    assert_eq!(code, ErrorCode::Credentials);
}

#[test]
fn what_repeats_the_customer_key_is_not_repeated() {
    let more = with_customer_key();
    let echo = "<Error><Code>InvalidArgument</Code><Message>bad header \
                a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=</Message></Error>";
    for call in ["read", "write", "lock"] {
        assert_refused(&more, call, (400, echo), &["InvalidArgument"]);
    }
}

#[test]
fn a_missing_permission_is_the_one_that_the_store_names() {
    let tags = ",\"state_tags\":{\"a\":\"b\"},\"acl\":\"private\"";
    let kms = ",\"encrypt\":true,\"kms_key_id\":\"alias/states\"";
    let tagging = "<Error><Code>AccessDenied</Code><Message>User: u is not authorized to perform: \
                   s3:PutObjectTagging on resource: r</Message></Error>";
    let generate = "<Error><Code>AccessDenied</Code><Message>User: u is not authorized to \
                    perform: kms:GenerateDataKey on resource: r</Message></Error>";
    let decrypt = "<Error><Code>AccessDenied</Code><Message>User: u is not authorized to perform: \
                   kms:Decrypt on the resource</Message></Error>";
    let plain = "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";
    for (more, call, body, expected) in [
        (
            tags,
            "write",
            tagging,
            vec!["Allow s3:PutObjectTagging on arn:aws:s3:::tfstate/app/terraform.tfstate."],
        ),
        (
            tags,
            "write",
            plain,
            vec![
                "Allow s3:PutObject on",
                "Tags take s3:PutObjectTagging",
                "s3:PutObjectAcl",
            ],
        ),
        (
            kms,
            "write",
            generate,
            vec!["Allow kms:GenerateDataKey on the KMS key alias/states."],
        ),
        (
            kms,
            "read",
            decrypt,
            vec!["Allow kms:Decrypt on the KMS key alias/states."],
        ),
        (
            "",
            "read",
            decrypt,
            vec!["Allow kms:Decrypt on the bucket's KMS key."],
        ),
        (
            kms,
            "lock",
            plain,
            vec!["kms:GenerateDataKey and kms:Decrypt"],
        ),
        ("", "write", plain, vec!["Allow s3:PutObject on"]),
    ] {
        let code = assert_refused(more, call, (403, body), &expected);
        assert_eq!(code, ErrorCode::AccessDenied);
    }
}

#[test]
fn a_refused_protection_names_the_argument_to_change() {
    let acl = "<Error><Code>AccessControlListNotSupported</Code><Message>The bucket does not \
               allow ACLs</Message></Error>";
    let checksum = "<Error><Code>InvalidRequest</Code><Message>Content-MD5 OR x-amz-checksum- \
                    HTTP header is required for Put Object requests with Object Lock \
                    parameters</Message></Error>";
    let disabled =
        "<Error><Code>KMS.DisabledException</Code><Message>k is disabled.</Message></Error>";
    for (more, body, expected) in [
        (",\"acl\":\"private\"", acl, "remove the argument acl"),
        (
            ",\"skip_s3_checksum\":true",
            checksum,
            "set skip_s3_checksum = false",
        ),
        (
            ",\"encrypt\":true,\"kms_key_id\":\"alias/k\"",
            disabled,
            "check kms_key_id",
        ),
    ] {
        let code = assert_refused(more, "write", (400, body), &[expected]);
        assert_eq!(code, ErrorCode::Unsupported);
    }
}
