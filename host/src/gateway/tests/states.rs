//! Reading, writing and deleting states.

use super::{Bench, fake::FakeStore, holder_of, info, lock_body};
use crate::ErrorCode;

fn state(serial: u64, content: &str) -> String {
    let canary = cofferdam_canaries::STATE;
    format!(
        r#"{{"version":4,"serial":{serial},"lineage":"l","outputs":{{"x":"{content}{canary}"}}}}"#
    )
}

#[tokio::test]
async fn a_state_comes_back_as_it_was_sent() {
    let bench = Bench::new().await;
    let absent = bench.get("w").await;
    assert_eq!(absent.status, 404);
    assert!(absent.text.contains("no state"), "{}", absent.text);

    let sent = state(1, "ä\u{2028}");
    for method in ["POST", "PUT"] {
        assert_eq!(bench.ask(method, "w", sent.clone()).await.status, 200);
    }
    let reply = bench.get("w?any=query").await;
    assert_eq!((reply.status, &reply.text), (200, &sent));
    assert_eq!(
        reply.headers["content-length"],
        sent.len().to_string().as_str()
    );
    assert_eq!(reply.headers["content-type"], "application/json");

    let head = bench.ask("HEAD", "w", "").await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    assert_eq!(
        head.headers["content-length"],
        sent.len().to_string().as_str()
    );
}

#[tokio::test]
async fn a_write_under_a_lock_is_fenced_on_what_was_read_after_locking() {
    let bench = Bench::new().await;
    bench.store.force("w", b"one");
    bench.lock("w", "a").await;
    assert_eq!(bench.get("w").await.text, "one");
    bench.store.force("w", b"foreign");
    assert_eq!(
        bench.get("w").await.text,
        "foreign",
        "a later read by anybody does not move the fence"
    );
    let reply = bench.ask("POST", "w?ID=a", "two").await;
    assert_eq!(reply.status, 409);
    assert!(reply.text.contains("has changed"), "{}", reply.text);
    assert_eq!(bench.stored("w").as_deref(), Some("foreign"));
}

#[tokio::test]
async fn a_first_write_is_fenced_on_there_being_no_state() {
    let bench = Bench::new().await;
    bench.lock("w", "a").await;
    assert_eq!(bench.get("w").await.status, 404);
    bench.store.force("w", b"foreign");
    assert_eq!(bench.post("w?ID=a", "one").await, 409);
    assert_eq!(bench.stored("w").as_deref(), Some("foreign"));
}

#[tokio::test]
async fn the_fence_follows_the_holders_own_writes() {
    let bench = Bench::new().await;
    bench.lock("w", "a").await;
    bench.get("w").await;
    for content in ["one", "two", "three"] {
        assert_eq!(bench.post("w?ID=a", content).await, 200);
    }
    bench.store.force("w", b"foreign");
    assert_eq!(bench.post("w?ID=a", "four").await, 409);
    assert_eq!(
        bench
            .store
            .take_log()
            .iter()
            .filter(|call| *call == "read w")
            .count(),
        2
    );
}

#[tokio::test]
async fn a_holder_that_never_read_writes_over_what_is_there() {
    let bench = Bench::new().await;
    bench.store.force("w", b"one");
    bench.lock("w", "a").await;
    assert_eq!(bench.post("w?ID=a", "two").await, 200);
    assert_eq!(bench.post("w?ID=a", "three").await, 200);
    assert_eq!(bench.stored("w").as_deref(), Some("three"));
}

#[tokio::test]
async fn a_read_that_began_before_the_lock_does_not_set_the_fence() {
    let bench = Bench::new().await;
    bench.store.force("w", b"one");
    let slow = bench.store.pause("read");
    let (early, ()) = tokio::join!(bench.get("w"), async {
        slow.reached.await.unwrap();
        bench.lock("w", "a").await;
        slow.go_on.send(()).unwrap();
    });
    assert_eq!(early.text, "one");
    bench.store.force("w", b"two");
    assert_eq!(bench.get("w").await.text, "two");
    assert_eq!(bench.post("w?ID=a", "three").await, 200);
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_succeeds_when_repeated() {
    let bench = Bench::new().await;
    for path in ["locked?ID=a", "free"] {
        let workspace = path.split('?').next().unwrap();
        bench.store.force(workspace, b"one");
        if path != workspace {
            bench.lock(workspace, "a").await;
            bench.get(workspace).await;
        }
        bench.store.fail("write", true, ErrorCode::TimedOut);
        assert_eq!(bench.post(path, "two").await, 503, "{path}");
        assert_eq!(bench.post(path, "two").await, 200, "{path}");
        assert_eq!(bench.stored(workspace).as_deref(), Some("two"));
    }
    assert_eq!(
        bench.post("locked?ID=a", "three").await,
        200,
        "and the fence has followed"
    );
}

#[tokio::test]
async fn the_next_snapshot_is_stored_after_one_whose_answer_was_lost() {
    let bench = Bench::new().await;
    bench.lock("w", "a").await;
    bench.get("w").await;
    bench.store.fail("write", true, ErrorCode::TimedOut);
    assert_eq!(bench.post("w?ID=a", "one").await, 503);
    assert_eq!(bench.post("w?ID=a", "two").await, 200);
    assert_eq!(bench.stored("w").as_deref(), Some("two"));
}

#[tokio::test]
async fn a_write_that_met_its_own_first_attempt_in_the_store_succeeds() {
    let bench = Bench::new().await;
    bench.lock("w", "a").await;
    bench.get("w").await;
    bench.store.fail("write", true, ErrorCode::StateChanged);
    assert_eq!(bench.post("w?ID=a", "one").await, 200);
    let writes = bench
        .store
        .take_log()
        .iter()
        .filter(|call| *call == "write w")
        .count();
    assert_eq!(writes, 1, "what is stored already is not stored again");
    assert_eq!(
        bench.post("w?ID=a", "two").await,
        200,
        "and the fence has followed"
    );
}

#[tokio::test]
async fn a_lost_answer_does_not_excuse_overwriting_somebody_else() {
    let bench = Bench::new().await;
    bench.lock("w", "a").await;
    bench.get("w").await;
    bench.store.fail("write", true, ErrorCode::TimedOut);
    assert_eq!(bench.post("w?ID=a", "one").await, 503);
    bench.store.force("w", b"foreign");
    assert_eq!(bench.post("w?ID=a", "two").await, 409);
    assert_eq!(bench.stored("w").as_deref(), Some("foreign"));
}

#[tokio::test]
async fn after_a_restart_the_stored_lock_lets_its_holder_write() {
    let bench = Bench::new().await;
    bench.lock("w", "a").await;
    assert_eq!(bench.post("w?ID=a", "one").await, 200);
    let bench = bench.restarted().await;
    bench.store.take_log();
    assert_eq!(bench.post("w?ID=a", "two").await, 200);
    assert_eq!(bench.post("w?ID=a", "three").await, 200);
    assert_eq!(bench.stored("w").as_deref(), Some("three"));
    // In this order: a lock found after the read proves that the read was of the holder's own state.
    assert_eq!(
        bench.store.take_log()[..3],
        ["read w", "holders w", "write w"]
    );
}

#[tokio::test]
async fn after_a_restart_a_write_is_still_fenced() {
    let bench = Bench::new().await;
    bench.store.force("w", b"one");
    bench.lock("w", "a").await;
    let bench = bench.restarted().await;
    let slow = bench.store.pause("write");
    let (status, ()) = tokio::join!(bench.post("w?ID=a", "two"), async {
        slow.reached.await.unwrap();
        bench.store.force("w", b"foreign");
        slow.go_on.send(()).unwrap();
    });
    assert_eq!(status, 409);
    assert_eq!(bench.stored("w").as_deref(), Some("foreign"));
}

#[tokio::test]
async fn after_a_restart_nobody_writes_under_anothers_lock() {
    let bench = Bench::new().await;
    bench.lock("w", "a").await;
    let bench = bench.restarted().await;
    for path in ["w", "w?ID=b"] {
        let reply = bench.ask("POST", path, "x").await;
        assert_eq!(
            (reply.status, holder_of(&reply).id.as_str()),
            (423, "a"),
            "{path}"
        );
    }
    assert_eq!(bench.stored("w"), None);
}

#[tokio::test]
async fn nobody_writes_under_anothers_lock() {
    let bench = Bench::new().await;
    bench.lock("w", "a").await;
    for path in ["w", "w?ID=b"] {
        assert_eq!(bench.post(path, "x").await, 423, "{path}");
    }
    assert_eq!(bench.stored("w"), None);
}

#[tokio::test]
async fn a_lock_that_is_not_held_gives_no_right_to_write() {
    let bench = Bench::new().await;
    let reply = bench.ask("POST", "w?ID=a", "x").await;
    assert_eq!(reply.status, 409);
    assert!(reply.text.contains("not held"), "{}", reply.text);

    bench.lock("w", "a").await;
    bench.unlock("w", "a").await;
    assert_eq!(bench.post("w?ID=a", "x").await, 409, "released");
    assert_eq!(bench.stored("w"), None);
}

#[tokio::test]
async fn a_write_under_a_lock_that_was_broken_is_refused() {
    let bench = Bench::new().await;
    bench.lock("w", "a").await;
    bench.get("w").await;
    bench.store.replace_lock("w", None);
    assert_eq!(bench.post("w?ID=a", "x").await, 409, "gone");
    bench.store.replace_lock("w", Some(Some(info("b"))));
    let reply = bench.ask("POST", "w?ID=a", "x").await;
    assert_eq!((reply.status, holder_of(&reply).id.as_str()), (423, "b"));
    assert_eq!(bench.stored("w"), None);
}

#[tokio::test]
async fn two_writers_without_a_lock_cannot_both_succeed_from_the_same_state() {
    let bench = Bench::new().await;
    bench.store.force("w", br#"{"serial":1,"lineage":"l"}"#);
    let (one, other) = tokio::join!(
        bench.post("w", state(2, "one")),
        bench.post("w", state(2, "other"))
    );
    let (won, expected) = if one == 200 {
        (other, "one")
    } else {
        (one, "other")
    };
    assert_eq!((one.min(other), won), (200, 409));
    assert_eq!(bench.stored("w"), Some(state(2, expected)));
}

#[tokio::test]
async fn without_a_lock_a_newer_state_is_written_and_an_older_one_refused() {
    let bench = Bench::new().await;
    for serial in [1, 2, 5] {
        assert_eq!(bench.post("w", state(serial, "x")).await, 200);
    }
    assert_eq!(bench.post("w", state(4, "x")).await, 409);
    assert_eq!(bench.post("w", state(5, "x")).await, 200, "the same again");
    assert_eq!(
        bench
            .post("w", state(1, "x").replace(r#""l""#, r#""m""#))
            .await,
        200,
        "another lineage"
    );
    assert_eq!(
        bench.post("w", "not JSON").await,
        200,
        "what a state looks like is the client's business"
    );
}

#[tokio::test]
async fn under_a_lock_an_older_serial_may_be_forced() {
    let bench = Bench::new().await;
    bench.store.force("w", br#"{"serial":9,"lineage":"l"}"#);
    bench.lock("w", "a").await;
    bench.get("w").await;
    assert_eq!(bench.post("w?ID=a", state(2, "x")).await, 200);
}

#[tokio::test]
async fn a_write_without_a_lock_is_fenced_on_what_it_reads() {
    let bench = Bench::new().await;
    bench.store.force("w", b"one");
    let slow = bench.store.pause("write");
    let (status, ()) = tokio::join!(bench.post("w", "two"), async {
        slow.reached.await.unwrap();
        bench.store.force("w", b"foreign");
        slow.go_on.send(()).unwrap();
    });
    assert_eq!(status, 409);
    assert_eq!(bench.stored("w").as_deref(), Some("foreign"));
}

#[tokio::test]
async fn without_a_configured_lock_states_are_written_only_where_that_is_allowed() {
    let bench = Bench::with(FakeStore::without_locking(), |gateway| gateway).await;
    let reply = bench.ask("POST", "w", "x").await;
    assert_eq!(reply.status, 409);
    assert!(reply.text.contains("--allow-no-locking"), "{}", reply.text);
    assert_eq!(bench.stored("w"), None);

    let bench = Bench::with(FakeStore::without_locking(), |gateway| {
        gateway.allow_no_locking(true)
    })
    .await;
    assert_eq!(bench.post("w", "x").await, 200);
    assert_eq!(bench.post("w?ID=a", "y").await, 409, "no lock can be held");
}

#[tokio::test]
async fn deleting_takes_the_same_rights_as_writing() {
    let bench = Bench::new().await;
    bench.store.force("w", b"one");
    bench.lock("w", "a").await;
    for path in ["w", "w?ID=b"] {
        assert_eq!(bench.ask("DELETE", path, "").await.status, 423, "{path}");
    }
    bench.get("w").await;
    bench.store.force("w", b"foreign");
    assert_eq!(bench.ask("DELETE", "w?ID=a", "").await.status, 409);
    assert_eq!(bench.stored("w").as_deref(), Some("foreign"));
    bench.unlock("w", "a").await;

    assert_eq!(bench.ask("DELETE", "w", "").await.status, 200);
    assert_eq!(bench.stored("w"), None);
    assert_eq!(
        bench.ask("DELETE", "w", "").await.status,
        200,
        "it is gone already"
    );
}

#[tokio::test]
async fn a_delete_whose_answer_was_lost_succeeds_when_repeated() {
    let bench = Bench::new().await;
    bench.store.force("w", b"one");
    bench.lock("w", "a").await;
    bench.get("w").await;
    bench.store.fail("delete", true, ErrorCode::Unreachable);
    assert_eq!(bench.ask("DELETE", "w?ID=a", "").await.status, 503);
    assert_eq!(bench.ask("DELETE", "w?ID=a", "").await.status, 200);
    assert_eq!(
        bench.post("w?ID=a", "two").await,
        200,
        "and the fence has followed"
    );
}

#[tokio::test]
async fn the_default_workspace_is_not_deleted() {
    let bench = Bench::new().await;
    bench.store.force("default", b"one");
    let reply = bench.ask("DELETE", "default", "").await;
    assert_eq!(reply.status, 422);
    assert!(
        reply.text.contains("`default` cannot be deleted"),
        "{}",
        reply.text
    );
    assert_eq!(bench.stored("default").as_deref(), Some("one"));
}

#[tokio::test]
async fn lock_requests_that_were_sent_to_the_states_address_touch_no_state() {
    let bench = Bench::new().await;
    bench.store.force("w", b"one");
    assert_eq!(
        bench.post("w", lock_body("a")).await,
        400,
        "lock_method = POST without /lock"
    );
    assert_eq!(
        bench.ask("DELETE", "w", lock_body("a")).await.status,
        400,
        "unlock_method = DELETE"
    );
    let forced = http::Request::delete(bench.gateway.url("w"))
        .header("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==");
    assert_eq!(
        bench.send(forced, "").await.status,
        400,
        "force-unlock with unlock_method = DELETE"
    );
    assert_eq!(bench.stored("w").as_deref(), Some("one"));
}

#[tokio::test]
async fn an_empty_state_is_refused() {
    let bench = Bench::new().await;
    assert_eq!(bench.post("w", "").await, 400);
}

#[tokio::test]
async fn a_read_that_the_store_refuses_is_not_taken_for_an_empty_state() {
    let bench = Bench::new().await;
    for (code, status) in [
        (ErrorCode::AccessDenied, 422),
        (ErrorCode::NoSuchBucket, 422),
        (ErrorCode::DigestMismatch, 422),
        (ErrorCode::Throttled, 503),
    ] {
        bench.store.fail("read", false, code);
        let reply = bench.get("w").await;
        assert_eq!(
            (reply.status, reply.text.as_str()),
            (status, "a fault\n"),
            "{code:?}"
        );
    }
}
