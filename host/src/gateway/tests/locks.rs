//! Taking and releasing locks.

use super::{Bench, Gateway, fake::FakeStore, holder_of, info, lock_body};
use crate::ErrorCode;

#[tokio::test]
async fn locking_twice_under_the_same_id_succeeds() {
    let bench = Bench::new().await;
    assert_eq!(bench.lock("w", "a").await.status, 200);
    assert_eq!(bench.lock("w", "a").await.status, 200);
    assert_eq!(bench.store.lock_id("w").as_deref(), Some("a"));
}

#[tokio::test]
async fn a_lock_whose_answer_was_lost_is_taken_by_the_repetition() {
    let bench = Bench::new().await;
    bench.store.fail("lock", true, ErrorCode::TimedOut);
    let first = bench.lock("w", "a").await;
    assert_eq!(first.status, 503);
    assert!(first.headers.contains_key("retry-after"));
    assert_eq!(bench.lock("w", "a").await.status, 200);
}

#[tokio::test]
async fn the_second_locker_is_told_who_holds_the_lock() {
    let bench = Bench::new().await;
    bench.lock("w", "a").await;
    let reply = bench.lock("w", "b").await;
    assert_eq!(reply.status, 423);
    assert_eq!(reply.headers["content-type"], "application/json");
    let holder = holder_of(&reply);
    assert_eq!(
        (holder.id.as_str(), holder.path.as_str()),
        ("a", "bucket/w")
    );
    assert_eq!(
        bench.lock("other", "b").await.status,
        200,
        "another workspace has its own lock"
    );
}

#[tokio::test]
async fn a_holder_that_cannot_be_read_has_an_id_all_the_same() {
    let bench = Bench::new().await;
    bench.store.replace_lock("w", Some(None));
    let reply = bench.lock("w", "a").await;
    assert_eq!(reply.status, 423);
    let holder = holder_of(&reply);
    assert_eq!(holder.id, "unreadable");
    assert!(holder.info.contains("s3 cannot be read"), "{}", holder.info);
}

#[tokio::test]
async fn of_two_places_the_holder_that_can_be_read_is_told() {
    let bench = Bench::new().await;
    bench.store.replace_lock("w", Some(None));
    bench.store.lock_elsewhere("w", info("b"));
    let reply = bench.ask("POST", "w?ID=a", "{}").await;
    assert_eq!(reply.status, 423);
    assert_eq!(holder_of(&reply).id, "b");
}

#[tokio::test]
async fn where_locks_are_not_safe_none_is_taken_and_all_else_goes_on() {
    let reason = "two writers would win";
    let refusing = |gateway: Gateway| gateway.refuse_locks(Some(reason.to_owned()));
    let bench = Bench::with(FakeStore::default(), refusing).await;
    let reply = bench.lock("w", "a").await;
    assert_eq!((reply.status, reply.text.trim()), (422, reason));
    assert_eq!(bench.store.lock_id("w"), None);
    assert_eq!(bench.store.take_log(), Vec::<String>::new());
    bench.store.force("w", b"{}");
    assert_eq!(bench.get("w").await.status, 200);
    bench.store.replace_lock("w", Some(Some(info("b"))));
    assert_eq!(bench.unlock("w", "b").await.status, 200);
}

#[tokio::test]
async fn unlocking_succeeds_for_the_holder_and_when_no_lock_is_held() {
    let bench = Bench::new().await;
    bench.lock("w", "a").await;
    assert_eq!(bench.unlock("w", "a").await.status, 200);
    assert_eq!(bench.store.lock_id("w"), None);
    assert_eq!(
        bench.unlock("w", "a").await.status,
        200,
        "the answer to the first may have been lost"
    );
}

#[tokio::test]
async fn an_unlock_whose_answer_was_lost_succeeds_when_repeated() {
    let bench = Bench::new().await;
    bench.lock("w", "a").await;
    bench.store.fail("unlock", true, ErrorCode::Unreachable);
    assert_eq!(bench.unlock("w", "a").await.status, 503);
    assert_eq!(bench.unlock("w", "a").await.status, 200);
}

#[tokio::test]
async fn nobody_releases_anothers_lock() {
    let bench = Bench::new().await;
    bench.lock("w", "a").await;
    let reply = bench.unlock("w", "b").await;
    assert_eq!((reply.status, holder_of(&reply).id.as_str()), (423, "a"));
    assert_eq!(bench.store.lock_id("w").as_deref(), Some("a"));
}

#[tokio::test]
async fn the_holder_of_a_lock_that_was_taken_over_is_told_so_when_unlocking() {
    let bench = Bench::new().await;
    bench.lock("w", "a").await;
    bench.store.replace_lock("w", Some(Some(info("b"))));
    let reply = bench.unlock("w", "a").await;
    assert_eq!((reply.status, holder_of(&reply).id.as_str()), (423, "b"));
    assert_eq!(bench.store.lock_id("w").as_deref(), Some("b"));
}

#[tokio::test]
async fn a_lock_outlives_the_gateway_and_is_released_by_its_id() {
    let bench = Bench::new().await;
    bench.lock("w", "a").await;
    let bench = bench.restarted().await;
    assert_eq!(bench.lock("w", "b").await.status, 423);
    assert_eq!(bench.unlock("w", "a").await.status, 200);
    assert_eq!(bench.lock("w", "b").await.status, 200);
}

#[tokio::test]
async fn opentofus_force_unlock_names_the_id_alone() {
    let bench = Bench::new().await;
    bench.lock("w", "a").await;
    let body = |id: &str| {
        format!(
            r#"{{"ID":"{id}","Operation":"","Info":"","Who":"","Version":"","Created":"0001-01-01T00:00:00Z","Path":""}}"#
        )
    };
    assert_eq!(bench.ask("UNLOCK", "w", body("b")).await.status, 423);
    assert_eq!(bench.ask("UNLOCK", "w", body("a")).await.status, 200);
    assert_eq!(bench.store.lock_id("w"), None);
}

#[tokio::test]
async fn an_unlock_without_an_id_breaks_no_lock_unless_that_is_allowed() {
    let bench = Bench::new().await;
    bench.lock("w", "a").await;
    let reply = bench.ask("UNLOCK", "w", "").await;
    assert_eq!(reply.status, 409);
    assert!(
        reply.text.contains("--allow-force-unlock"),
        "{}",
        reply.text
    );
    assert_eq!(bench.store.lock_id("w").as_deref(), Some("a"));
}

#[tokio::test]
async fn an_unlock_without_an_id_breaks_every_lock_where_that_is_allowed() {
    let bench = Bench::with(FakeStore::default(), |gateway| {
        gateway.allow_force_unlock(true)
    })
    .await;
    bench.lock("w", "a").await;
    bench.store.replace_lock("unreadable", Some(None));
    for workspace in ["w", "unreadable"] {
        assert_eq!(bench.ask("UNLOCK", workspace, "").await.status, 200);
        assert_eq!(bench.store.lock_id(workspace), None);
        assert_eq!(
            bench.ask("UNLOCK", workspace, "").await.status,
            200,
            "nothing is held any more"
        );
    }
    assert_eq!(
        bench.post("w?ID=a", "late").await,
        409,
        "the lock that was broken gives no right to write"
    );
}

#[tokio::test]
async fn a_body_that_is_no_lock_record_is_refused() {
    let bench = Bench::new().await;
    for body in ["{", "[]", "null", "{}", r#"{"ID":""}"#, r#"{"ID":7}"#] {
        assert_eq!(bench.ask("LOCK", "w", body).await.status, 400, "{body}");
        assert_eq!(bench.ask("UNLOCK", "w", body).await.status, 400, "{body}");
    }
    assert_eq!(bench.ask("LOCK", "w", "").await.status, 400);
    assert!(bench.store.take_log().is_empty());
}

#[tokio::test]
async fn gitlabs_style_locks_and_unlocks() {
    let bench = Bench::new().await;
    assert_eq!(
        bench
            .ask("POST", "w/lock?token=x", lock_body("a"))
            .await
            .status,
        200
    );
    assert_eq!(
        bench.ask("POST", "w/lock", lock_body("b")).await.status,
        423
    );
    assert_eq!(bench.post("w?ID=a", "one").await, 200);
    assert_eq!(
        bench.ask("DELETE", "w/lock", lock_body("a")).await.status,
        200
    );
    assert_eq!(
        bench.ask("DELETE", "w/lock", "").await.status,
        409,
        "force-unlock"
    );
    assert_eq!(bench.stored("w").as_deref(), Some("one"));
}

#[tokio::test]
async fn without_a_configured_lock_locking_is_not_implemented_and_not_repeated() {
    let bench = Bench::with(FakeStore::without_locking(), |gateway| gateway).await;
    for reply in [bench.lock("w", "a").await, bench.unlock("w", "a").await] {
        assert_eq!(reply.status, 501);
        assert!(reply.text.contains("lock_address"), "{}", reply.text);
    }
}
