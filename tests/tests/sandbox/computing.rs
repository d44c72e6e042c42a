//! Components that take more of the machine than they may.

use std::time::Duration;

use cofferdam::dev_store::{DevStore, Fault, FaultRule};
use cofferdam::{Backend, ComponentError, ComponentSource, Reading};
use cofferdam::{Error, ErrorCode, Grant, Limit, LockInfo, Outcome, ProbeOptions, StateStore};
use serde_json::json;

use crate::house::{House, limits};

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_without_end_hits_the_processor_limit() {
    let time = Duration::from_millis(200);
    let house = House::limited(limits().cpu(time)).await;
    house.hits("loop", Limit::Cpu(time)).await;
    house.close().await;
}

#[tokio::test]
async fn a_loop_without_end_leaves_the_thread_to_others() {
    // One thread serves both: without yields the neighbour would do nothing until the loop is ended.
    let house = House::limited(limits().cpu(Duration::from_millis(300))).await;
    let neighbour = async {
        let mut turns = 0_u32;
        while turns < 10 {
            tokio::task::yield_now().await;
            turns += 1;
        }
        turns
    };
    let (looped, turns) = tokio::join!(house.store.read("loop", None), neighbour);
    assert!(looped.is_err());
    assert_eq!(turns, 10);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hoarding_memory_hits_the_memory_limit() {
    let house = House::limited(limits().memory(16 << 20)).await;
    house.hits("memory", Limit::Memory(16 << 20)).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recursion_without_end_overflows_a_stack_that_is_the_components_own() {
    let house = House::sealed().await;
    house
        .fails("recursion", |error| {
            matches!(error, Error::Trap { reason, outcome: Outcome::NotDone, .. } if reason.contains("stack"))
        })
        .await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_a_trap_without_the_components_words() {
    let house = House::sealed().await;
    house
        .fails("panic", |error| {
            matches!(
                error,
                Error::Trap {
                    outcome: Outcome::NotDone,
                    ..
                }
            ) && !error.to_string().contains("on request")
        })
        .await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_ever_hits_the_wall_clock() {
    let time = Duration::from_millis(500);
    let house = House::limited(limits().wall_clock(time)).await;
    house
        .fails("wait", |error| {
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
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_given_up_costs_its_instance_and_nothing_else() {
    let house = House::sealed().await;
    let call = house.store.read("wait", None);
    let given_up = tokio::time::timeout(Duration::from_millis(50), call).await;
    assert!(given_up.is_err(), "it waits");
    house.serves().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_leaked_resources_hit_the_limit_of_handles() {
    let house = House::limited(limits().handles(500)).await;
    house.hits("handles 1000000", Limit::Handles(500)).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_output_goes_nowhere_and_ends_at_the_processor_limit() {
    let time = Duration::from_millis(200);
    let house = House::limited(limits().cpu(time)).await;
    house.hits("print", Limit::Cpu(time)).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gigabyte_of_random_bytes_is_refused() {
    let house = House::sealed().await;
    house
        .hits("random 1073741824", Limit::Random(64 << 10))
        .await;
    house.sees("random 1000", "1000").await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_larger_than_the_limit_does_not_cross_the_boundary() {
    let house = House::limited(limits().state(10 << 20)).await;
    let enough = house.store.read("answer 10485760", None).await;
    assert!(matches!(&enough, Ok(Reading::State(it)) if it.bytes.len() == 10 << 20));
    let most = (10 << 20) + (4 << 20);
    house.hits("answer 20000000", Limit::Answer(most)).await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_of_a_hundred_megabytes_does_not_cross_the_boundary() {
    let house = House::sealed().await;
    let info = LockInfo::new("test");
    let locked = house.store.lock("answer 100000000", &info).await;
    let error = locked.expect_err("a lock is small");
    assert!(
        matches!(&error, Error::Limit { limit: Limit::Answer(most), .. } if *most == 8 << 20),
        "{error:?}"
    );
    house.serves().await;
    house.close().await;
}

/// Whatever the component hands over counts, not only states and locks.
#[tokio::test(flavor = "multi_thread")]
async fn errors_lists_and_arguments_larger_than_the_limit_do_not_cross_the_boundary() {
    let house = House::limited(limits().state(10 << 20)).await;
    let most = (10 << 20) + (4 << 20);
    house.hits("error 20000000", Limit::Answer(most)).await;
    house.hits("long-name 20000000", Limit::Answer(most)).await;
    house.sees("long-name 1000", "Err(Refusal::Denied)").await;
    let few = house.store.holders("many 10").await;
    assert_eq!(few.map(|holders| holders.len()).ok(), Some(10));
    let many = house.store.holders("many 1000000").await;
    let error = many.map(|_| ()).expect_err("nobody has so many holders");
    assert!(
        matches!(&error, Error::Limit { limit: Limit::Answer(most), .. } if *most == 8 << 20),
        "{error:?}"
    );
    house.serves().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_record_of_a_hundred_megabytes_in_the_store_is_a_holder_without_a_name() {
    let house = House::sealed().await;
    house
        .server
        .put_object("app.tflock", vec![b'{'; 100_000_000])
        .unwrap();
    let backend = Backend::builder().build().await.unwrap();
    let place = format!("{}/{}/app", house.server.url(), house.server.bucket());
    let grant = Grant::sealed().allow(place.parse().unwrap());
    let store = backend
        .store(house.server.backend_block("app"))
        .grant(grant);
    let store = store.open().await.unwrap().store;
    let error = store
        .lock("default", &LockInfo::new("test"))
        .await
        .expect_err("somebody holds it");
    assert_eq!(error.code(), Some(ErrorCode::Locked), "{error:?}");
    let holders = &error.store().unwrap().holders;
    assert!(matches!(&holders[..], [holder] if holder.info.is_none()));
    house.close().await;
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
    let limits = cofferdam::Limits::default().cpu(Duration::from_millis(300));
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
async fn a_component_without_inspection_is_told_from_one_that_fails_at_it() {
    let house = House::sealed().await;
    let store = house.store.clone();
    let unsupported = |error: Error| error.code() == Some(ErrorCode::Unsupported);
    let probing = store.clone();
    let probed = tokio::spawn(async move { probing.probe(ProbeOptions::default()).await });
    assert!(probed.await.unwrap().is_err_and(unsupported));
    let comparing = store.clone();
    let compared = tokio::spawn(async move { comparing.compare_digest("default").await });
    assert!(compared.await.unwrap().is_err_and(unsupported));
    let recorded = store.record_digest("default", None, None, None).await;
    assert!(recorded.is_err_and(unsupported));
    house.close().await;
}

/// A component with the contract's face whose core module is this.
fn made_of(module: &str, instances: usize) -> ComponentSource {
    let functions =
        ["schema", "validate", "explain"].map(|name| format!(r#"(export "{name}" (func $plain))"#));
    let methods = [
        "workspaces",
        "read",
        "write",
        "delete",
        "lock",
        "unlock",
        "holders",
    ];
    let typed = methods.map(|name| {
        format!(r#"(export "[method]store.{name}" (func $f) (func (param "self" (borrow $e))))"#)
    });
    let more = r#"(core instance (instantiate $m))"#.repeat(instances - 1);
    let text = format!(
        r#"(component
            (core module $m
                {module}
                (func (export "plain"))
                (func (export "method") (param i32)))
            (core instance $i (instantiate $m))
            {more}
            (type $store (resource (rep i32)))
            (func $plain (canon lift (core func $i "plain")))
            (func $method (param "self" (borrow $store)) (canon lift (core func $i "method")))
            (component $face
                (import "store" (type $s (sub resource)))
                (import "method" (func $f (param "self" (borrow $s))))
                (import "plain" (func $plain))
                (export $e "store" (type $s))
                {functions}
                (export "[static]store.open" (func $plain))
                {typed})
            (instance $exports (instantiate $face
                (with "store" (type $store))
                (with "method" (func $method))
                (with "plain" (func $plain))))
            (export "cofferdam:state-backend/state-store@0.1.0" (instance $exports)))"#,
        functions = functions.join("\n"),
        typed = typed.join("\n"),
    );
    ComponentSource::Bytes(wat::parse_str(text).unwrap())
}

async fn opening(source: ComponentSource) -> Error {
    let limits = limits().cpu(Duration::from_millis(200));
    let backend = Backend::builder().component(source).limits(limits);
    let store = backend.build().await.unwrap().store(json!({}));
    store.open().await.expect_err("it cannot be opened")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_before_the_first_call_hits_the_processor_limit() {
    let house = House::sealed().await;
    let error = opening(made_of("(func $s (loop (br 0))) (start $s)", 1)).await;
    assert!(
        matches!(
            &error,
            Error::Limit {
                limit: Limit::Cpu(_),
                ..
            }
        ),
        "{error:?}"
    );
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_table_hits_the_limit_of_its_elements() {
    let house = House::sealed().await;
    let error = opening(made_of("(table 1000000 funcref)", 1)).await;
    assert!(
        matches!(
            &error,
            Error::Limit {
                limit: Limit::TableElements(20_000),
                ..
            }
        ),
        "{error:?}"
    );
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_of_too_many_instances_memories_or_tables_is_not_instantiated() {
    let house = House::sealed().await;
    for (module, instances, what) in [
        ("", 100, "instance"),
        ("(memory 0)", 20, "memory"),
        ("(table 1 funcref)", 50, "table"),
    ] {
        let error = opening(made_of(module, instances)).await;
        assert!(
            matches!(&error, Error::Component(ComponentError::Instantiate(reason)) if reason.contains(what)),
            "{what}: {error:?}"
        );
    }
    house.close().await;
}
