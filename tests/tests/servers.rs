//! The servers and programs that the other tests lean on: if these are not what we take them for, those
//! tests prove nothing.

#![allow(
    clippy::expect_used,
    reason = "this is test code: a panic is how it reports"
)]

use cofferdam::dev_store::DevStore;
use cofferdam_tests::{Ministack, RawS3, Site, Terraform};
use http::StatusCode;

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_store_checks_signatures_and_conditions() {
    let server = DevStore::builder()
        .start()
        .await
        .expect("the embedded store starts");
    checks_signatures_and_conditions(&Site::of(&server)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ministack_checks_signatures_and_conditions() {
    let Some(ministack) = Ministack::start().await else {
        return;
    };
    checks_signatures_and_conditions(ministack.site()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn terraform_alone_keeps_its_state_on_the_embedded_store() {
    let server = DevStore::builder()
        .start()
        .await
        .expect("the embedded store starts");
    terraform_keeps_its_state(&Site::of(&server)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn terraform_alone_keeps_its_state_on_ministack() {
    let Some(ministack) = Ministack::start().await else {
        return;
    };
    terraform_keeps_its_state(ministack.site()).await;
}

async fn checks_signatures_and_conditions(site: &Site) {
    let client = RawS3::new(site);
    client
        .put("a/b.tflock", "one")
        .await
        .expect_success("store an object");
    assert_eq!(
        client.object("a/b.tflock").await.as_deref(),
        Some(b"one".as_slice())
    );

    let forged = RawS3::new(&Site {
        secret_access_key: "guessed".to_owned(),
        ..site.clone()
    });
    assert_eq!(forged.get("a/b.tflock").await.status, StatusCode::FORBIDDEN);
    assert_eq!(
        forged.put("a/b.tflock", "two").await.status,
        StatusCode::FORBIDDEN
    );

    assert_eq!(
        client.put_lock("a/b.tflock", "two").await.status,
        StatusCode::PRECONDITION_FAILED
    );
    assert_eq!(
        client.object("a/b.tflock").await.as_deref(),
        Some(b"one".as_slice())
    );
    client
        .delete("a/b.tflock")
        .await
        .expect_success("delete the object");
    client
        .put_lock("a/b.tflock", "two")
        .await
        .expect_success("take the lock");
    assert_eq!(
        client.object("a/b.tflock").await.as_deref(),
        Some(b"two".as_slice())
    );
}

async fn terraform_keeps_its_state(site: &Site) {
    let Some(terraform) = Terraform::installed() else {
        return;
    };
    let terraform = terraform.with_backend("s3", &site.block("alone/terraform.tfstate"));
    terraform.ok(&["init", "-no-color"]).await;
    terraform.ok(&["workspace", "new", "dev"]).await;
    terraform.apply("kept").await;
    assert_eq!(terraform.ok(&["output", "-raw", "value"]).await, "kept");
    let key = site.state_key("alone/terraform.tfstate", "dev");
    assert!(RawS3::new(site).object(&key).await.is_some());
}
