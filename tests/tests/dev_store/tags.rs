//! Tags and access lists, over HTTP.

use cofferdam::dev_store::DevStore;

use super::{Client, start};

fn text(answer: &super::Answer) -> String {
    String::from_utf8(answer.body.to_vec()).unwrap()
}

#[tokio::test]
async fn tags_come_with_a_write_are_counted_replaced_and_removed() {
    let (store, client) = start().await;
    let sent = [("x-amz-tagging", "Owner=a+b&team=x%26y")];
    client.send("PUT", "/tfstate/s", &sent, "state").await;
    let read = client.send("GET", "/tfstate/s", &[], "").await;
    assert_eq!(read.headers["x-amz-tagging-count"], "2");
    let tags = async || text(&client.send("GET", "/tfstate/s?tagging=", &[], "").await);
    let all = tags().await;
    assert!(all.contains("<Key>Owner</Key><Value>a b</Value>"), "{all}");
    assert!(
        all.contains("<Key>team</Key><Value>x&amp;y</Value>"),
        "{all}"
    );

    let other = "<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>";
    let replaced = client.send("PUT", "/tfstate/s?tagging=", &[], other).await;
    assert_eq!(replaced.status, 200, "{:?}", replaced.body);
    let all = tags().await;
    assert!(
        all.contains("<Key>k</Key>") && !all.contains("Owner"),
        "{all}"
    );
    let again = client.send("GET", "/tfstate/s", &[], "").await;
    assert_eq!(
        (again.etag(), again.body.as_ref()),
        (read.etag(), &b"state"[..])
    );
    assert_eq!(store.history("s").len(), 1, "the object is the same");

    let removed = client.send("DELETE", "/tfstate/s?tagging=", &[], "").await;
    assert_eq!(removed.status, 204);
    assert!(!tags().await.contains("<Key>"));
    let bare = client.send("GET", "/tfstate/s", &[], "").await;
    assert!(!bare.headers.contains_key("x-amz-tagging-count"));

    let twice = [("x-amz-tagging", "a=1&a=2")];
    let refused = client.send("PUT", "/tfstate/s", &twice, "other").await;
    assert_eq!(
        (refused.status.as_u16(), refused.code()),
        (400, "InvalidTag".to_owned())
    );
    assert_eq!(store.object("s").unwrap(), "state");
    let none = client.send("GET", "/tfstate/none?tagging=", &[], "").await;
    assert_eq!(none.code(), "NoSuchKey");
}

#[tokio::test]
async fn tags_and_access_lists_outlive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let open = || {
        DevStore::builder()
            .directory(&path)
            .versioning(true)
            .start()
    };
    let store = open().await.unwrap();
    let client = Client::new(&store);
    let sent = [("x-amz-tagging", "a=1"), ("x-amz-acl", "public-read")];
    client.send("PUT", "/tfstate/s", &sent, "one").await;
    client.send("PUT", "/tfstate/s", &[], "two").await;
    let tags = "<Tagging><TagSet><Tag><Key>b</Key><Value>2</Value></Tag></TagSet></Tagging>";
    client.send("PUT", "/tfstate/s?tagging=", &[], tags).await;
    store.shutdown().await;
    let store = open().await.unwrap();
    let client = Client::new(&store);
    let read = client.send("GET", "/tfstate/s?tagging=", &[], "").await;
    assert!(text(&read).contains("<Key>b</Key>"));
    assert_eq!(store.object("s").unwrap(), "two");
    let acl = text(&client.send("GET", "/tfstate/s?acl=", &[], "").await);
    assert!(!acl.contains("AllUsers"), "of the newest version: {acl}");
}

#[tokio::test]
async fn canned_access_lists_are_kept_unless_the_bucket_has_none() {
    let (_store, client) = start().await;
    let put = async |client: &Client, acl: &str| {
        client
            .send("PUT", "/tfstate/s", &[("x-amz-acl", acl)], "x")
            .await
    };
    assert_eq!(put(&client, "public-read").await.status, 200);
    let acl = text(&client.send("GET", "/tfstate/s?acl=", &[], "").await);
    assert!(
        acl.contains("AllUsers") && acl.contains("FULL_CONTROL"),
        "{acl}"
    );
    assert_eq!(put(&client, "nonsense").await.code(), "InvalidArgument");

    let store = DevStore::builder()
        .acls_disabled(true)
        .start()
        .await
        .unwrap();
    let client = Client::new(&store);
    let refused = put(&client, "private").await;
    assert_eq!(
        (refused.status.as_u16(), refused.code()),
        (400, "AccessControlListNotSupported".to_owned())
    );
    assert_eq!(store.object("s"), None);
    assert_eq!(put(&client, "bucket-owner-full-control").await.status, 200);
}
