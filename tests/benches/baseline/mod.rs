//! What the benchmarks compare with: the `object_store` crate, which signs and sends checksums as the component does. What it
//! reads is hashed here, since the host verifies what it reads.

#![allow(
    dead_code,
    reason = "each benchmark is a crate of its own, and none needs all of it"
)]

use bytes::Bytes;
use cofferdam::{Backend, Grant, Store};
use cofferdam_tests::Site;
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum};
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions, UpdateVersion};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::hint::black_box;

/// A native client with connections of its own, as each store has its own.
pub struct Native(AmazonS3);

impl Native {
    pub fn new(site: &Site) -> Self {
        let client = AmazonS3Builder::new()
            .with_endpoint(&site.url)
            .with_allow_http(true)
            .with_bucket_name(&site.bucket)
            .with_region(&site.region)
            .with_access_key_id(&site.access_key_id)
            .with_secret_access_key(&site.secret_access_key)
            .with_checksum_algorithm(Checksum::SHA256)
            .build();
        Self(client.expect("a client"))
    }

    /// Reads and hashes an object.
    pub async fn get(&self, key: &str) -> (Bytes, UpdateVersion) {
        let answer = self.0.get(&Path::from(key)).await;
        let answer = answer.expect("the object is there");
        let version = UpdateVersion {
            e_tag: answer.meta.e_tag.clone(),
            version: None,
        };
        let bytes = answer.bytes().await.expect("the object is read");
        black_box(Sha256::digest(&bytes));
        (bytes, version)
    }

    pub async fn put(&self, key: &str, body: Bytes, mode: PutMode) {
        let options = PutOptions {
            mode,
            ..PutOptions::default()
        };
        let path = Path::from(key);
        let put = self.0.put_opts(&path, body.into(), options);
        black_box(put.await.expect("the object is written"));
    }

    pub async fn delete(&self, key: &str) {
        let deleted = self.0.delete(&Path::from(key)).await;
        deleted.expect("the object is deleted");
    }
}

/// A store with all that a person's own machine grants.
pub async fn open(backend: &Backend, block: &Value) -> Store {
    let opening = backend.store(block.clone()).grant(Grant::local());
    opening.open().await.expect("the store opens").store
}

pub fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}
