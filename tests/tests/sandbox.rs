//! The walls of the sandbox, tried from the inside by a component that misbehaves on request
//! (`tests/hostile`), and from the outside by components that ask for too much.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use cofferdam::dev_store::{DevStore, Fault, FaultRule};
use cofferdam::{
    Backend, ComponentError, ComponentSource, Error, ErrorCode, Grant, Limit, Limits, Outcome,
    ProbeOptions, Reading, StateStore, Store,
};
use cofferdam_tests::tools::{component_path, component_target, workspace_root};
use serde_json::json;
use tokio::io::AsyncReadExt;

/// The hostile component, built on first use.
fn hostile() -> ComponentSource {
    static WASM: OnceLock<PathBuf> = OnceLock::new();
    let path = WASM.get_or_init(|| {
        let target = component_target();
        let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .current_dir(workspace_root())
            .args(["build", "--package", "cofferdam-hostile"])
            .args([
                "--target",
                "wasm32-wasip2",
                "--profile",
                "guest",
                "--target-dir",
            ])
            .arg(&target)
            .status()
            .expect("cargo runs");
        assert!(status.success(), "the hostile component builds");
        target.join("wasm32-wasip2/guest/cofferdam_hostile.wasm")
    });
    ComponentSource::File(path.clone())
}

async fn store(limits: Limits, grant: Grant) -> Store {
    let backend = Backend::builder()
        .component(hostile())
        .limits(limits)
        .build()
        .await
        .unwrap();
    backend
        .store(json!({}))
        .grant(grant)
        .open()
        .await
        .unwrap()
        .store
}

/// The misdeed fails as `check` wants, and the same store serves the next call.
async fn fails(store: &Store, misdeed: &str, check: impl FnOnce(&Error) -> bool) {
    let error = store
        .read(misdeed, None)
        .await
        .expect_err("a misdeed ends in an error");
    assert!(check(&error), "{misdeed}: {error:?}");
    let next = store.read("default", None).await;
    assert!(
        matches!(next, Ok(Reading::Absent)),
        "the call after `{misdeed}`: {next:?}"
    );
}

/// What the component saw, from its error message.
async fn seen(store: &Store, question: &str) -> String {
    store
        .read(question, None)
        .await
        .expect_err("answers come as errors")
        .to_string()
}

#[tokio::test]
async fn a_component_without_inspection_is_told_from_one_that_fails_at_it() {
    let store = store(Limits::default(), Grant::sealed()).await;
    let unsupported = |error: Error| error.code() == Some(ErrorCode::Unsupported);
    let probing = store.clone();
    let probed = tokio::spawn(async move { probing.probe(ProbeOptions::default()).await });
    assert!(probed.await.unwrap().is_err_and(unsupported));
    let comparing = store.clone();
    let compared = tokio::spawn(async move { comparing.compare_digest("default").await });
    assert!(compared.await.unwrap().is_err_and(unsupported));
    let recorded = store.record_digest("default", None, None, None).await;
    assert!(recorded.is_err_and(unsupported));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_without_end_hits_the_processor_limit() {
    let store = store(
        Limits::default().cpu(Duration::from_millis(200)),
        Grant::sealed(),
    )
    .await;
    fails(&store, "loop", |error| {
        matches!(
            error,
            Error::Limit {
                limit: Limit::Cpu(_),
                outcome: Outcome::NotDone,
                ..
            }
        )
    })
    .await;
}

#[tokio::test]
async fn a_loop_without_end_leaves_the_thread_to_others() {
    let store = store(
        Limits::default().cpu(Duration::from_millis(300)),
        Grant::sealed(),
    )
    .await;
    let neighbour = async {
        // One thread serves both: without yields this would count nothing until the loop is ended.
        let mut turns = 0_u32;
        loop {
            tokio::task::yield_now().await;
            turns += 1;
            if turns == 10 {
                return turns;
            }
        }
    };
    let (looped, turns) = tokio::join!(store.read("loop", None), neighbour);
    assert!(looped.is_err());
    assert_eq!(turns, 10);
}

#[tokio::test]
async fn hoarding_hits_the_memory_limit() {
    let store = store(Limits::default().memory(16 << 20), Grant::sealed()).await;
    fails(&store, "memory", |error| {
        matches!(error, Error::Limit { limit: Limit::Memory(bytes), outcome: Outcome::NotDone, .. } if *bytes == 16 << 20)
    })
    .await;
}

#[tokio::test]
async fn waiting_for_ever_hits_the_wall_clock() {
    let store = store(
        Limits::default().wall_clock(Duration::from_secs(1)),
        Grant::sealed(),
    )
    .await;
    fails(&store, "wait", |error| {
        matches!(
            error,
            Error::Limit {
                limit: Limit::WallClock(_),
                outcome: Outcome::NotDone,
                ..
            }
        )
    })
    .await;
}

/// Every piece of a body wakes the component: a slow download must not count as computing.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_slow_store_costs_no_processor_time() {
    let server = DevStore::builder().start().await.unwrap();
    server.put_object("app", vec![b' '; 10_000_000]).unwrap();
    server.inject(FaultRule {
        operation: Some("GetObject".to_owned()),
        key_ends_with: None,
        skip: 0,
        times: 1,
        fault: Fault::SlowBody { pause_ms: 20 },
    });
    let limits = Limits::default().cpu(Duration::from_millis(300));
    let backend = Backend::builder().limits(limits).build().await.unwrap();
    let store = backend
        .store(server.backend_block("app"))
        .grant(Grant::local());
    let store = store.open().await.unwrap().store;
    let reading = store.read("default", None).await;
    assert!(
        matches!(&reading, Ok(Reading::State(state)) if state.bytes.len() == 10_000_000),
        "{reading:?}"
    );
}

#[tokio::test]
async fn a_panic_is_a_trap_without_the_components_words() {
    let store = store(Limits::default(), Grant::sealed()).await;
    fails(&store, "panic", |error| {
        matches!(
            error,
            Error::Trap {
                outcome: Outcome::NotDone,
                ..
            }
        ) && !error.to_string().contains("on request")
    })
    .await;
}

#[tokio::test]
async fn a_call_that_is_given_up_costs_its_instance_and_nothing_else() {
    let store = store(Limits::default(), Grant::sealed()).await;
    let call = store.read("wait", None);
    assert!(
        tokio::time::timeout(Duration::from_millis(50), call)
            .await
            .is_err(),
        "it waits"
    );
    assert!(matches!(
        store.read("default", None).await,
        Ok(Reading::Absent)
    ));
}

#[tokio::test]
async fn a_sealed_store_reaches_no_address_that_its_grant_does_not_name() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let store = store(Limits::default(), Grant::sealed()).await;
    for url in [
        format!("http://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "https://example.com/".to_owned(),
    ] {
        let answer = seen(&store, &format!("get {url}")).await;
        assert!(
            answer.contains("HttpRequestDenied") || answer.contains("InternalError"),
            "{url}: {answer}"
        );
    }
    let accepted = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
    assert!(accepted.is_err(), "nothing was connected");
}

#[tokio::test]
async fn a_rule_opens_exactly_the_place_that_it_names() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        let _ = socket.read(&mut request).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut socket, b"HTTP/1.1 204 No Content\r\n\r\n")
            .await
            .unwrap();
        String::from_utf8_lossy(&request)
            .lines()
            .next()
            .unwrap()
            .to_owned()
    });
    let rule = format!("GET http://127.0.0.1:{port}/open/")
        .parse()
        .unwrap();
    let store = store(Limits::default(), Grant::sealed().allow(rule)).await;
    for path in ["shut/x", "open", "open/../shut/x", "open/%2e%2e/shut/x"] {
        let answer = seen(&store, &format!("get http://127.0.0.1:{port}/{path}")).await;
        assert!(answer.contains("HttpRequestDenied"), "{path}: {answer}");
    }
    assert_eq!(
        seen(&store, &format!("get http://127.0.0.1:{port}/open/x")).await,
        "Ok(204)"
    );
    assert_eq!(server.await.unwrap(), "GET /open/x HTTP/1.1");
}

#[tokio::test]
async fn a_name_that_resolves_to_loopback_is_no_way_in() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // A sealed configuration may name an https host, but not what that name resolves to.
    let backend = Backend::builder()
        .component(hostile())
        .build()
        .await
        .unwrap();
    let config = json!({"bucket": "b", "key": "k", "endpoints": {"s3": format!("https://localhost:{port}")}});
    let store = backend
        .store(config)
        .grant(Grant::sealed())
        .open()
        .await
        .unwrap()
        .store;
    let answer = seen(&store, &format!("get https://localhost:{port}/b/k")).await;
    assert!(answer.contains("DestinationIpProhibited"), "{answer}");
    assert!(
        tokio::time::timeout(Duration::ZERO, listener.accept())
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_sealed_store_sees_no_variable_file_or_command() {
    let store = store(Limits::default(), Grant::sealed()).await;
    for question in [
        "variable PATH",
        "variable AWS_REGION",
        "file /etc/passwd",
        "run id",
    ] {
        assert_eq!(
            seen(&store, question).await,
            "Err(Refusal::Denied)",
            "{question}"
        );
    }
    assert_eq!(
        seen(&store, "environment").await,
        "0",
        "variables in the component's own environment"
    );
}

#[tokio::test]
async fn a_local_store_sees_only_the_documented_variables() {
    let store = store(Limits::default(), Grant::local()).await;
    assert_eq!(seen(&store, "variable PATH").await, "Err(Refusal::Denied)");
    assert!(seen(&store, "variable AWS_REGION").await.starts_with("Ok("));
}

async fn load(text: &str) -> ComponentError {
    let bytes = wat::parse_str(text).unwrap();
    match Backend::builder()
        .component(ComponentSource::Bytes(bytes))
        .build()
        .await
    {
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
    let golden: Vec<&str> = include_str!("../imports.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(imports, golden);
}
