//! The conformance suite, on the backend's logic compiled natively and on the component in its sandbox.
//!
//! `cargo test --release --test conformance -- component::locks` runs one part of it.

#![allow(
    clippy::expect_used,
    reason = "this is test code: a panic is how it reports"
)]

use std::sync::Arc;

use cofferdam_tests::component::Component;
use cofferdam_tests::conformance::{self, Case, Fixture, Flavour};
use cofferdam_tests::native::Native;
use libtest_mimic::{Arguments, Trial};
use tokio::runtime::Runtime;

fn main() {
    let trials = conformance::all()
        .into_iter()
        .flat_map(|case| {
            // The sandbox has no clock that a test could move.
            let ignored = case.moves_time;
            [
                trial("native", case, async || {
                    Arc::new(Native::default()) as Arc<dyn Flavour>
                }),
                trial("component", case, async || {
                    Arc::new(Component::load().await) as Arc<dyn Flavour>
                })
                .with_ignored_flag(ignored),
            ]
        })
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// One case in a runtime of its own, so that no connection of another case is still open.
fn trial<F>(flavour: &str, case: Case, make: F) -> Trial
where
    F: AsyncFnOnce() -> Arc<dyn Flavour> + Send + 'static,
{
    Trial::test(format!("{flavour}::{}", case.name), move || {
        let runtime = Runtime::new().expect("a runtime");
        runtime.block_on(async { (case.run)(Fixture::new(make().await).await).await });
        Ok(())
    })
}
