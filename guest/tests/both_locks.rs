//! Both locks at once: held in both places or not at all, and whatever is half done is told.

mod support;

use std::time::Duration;

use cofferdam_s3::contract::{Error, ErrorCode, Expectation, LockInfo, Outcome, UnlockBy};
use cofferdam_s3::platform::TransportError;
use support::*;

const OTHER: &str = "{\"ID\":\"other\",\"Who\":\"other@there\"}";
const DENIED: &str = "<Error><Code>AccessDenied</Code></Error>";
const TABLE_DENIED: &str = "{\"__type\":\"x#AccessDeniedException\",\"message\":\"no\"}";

fn broken() -> TransportError {
    TransportError::Broken("reset".to_owned())
}

fn by_id(id: &str) -> UnlockBy {
    UnlockBy::Id(id.to_owned())
}

/// Place and id of each holder, such as `s3: other`.
fn holders(error: &Error) -> Vec<String> {
    let id = |info: &LockInfo| info.id.clone();
    let holders = error.holders.iter();
    holders
        .map(|it| {
            format!(
                "{}: {}",
                it.place,
                it.info.as_ref().map(id).unwrap_or_default()
            )
        })
        .collect()
}

/// Whose lock stands in the file and in the item.
fn owners(fake: &Fake) -> (Option<String>, Option<String>) {
    let item = fake.item(ITEM, "Info").map(String::into_bytes);
    (fake.stored(LOCK).map(id_of), item.map(id_of))
}

fn owned(file: &str, item: &str) -> (Option<String>, Option<String>) {
    let owner = |id: &str| (!id.is_empty()).then(|| id.to_owned());
    (owner(file), owner(item))
}

#[test]
fn both_are_taken_and_released_the_file_first() {
    let fake = Fake::default();
    let held = fake
        .open_with_table(true)
        .lock("default", info("a"))
        .unwrap();
    assert_eq!(owners(&fake), owned("a", "a"));
    assert_eq!(
        fake.stored(LOCK),
        fake.item(ITEM, "Info").map(String::into_bytes)
    );
    let store = fake.open_with_table(true);
    let places: Vec<_> = store.holders("default").unwrap();
    let places: Vec<_> = places.iter().map(|it| it.place.as_str()).collect();
    assert_eq!(places, ["s3", "dynamodb"]);
    store.unlock("default", &by(&held)).unwrap();
    assert_eq!(
        fake.sent(),
        [
            format!("PUT {LOCK} If-None-Match:*"),
            format!("PutItem {ITEM} if absent"),
            format!("GET {LOCK}"),
            format!("GetItem {ITEM}"),
            format!("DELETE {LOCK} If-Match"),
            format!("DeleteItem {ITEM} if equal"),
        ]
    );
    assert_eq!(owners(&fake), owned("", ""));
}

#[test]
fn a_busy_file_is_reported_and_the_table_is_not_asked() {
    let fake = Fake::default();
    fake.put(LOCK, OTHER.as_bytes());
    let store = fake.open_with_table(true);
    let error = store.lock("default", info("a")).unwrap_err();
    assert_eq!(error.code, ErrorCode::Locked);
    assert_eq!(holders(&error), ["s3: other"]);
    assert_eq!(
        fake.sent(),
        [format!("PUT {LOCK} If-None-Match:*"), format!("GET {LOCK}")]
    );
}

#[test]
fn a_failure_in_the_table_releases_the_file() {
    let fake = Fake::default();
    fake.put_item(ITEM, "Info", OTHER);
    let store = fake.open_with_table(true);
    let error = store.lock("default", info("a")).unwrap_err();
    assert_eq!(error.code, ErrorCode::Locked);
    assert_eq!(error.outcome, Outcome::NotDone);
    assert_eq!(holders(&error), ["dynamodb: other"]);
    assert_eq!(owners(&fake), owned("", "other"));

    fake.fault(2, Fault::Answer(400, TABLE_DENIED));
    fake.world().items.clear();
    fake.sent();
    fake.fault(2, Fault::Answer(400, TABLE_DENIED));
    let error = store.lock("default", info("a")).unwrap_err();
    assert_eq!(error.code, ErrorCode::AccessDenied);
    assert_eq!(error.outcome, Outcome::NotDone);
    assert_eq!(owners(&fake), owned("", ""));
}

#[test]
fn a_file_that_cannot_be_released_again_is_told() {
    let fake = Fake::default();
    fake.put_item(ITEM, "Info", OTHER);
    let store = fake.open_with_table(true);
    fake.fault(4, Fault::Answer(403, DENIED));
    let error = store.lock("default", info("a")).unwrap_err();
    assert_eq!(error.code, ErrorCode::Locked);
    assert_eq!(error.outcome, Outcome::Unknown);
    assert_eq!(holders(&error), ["dynamodb: other"]);
    for words in ["s3:DeleteObject", "tflock", "force-unlock and the ID a"] {
        assert!(error.message.contains(words), "{}", error.message);
    }
    assert_eq!(owners(&fake), owned("a", "other"));
}

#[test]
fn a_file_whose_lost_answer_was_good_is_released_again() {
    let fake = Fake::default();
    fake.put_item(ITEM, "Info", OTHER);
    let store = fake.open_with_table(true);
    fake.fault(1, Fault::LostAnswer);
    store.lock("default", info("a")).unwrap_err();
    assert_eq!(owners(&fake), owned("", "other"));
}

#[test]
fn a_lock_that_was_held_before_the_call_is_not_given_up_by_it() {
    let fake = Fake::default();
    let store = fake.open_with_table(true);
    let held = store.lock("default", info("a")).unwrap();
    let requests = fake.world().requests.len();
    // Taken again: PUT, GET of the file, PutItem is refused.
    fake.fault(3, Fault::Answer(400, TABLE_DENIED));
    let error = store.lock("default", info("a")).unwrap_err();
    assert_eq!(error.code, ErrorCode::AccessDenied);
    assert_eq!(fake.world().requests.len(), requests + 3);
    assert_eq!(owners(&fake), owned("a", "a"));
    let again = store.lock("default", info("a")).unwrap();
    assert_eq!(again.id, held.id);
    store.unlock("default", &by(&held)).unwrap();
    assert_eq!(owners(&fake), owned("", ""));
}

#[test]
fn a_release_tries_both_and_tells_what_is_left() {
    for (n, fault, words, left) in [
        (
            1,
            Fault::Answer(403, DENIED),
            "s3:DeleteObject",
            owned("a", ""),
        ),
        (
            2,
            Fault::Answer(400, TABLE_DENIED),
            "dynamodb:DeleteItem",
            owned("", "a"),
        ),
    ] {
        let fake = Fake::default();
        let store = fake.open_with_table(true);
        let held = store.lock("default", info("a")).unwrap();
        fake.fault(n, fault);
        let error = store.unlock("default", &by(&held)).unwrap_err();
        assert_eq!(error.code, ErrorCode::AccessDenied);
        assert_eq!(error.outcome, Outcome::Unknown);
        assert!(error.message.contains(words), "{}", error.message);
        assert!(
            error.message.contains("the rest of it is left"),
            "{}",
            error.message
        );
        assert_eq!(owners(&fake), left);
        // What is left is released by id, and that there was only a part is told.
        store.unlock("default", &by_id("a")).unwrap();
        assert_eq!(owners(&fake), owned("", ""));
        assert_eq!(fake.world().reports.len(), 1);
    }
}

#[test]
fn a_release_that_fails_in_both_places_tells_both() {
    let fake = Fake::default();
    let store = fake.open_with_table(true);
    let held = store.lock("default", info("a")).unwrap();
    fake.fault(1, Fault::Answer(403, DENIED));
    fake.fault(2, Fault::Answer(400, TABLE_DENIED));
    let error = store.unlock("default", &by(&held)).unwrap_err();
    assert_eq!(error.outcome, Outcome::NotDone);
    for words in ["s3:DeleteObject", "dynamodb:DeleteItem"] {
        assert!(error.message.contains(words), "{}", error.message);
    }
    assert_eq!(owners(&fake), owned("a", "a"));
}

#[test]
fn half_a_lock_is_released_and_told() {
    for missing_file in [true, false] {
        let fake = Fake::default();
        let store = fake.open_with_table(true);
        let half = || {
            let held = store.lock("default", info("a")).unwrap();
            if missing_file {
                fake.world().objects.clear();
            } else {
                fake.world().items.clear();
            }
            held
        };
        let absent = if missing_file {
            "none at s3://tfstate/app/terraform.tfstate.tflock"
        } else {
            "none at the item \"tfstate/app/terraform.tfstate\" of the DynamoDB table \"locks\""
        };
        let held = half();
        let error = store.unlock("default", &by(&held)).unwrap_err();
        assert_eq!(error.code, ErrorCode::LockMismatch);
        assert!(error.holders.is_empty());
        for words in [absent, "Nothing is locked any more"] {
            assert!(error.message.contains(words), "{}", error.message);
        }
        assert_eq!(owners(&fake), owned("", ""));
        assert!(fake.world().reports.is_empty());

        half();
        store.unlock("default", &by_id("a")).unwrap();
        assert_eq!(owners(&fake), owned("", ""));
        let reports = std::mem::take(&mut fake.world().reports);
        assert!(reports[0].detail.contains(absent), "{reports:?}");

        let error = store.unlock("default", &by_id("a")).unwrap_err();
        assert_eq!(error.code, ErrorCode::LockMismatch);
        assert!(error.message.contains("nobody holds it"));
    }
}

#[test]
fn ours_is_released_and_anothers_is_reported() {
    for file_is_others in [true, false] {
        let fake = Fake::default();
        let store = fake.open_with_table(true);
        let held = store.lock("default", info("a")).unwrap();
        let (place, left) = if file_is_others {
            fake.put(LOCK, OTHER.as_bytes());
            ("s3", owned("other", ""))
        } else {
            fake.put_item(ITEM, "Info", OTHER);
            ("dynamodb", owned("", "other"))
        };
        let error = store.unlock("default", &by(&held)).unwrap_err();
        assert_eq!(error.code, ErrorCode::LockMismatch);
        assert_eq!(holders(&error), [format!("{place}: other")]);
        assert!(error.message.contains("It was released at"));
        assert_eq!(owners(&fake), left);
    }
}

#[test]
fn a_lock_of_others_in_both_places_is_left_alone() {
    let fake = Fake::default();
    let store = fake.open_with_table(true);
    let held = store.lock("default", info("a")).unwrap();
    fake.put(LOCK, OTHER.as_bytes());
    fake.put_item(ITEM, "Info", "{\"ID\":\"third\"}");
    for by in [by(&held), by_id("a")] {
        let error = store.unlock("default", &by).unwrap_err();
        assert_eq!(error.code, ErrorCode::LockMismatch);
        assert_eq!(holders(&error), ["s3: other", "dynamodb: third"]);
        assert_eq!(owners(&fake), owned("other", "third"));
    }
}

#[test]
fn a_token_breaks_the_lock_in_the_place_where_it_was_found() {
    let fake = Fake::default();
    fake.put(LOCK, b"garbage");
    fake.put_item(ITEM, "Info", "garbage");
    let store = fake.open_with_table(true);
    let found = store.holders("default").unwrap();
    for (n, holder) in found.iter().enumerate() {
        let token = UnlockBy::Token(holder.token.clone());
        store.unlock("default", &token).unwrap();
        assert_eq!(fake.stored(LOCK), None);
        assert_eq!(fake.item(ITEM, "Info").is_none(), n == 1);
    }
}

#[test]
fn a_token_of_a_place_that_is_not_configured_breaks_nothing() {
    let fake = Fake::default();
    fake.put(LOCK, OTHER.as_bytes());
    fake.put_item(ITEM, "Info", OTHER);
    let found = fake.open_with_table(true).holders("default").unwrap();
    let token = UnlockBy::Token(found[1].token.clone());
    let error = fake.open().unlock("default", &token).unwrap_err();
    assert_eq!(error.code, ErrorCode::InvalidArgument);
    assert_eq!(owners(&fake), owned("other", "other"));
}

#[test]
fn a_write_looks_for_its_old_lock_in_both_places() {
    for gone_from_file in [true, false] {
        let fake = Fake::default();
        let store = fake.open_with_table(true);
        let lock = store.lock("default", info("a")).unwrap();
        fake.pass(Duration::from_secs(11));
        fake.sent();
        let revision = store
            .write("default", &state(1), &under(&lock, Expectation::Absent))
            .unwrap();
        let sent = fake.sent();
        assert_eq!(sent[0], format!("GET {LOCK}"));
        assert_eq!(sent[1], format!("GetItem {ITEM}"));
        if gone_from_file {
            fake.world().objects.remove(LOCK);
        } else {
            fake.put_item(ITEM, "Info", OTHER);
        }
        let options = under(&lock, Expectation::Revision(revision));
        let error = store.write("default", &state(2), &options).unwrap_err();
        assert_eq!(error.code, ErrorCode::LockMismatch);
        assert_eq!(error.holders.len(), usize::from(!gone_from_file));
        assert_eq!(fake.stored(STATE), Some(state(1)));
    }
}

#[test]
fn clients_of_one_place_and_of_both_keep_each_other_out() {
    let fake = Fake::default();
    let both = fake.open_with_table(true);
    for one in [fake.open(), fake.open_with_table(false)] {
        let held = one.lock("default", info("one")).unwrap();
        let error = both.lock("default", info("both")).unwrap_err();
        assert_eq!(error.code, ErrorCode::Locked);
        one.unlock("default", &by(&held)).unwrap();
        assert_eq!(owners(&fake), owned("", ""));
        let held = both.lock("default", info("both")).unwrap();
        let error = one.lock("default", info("one")).unwrap_err();
        assert_eq!(error.code, ErrorCode::Locked);
        both.unlock("default", &by(&held)).unwrap();
    }
}

const KINDS: usize = 7;

fn fault(kind: usize) -> Fault {
    match kind {
        0 => Fault::LostAnswer,
        1 => Fault::Fails(broken()),
        2 => Fault::DoneBut(500, "oops"),
        3 => Fault::Answer(503, ""),
        4 => Fault::Answer(403, DENIED),
        5 => Fault::DoneBut(200, "<html>"),
        _ => Fault::Answer(
            409,
            "<Error><Code>ConditionalRequestConflict</Code></Error>",
        ),
    }
}

#[test]
fn whatever_request_fails_a_lock_is_held_in_both_places_or_can_be_released_whole() {
    // Two faults at any two requests of taking the lock, with each kind of neighbour.
    for neighbour in ["", "file", "item"] {
        for case in 0..(8 * KINDS) * (8 * KINDS) {
            let (first, second) = (case % (8 * KINDS), case / (8 * KINDS));
            let fake = Fake::default();
            match neighbour {
                "file" => fake.put(LOCK, OTHER.as_bytes()),
                "item" => fake.put_item(ITEM, "Info", OTHER),
                _ => {}
            }
            for it in [first, second] {
                fake.fault(it / KINDS + 1, fault(it % KINDS));
            }
            let store = fake.open_with_table(true);
            let taken = store.lock("default", info("a"));
            fake.sent();
            let case = format!("{neighbour} {first} {second}: {:?}", taken.as_ref().err());
            match taken {
                Ok(held) => {
                    assert_eq!(owners(&fake), owned("a", "a"), "{case}");
                    store.unlock("default", &by(&held)).unwrap();
                }
                Err(error) if error.outcome == Outcome::NotDone => {
                    let (file, item) = owners(&fake);
                    assert_ne!(file.as_deref(), Some("a"), "{case}");
                    assert_ne!(item.as_deref(), Some("a"), "{case}");
                }
                // Somebody who is told so releases what there may be.
                Err(_) => {
                    let _ = store.unlock("default", &by_id("a"));
                }
            }
            let left = match neighbour {
                "file" => owned("other", ""),
                "item" => owned("", "other"),
                _ => owned("", ""),
            };
            assert_eq!(owners(&fake), left, "{case}");
        }
    }
}

#[test]
fn whatever_request_of_a_release_fails_only_the_lock_that_is_meant_goes() {
    for by_token in [false, true] {
        for case in 0..(6 * KINDS) * (6 * KINDS) {
            let (first, second) = (case % (6 * KINDS), case / (6 * KINDS));
            let fake = Fake::default();
            let store = fake.open_with_table(true);
            let held = store.lock("default", info("a")).unwrap();
            for it in [first, second] {
                fake.fault(it / KINDS + 1, fault(it % KINDS));
            }
            let released = if by_token {
                store.unlock("default", &by(&held))
            } else {
                store.unlock("default", &by_id("a"))
            };
            fake.sent();
            let case = format!("{by_token} {first} {second}: {released:?}");
            match &released {
                Ok(()) => assert_eq!(owners(&fake), owned("", ""), "{case}"),
                // A page of a proxy's looks like an unreadable lock.
                Err(error) if error.code == ErrorCode::LockMismatch => {}
                Err(error) if error.outcome == Outcome::NotDone => {
                    assert_eq!(owners(&fake), owned("a", "a"), "{case}");
                }
                Err(_) => {
                    let _ = store.unlock("default", &by_id("a"));
                }
            }
            // Whoever comes next is not disturbed by a repetition.
            let _ = store.unlock("default", &by_id("a"));
            assert_eq!(owners(&fake), owned("", ""), "{case}");
            store.lock("default", info("b")).unwrap();
            store.unlock("default", &by(&held)).unwrap_err();
            assert_eq!(owners(&fake), owned("b", "b"), "{case}");
        }
    }
}

#[test]
fn contenders_with_lost_answers_never_hold_the_lock_together() {
    for combination in 0..KINDS.pow(4) {
        let fake = Fake::default();
        let mut winners = 0;
        for id in ["a", "b"] {
            for n in 0..4 {
                fake.fault(n + 1, fault(combination / KINDS.pow(n as u32) % KINDS));
            }
            if fake.open_with_table(true).lock("default", info(id)).is_ok() {
                winners += 1;
                assert_eq!(owners(&fake), owned(id, id));
            }
            fake.sent();
        }
        assert!(winners <= 1, "combination {combination}: {winners} winners");
    }
}
