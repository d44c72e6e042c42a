//! DynamoDB requests by hand, as Terraform's and OpenTofu's own backends send them. See [`RawS3`](crate::RawS3).

use bytes::Bytes;
use http::Method;
use md5::{Digest as _, Md5};
use serde_json::{Value, json};

use crate::Site;
use crate::signed::{Answer, Call, Signed};

/// A client that sends one request for one call, and tries nothing twice.
#[derive(Clone, Debug)]
pub struct RawDynamoDb(Signed);

impl RawDynamoDb {
    /// A client with connections of its own.
    pub fn new(site: &Site) -> Self {
        Self(Signed::new(site))
    }

    /// Takes a lock exactly as Terraform does: stores the item unless there is one.
    pub async fn put_lock(&self, lock_id: &str, record: &str) -> Answer {
        let item = json!({ "LockID": { "S": lock_id }, "Info": { "S": record } });
        let condition = "attribute_not_exists(LockID)";
        let more = json!({ "Item": item, "ConditionExpression": condition });
        self.call("PutItem", more).await
    }

    /// Releases a lock as OpenTofu does: deletes the item if its record is, byte for byte, the one that OpenTofu
    /// writes again from what it has read.
    pub async fn delete_lock(&self, lock_id: &str, record: &str) -> Answer {
        let more = json!({
            "Key": { "LockID": { "S": lock_id } },
            "ConditionExpression": "Info = :info",
            "ExpressionAttributeValues": { ":info": { "S": record } },
        });
        self.call("DeleteItem", more).await
    }

    /// Deletes an item, unconditionally.
    pub async fn delete(&self, lock_id: &str) -> Answer {
        self.call(
            "DeleteItem",
            json!({ "Key": { "LockID": { "S": lock_id } } }),
        )
        .await
    }

    /// Records a digest as Terraform does. `state` is the id of the state's lock.
    pub async fn put_digest(&self, state: &str, digest: &str) -> Answer {
        let item = json!({ "LockID": { "S": format!("{state}-md5") }, "Digest": { "S": digest } });
        self.call("PutItem", json!({ "Item": item })).await
    }

    /// The whole item. `None` if there is none.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn item(&self, lock_id: &str) -> Option<Value> {
        let more = json!({ "Key": { "LockID": { "S": lock_id } }, "ConsistentRead": true });
        let answer = self.call("GetItem", more).await;
        let body = answer.expect_success("read an item");
        let answer: Value = serde_json::from_slice(&body).expect("an answer in JSON");
        answer.get("Item").cloned()
    }

    /// The keys of all items.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn keys(&self) -> Vec<String> {
        let answer = self.call("Scan", json!({ "ConsistentRead": true })).await;
        let body = answer.expect_success("scan the table");
        let answer: Value = serde_json::from_slice(&body).expect("an answer in JSON");
        let items = answer["Items"].as_array().expect("a list");
        let key = |item: &Value| item["LockID"]["S"].as_str().unwrap_or_default().to_owned();
        items.iter().map(key).collect()
    }

    /// The lock record, byte for byte as it is stored. `None` if there is no item.
    ///
    /// # Panics
    /// If the server refuses, or if the item holds anything besides.
    pub async fn record(&self, lock_id: &str) -> Option<String> {
        let item = self.item(lock_id).await?;
        Some(only(item, lock_id, "Info"))
    }

    /// The digest of a state, whose lock has this id. `None` if none is recorded.
    ///
    /// # Panics
    /// If the server refuses, or if the item holds anything besides.
    pub async fn digest(&self, state: &str) -> Option<String> {
        let digest_id = format!("{state}-md5");
        let item = self.item(&digest_id).await?;
        Some(only(item, &digest_id, "Digest"))
    }

    /// Makes the table, with the key that Terraform wants.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn create_table(&self) {
        self.create_table_with("LockID", "S").await;
    }

    /// Makes the table, with another key: its name and its type (`S`, `N`, `B`).
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn create_table_with(&self, key: &str, kind: &str) {
        let more = json!({
            "AttributeDefinitions": [{ "AttributeName": key, "AttributeType": kind }],
            "KeySchema": [{ "AttributeName": key, "KeyType": "HASH" }],
            "BillingMode": "PAY_PER_REQUEST",
        });
        self.call("CreateTable", more)
            .await
            .expect_success("make the table");
        // It comes into being a moment later.
        let active = async || {
            let answer = self.call("DescribeTable", json!({})).await;
            let body = answer.expect_success("describe the table");
            let answer: Value = serde_json::from_slice(&body).expect("an answer in JSON");
            answer["Table"]["TableStatus"] == "ACTIVE"
        };
        while !active().await {
            tokio::task::yield_now().await;
        }
    }

    /// One call on the table; `request` is all of it but the table's name.
    pub async fn call(&self, operation: &str, mut request: Value) -> Answer {
        let table = self.0.site.table();
        request["TableName"] = table.name.as_str().into();
        let target = format!("DynamoDB_20120810.{operation}");
        let call = Call {
            service: "dynamodb",
            method: Method::POST,
            url: &table.url,
            path_and_query: "/",
            headers: &[
                ("content-type", "application/x-amz-json-1.0"),
                ("x-amz-target", &target),
            ],
            body: Bytes::from(request.to_string()),
        };
        self.0.send(call).await
    }
}

/// What the digest of a state has to be.
pub fn digest_of(state: &[u8]) -> String {
    Md5::digest(state)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The one attribute that an item has besides its key.
fn only(item: Value, lock_id: &str, attribute: &str) -> String {
    let text = item[attribute]["S"].as_str().unwrap_or_default().to_owned();
    let expected = json!({ "LockID": { "S": lock_id }, attribute: { "S": text } });
    assert_eq!(item, expected, "the item is not as Terraform writes it");
    text
}
