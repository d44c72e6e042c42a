//! Components that look for the machine that they run on.

use std::fs;
use std::process::Command;

use cofferdam::Grant;
use cofferdam_tests::tools::cofferdam;

use crate::house::{House, hostile};

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_store_sees_no_variable_file_or_command() {
    let house = House::sealed().await;
    for question in [
        "variable PATH",
        "variable AWS_REGION",
        "file /etc/passwd",
        "file ~/.aws/credentials",
        "file /proc/self/environ",
        "run id",
    ] {
        house.sees(question, "Err(Refusal::Denied)").await;
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_has_no_environment_and_no_arguments_of_the_service() {
    let house = House::sealed().await;
    assert_eq!(house.seen("environment").await, "0", "variables");
    assert_eq!(house.seen("arguments").await, "0", "arguments");
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_store_sees_only_the_documented_variables() {
    let house = House::granted(Grant::local()).await;
    house.sees("variable PATH", "Err(Refusal::Denied)").await;
    house.sees("variable AWS_REGION", "Ok(").await;
    house.close().await;
}

#[test]
fn nothing_that_a_component_prints_leaves_the_process() {
    let home = tempfile::tempdir().unwrap();
    fs::write(
        home.path().join("main.tf"),
        "terraform {\n  backend \"s3\" {\n    bucket = \"b\"\n    key = \"k\"\n    region = \"eu-west-1\"\n  }\n}\n",
    )
    .unwrap();
    let output = Command::new(cofferdam())
        .current_dir(home.path())
        .env("XDG_CACHE_HOME", home.path())
        .env("COFFERDAM_LOG", "trace")
        .args([
            "state",
            "pull",
            "--workspace",
            "print",
            "--limit",
            "cpu=100ms",
            "--component",
        ])
        .arg(hostile())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("processor time"), "{told}");
    assert!(!told.lines().any(|line| line == "print"), "{told}");
}
