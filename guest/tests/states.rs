//! States: what is read, what is written, and what is never overwritten.

mod support;

use std::time::Duration;

use cofferdam_s3::contract::{ErrorCode, Expectation, Fence, Outcome, Reading};
use cofferdam_s3::platform::{AccessKey, TransportError};
use cofferdam_s3::secret::Secret;
use support::*;

fn broken() -> TransportError {
    TransportError::Broken("reset".to_owned())
}

const SLOW_DOWN: &str = "<Error><Code>SlowDown</Code><Message>m</Message></Error>";
const CONFLICT: &str = "<Error><Code>ConditionalRequestConflict</Code></Error>";
const NOT_IMPLEMENTED: &str = "<Error><Code>NotImplemented</Code></Error>";
const EXPIRED: &str = "<Error><Code>ExpiredToken</Code></Error>";

#[test]
fn opening_sends_nothing() {
    let fake = Fake::default();
    fake.open();
    assert_eq!(fake.sent(), [""; 0]);
}

#[test]
fn a_read_is_one_get() {
    let fake = Fake::default();
    fake.put(STATE, &state(1));
    let store = fake.open();
    let read = whole(store.read("default", None).unwrap());
    assert_eq!(read.bytes, state(1));
    assert_eq!(read.revision.tag, etag(&state(1)));
    assert_eq!(read.checksum.unwrap().algorithm, "sha256");
    assert!(matches!(
        store.read("default", Some(&read.revision)).unwrap(),
        Reading::Unchanged
    ));
    let world = fake.world();
    let first = &world.requests[0];
    assert_eq!(first.header("x-amz-checksum-mode"), Some("ENABLED"));
    assert_eq!(first.header("content-length"), None);
    drop(world);
    assert_eq!(
        fake.sent(),
        [format!("GET {STATE}"), format!("GET {STATE} If-None-Match")]
    );
}

#[test]
fn a_missing_and_an_empty_object_are_no_state() {
    let fake = Fake::default();
    let store = fake.open();
    assert!(matches!(
        store.read("default", None).unwrap(),
        Reading::Absent
    ));
    fake.put(STATE, b"");
    assert!(matches!(
        store.read("default", None).unwrap(),
        Reading::Absent
    ));
}

#[test]
fn a_404_that_is_not_of_s3_is_no_proof_that_there_is_no_state() {
    let fake = Fake::default();
    let store = fake.open();
    for body in ["", "<html><title>Not found</title></html>", "gar<bage"] {
        fake.fault(1, Fault::Answer(404, body));
        let error = store.read("default", None).unwrap_err();
        assert_eq!(error.code, ErrorCode::Other);
        assert!(error.message.contains("endpoints.s3"), "{}", error.message);
    }
}

#[test]
fn a_body_that_breaks_off_is_read_again() {
    let fake = Fake::default();
    fake.put(STATE, &state(1));
    let store = fake.open();
    fake.fault(1, Fault::Truncated);
    assert_eq!(whole(store.read("default", None).unwrap()).bytes, state(1));
    assert_eq!(fake.sent().len(), 2);
}

#[test]
fn a_state_above_the_limit_is_neither_read_nor_written() {
    let fake = Fake::default();
    let large = vec![b'x'; 1001];
    fake.put(STATE, &large);
    let store = fake.open();
    let read = store.read("default", None).unwrap_err();
    let written = store
        .write("default", &large, &expecting(Expectation::Anything))
        .unwrap_err();
    for error in [read, written] {
        assert_eq!(error.code, ErrorCode::TooLarge);
        assert_eq!(fact(&error, "size"), Some("1001"));
        assert_eq!(fact(&error, "limit"), Some("1000"));
    }
    fake.put(STATE, &large[..1000]);
    assert_eq!(
        whole(store.read("default", None).unwrap()).bytes.len(),
        1000
    );
}

#[test]
fn composite_checksums_are_not_passed_on() {
    let fake = Fake::default();
    let store = fake.open();
    let composite = |name: &'static str, value: &str| {
        vec![("etag", "\"t\"".to_owned()), (name, value.to_owned())]
    };
    for headers in [
        composite("x-amz-checksum-sha256", "q83v=-2"),
        [
            composite("x-amz-checksum-sha256", "q83v"),
            composite("x-amz-checksum-type", "COMPOSITE"),
        ]
        .concat(),
    ] {
        fake.fault(1, Fault::AnswerWith(200, headers, "{}"));
        assert!(
            whole(store.read("default", None).unwrap())
                .checksum
                .is_none()
        );
    }
    let weaker = composite("x-amz-checksum-crc32", "q83vAA==");
    fake.fault(1, Fault::AnswerWith(200, weaker, "{}"));
    let checksum = whole(store.read("default", None).unwrap())
        .checksum
        .unwrap();
    assert_eq!(
        (checksum.algorithm.as_str(), checksum.value),
        ("crc32", vec![0xab, 0xcd, 0xef, 0])
    );
}

#[test]
fn a_write_is_one_fenced_put_with_its_length_and_checksum() {
    let fake = Fake::default();
    let store = fake.open_with(
        ",\"encrypt\":true,\"acl\":\"private\"",
        Fence::Required,
        None,
    );
    let first = store
        .write("dev", &state(1), &expecting(Expectation::Absent))
        .unwrap();
    assert_eq!(first.tag, etag(&state(1)));
    store
        .write("dev", &state(2), &expecting(Expectation::Revision(first)))
        .unwrap();
    assert_eq!(fake.stored(DEV), Some(state(2)));
    let world = fake.world();
    let put = &world.requests[0];
    let length = state(1).len().to_string();
    for (name, value) in [
        ("content-type", "application/json"),
        ("content-length", length.as_str()),
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-acl", "private"),
    ] {
        assert_eq!(put.header(name), Some(value));
    }
    assert!(put.header("x-amz-checksum-sha256").is_some());
    assert!(put.header("x-amz-sdk-checksum-algorithm").is_none());
    assert_eq!(put.header("x-amz-content-sha256").unwrap().len(), 64);
    let signed = put.header("authorization").unwrap();
    assert!(
        signed.contains("/20261123/eu-west-1/s3/aws4_request"),
        "{signed}"
    );
    for name in [
        "content-length",
        "host",
        "if-none-match",
        "x-amz-checksum-sha256",
    ] {
        assert!(signed.contains(name), "{signed}");
    }
    drop(world);
    assert_eq!(
        fake.sent(),
        [
            format!("PUT {DEV} If-None-Match:*"),
            format!("PUT {DEV} If-Match")
        ]
    );
}

#[test]
fn skip_s3_checksum_leaves_all_checksum_headers_out() {
    let fake = Fake::default();
    let store = fake.open_with(",\"skip_s3_checksum\":true", Fence::Required, None);
    store
        .write("default", &state(1), &expecting(Expectation::Absent))
        .unwrap();
    store.read("default", None).unwrap();
    for request in &fake.world().requests {
        assert!(!request.headers.keys().any(|name| name.contains("checksum")));
        assert!(request.header("x-amz-content-sha256").is_some());
    }
}

#[test]
fn bad_arguments_reach_no_store() {
    let fake = Fake::default();
    let store = fake.open();
    let mut short = expecting(Expectation::Anything);
    short.sha256 = Some(vec![0; 31]);
    let untagged = expecting(Expectation::Revision(cofferdam_s3::contract::Revision {
        tag: String::new(),
        version: None,
    }));
    for error in [
        store
            .write("default", b"", &expecting(Expectation::Anything))
            .unwrap_err(),
        store.write("default", b"{}", &short).unwrap_err(),
        store.write("default", b"{}", &untagged).unwrap_err(),
        store
            .delete("default", &deleting(Expectation::Anything))
            .unwrap_err(),
    ] {
        assert_eq!(error.code, ErrorCode::InvalidArgument);
    }
    assert_eq!(fake.sent(), [""; 0]);
}

#[test]
fn a_wrong_sha256_of_the_caller_is_found_by_the_store() {
    let fake = Fake::default();
    let mut wrong = expecting(Expectation::Anything);
    wrong.sha256 = Some(vec![0; 32]);
    let error = fake.open().write("default", b"{}", &wrong).unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidArgument);
    assert_eq!(fake.stored(STATE), None);
}

#[test]
fn a_stale_write_tells_both_serials_and_overwrites_nothing() {
    let fake = Fake::default();
    fake.put(STATE, &state(8));
    let store = fake.open();
    for expect in [
        Expectation::Revision(revision(&state(6))),
        Expectation::Absent,
    ] {
        let error = store
            .write("default", &state(7), &expecting(expect))
            .unwrap_err();
        assert_eq!(error.code, ErrorCode::StateChanged);
        assert_eq!(error.outcome, Outcome::NotDone);
        assert_eq!(fact(&error, "stored-serial"), Some("8"));
        assert_eq!(fact(&error, "written-serial"), Some("7"));
        assert_eq!(fact(&error, "stored-lineage"), Some("l-1"));
        assert_eq!(fake.stored(STATE), Some(state(8)));
    }
}

#[test]
fn a_write_on_a_state_that_is_gone_is_a_change() {
    let fake = Fake::default();
    let error = fake
        .open()
        .write(
            "default",
            &state(7),
            &expecting(Expectation::Revision(revision(&state(6)))),
        )
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::StateChanged);
    assert_eq!(fake.stored(STATE), None);
}

#[test]
fn equal_bytes_of_another_writer_are_not_taken_for_our_own() {
    let fake = Fake::default();
    fake.put(STATE, &state(7));
    let error = fake
        .open()
        .write("default", &state(7), &expecting(Expectation::Absent))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::StateChanged);
}

#[test]
fn a_write_whose_answer_got_lost_is_found_to_be_stored() {
    for answer in [
        Fault::LostAnswer,
        Fault::DoneBut(500, "<oops"),
        Fault::DoneBut(503, SLOW_DOWN),
    ] {
        let fake = Fake::default();
        let store = fake.open();
        fake.put(STATE, &state(1));
        fake.fault(1, answer);
        let written = store
            .write(
                "default",
                &state(2),
                &expecting(Expectation::Revision(revision(&state(1)))),
            )
            .unwrap();
        assert_eq!(written.tag, etag(&state(2)));
        assert_eq!(
            fake.sent(),
            [
                format!("PUT {STATE} If-Match"),
                format!("PUT {STATE} If-Match"),
                format!("GET {STATE}")
            ]
        );
    }
}

#[test]
fn a_write_of_which_every_answer_got_lost_is_found_to_be_stored() {
    let fake = Fake::default();
    let store = fake.open();
    fake.fault(1, Fault::LostAnswer);
    for n in 2..=5 {
        fake.fault(n, Fault::Fails(broken()));
    }
    let written = store
        .write("default", &state(1), &expecting(Expectation::Absent))
        .unwrap();
    assert_eq!(written.tag, etag(&state(1)));
}

#[test]
fn a_write_that_never_got_through_is_not_known_to_have_failed() {
    let fake = Fake::default();
    let store = fake.open();
    for n in 1..=5 {
        fake.fault(n, Fault::Fails(broken()));
    }
    let error = store
        .write("default", &state(1), &expecting(Expectation::Absent))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::Unreachable);
    assert_eq!(error.outcome, Outcome::Unknown);
    assert!(error.retryable);
    assert_eq!(fact(&error, "attempts"), Some("5"));
}

#[test]
fn a_write_that_was_never_sent_is_known_to_have_failed() {
    let fake = Fake::default();
    let store = fake.open();
    for n in 1..=5 {
        let refused = TransportError::NotConnected("connection refused".to_owned());
        fake.fault(n, Fault::Fails(refused));
    }
    let error = store
        .write("default", &state(1), &expecting(Expectation::Absent))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::Unreachable);
    assert_eq!(error.outcome, Outcome::NotDone);
    assert_eq!(fake.sent().len(), 5);
}

#[test]
fn a_lost_write_that_another_overwrote_is_a_change_of_unknown_outcome() {
    let fake = Fake::default();
    let store = fake.open();
    fake.fault(1, Fault::LostAnswer);
    fake.fault(
        2,
        Fault::Before(Box::new(|objects| {
            objects.insert(STATE.to_owned(), state(9));
        })),
    );
    let error = store
        .write("default", &state(1), &expecting(Expectation::Absent))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::StateChanged);
    assert_eq!(error.outcome, Outcome::Unknown);
    assert_eq!(fake.stored(STATE), Some(state(9)));
}

#[test]
fn a_collision_is_no_verdict() {
    let fake = Fake::default();
    let store = fake.open();
    fake.fault(1, Fault::Answer(409, CONFLICT));
    store
        .write("default", &state(1), &expecting(Expectation::Absent))
        .unwrap();
    assert_eq!(
        fake.sent(),
        [
            format!("PUT {STATE} If-None-Match:*"),
            format!("GET {STATE}"),
            format!("PUT {STATE} If-None-Match:*")
        ]
    );
    fake.fault(1, Fault::Answer(409, CONFLICT));
    fake.fault(
        2,
        Fault::Before(Box::new(|objects| {
            objects.insert(STATE.to_owned(), state(5));
        })),
    );
    let error = store
        .write(
            "default",
            &state(2),
            &expecting(Expectation::Revision(revision(&state(1)))),
        )
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::StateChanged);
}

#[test]
fn a_new_state_replaces_an_empty_object_and_only_that() {
    let fake = Fake::default();
    fake.put(STATE, b"");
    let store = fake.open();
    store
        .write("default", &state(1), &expecting(Expectation::Absent))
        .unwrap();
    assert_eq!(
        fake.sent(),
        [
            format!("PUT {STATE} If-None-Match:*"),
            format!("GET {STATE}"),
            format!("PUT {STATE} If-Match")
        ]
    );
    fake.put(STATE, b"");
    fake.fault(
        3,
        Fault::Before(Box::new(|objects| {
            objects.insert(STATE.to_owned(), state(5));
        })),
    );
    let error = store
        .write("default", &state(2), &expecting(Expectation::Absent))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::StateChanged);
    assert_eq!(fake.stored(STATE), Some(state(5)));
}

#[test]
fn a_forced_write_has_no_condition() {
    let fake = Fake::default();
    fake.put(STATE, &state(8));
    let store = fake.open();
    store
        .write("default", &state(1), &expecting(Expectation::Anything))
        .unwrap();
    assert_eq!(fake.sent(), [format!("PUT {STATE}")]);
}

#[test]
fn a_store_without_conditions_is_refused_unless_that_is_allowed() {
    let fake = Fake::default();
    fake.world().quirks.no_conditions = true;
    let error = fake
        .open()
        .write("default", &state(1), &expecting(Expectation::Absent))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::Unsupported);
    assert_eq!(error.outcome, Outcome::NotDone);
    assert_eq!(fake.stored(STATE), None);

    let lenient = fake.open_with("", Fence::WhenSupported, None);
    let first = lenient
        .write("default", &state(1), &expecting(Expectation::Absent))
        .unwrap();
    lenient
        .write(
            "default",
            &state(2),
            &expecting(Expectation::Revision(first.clone())),
        )
        .unwrap();
    assert_eq!(fake.world().reports.len(), 2);
    let stale = lenient
        .write(
            "default",
            &state(3),
            &expecting(Expectation::Revision(first)),
        )
        .unwrap_err();
    assert_eq!(stale.code, ErrorCode::StateChanged);
    assert_eq!(fake.stored(STATE), Some(state(2)));
}

#[test]
fn a_refused_checksum_is_not_taken_for_a_refused_condition() {
    let fake = Fake::default();
    let body = "<Error><Code>NotImplemented</Code><Header>x-amz-checksum-sha256</Header></Error>";
    fake.fault(1, Fault::Answer(501, body));
    let error = fake
        .open_with("", Fence::WhenSupported, None)
        .write("default", &state(1), &expecting(Expectation::Absent))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::Unsupported);
    assert!(
        error.message.contains("skip_s3_checksum = true"),
        "{}",
        error.message
    );
    assert_eq!(fake.world().reports.len(), 0);
}

#[test]
fn a_workspace_is_deleted_as_it_was_read_or_not_at_all() {
    let fake = Fake::default();
    let store = fake.open();
    let expect = || deleting(Expectation::Revision(revision(&state(1))));
    fake.put(DEV, &state(2));
    let error = store.delete("dev", &expect()).unwrap_err();
    assert_eq!(error.code, ErrorCode::StateChanged);
    assert_eq!(fact(&error, "stored-serial"), Some("2"));
    fake.put(DEV, &state(1));
    fake.sent();
    store.delete("dev", &expect()).unwrap();
    assert_eq!(fake.sent(), [format!("DELETE {DEV} If-Match")]);
    assert_eq!(
        store.delete("dev", &expect()).unwrap_err().code,
        ErrorCode::StateChanged
    );
    store
        .delete("dev", &deleting(Expectation::Anything))
        .unwrap();
    store.delete("dev", &deleting(Expectation::Absent)).unwrap();
    fake.put(DEV, &state(3));
    assert_eq!(
        store
            .delete("dev", &deleting(Expectation::Absent))
            .unwrap_err()
            .code,
        ErrorCode::StateChanged
    );
    assert_eq!(fake.stored(DEV), Some(state(3)));
}

#[test]
fn a_delete_whose_answer_got_lost_is_done() {
    let fake = Fake::default();
    let store = fake.open();
    for expect in [
        Expectation::Revision(revision(&state(1))),
        Expectation::Anything,
    ] {
        fake.put(DEV, &state(1));
        fake.fault(1, Fault::LostAnswer);
        store.delete("dev", &deleting(expect)).unwrap();
        assert_eq!(fake.stored(DEV), None);
    }
}

#[test]
fn without_conditional_deletes_a_workspace_is_compared_and_deleted() {
    let fake = Fake::default();
    fake.world().quirks.no_conditional_delete = true;
    let store = fake.open();
    fake.put(DEV, &state(2));
    let stale = deleting(Expectation::Revision(revision(&state(1))));
    assert_eq!(
        store.delete("dev", &stale).unwrap_err().code,
        ErrorCode::StateChanged
    );
    assert_eq!(fake.stored(DEV), Some(state(2)));
    let right = deleting(Expectation::Revision(revision(&state(2))));
    store.delete("dev", &right).unwrap();
    assert_eq!(fake.stored(DEV), None);
}

#[test]
fn a_store_in_trouble_is_asked_again_as_often_as_configured() {
    let fake = Fake::default();
    let store = fake.open_with(",\"max_retries\":3", Fence::Required, None);
    for n in 1..=3 {
        fake.fault(n, Fault::Answer(503, SLOW_DOWN));
    }
    let error = store.read("default", None).unwrap_err();
    assert_eq!(error.code, ErrorCode::Throttled);
    assert!(error.retryable);
    assert_eq!(fake.sent().len(), 3);
    // Half of 2 s and half of 4 s.
    let slept = fake.world().slept;
    assert!(
        slept > Duration::from_millis(2999) && slept <= Duration::from_secs(3),
        "{slept:?}"
    );
}

#[test]
fn retry_after_is_honoured_within_reason() {
    let fake = Fake::default();
    let store = fake.open();
    let after = |seconds: &str| {
        Fault::AnswerWith(503, vec![("retry-after", seconds.to_owned())], SLOW_DOWN)
    };
    fake.fault(1, after("17"));
    store.read("default", None).unwrap();
    assert_eq!(fake.world().slept, Duration::from_secs(17));
    fake.fault(1, after("3600"));
    let error = store.read("default", None).unwrap_err();
    assert_eq!(error.code, ErrorCode::Throttled);
    assert_eq!(fact(&error, "retry-after"), Some("3600"));
    assert_eq!(fake.world().slept, Duration::from_secs(17));
}

#[test]
fn no_wait_goes_beyond_the_budget() {
    let fake = Fake::default();
    let store = fake.open_with("", Fence::Required, Some(2500));
    for n in 1..=5 {
        fake.fault(n, Fault::Answer(500, "oops"));
    }
    let error = store
        .write("default", &state(1), &expecting(Expectation::Absent))
        .unwrap_err();
    assert_eq!(error.outcome, Outcome::Unknown);
    assert!(error.retryable);
    let slept = fake.world().slept;
    assert!(
        slept > Duration::ZERO && slept <= Duration::from_millis(2500),
        "{slept:?}"
    );
}

#[test]
fn a_call_out_of_time_says_that_nothing_was_done() {
    let fake = Fake::default();
    let store = fake.open_with("", Fence::Required, Some(0));
    let error = store
        .write("default", &state(1), &expecting(Expectation::Absent))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::TimedOut);
    assert_eq!(error.outcome, Outcome::NotDone);
    assert_eq!(fake.sent(), [""; 0]);
}

#[test]
fn the_stores_clock_is_learnt_and_kept() {
    let fake = Fake::default();
    fake.world().skew = 3600;
    fake.put(STATE, &state(1));
    let store = fake.open();
    store.read("default", None).unwrap();
    assert_eq!(fake.sent().len(), 2);
    store.read("default", None).unwrap();
    assert_eq!(fake.sent().len(), 1);
    assert_eq!(fake.world().slept, Duration::ZERO);
}

#[test]
fn a_store_without_sense_of_time_is_believed_once() {
    let fake = Fake::default();
    let store = fake.open();
    const SKEWED: &str = "<Error><Code>RequestTimeTooSkewed</Code></Error>";
    let at = |date: &str| Fault::AnswerWith(403, vec![("date", date.to_owned())], SKEWED);
    fake.fault(1, at("Mon, 23 Nov 2026 05:25:24 GMT"));
    fake.fault(2, at("Mon, 23 Nov 2026 09:25:24 GMT"));
    let error = store.read("default", None).unwrap_err();
    // No key has to be renewed for that.
    assert_eq!(error.code, ErrorCode::Other);
    assert!(error.message.contains("clock"), "{}", error.message);
    assert_eq!(fake.sent().len(), 2);
}

#[test]
fn lent_credentials_come_first_and_are_renewed_once() {
    let fake = Fake::default();
    let lent = |id: &str| {
        Some(AccessKey {
            id: id.to_owned(),
            secret: Secret::new("CANARY-LENT".to_owned()),
            session_token: Some(Secret::new("CANARY-TOKEN".to_owned())),
        })
    };
    fake.world().lent = vec![lent("AKIDONE"), lent("AKIDTWO")];
    let store = fake.open();
    fake.fault(1, Fault::Answer(400, EXPIRED));
    fake.fault(2, Fault::Answer(400, EXPIRED));
    let error = store.read("default", None).unwrap_err();
    assert_eq!(error.code, ErrorCode::Credentials);
    assert!(!format!("{error:?}").contains("CANARY"));
    let world = fake.world();
    assert_eq!(world.requests.len(), 2);
    for (request, id) in world.requests.iter().zip(["AKIDONE", "AKIDTWO"]) {
        assert!(request.header("authorization").unwrap().contains(id));
        assert_eq!(request.header("x-amz-security-token"), Some("CANARY-TOKEN"));
    }
}

#[test]
fn expired_credentials_that_nobody_renews_are_not_sent_again() {
    let fake = Fake::default();
    fake.fault(1, Fault::Answer(400, EXPIRED));
    let error = fake.open().read("default", None).unwrap_err();
    assert_eq!(error.code, ErrorCode::Credentials);
    assert_eq!(fake.sent().len(), 1);
}

#[test]
fn a_refused_read_names_permission_and_resource() {
    let fake = Fake::default();
    let body = "<Error><Code>AccessDenied</Code><Message>Access\u{7} Denied</Message><RequestId>R</RequestId></Error>";
    fake.fault(1, Fault::Answer(403, body));
    let error = fake.open().read("dev", None).unwrap_err();
    assert_eq!(error.code, ErrorCode::AccessDenied);
    for (name, value) in [
        ("permission", "s3:GetObject"),
        (
            "resource",
            "arn:aws:s3:::tfstate/env:/dev/app/terraform.tfstate",
        ),
        ("bucket", "tfstate"),
        ("key", "env:/dev/app/terraform.tfstate"),
        ("workspace", "dev"),
        ("region", "eu-west-1"),
        ("operation", "GetObject"),
        ("status", "403"),
        ("store-code", "AccessDenied"),
        ("request-id", "R"),
    ] {
        assert_eq!(fact(&error, name), Some(value), "{name}");
    }
    assert!(error.message.contains("s3:ListBucket"), "{}", error.message);
    assert!(!error.message.contains('\u{7}'));
}

#[test]
fn a_wrong_region_names_the_right_one() {
    let fake = Fake::default();
    let store = fake.open();
    let redirect = vec![("x-amz-bucket-region", "us-west-1".to_owned())];
    fake.fault(
        1,
        Fault::AnswerWith(
            301,
            redirect,
            "<Error><Code>PermanentRedirect</Code></Error>",
        ),
    );
    let malformed =
        "<Error><Code>AuthorizationHeaderMalformed</Code><Region>us-west-1</Region></Error>";
    fake.fault(2, Fault::Answer(400, malformed));
    for _ in 0..2 {
        let error = store.read("default", None).unwrap_err();
        assert_eq!(fact(&error, "actual-region"), Some("us-west-1"));
        assert!(
            error.message.contains("set region = \"us-west-1\""),
            "{}",
            error.message
        );
    }
}

#[test]
fn a_missing_bucket_is_no_missing_state() {
    let fake = Fake::default();
    let store = fake.open();
    let body = "<Error><Code>NoSuchBucket</Code></Error>";
    fake.fault(1, Fault::Answer(404, body));
    fake.fault(2, Fault::Answer(404, body));
    let read = store.read("default", None).unwrap_err();
    let write = store
        .write("default", &state(1), &expecting(Expectation::Absent))
        .unwrap_err();
    for error in [read, write] {
        assert_eq!(error.code, ErrorCode::NoSuchBucket);
        assert!(error.message.contains("\"tfstate\""));
    }
}

#[test]
fn what_the_host_forbids_is_not_tried_again() {
    let fake = Fake::default();
    let denied = TransportError::Denied("its policy forbids this request".to_owned());
    fake.fault(1, Fault::Fails(denied));
    let error = fake.open().read("default", None).unwrap_err();
    assert_eq!(error.code, ErrorCode::Unreachable);
    assert!(!error.retryable);
    assert!(error.message.contains("s3.test:9000"));
    assert_eq!(fact(&error, "rule"), Some("GET http://s3.test:9000"));
    assert_eq!(fake.sent().len(), 1);
}

#[test]
fn without_credentials_nothing_is_sent() {
    let fake = Fake::default();
    // No instance either.
    let (name, value) = ("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned());
    fake.world().variables.insert(name, value);
    let config = "{\"bucket\":\"tfstate\",\"key\":\"k\",\"region\":\"eu-west-1\",\
                  \"skip_credentials_validation\":true}";
    let options = cofferdam_s3::contract::OpenOptions {
        fence: Fence::Required,
        call_budget: None,
        max_state: 1000,
    };
    let (store, _) = cofferdam_s3::Store::open(fake.clone(), config, options).unwrap();
    let error = store.read("default", None).unwrap_err();
    assert_eq!(error.code, ErrorCode::Credentials);
    assert!(
        error.message.contains("AWS_ACCESS_KEY_ID"),
        "{}",
        error.message
    );
    assert_eq!(fake.sent(), [""; 0]);
}

#[test]
fn garbage_in_any_error_ends_in_a_typed_error() {
    let fake = Fake::default();
    let store = fake.open_with(",\"max_retries\":1", Fence::Required, None);
    for status in [
        100, 199, 300, 304, 400, 401, 403, 405, 409, 412, 418, 500, 501, 503, 599,
    ] {
        for body in [
            "",
            "<",
            "<Error>",
            "<Error><Code>&x;</Code></Error>",
            "\u{0}{}",
            NOT_IMPLEMENTED,
        ] {
            for n in 1..=10 {
                fake.fault(n, Fault::Answer(status, body));
            }
            assert!(
                store
                    .write("dev", &state(1), &expecting(Expectation::Absent))
                    .is_err()
            );
            assert!(store.lock("dev", info("a")).is_err());
            assert!(store.workspaces().is_err() || status == 403);
            fake.sent();
        }
    }
}
