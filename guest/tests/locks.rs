//! Locks: one holder, known to everybody, whatever gets lost on the way.

mod support;

use std::time::Duration;

use cofferdam_s3::contract::{ErrorCode, Expectation, Fence, Outcome, UnlockBy};
use cofferdam_s3::platform::TransportError;
use support::*;

const CONFLICT: &str = "<Error><Code>ConditionalRequestConflict</Code></Error>";
const DENIED: &str = "<Error><Code>AccessDenied</Code></Error>";
const NOT_IMPLEMENTED: &str = "<Error><Code>NotImplemented</Code></Error>";

fn broken() -> TransportError {
    TransportError::Broken("reset".to_owned())
}

fn replaced_by(id: &'static str) -> Fault {
    Fault::Before(Box::new(move |objects| {
        objects.insert(LOCK.to_owned(), record(id));
    }))
}

fn gone() -> Fault {
    Fault::Before(Box::new(|objects| {
        objects.remove(LOCK);
    }))
}

#[test]
fn a_lock_is_one_put_and_its_release_one_delete() {
    let fake = Fake::default();
    let store = fake.open();
    let held = store.lock("default", info("a")).unwrap();
    let stored = String::from_utf8(fake.stored(LOCK).unwrap()).unwrap();
    assert_eq!(
        stored,
        "{\"ID\":\"a\",\"Operation\":\"OperationTypeApply\",\"Info\":\"\",\"Who\":\"me@here\",\
         \"Version\":\"1.11.4\",\"Created\":\"2026-11-23T01:25:24.5Z\",\
         \"Path\":\"tfstate/app/terraform.tfstate\"}"
    );
    store.unlock("default", &by(&held)).unwrap();
    assert_eq!(fake.stored(LOCK), None);
    assert_eq!(
        fake.sent(),
        [
            format!("PUT {LOCK} If-None-Match:*"),
            format!("DELETE {LOCK} If-Match")
        ]
    );
}

#[test]
fn an_apply_with_a_change_is_four_requests_and_five_when_it_took_long() {
    for (time, count) in [(10, 4), (11, 5)] {
        let fake = Fake::default();
        fake.put(STATE, &state(1));
        let store = fake.open();
        let lock = store.lock("default", info("a")).unwrap();
        let read = whole(store.read("default", None).unwrap());
        fake.pass(Duration::from_secs(time));
        store
            .write(
                "default",
                &state(2),
                &under(&lock, Expectation::Revision(read.revision)),
            )
            .unwrap();
        // Another instance goes on with the token.
        fake.open().unlock("default", &by(&lock)).unwrap();
        assert_eq!(fake.sent().len(), count);
    }
}

#[test]
fn a_lock_that_is_held_names_its_holder() {
    let fake = Fake::default();
    fake.put(LOCK, &record("other"));
    let error = fake.open().lock("default", info("a")).unwrap_err();
    assert_eq!(error.code, ErrorCode::Locked);
    assert_eq!(error.outcome, Outcome::NotDone);
    assert!(error.retryable);
    assert_eq!(holder_id(&error), Some("other"));
    assert_eq!(fact(&error, "lock-id"), Some("other"));
    assert!(
        error.message.contains("Lock Info:\n  ID:        other"),
        "{}",
        error.message
    );
    assert_eq!(
        fake.sent(),
        [format!("PUT {LOCK} If-None-Match:*"), format!("GET {LOCK}")]
    );
    assert_eq!(fake.stored(LOCK), Some(record("other")));
}

#[test]
fn a_lock_whose_answer_got_lost_is_ours() {
    for fault in [
        Fault::LostAnswer,
        Fault::DoneBut(500, "oops"),
        Fault::DoneBut(409, CONFLICT),
    ] {
        let fake = Fake::default();
        let store = fake.open();
        fake.fault(1, fault);
        let held = store.lock("default", info("a")).unwrap();
        store.unlock("default", &by(&held)).unwrap();
        assert_eq!(fake.stored(LOCK), None);
    }
}

#[test]
fn a_lock_of_which_every_answer_got_lost_is_ours() {
    let fake = Fake::default();
    let store = fake.open();
    fake.fault(1, Fault::LostAnswer);
    for n in 2..=5 {
        fake.fault(n, Fault::Fails(broken()));
    }
    store.lock("default", info("a")).unwrap();
    assert_eq!(fake.sent().len(), 6);
}

#[test]
fn a_lock_is_not_taken_for_ours_because_an_answer_got_lost() {
    let fake = Fake::default();
    let store = fake.open();
    fake.fault(1, Fault::Fails(broken()));
    fake.fault(2, replaced_by("other"));
    let error = store.lock("default", info("a")).unwrap_err();
    assert_eq!(error.code, ErrorCode::Locked);
    assert_eq!(holder_id(&error), Some("other"));
}

#[test]
fn a_lock_that_is_held_under_the_same_id_is_taken_again() {
    let fake = Fake::default();
    let store = fake.open();
    store.lock("default", info("a")).unwrap();
    let again = store.lock("default", info("a")).unwrap();
    store.unlock("default", &by(&again)).unwrap();
    assert_eq!(fake.stored(LOCK), None);
}

#[test]
fn a_collision_is_tried_again() {
    let fake = Fake::default();
    let store = fake.open();
    fake.fault(1, Fault::Answer(409, CONFLICT));
    store.lock("default", info("a")).unwrap();
    assert_eq!(fake.sent().len(), 3);
    assert!(fake.world().slept > Duration::ZERO);
}

#[test]
fn a_vanished_holder_is_followed_at_once_but_not_for_ever() {
    let fake = Fake::default();
    fake.put(LOCK, &record("other"));
    let store = fake.open();
    fake.fault(2, gone());
    store.lock("default", info("a")).unwrap();
    assert_eq!(fake.world().slept, Duration::ZERO);
    assert_eq!(fake.sent().len(), 3);

    fake.put(LOCK, &record("other"));
    for n in 1..=10 {
        let fault = if n % 2 == 1 { replaced_by("x") } else { gone() };
        fake.fault(n, fault);
    }
    let error = store.lock("default", info("a")).unwrap_err();
    assert_eq!(error.code, ErrorCode::Locked);
    assert!(error.retryable && error.holders.is_empty());
    assert_eq!(fake.sent().len(), 10);
}

#[test]
fn an_unreadable_holder_is_reported_and_broken_by_its_token() {
    let huge = vec![b' '; (1 << 20) + 1];
    for garbage in [b"garbage".to_vec(), huge] {
        let fake = Fake::default();
        fake.put(LOCK, &garbage);
        let store = fake.open();
        let error = store.lock("default", info("a")).unwrap_err();
        assert_eq!(error.code, ErrorCode::Locked);
        assert!(error.holders[0].info.is_none());
        let by_id = store
            .unlock("default", &UnlockBy::Id("a".to_owned()))
            .unwrap_err();
        assert_eq!(by_id.code, ErrorCode::LockMismatch);
        fake.sent();
        let token = UnlockBy::Token(error.holders[0].token.clone());
        store.unlock("default", &token).unwrap();
        assert_eq!(fake.sent(), [format!("DELETE {LOCK} If-Match")]);
        assert_eq!(fake.stored(LOCK), None);
    }
}

#[test]
fn a_holder_that_may_not_be_read_still_keeps_others_out() {
    let fake = Fake::default();
    fake.put(LOCK, &record("other"));
    let store = fake.open();
    fake.fault(2, Fault::Answer(403, DENIED));
    let error = store.lock("default", info("a")).unwrap_err();
    assert_eq!(error.code, ErrorCode::Locked);
    assert!(error.retryable);
    assert!(error.message.contains("s3:GetObject"), "{}", error.message);
    // Its token names no lock, so it breaks none.
    let token = UnlockBy::Token(error.holders[0].token.clone());
    let mismatch = store.unlock("default", &token).unwrap_err();
    assert_eq!(mismatch.code, ErrorCode::LockMismatch);
    assert_eq!(holder_id(&mismatch), Some("other"));
    assert_eq!(fake.stored(LOCK), Some(record("other")));
}

#[test]
fn a_token_breaks_exactly_the_lock_that_was_found() {
    let fake = Fake::default();
    fake.put(LOCK, &record("other"));
    let store = fake.open();
    let holders = store.holders("default").unwrap();
    assert_eq!(holders[0].place, "s3");
    fake.put(LOCK, &record("next"));
    let token = UnlockBy::Token(holders[0].token.clone());
    let error = store.unlock("default", &token).unwrap_err();
    assert_eq!(error.code, ErrorCode::LockMismatch);
    assert_eq!(holder_id(&error), Some("next"));
    assert_eq!(fake.stored(LOCK), Some(record("next")));
}

#[test]
fn releasing_a_lock_that_is_gone_or_anothers_fails_and_says_whose() {
    let fake = Fake::default();
    let store = fake.open();
    let held = store.lock("default", info("a")).unwrap();
    fake.put(LOCK, &record("other"));
    let error = store.unlock("default", &by(&held)).unwrap_err();
    assert_eq!(error.code, ErrorCode::LockMismatch);
    assert_eq!(holder_id(&error), Some("other"));
    assert_eq!(fake.stored(LOCK), Some(record("other")));
    fake.world().objects.clear();
    let error = store.unlock("default", &by(&held)).unwrap_err();
    assert_eq!(error.code, ErrorCode::LockMismatch);
    assert!(error.holders.is_empty());
}

#[test]
fn a_release_whose_answer_got_lost_is_done() {
    let fake = Fake::default();
    let store = fake.open();
    for others in [false, true] {
        let held = store.lock("default", info("a")).unwrap();
        fake.fault(1, Fault::LostAnswer);
        if others {
            fake.fault(2, replaced_by("other"));
        }
        store.unlock("default", &by(&held)).unwrap();
    }
    assert_eq!(fake.stored(LOCK), Some(record("other")));
}

#[test]
fn a_release_that_never_got_through_is_of_unknown_outcome() {
    let fake = Fake::default();
    let store = fake.open();
    let held = store.lock("default", info("a")).unwrap();
    for n in 1..=5 {
        fake.fault(n, Fault::Fails(broken()));
    }
    let error = store.unlock("default", &by(&held)).unwrap_err();
    assert_eq!(error.code, ErrorCode::Unreachable);
    assert_eq!(error.outcome, Outcome::Unknown);
}

#[test]
fn a_release_that_collides_is_tried_again() {
    let fake = Fake::default();
    let store = fake.open();
    let held = store.lock("default", info("a")).unwrap();
    fake.fault(1, Fault::Answer(409, CONFLICT));
    store.unlock("default", &by(&held)).unwrap();
    assert_eq!(fake.stored(LOCK), None);
}

#[test]
fn our_lock_in_another_generation_is_still_ours_to_release() {
    let fake = Fake::default();
    let store = fake.open();
    let held = store.lock("default", info("a")).unwrap();
    fake.put(LOCK, &record("a"));
    store.unlock("default", &by(&held)).unwrap();
    assert_eq!(fake.stored(LOCK), None);
}

#[test]
fn releasing_by_id_reads_compares_and_deletes_what_was_read() {
    let fake = Fake::default();
    fake.put(LOCK, &record("other"));
    let store = fake.open();
    let by_id = |id: &str| UnlockBy::Id(id.to_owned());
    let error = store.unlock("default", &by_id("wrong")).unwrap_err();
    assert_eq!(error.code, ErrorCode::LockMismatch);
    assert_eq!(holder_id(&error), Some("other"));
    fake.sent();
    store.unlock("default", &by_id("other")).unwrap();
    assert_eq!(
        fake.sent(),
        [format!("GET {LOCK}"), format!("DELETE {LOCK} If-Match")]
    );
    let error = store.unlock("default", &by_id("other")).unwrap_err();
    assert_eq!(error.code, ErrorCode::LockMismatch);
    assert!(error.holders.is_empty());
    let error = store.unlock("default", &by_id("")).unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidArgument);
}

#[test]
fn a_lock_taken_between_compare_and_delete_is_not_removed() {
    let fake = Fake::default();
    fake.put(LOCK, &record("old"));
    let store = fake.open();
    fake.fault(2, replaced_by("new"));
    let error = store
        .unlock("default", &UnlockBy::Id("old".to_owned()))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::LockMismatch);
    assert_eq!(holder_id(&error), Some("new"));
    assert_eq!(fake.stored(LOCK), Some(record("new")));
}

#[test]
fn without_conditional_deletes_a_lock_is_compared_and_deleted() {
    let fake = Fake::default();
    fake.world().quirks.no_conditional_delete = true;
    let store = fake.open();
    let held = store.lock("default", info("a")).unwrap();
    fake.sent();
    store.unlock("default", &by(&held)).unwrap();
    assert_eq!(
        fake.sent(),
        [
            format!("DELETE {LOCK} If-Match"),
            format!("GET {LOCK}"),
            format!("DELETE {LOCK}")
        ]
    );
    fake.put(LOCK, &record("other"));
    let token = UnlockBy::Token(store.holders("default").unwrap()[0].token.clone());
    let error = store.unlock("default", &by(&held)).unwrap_err();
    assert_eq!(error.code, ErrorCode::LockMismatch);
    store.unlock("default", &token).unwrap();
    assert_eq!(fake.stored(LOCK), None);
}

#[test]
fn a_store_without_conditions_gives_no_lock() {
    let fake = Fake::default();
    fake.world().quirks.no_conditions = true;
    for fence in [Fence::Required, Fence::WhenSupported] {
        let error = fake
            .open_with("", fence, None)
            .lock("default", info("a"))
            .unwrap_err();
        assert_eq!(error.code, ErrorCode::Unsupported);
        assert_eq!(fake.stored(LOCK), None);
    }
    fake.fault(1, Fault::Answer(501, NOT_IMPLEMENTED));
    assert_eq!(
        fake.open().lock("default", info("a")).unwrap_err().code,
        ErrorCode::Unsupported
    );
}

#[test]
fn a_write_under_a_lock_that_is_gone_or_anothers_fails() {
    let fake = Fake::default();
    let store = fake.open();
    let lock = store.lock("dev", info("a")).unwrap();
    let path = format!("{DEV}.tflock");
    fake.pass(Duration::from_secs(11));
    fake.put(&path, &record("other"));
    let error = store
        .write("dev", &state(1), &under(&lock, Expectation::Absent))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::LockMismatch);
    assert_eq!(holder_id(&error), Some("other"));
    fake.world().objects.clear();
    let delete = cofferdam_s3::contract::DeleteOptions {
        expect: Expectation::Anything,
        lock: Some(lock.clone()),
    };
    for error in [
        store
            .write("dev", &state(1), &under(&lock, Expectation::Absent))
            .unwrap_err(),
        store.delete("dev", &delete).unwrap_err(),
    ] {
        assert_eq!(error.code, ErrorCode::LockMismatch);
        assert_eq!(error.outcome, Outcome::NotDone);
        assert!(error.holders.is_empty());
    }
    assert_eq!(fake.stored(DEV), None);
}

#[test]
fn a_token_of_another_workspace_or_from_the_future_is_not_believed_in() {
    let fake = Fake::default();
    let store = fake.open();
    let lock = store.lock("dev", info("a")).unwrap();
    let error = store
        .write("default", &state(1), &under(&lock, Expectation::Absent))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidArgument);

    let later = Fake::default();
    later.pass(Duration::from_secs(3600));
    let lock = later.open().lock("dev", info("b")).unwrap();
    let error = store
        .write("dev", &state(1), &under(&lock, Expectation::Absent))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::LockMismatch);
    for garbage in ["", "e30", "!", "eyJrZXkiOiIifQ"] {
        let token = UnlockBy::Token(garbage.to_owned());
        assert_eq!(
            store.unlock("dev", &token).unwrap_err().code,
            ErrorCode::InvalidArgument
        );
    }
}

#[test]
fn bad_lock_records_are_not_stored() {
    let fake = Fake::default();
    let store = fake.open();
    let mut undated = info("a");
    undated.created = "yesterday".to_owned();
    for bad in [info(""), undated] {
        assert_eq!(
            store.lock("default", bad).unwrap_err().code,
            ErrorCode::InvalidArgument
        );
    }
    assert_eq!(fake.sent(), [""; 0]);
}

#[test]
fn without_a_lock_in_the_configuration_locking_is_unsupported() {
    let fake = Fake::default();
    let store = fake.open_with(",\"use_lockfile\":false", Fence::Required, None);
    for code in [
        store.lock("default", info("a")).unwrap_err().code,
        store
            .unlock("default", &UnlockBy::Id("a".to_owned()))
            .unwrap_err()
            .code,
        store.holders("default").unwrap_err().code,
    ] {
        assert_eq!(code, ErrorCode::Unsupported);
    }
    assert_eq!(fake.sent(), [""; 0]);
}

#[test]
fn contenders_with_lost_answers_never_hold_the_lock_together() {
    // Each contender's first three requests meet a fault, in every combination.
    let fault = |kind: usize| match kind {
        0 => None,
        1 => Some(Fault::LostAnswer),
        2 => Some(Fault::Fails(broken())),
        3 => Some(Fault::Answer(409, CONFLICT)),
        4 => Some(Fault::DoneBut(500, "oops")),
        _ => Some(Fault::Answer(503, "")),
    };
    for combination in 0..6_usize.pow(3) {
        let fake = Fake::default();
        let mut winners = 0;
        for id in ["a", "b", "c"] {
            for n in 0..3 {
                if let Some(fault) = fault(combination / 6_usize.pow(n) % 6) {
                    fake.fault(n as usize + 1, fault);
                }
            }
            match fake.open().lock("default", info(id)) {
                Ok(held) => {
                    winners += 1;
                    let stored = String::from_utf8(fake.stored(LOCK).unwrap()).unwrap();
                    assert!(stored.contains(&format!("\"ID\":\"{}\"", held.id)));
                }
                Err(error) => assert!(error.retryable, "{}", error.message),
            }
            fake.sent();
        }
        assert!(winners <= 1, "combination {combination}: {winners} winners");
    }
}
