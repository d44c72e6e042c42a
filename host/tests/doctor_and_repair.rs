//! `doctor`, `repair digest` and locks in two places, on the embedded store.

#![allow(clippy::unwrap_used, reason = "a test reports by panicking")]
#![allow(dead_code, reason = "not every file of tests uses all of the harness")]

mod command;

use std::path::PathBuf;

use cofferdam::dev_store::{Fault, FaultRule};
use serde_json::{Value, json};

use command::{KEY, LOCK, Project, code, state, stderr, stdout};

/// The key of the state's lock in the table, and of its digest.
const ITEM: &str = "tfstate/app/terraform.tfstate";
const DIGEST: &str = "tfstate/app/terraform.tfstate-md5";

/// A project that locks in both places.
async fn in_both() -> Project {
    let project = Project::with(|block| {
        block["endpoints"]["dynamodb"] = block["endpoints"]["s3"].clone();
        block["dynamodb_table"] = "tfstate-locks".into();
    })
    .await;
    assert_eq!(project.server.table(), "tfstate-locks");
    project
}

fn always(operation: &str, fault: Fault) -> FaultRule {
    FaultRule {
        operation: Some(operation.to_owned()),
        key_ends_with: None,
        skip: 0,
        times: u32::MAX,
        fault,
    }
}

fn json_of(output: &std::process::Output) -> Value {
    let found = serde_json::from_slice(&output.stdout);
    assert!(found.is_ok(), "{}", stderr(output));
    found.unwrap()
}

/// The file in which the project's user keeps the verdict.
fn remembered(project: &Project) -> Option<PathBuf> {
    let folder = project.directory.path().join("cache/cofferdam/verdicts");
    let mut files = std::fs::read_dir(folder).ok()?;
    let file = files.next()?.unwrap().path();
    assert!(files.next().is_none(), "there is one file for each store");
    Some(file)
}

fn recorded(project: &Project) -> Option<String> {
    let item = project.server.item(DIGEST)?;
    Some(item["Digest"]["S"].as_str().unwrap().to_owned())
}

fn record(project: &Project, digest: &str) {
    let item = json!({"Digest": {"S": digest}});
    project.server.put_item(DIGEST, item).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_keeps_its_word_is_safe_and_left_as_it_was() {
    let project = in_both().await;
    project.server.put_object(KEY, state(1, "a")).unwrap();
    // More requests than an instance has handles for in any other call.
    let output = project.run(&["doctor", "-rounds=60"]).await;
    let text = stdout(&output);
    assert_eq!(code(&output), 0, "{text}{}", stderr(&output));
    assert!(text.contains("Locking is safe here"), "{text}");
    assert!(text.contains("60 rounds of 16 writers"), "{text}");
    assert!(!text.contains("FAILED"), "{text}");
    assert_eq!(project.server.keys(), [KEY], "nothing is left behind");
    let file = remembered(&project).unwrap();
    assert!(
        stderr(&output).contains(file.to_str().unwrap()),
        "{}",
        stderr(&output)
    );
    let secret = project.server.secret_access_key();
    assert!(!std::fs::read_to_string(&file).unwrap().contains(secret));

    let output = project.run(&["doctor", "-rounds=1", "-json"]).await;
    let report = json_of(&output);
    assert_eq!(report["verdict"], "safe", "{report}");
    assert_eq!(report["format_version"], "1.0");
    assert_eq!(report["remembered"], file.to_str().unwrap());
    assert!(report["checks"].as_array().unwrap().len() > 5, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_ignores_conditions_is_unsafe_and_nobody_locks_there_any_more() {
    let project = Project::new().await;
    project
        .server
        .inject(always("PutObject", Fault::IgnoreConditions));
    let output = project.run(&["doctor"]).await;
    let text = stdout(&output);
    assert_eq!(code(&output), 2, "{text}{}", stderr(&output));
    assert!(
        text.contains("Locking is NOT SAFE here") && text.contains("FAILED"),
        "{text}"
    );
    assert!(text.contains("If-None-Match"), "{text}");
    assert_eq!(project.server.keys(), Vec::<String>::new());

    let output = project
        .run_with(&["state", "push", "-"], &state(1, "a"))
        .await;
    assert_eq!(code(&output), 1);
    assert!(
        stderr(&output).contains("Locking is not safe here"),
        "{}",
        stderr(&output)
    );
    assert_eq!(project.server.keys(), Vec::<String>::new());
    let output = project
        .run_with(
            &["state", "push", "-", "-allow-unsafe-locking"],
            &state(1, "a"),
        )
        .await;
    assert_eq!(code(&output), 0, "{}", stderr(&output));

    project.server.clear_faults();
    let output = project.run(&["doctor"]).await;
    assert_eq!(code(&output), 0, "{}{}", stdout(&output), stderr(&output));
    let output = project
        .run_with(&["state", "push", "-"], &state(2, "a"))
        .await;
    assert_eq!(
        code(&output),
        0,
        "the store was mended: {}",
        stderr(&output)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_racy_store_is_unsafe_though_it_honours_every_single_condition() {
    let project = Project::new().await;
    project.server.inject(always("PutObject", Fault::Race));
    let output = project.run(&["doctor", "-json"]).await;
    assert_eq!(code(&output), 2, "{}{}", stdout(&output), stderr(&output));
    let report = json_of(&output);
    let outcome = |name: &str| {
        let checks = report["checks"].as_array().unwrap();
        let check = checks.iter().find(|it| it["name"] == name);
        check.unwrap()["outcome"].as_str().unwrap().to_owned()
    };
    assert_eq!(outcome("create-only-refused"), "ok", "{report}");
    assert_eq!(outcome("one-creator-wins"), "failed", "{report}");
    assert_eq!(project.server.keys(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_in_the_table_alone_does_not_depend_on_the_bucket() {
    let project = Project::with(|block| {
        block["endpoints"]["dynamodb"] = block["endpoints"]["s3"].clone();
        block["dynamodb_table"] = "tfstate-locks".into();
        block["use_lockfile"] = false.into();
    })
    .await;
    let rule = always("PutObject", Fault::IgnoreConditions);
    project.server.inject(rule);
    let output = project.run(&["doctor", "-json"]).await;
    assert_eq!(json_of(&output)["verdict"], "safe", "{}", stdout(&output));
    let output = project
        .run_with(&["state", "push", "-"], &state(1, "a"))
        .await;
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    // The same verdict, and a configuration that relies on what failed.
    let lockfile = ["state", "push", "-backend-config=use_lockfile=true", "-"];
    let output = project.run_with(&lockfile, &state(2, "a")).await;
    assert_eq!(code(&output), 1, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("Locking is not safe here"),
        "{}",
        stderr(&output)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forbidden_leaves_the_verdict_open_and_an_earlier_warning_standing() {
    let project = Project::new().await;
    let file = project.directory.path().join("verdict.json");
    let named = format!("-verdict={}", file.display());
    project
        .server
        .inject(always("PutObject", Fault::IgnoreConditions));
    assert_eq!(code(&project.run(&["doctor", &named]).await), 2);
    project.server.clear_faults();
    let forbidden = Fault::Status {
        status: 403,
        code: "AccessDenied".to_owned(),
    };
    project.server.inject(always("PutObject", forbidden));
    let output = project.run(&["doctor", &named]).await;
    let all = format!("{}{}", stdout(&output), stderr(&output));
    assert_eq!(code(&output), 1, "{all}");
    assert!(
        all.contains("s3:PutObject"),
        "the permission is named: {all}"
    );
    let kept: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(kept["verdict"], "unsafe");
    assert!(
        remembered(&project).is_none(),
        "the person named another file"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_shown_in_each_of_its_places_and_released_where_it_is() {
    let project = in_both().await;
    project.lock_by_another();
    let record = project.server.object(LOCK).unwrap();
    let record = String::from_utf8(record.to_vec()).unwrap();
    let item = json!({"Info": {"S": record}});
    project.server.put_item(ITEM, item).unwrap();
    let output = project.run(&["lock", "status", "-json"]).await;
    assert_eq!(code(&output), 75);
    let status = json_of(&output);
    let places: Vec<_> = status["holders"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["place"])
        .collect();
    assert_eq!(places, ["s3", "dynamodb"]);

    project.server.delete_object(LOCK).unwrap();
    let output = project.run(&["lock", "status"]).await;
    let text = stdout(&output);
    assert_eq!(code(&output), 75);
    assert!(
        text.contains("Held in dynamodb") && text.contains("Not held in s3"),
        "{text}"
    );
    let output = project
        .run_with(&["state", "push", "-"], &state(1, "a"))
        .await;
    assert_eq!(
        code(&output),
        75,
        "half a lock keeps others out: {}",
        stderr(&output)
    );

    let output = project.run(&["force-unlock", "-force", "other"]).await;
    let text = stderr(&output);
    assert_eq!(code(&output), 0, "{text}");
    assert!(
        text.contains("Warning: Only a part of the lock was there"),
        "{text}"
    );
    assert!(text.contains("successfully unlocked"), "{text}");
    assert_eq!(code(&project.run(&["lock", "status"]).await), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_digest_is_shown_and_mended() {
    let project = in_both().await;
    let push = project
        .run_with(&["state", "push", "-"], &state(4, "a"))
        .await;
    assert_eq!(code(&push), 0, "{}", stderr(&push));
    let right = recorded(&project).unwrap();
    let output = project.run(&["repair", "digest"]).await;
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("nothing to repair"),
        "{}",
        stderr(&output)
    );

    let wrong = "00000000000000000000000000000000";
    record(&project, wrong);
    let output = project.run_with(&["repair", "digest"], "yes\n").await;
    assert_eq!(code(&output), 1, "there is nobody at a terminal");
    let text = stdout(&output);
    for part in [
        wrong,
        right.as_str(),
        "serial 4, lineage a",
        "tfstate-locks",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    for refused in [
        &["-serial=5"][..],
        &["-lineage=b"],
        &["-serial=4", "-lineage=b"],
    ] {
        let arguments = [&["repair", "digest", "-yes"], refused].concat();
        assert_eq!(code(&project.run(&arguments).await), 1, "{refused:?}");
        assert_eq!(recorded(&project).as_deref(), Some(wrong), "{refused:?}");
    }
    let output = project
        .run(&[
            "repair",
            "digest",
            "-yes",
            "-serial=4",
            "-lineage=a",
            "-json",
        ])
        .await;
    let report = json_of(&output);
    assert_eq!(code(&output), 0);
    assert_eq!(
        (&report["action"], &report["recorded"], &report["digest"]),
        (&json!("recorded"), &json!(wrong), &json!(right))
    );
    assert_eq!(recorded(&project), Some(right));
    assert_eq!(code(&project.run(&["state", "pull"]).await), 0);
    assert!(
        !project.locked() && project.server.item(ITEM).is_none(),
        "the lock is released"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_without_a_state_is_removed() {
    let project = in_both().await;
    record(&project, "00000000000000000000000000000000");
    let output = project.run(&["repair", "digest", "-yes"]).await;
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(recorded(&project), None);
    let output = project.run(&["repair", "digest"]).await;
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(
        stderr(&output).contains("No digest is recorded"),
        "{}",
        stderr(&output)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_is_not_mended_under_somebody_elses_lock() {
    let project = in_both().await;
    project.server.put_object(KEY, state(1, "a")).unwrap();
    let wrong = "00000000000000000000000000000000";
    record(&project, wrong);
    project.lock_by_another();
    let output = project.run(&["repair", "digest", "-yes"]).await;
    assert_eq!(code(&output), 75, "{}", stderr(&output));
    assert_eq!(recorded(&project).as_deref(), Some(wrong));
    let output = project
        .run(&["repair", "digest", "-yes", "-lock=false"])
        .await;
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_ne!(recorded(&project).as_deref(), Some(wrong));
    assert!(project.locked(), "the other's lock is left alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_table_there_is_no_digest_to_repair() {
    let project = Project::new().await;
    let output = project.run(&["repair", "digest", "-yes"]).await;
    assert_eq!(code(&output), 1);
    assert!(
        stderr(&output).contains("dynamodb_table"),
        "{}",
        stderr(&output)
    );
    assert!(!project.locked());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_help_tells_what_an_exit_code_means_and_what_is_never_changed() {
    let project = Project::new().await;
    for (arguments, parts) in [
        (
            &["doctor", "-help"][..],
            &[
                "Ends with 0 when locking is safe",
                "--even-aws",
                "--verdict",
            ][..],
        ),
        (
            &["repair", "digest", "-help"],
            &["never changes the state", "--serial", "--lock[=<BOOL>]"],
        ),
        (&["-help"], &["2 doctor: locking is not safe", "repair"]),
    ] {
        let output = project.run(arguments).await;
        assert_eq!(code(&output), 0);
        let text = stdout(&output)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        for part in parts {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
