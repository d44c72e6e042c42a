//! Reading, writing and deleting states, and what each of them costs.

use bytes::Bytes;
use cofferdam::{DeleteOptions, ErrorCode, Expectation, Outcome, Reading, UnlockBy, WriteOptions};

use super::{Fixture, KEY, LOCK, cases, info, refusal, write};

cases! { "states":
    opening_a_store_sends_nothing,
    a_missing_state_reads_as_absent,
    a_read_is_one_get,
    a_known_revision_reads_as_unchanged,
    an_outdated_revision_reads_as_the_new_state,
    any_bytes_come_back_as_they_were_written,
    a_state_of_many_megabytes_is_one_put_and_one_get,
    a_state_over_the_limit_is_neither_read_nor_written,
    an_apply_with_a_change_is_four_requests,
    an_apply_that_saves_twice_fences_on_its_own_revision,
    an_empty_object_is_no_state,
    an_empty_object_is_replaced_by_the_first_state,
    an_empty_state_is_refused_without_a_request,
    a_deleted_state_reads_as_absent,
    deleting_what_is_not_there_succeeds,
    the_default_state_is_never_deleted,
    a_missing_bucket_is_named,
    a_wrong_secret_is_a_matter_of_credentials,
    a_refused_permission_is_named,
    another_region_is_named,
}

async fn opening_a_store_sends_nothing(fixture: Fixture) {
    let _second = fixture.open(|_| ()).await;
    assert_eq!(fixture.seen(), Vec::<String>::new());
    assert_eq!(fixture.server.connections(), 0, "a connection was made");
}

async fn a_missing_state_reads_as_absent(fixture: Fixture) {
    let reading = fixture.store.read("default", None).await.unwrap();
    assert_eq!(reading, Reading::Absent);
    assert_eq!(fixture.seen(), [format!("GET {KEY} 404")]);
}

async fn a_read_is_one_get(fixture: Fixture) {
    fixture.put(KEY, "{\"version\": 4}");
    let state = fixture.read().await.expect("a state");
    assert_eq!(state.bytes, "{\"version\": 4}");
    assert_eq!(fixture.seen(), [format!("GET {KEY} 200")]);
}

async fn a_known_revision_reads_as_unchanged(fixture: Fixture) {
    let written = fixture.store_state("one").await;
    fixture.forget();
    let reading = fixture.store.read("default", Some(&written)).await.unwrap();
    assert_eq!(reading, Reading::Unchanged);
    assert_eq!(fixture.seen(), [format!("GET {KEY} if-none-match 304")]);
}

async fn an_outdated_revision_reads_as_the_new_state(fixture: Fixture) {
    let old = fixture.store_state("one").await;
    let new = fixture.store_state("two").await;
    fixture.forget();
    let Reading::State(state) = fixture.store.read("default", Some(&old)).await.unwrap() else {
        panic!("the state has changed");
    };
    assert_eq!(
        (state.bytes.as_ref(), state.revision),
        (b"two".as_slice(), new)
    );
    assert_eq!(fixture.seen(), [format!("GET {KEY} if-none-match 200")]);
}

async fn any_bytes_come_back_as_they_were_written(fixture: Fixture) {
    let bytes: Bytes = (0..=255).cycle().take(1000).collect::<Vec<u8>>().into();
    let options = WriteOptions {
        expect: Expectation::Absent,
        lock: None,
    };
    let written = fixture
        .store
        .write("default", bytes.clone(), &options)
        .await
        .unwrap();
    let state = fixture.read().await.expect("a state");
    assert_eq!(state.bytes, bytes);
    assert_eq!(
        state.revision, written,
        "a write and the read after it name one revision"
    );
    assert_eq!(fixture.server.object(KEY), Some(bytes));
}

async fn a_state_of_many_megabytes_is_one_put_and_one_get(fixture: Fixture) {
    let bytes: Bytes = (0..=250).cycle().take(20 << 20).collect::<Vec<u8>>().into();
    let options = WriteOptions {
        expect: Expectation::Absent,
        lock: None,
    };
    fixture
        .store
        .write("default", bytes.clone(), &options)
        .await
        .unwrap();
    let state = fixture.read().await.expect("a state");
    assert!(state.bytes == bytes, "the bytes differ");
    assert_eq!(
        fixture.seen(),
        [
            format!("PUT {KEY} if-none-match 200"),
            format!("GET {KEY} 200")
        ]
    );
}

async fn a_state_over_the_limit_is_neither_read_nor_written(fixture: Fixture) {
    let store = fixture.open_with(|opening| opening.max_state = 1000).await;
    write(&*store, "default", &"x".repeat(1000), Expectation::Absent)
        .await
        .unwrap();
    store.read("default", None).await.unwrap();
    fixture.forget();

    let written = write(&*store, "default", &"x".repeat(1001), Expectation::Anything).await;
    let error = refusal(&fixture.site, written, ErrorCode::TooLarge);
    assert_eq!(
        (error.fact("size"), error.fact("limit")),
        (Some("1001"), Some("1000"))
    );
    assert_eq!(fixture.seen(), Vec::<String>::new());
    fixture.put(KEY, "x".repeat(1001));
    let error = refusal(
        &fixture.site,
        store.read("default", None).await,
        ErrorCode::TooLarge,
    );
    assert_eq!(
        (error.fact("size"), error.fact("limit")),
        (Some("1001"), Some("1000"))
    );
}

async fn an_apply_with_a_change_is_four_requests(fixture: Fixture) {
    fixture.store_state("one").await;
    fixture.forget();

    let held = fixture.lock().await;
    let state = fixture.read().await.expect("a state");
    let options = WriteOptions {
        expect: Expectation::Revision(state.revision),
        lock: Some(held.clone()),
    };
    fixture
        .store
        .write("default", "two".into(), &options)
        .await
        .unwrap();
    fixture
        .store
        .unlock("default", &UnlockBy::Held(held))
        .await
        .unwrap();

    assert_eq!(
        fixture.seen(),
        [
            format!("PUT {LOCK} if-none-match 200"),
            format!("GET {KEY} 200"),
            format!("PUT {KEY} if-match 200"),
            format!("DELETE {LOCK} if-match 204"),
        ]
    );
    assert_eq!(fixture.object(KEY).as_deref(), Some("two"));
    assert_eq!(fixture.object(LOCK), None);
}

async fn an_apply_that_saves_twice_fences_on_its_own_revision(fixture: Fixture) {
    let held = fixture.lock().await;
    let first = WriteOptions {
        expect: Expectation::Absent,
        lock: Some(held.clone()),
    };
    let revision = fixture
        .store
        .write("default", "one".into(), &first)
        .await
        .unwrap();
    let second = WriteOptions {
        expect: Expectation::Revision(revision),
        lock: Some(held.clone()),
    };
    fixture
        .store
        .write("default", "two".into(), &second)
        .await
        .unwrap();
    fixture
        .store
        .unlock("default", &UnlockBy::Held(held))
        .await
        .unwrap();
    assert_eq!(
        fixture.seen(),
        [
            format!("PUT {LOCK} if-none-match 200"),
            format!("PUT {KEY} if-none-match 200"),
            format!("PUT {KEY} if-match 200"),
            format!("DELETE {LOCK} if-match 204"),
        ]
    );
}

async fn an_empty_object_is_no_state(fixture: Fixture) {
    fixture.put(KEY, "");
    assert_eq!(
        fixture.store.read("default", None).await.unwrap(),
        Reading::Absent
    );
}

async fn an_empty_object_is_replaced_by_the_first_state(fixture: Fixture) {
    fixture.put(KEY, "");
    write(&*fixture.store, "default", "one", Expectation::Absent)
        .await
        .unwrap();
    assert_eq!(fixture.object(KEY).as_deref(), Some("one"));
    let last = fixture.seen().pop();
    assert_eq!(
        last,
        Some(format!("PUT {KEY} if-match 200")),
        "it was replaced without a condition"
    );
}

async fn an_empty_state_is_refused_without_a_request(fixture: Fixture) {
    let result = write(&*fixture.store, "default", "", Expectation::Anything).await;
    let error = refusal(&fixture.site, result, ErrorCode::InvalidArgument);
    assert_eq!(error.outcome, Outcome::NotDone);
    assert_eq!(fixture.seen(), Vec::<String>::new());
}

async fn a_deleted_state_reads_as_absent(fixture: Fixture) {
    let revision = write(&*fixture.store, "dev", "one", Expectation::Absent)
        .await
        .unwrap();
    fixture.forget();
    let options = DeleteOptions {
        expect: Expectation::Revision(revision),
        lock: None,
    };
    fixture.store.delete("dev", &options).await.unwrap();
    assert_eq!(
        fixture.seen(),
        [format!("DELETE env:/dev/{KEY} if-match 204")]
    );
    assert_eq!(
        fixture.store.read("dev", None).await.unwrap(),
        Reading::Absent
    );
}

async fn deleting_what_is_not_there_succeeds(fixture: Fixture) {
    for expect in [Expectation::Anything, Expectation::Absent] {
        fixture
            .store
            .delete("dev", &DeleteOptions { expect, lock: None })
            .await
            .unwrap();
    }
}

async fn the_default_state_is_never_deleted(fixture: Fixture) {
    let revision = fixture.store_state("one").await;
    fixture.forget();
    for expect in [Expectation::Anything, Expectation::Revision(revision)] {
        let result = fixture
            .store
            .delete("default", &DeleteOptions { expect, lock: None })
            .await;
        refusal(&fixture.site, result, ErrorCode::InvalidArgument);
    }
    assert_eq!(fixture.seen(), Vec::<String>::new());
    assert_eq!(fixture.object(KEY).as_deref(), Some("one"));
}

async fn a_missing_bucket_is_named(fixture: Fixture) {
    let store = fixture
        .open(|block| block["bucket"] = "not-there".into())
        .await;
    let read = store.read("default", None).await;
    let written = write(&*store, "default", "one", Expectation::Absent).await;
    let locked = store.lock("default", &info("me")).await;
    let listed = store.workspaces().await;
    for error in [
        refusal(&fixture.site, read, ErrorCode::NoSuchBucket),
        refusal(&fixture.site, written, ErrorCode::NoSuchBucket),
        refusal(&fixture.site, locked, ErrorCode::NoSuchBucket),
        refusal(&fixture.site, listed, ErrorCode::NoSuchBucket),
    ] {
        assert_eq!(error.fact("bucket"), Some("not-there"), "{error:?}");
        assert!(error.message.contains("not-there"), "{error:?}");
    }
}

async fn a_wrong_secret_is_a_matter_of_credentials(fixture: Fixture) {
    let store = fixture
        .open(|block| block["secret_key"] = "anything-but-the-right-one".into())
        .await;
    let error = refusal(
        &fixture.site,
        store.read("default", None).await,
        ErrorCode::Credentials,
    );
    assert!(
        !format!("{error:?}").contains("anything-but"),
        "the error shows the secret"
    );
    let store = fixture
        .open(|block| block["access_key"] = "AKIANOBODYKNOWSTHIS1".into())
        .await;
    let written = write(&*store, "default", "one", Expectation::Absent).await;
    let error = refusal(&fixture.site, written, ErrorCode::Credentials);
    assert_eq!(error.outcome, Outcome::NotDone);
    assert_eq!(fixture.object(KEY), None);
}

async fn a_refused_permission_is_named(fixture: Fixture) {
    for (operation, permission) in [("GetObject", "s3:GetObject"), ("PutObject", "s3:PutObject")] {
        let denied = cofferdam::dev_store::Fault::Status {
            status: 403,
            code: "AccessDenied".into(),
        };
        fixture.fail_once(operation, KEY, denied);
        let result = match operation {
            "GetObject" => fixture.store.read("default", None).await.map(|_| ()),
            _ => write(&*fixture.store, "default", "one", Expectation::Absent)
                .await
                .map(|_| ()),
        };
        let error = refusal(&fixture.site, result, ErrorCode::AccessDenied);
        assert_eq!(error.fact("permission"), Some(permission), "{error:?}");
        assert!(error.message.contains(permission), "{error:?}");
        let resource = format!("arn:aws:s3:::{}/{KEY}", fixture.site.bucket);
        assert_eq!(error.fact("resource"), Some(resource.as_str()), "{error:?}");
        assert!(!error.retryable, "{error:?}");
    }
}

async fn another_region_is_named(fixture: Fixture) {
    let store = fixture
        .open(|block| block["region"] = "eu-central-1".into())
        .await;
    let error = store
        .read("default", None)
        .await
        .expect_err("the bucket is not there");
    let error = error.store().expect("an error of the backend");
    assert_eq!(
        error.fact("actual-region"),
        Some(fixture.site.region.as_str()),
        "{error:?}"
    );
    assert!(
        error
            .message
            .contains(&format!("region = \"{}\"", fixture.site.region)),
        "{error:?}"
    );
}
