//! Which workspaces there are, where their states lie, and which names none may have.

use cofferdam::dev_store::{Fault, FaultRule};
use cofferdam::{DeleteOptions, ErrorCode, Expectation, Reading, UnlockBy};

use super::{Fixture, KEY, cases, info, refusal, write};

cases! { "workspaces":
    an_empty_bucket_holds_the_default_workspace,
    workspaces_are_listed_sorted_after_default,
    what_is_no_state_is_no_workspace,
    default_is_never_listed_twice,
    names_that_no_call_takes_are_not_listed,
    a_state_lies_under_prefix_and_name,
    another_prefix_holds_other_workspaces,
    without_a_prefix_the_names_lie_at_the_top,
    names_may_hold_what_go_would_escape,
    thousands_of_objects_are_listed_page_by_page,
    a_busy_store_is_asked_for_the_page_again,
    a_denied_listing_is_default_and_a_warning,
    a_denied_listing_with_a_prefix_of_its_own_is_an_error,
    bad_names_are_refused_without_a_request,
    a_deleted_workspace_is_not_listed,
}

async fn an_empty_bucket_holds_the_default_workspace(fixture: Fixture) {
    assert_eq!(fixture.store.workspaces().await.unwrap(), ["default"]);
    assert_eq!(fixture.seen().len(), 1);
}

async fn workspaces_are_listed_sorted_after_default(fixture: Fixture) {
    for name in ["prod", "a", "Z", "dev-2", "dev"] {
        write(&*fixture.store, name, "one", Expectation::Absent)
            .await
            .unwrap();
    }
    let listed = fixture.store.workspaces().await.unwrap();
    assert_eq!(listed, ["default", "Z", "a", "dev", "dev-2", "prod"]);
}

async fn what_is_no_state_is_no_workspace(fixture: Fixture) {
    for key in [
        "env:/error",
        "env:/s2/other",
        "env:/s2/",
        &format!("env:/s1/{KEY}.tflock"),
        &format!("env:/a/b/{KEY}"),
        &format!("env://{KEY}"),
        &format!("env:/s3/{KEY}/more"),
        &format!("environment/s4/{KEY}"),
        &format!("x/env:/s5/{KEY}"),
    ] {
        fixture.put(key, "one");
    }
    fixture.put(&format!("env:/real/{KEY}"), "one");
    assert_eq!(
        fixture.store.workspaces().await.unwrap(),
        ["default", "real"]
    );
}

async fn default_is_never_listed_twice(fixture: Fixture) {
    fixture.put(KEY, "one");
    fixture.put(&format!("env:/default/{KEY}"), "one");
    assert_eq!(fixture.store.workspaces().await.unwrap(), ["default"]);
}

async fn names_that_no_call_takes_are_not_listed(fixture: Fixture) {
    fixture.put(&format!("env:/./{KEY}"), "one");
    fixture.put(&format!("env:/../{KEY}"), "one");
    assert_eq!(fixture.store.workspaces().await.unwrap(), ["default"]);
}

async fn a_state_lies_under_prefix_and_name(fixture: Fixture) {
    write(&*fixture.store, "dev", "one", Expectation::Absent)
        .await
        .unwrap();
    assert_eq!(fixture.server.keys(), [format!("env:/dev/{KEY}")]);
}

async fn another_prefix_holds_other_workspaces(fixture: Fixture) {
    let store = fixture
        .open(|block| block["workspace_key_prefix"] = "team/a".into())
        .await;
    write(&*store, "dev", "one", Expectation::Absent)
        .await
        .unwrap();
    assert_eq!(fixture.server.keys(), [format!("team/a/dev/{KEY}")]);
    assert_eq!(store.workspaces().await.unwrap(), ["default", "dev"]);
    assert_eq!(fixture.store.workspaces().await.unwrap(), ["default"]);
}

async fn without_a_prefix_the_names_lie_at_the_top(fixture: Fixture) {
    let store = fixture
        .open(|block| block["workspace_key_prefix"] = "".into())
        .await;
    write(&*store, "dev", "one", Expectation::Absent)
        .await
        .unwrap();
    assert_eq!(fixture.server.keys(), [format!("dev/{KEY}")]);
    assert_eq!(store.workspaces().await.unwrap(), ["default", "dev"]);
}

async fn names_may_hold_what_go_would_escape(fixture: Fixture) {
    let names = [
        "a b", "a+b", "a%2Fb", "a&b=c", "a:b@c", "grün", "日本", "…dots", "'\"<>",
    ];
    for name in names {
        write(&*fixture.store, name, name, Expectation::Absent)
            .await
            .unwrap();
    }
    let mut expected = names.map(str::to_owned).to_vec();
    expected.sort_unstable();
    expected.insert(0, "default".to_owned());
    assert_eq!(fixture.store.workspaces().await.unwrap(), expected);
    for name in names {
        let Reading::State(state) = fixture.store.read(name, None).await.unwrap() else {
            panic!("{name} is absent");
        };
        assert_eq!(state.bytes, name);
        assert_eq!(
            fixture.object(&format!("env:/{name}/{KEY}")).as_deref(),
            Some(name)
        );
    }
}

async fn thousands_of_objects_are_listed_page_by_page(fixture: Fixture) {
    for number in 0..2100 {
        fixture.put(&format!("env:/w{number:04}/{KEY}"), "one");
        fixture.put(&format!("env:/w{number:04}/{KEY}.tflock"), "one");
    }
    let listed = fixture.store.workspaces().await.unwrap();
    let expected: Vec<String> = ["default".to_owned()]
        .into_iter()
        .chain((0..2100).map(|number| format!("w{number:04}")))
        .collect();
    assert!(
        listed == expected,
        "{} names of {}",
        listed.len(),
        expected.len()
    );
}

async fn a_busy_store_is_asked_for_the_page_again(fixture: Fixture) {
    fixture.put(&format!("env:/dev/{KEY}"), "one");
    fixture.server.inject(rule(
        1,
        Fault::Status {
            status: 503,
            code: "SlowDown".into(),
        },
    ));
    assert_eq!(
        fixture.store.workspaces().await.unwrap(),
        ["default", "dev"]
    );
}

async fn a_denied_listing_is_default_and_a_warning(fixture: Fixture) {
    fixture.put(&format!("env:/dev/{KEY}"), "one");
    fixture.server.inject(rule(
        u32::MAX,
        Fault::Status {
            status: 403,
            code: "AccessDenied".into(),
        },
    ));
    fixture.warnings.take();
    assert_eq!(fixture.store.workspaces().await.unwrap(), ["default"]);
    let warnings = fixture.warnings.take();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].to_string().contains("s3:ListBucket"),
        "{warnings:?}"
    );
    assert!(
        warnings[0].to_string().contains(&fixture.site.bucket),
        "{warnings:?}"
    );
}

async fn a_denied_listing_with_a_prefix_of_its_own_is_an_error(fixture: Fixture) {
    let store = fixture
        .open(|block| block["workspace_key_prefix"] = "team".into())
        .await;
    fixture.server.inject(rule(
        u32::MAX,
        Fault::Status {
            status: 403,
            code: "AccessDenied".into(),
        },
    ));
    let error = refusal(
        &fixture.site,
        store.workspaces().await,
        ErrorCode::AccessDenied,
    );
    assert_eq!(error.fact("permission"), Some("s3:ListBucket"), "{error:?}");
}

async fn bad_names_are_refused_without_a_request(fixture: Fixture) {
    let store = &fixture.store;
    for name in [
        "", ".", "..", "a/b", "/", "a\nb", "a\u{0}b", "\u{7f}", "\u{85}",
    ] {
        let read = store.read(name, None).await.map(|_| ());
        let written = write(&**store, name, "one", Expectation::Anything)
            .await
            .map(|_| ());
        let deleted = store
            .delete(
                name,
                &DeleteOptions {
                    expect: Expectation::Anything,
                    lock: None,
                },
            )
            .await;
        let locked = store.lock(name, &info("me")).await.map(|_| ());
        let unlocked = store.unlock(name, &UnlockBy::Id("me".to_owned())).await;
        let held = store.holders(name).await.map(|_| ());
        for result in [read, written, deleted, locked, unlocked, held] {
            refusal(&fixture.site, result, ErrorCode::InvalidArgument);
        }
    }
    assert_eq!(fixture.seen(), Vec::<String>::new());
}

async fn a_deleted_workspace_is_not_listed(fixture: Fixture) {
    write(&*fixture.store, "dev", "one", Expectation::Absent)
        .await
        .unwrap();
    let held = fixture.store.lock("dev", &info("me")).await.unwrap();
    let options = DeleteOptions {
        expect: Expectation::Anything,
        lock: Some(held.clone()),
    };
    fixture.store.delete("dev", &options).await.unwrap();
    fixture
        .store
        .unlock("dev", &UnlockBy::Held(held))
        .await
        .unwrap();
    assert_eq!(fixture.store.workspaces().await.unwrap(), ["default"]);
    assert_eq!(fixture.server.keys(), Vec::<String>::new());
}

fn rule(times: u32, fault: Fault) -> FaultRule {
    FaultRule {
        operation: Some("ListObjectsV2".to_owned()),
        key_ends_with: None,
        skip: 0,
        times,
        fault,
    }
}
