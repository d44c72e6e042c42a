//! Components that ask for too much, or are not the one that was asked for.

use std::process::Command;

use cofferdam::{Backend, ComponentError, ComponentSource, Error};
use cofferdam_tests::tools::{cofferdam, component_path};
use sha2::{Digest, Sha256};

async fn load(text: &str) -> ComponentError {
    refused(Backend::builder().component(bytes(wat::parse_str(text).unwrap()))).await
}

fn bytes(bytes: impl Into<Vec<u8>>) -> ComponentSource {
    ComponentSource::Bytes(bytes.into())
}

async fn refused(builder: cofferdam::BackendBuilder) -> ComponentError {
    match builder.build().await {
        Err(Error::Component(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_component_that_wants_files_or_sockets_is_refused_by_name() {
    let error = load(
        r#"(component
            (import "wasi:io/poll@0.2.0" (instance))
            (import "wasi:filesystem/types@0.2.12" (instance))
            (import "wasi:sockets/tcp@0.2.12" (instance)))"#,
    )
    .await;
    let text = error.to_string();
    assert!(
        text.contains("wasi:filesystem/types@0.2.12") && text.contains("wasi:sockets/tcp@0.2.12"),
        "{text}"
    );
    assert!(!text.contains("wasi:io/poll"), "{text}");
}

#[tokio::test]
async fn a_component_that_wants_what_no_host_should_have_is_refused_by_name() {
    for import in [
        r#"(import "evil:backdoor/shell@1.0.0" (instance))"#,
        r#"(import "run-command" (func (param "command" string)))"#,
        // Ours by name, of another generation.
        r#"(import "wasi:http/types@0.3.0" (instance))"#,
        r#"(import "cofferdam:state-backend/surroundings@0.2.0" (instance))"#,
        // Of an interface that is allowed in part.
        r#"(import "wasi:http/incoming-handler@0.2.12" (instance))"#,
    ] {
        let name = import.split('"').nth(1).unwrap();
        let error = load(&format!("(component {import})")).await;
        assert!(
            matches!(&error, ComponentError::ForbiddenImport(names) if *names == [name]),
            "{name}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_component_without_the_contract_is_told_what_it_lacks() {
    let error = load("(component)").await;
    assert!(matches!(error, ComponentError::MissingExport(_)), "{error}");
    assert!(error.to_string().contains("state-store@0.1.0"), "{error}");
}

#[tokio::test]
async fn what_is_no_component_is_refused() {
    for bytes in [&b""[..], b"#!/bin/sh", b"\0asm\x01\0\0\0"] {
        let source = ComponentSource::Bytes(bytes.to_vec());
        let error = Backend::builder()
            .component(source)
            .build()
            .await
            .unwrap_err();
        assert!(
            matches!(error, Error::Component(ComponentError::Invalid(_))),
            "{error}"
        );
    }
}

#[tokio::test]
async fn machine_code_is_refused() {
    let engine = wasmtime::Engine::default();
    let image = engine
        .precompile_component(&wat::parse_str("(component)").unwrap())
        .unwrap();
    let error = Backend::builder()
        .component(ComponentSource::Bytes(image))
        .build()
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Component(ComponentError::Precompiled)),
        "{error}"
    );
}

/// A new import is a new thing that the component can touch: it must be wanted, and written down here.
#[tokio::test]
async fn the_embedded_component_imports_what_is_written_here_and_no_more() {
    let wasm = std::fs::read(component_path()).unwrap();
    let engine = wasmtime::Engine::default();
    let component = wasmtime::component::Component::from_binary(&engine, &wasm).unwrap();
    let mut imports: Vec<String> = component
        .component_type()
        .imports(&engine)
        .map(|(name, _)| name.to_owned())
        .collect();
    imports.sort();
    let golden: Vec<&str> = include_str!("../../imports.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(imports, golden);
    for line in include_str!("../../imports.txt").lines() {
        assert!(
            line.starts_with('#') || line.split_whitespace().nth(1).is_some(),
            "why: {line}"
        );
    }
}

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn the_embedded_component_is_named_by_its_digest_and_held_to_it() {
    let digest = sha256(&std::fs::read(component_path()).unwrap());
    let backend = Backend::builder().component_sha256(&digest).build().await;
    assert_eq!(backend.unwrap().sha256(), digest);
    let other = Backend::builder().component_sha256("0".repeat(64));
    let error = refused(other).await;
    assert!(
        matches!(&error, ComponentError::Digest { actual, .. } if *actual == digest),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_component_with_an_unexpected_digest_is_refused_before_it_is_compiled() {
    // Whoever compiled it, or looked into it, would say something else about it.
    let garbage = b"\0asm garbage".to_vec();
    let own = sha256(&garbage);
    let error = refused(
        Backend::builder()
            .component(bytes(garbage.clone()))
            .component_sha256("ab".repeat(32)),
    )
    .await;
    assert!(
        matches!(&error, ComponentError::Digest { actual, .. } if *actual == own),
        "{error:?}"
    );
    let expected = format!("sha256:{}", own.to_uppercase());
    let error = refused(
        Backend::builder()
            .component(bytes(garbage))
            .component_sha256(expected),
    )
    .await;
    assert!(matches!(error, ComponentError::Invalid(_)), "{error:?}");
}

#[test]
fn the_command_runs_the_component_with_the_expected_digest_and_no_other() {
    let home = tempfile::tempdir().unwrap();
    let version = |arguments: &[&str]| {
        let output = Command::new(cofferdam())
            .env("XDG_CACHE_HOME", home.path())
            .arg("version")
            .args(arguments)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    };
    let digest = sha256(&std::fs::read(component_path()).unwrap());
    let (code, text) = version(&[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains(&format!("component sha256:{digest}")),
        "{text}"
    );

    let file = component_path();
    let file = file.to_str().unwrap();
    let (code, text) = version(&["--component", file, "--component-sha256", &digest]);
    assert_eq!(code, Some(0), "{text}");
    let other = "0".repeat(64);
    let (code, text) = version(&["--component", file, "--component-sha256", &other]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&digest) && text.contains(&other), "{text}");
}
