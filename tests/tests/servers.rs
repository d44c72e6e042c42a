//! The servers and programs that the other tests lean on: if these are not what we take them for, those
//! tests prove nothing.

#![allow(
    clippy::expect_used,
    reason = "this is test code: a panic is how it reports"
)]

use cofferdam::dev_store::{Fault, FaultRule};
use cofferdam_tests::servers::embedded_store;
use cofferdam_tests::signed::Answer;
use cofferdam_tests::{
    Dynalite, Locking, Ministack, Moto, RawDynamoDb, RawS3, S3rver, S3sFs, Site, Terraform,
};
use http::StatusCode;

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_store_checks_signatures_and_conditions() {
    let server = embedded_store().await;
    let site = Site::of(&server);
    checks_signatures_and_conditions(&site).await;
    checks_conditions_on_items(&site).await;
    checks_signatures_of_items(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ministack_checks_signatures_and_conditions() {
    let Some(ministack) = Ministack::start().await else {
        return;
    };
    checks_signatures_and_conditions(ministack.site()).await;
    checks_conditions_on_items(ministack.site()).await;
    checks_signatures_of_items(ministack.site()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_checks_signatures_and_conditions() {
    let Some(moto) = Moto::start().await else {
        return;
    };
    checks_signatures_and_conditions(moto.site()).await;
    checks_conditions_on_items(moto.site()).await;
    checks_signatures_of_items(moto.site()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dynalite_checks_conditions() {
    let Some(dynalite) = Dynalite::start().await else {
        return;
    };
    checks_conditions_on_items(dynalite.site()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3rver_silently_ignores_conditions() {
    let Some(s3rver) = S3rver::start().await else {
        return;
    };
    let client = RawS3::new(s3rver.site());
    for record in ["one", "two"] {
        client
            .put_lock("a/b.tflock", record)
            .await
            .expect_success("take a lock that may be taken");
    }
    assert_eq!(
        client.object("a/b.tflock").await.as_deref(),
        Some(b"two".as_slice())
    );
}

/// That it is racy as well shows only now and then.
#[tokio::test(flavor = "multi_thread")]
async fn s3s_fs_checks_signatures_and_conditions() {
    let Some(s3s_fs) = S3sFs::start().await else {
        return;
    };
    checks_signatures_and_conditions(s3s_fs.site()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn terraform_alone_keeps_its_state_on_the_embedded_store() {
    let server = embedded_store().await;
    terraform_keeps_its_state(&Site::of(&server), &Locking::ALL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn terraform_alone_keeps_its_state_on_ministack() {
    let Some(ministack) = Ministack::start().await else {
        return;
    };
    terraform_keeps_its_state(ministack.site(), &Locking::ALL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn terraform_alone_keeps_its_state_on_moto() {
    let Some(moto) = Moto::start().await else {
        return;
    };
    terraform_keeps_its_state(moto.site(), &Locking::ALL).await;
}

async fn checks_signatures_and_conditions(site: &Site) {
    let client = RawS3::new(site);
    client
        .put("a/b", "one")
        .await
        .expect_success("store an object");
    let forger = RawS3::new(&forged(site));
    assert_eq!(forger.get("a/b").await.status, StatusCode::FORBIDDEN);
    assert_eq!(forger.put("a/b", "two").await.status, StatusCode::FORBIDDEN);
    assert_eq!(
        client.object("a/b").await.as_deref(),
        Some(b"one".as_slice())
    );

    client
        .put_lock("a/b.tflock", "one")
        .await
        .expect_success("take the lock");
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

async fn checks_conditions_on_items(site: &Site) {
    let client = RawDynamoDb::new(site);
    let (lock, mine, other) = ("states/a", r#"{"ID":"mine"}"#, r#"{"ID":"other"}"#);
    client
        .put_lock(lock, mine)
        .await
        .expect_success("take the lock");
    is_refused(client.put_lock(lock, other).await);
    is_refused(client.delete_lock(lock, other).await);
    assert_eq!(client.record(lock).await.as_deref(), Some(mine));
    client
        .delete_lock(lock, mine)
        .await
        .expect_success("release the lock");
    assert_eq!(client.record(lock).await, None);

    client
        .put_digest(lock, "d41d8cd98f00b204e9800998ecf8427e")
        .await
        .expect_success("record a digest");
    assert!(client.digest(lock).await.is_some());
    client
        .put_lock(lock, mine)
        .await
        .expect_success("a digest is no lock");
}

async fn checks_signatures_of_items(site: &Site) {
    let client = RawDynamoDb::new(site);
    let forger = RawDynamoDb::new(&forged(site));
    let answer = forger.put_lock("states/forged", "{}").await;
    assert!(answer.status.is_client_error(), "{answer:?}");
    assert_eq!(client.record("states/forged").await, None);
}

fn forged(site: &Site) -> Site {
    Site {
        secret_access_key: "guessed".to_owned(),
        ..site.clone()
    }
}

fn is_refused(answer: Answer) {
    let body = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
    assert!(body.contains("ConditionalCheckFailedException"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terraform_that_locked_itself_out_of_its_table_is_helped_once() {
    let server = embedded_store().await;
    let site = Site::of(&server);
    let lose_answer = || {
        server.inject(FaultRule {
            operation: Some("PutItem".to_owned()),
            key_ends_with: Some("terraform.tfstate".to_owned()),
            skip: 0,
            times: 1,
            fault: Fault::LoseAnswer,
        });
    };
    for locking in [Locking::DynamoDb, Locking::Both] {
        let Some(terraform) = Terraform::installed() else {
            return;
        };
        let key = format!("out/{}/terraform.tfstate", locking.name());
        let terraform = terraform.with_backend("s3", &site.block_with(&key, locking));
        terraform.ok(&["init", "-no-color"]).await;
        lose_answer();
        terraform.ok(&["workspace", "new", "dev"]).await;
        lose_answer();
        terraform.apply("kept").await;
    }
}

async fn terraform_keeps_its_state(site: &Site, lockings: &[Locking]) {
    for locking in lockings {
        let Some(terraform) = Terraform::installed() else {
            return;
        };
        let key = format!("alone/{}/terraform.tfstate", locking.name());
        let terraform = terraform.with_backend("s3", &site.block_with(&key, *locking));
        terraform.ok(&["init", "-no-color"]).await;
        terraform.ok(&["workspace", "new", "dev"]).await;
        terraform.apply("kept").await;
        assert_eq!(terraform.ok(&["output", "-raw", "value"]).await, "kept");
        let state = RawS3::new(site).object(&site.state_key(&key, "dev")).await;
        assert!(state.is_some());
        if locking.has_item() {
            let table = RawDynamoDb::new(site);
            assert!(table.digest(&site.lock_id(&key, "dev")).await.is_some());
            assert_eq!(table.record(&site.lock_id(&key, "dev")).await, None);
        }
    }
}
