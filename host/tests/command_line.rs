//! The `cofferdam` command as people and scripts meet it: output, exit codes, locks, signals.

#![allow(clippy::unwrap_used, reason = "a test reports by panicking")]

mod command;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command};

use serde_json::{Value, json};

use command::{KEY, LOCK, Project, code, cofferdam, state, stderr, stdout};

#[test]
fn the_demos_story_is_what_the_stores_request_log_says() {
    let directory = tempfile::tempdir().unwrap();
    let output = cofferdam(directory.path())
        .args(["demo", "--json"])
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let story: Value = serde_json::from_slice(&output.stdout).unwrap();
    let requests = story["requests"].as_array().unwrap();
    let key = story["key"].as_str().unwrap();
    let lock = format!("{key}.tflock");
    let find = |key: &str, method: &str, condition: &str, status: u64| -> Vec<u64> {
        let matches = |request: &&Value| {
            request["key"] == key
                && request["method"] == method
                && (condition.is_empty() || !request[condition].is_null())
                && request["status"] == status
        };
        requests
            .iter()
            .filter(matches)
            .map(|it| it["sequence"].as_u64().unwrap())
            .collect()
    };
    let taken = find(&lock, "PUT", "if_none_match", 200);
    let excluded = find(&lock, "PUT", "if_none_match", 412);
    let created = find(key, "PUT", "if_none_match", 200);
    let replaced = find(key, "PUT", "if_match", 200);
    let stale = find(key, "PUT", "if_match", 412);
    let released = find(&lock, "DELETE", "if_match", 204);
    for (what, found) in [
        ("taken", &taken),
        ("excluded", &excluded),
        ("created", &created),
        ("replaced", &replaced),
        ("stale", &stale),
        ("released", &released),
    ] {
        assert_eq!(found.len(), 1, "{what}: {found:?}");
    }
    assert!(
        taken[0] < excluded[0] && excluded[0] < released[0],
        "two writers are excluded while one holds the lock"
    );
    assert!(
        created[0] < replaced[0] && replaced[0] < stale[0],
        "the stale write comes after the newer state"
    );
    assert!(
        requests
            .iter()
            .any(|it| it["operation"] == "ListObjectsV2" && it["status"] == 200),
        "workspaces are listed"
    );
    let told: usize = story["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["requests"].as_array().map_or(0, Vec::len))
        .sum();
    assert_eq!(told, requests.len(), "every request is told in one step");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_pulled_byte_for_byte_in_one_request() {
    let project = Project::new().await;
    let bytes = format!(" {}\r\n", state(1, "l"));
    project.server.put_object(KEY, bytes.clone()).unwrap();
    project.server.clear_requests();
    let output = project.run(&["state", "pull"]).await;
    assert_eq!((code(&output), stdout(&output)), (0, bytes));
    assert_eq!(project.server.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn pulling_where_there_is_no_state_prints_nothing() {
    let project = Project::new().await;
    let output = project.run(&["state", "pull"]).await;
    assert_eq!(
        (code(&output), stdout(&output)),
        (0, String::new()),
        "{}",
        stderr(&output)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_guards_lineage_and_serial_and_leaves_no_lock() {
    let project = Project::new().await;
    for (pushed, arguments, expected) in [
        (state(5, "a"), &["state", "push", "-"][..], 0),
        (state(5, "a"), &["state", "push", "-"], 0),
        (state(4, "a"), &["state", "push", "-"], 1),
        (state(9, "b"), &["state", "push", "-"], 1),
        (state(6, "a"), &["state", "push", "-"], 0),
        (state(4, "a"), &["state", "push", "-force", "-"], 0),
    ] {
        let output = project.run_with(arguments, &pushed).await;
        assert_eq!(code(&output), expected, "{pushed}: {}", stderr(&output));
        assert!(!project.locked(), "{pushed}");
        if expected == 0 {
            assert_eq!(project.server.object(KEY).unwrap(), pushed.as_bytes());
        }
    }
    let output = project.run_with(&["state", "push", "-"], "no state").await;
    assert_eq!(code(&output), 1);
    assert_eq!(
        project.server.object(KEY).unwrap(),
        state(4, "a").as_bytes()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_writes_under_the_lock_and_fenced() {
    let project = Project::new().await;
    project.server.put_object(KEY, state(1, "a")).unwrap();
    project.server.clear_requests();
    let output = project
        .run_with(&["state", "push", "-"], &state(2, "a"))
        .await;
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let seen: Vec<(String, String, bool)> = project
        .server
        .requests()
        .into_iter()
        .map(|it| {
            (
                it.method,
                it.key,
                it.if_match.is_some() || it.if_none_match.is_some(),
            )
        })
        .collect();
    let expected = [
        ("PUT", LOCK, true),
        ("GET", KEY, false),
        ("PUT", KEY, true),
        ("DELETE", LOCK, true),
    ]
    .map(|(method, key, fenced)| (method.to_owned(), key.to_owned(), fenced));
    assert_eq!(seen, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_lock_ends_with_75_and_names_the_holder() {
    let project = Project::new().await;
    project.lock_by_another();
    for arguments in [
        &["state", "push", "-"][..],
        &["state", "push", "-lock-timeout=1s", "-"],
    ] {
        let output = project.run_with(arguments, &state(1, "a")).await;
        assert_eq!(code(&output), 75, "{}", stderr(&output));
        assert!(stderr(&output).contains("bob@ci"), "{}", stderr(&output));
    }
    let output = project.run(&["lock", "status"]).await;
    assert_eq!(code(&output), 75);
    assert!(stdout(&output).contains("bob@ci"), "{}", stdout(&output));
    assert!(project.server.object(KEY).is_none(), "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn force_unlock_needs_the_right_id() {
    let project = Project::new().await;
    project.lock_by_another();
    let output = project.run(&["force-unlock", "-force", "wrong"]).await;
    assert_eq!(code(&output), 1);
    assert!(project.locked(), "a wrong id releases nothing");
    let output = project.run_with(&["force-unlock", "other"], "no\n").await;
    assert_ne!(code(&output), 0, "without a yes nothing happens");
    assert!(project.locked());
    let output = project.run(&["force-unlock", "-force", "other"]).await;
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(!project.locked());
}

#[tokio::test(flavor = "multi_thread")]
async fn workspaces_are_made_listed_selected_and_deleted() {
    let project = Project::new().await;
    assert_eq!(code(&project.run(&["workspace", "new", "dev"]).await), 0);
    assert_eq!(
        code(&project.run(&["workspace", "new", "dev"]).await),
        1,
        "it exists"
    );
    assert_eq!(
        stdout(&project.run(&["workspace", "show"]).await).trim(),
        "dev"
    );
    assert_eq!(
        code(&project.run(&["workspace", "delete", "dev"]).await),
        1,
        "it is selected"
    );
    assert_eq!(
        code(&project.run(&["workspace", "select", "default"]).await),
        0
    );
    let list = project.run(&["workspace", "list", "-json"]).await;
    let list: Value = serde_json::from_slice(&list.stdout).unwrap();
    let names: Vec<&str> = list["workspaces"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["name"].as_str().or(it.as_str()).unwrap())
        .collect();
    assert_eq!(names, ["default", "dev"]);
    assert_eq!(code(&project.run(&["workspace", "delete", "dev"]).await), 0);
    assert_eq!(
        code(&project.run(&["workspace", "delete", "default"]).await),
        1
    );
    assert_eq!(
        code(&project.run(&["workspace", "select", "gone"]).await),
        1
    );
    let keys = project.server.keys();
    assert!(keys.is_empty(), "nothing is left: {keys:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_lock_nothing_is_pushed_or_served_unless_allowed() {
    let project = Project::with(|block| block["use_lockfile"] = json!(false)).await;
    let output = project
        .run_with(&["state", "push", "-"], &state(1, "a"))
        .await;
    assert_eq!(code(&output), 1);
    assert!(
        stderr(&output).contains("use_lockfile"),
        "{}",
        stderr(&output)
    );
    let output = project.run(&["serve", "-listen=127.0.0.1:0"]).await;
    assert_eq!(code(&output), 1);
    assert!(project.server.object(KEY).is_none());
    let output = project
        .run_with(
            &["state", "push", "--allow-no-locking", "-"],
            &state(1, "a"),
        )
        .await;
    assert_eq!(code(&output), 0, "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_doctor_found_locking_unsafe_no_command_locks_unless_allowed() {
    let project = Project::new().await;
    let bucket = project.server.bucket().to_owned();
    let bad = project.verdict(&bucket, "unsafe");
    for arguments in [&["state", "push", "-"][..], &["workspace", "new", "dev"]] {
        let arguments = [arguments, &[&bad]].concat();
        let output = project.run_with(&arguments, &state(1, "a")).await;
        assert_eq!(code(&output), 1, "{}", stderr(&output));
        let text = stderr(&output);
        assert!(
            text.contains("canary reason") && text.contains("--allow-unsafe-locking"),
            "{text}"
        );
        assert_eq!(project.server.keys(), Vec::<String>::new());
    }
    for (verdict, option) in [
        (&bad, "--allow-unsafe-locking"),
        (&project.verdict(&bucket, "safe"), "--no-color"),
        (&project.verdict(&bucket, "unknown"), "--no-color"),
        (&project.verdict("other", "unsafe"), "--no-color"),
        (&"--verdict=not-there".to_owned(), "--no-color"),
    ] {
        let arguments = ["state", "push", "--force", verdict, option, "-"];
        let output = project.run_with(&arguments, &state(1, "a")).await;
        assert_eq!(code(&output), 0, "{verdict}: {}", stderr(&output));
        assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    }
    let output = project.run(&["state", "pull", &bad]).await;
    assert_eq!(
        code(&output),
        0,
        "reading needs no lock: {}",
        stderr(&output)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_refuses_locks_where_they_are_not_safe_and_says_so_at_once() {
    let project = Project::new().await;
    let bucket = project.server.bucket().to_owned();
    let bad = project.verdict(&bucket, "unsafe");
    let other = project.verdict("other", "safe");
    for (options, warning, status) in [
        (&[&*bad][..], "Every lock will be refused", "422"),
        (
            &[&*bad, "--allow-unsafe-locking"],
            "Locking is not safe here",
            "200",
        ),
        (&[&*other], "is about bucket", "200"),
        (&[], "Locking may not be safe here", "200"),
        (&[&*project.verdict(&bucket, "safe")], "", "200"),
    ] {
        let serve = ["serve", "--listen=127.0.0.1:0", "--no-auth", "--json"];
        let mut command = project.command(&[&serve, options].concat());
        let (answer, output) = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            let mut line = String::new();
            let mut stdout = BufReader::new(child.stdout.take().unwrap());
            stdout.read_line(&mut line).unwrap();
            let settings: Value = serde_json::from_str(&line).unwrap();
            let answer = lock(settings["backend"]["http"]["address"].as_str().unwrap());
            let id = child.id().to_string();
            let killed = Command::new("kill").args(["-INT", &id]).status();
            assert!(killed.unwrap().success());
            (answer, child.wait_with_output().unwrap())
        })
        .await
        .unwrap();
        let text = stderr(&output);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{options:?}: {answer}"
        );
        assert_eq!(
            answer.contains("canary reason"),
            status == "422",
            "{answer}"
        );
        assert!(text.contains(warning), "{options:?}: {text}");
        assert_eq!(text.is_empty(), warning.is_empty(), "{options:?}: {text}");
        assert_eq!(project.locked(), status == "200", "{options:?}");
        project.run(&["force-unlock", "-force", "raw"]).await;
    }
}

/// Asks a gateway for a lock, as plainly as can be.
fn lock(address: &str) -> String {
    let rest = address.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let body = r#"{"ID":"raw","Operation":"test"}"#;
    let mut stream = TcpStream::connect(host).unwrap();
    let length = body.len();
    write!(
        stream,
        "LOCK /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_ends_with_64_and_a_wrong_block_with_1() {
    let project = Project::with(|block| block["bukket"] = json!("x")).await;
    assert_eq!(code(&project.run(&["state", "pusj"]).await), 64);
    assert_eq!(
        code(
            &project
                .run(&["state", "pull", "--lock-timeout", "soon"])
                .await
        ),
        64
    );
    let output = project.run(&["state", "pull"]).await;
    assert_eq!(code(&output), 1);
    assert!(
        stderr(&output).contains("Did you mean \"bucket\"?"),
        "{}",
        stderr(&output)
    );
    assert!(
        project.server.requests().is_empty(),
        "a wrong configuration sends nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_output_shows_a_secret() {
    let project = Project::new().await;
    let secret = project.server.secret_access_key().to_owned();
    project
        .server
        .put_object(KEY, "canary-of-the-state")
        .unwrap();
    for arguments in [
        &["state", "push", "-"][..],
        &["lock", "status"],
        &["workspace", "list"],
        &["version"],
    ] {
        let mut command = project.command(arguments);
        command
            .env_remove("COFFERDAM_LOG_PATH")
            .env("RUST_LOG", "trace")
            .env("COFFERDAM_LOG", "trace");
        let output = tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap();
        let text = format!("{}{}", stdout(&output), stderr(&output));
        assert!(!text.contains(&secret), "{arguments:?}");
        assert!(!text.contains("canary-of-the-state"), "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_passes_the_exit_code_on_and_hands_a_working_gateway_to_its_command() {
    let project = Project::new().await;
    project.server.put_object(KEY, state(3, "a")).unwrap();
    let script = "test -n \"$TF_HTTP_ADDRESS\" && test -n \"$TF_HTTP_LOCK_ADDRESS\" && test -n \"$TF_HTTP_PASSWORD\" && exit 7";
    let output = project.run(&["exec", "--", "sh", "-c", script]).await;
    assert_eq!(code(&output), 7, "{}", stderr(&output));
    let output = project.run(&["exec", "--", "no-such-program-at-all"]).await;
    assert_ne!(code(&output), 0);
    assert!(
        stderr(&output).contains("no-such-program-at-all"),
        "{}",
        stderr(&output)
    );
}

/// SIGINT while the write is under way: the answer of the store is held back until the lock is there.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupt_releases_the_lock_that_is_held() {
    use cofferdam::dev_store::{Fault, FaultRule};

    let project = Project::new().await;
    project.server.inject(FaultRule {
        operation: Some("GetObject".to_owned()),
        key_ends_with: Some(KEY.to_owned()),
        skip: 0,
        times: 1,
        fault: Fault::DelayAnswer { ms: 3_000 },
    });
    let mut child: Child = project.command(&["state", "push", "-"]).spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(state(1, "a").as_bytes())
        .unwrap();
    while !project
        .server
        .requests()
        .iter()
        .any(|it| it.key == LOCK && it.status == 200)
    {
        tokio::task::yield_now().await;
    }
    assert!(project.locked());
    let id = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &id])
            .status()
            .unwrap()
            .success()
    );
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap())
        .await
        .unwrap();
    assert_eq!(code(&output), 130, "{}", stderr(&output));
    assert!(!project.locked(), "the lock is released");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_of_a_file_that_the_block_names_is_run_only_where_a_flag_allows_it() {
    let folder = tempfile::tempdir().unwrap();
    let shared = folder.path().join("aws-config");
    let project = Project::with(|block| {
        let fields = block.as_object_mut().unwrap();
        let text = |it: Option<Value>| it.unwrap().as_str().unwrap().to_owned();
        let printed = json!({
            "Version": 1,
            "AccessKeyId": text(fields.remove("access_key")),
            "SecretAccessKey": text(fields.remove("secret_key")),
        });
        std::fs::write(folder.path().join("printed"), printed.to_string()).unwrap();
        let trace = folder.path().join("ran");
        let command = format!(
            "touch {}; cat {}",
            trace.display(),
            folder.path().join("printed").display()
        );
        std::fs::write(
            &shared,
            format!("[default]\ncredential_process = {command}\n"),
        )
        .unwrap();
        fields.insert("shared_config_files".to_owned(), json!([shared]));
    })
    .await;
    let list = async |arguments: &[&str]| {
        let mut command = project.command(arguments);
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"] {
            command.env_remove(name);
        }
        command.env("HOME", folder.path());
        tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap()
    };
    let refused = list(&["workspace", "list"]).await;
    assert_eq!(code(&refused), 1);
    let text = stderr(&refused);
    let text = text
        .replace('│', " ")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    assert!(text.contains("--allow-credential-process"), "{text}");
    assert!(!folder.path().join("ran").exists());
    let allowed = list(&["workspace", "list", "-allow-credential-process"]).await;
    assert_eq!(code(&allowed), 0, "{}", stderr(&allowed));
    assert!(folder.path().join("ran").exists());
}

#[test]
fn the_settings_that_dev_prints_skip_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut dev = cofferdam(folder.path())
        .args(["dev", "--json"])
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(dev.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    let settings: Value = serde_json::from_str(&line).unwrap();
    let block = settings["backend"]["s3"].clone();
    assert_eq!(
        block["endpoints"],
        json!({ "s3": settings["url"], "sts": settings["url"] })
    );
    let names: Vec<&String> = block.as_object().unwrap().keys().collect();
    assert_eq!(
        names,
        [
            "bucket",
            "endpoints",
            "key",
            "region",
            "use_lockfile",
            "use_path_style"
        ]
    );
    let file = json!({ "terraform": { "backend": { "s3": block } } });
    std::fs::write(folder.path().join("backend.tf.json"), file.to_string()).unwrap();
    let text = |name: &str| settings[name].as_str().unwrap().to_owned();
    let list = cofferdam(folder.path())
        .args(["workspace", "list"])
        .env("AWS_ACCESS_KEY_ID", text("access_key_id"))
        .env("AWS_SECRET_ACCESS_KEY", text("secret_access_key"))
        .env("HOME", folder.path())
        .output()
        .unwrap();
    dev.kill().unwrap();
    dev.wait().unwrap();
    assert_eq!(code(&list), 0, "{}", stderr(&list));
}
