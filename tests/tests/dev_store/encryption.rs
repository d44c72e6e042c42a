//! Encryption with keys of the customer, and copies, over HTTP.

use super::{DevStore, start};

/// The key of 32 times this letter, with its MD5.
fn key(letter: char) -> [(&'static str, &'static str); 3] {
    let (key, md5) = match letter {
        'a' => (
            "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=",
            "Xsqb0+sHwAbNQ65I395/0w==",
        ),
        'b' => (
            "YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI=",
            "i0+eoW3kvPW7/A/x6iN5NA==",
        ),
        _ => unreachable!(),
    };
    [
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ("x-amz-server-side-encryption-customer-key", key),
        ("x-amz-server-side-encryption-customer-key-md5", md5),
    ]
}

#[tokio::test]
async fn an_object_with_a_customers_key_is_read_with_that_key_alone() {
    let (store, client) = start().await;
    let stored = client.send("PUT", "/tfstate/s", &key('a'), "state").await;
    assert_eq!(stored.status, 200);
    let [algorithm, _, md5] = key('a');
    assert_eq!(stored.headers[algorithm.0], "AES256");
    assert_eq!(stored.headers[md5.0], md5.1);
    assert!(!stored.headers.contains_key(key('a')[1].0));
    assert_ne!(
        stored.etag(),
        "\"9ed39e2ea931586b6a985a6942ef573e\"",
        "the ETag is not the MD5 of the bytes"
    );
    for method in ["GET", "HEAD"] {
        let answer = client.send(method, "/tfstate/s", &key('a'), "").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.headers[md5.0], md5.1);
        let without = client.send(method, "/tfstate/s", &[], "").await;
        assert_eq!(without.status, 400);
        let other = client.send(method, "/tfstate/s", &key('b'), "").await;
        assert_eq!(other.status, 403);
    }
    let code = |headers: Vec<(&'static str, &'static str)>, path: &'static str| {
        let client = &client;
        async move { client.send("GET", path, &headers, "").await.code() }
    };
    assert_eq!(code(vec![], "/tfstate/s").await, "InvalidRequest");
    assert_eq!(code(key('b').to_vec(), "/tfstate/s").await, "AccessDenied");
    assert_eq!(
        code(key('a')[..2].to_vec(), "/tfstate/s").await,
        "InvalidArgument"
    );
    let mixed = [key('a')[0], key('a')[1], key('b')[2]];
    assert_eq!(code(mixed.to_vec(), "/tfstate/s").await, "InvalidArgument");
    store.put_object("plain", "x").unwrap();
    assert_eq!(
        code(key('a').to_vec(), "/tfstate/plain").await,
        "InvalidRequest"
    );

    // Whoever may write may replace and delete what he can't read.
    let replaced = client.send("PUT", "/tfstate/s", &[], "other").await;
    assert_eq!(replaced.status, 200);
    assert_eq!(
        client.send("GET", "/tfstate/s", &[], "").await.body,
        "other"
    );
    let both = [
        key('a').to_vec(),
        vec![("x-amz-server-side-encryption", "AES256")],
    ]
    .concat();
    let answer = client.send("PUT", "/tfstate/s", &both, "x").await;
    assert_eq!(answer.code(), "InvalidArgument");

    let log = format!("{:?}", store.requests());
    for letter in ['a', 'b'] {
        let [_, secret, md5] = key(letter);
        assert!(!log.contains(secret.1) && !log.contains(md5.1), "{log}");
    }
    assert_eq!(store.requests()[0].headers[key('a')[1].0], "(secret)");
}

#[tokio::test]
async fn the_words_for_other_encryption_are_given_back() {
    let (_store, client) = start().await;
    let kms = [
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "alias/state"),
    ];
    let stored = client.send("PUT", "/tfstate/s", &kms, "state").await;
    let read = client.send("GET", "/tfstate/s", &[], "").await;
    for answer in [&stored, &read] {
        for (name, value) in kms {
            assert_eq!(answer.headers[name], value);
        }
    }
    assert_eq!(stored.etag(), read.etag());
    assert_ne!(stored.etag(), "\"9ed39e2ea931586b6a985a6942ef573e\"");
}

#[tokio::test]
async fn a_customers_key_outlives_a_restart_and_is_not_in_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let store = DevStore::builder().directory(&path).start().await.unwrap();
    let client = super::Client::new(&store);
    client.send("PUT", "/tfstate/s", &key('a'), "state").await;
    store.shutdown().await;
    let file = String::from_utf8(std::fs::read(path.join("tfstate/s")).unwrap()).unwrap();
    assert!(!file.contains(key('a')[1].1), "{file}");
    let store = DevStore::builder().directory(&path).start().await.unwrap();
    let client = super::Client::new(&store);
    assert_eq!(client.send("GET", "/tfstate/s", &[], "").await.status, 400);
    let answer = client.send("GET", "/tfstate/s", &key('a'), "").await;
    assert_eq!(answer.body, "state");
}

#[tokio::test]
async fn a_copy_has_the_bytes_of_its_source_and_an_encryption_of_its_own() {
    let (store, client) = start().await;
    let described = [
        key('a').to_vec(),
        vec![("content-type", "a/b"), ("x-amz-meta-m", "1")],
    ]
    .concat();
    client
        .send("PUT", "/tfstate/env%3A/s", &described, "state")
        .await;
    let source = ("x-amz-copy-source", "/tfstate/env%3A/s");
    let copy = |headers: Vec<(&'static str, &'static str)>| {
        let client = &client;
        async move { client.send("PUT", "/tfstate/copy", &headers, "").await }
    };
    assert_eq!(
        copy(vec![source]).await.code(),
        "InvalidRequest",
        "without its key"
    );
    let opened: Vec<(&str, &str)> = key('a')
        .into_iter()
        .map(|(name, value)| match name.rsplit('-').next() {
            Some("algorithm") => (
                "x-amz-copy-source-server-side-encryption-customer-algorithm",
                value,
            ),
            Some("key") => (
                "x-amz-copy-source-server-side-encryption-customer-key",
                value,
            ),
            _ => (
                "x-amz-copy-source-server-side-encryption-customer-key-md5",
                value,
            ),
        })
        .chain([source])
        .collect();
    let copied = copy(opened.clone()).await;
    assert_eq!(copied.status, 200, "{:?}", copied.body);
    let read = client.send("GET", "/tfstate/copy", &[], "").await;
    assert_eq!(read.body, "state");
    assert_eq!(read.etag(), "\"9ed39e2ea931586b6a985a6942ef573e\"");
    assert_eq!(read.headers["content-type"], "a/b");
    assert_eq!(read.headers["x-amz-meta-m"], "1");
    let conditional = [opened, vec![("if-none-match", "*")]].concat();
    assert_eq!(copy(conditional).await.status, 501, "never skipped");
    let stale = vec![source, ("x-amz-copy-source-if-match", "\"0\"")];
    let stale = [stale, vec![("x-amz-copy-source", "/tfstate/copy")]].concat();
    let stale: Vec<_> = stale.into_iter().skip(1).collect();
    let answer = client.send("PUT", "/tfstate/third", &stale, "").await;
    assert_eq!(answer.status, 412);
    assert_eq!(store.keys(), ["copy", "env:/s"]);
}
