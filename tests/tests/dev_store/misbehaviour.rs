//! The embedded store with its promises broken, over HTTP.

use std::sync::Arc;

use cofferdam::dev_store::{DevStore, Fault, Misbehaviour};
use serde_json::json;

use super::{Client, once, start};

/// The statuses of a create and an update and a deletion whose conditions don't hold.
async fn answers(store: &DevStore, client: &Client) -> [u16; 3] {
    store.put_object("s", "there").unwrap();
    let mut answers = [0; 3];
    for (answer, (method, condition)) in answers.iter_mut().zip([
        ("PUT", ("if-none-match", "*")),
        ("PUT", ("if-match", "\"0\"")),
        ("DELETE", ("if-match", "\"0\"")),
    ]) {
        let sent = client.send(method, "/tfstate/s", &[condition], "new").await;
        *answer = sent.status.as_u16();
    }
    answers
}

#[tokio::test]
async fn conditions_are_ignored_as_told_until_they_count_again() {
    let (store, client) = start().await;
    for (misbehaviour, expected) in [
        (Misbehaviour::IgnoreConditions, [200, 200, 204]),
        (Misbehaviour::IgnoreCreateOnly, [200, 412, 412]),
        (Misbehaviour::IgnoreIfMatch, [412, 200, 412]),
        (Misbehaviour::IgnoreConditionalDelete, [412, 412, 204]),
        (Misbehaviour::RefuseConditions, [501, 501, 501]),
    ] {
        store.set_misbehaviour(misbehaviour);
        assert_eq!(answers(&store, &client).await, expected, "{misbehaviour}");
        store.set_misbehaviour(None);
        assert_eq!(answers(&store, &client).await, [412; 3]);
    }
    let item = json!({
        "TableName": "tfstate-locks",
        "Item": { "LockID": { "S": "k" } },
        "ConditionExpression": "attribute_not_exists(LockID)",
    });
    store.put_item("k", json!({})).unwrap();
    assert!(client.answer("PutItem", &item).await.is_err());
    store.set_misbehaviour(Misbehaviour::IgnoreConditions);
    assert!(client.answer("PutItem", &item).await.is_ok());
}

#[tokio::test]
async fn a_racy_store_is_right_one_at_a_time_and_lets_several_win_at_once() {
    let builder = DevStore::builder().misbehave(Misbehaviour::Racy);
    let store = Arc::new(builder.start().await.unwrap());
    let client = Client::new(&store);
    assert_eq!(answers(&store, &client).await, [412; 3]);
    let contend = |on_table: bool| {
        let contenders: Vec<_> = (0..16)
            .map(|_| {
                let client = Client::new(&store);
                tokio::spawn(async move {
                    if on_table {
                        let item = json!({
                            "TableName": "tfstate-locks",
                            "Item": { "LockID": { "S": "k" } },
                            "ConditionExpression": "attribute_not_exists(LockID)",
                        });
                        return client.answer("PutItem", &item).await.is_ok();
                    }
                    let create = [("if-none-match", "*")];
                    let answer = client.send("PUT", "/tfstate/k", &create, "x").await;
                    answer.status == 200
                })
            })
            .collect();
        async {
            let mut winners = 0;
            for contender in contenders {
                winners += u32::from(contender.await.unwrap());
            }
            winners
        }
    };
    // Not every machine brings them together every time.
    for on_table in [false, true] {
        let mut most = 0;
        for _ in 0..50 {
            store.delete_object("k").unwrap();
            store.delete_item("k").unwrap();
            most = most.max(contend(on_table).await);
            if most > 1 {
                break;
            }
        }
        assert!(most > 1, "on a table: {on_table}");
    }
}

#[tokio::test]
async fn throttling_lost_answers_and_clocks_befall_objects_and_items() {
    let (store, client) = start().await;
    let list = || client.try_ask("ListTables", "{}");
    store.set_misbehaviour(Misbehaviour::Throttle { every: 2 });
    for _ in 0..2 {
        assert_eq!(client.send("PUT", "/tfstate/s", &[], "x").await.status, 200);
        let slow = client.send("PUT", "/tfstate/s", &[], "x").await;
        assert_eq!(
            (slow.status.as_u16(), slow.code()),
            (503, "SlowDown".to_owned())
        );
    }
    assert_eq!(list().await.unwrap().status, 200);
    let slow = list().await.unwrap();
    assert_eq!(
        (slow.status.as_u16(), slow.kind()),
        (400, "ProvisionedThroughputExceededException".to_owned())
    );

    store.set_misbehaviour(Misbehaviour::LoseAnswers { every: 2 });
    assert!(client.try_send("PUT", "/tfstate/a", &[], "x").await.is_ok());
    assert!(
        client
            .try_send("PUT", "/tfstate/b", &[], "x")
            .await
            .is_err()
    );
    assert!(store.object("b").is_some());

    store.set_misbehaviour(Misbehaviour::SkewClock { seconds: -3600 });
    let answer = client.send("GET", "/tfstate/s", &[], "").await;
    assert_eq!(answer.code(), "RequestTimeTooSkewed");
    assert_eq!(list().await.unwrap().kind(), "InvalidSignatureException");
    store.clear_faults();
    assert_eq!(client.send("GET", "/tfstate/s", &[], "").await.status, 403);
    store.set_misbehaviour(None);
    assert_eq!(client.send("GET", "/tfstate/s", &[], "").await.status, 200);
}

#[tokio::test]
async fn checksums_are_refused_by_name() {
    let (store, client) = start().await;
    store.set_misbehaviour(Misbehaviour::RefuseChecksums);
    let sha256 = (
        "x-amz-checksum-sha256",
        "S6aXNcpTdl7WpwnttWxuoja3GTo7KaazkMNG8PQ0Dk4=",
    );
    let refused = client.send("PUT", "/tfstate/s", &[sha256], "state").await;
    assert_eq!(
        (refused.status.as_u16(), refused.code()),
        (400, "InvalidArgument".to_owned())
    );
    assert!(String::from_utf8_lossy(&refused.body).contains("x-amz-checksum-sha256"));
    assert_eq!(
        client.send("PUT", "/tfstate/s", &[], "state").await.status,
        200
    );
    let wish = [("x-amz-checksum-mode", "ENABLED")];
    assert_eq!(
        client.send("GET", "/tfstate/s", &wish, "").await.status,
        400
    );
    assert_eq!(client.send("GET", "/tfstate/s", &[], "").await.status, 200);
}

#[tokio::test]
async fn a_stale_listing_is_one_change_behind() {
    let (store, client) = start().await;
    let keys = async || {
        let listed = client.send("GET", "/tfstate?list-type=2", &[], "").await;
        let text = String::from_utf8(listed.body.to_vec()).unwrap();
        let keys = text.split("<Key>").skip(1);
        keys.map(|rest| rest.split('<').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    store.set_misbehaviour(Misbehaviour::StaleListing);
    client.send("PUT", "/tfstate/a", &[], "x").await;
    assert!(keys().await.is_empty());
    client.send("PUT", "/tfstate/b", &[], "x").await;
    assert_eq!(keys().await, ["a"]);
    client.send("DELETE", "/tfstate/a", &[], "").await;
    assert_eq!(keys().await, ["a", "b"]);
    assert_eq!(store.keys(), ["b"]);
}

#[tokio::test]
async fn a_held_request_has_no_effect_when_its_client_goes_away() {
    let (store, client) = start().await;
    store.inject(once("PutObject", Fault::DelayRequest { ms: 600_000 }));
    store.inject(once("PutItem", Fault::DelayRequest { ms: 600_000 }));
    let client = Arc::new(client);
    let put = tokio::spawn({
        let client = Arc::clone(&client);
        async move {
            client
                .try_send("PUT", "/tfstate/s", &[], vec![b'x'; 3_000_000])
                .await
                .is_ok()
        }
    });
    let item = r#"{"TableName":"tfstate-locks","Item":{"LockID":{"S":"k"}}}"#;
    let put_item = tokio::spawn({
        let client = Arc::clone(&client);
        async move { client.try_ask("PutItem", item).await.is_ok() }
    });
    while store.connections() < 2 {
        tokio::task::yield_now().await;
    }
    put.abort();
    put_item.abort();
    while store.requests().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert!(store.requests().iter().all(|request| request.status == 0));
    assert_eq!(store.object("s"), None);
    assert_eq!(store.item("k"), None);

    store.inject(once("PutObject", Fault::DelayRequest { ms: 1 }));
    let sha256 = (
        "x-amz-checksum-sha256",
        "S6aXNcpTdl7WpwnttWxuoja3GTo7KaazkMNG8PQ0Dk4=",
    );
    assert_eq!(
        client
            .send("PUT", "/tfstate/s", &[sha256], "state")
            .await
            .status,
        200
    );
    assert_eq!(store.object("s").unwrap(), "state");

    // One without a body, and without a length, is done as ever, too.
    for (operation, method, status) in [("GetObject", "GET", 200), ("DeleteObject", "DELETE", 204)]
    {
        store.inject(once(operation, Fault::DelayRequest { ms: 1 }));
        let answer = client.send(method, "/tfstate/s", &[], "").await;
        assert_eq!(answer.status, status, "{:?}", answer.body);
    }
}

#[tokio::test]
async fn one_bit_of_a_body_can_be_another() {
    let (store, client) = start().await;
    store.put_object("s", "state").unwrap();
    let get = || {
        client.send(
            "GET",
            "/tfstate/s",
            &[("x-amz-checksum-mode", "ENABLED")],
            "",
        )
    };
    let right = get().await;
    for (at, body) in [(0, "rtate"), (4, "statd"), (5, "state")] {
        store.inject(once("GetObject", Fault::FlipBit { at }));
        let answer = get().await;
        assert_eq!(answer.body, body);
        assert_eq!(answer.etag(), right.etag());
        assert_eq!(
            answer.headers["x-amz-checksum-crc64nvme"],
            right.headers["x-amz-checksum-crc64nvme"]
        );
    }
}
