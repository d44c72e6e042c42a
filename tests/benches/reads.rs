//! A warm read of 1 KB through the sandbox, beside the same GET by the `object_store` crate.
//!
//! `cargo bench --bench reads`. The target: at most 1.3 times the time of `object_store`, or 100 µs more,
//! whichever is more.

#![allow(
    clippy::expect_used,
    reason = "this is test code: a panic is how it reports"
)]

use std::hint::black_box;
use std::sync::Arc;

use cofferdam::StateStore;
use cofferdam::dev_store::DevStore;
use cofferdam_tests::Site;
use cofferdam_tests::component::Component;
use cofferdam_tests::conformance::{Flavour as _, Opening};
use criterion::{Criterion, criterion_group, criterion_main};
use object_store::ObjectStoreExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use tokio::runtime::Runtime;

const KEY: &str = "app/terraform.tfstate";
const BYTES: usize = 1024;

criterion_group!(benches, warm_reads);
criterion_main!(benches);

fn warm_reads(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let (_server, store, baseline) = runtime.block_on(open());
    let path = Path::from(KEY);

    let mut group = criterion.benchmark_group("warm read of 1 KB");
    group.bench_function("cofferdam, in the sandbox", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            black_box(
                store
                    .read("default", None)
                    .await
                    .expect("the state is read"),
            );
        });
    });
    group.bench_function("object_store", |bencher| {
        bencher.to_async(&runtime).iter(|| async {
            let answer = baseline.get(&path).await.expect("the object is there");
            black_box(answer.bytes().await.expect("the object is read"));
        });
    });
    group.finish();
}

async fn open() -> (DevStore, Arc<dyn StateStore>, AmazonS3) {
    let server = DevStore::builder()
        .recording(false)
        .start()
        .await
        .expect("the embedded store starts");
    server
        .put_object(KEY, vec![b'x'; BYTES])
        .expect("the object is stored");
    let site = Site::of(&server);
    let opening = Opening::new(site.block(KEY));
    let store = Component::load()
        .await
        .open(opening)
        .await
        .expect("the store opens");
    let baseline = AmazonS3Builder::new()
        .with_endpoint(&site.url)
        .with_allow_http(true)
        .with_bucket_name(&site.bucket)
        .with_region(&site.region)
        .with_access_key_id(&site.access_key_id)
        .with_secret_access_key(&site.secret_access_key)
        .build()
        .expect("a client");
    (server, store, baseline)
}
