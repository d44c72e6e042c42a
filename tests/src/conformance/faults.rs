//! What a network and a store do to a request, and what the caller learns of it.
//!
//! The rule behind every case: a call that says it succeeded has, one that says it did not has not, and
//! what cannot be known is called unknown.

use bytes::Bytes;
use cofferdam::dev_store::Fault;
use cofferdam::{DeleteOptions, ErrorCode, Expectation, Outcome, UnlockBy, WriteOptions};

use super::{Fixture, KEY, LOCK, cases, info, record, refusal, write};

cases! { "faults":
    a_created_state_whose_answer_is_lost_is_recognised,
    a_replaced_state_whose_answer_is_lost_is_recognised,
    a_forced_write_whose_answer_is_lost_succeeds,
    a_write_whose_answers_and_reads_are_all_lost_is_unknown,
    a_lock_whose_answer_is_lost_is_recognised,
    an_unlock_whose_answer_is_lost_succeeds,
    a_delete_whose_answer_is_lost_succeeds,
    a_busy_store_is_asked_again,
    a_store_that_stays_busy_is_given_up_after_max_retries,
    a_reset_connection_is_replaced,
    a_slow_answer_is_read_to_its_end,
    a_cut_answer_is_never_taken_for_the_state,
    an_answer_that_stays_cut_is_an_error,
    an_error_in_no_known_form_is_an_error,
    a_list_that_is_no_xml_is_an_error,
    a_wrong_clock_is_corrected_by_the_stores,
    a_lock_deleted_midway_is_reported,
    a_lock_replaced_midway_is_left_to_its_holder,
    a_state_replaced_midway_is_not_overwritten,
}

async fn a_created_state_whose_answer_is_lost_is_recognised(fixture: Fixture) {
    fixture.fail_once("PutObject", KEY, Fault::LoseAnswer);
    let revision = write(&*fixture.store, "default", "one", Expectation::Absent)
        .await
        .unwrap();
    assert_stored_once(&fixture, "one");
    write(
        &*fixture.store,
        "default",
        "two",
        Expectation::Revision(revision),
    )
    .await
    .unwrap();
}

async fn a_replaced_state_whose_answer_is_lost_is_recognised(fixture: Fixture) {
    let first = fixture.store_state("one").await;
    fixture.fail_once("PutObject", KEY, Fault::LoseAnswer);
    let revision = write(
        &*fixture.store,
        "default",
        "two",
        Expectation::Revision(first),
    )
    .await
    .unwrap();
    assert_stored_once(&fixture, "two");
    write(
        &*fixture.store,
        "default",
        "three",
        Expectation::Revision(revision),
    )
    .await
    .unwrap();
}

async fn a_forced_write_whose_answer_is_lost_succeeds(fixture: Fixture) {
    fixture.store_state("one").await;
    fixture.fail_once("PutObject", KEY, Fault::LoseAnswer);
    let revision = write(&*fixture.store, "default", "two", Expectation::Anything)
        .await
        .unwrap();
    assert_eq!(fixture.read().await.expect("a state").revision, revision);
    assert_eq!(fixture.object(KEY).as_deref(), Some("two"));
}

async fn a_write_whose_answers_and_reads_are_all_lost_is_unknown(fixture: Fixture) {
    let store = fixture.open(|block| block["max_retries"] = 2.into()).await;
    fixture.fail("PutObject", KEY, u32::MAX, Fault::LoseAnswer);
    fixture.fail("GetObject", KEY, u32::MAX, Fault::Reset);
    fixture.fail("HeadObject", KEY, u32::MAX, Fault::Reset);
    let error = write(&*store, "default", "one", Expectation::Absent)
        .await
        .expect_err("it fails");
    assert_eq!(
        error.outcome(),
        Outcome::Unknown,
        "the state is stored: {error:?}"
    );
    assert_eq!(fixture.object(KEY).as_deref(), Some("one"));
}

async fn a_lock_whose_answer_is_lost_is_recognised(fixture: Fixture) {
    fixture.fail_once("PutObject", LOCK, Fault::LoseAnswer);
    let held = fixture.store.lock("default", &info("me")).await.unwrap();
    assert_eq!(fixture.object(LOCK), Some(record(&fixture.site, "me", KEY)));
    fixture
        .store
        .unlock("default", &UnlockBy::Held(held))
        .await
        .unwrap();
    assert_eq!(fixture.object(LOCK), None);
}

async fn an_unlock_whose_answer_is_lost_succeeds(fixture: Fixture) {
    let held = fixture.lock().await;
    fixture.fail_once("DeleteObject", LOCK, Fault::LoseAnswer);
    fixture
        .store
        .unlock("default", &UnlockBy::Held(held))
        .await
        .unwrap();
    assert_eq!(fixture.object(LOCK), None);

    fixture.lock().await;
    fixture.fail_once("DeleteObject", LOCK, Fault::LoseAnswer);
    fixture
        .store
        .unlock("default", &UnlockBy::Id("the-holder".to_owned()))
        .await
        .unwrap();
    assert_eq!(fixture.object(LOCK), None);
}

async fn a_delete_whose_answer_is_lost_succeeds(fixture: Fixture) {
    let revision = write(&*fixture.store, "dev", "one", Expectation::Absent)
        .await
        .unwrap();
    fixture.fail_once("DeleteObject", KEY, Fault::LoseAnswer);
    let options = DeleteOptions {
        expect: Expectation::Revision(revision),
        lock: None,
    };
    fixture.store.delete("dev", &options).await.unwrap();
    assert_eq!(fixture.object(&format!("env:/dev/{KEY}")), None);
}

async fn a_busy_store_is_asked_again(fixture: Fixture) {
    let busy = || Fault::Status {
        status: 503,
        code: "SlowDown".into(),
    };
    fixture.fail_once("PutObject", LOCK, busy());
    let held = fixture.store.lock("default", &info("me")).await.unwrap();
    fixture.fail_once("PutObject", KEY, busy());
    let revision = write(&*fixture.store, "default", "one", Expectation::Absent)
        .await
        .unwrap();
    fixture.fail_once("GetObject", KEY, busy());
    assert_eq!(fixture.read().await.expect("a state").revision, revision);
    fixture.fail_once("DeleteObject", LOCK, busy());
    fixture
        .store
        .unlock("default", &UnlockBy::Held(held))
        .await
        .unwrap();
    assert_eq!(fixture.object(LOCK), None);
    assert_stored_once(&fixture, "one");
}

async fn a_store_that_stays_busy_is_given_up_after_max_retries(fixture: Fixture) {
    let store = fixture.open(|block| block["max_retries"] = 2.into()).await;
    fixture.fail(
        "GetObject",
        KEY,
        u32::MAX,
        Fault::Status {
            status: 503,
            code: "SlowDown".into(),
        },
    );
    let error = refusal(
        &fixture.site,
        store.read("default", None).await,
        ErrorCode::Throttled,
    );
    assert!(error.retryable, "{error:?}");
    assert_eq!(error.outcome, Outcome::NotDone, "{error:?}");
    assert_eq!(error.fact("attempts"), Some("2"), "{error:?}");
    assert_eq!(
        fixture.seen(),
        [format!("GET {KEY} 503"), format!("GET {KEY} 503")]
    );
}

async fn a_reset_connection_is_replaced(fixture: Fixture) {
    fixture.fail_once("PutObject", KEY, Fault::Reset);
    write(&*fixture.store, "default", "one", Expectation::Absent)
        .await
        .unwrap();
    assert_stored_once(&fixture, "one");
    fixture.fail_once("GetObject", KEY, Fault::Reset);
    assert_eq!(fixture.read().await.expect("a state").bytes, "one");
}

async fn a_slow_answer_is_read_to_its_end(fixture: Fixture) {
    let bytes: Bytes = vec![7; 300_000].into();
    fixture.put(KEY, bytes.clone());
    fixture.fail_once("GetObject", KEY, Fault::SlowBody { pause_ms: 5 });
    assert!(
        fixture.read().await.expect("a state").bytes == bytes,
        "the bytes differ"
    );
}

async fn a_cut_answer_is_never_taken_for_the_state(fixture: Fixture) {
    let text = "0123456789".repeat(1000);
    fixture.put(KEY, text.clone());
    for after in [0, 1, 5000, 9999] {
        fixture.fail_once("GetObject", KEY, Fault::TruncateBody { after });
        assert_eq!(
            fixture.read().await.expect("a state").bytes,
            text,
            "cut after {after}"
        );
    }
}

async fn an_answer_that_stays_cut_is_an_error(fixture: Fixture) {
    let store = fixture.open(|block| block["max_retries"] = 1.into()).await;
    fixture.put(KEY, "0123456789");
    fixture.fail("GetObject", KEY, u32::MAX, Fault::TruncateBody { after: 5 });
    let error = store
        .read("default", None)
        .await
        .expect_err("half a state is no state");
    assert!(error.is_retryable(), "{error:?}");
    assert!(
        !format!("{error:?} {error}").contains("01234"),
        "the error shows state bytes: {error:?}"
    );
}

async fn an_error_in_no_known_form_is_an_error(fixture: Fixture) {
    let store = fixture.open(|block| block["max_retries"] = 1.into()).await;
    fixture.store_state("one").await;
    fixture.fail("PutObject", KEY, u32::MAX, Fault::Garbage);
    let written = write(&*store, "default", "two", Expectation::Anything).await;
    assert!(written.expect_err("nothing was written").store().is_some());
    assert_eq!(fixture.object(KEY).as_deref(), Some("one"));
    fixture.fail("PutObject", LOCK, u32::MAX, Fault::Garbage);
    let locked = store.lock("default", &info("me")).await;
    assert!(locked.expect_err("nothing was locked").store().is_some());
}

async fn a_list_that_is_no_xml_is_an_error(fixture: Fixture) {
    let store = fixture.open(|block| block["max_retries"] = 1.into()).await;
    fixture.server.inject(cofferdam::dev_store::FaultRule {
        operation: Some("ListObjectsV2".to_owned()),
        key_ends_with: None,
        skip: 0,
        times: u32::MAX,
        fault: Fault::Garbage,
    });
    let error = store.workspaces().await.expect_err("nothing was listed");
    assert!(
        error.store().is_some(),
        "an error of the backend was expected, not {error:?}"
    );
}

async fn a_wrong_clock_is_corrected_by_the_stores(fixture: Fixture) {
    for seconds in [3600, -3600] {
        fixture.server.inject(cofferdam::dev_store::FaultRule {
            operation: None,
            key_ends_with: None,
            skip: 0,
            times: u32::MAX,
            fault: Fault::SkewClock { seconds },
        });
        let store = fixture.open(|_| ()).await;
        write(&*store, "default", "one", Expectation::Anything)
            .await
            .unwrap();
        assert_eq!(fixture.object(KEY).as_deref(), Some("one"));
        fixture.forget();
        store.read("default", None).await.unwrap();
        store.read("default", None).await.unwrap();
        let seen = fixture.seen();
        assert!(
            seen.len() <= 3,
            "the correction is not remembered: {seen:?}"
        );
        fixture.server.clear_faults();
        fixture.remove(KEY);
    }
}

async fn a_lock_deleted_midway_is_reported(fixture: Fixture) {
    fixture.store_state("one").await;
    let held = fixture.lock().await;
    fixture.fail_once(
        "GetObject",
        KEY,
        Fault::DeleteObject {
            key: LOCK.to_owned(),
        },
    );
    let state = fixture.read().await.expect("a state");
    assert_eq!(fixture.object(LOCK), None, "the fault was not injected");

    // The fence holds, so the write may go through; that the lock is lost is said at the latest here.
    let options = WriteOptions {
        expect: Expectation::Revision(state.revision),
        lock: Some(held.clone()),
    };
    let written = fixture.store.write("default", "two".into(), &options).await;
    let unlocked = fixture.store.unlock("default", &UnlockBy::Held(held)).await;
    refusal(&fixture.site, unlocked, ErrorCode::LockMismatch);
    let expected = if written.is_ok() { "two" } else { "one" };
    assert_eq!(fixture.object(KEY).as_deref(), Some(expected));
}

async fn a_lock_replaced_midway_is_left_to_its_holder(fixture: Fixture) {
    fixture.store_state("one").await;
    let held = fixture.lock().await;
    let another = record(&fixture.site, "another", KEY);
    let replace = Fault::ReplaceObject {
        key: LOCK.to_owned(),
        body: another.clone().into(),
    };
    fixture.fail_once("GetObject", KEY, replace);
    fixture.read().await.expect("a state");
    let unlocked = fixture.store.unlock("default", &UnlockBy::Held(held)).await;
    let error = refusal(&fixture.site, unlocked, ErrorCode::LockMismatch);
    assert_eq!(
        error.holders[0]
            .info
            .as_ref()
            .map(|holder| holder.id.as_str()),
        Some("another")
    );
    assert_eq!(fixture.object(LOCK), Some(another));
}

async fn a_state_replaced_midway_is_not_overwritten(fixture: Fixture) {
    fixture.store_state("one").await;
    let held = fixture.lock().await;
    let state = fixture.read().await.expect("a state");
    let replace = Fault::ReplaceObject {
        key: KEY.to_owned(),
        body: "by another".into(),
    };
    fixture.fail_once("PutObject", KEY, replace);
    let options = WriteOptions {
        expect: Expectation::Revision(state.revision),
        lock: Some(held),
    };
    let result = fixture.store.write("default", "two".into(), &options).await;
    refusal(&fixture.site, result, ErrorCode::StateChanged);
    assert_eq!(fixture.object(KEY).as_deref(), Some("by another"));
}

/// The state holds this text, and no generation of it was stored twice.
fn assert_stored_once(fixture: &Fixture, text: &str) {
    assert_eq!(fixture.object(KEY).as_deref(), Some(text));
    let generations = fixture.server.history(KEY);
    let same = generations
        .iter()
        .filter(|generation| generation.body.as_deref() == Some(text.as_bytes()))
        .count();
    assert_eq!(same, 1, "{text:?} was stored {same} times");
}
