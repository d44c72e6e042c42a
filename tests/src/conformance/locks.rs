//! Taking, showing and releasing locks: who gets one, what it costs, and that nobody's is lost.

use cofferdam::dev_store::Fault;
use cofferdam::{ErrorCode, HeldLock, LockInfo, UnlockBy};
use futures_util::future::join_all;
use serde_json::Value;

use super::{Fixture, KEY, LOCK, cases, info, record, refusal};

cases! { "locks":
    a_free_lock_is_taken_with_one_put,
    the_record_is_what_go_would_write,
    a_busy_lock_names_its_holder,
    the_same_id_takes_its_own_lock_again,
    a_held_lock_is_released_with_one_delete,
    a_held_lock_is_released_by_another_store,
    an_id_releases_the_lock_that_bears_it,
    another_id_releases_nothing,
    a_lock_that_is_gone_is_reported_at_the_unlock,
    a_lock_that_was_replaced_is_not_released,
    an_old_hold_does_not_release_a_new_lock_of_the_same_id,
    the_holder_of_a_free_lock_is_nobody,
    the_holder_of_a_busy_lock_is_shown_with_one_get,
    records_are_read_as_leniently_as_go_reads_them,
    an_unreadable_record_is_a_holder_without_a_name,
    an_unreadable_record_is_broken_by_its_token,
    a_token_breaks_no_other_lock,
    a_holder_that_vanishes_is_no_holder,
    a_conflict_is_no_verdict,
    one_of_many_gets_the_lock,
    locks_of_workspaces_are_apart,
    a_record_that_go_could_not_read_is_never_stored,
    without_a_lock_configured_there_is_none_to_take,
}

async fn a_free_lock_is_taken_with_one_put(fixture: Fixture) {
    let held = fixture.store.lock("default", &info("me")).await.unwrap();
    assert_eq!(held.id, "me");
    assert_eq!(fixture.seen(), [format!("PUT {LOCK} if-none-match 200")]);
    assert_eq!(fixture.object(LOCK), Some(record(&fixture.site, "me", KEY)));
}

async fn the_record_is_what_go_would_write(fixture: Fixture) {
    let asked = LockInfo {
        id: "me".to_owned(),
        operation: "a<b>&c".to_owned(),
        info: "\"tab\t\" \\ \u{1} \u{2028} \u{7f} /é".to_owned(),
        who: "@".to_owned(),
        version: String::new(),
        created: "2026-11-23T02:25:24.140000000+01:00".to_owned(),
        path: "what the caller says does not count".to_owned(),
    };
    fixture.store.lock("default", &asked).await.unwrap();
    let bucket = &fixture.site.bucket;
    let expected = format!(
        "{{\"ID\":\"me\",\"Operation\":\"a\\u003cb\\u003e\\u0026c\",\
         \"Info\":\"\\\"tab\\t\\\" \\\\ \\u0001 \\u2028 \u{7f} /é\",\"Who\":\"@\",\"Version\":\"\",\
         \"Created\":\"2026-11-23T01:25:24.14Z\",\"Path\":\"{bucket}/{KEY}\"}}"
    );
    assert_eq!(fixture.object(LOCK), Some(expected));
}

async fn a_busy_lock_names_its_holder(fixture: Fixture) {
    fixture.lock().await;
    fixture.forget();
    let result = fixture.store.lock("default", &info("me")).await;
    let error = refusal(&fixture.site, result, ErrorCode::Locked);
    assert_eq!(error.holders.len(), 1, "{error:?}");
    assert_eq!(error.holders[0].place, "s3");
    let holder = error.holders[0].info.clone().expect("a readable record");
    let path = format!("{}/{KEY}", fixture.site.bucket);
    assert_eq!(
        holder,
        LockInfo {
            path,
            ..info("the-holder")
        }
    );
    assert!(error.message.contains("the-holder"), "{error:?}");
    assert_eq!(error.fact("lock-id"), Some("the-holder"), "{error:?}");
    assert_eq!(
        fixture.seen(),
        [
            format!("PUT {LOCK} if-none-match 412"),
            format!("GET {LOCK} 200")
        ]
    );
    assert_eq!(
        fixture.object(LOCK),
        Some(record(&fixture.site, "the-holder", KEY))
    );
}

async fn the_same_id_takes_its_own_lock_again(fixture: Fixture) {
    fixture.lock().await;
    let again = fixture.lock().await;
    fixture
        .store
        .unlock("default", &UnlockBy::Held(again))
        .await
        .unwrap();
    assert_eq!(fixture.object(LOCK), None);
}

async fn a_held_lock_is_released_with_one_delete(fixture: Fixture) {
    let held = fixture.lock().await;
    fixture.forget();
    fixture
        .store
        .unlock("default", &UnlockBy::Held(held))
        .await
        .unwrap();
    assert_eq!(fixture.seen(), [format!("DELETE {LOCK} if-match 204")]);
    assert_eq!(fixture.object(LOCK), None);
}

async fn a_held_lock_is_released_by_another_store(fixture: Fixture) {
    let held = fixture.lock().await;
    let stored = HeldLock {
        id: held.id,
        token: held.token,
    };
    let another = fixture.open(|_| ()).await;
    another
        .unlock("default", &UnlockBy::Held(stored))
        .await
        .unwrap();
    assert_eq!(fixture.object(LOCK), None);
}

async fn an_id_releases_the_lock_that_bears_it(fixture: Fixture) {
    fixture.lock().await;
    fixture.forget();
    fixture
        .store
        .unlock("default", &UnlockBy::Id("the-holder".to_owned()))
        .await
        .unwrap();
    assert_eq!(
        fixture.seen(),
        [
            format!("GET {LOCK} 200"),
            format!("DELETE {LOCK} if-match 204")
        ]
    );
    assert_eq!(fixture.object(LOCK), None);
}

async fn another_id_releases_nothing(fixture: Fixture) {
    fixture.lock().await;
    let result = fixture
        .store
        .unlock("default", &UnlockBy::Id("another".to_owned()))
        .await;
    let error = refusal(&fixture.site, result, ErrorCode::LockMismatch);
    assert_eq!(
        error.holders[0]
            .info
            .as_ref()
            .map(|holder| holder.id.as_str()),
        Some("the-holder")
    );
    assert_eq!(
        fixture.object(LOCK),
        Some(record(&fixture.site, "the-holder", KEY))
    );
}

async fn a_lock_that_is_gone_is_reported_at_the_unlock(fixture: Fixture) {
    let held = fixture.lock().await;
    fixture.remove(LOCK);
    for by in [UnlockBy::Held(held), UnlockBy::Id("the-holder".to_owned())] {
        let result = fixture.store.unlock("default", &by).await;
        let error = refusal(&fixture.site, result, ErrorCode::LockMismatch);
        assert!(error.holders.is_empty(), "nobody holds it: {error:?}");
    }
}

async fn a_lock_that_was_replaced_is_not_released(fixture: Fixture) {
    let held = fixture.lock().await;
    let replaced = record(&fixture.site, "another", KEY);
    fixture.put(LOCK, replaced.clone());
    let result = fixture.store.unlock("default", &UnlockBy::Held(held)).await;
    let error = refusal(&fixture.site, result, ErrorCode::LockMismatch);
    assert_eq!(
        error.holders[0]
            .info
            .as_ref()
            .map(|holder| holder.id.as_str()),
        Some("another")
    );
    assert_eq!(fixture.object(LOCK), Some(replaced));
}

async fn an_old_hold_does_not_release_a_new_lock_of_the_same_id(fixture: Fixture) {
    let old = fixture.lock().await;
    fixture
        .store
        .unlock("default", &UnlockBy::Held(old.clone()))
        .await
        .unwrap();
    let later = LockInfo {
        created: "2026-11-23T02:00:00Z".to_owned(),
        ..info("the-holder")
    };
    fixture.store.lock("default", &later).await.unwrap();
    let stored = fixture.object(LOCK);
    assert_ne!(stored, None);
    // The id is the caller's and it is the same, so either answer is sound, if it is true.
    match fixture.store.unlock("default", &UnlockBy::Held(old)).await {
        Ok(()) => assert_eq!(fixture.object(LOCK), None),
        Err(error) => {
            assert_eq!(error.code(), Some(ErrorCode::LockMismatch));
            assert_eq!(fixture.object(LOCK), stored);
        }
    }
}

async fn the_holder_of_a_free_lock_is_nobody(fixture: Fixture) {
    assert_eq!(fixture.store.holders("default").await.unwrap(), []);
    assert_eq!(fixture.seen(), [format!("GET {LOCK} 404")]);
}

async fn the_holder_of_a_busy_lock_is_shown_with_one_get(fixture: Fixture) {
    fixture.lock().await;
    fixture.forget();
    let holders = fixture.store.holders("default").await.unwrap();
    assert_eq!(holders.len(), 1);
    assert_eq!(
        holders[0].info.as_ref().map(|holder| holder.id.as_str()),
        Some("the-holder")
    );
    assert_eq!(fixture.seen(), [format!("GET {LOCK} 200")]);
    let token = holders[0].token.clone();
    fixture
        .store
        .unlock("default", &UnlockBy::Token(token))
        .await
        .unwrap();
    assert_eq!(fixture.object(LOCK), None);
}

async fn records_are_read_as_leniently_as_go_reads_them(fixture: Fixture) {
    fixture.put(
        LOCK,
        r#"{"id": "me", "WHO": "you@there", "Extra": [1, {"a": null}]}"#,
    );
    let holders = fixture.store.holders("default").await.unwrap();
    let holder = holders[0].info.as_ref().expect("a readable record");
    assert_eq!(
        (holder.id.as_str(), holder.who.as_str()),
        ("me", "you@there")
    );
    fixture
        .store
        .unlock("default", &UnlockBy::Id("me".to_owned()))
        .await
        .unwrap();
    assert_eq!(fixture.object(LOCK), None);
}

async fn an_unreadable_record_is_a_holder_without_a_name(fixture: Fixture) {
    for text in ["", "not JSON", "[]", "{\"ID\": 5}", "{\"ID\": \"cut"] {
        fixture.put(LOCK, text.to_owned());
        let result = fixture.store.lock("default", &info("me")).await;
        let error = refusal(&fixture.site, result, ErrorCode::Locked);
        assert_eq!(error.holders.len(), 1, "{text}: {error:?}");
        assert_eq!(error.holders[0].info, None, "{text}: {error:?}");
        assert_eq!(
            fixture.object(LOCK).as_deref(),
            Some(text),
            "the record was touched"
        );
    }
}

async fn an_unreadable_record_is_broken_by_its_token(fixture: Fixture) {
    fixture.put(LOCK, "not JSON");
    let result = fixture.store.lock("default", &info("me")).await;
    let error = refusal(&fixture.site, result, ErrorCode::Locked);
    let token = error.holders[0].token.clone();
    fixture
        .store
        .unlock("default", &UnlockBy::Token(token))
        .await
        .unwrap();
    assert_eq!(fixture.object(LOCK), None);
}

async fn a_token_breaks_no_other_lock(fixture: Fixture) {
    fixture.put(LOCK, "not JSON");
    let token = fixture.store.holders("default").await.unwrap()[0]
        .token
        .clone();
    let another = record(&fixture.site, "another", KEY);
    fixture.put(LOCK, another.clone());
    let result = fixture
        .store
        .unlock("default", &UnlockBy::Token(token))
        .await;
    refusal(&fixture.site, result, ErrorCode::LockMismatch);
    assert_eq!(fixture.object(LOCK), Some(another));
}

async fn a_holder_that_vanishes_is_no_holder(fixture: Fixture) {
    let refused = Fault::Status {
        status: 412,
        code: "PreconditionFailed".into(),
    };
    fixture.fail_once("PutObject", LOCK, refused);
    fixture.store.lock("default", &info("me")).await.unwrap();
    assert_eq!(
        fixture.seen(),
        [
            format!("PUT {LOCK} if-none-match 412"),
            format!("GET {LOCK} 404"),
            format!("PUT {LOCK} if-none-match 200"),
        ]
    );
}

async fn a_conflict_is_no_verdict(fixture: Fixture) {
    let conflict = Fault::Status {
        status: 409,
        code: "ConditionalRequestConflict".into(),
    };
    fixture.fail_once("PutObject", LOCK, conflict);
    let held = fixture.store.lock("default", &info("me")).await.unwrap();
    let conflict = Fault::Status {
        status: 409,
        code: "ConditionalRequestConflict".into(),
    };
    fixture.fail_once("DeleteObject", LOCK, conflict);
    fixture
        .store
        .unlock("default", &UnlockBy::Held(held))
        .await
        .unwrap();
    assert_eq!(fixture.object(LOCK), None);
}

async fn one_of_many_gets_the_lock(fixture: Fixture) {
    let infos: Vec<LockInfo> = (0..12)
        .map(|number| info(&format!("contender-{number}")))
        .collect();
    let results = join_all(infos.iter().map(|info| fixture.store.lock("default", info))).await;
    let winners: Vec<&HeldLock> = results.iter().flatten().collect();
    assert_eq!(winners.len(), 1, "{results:?}");
    assert_eq!(
        fixture.object(LOCK),
        Some(record(&fixture.site, &winners[0].id, KEY))
    );
    for result in &results {
        if let Err(error) = result {
            assert_eq!(error.code(), Some(ErrorCode::Locked), "{error:?}");
        }
    }
}

async fn locks_of_workspaces_are_apart(fixture: Fixture) {
    fixture.lock().await;
    fixture.store.lock("dev", &info("me")).await.unwrap();
    let stored = fixture.object(&format!("env:/dev/{KEY}.tflock"));
    assert_eq!(
        stored,
        Some(record(&fixture.site, "me", &format!("env:/dev/{KEY}")))
    );
}

async fn a_record_that_go_could_not_read_is_never_stored(fixture: Fixture) {
    let bad = [
        LockInfo {
            created: String::new(),
            ..info("me")
        },
        LockInfo {
            created: "yesterday".to_owned(),
            ..info("me")
        },
        LockInfo {
            created: "2026-02-30T00:00:00Z".to_owned(),
            ..info("me")
        },
        info(""),
    ];
    for info in bad {
        let result = fixture.store.lock("default", &info).await;
        refusal(&fixture.site, result, ErrorCode::InvalidArgument);
    }
    assert_eq!(fixture.seen(), Vec::<String>::new());
}

async fn without_a_lock_configured_there_is_none_to_take(fixture: Fixture) {
    let store = fixture
        .open(|block| block["use_lockfile"] = Value::Bool(false))
        .await;
    let locked = store.lock("default", &info("me")).await;
    refusal(&fixture.site, locked, ErrorCode::Unsupported);
    let unlocked = store
        .unlock("default", &UnlockBy::Id("me".to_owned()))
        .await;
    refusal(&fixture.site, unlocked, ErrorCode::Unsupported);
    let held = store.holders("default").await;
    refusal(&fixture.site, held, ErrorCode::Unsupported);
    assert_eq!(fixture.seen(), Vec::<String>::new());
}
