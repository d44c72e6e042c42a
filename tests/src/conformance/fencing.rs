//! No write overwrites what its writer has not seen, whatever became of the lock.

use bytes::Bytes;
use cofferdam::dev_store::Fault;
use cofferdam::{
    DeleteOptions, ErrorCode, Expectation, Fence, HeldLock, Outcome, Reading, Revision, Severity,
    WriteOptions,
};
use futures_util::future::join_all;

use super::{Fixture, KEY, LOCK, cases, record, refusal, write};

cases! { "fencing":
    a_stale_revision_overwrites_nothing,
    a_refusal_tells_both_serials_and_lineages,
    a_state_that_exists_is_not_created_again,
    one_of_many_creates_the_state,
    one_of_many_replaces_the_state,
    a_state_that_was_deleted_is_not_brought_back,
    a_stale_revision_deletes_nothing,
    a_state_that_should_not_be_there_is_not_deleted,
    a_forced_write_needs_no_revision,
    a_conflict_is_retried_under_the_same_condition,
    a_young_lock_costs_no_request,
    an_old_lock_is_looked_at_before_the_write: moves_time,
    a_write_under_a_lock_that_is_gone_fails: moves_time,
    a_write_under_a_lock_of_somebody_else_fails: moves_time,
    a_delete_under_a_lock_that_is_gone_fails: moves_time,
    a_token_that_is_not_ours_is_refused,
    a_store_without_conditions_stores_nothing,
    a_store_without_conditions_is_used_when_allowed_and_warns_each_time,
}

async fn a_stale_revision_overwrites_nothing(fixture: Fixture) {
    let stale = fixture.store_state("one").await;
    fixture.store_state("two").await;
    let result = write(
        &*fixture.store,
        "default",
        "three",
        Expectation::Revision(stale),
    )
    .await;
    let error = refusal(&fixture.site, result, ErrorCode::StateChanged);
    assert_eq!(error.outcome, Outcome::NotDone);
    assert!(
        !error.retryable,
        "the same write can never succeed: {error:?}"
    );
    assert_eq!(fixture.object(KEY).as_deref(), Some("two"));
}

async fn a_refusal_tells_both_serials_and_lineages(fixture: Fixture) {
    let stale = fixture
        .store_state(r#"{"version": 4, "serial": 1, "lineage": "aa"}"#)
        .await;
    fixture
        .store_state(r#"{"version": 4, "serial": 2, "lineage": "aa", "secret": "cofferdam+canary/state+5e7a"}"#)
        .await;
    let mine =
        r#"{"version": 4, "serial": 7, "lineage": "bb", "secret": "cofferdam+canary/state+5e7a"}"#;
    let result = write(
        &*fixture.store,
        "default",
        mine,
        Expectation::Revision(stale),
    )
    .await;
    let error = refusal(&fixture.site, result, ErrorCode::StateChanged);
    assert_eq!(error.fact("stored-serial"), Some("2"), "{error:?}");
    assert_eq!(error.fact("stored-lineage"), Some("aa"), "{error:?}");
    assert_eq!(error.fact("written-serial"), Some("7"), "{error:?}");
    assert_eq!(error.fact("written-lineage"), Some("bb"), "{error:?}");
    let text = format!("{error:?} {error}");
    assert!(
        !text.contains("canary"),
        "the error shows state bytes: {text}"
    );
}

async fn a_state_that_exists_is_not_created_again(fixture: Fixture) {
    fixture.put(KEY, "one");
    let result = write(&*fixture.store, "default", "two", Expectation::Absent).await;
    refusal(&fixture.site, result, ErrorCode::StateChanged);
    assert_eq!(fixture.object(KEY).as_deref(), Some("one"));
}

async fn one_of_many_creates_the_state(fixture: Fixture) {
    one_of_many(&fixture, Expectation::Absent).await;
}

async fn one_of_many_replaces_the_state(fixture: Fixture) {
    let revision = fixture.store_state("one").await;
    one_of_many(&fixture, Expectation::Revision(revision)).await;
}

async fn one_of_many(fixture: &Fixture, expect: Expectation) {
    let before = fixture.server.history(KEY).len();
    let texts: Vec<String> = (0..12)
        .map(|number| format!("by writer {number}"))
        .collect();
    let writes = texts
        .iter()
        .map(|text| write(&*fixture.store, "default", text, expect.clone()));
    let results = join_all(writes).await;
    let winners: Vec<&String> = texts
        .iter()
        .zip(&results)
        .filter(|(_, result)| result.is_ok())
        .map(|(text, _)| text)
        .collect();
    assert_eq!(winners.len(), 1, "{results:?}");
    assert_eq!(fixture.object(KEY).as_ref(), Some(winners[0]));
    assert_eq!(
        fixture.server.history(KEY).len(),
        before + 1,
        "something was overwritten"
    );
}

async fn a_state_that_was_deleted_is_not_brought_back(fixture: Fixture) {
    let revision = fixture.store_state("one").await;
    fixture.remove(KEY);
    let result = write(
        &*fixture.store,
        "default",
        "two",
        Expectation::Revision(revision),
    )
    .await;
    refusal(&fixture.site, result, ErrorCode::StateChanged);
    assert_eq!(fixture.object(KEY), None);
}

async fn a_stale_revision_deletes_nothing(fixture: Fixture) {
    let stale = write(&*fixture.store, "dev", "one", Expectation::Absent)
        .await
        .unwrap();
    fixture.put(&format!("env:/dev/{KEY}"), "two");
    let options = DeleteOptions {
        expect: Expectation::Revision(stale),
        lock: None,
    };
    let result = fixture.store.delete("dev", &options).await;
    refusal(&fixture.site, result, ErrorCode::StateChanged);
    assert_eq!(
        fixture.object(&format!("env:/dev/{KEY}")).as_deref(),
        Some("two")
    );
}

async fn a_state_that_should_not_be_there_is_not_deleted(fixture: Fixture) {
    write(&*fixture.store, "dev", "one", Expectation::Absent)
        .await
        .unwrap();
    let options = DeleteOptions {
        expect: Expectation::Absent,
        lock: None,
    };
    refusal(
        &fixture.site,
        fixture.store.delete("dev", &options).await,
        ErrorCode::StateChanged,
    );
    assert_eq!(
        fixture.object(&format!("env:/dev/{KEY}")).as_deref(),
        Some("one")
    );
}

async fn a_forced_write_needs_no_revision(fixture: Fixture) {
    fixture.put(KEY, "one");
    write(&*fixture.store, "default", "two", Expectation::Anything)
        .await
        .unwrap();
    assert_eq!(fixture.object(KEY).as_deref(), Some("two"));
    assert_eq!(fixture.seen(), [format!("PUT {KEY} 200")]);
}

async fn a_conflict_is_retried_under_the_same_condition(fixture: Fixture) {
    let revision = fixture.store_state("one").await;
    let conflict = Fault::Status {
        status: 409,
        code: "ConditionalRequestConflict".into(),
    };
    fixture.fail_once("PutObject", KEY, conflict);
    write(
        &*fixture.store,
        "default",
        "two",
        Expectation::Revision(revision),
    )
    .await
    .unwrap();
    assert_eq!(fixture.object(KEY).as_deref(), Some("two"));
    let unconditional = format!("PUT {KEY} 200");
    assert!(
        !fixture.seen().contains(&unconditional),
        "the retry dropped the condition"
    );
}

async fn a_young_lock_costs_no_request(fixture: Fixture) {
    let held = fixture.lock().await;
    fixture.forget();
    write_under(&fixture, held, Expectation::Absent)
        .await
        .unwrap();
    assert_eq!(fixture.seen(), [format!("PUT {KEY} if-none-match 200")]);
}

async fn an_old_lock_is_looked_at_before_the_write(fixture: Fixture) {
    let held = fixture.lock().await;
    fixture.forget();
    fixture.pass_time(11);
    write_under(&fixture, held, Expectation::Absent)
        .await
        .unwrap();
    assert_eq!(
        fixture.seen(),
        [
            format!("GET {LOCK} 200"),
            format!("PUT {KEY} if-none-match 200")
        ]
    );
}

async fn a_write_under_a_lock_that_is_gone_fails(fixture: Fixture) {
    let held = fixture.lock().await;
    fixture.remove(LOCK);
    fixture.pass_time(11);
    let error = refusal(
        &fixture.site,
        write_under(&fixture, held, Expectation::Absent).await,
        ErrorCode::LockMismatch,
    );
    assert!(error.holders.is_empty(), "{error:?}");
    assert_eq!(error.outcome, Outcome::NotDone);
    assert_eq!(fixture.object(KEY), None);
}

async fn a_write_under_a_lock_of_somebody_else_fails(fixture: Fixture) {
    let held = fixture.lock().await;
    fixture.put(LOCK, record(&fixture.site, "another", KEY));
    fixture.pass_time(11);
    for expect in [Expectation::Absent, Expectation::Anything] {
        let result = write_under(&fixture, held.clone(), expect).await;
        let error = refusal(&fixture.site, result, ErrorCode::LockMismatch);
        let holder = error.holders[0]
            .info
            .as_ref()
            .map(|holder| holder.id.as_str());
        assert_eq!(holder, Some("another"), "{error:?}");
        assert_eq!(fixture.object(KEY), None);
    }
}

async fn a_delete_under_a_lock_that_is_gone_fails(fixture: Fixture) {
    let revision = write(&*fixture.store, "dev", "one", Expectation::Absent)
        .await
        .unwrap();
    let held = fixture.store.lock("dev", &super::info("me")).await.unwrap();
    fixture.remove(&format!("env:/dev/{KEY}.tflock"));
    fixture.pass_time(11);
    let options = DeleteOptions {
        expect: Expectation::Revision(revision),
        lock: Some(held),
    };
    refusal(
        &fixture.site,
        fixture.store.delete("dev", &options).await,
        ErrorCode::LockMismatch,
    );
    assert_eq!(
        fixture.object(&format!("env:/dev/{KEY}")).as_deref(),
        Some("one")
    );
}

async fn a_token_that_is_not_ours_is_refused(fixture: Fixture) {
    for token in ["", "nonsense", "{}", "\u{0}"] {
        let held = HeldLock {
            id: "me".to_owned(),
            token: token.to_owned(),
        };
        let result = write_under(&fixture, held, Expectation::Absent).await;
        let code = result.as_ref().err().and_then(cofferdam::Error::code);
        assert!(
            matches!(
                code,
                Some(ErrorCode::InvalidArgument | ErrorCode::LockMismatch)
            ),
            "{token:?}: {result:?}"
        );
        assert_eq!(fixture.object(KEY), None);
    }
}

async fn a_store_without_conditions_stores_nothing(fixture: Fixture) {
    fixture.fail("PutObject", KEY, u32::MAX, Fault::RefuseConditions);
    let result = write(&*fixture.store, "default", "one", Expectation::Absent).await;
    let error = refusal(&fixture.site, result, ErrorCode::Unsupported);
    assert_eq!(error.outcome, Outcome::NotDone);
    assert_eq!(fixture.object(KEY), None);
}

async fn a_store_without_conditions_is_used_when_allowed_and_warns_each_time(fixture: Fixture) {
    let store = fixture
        .open_with(|opening| opening.fence = Fence::WhenSupported)
        .await;
    fixture.fail("PutObject", KEY, u32::MAX, Fault::RefuseConditions);
    fixture.warnings.take();
    let first = write(&*store, "default", "one", Expectation::Absent)
        .await
        .unwrap();
    assert_one_warning(&fixture);
    write(
        &*store,
        "default",
        "two",
        Expectation::Revision(first.clone()),
    )
    .await
    .unwrap();
    assert_one_warning(&fixture);
    assert_eq!(fixture.object(KEY).as_deref(), Some("two"));

    // What can be seen without conditions is still seen: somebody else's state stays.
    let result = write(&*store, "default", "three", Expectation::Revision(first)).await;
    refusal(&fixture.site, result, ErrorCode::StateChanged);
    assert_eq!(fixture.object(KEY).as_deref(), Some("two"));
    let Reading::State(state) = store.read("default", None).await.unwrap() else {
        panic!("there is a state");
    };
    assert_eq!(state.bytes, "two");
}

fn assert_one_warning(fixture: &Fixture) {
    let warnings = fixture.warnings.take();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(warnings[0].severity, Severity::Warning);
}

async fn write_under(
    fixture: &Fixture,
    held: HeldLock,
    expect: Expectation,
) -> Result<Revision, cofferdam::Error> {
    let options = WriteOptions {
        expect,
        lock: Some(held),
    };
    fixture
        .store
        .write("default", Bytes::from_static(b"written"), &options)
        .await
}
