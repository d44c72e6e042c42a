//! Locks in a DynamoDB table: the same promises as for lock files, in the form that other tools read and write.

mod support;

use std::time::Duration;

use cofferdam_s3::contract::{ErrorCode, Expectation, Outcome, UnlockBy};
use cofferdam_s3::platform::TransportError;
use support::*;

const OTHER: &str = "{\"ID\":\"other\",\"Who\":\"other@there\"}";

fn broken() -> TransportError {
    TransportError::Broken("reset".to_owned())
}

fn held_by_other() -> Fake {
    let fake = Fake::default();
    fake.put_item(ITEM, "Info", OTHER);
    fake
}

fn replaced_by(record: &'static str) -> Fault {
    Fault::BeforeAll(Box::new(move |world| {
        put_item(&mut world.items, ITEM, "Info", record);
    }))
}

fn gone() -> Fault {
    Fault::BeforeAll(Box::new(|world| {
        world.items.remove(ITEM);
    }))
}

#[test]
fn requests_are_those_of_other_tools_byte_for_byte() {
    let fake = Fake::default();
    let store = fake.open_with_table(false);
    let held = store.lock("default", info("a<b")).unwrap();
    store.holders("default").unwrap();
    store.unlock("default", &by(&held)).unwrap();
    let record = "{\\\"ID\\\":\\\"a\\\\u003cb\\\",\\\"Operation\\\":\\\"OperationTypeApply\\\",\
                  \\\"Info\\\":\\\"\\\",\\\"Who\\\":\\\"me@here\\\",\\\"Version\\\":\\\"1.11.4\\\",\
                  \\\"Created\\\":\\\"2026-11-23T01:25:24.5Z\\\",\
                  \\\"Path\\\":\\\"tfstate/app/terraform.tfstate\\\"}";
    assert_eq!(
        fake.body(0),
        format!(
            "{{\"ConditionExpression\":\"attribute_not_exists(LockID)\",\"Item\":{{\"Info\":\
             {{\"S\":\"{record}\"}},\"LockID\":{{\"S\":\"{ITEM}\"}}}},\"TableName\":\"locks\"}}"
        )
    );
    assert_eq!(
        fake.body(1),
        format!(
            "{{\"ConsistentRead\":true,\"Key\":{{\"LockID\":{{\"S\":\"{ITEM}\"}}}},\
             \"ProjectionExpression\":\"LockID, Info\",\"TableName\":\"locks\"}}"
        )
    );
    assert_eq!(
        fake.body(2),
        format!(
            "{{\"ConditionExpression\":\"Info = :info\",\"ExpressionAttributeValues\":\
             {{\":info\":{{\"S\":\"{record}\"}}}},\"Key\":{{\"LockID\":{{\"S\":\"{ITEM}\"}}}},\
             \"ReturnValues\":\"ALL_OLD\",\"TableName\":\"locks\"}}"
        )
    );
    for (request, operation) in
        fake.world()
            .requests
            .iter()
            .zip(["PutItem", "GetItem", "DeleteItem"])
    {
        assert_eq!(request.origin, "https://dynamodb.eu-west-1.amazonaws.com");
        let target = format!("DynamoDB_20120810.{operation}");
        assert_eq!(request.header("x-amz-target"), Some(target.as_str()));
        let kind = request.header("content-type");
        assert_eq!(kind, Some("application/x-amz-json-1.0"));
        assert_eq!(request.header("x-amz-content-sha256"), None);
        let signature = request.header("authorization").unwrap();
        assert!(
            signature.contains("/eu-west-1/dynamodb/aws4_request"),
            "{signature}"
        );
        assert!(signature.contains(";x-amz-target,"), "{signature}");
    }
}

#[test]
fn a_lock_is_one_put_and_its_release_one_delete_of_what_was_put() {
    let fake = Fake::default();
    let held = fake.open_with_table(false).lock("dev", info("a")).unwrap();
    // Another instance goes on with the token.
    fake.open_with_table(false)
        .unlock("dev", &by(&held))
        .unwrap();
    let key = "tfstate/env:/dev/app/terraform.tfstate";
    assert_eq!(
        fake.sent(),
        [
            format!("PutItem {key} if absent"),
            format!("DeleteItem {key} if equal")
        ]
    );
    assert!(fake.world().items.is_empty());
}

#[test]
fn a_lock_that_is_held_names_its_holder() {
    let fake = held_by_other();
    let store = fake.open_with_table(false);
    let error = store.lock("default", info("a")).unwrap_err();
    assert_eq!(error.code, ErrorCode::Locked);
    assert_eq!(error.outcome, Outcome::NotDone);
    assert!(error.retryable);
    assert_eq!(holder_id(&error), Some("other"));
    assert_eq!(error.holders[0].place, "dynamodb");
    assert_eq!(fact(&error, "table"), Some("locks"));
    assert_eq!(fact(&error, "item"), Some(ITEM));
    assert_eq!(fake.item(ITEM, "Info").as_deref(), Some(OTHER));
}

#[test]
fn a_lock_whose_answer_got_lost_or_garbled_is_ours() {
    for fault in [
        Fault::LostAnswer,
        Fault::DoneBut(500, "oops"),
        Fault::DoneBut(200, "<html>Sign in</html>"),
        Fault::Truncated,
    ] {
        let fake = Fake::default();
        let store = fake.open_with_table(false);
        fake.fault(1, fault);
        let held = store.lock("default", info("a")).unwrap();
        store.unlock("default", &by(&held)).unwrap();
        assert!(fake.world().items.is_empty());
    }
}

#[test]
fn a_page_of_something_on_the_way_is_no_lock() {
    let fake = Fake::default();
    let store = fake.open_with_table(false);
    fake.fault(1, Fault::Answer(200, "<html>Sign in</html>"));
    let error = store.lock("default", info("a")).unwrap_err();
    assert_eq!(error.outcome, Outcome::Unknown);
    assert!(fake.world().items.is_empty());
}

#[test]
fn an_answer_with_another_checksum_is_asked_for_again() {
    let fake = held_by_other();
    let store = fake.open_with_table(false);
    let wrong = || vec![("x-amz-crc32", "1".to_owned())];
    fake.fault(1, Fault::AnswerWith(200, wrong(), "{}"));
    assert_eq!(store.holders("default").unwrap().len(), 1);
    assert_eq!(fake.sent().len(), 2);
    fake.fault(1, Fault::AnswerWith(400, wrong(), "{}"));
    assert_eq!(store.holders("default").unwrap().len(), 1);
    fake.world().quirks.bad_crc = true;
    let error = store.holders("default").unwrap_err();
    assert_eq!(error.code, ErrorCode::Unreachable);
    assert!(error.message.contains("checksum"), "{}", error.message);
}

#[test]
fn a_read_without_an_answer_leaves_no_doubt() {
    let fake = Fake::default();
    let store = fake.open_with_table(false);
    for n in 1..=5 {
        fake.fault(n, Fault::Fails(broken()));
    }
    let error = store.holders("default").unwrap_err();
    assert_eq!(error.outcome, Outcome::NotDone);
    assert_eq!(fact(&error, "attempts"), Some("5"));
}

#[test]
fn a_lock_of_which_every_answer_got_lost_is_of_unknown_outcome() {
    let fake = Fake::default();
    let store = fake.open_with_table(false);
    fake.fault(1, Fault::LostAnswer);
    for n in 2..=10 {
        fake.fault(n, Fault::Fails(broken()));
    }
    let error = store.lock("default", info("a")).unwrap_err();
    assert_eq!(error.code, ErrorCode::Unreachable);
    assert_eq!(error.outcome, Outcome::Unknown);
    // The caller asks again under the same id.
    let held = store.lock("default", info("a")).unwrap();
    store.unlock("default", &by(&held)).unwrap();
    assert!(fake.world().items.is_empty());
}

#[test]
fn a_vanished_holder_is_followed_at_once_but_not_for_ever() {
    let fake = held_by_other();
    let store = fake.open_with_table(false);
    fake.fault(2, gone());
    store.lock("default", info("a")).unwrap();
    assert_eq!(fake.world().slept, Duration::ZERO);
    assert_eq!(fake.sent().len(), 3);

    for n in 1..=10 {
        let fault = if n % 2 == 1 {
            replaced_by(OTHER)
        } else {
            gone()
        };
        fake.fault(n, fault);
    }
    let error = store.lock("default", info("a")).unwrap_err();
    assert_eq!(error.code, ErrorCode::Locked);
    assert!(error.retryable && error.holders.is_empty());
}

#[test]
fn a_collision_of_two_writers_is_no_verdict() {
    let fake = Fake::default();
    let store = fake.open_with_table(false);
    let conflict = "{\"__type\":\"com.amazonaws.dynamodb.v20120810#TransactionConflictException\"}";
    fake.fault(1, Fault::Answer(400, conflict));
    store.lock("default", info("a")).unwrap();
    assert_eq!(fake.sent().len(), 3);
    assert!(fake.world().slept > Duration::ZERO);
}

#[test]
fn an_unreadable_holder_is_reported_and_broken_by_its_token() {
    for (attribute, value) in [("Info", "garbage\n"), ("Info", ""), ("Other", "x")] {
        let fake = Fake::default();
        fake.put_item(ITEM, attribute, value);
        let store = fake.open_with_table(false);
        let error = store.lock("default", info("a")).unwrap_err();
        assert_eq!(error.code, ErrorCode::Locked);
        assert!(error.retryable && error.holders[0].info.is_none());
        let by_id = store
            .unlock("default", &UnlockBy::Id("a".to_owned()))
            .unwrap_err();
        assert_eq!(by_id.code, ErrorCode::LockMismatch);
        fake.sent();
        let token = UnlockBy::Token(error.holders[0].token.clone());
        fake.open_with_table(false)
            .unlock("default", &token)
            .unwrap();
        assert_eq!(fake.sent().len(), 1);
        assert!(fake.world().items.is_empty());
    }
}

#[test]
fn a_token_breaks_exactly_the_record_that_was_found() {
    let fake = held_by_other();
    let store = fake.open_with_table(false);
    let holders = store.holders("default").unwrap();
    fake.put_item(ITEM, "Info", "{\"ID\":\"next\"}");
    let token = UnlockBy::Token(holders[0].token.clone());
    let error = store.unlock("default", &token).unwrap_err();
    assert_eq!(error.code, ErrorCode::LockMismatch);
    assert_eq!(holder_id(&error), Some("next"));
    assert!(fake.item(ITEM, "Info").is_some());
}

#[test]
fn releasing_by_id_deletes_the_record_as_it_was_read() {
    // Not as Go writes it, so it must not be made anew.
    let record = "{ \"ID\": \"other\", \"Extra\": 1 }";
    let fake = Fake::default();
    fake.put_item(ITEM, "Info", record);
    let store = fake.open_with_table(false);
    fake.fault(2, replaced_by("{\"ID\":\"new\"}"));
    let by_id = UnlockBy::Id("other".to_owned());
    let error = store.unlock("default", &by_id).unwrap_err();
    assert_eq!(error.code, ErrorCode::LockMismatch);
    assert_eq!(holder_id(&error), Some("new"));
    fake.put_item(ITEM, "Info", record);
    fake.sent();
    store.unlock("default", &by_id).unwrap();
    assert_eq!(
        fake.sent(),
        [
            format!("GetItem {ITEM}"),
            format!("DeleteItem {ITEM} if equal")
        ]
    );
    let error = store.unlock("default", &by_id).unwrap_err();
    assert_eq!(error.code, ErrorCode::LockMismatch);
    assert!(error.holders.is_empty());
}

#[test]
fn a_release_whose_answer_got_lost_is_done() {
    let fake = Fake::default();
    let store = fake.open_with_table(false);
    for others in [false, true] {
        let held = store.lock("default", info("a")).unwrap();
        fake.fault(1, Fault::LostAnswer);
        if others {
            fake.fault(2, replaced_by(OTHER));
        }
        store.unlock("default", &by(&held)).unwrap();
    }
    assert_eq!(fake.item(ITEM, "Info").as_deref(), Some(OTHER));
}

#[test]
fn each_misfortune_has_an_error_of_its_own() {
    let answer = |code: &str, message: &str| -> &'static str {
        let text = format!(
            "{{\"__type\":\"com.amazonaws.dynamodb.v20120810#{code}\",\"message\":\"{message}\"}}"
        );
        Box::leak(text.into_boxed_str())
    };
    let cases = [
        (
            answer("ResourceNotFoundException", "Requested resource not found"),
            ErrorCode::Other,
            "create \"locks\", with a partition key named LockID, of type String",
        ),
        (
            answer(
                "ValidationException",
                "One or more parameter values were invalid: Missing the key id in the item",
            ),
            ErrorCode::Unsupported,
            "a partition key named LockID, of type String",
        ),
        (
            answer("AccessDeniedException", "User x is not authorized"),
            ErrorCode::AccessDenied,
            "Allow dynamodb:PutItem on arn:aws:dynamodb:eu-west-1:*:table/locks.",
        ),
        (
            answer("UnrecognizedClientException", "invalid token"),
            ErrorCode::Credentials,
            "does not accept the credentials",
        ),
        (
            answer("SomethingElse", "no"),
            ErrorCode::Other,
            "SomethingElse",
        ),
        (
            "<Error><Code>MethodNotAllowed</Code></Error>",
            ErrorCode::Other,
            "MethodNotAllowed",
        ),
        (
            "<html>",
            ErrorCode::Other,
            "check the argument endpoints.dynamodb",
        ),
    ];
    for (answer, code, words) in cases {
        let fake = Fake::default();
        let store = fake.open_with_table(false);
        fake.fault(1, Fault::Answer(400, answer));
        let error = store.lock("default", info("a")).unwrap_err();
        assert_eq!(error.code, code, "{}", error.message);
        assert!(error.message.contains(words), "{}", error.message);
        assert!(error.message.contains("\"locks\""), "{}", error.message);
        assert!(error.message.contains("eu-west-1"), "{}", error.message);
        assert_eq!(error.outcome, Outcome::NotDone);
        assert!(!error.retryable);
        assert_eq!(fact(&error, "table"), Some("locks"));
        assert_eq!(fact(&error, "operation"), Some("PutItem"));
        assert_eq!(fake.sent().len(), 1);
    }
}

#[test]
fn throttling_is_waited_out_and_then_told() {
    let throttled = "{\"__type\":\"com.amazonaws.dynamodb.v20120810#\
                     ProvisionedThroughputExceededException\",\"message\":\"slow\"}";
    let fake = Fake::default();
    let store = fake.open_with_table(false);
    fake.fault(1, Fault::Answer(400, throttled));
    store.lock("default", info("a")).unwrap();
    for n in 2..=6 {
        fake.fault(n, Fault::Answer(400, throttled));
    }
    let error = store.lock("dev", info("a")).map(drop);
    assert!(error.is_ok());
    fake.sent();
    for n in 1..=5 {
        fake.fault(n, Fault::Answer(400, throttled));
    }
    let error = store.lock("qa", info("a")).unwrap_err();
    assert_eq!(error.code, ErrorCode::Throttled);
    assert_eq!(error.outcome, Outcome::NotDone);
    assert!(error.retryable);
}

#[test]
fn a_refusal_names_dynamodbs_own_request_id() {
    let fake = Fake::default();
    let store = fake.open_with_table(false);
    let id = vec![("x-amzn-requestid", "REQ9".to_owned())];
    let denied = "{\"__type\":\"x#AccessDeniedException\",\"Message\":\"no\"}";
    fake.fault(1, Fault::AnswerWith(400, id, denied));
    let error = store.holders("default").unwrap_err();
    assert_eq!(fact(&error, "request-id"), Some("REQ9"));
    assert_eq!(fact(&error, "store-code"), Some("AccessDeniedException"));
    assert_eq!(fact(&error, "permission"), Some("dynamodb:GetItem"));
    assert!(error.message.contains("\"no\""), "{}", error.message);
}

#[test]
fn a_signature_that_is_wrong_by_its_time_is_a_wrong_clock_and_no_wrong_key() {
    const REFUSED: &str = "{\"__type\":\"x#InvalidSignatureException\",\"message\":\"no\"}";
    let at = |date: &str| Fault::AnswerWith(400, vec![("date", date.to_owned())], REFUSED);
    let fake = Fake::default();
    let store = fake.open_with_table(false);
    fake.fault(1, at("Mon, 23 Nov 2026 05:25:24 GMT"));
    fake.fault(2, at("Mon, 23 Nov 2026 09:25:24 GMT"));
    let error = store.holders("default").unwrap_err();
    assert_eq!(error.code, ErrorCode::Other);
    assert!(error.message.contains("The clock of"), "{}", error.message);
    assert!(!error.message.contains("credentials"), "{}", error.message);

    // At the right time it is the key.
    let fake = Fake::default();
    let store = fake.open_with_table(false);
    fake.fault(1, at("Mon, 23 Nov 2026 01:25:24 GMT"));
    let error = store.holders("default").unwrap_err();
    assert_eq!(error.code, ErrorCode::Credentials);
    assert!(!error.message.contains("clock"), "{}", error.message);
}

#[test]
fn a_holder_that_may_not_be_read_still_keeps_others_out() {
    let fake = held_by_other();
    let store = fake.open_with_table(false);
    let denied = "{\"__type\":\"x#AccessDeniedException\",\"message\":\"no\"}";
    fake.fault(2, Fault::Answer(400, denied));
    let error = store.lock("default", info("a")).unwrap_err();
    assert_eq!(error.code, ErrorCode::Locked);
    assert!(
        error.message.contains("dynamodb:GetItem"),
        "{}",
        error.message
    );
    // Its token names no lock, so it breaks none.
    let token = UnlockBy::Token(error.holders[0].token.clone());
    let mismatch = store.unlock("default", &token).unwrap_err();
    assert_eq!(mismatch.code, ErrorCode::LockMismatch);
    assert_eq!(holder_id(&mismatch), Some("other"));
}

#[test]
fn a_write_under_a_lock_that_is_gone_or_anothers_fails_and_changes_nothing() {
    let fake = Fake::default();
    let store = fake.open_with_table(false);
    let lock = store.lock("default", info("a")).unwrap();
    fake.put_item(DIGEST, "Digest", &md5(b"x"));
    fake.pass(Duration::from_secs(11));
    for record in [Some(OTHER), None] {
        fake.world().items.remove(ITEM);
        if let Some(record) = record {
            fake.put_item(ITEM, "Info", record);
        }
        let error = store
            .write("default", &state(1), &under(&lock, Expectation::Absent))
            .unwrap_err();
        assert_eq!(error.code, ErrorCode::LockMismatch);
        assert_eq!(holder_id(&error), record.map(|_| "other"));
        assert_eq!(fake.stored(STATE), None);
        assert!(fake.item(DIGEST, "Digest").is_some());
    }
}

#[test]
fn contenders_with_lost_answers_never_hold_the_lock_together() {
    let fault = |kind: usize| match kind {
        0 => None,
        1 => Some(Fault::LostAnswer),
        2 => Some(Fault::Fails(broken())),
        3 => Some(Fault::Answer(
            400,
            "{\"__type\":\"x#TransactionConflictException\"}",
        )),
        4 => Some(Fault::DoneBut(500, "oops")),
        5 => Some(Fault::DoneBut(200, "oops")),
        _ => Some(Fault::Answer(503, "")),
    };
    for combination in 0..7_usize.pow(3) {
        let fake = Fake::default();
        let mut winners = 0;
        for id in ["a", "b", "c"] {
            for n in 0..3 {
                if let Some(fault) = fault(combination / 7_usize.pow(n) % 7) {
                    fake.fault(n as usize + 1, fault);
                }
            }
            match fake.open_with_table(false).lock("default", info(id)) {
                Ok(held) => {
                    winners += 1;
                    let stored = fake.item(ITEM, "Info").unwrap();
                    assert!(stored.contains(&format!("\"ID\":\"{}\"", held.id)));
                }
                Err(error) => assert!(error.retryable, "{}", error.message),
            }
            fake.sent();
        }
        assert!(winners <= 1, "combination {combination}: {winners} winners");
    }
}
