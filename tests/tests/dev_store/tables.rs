//! The embedded store's tables, over HTTP, as Terraform, OpenTofu and cofferdam use them.

use std::sync::Arc;

use cofferdam::dev_store::{DevStore, Fault, FaultRule};
use serde_json::{Value, json};

use super::{Answer, Client, once, start};

/// What Terraform sends to take a lock, recorded from 1.11.4, but for the table's name.
const LOCK: &str = r#"{"ConditionExpression":"attribute_not_exists(LockID)","Item":{"LockID":{"S":"tfstate/ddb/terraform.tfstate"},"Info":{"S":"{\"ID\":\"d16500cc-e796-4b93-6e00-db3440eea434\",\"Operation\":\"OperationTypeApply\",\"Info\":\"\",\"Who\":\"root@vm\",\"Version\":\"1.11.4\",\"Created\":\"2026-11-23T01:24:43.20734948Z\",\"Path\":\"tfstate/ddb/terraform.tfstate\"}"}},"TableName":"tfstate-locks"}"#;
const READ: &str = r#"{"ConsistentRead":true,"Key":{"LockID":{"S":"tfstate/ddb/terraform.tfstate"}},"ProjectionExpression":"LockID, Info","TableName":"tfstate-locks"}"#;
const UNLOCK: &str =
    r#"{"Key":{"LockID":{"S":"tfstate/ddb/terraform.tfstate"}},"TableName":"tfstate-locks"}"#;

impl Client {
    pub(super) async fn try_ask(&self, operation: &str, body: &str) -> Result<Answer, String> {
        let target = format!("DynamoDB_20120810.{operation}");
        let headers = [
            ("content-type", "application/x-amz-json-1.0"),
            ("x-amz-target", target.as_str()),
        ];
        self.try_send_to("dynamodb", "POST", "/", &headers, body.to_owned())
            .await
    }

    async fn ask(&self, operation: &str, body: &str) -> Answer {
        self.try_ask(operation, body).await.unwrap()
    }

    /// The answer if it is 200, or the error's name without its namespace.
    pub(super) async fn answer(&self, operation: &str, body: &Value) -> Result<Value, String> {
        let answer = self.ask(operation, &body.to_string()).await;
        match answer.status.as_u16() {
            200 => Ok(answer.json()),
            _ => Err(answer.kind()),
        }
    }
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(super) fn kind(&self) -> String {
        let answer = self.json();
        let kind = answer["__type"].as_str().unwrap();
        kind.rsplit('#').next().unwrap().to_owned()
    }
}

fn put(key: &str, info: &str) -> Value {
    json!({
        "TableName": "tfstate-locks",
        "Item": { "LockID": { "S": key }, "Info": { "S": info } },
    })
}

fn of_key(key: &str) -> Value {
    json!({ "TableName": "tfstate-locks", "Key": { "LockID": { "S": key } } })
}

fn with(mut request: Value, more: Value) -> Value {
    let more = more.as_object().unwrap().clone();
    request.as_object_mut().unwrap().extend(more);
    request
}

fn refused(name: &str) -> Result<Value, String> {
    Err(name.to_owned())
}

#[tokio::test]
async fn a_lock_is_taken_once_read_and_released_as_terraform_does_it() {
    let (store, client) = start().await;
    let taken = client.ask("PutItem", LOCK).await;
    assert_eq!(
        (taken.status.as_u16(), taken.body.as_ref()),
        (200, &b"{}"[..])
    );
    assert_eq!(taken.headers["content-type"], "application/x-amz-json-1.0");
    assert_eq!(
        taken.headers["x-amz-crc32"], "2745614147",
        "as recorded for this body"
    );
    assert!(taken.headers.contains_key("x-amzn-requestid"));

    let again = client.ask("PutItem", LOCK).await;
    assert_eq!(again.status, 400);
    assert!(!again.headers.contains_key("x-amz-bucket-region"));
    assert_eq!(
        again.json(),
        json!({
            "__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",
            "message": "The conditional request failed",
        })
    );

    let sent: Value = serde_json::from_str(LOCK).unwrap();
    let read = client.ask("GetItem", READ).await.json();
    assert_eq!(read, json!({ "Item": sent["Item"] }), "byte for byte");
    let key = "tfstate/ddb/terraform.tfstate";
    assert_eq!(store.item(key).unwrap(), sent["Item"]);

    assert_eq!(client.ask("DeleteItem", UNLOCK).await.json(), json!({}));
    assert_eq!(
        client.ask("DeleteItem", UNLOCK).await.json(),
        json!({}),
        "again"
    );
    assert_eq!(client.ask("GetItem", READ).await.json(), json!({}));
    assert_eq!(store.item(key), None);
    let history: Vec<bool> = store
        .item_history(key)
        .iter()
        .map(|it| it.item.is_some())
        .collect();
    assert_eq!(history, [true, false]);
}

#[tokio::test]
async fn conditions_on_what_is_stored_decide_writes_and_deletes_of_items() {
    let (store, client) = start().await;
    store
        .put_item("k", json!({ "Info": { "S": "one" } }))
        .unwrap();
    let if_info = |info: &str| {
        json!({
            "ConditionExpression": "Info = :info",
            "ExpressionAttributeValues": { ":info": { "S": info } },
        })
    };
    let wrong = with(of_key("k"), if_info("two"));
    let failed = "ConditionalCheckFailedException";
    assert_eq!(client.answer("DeleteItem", &wrong).await, refused(failed));
    let shows = json!({ "ReturnValuesOnConditionCheckFailure": "ALL_OLD" });
    let answer = client
        .ask("DeleteItem", &with(wrong, shows).to_string())
        .await;
    assert_eq!(
        answer.json()["Item"],
        json!({ "LockID": { "S": "k" }, "Info": { "S": "one" } })
    );
    assert_eq!(store.item("k").unwrap()["Info"]["S"], "one");

    let replace = with(
        with(put("k", "two"), if_info("one")),
        json!({ "ReturnValues": "ALL_OLD" }),
    );
    let replaced = client.answer("PutItem", &replace).await.unwrap();
    assert_eq!(replaced["Attributes"]["Info"]["S"], "one");
    assert_eq!(
        client.answer("PutItem", &replace).await,
        refused(failed),
        "a second time"
    );

    let mine_or_nobodys = json!({
        "ConditionExpression": "attribute_not_exists(#id) OR (Info = :info AND attribute_exists(#id))",
        "ExpressionAttributeNames": { "#id": "LockID" },
        "ExpressionAttributeValues": { ":info": { "S": "two" } },
    });
    for _ in 0..2 {
        let request = with(put("k", "two"), mine_or_nobodys.clone());
        assert_eq!(client.answer("PutItem", &request).await, Ok(json!({})));
    }
    assert_eq!(
        client
            .answer("DeleteItem", &with(of_key("k"), if_info("two")))
            .await,
        Ok(json!({}))
    );
    assert_eq!(
        client
            .answer("DeleteItem", &with(of_key("k"), if_info("two")))
            .await,
        refused(failed),
        "what is absent meets no such condition"
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_request_to_a_table_is_named() {
    let (store, client) = start().await;
    let missing = json!({ "TableName": "none", "Key": { "LockID": { "S": "k" } } });
    assert_eq!(
        client.answer("GetItem", &missing).await,
        refused("ResourceNotFoundException")
    );
    let with_key = |key: Value| json!({ "TableName": "tfstate-locks", "Key": key });
    for key in [
        json!({ "Id": { "S": "k" } }),
        json!({ "LockID": { "N": "1" } }),
        json!({}),
    ] {
        let answer = client.ask("GetItem", &with_key(key).to_string()).await;
        assert_eq!(
            answer.json()["message"],
            "The provided key element does not match the schema"
        );
        assert_eq!(answer.kind(), "ValidationException");
    }
    for (operation, more) in [
        (
            "PutItem",
            json!({ "ConditionExpression": "size(LockID) > :zero" }),
        ),
        ("PutItem", json!({ "ConditionExpression": "" })),
        ("PutItem", json!({ "ConditionExpression": 1 })),
        (
            "PutItem",
            json!({ "Expected": { "LockID": { "Exists": false } } }),
        ),
        ("PutItem", json!({ "ReturnValues": "ALL_NEW" })),
        (
            "PutItem",
            json!({ "ExpressionAttributeValues": { ":unused": { "S": "x" } } }),
        ),
        ("PutItem", json!({ "Item": { "LockID": { "S": "" } } })),
        (
            "PutItem",
            json!({ "Item": { "LockID": { "S": "k" }, "x": "y" } }),
        ),
        (
            "PutItem",
            json!({ "Item": { "LockID": { "S": "k" }, "x": { "S": "y".repeat(500_000) } } }),
        ),
        ("GetItem", json!({ "ProjectionExpression": "LockID, " })),
    ] {
        let request = with(with(put("k", "x"), of_key("k")), more.clone());
        let answer = client.answer(operation, &request).await;
        assert_eq!(answer, refused("ValidationException"), "{operation} {more}");
    }
    assert_eq!(store.item("k"), None);
    for (operation, body, name) in [
        ("PutItem", "{", "SerializationException"),
        ("PutItem", "[]", "SerializationException"),
        ("TransactWriteItems", "{}", "UnknownOperationException"),
    ] {
        assert_eq!(
            client.ask(operation, body).await.kind(),
            name,
            "{operation} {body}"
        );
    }
}

#[tokio::test]
async fn only_the_right_key_region_and_time_are_let_in_to_tables() {
    let (store, mut client) = start().await;
    let unsigned: http::Request<http_body_util::Full<bytes::Bytes>> =
        http::Request::post(format!("{}/", store.url()))
            .header("x-amz-target", "DynamoDB_20120810.ListTables")
            .body("{}".into())
            .unwrap();
    let answer = client.http.request(unsigned).await.unwrap();
    assert_eq!(answer.status(), 400, "no signature");

    let lists = json!({ "TableNames": ["tfstate-locks"] });
    assert_eq!(
        client.answer("ListTables", &json!({})).await,
        Ok(lists.clone())
    );

    let right = client.credential.secret_key.clone();
    client.credential.secret_key = "wrong".to_owned();
    let answer = client.answer("PutItem", &put("k", "x")).await;
    assert_eq!(answer, refused("InvalidSignatureException"));
    client.credential.secret_key = right;

    client.region = "eu-west-1".to_owned();
    let answer = client.ask("ListTables", "{}").await;
    assert_eq!(answer.kind(), "InvalidSignatureException");
    assert!(
        answer.json()["message"]
            .as_str()
            .unwrap()
            .contains("'eu-west-1'")
    );
    client.region = "us-east-1".to_owned();

    client.credential.token = Some("token".to_owned());
    assert_eq!(
        client.answer("ListTables", &json!({})).await,
        refused("UnrecognizedClientException")
    );
    client.credential.token = None;
    client.credential.key_id = "UNKNOWN".to_owned();
    assert_eq!(
        client.answer("ListTables", &json!({})).await,
        refused("UnrecognizedClientException")
    );
    client.credential.key_id = store.access_key_id().to_owned();

    let skewed = |seconds| FaultRule {
        times: 1,
        ..once("ListTables", Fault::SkewClock { seconds })
    };
    for (seconds, message) in [
        (400, "Signature expired"),
        (-400, "Signature not yet current"),
    ] {
        store.inject(skewed(seconds));
        let answer = client.ask("ListTables", "{}").await;
        assert_eq!(answer.kind(), "InvalidSignatureException");
        assert!(
            answer.json()["message"]
                .as_str()
                .unwrap()
                .starts_with(message)
        );
    }
    store.inject(skewed(200));
    assert_eq!(client.answer("ListTables", &json!({})).await, Ok(lists));
    assert_eq!(store.item("k"), None, "nothing was written");
}

#[tokio::test]
async fn tables_are_made_described_listed_and_removed() {
    let (store, client) = start().await;
    let create = |name: &str, kind: &str| {
        json!({
            "TableName": name,
            "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": [{ "AttributeName": "LockID", "KeyType": "HASH" }],
            "AttributeDefinitions": [{ "AttributeName": "LockID", "AttributeType": kind }],
        })
    };
    let name = |name: &str| json!({ "TableName": name });
    client
        .answer("CreateTable", &create("more", "N"))
        .await
        .unwrap();
    assert_eq!(
        client.answer("CreateTable", &create("more", "S")).await,
        refused("ResourceInUseException")
    );
    assert_eq!(
        client.answer("CreateTable", &create("no", "S")).await,
        refused("ValidationException")
    );
    assert_eq!(
        client.answer("CreateTable", &create("odd", "X")).await,
        refused("ValidationException")
    );
    let table = client.answer("DescribeTable", &name("more")).await.unwrap()["Table"].clone();
    assert_eq!(table["TableStatus"], "ACTIVE");
    assert_eq!(
        table["KeySchema"],
        json!([{ "AttributeName": "LockID", "KeyType": "HASH" }])
    );
    assert_eq!(table["AttributeDefinitions"][0]["AttributeType"], "N");
    store.create_table("by-name", "Name", "S").unwrap();
    let key = json!({ "TableName": "by-name", "Key": { "LockID": { "S": "k" } } });
    assert_eq!(
        client.answer("GetItem", &key).await,
        refused("ValidationException")
    );

    let first = client
        .answer("ListTables", &json!({ "Limit": 2 }))
        .await
        .unwrap();
    assert_eq!(first["TableNames"], json!(["by-name", "more"]));
    let next = json!({ "ExclusiveStartTableName": first["LastEvaluatedTableName"] });
    let next = client.answer("ListTables", &next).await.unwrap();
    assert_eq!(next, json!({ "TableNames": ["tfstate-locks"] }));

    client.answer("DeleteTable", &name("more")).await.unwrap();
    assert_eq!(
        client.answer("DescribeTable", &name("more")).await,
        refused("ResourceNotFoundException")
    );

    for number in 0..5 {
        store
            .put_item(&number.to_string(), json!({ "Info": { "S": "x" } }))
            .unwrap();
    }
    let mut found = Vec::new();
    let mut request = json!({ "TableName": "tfstate-locks", "Limit": 2 });
    loop {
        let page = client.answer("Scan", &request).await.unwrap();
        found.extend(
            page["Items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|it| it["LockID"]["S"].clone()),
        );
        match page.get("LastEvaluatedKey") {
            Some(last) => request["ExclusiveStartKey"] = last.clone(),
            None => break,
        }
    }
    assert_eq!(found, ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn one_of_many_contenders_for_an_item_wins_and_the_log_tells_which() {
    let (store, _) = start().await;
    let store = Arc::new(store);
    for round in 0..10 {
        let key = format!("bucket/{round}");
        let contenders: Vec<_> = (0..16)
            .map(|number| {
                let client = Client::new(&store);
                let condition = json!({ "ConditionExpression": "attribute_not_exists(LockID)" });
                let request = with(put(&key, &number.to_string()), condition);
                tokio::spawn(async move { client.answer("PutItem", &request).await.is_ok() })
            })
            .collect();
        let mut winners = Vec::new();
        for (number, contender) in contenders.into_iter().enumerate() {
            if contender.await.unwrap() {
                winners.push(number.to_string());
            }
        }
        assert_eq!(winners.len(), 1);
        assert_eq!(store.item(&key).unwrap()["Info"]["S"], winners[0].as_str());
        let history = store.item_history(&key);
        let requests = store.requests();
        let first = requests.iter().find(|request| request.key == key).unwrap();
        assert_eq!(history.len(), 1);
        assert_eq!((first.sequence, first.status), (history[0].sequence, 200));
    }
}

#[tokio::test]
async fn requests_to_tables_are_logged_without_what_they_carry() {
    let (store, client) = start().await;
    client.ask("PutItem", LOCK).await;
    client.answer("GetItem", &of_key("none")).await.unwrap();
    client
        .send("PUT", "/tfstate/s", &[("x-amz-meta-a", "b")], "state")
        .await;
    let requests = store.requests();
    let seen: Vec<_> = requests
        .iter()
        .map(|it| (it.operation, it.bucket.as_str(), it.key.as_str(), it.status))
        .collect();
    let key = "tfstate/ddb/terraform.tfstate";
    assert_eq!(
        seen,
        [
            ("PutItem", "tfstate-locks", key, 200),
            ("GetItem", "tfstate-locks", "none", 200),
            ("PutObject", "tfstate", "s", 200),
        ]
    );
    assert_eq!(
        requests[0].condition.as_deref(),
        Some("attribute_not_exists(LockID)")
    );
    assert_eq!(
        requests[0].headers["x-amz-target"],
        "DynamoDB_20120810.PutItem"
    );
    assert_eq!(requests[2].headers["x-amz-meta-a"], "b");
    assert_eq!(requests[2].headers["content-length"], "5");
    assert!(!requests[2].headers.contains_key("authorization"));
    assert!(!format!("{requests:?}").contains("d16500cc"));
    assert!(!format!("{:?}", store.item_history(key)).contains("d16500cc"));
}

#[tokio::test]
async fn faults_befall_requests_to_tables_as_ruled() {
    let (store, client) = start().await;
    let on_lock = |fault| FaultRule {
        key_ends_with: Some("/terraform.tfstate".to_owned()),
        ..once("PutItem", fault)
    };
    let key = "tfstate/ddb/terraform.tfstate";
    client.ask("PutItem", &put("other", "x").to_string()).await;
    store.inject(on_lock(Fault::Status {
        status: 400,
        code: "ProvisionedThroughputExceededException".to_owned(),
    }));
    assert_eq!(
        client.ask("PutItem", LOCK).await.kind(),
        "ProvisionedThroughputExceededException"
    );
    assert_eq!(store.item(key), None);
    store.inject(on_lock(Fault::LoseAnswer));
    assert!(client.try_ask("PutItem", LOCK).await.is_err());
    assert!(store.item(key).is_some(), "the effect happened");
    store.inject(on_lock(Fault::IgnoreConditions));
    assert_eq!(client.ask("PutItem", LOCK).await.status, 200);

    store.inject(once(
        "GetItem",
        Fault::DeleteItem {
            key: key.to_owned(),
        },
    ));
    assert_eq!(client.ask("GetItem", READ).await.json(), json!({}));
    let theirs = Fault::ReplaceItem {
        key: key.to_owned(),
        item: json!({ "Info": { "S": "theirs" } }),
    };
    assert!(!format!("{theirs:?}").contains("theirs"));
    store.inject(once("PutItem", theirs));
    assert_eq!(
        client.ask("PutItem", LOCK).await.kind(),
        "ConditionalCheckFailedException"
    );
    assert_eq!(store.item(key).unwrap()["Info"]["S"], "theirs");
    store.inject(once("GetItem", Fault::Garbage));
    assert_eq!(client.ask("GetItem", READ).await.status, 500);
}

#[tokio::test]
async fn a_directory_keeps_tables_and_items() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let open = || {
        DevStore::builder()
            .directory(&path)
            .table("My.Locks")
            .start()
    };
    let store = open().await.unwrap();
    let client = Client::new(&store);
    let keys = ["b/env:/x/s", "b/s-md5", "B/S", &"k".repeat(900)];
    for key in keys {
        let request = with(put(key, key), json!({ "TableName": "My.Locks" }));
        client.answer("PutItem", &request).await.unwrap();
    }
    client
        .answer(
            "DeleteItem",
            &with(of_key("B/S"), json!({ "TableName": "My.Locks" })),
        )
        .await
        .unwrap();
    store.create_table("gone", "LockID", "S").unwrap();
    client
        .answer("DeleteTable", &json!({ "TableName": "gone" }))
        .await
        .unwrap();
    // What a crash leaves of a table that was being made.
    std::fs::create_dir(path.join(".tables/half")).unwrap();
    store.shutdown().await;

    let store = open().await.unwrap();
    assert_eq!(store.table(), "My.Locks");
    for key in keys {
        let info = store.item(key).map(|item| item["Info"]["S"].clone());
        assert_eq!(info, (key != "B/S").then(|| json!(key)));
    }
    let tables = Client::new(&store)
        .answer("ListTables", &json!({}))
        .await
        .unwrap();
    assert_eq!(tables["TableNames"], json!(["My.Locks"]));
    store.shutdown().await;

    let file = path.join(".tables/%4Dy.%4Cocks/%5B%22b%2Fs-md5%22%5D");
    std::fs::write(&file, "{\"place\"").unwrap();
    let error = open().await.unwrap_err();
    assert!(error.to_string().contains("md5"), "{error}");
}
