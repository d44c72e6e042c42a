//! Digests: they tell a state that is not the last one, and they never block anybody for good.

mod support;

use std::time::Duration;

use cofferdam_s3::contract::{
    DeleteOptions, ErrorCode, Expectation, Fence, Outcome, Reading, UnlockBy,
};
use cofferdam_s3::platform::TransportError;
use cofferdam_s3::{Store, contract};
use support::schedule::{Crew, Hand};
use support::*;

const DENIED: &str = "<Error><Code>AccessDenied</Code></Error>";
const TABLE_DENIED: &str = "{\"__type\":\"x#AccessDeniedException\",\"message\":\"no\"}";
const THROTTLED: &str = "{\"__type\":\"x#ThrottlingException\",\"message\":\"slow\"}";

fn broken() -> TransportError {
    TransportError::Broken("reset".to_owned())
}

/// A store that holds a state and its digest.
fn settled(bytes: &[u8]) -> Fake {
    let fake = Fake::default();
    fake.put(STATE, bytes);
    fake.put_item(DIGEST, "Digest", &md5(bytes));
    fake
}

fn recorded(fake: &Fake) -> Option<String> {
    fake.item(DIGEST, "Digest")
}

fn expected(bytes: &[u8]) -> Expectation {
    Expectation::Revision(revision(bytes))
}

/// What every reader relies on.
fn assert_blocks_nobody(fake: &Fake, case: &str) {
    let stored = fake.stored(STATE).map(|bytes| md5(&bytes));
    if let Some(digest) = recorded(fake) {
        assert_eq!(Some(digest), stored, "{case}");
    }
}

#[test]
fn a_state_that_fits_its_digest_is_read_in_two_requests() {
    for md5_tags in [false, true] {
        let fake = settled(&state(1));
        fake.world().quirks.md5_tags = md5_tags;
        let store = fake.open_with_table(true);
        let read = whole(store.read("default", None).unwrap());
        assert_eq!(read.bytes, state(1));
        assert_eq!(
            fake.sent(),
            [format!("GET {STATE}"), format!("GetItem {DIGEST}")]
        );
        let known = store.read("default", Some(&read.revision)).unwrap();
        assert!(matches!(known, Reading::Unchanged));
        assert_eq!(fake.sent(), [format!("GET {STATE} If-None-Match")]);
    }
}

#[test]
fn a_digest_in_capitals_is_the_same_digest() {
    let fake = settled(&state(1));
    fake.put_item(DIGEST, "Digest", &md5(&state(1)).to_uppercase());
    whole(fake.open_with_table(true).read("default", None).unwrap());
}

#[test]
fn a_state_that_does_not_fit_is_read_for_ten_seconds_and_then_refused() {
    let fake = settled(&state(1));
    let digest = md5(&state(2));
    fake.put_item(DIGEST, "Digest", &digest);
    let store = fake.open_with_table(true);
    let error = store.read("default", None).unwrap_err();
    assert_eq!(error.code, ErrorCode::DigestMismatch);
    assert_eq!(error.outcome, Outcome::NotDone);
    assert_eq!(fake.world().slept, Duration::from_secs(10));
    let sent = fake.sent();
    assert_eq!(sent.len(), 12);
    // The state itself comes over once.
    assert_eq!(sent[2], format!("GET {STATE} If-None-Match"));
    let calculated = md5(&state(1));
    let terraform = format!(
        "state data in S3 does not have the expected content.\n\nThe checksum calculated for the \
         state stored in S3 does not match the checksum\nstored in DynamoDB.\n\nBucket: tfstate\n\
         Key:    app/terraform.tfstate\nCalculated checksum: {calculated}\nStored checksum:     \
         {digest}\n\nThis may be caused by unusually long delays in S3 processing a previous \
         state\nupdate. Please wait for a minute or two and try again.\n\nIf this problem \
         persists, and neither S3 nor DynamoDB are experiencing an\noutage, you may need to \
         manually verify the remote state and update the Digest\nvalue stored in the DynamoDB \
         table to the following value: {calculated}\n"
    );
    assert!(error.message.starts_with(&terraform), "{}", error.message);
    assert!(error.message.contains(DIGEST), "{}", error.message);
    assert_eq!(fact(&error, "calculated-digest"), Some(calculated.as_str()));
    assert_eq!(fact(&error, "recorded-digest"), Some(digest.as_str()));
    assert_eq!(fact(&error, "item"), Some(DIGEST));
}

#[test]
fn a_digest_without_a_state_is_a_mismatch_and_an_empty_object_is_no_state() {
    for empty in [false, true] {
        let fake = Fake::default();
        let store = fake.open_with_table(true);
        if empty {
            fake.put(STATE, b"");
        }
        assert!(matches!(
            store.read("default", None).unwrap(),
            Reading::Absent
        ));
        fake.put_item(DIGEST, "Digest", &md5(b""));
        let error = store.read("default", None).unwrap_err();
        assert_eq!(error.code, ErrorCode::DigestMismatch);
        assert!(
            error
                .message
                .contains("and remove the Digest\nvalue stored in the DynamoDB table\n"),
            "{}",
            error.message
        );
    }
}

#[test]
fn a_state_or_a_digest_that_comes_late_is_waited_for() {
    for (n, late) in [(3, "state"), (4, "digest"), (4, "no digest")] {
        let fake = settled(&state(1));
        fake.put_item(DIGEST, "Digest", &md5(&state(2)));
        fake.fault(
            n,
            Fault::BeforeAll(Box::new(move |world| match late {
                "state" => {
                    world.objects.insert(STATE.to_owned(), state(2));
                }
                "digest" => put_item(&mut world.items, DIGEST, "Digest", &md5(&state(1))),
                _ => {
                    world.items.clear();
                }
            })),
        );
        let store = fake.open_with_table(true);
        let read = whole(store.read("default", None).unwrap());
        let serial = if late == "state" { 2 } else { 1 };
        assert_eq!(read.bytes, state(serial));
        assert_eq!(fake.world().slept, Duration::from_secs(2));
    }
}

#[test]
fn a_call_that_may_not_wait_gives_up_at_once() {
    let fake = settled(&state(1));
    fake.put_item(DIGEST, "Digest", &md5(&state(2)));
    let store = fake.open_with(&table(true), Fence::Required, Some(1500));
    let error = store.read("default", None).unwrap_err();
    assert_eq!(error.code, ErrorCode::DigestMismatch);
    assert_eq!(fake.world().slept, Duration::ZERO);
}

#[test]
fn where_nothing_can_be_compared_the_state_is_read_and_the_person_told() {
    let invalid = settled(&state(1));
    invalid.put_item(DIGEST, "Digest", "no md5");
    let other = settled(&state(1));
    other.put_item(DIGEST, "Other", &md5(b""));
    let denied = settled(&state(1));
    denied.fault(2, Fault::Answer(400, TABLE_DENIED));
    for (fake, words) in [
        (invalid, "holds no MD5"),
        (other, "holds no MD5"),
        (denied, "dynamodb:GetItem"),
    ] {
        whole(fake.open_with_table(true).read("default", None).unwrap());
        let reports = &fake.world().reports;
        assert_eq!(reports.len(), 1);
        assert!(reports[0].detail.contains(words), "{reports:?}");
    }
    // A missing digest is nothing to tell.
    let fake = Fake::default();
    fake.put(STATE, &state(1));
    whole(fake.open_with_table(true).read("default", None).unwrap());
    assert!(fake.world().reports.is_empty());
}

#[test]
fn an_apply_with_a_change_takes_the_digest_away_first() {
    let fake = settled(&state(1));
    let store = fake.open_with_table(false);
    let lock = store.lock("default", info("a")).unwrap();
    let read = whole(store.read("default", None).unwrap());
    store
        .write(
            "default",
            &state(2),
            &under(&lock, Expectation::Revision(read.revision)),
        )
        .unwrap();
    store.unlock("default", &UnlockBy::Held(lock)).unwrap();
    assert_eq!(
        fake.sent(),
        [
            format!("PutItem {ITEM} if absent"),
            format!("GET {STATE}"),
            format!("GetItem {DIGEST}"),
            format!("DeleteItem {DIGEST}"),
            format!("PUT {STATE} If-Match"),
            format!("PutItem {DIGEST} if absent"),
            format!("DeleteItem {ITEM} if equal"),
        ]
    );
    assert_eq!(recorded(&fake), Some(md5(&state(2))));
}

#[test]
fn a_digest_is_stored_as_other_tools_store_it() {
    let fake = Fake::default();
    let store = fake.open_with_table(true);
    store
        .write("default", &state(1), &expecting(Expectation::Absent))
        .unwrap();
    let digest = md5(&state(1));
    assert_eq!(
        fake.body(2),
        format!(
            "{{\"ConditionExpression\":\"attribute_not_exists(LockID)\",\"Item\":{{\"Digest\":\
             {{\"S\":\"{digest}\"}},\"LockID\":{{\"S\":\"{DIGEST}\"}}}},\"TableName\":\"locks\"}}"
        )
    );
}

#[test]
fn a_write_does_not_begin_before_the_digest_is_gone() {
    for fault in [
        || Fault::Answer(400, TABLE_DENIED),
        || Fault::Fails(broken()),
        || Fault::LostAnswer,
    ] {
        let fake = settled(&state(1));
        let store = fake.open_with_table(true);
        let lock = store.lock("default", info("a")).unwrap();
        for n in 1..=5 {
            fake.fault(n, fault());
        }
        let error = store
            .write("default", &state(2), &under(&lock, expected(&state(1))))
            .unwrap_err();
        assert_eq!(error.outcome, Outcome::NotDone);
        assert!(error.message.contains("was not written"));
        assert_eq!(fact(&error, "operation"), Some("DeleteItem"));
        assert_eq!(fake.stored(STATE), Some(state(1)));
        assert_blocks_nobody(&fake, &error.message);
    }
}

#[test]
fn a_write_that_fails_puts_the_digest_back() {
    for locked in [true, false] {
        let fake = settled(&state(1));
        let store = fake.open_with_table(true);
        let lock = store.lock("default", info("a")).unwrap();
        let mut options = under(&lock, expected(&state(1)));
        if !locked {
            options.lock = None;
        }
        fake.fault(2, Fault::Answer(403, DENIED));
        let error = store.write("default", &state(2), &options).unwrap_err();
        assert_eq!(error.code, ErrorCode::AccessDenied);
        assert_eq!(error.outcome, Outcome::NotDone);
        assert_eq!(recorded(&fake), Some(md5(&state(1))));
        // Another state than was expected.
        let options = contract::WriteOptions {
            expect: Expectation::Absent,
            ..options
        };
        let error = store.write("default", &state(2), &options).unwrap_err();
        assert_eq!(error.code, ErrorCode::StateChanged);
        assert_eq!(recorded(&fake), Some(md5(&state(1))));
    }
}

#[test]
fn a_digest_that_does_not_fit_what_is_stored_is_not_put_back() {
    for locked in [true, false] {
        let fake = settled(&state(1));
        let store = fake.open_with_table(true);
        let lock = store.lock("default", info("a")).unwrap();
        let mut options = under(&lock, expected(&state(1)));
        if !locked {
            options.lock = None;
        }
        // Somebody who takes no lock and records no digest.
        fake.put(STATE, &state(7));
        let error = store.write("default", &state(2), &options).unwrap_err();
        assert_eq!(error.code, ErrorCode::StateChanged);
        assert_eq!(recorded(&fake), None);
    }
}

#[test]
fn a_write_of_unknown_outcome_leaves_no_digest() {
    let fake = settled(&state(1));
    let store = fake.open_with_table(true);
    let lock = store.lock("default", info("a")).unwrap();
    for n in 2..=30 {
        fake.fault(n, Fault::Fails(broken()));
    }
    let error = store
        .write("default", &state(2), &under(&lock, expected(&state(1))))
        .unwrap_err();
    assert_eq!(error.outcome, Outcome::Unknown);
    assert_eq!(recorded(&fake), None);
}

#[test]
fn a_write_that_is_found_to_be_done_gets_its_digest() {
    let fake = settled(&state(1));
    let store = fake.open_with_table(true);
    let lock = store.lock("default", info("a")).unwrap();
    // Five attempts to write, the first of them good, five to read back, then the store is well again.
    fake.fault(2, Fault::LostAnswer);
    for n in 3..=11 {
        fake.fault(n, Fault::Fails(broken()));
    }
    store
        .write("default", &state(2), &under(&lock, expected(&state(1))))
        .unwrap();
    assert_eq!(recorded(&fake), Some(md5(&state(2))));
}

#[test]
fn a_digest_that_cannot_be_recorded_is_an_error_that_says_the_state_is_written() {
    let fake = settled(&state(1));
    let store = fake.open_with_table(true);
    let lock = store.lock("default", info("a")).unwrap();
    fake.fault(3, Fault::Answer(400, TABLE_DENIED));
    let error = store
        .write("default", &state(2), &under(&lock, expected(&state(1))))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::AccessDenied);
    assert_eq!(error.outcome, Outcome::Unknown);
    assert!(!error.retryable);
    let digest = md5(&state(2));
    for words in ["the state is written", &digest, "dynamodb:PutItem"] {
        assert!(error.message.contains(words), "{}", error.message);
    }
    assert_eq!(fact(&error, "digest"), Some(digest.as_str()));
    assert_eq!(
        fact(&error, "stored-revision"),
        Some(etag(&state(2)).as_str())
    );
    assert_eq!(fake.stored(STATE), Some(state(2)));
    whole(store.read("default", None).unwrap());
}

#[test]
fn a_digest_is_recorded_in_spite_of_throttling_and_lost_answers() {
    for fault in [
        || Fault::Answer(400, THROTTLED),
        || Fault::LostAnswer,
        || Fault::DoneBut(500, "oops"),
        || Fault::Answer(400, "{\"__type\":\"x#TransactionConflictException\"}"),
    ] {
        let fake = settled(&state(1));
        let store = fake.open_with_table(true);
        let lock = store.lock("default", info("a")).unwrap();
        fake.fault(3, fault());
        store
            .write("default", &state(2), &under(&lock, expected(&state(1))))
            .unwrap();
        assert_eq!(recorded(&fake), Some(md5(&state(2))));
    }
}

#[test]
fn a_stale_digest_in_the_way_of_the_new_one_is_replaced() {
    let fake = settled(&state(1));
    let store = fake.open_with_table(true);
    let lock = store.lock("default", info("a")).unwrap();
    fake.fault(
        3,
        Fault::BeforeAll(Box::new(|world| {
            put_item(&mut world.items, DIGEST, "Digest", &md5(b"stale"));
        })),
    );
    store
        .write("default", &state(2), &under(&lock, expected(&state(1))))
        .unwrap();
    assert_eq!(recorded(&fake), Some(md5(&state(2))));
}

#[test]
fn deleting_a_workspace_deletes_its_digest_first() {
    let key = "tfstate/env:/dev/app/terraform.tfstate-md5";
    let options = || DeleteOptions {
        expect: expected(&state(1)),
        lock: None,
    };
    let fake = Fake::default();
    let store = fake.open_with_table(true);
    fake.put(DEV, &state(1));
    fake.put_item(key, "Digest", &md5(&state(1)));
    fake.fault(2, Fault::Answer(403, DENIED));
    store.delete("dev", &options()).unwrap_err();
    assert_eq!(fake.item(key, "Digest"), Some(md5(&state(1))));
    fake.fault(1, Fault::Answer(400, TABLE_DENIED));
    let error = store.delete("dev", &options()).unwrap_err();
    assert!(error.message.contains("was not deleted"));
    assert_eq!(fake.stored(DEV), Some(state(1)));
    fake.sent();
    store.delete("dev", &options()).unwrap();
    assert_eq!(
        fake.sent(),
        [
            format!("DeleteItem {key}"),
            format!("DELETE {DEV} If-Match")
        ]
    );
    assert!(fake.world().items.is_empty());
    // A digest that was left behind goes, too.
    fake.put_item(key, "Digest", &md5(&state(1)));
    store
        .delete("dev", &deleting(Expectation::Anything))
        .unwrap();
    assert!(fake.world().items.is_empty());
}

#[test]
fn digests_are_compared_and_the_state_that_one_describes_is_found() {
    let fake = settled(&state(2));
    fake.world().quirks.md5_tags = true;
    let store = fake.open_with_table(true);
    let report = store.compare_digest("default").unwrap();
    assert_eq!(
        (report.table.as_str(), report.item.as_str()),
        ("locks", DIGEST)
    );
    assert_eq!(report.recorded, Some(md5(&state(2))));
    let stored = report.stored.unwrap();
    assert_eq!(stored.md5, md5(&state(2)));
    assert_eq!(stored.size, state(2).len() as u64);
    assert_eq!(
        (stored.serial, stored.lineage.as_deref()),
        (Some(2), Some("l-1"))
    );
    assert!(report.described.is_none());

    fake.put_item(DIGEST, "Digest", &md5(&state(1)));
    assert!(store.compare_digest("default").unwrap().described.is_none());
    fake.world().versions = vec![
        (STATE.to_owned(), "v2".to_owned(), state(2)),
        (STATE.to_owned(), "v1".to_owned(), state(1)),
    ];
    let described = store.compare_digest("default").unwrap().described.unwrap();
    assert_eq!(described.serial, Some(1));
    assert_eq!(described.md5, md5(&state(1)));

    // Where versions may not be listed, there is none.
    fake.sent();
    fake.fault(3, Fault::Answer(403, DENIED));
    assert!(store.compare_digest("default").unwrap().described.is_none());

    fake.world().objects.clear();
    fake.world().items.clear();
    let report = store.compare_digest("default").unwrap();
    assert!(report.stored.is_none() && report.recorded.is_none());
    let without = fake.open().compare_digest("default").unwrap_err();
    assert_eq!(without.code, ErrorCode::Unsupported);
}

#[test]
fn a_digest_is_recorded_or_removed_if_what_is_recorded_is_expected() {
    let (one, two) = (md5(b"1"), md5(b"2"));
    let fake = Fake::default();
    let store = fake.open_with_table(true);
    let record = |expected: Option<&str>, digest: Option<&str>| {
        store.record_digest("default", expected, digest, None)
    };
    record(None, Some(&one)).unwrap();
    assert_eq!(recorded(&fake), Some(one.clone()));
    for expected in [None, Some(two.as_str())] {
        let error = record(expected, Some(&two)).unwrap_err();
        assert_eq!(error.code, ErrorCode::StateChanged);
        assert_eq!(error.outcome, Outcome::NotDone);
        assert_eq!(fact(&error, "recorded-digest"), Some(one.as_str()));
        assert_eq!(
            record(expected, None).unwrap_err().code,
            ErrorCode::StateChanged
        );
    }
    fake.fault(1, Fault::LostAnswer);
    record(Some(&one), Some(&two)).unwrap();
    fake.fault(1, Fault::LostAnswer);
    record(Some(&two), None).unwrap();
    assert_eq!(recorded(&fake), None);
    record(None, None).unwrap();
    let error = record(None, Some("x")).unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidArgument);
    let lock = store.lock("default", info("a")).unwrap();
    fake.world().objects.clear();
    fake.pass(Duration::from_secs(11));
    let error = store
        .record_digest("default", None, Some(&one), Some(&lock))
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::LockMismatch);
    let error = fake
        .open()
        .record_digest("default", None, Some(&one), None)
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::Unsupported);
}

const KINDS: usize = 6;

fn fault(kind: usize) -> Fault {
    match kind {
        0 => Fault::LostAnswer,
        1 => Fault::Fails(broken()),
        2 => Fault::DoneBut(500, "oops"),
        3 => Fault::Answer(403, DENIED),
        4 => Fault::Answer(400, TABLE_DENIED),
        _ => Fault::DoneBut(200, "<html>"),
    }
}

#[test]
fn whatever_request_of_a_write_fails_nobody_is_blocked() {
    for locked in [true, false] {
        for case in 0..(8 * KINDS) * (8 * KINDS) {
            let (first, second) = (case % (8 * KINDS), case / (8 * KINDS));
            let fake = settled(&state(1));
            let store = fake.open_with_table(true);
            let lock = store.lock("default", info("a")).unwrap();
            let mut options = under(&lock, expected(&state(1)));
            if !locked {
                options.lock = None;
            }
            for it in [first, second] {
                fake.fault(it / KINDS + 1, fault(it % KINDS));
            }
            let written = store.write("default", &state(2), &options);
            let case = format!("{locked} {first} {second}: {written:?}");
            assert_blocks_nobody(&fake, &case);
            match written {
                Ok(_) => {
                    assert_eq!(fake.stored(STATE), Some(state(2)), "{case}");
                    // Without a lock, a digest stays only if it is seen to be right.
                    if locked {
                        assert_eq!(recorded(&fake), Some(md5(&state(2))), "{case}");
                    }
                }
                Err(error) if error.outcome == Outcome::NotDone => {
                    assert_eq!(fake.stored(STATE), Some(state(1)), "{case}");
                }
                Err(_) => {}
            }
        }
    }
}

#[test]
fn a_writer_that_dies_at_any_request_blocks_nobody() {
    for deletes in [false, true] {
        for last in 0..8 {
            for done in [false, true] {
                let fake = settled(&state(1));
                let store = fake.open_with_table(true);
                let dead = || Fault::Fails(TransportError::Unusable("dead".to_owned()));
                for n in last + 1..50 {
                    fake.fault(n, dead());
                }
                if done {
                    fake.fault(last + 1, Fault::LostAnswer);
                }
                let workspace = "default";
                if deletes {
                    let _ = store.delete(workspace, &deleting(expected(&state(1))));
                } else {
                    let options = expecting(expected(&state(1)));
                    let _ = store.write(workspace, &state(2), &options);
                }
                assert_blocks_nobody(&fake, &format!("{deletes} {last} {done}"));
            }
        }
    }
}

/// What one of several writers at once does.
#[derive(Clone, Copy, Debug)]
enum Job {
    Force(u64),
    Write(u64),
    /// Never gets its state stored.
    Fail,
}

fn work(store: &Store<Hand>, job: Job) {
    let _ = match job {
        Job::Force(serial) => store
            .write("default", &state(serial), &expecting(Expectation::Anything))
            .map(drop),
        Job::Write(serial) => store
            .write("default", &state(serial), &expecting(expected(&state(1))))
            .map(drop),
        Job::Fail => store
            .write("default", &state(9), &expecting(Expectation::Absent))
            .map(drop),
    };
}

/// Lets writers without a lock work at once, in a given order of their requests.
fn together(jobs: &[Job], order: Vec<usize>, md5_tags: bool) -> Fake {
    let fake = settled(&state(1));
    fake.world().quirks.md5_tags = md5_tags;
    let crew = Crew::new(fake.clone(), jobs.len(), order);
    std::thread::scope(|scope| {
        for (me, job) in jobs.iter().enumerate() {
            let hand = crew.hand(me);
            scope.spawn(move || {
                let done = hand.clone();
                let store = hand.open(&table(true));
                work(&store, *job);
                done.finish();
            });
        }
    });
    fake
}

#[test]
fn two_writers_without_a_lock_leave_no_wrong_digest_in_any_order_of_their_requests() {
    let pairs = [
        [Job::Write(2), Job::Write(3)],
        [Job::Force(2), Job::Force(3)],
        [Job::Force(2), Job::Write(3)],
        [Job::Write(2), Job::Fail],
    ];
    for jobs in pairs {
        // Who sends which of the first ten requests; the rest is one after the other.
        for order in 0..1_u32 << 10 {
            let turns = (0..10).map(|n| (order >> n & 1) as usize).collect();
            let fake = together(&jobs, turns, false);
            assert_blocks_nobody(&fake, &format!("{jobs:?} {order:010b}"));
        }
    }
}

#[test]
fn three_writers_without_a_lock_leave_no_wrong_digest() {
    let trios = [
        [Job::Write(2), Job::Force(3), Job::Fail],
        [Job::Force(2), Job::Force(3), Job::Fail],
        [Job::Force(2), Job::Force(3), Job::Force(4)],
    ];
    let mut random = 42_u64;
    for round in 0..3000 {
        let turns: Vec<_> = (0..20)
            .map(|_| {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (random >> 33) as usize % 3
            })
            .collect();
        let jobs = trios[round % 3];
        let fake = together(&jobs, turns.clone(), round % 2 == 0);
        assert_blocks_nobody(&fake, &format!("{jobs:?} {turns:?}"));
    }
}
