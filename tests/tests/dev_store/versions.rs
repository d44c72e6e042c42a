//! Versioned buckets and buckets with Object Lock, over HTTP.

use cofferdam::dev_store::{DevStore, Misbehaviour};

use super::{Answer, Client};

/// The texts of all elements of this name.
fn elements(answer: &Answer, name: &str) -> Vec<String> {
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let start = format!("<{name}>");
    let found = text.split(&start).skip(1);
    found
        .map(|rest| rest.split('<').next().unwrap().to_owned())
        .collect()
}

fn version(answer: &Answer) -> String {
    answer.headers["x-amz-version-id"]
        .to_str()
        .unwrap()
        .to_owned()
}

async fn versioned() -> (DevStore, Client) {
    let store = DevStore::builder().versioning(true).start().await.unwrap();
    let client = Client::new(&store);
    (store, client)
}

#[tokio::test]
async fn a_versioned_bucket_keeps_what_is_replaced_and_deleted() {
    let (store, client) = versioned().await;
    let one = version(&client.send("PUT", "/tfstate/s", &[], "one").await);
    let two = version(&client.send("PUT", "/tfstate/s", &[], "two").await);
    assert_ne!(one, two);
    let read = client.send("GET", "/tfstate/s", &[], "").await;
    assert_eq!(
        (read.body.as_ref(), version(&read)),
        (&b"two"[..], two.clone())
    );
    let of = |version: &str| format!("/tfstate/s?versionId={version}");
    let old = client.send("GET", &of(&one), &[], "").await;
    assert_eq!(
        (old.body.as_ref(), version(&old)),
        (&b"one"[..], one.clone())
    );
    let head = client.send("HEAD", &of(&one), &[], "").await;
    assert_eq!(head.headers["content-length"], "3");
    let none = client.send("GET", &of("none"), &[], "").await;
    assert_eq!(
        (none.status.as_u16(), none.code()),
        (404, "NoSuchVersion".to_owned())
    );

    let deleted = client.send("DELETE", "/tfstate/s", &[], "").await;
    assert_eq!(deleted.status, 204);
    assert_eq!(deleted.headers["x-amz-delete-marker"], "true");
    let marker = version(&deleted);
    let gone = client.send("GET", "/tfstate/s", &[], "").await;
    assert_eq!(
        (gone.status.as_u16(), gone.code()),
        (404, "NoSuchKey".to_owned())
    );
    assert_eq!(gone.headers["x-amz-delete-marker"], "true");
    assert_eq!(version(&gone), marker);
    let by_version = client.send("GET", &of(&marker), &[], "").await;
    assert_eq!(by_version.status, 405);
    assert!(store.keys().is_empty());

    // Without its marker the object is there again.
    let removed = client.send("DELETE", &of(&marker), &[], "").await;
    assert_eq!(removed.headers["x-amz-delete-marker"], "true");
    assert_eq!(store.object("s").unwrap(), "two");
    let removed = client.send("DELETE", &of(&two), &[], "").await;
    assert!(!removed.headers.contains_key("x-amz-delete-marker"));
    assert_eq!(store.object("s").unwrap(), "one");
    let bodies: Vec<_> = store.history("s").into_iter().map(|it| it.body).collect();
    let expected = ["one", "two", "", "two", "one"];
    let expected = expected.map(|body| (!body.is_empty()).then(|| body.into()));
    assert_eq!(bodies, expected);
    assert_eq!(
        store.history("s")[2].version_id.as_deref(),
        Some(marker.as_str())
    );
}

#[tokio::test]
async fn a_delete_marker_is_no_object_to_conditions() {
    let (store, client) = versioned().await;
    let create = [("if-none-match", "*")];
    let lock = async || client.send("PUT", "/tfstate/s.tflock", &create, "x").await;
    let first = lock().await;
    assert_eq!(first.status, 200);
    assert_eq!(lock().await.status, 412);
    let held = [("if-match", first.etag())];
    let deleted = client.send("DELETE", "/tfstate/s.tflock", &held, "").await;
    assert_eq!(deleted.status, 204);
    for method in ["PUT", "DELETE"] {
        let answer = client.send(method, "/tfstate/s.tflock", &held, "x").await;
        assert_eq!(
            (answer.status.as_u16(), answer.code()),
            (404, "NoSuchKey".to_owned())
        );
    }
    assert_eq!(
        lock().await.status,
        200,
        "a released lock can be taken again"
    );
    client.send("DELETE", "/tfstate/s.tflock", &[], "").await;
    store.set_misbehaviour(Misbehaviour::StickyDeleteMarkers);
    assert_eq!(lock().await.status, 412);
    let other = client.send("PUT", "/tfstate/other", &create, "x").await;
    assert_eq!(other.status, 200, "which never was");
}

#[tokio::test]
async fn all_versions_are_listed_page_by_page() {
    let (_store, client) = versioned().await;
    for (key, body) in [("a", "1"), ("b", "1"), ("b", "2"), ("env%3A/c", "1")] {
        client
            .send("PUT", &format!("/tfstate/{key}"), &[], body)
            .await;
    }
    client.send("DELETE", "/tfstate/b", &[], "").await;
    let whole = client.send("GET", "/tfstate?versions=", &[], "").await;
    assert_eq!(elements(&whole, "VersionId").len(), 5);
    assert_eq!(
        elements(&whole, "IsLatest")
            .iter()
            .filter(|it| *it == "true")
            .count(),
        3
    );
    assert_eq!(elements(&whole, "DeleteMarker").len(), 1);
    assert_eq!(elements(&whole, "IsTruncated"), ["false"]);
    let prefixed = client
        .send("GET", "/tfstate?versions=&prefix=b", &[], "")
        .await;
    assert_eq!(elements(&prefixed, "Key"), ["b"; 3]);

    for size in 1..6 {
        let mut ids = Vec::new();
        let mut next = String::new();
        loop {
            let path = format!("/tfstate?max-keys={size}&versions={next}");
            let page = client.send("GET", &path, &[], "").await;
            ids.extend(elements(&page, "VersionId"));
            if elements(&page, "IsTruncated") == ["false"] {
                break;
            }
            next = format!(
                "&key-marker={}&version-id-marker={}",
                elements(&page, "NextKeyMarker")[0]
                    .replace(':', "%3A")
                    .replace('/', "%2F"),
                elements(&page, "NextVersionIdMarker")[0]
            );
        }
        ids.sort();
        let mut expected = elements(&whole, "VersionId");
        expected.sort();
        assert_eq!(ids, expected, "in pages of {size}");
    }
    let wrong = "/tfstate?versions=&key-marker=b&version-id-marker=none";
    assert_eq!(
        client.send("GET", wrong, &[], "").await.code(),
        "InvalidArgument"
    );
}

#[tokio::test]
async fn versioning_is_switched_over_the_protocol() {
    let store = DevStore::builder().start().await.unwrap();
    let client = Client::new(&store);
    let status = async || {
        elements(
            &client.send("GET", "/tfstate?versioning=", &[], "").await,
            "Status",
        )
    };
    let switch = async |status: &str| {
        let body =
            format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>");
        client
            .send("PUT", "/tfstate?versioning=", &[], body)
            .await
            .status
            .as_u16()
    };
    assert!(status().await.is_empty());
    let plain = client.send("PUT", "/tfstate/s", &[], "before").await;
    assert!(!plain.headers.contains_key("x-amz-version-id"));
    assert_eq!(switch("Enabled").await, 200);
    assert_eq!(status().await, ["Enabled"]);
    let first = client.send("PUT", "/tfstate/s", &[], "during").await;
    assert_eq!(switch("Suspended").await, 200);
    assert_eq!(status().await, ["Suspended"]);
    let after = client.send("PUT", "/tfstate/s", &[], "after").await;
    assert_eq!(version(&after), "null", "in place of the one from before");
    let listed = client.send("GET", "/tfstate?versions=", &[], "").await;
    assert_eq!(
        elements(&listed, "VersionId"),
        ["null".to_owned(), version(&first)]
    );
    let deleted = client.send("DELETE", "/tfstate/s", &[], "").await;
    assert_eq!(version(&deleted), "null");
    let left = client.send("GET", "/tfstate?versions=", &[], "").await;
    assert_eq!(
        elements(&left, "VersionId"),
        ["null".to_owned(), version(&first)]
    );
    assert_eq!(store.object("s"), None);
    assert_eq!(switch("Off").await, 400);
}

#[tokio::test]
async fn many_are_deleted_each_with_a_marker_or_by_its_version() {
    let (store, client) = versioned().await;
    let a = version(&client.send("PUT", "/tfstate/a", &[], "x").await);
    client.send("PUT", "/tfstate/b", &[], "x").await;
    let body = format!(
        "<Delete><Object><Key>a</Key><VersionId>{a}</VersionId></Object><Object><Key>b</Key></Object></Delete>"
    );
    let answer = client.send("POST", "/tfstate?delete=", &[], body).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    assert_eq!(elements(&answer, "VersionId"), [a]);
    assert_eq!(elements(&answer, "DeleteMarkerVersionId").len(), 1);
    let left = client.send("GET", "/tfstate?versions=", &[], "").await;
    assert_eq!(elements(&left, "Key"), ["b", "b"]);
    assert!(store.keys().is_empty());
}

#[tokio::test]
async fn a_directory_keeps_versions_in_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let open = || DevStore::builder().directory(&path).start();
    let store = open().await.unwrap();
    let client = Client::new(&store);
    client.send("PUT", "/tfstate/s", &[], "before").await;
    store.shutdown().await;
    let store = DevStore::builder()
        .directory(&path)
        .versioning(true)
        .start()
        .await
        .unwrap();
    let client = Client::new(&store);
    let long = "k".repeat(900);
    let keys = ["s", "~", long.as_str()];
    for number in 0..12 {
        for key in keys {
            client
                .send("PUT", &format!("/tfstate/{key}"), &[], number.to_string())
                .await;
        }
    }
    client.send("DELETE", "/tfstate/~", &[], "").await;
    let listed = client.send("GET", "/tfstate?versions=", &[], "").await;
    store.shutdown().await;

    let store = open().await.unwrap();
    let client = Client::new(&store);
    let again = client.send("GET", "/tfstate?versions=", &[], "").await;
    for name in ["Key", "VersionId", "IsLatest", "ETag"] {
        assert_eq!(elements(&again, name), elements(&listed, name));
    }
    assert_eq!(elements(&again, "VersionId").len(), 1 + 3 * 12 + 1);
    assert_eq!(store.object("s").unwrap(), "11");
    assert_eq!(store.object("~"), None);
    let marker = version(&client.send("GET", "/tfstate/~", &[], "").await);
    client
        .send("DELETE", &format!("/tfstate/~?versionId={marker}"), &[], "")
        .await;
    store.shutdown().await;
    assert_eq!(open().await.unwrap().object("~").unwrap(), "11");
}

#[tokio::test]
async fn a_bucket_with_object_lock_demands_checksums_and_keeps_versions() {
    let store = DevStore::builder().object_lock(true).start().await.unwrap();
    let client = Client::new(&store);
    let bare = client.send("PUT", "/tfstate/s", &[], "state").await;
    assert_eq!(
        (bare.status.as_u16(), bare.code()),
        (400, "InvalidRequest".to_owned())
    );
    for header in [
        (
            "x-amz-checksum-sha256",
            "S6aXNcpTdl7WpwnttWxuoja3GTo7KaazkMNG8PQ0Dk4=",
        ),
        ("content-md5", "ntOeLqkxWGtqmFppQu9XPg=="),
    ] {
        let stored = client.send("PUT", "/tfstate/s", &[header], "state").await;
        assert_eq!(stored.status, 200, "{:?}", stored.body);
        assert!(stored.headers.contains_key("x-amz-version-id"));
    }
    let lock = client.send("GET", "/tfstate?object-lock=", &[], "").await;
    assert_eq!(elements(&lock, "ObjectLockEnabled"), ["Enabled"]);
    let suspended = "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>";
    let refused = client
        .send("PUT", "/tfstate?versioning=", &[], suspended)
        .await;
    assert_eq!(
        (refused.status.as_u16(), refused.code()),
        (409, "InvalidBucketState".to_owned())
    );
}
