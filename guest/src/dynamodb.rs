//! The operations of DynamoDB that this backend uses, typed: items with a key and one attribute of text.
//!
//! Everything that is DynamoDB's and not ours stays in here: the form of requests and answers, byte for byte as the other
//! tools send them where they do, so that any stand-in for DynamoDB that serves them serves us.

use std::rc::Rc;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::aws::http::{AnswerBody, Client, Failure, Payload, Place, Request};
use crate::config::{ServiceLocation, Settings};
use crate::json;
use crate::operation::{Failed, Operation};
use crate::platform::Platform;

/// The partition key of the table, of type String.
pub(crate) const PARTITION_KEY: &str = "LockID";

/// An item has at most 400 KB, which JSON can blow up sixfold. Bytes.
const MAX_ANSWER: u64 = 4 << 20;

/// The one attribute of an item that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attribute {
    /// MD5 of a state, in hexadecimal.
    Digest,
    /// A lock's record.
    Info,
}

impl Attribute {
    fn name(self) -> &'static str {
        match self {
            Attribute::Digest => "Digest",
            Attribute::Info => "Info",
        }
    }
}

/// What must be stored for an operation to take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ItemCondition<'c> {
    /// No such item.
    Absent,
    /// Whatever there is.
    Anything,
    /// The attribute has this value; none: there is no such attribute, with or without an item.
    Holds(Option<&'c str>),
}

/// An item that is there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// None: it has no such attribute, or one that is no text.
    pub(crate) value: Option<String>,
}

/// What a table is like.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TableDescription {
    /// Such as `ACTIVE`.
    pub(crate) status: String,
    /// The parts of its key: name, type (`S`: String), and whether it is the partition key.
    pub(crate) key: Vec<KeyPart>,
}

/// A part of a table's key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KeyPart {
    pub(crate) name: String,
    /// `S`, `N` or `B`.
    pub(crate) kind: String,
    /// Otherwise it is the sort key.
    pub(crate) is_partition_key: bool,
}

/// The table.
pub(crate) struct DynamoDb<'a, P> {
    pub(crate) client: Rc<Client<'a, P>>,
    pub(crate) table: &'a str,
    location: ServiceLocation,
}

impl<'a, P: Platform> DynamoDb<'a, P> {
    /// None: the configuration names no table.
    pub(crate) fn new(client: Rc<Client<'a, P>>, settings: &'a Settings) -> Option<Self> {
        Some(Self {
            client,
            table: settings.dynamodb_table.as_deref()?,
            location: settings.dynamodb_location(),
        })
    }

    /// Reads an item as it is now.
    pub(crate) fn get(&self, key: &str, attribute: Attribute) -> Result<Option<Item>, Failed> {
        let mut body = self.body(key);
        body["ConsistentRead"] = true.into();
        body["ProjectionExpression"] = format!("{PARTITION_KEY}, {}", attribute.name()).into();
        let answer = self.send(Operation::GetItem, key, &body)?;
        Ok(item(&answer, "Item", attribute))
    }

    /// Stores an item in place of what is there.
    pub(crate) fn put(
        &self,
        key: &str,
        attribute: Attribute,
        value: &str,
        condition: ItemCondition<'_>,
    ) -> Result<(), Failed> {
        let body = self.put_body(key, attribute, value, condition);
        self.send(Operation::PutItem, key, &body).map(drop)
    }

    /// The body of a request that stores an item.
    pub(crate) fn put_body(
        &self,
        key: &str,
        attribute: Attribute,
        value: &str,
        condition: ItemCondition<'_>,
    ) -> Value {
        let item = [
            (PARTITION_KEY, of_text(key)),
            (attribute.name(), of_text(value)),
        ];
        let mut body = json::object([
            ("Item", json::object(item)),
            ("TableName", self.table.into()),
        ]);
        demand(&mut body, attribute, condition);
        body
    }

    /// Removes an item. None: there was none, or the answer that told was lost.
    pub(crate) fn delete(
        &self,
        key: &str,
        attribute: Attribute,
        condition: ItemCondition<'_>,
    ) -> Result<Option<Item>, Failed> {
        let mut body = self.body(key);
        body["ReturnValues"] = "ALL_OLD".into();
        demand(&mut body, attribute, condition);
        let answer = self.send(Operation::DeleteItem, key, &body)?;
        Ok(item(&answer, "Attributes", attribute))
    }

    /// Asks what the table is like.
    pub(crate) fn describe(&self) -> Result<TableDescription, Failed> {
        let body = json::object([("TableName", self.table.into())]);
        let answer = self.send(Operation::DescribeTable, "", &body)?;
        description(&answer["Table"]).ok_or_else(|| misunderstood(Operation::DescribeTable, ""))
    }

    fn body(&self, key: &str) -> Value {
        let item = json::object([(PARTITION_KEY, of_text(key))]);
        json::object([("Key", item), ("TableName", self.table.into())])
    }

    /// A request with this body.
    pub(crate) fn request<'r>(&'r self, operation: Operation, body: &'r str) -> Request<'r> {
        Request {
            place: Place {
                service: "dynamodb",
                scheme: &self.location.scheme,
                authority: &self.location.authority,
                region: &self.location.region,
            },
            method: operation.method(),
            changes: operation.changes(),
            path_and_query: self.location.path.clone(),
            headers: vec![
                header("accept-encoding", "identity"),
                header("content-type", "application/x-amz-json-1.0"),
                header(
                    "x-amz-target",
                    &format!("DynamoDB_20120810.{}", operation.name()),
                ),
            ],
            body: Some(Payload {
                bytes: body.as_bytes(),
                sha256: Sha256::digest(body).into(),
            }),
            limit: MAX_ANSWER,
        }
    }

    fn send(&self, operation: Operation, key: &str, body: &Value) -> Result<Value, Failed> {
        let body = json::text(body);
        let request = self.request(operation, &body);
        let answer = self.client.send(&request).map_err(|failure| Failed {
            operation,
            key: key.to_owned(),
            failure,
        })?;
        let answer = match &answer.body {
            AnswerBody::Whole(bytes) => std::str::from_utf8(bytes)
                .ok()
                .and_then(|text| serde_json::from_str::<Value>(text).ok())
                .filter(Value::is_object),
            AnswerBody::TooLarge(_) => None,
        };
        // A page of a proxy's, perhaps: nobody holds a lock because of that.
        answer.ok_or_else(|| misunderstood(operation, key))
    }
}

/// A value of type S.
fn of_text(text: &str) -> Value {
    json::object([("S", text.into())])
}

/// Adds a condition to a request.
fn demand(body: &mut Value, attribute: Attribute, condition: ItemCondition<'_>) {
    let name = attribute.name();
    let expression = match condition {
        ItemCondition::Absent => format!("attribute_not_exists({PARTITION_KEY})"),
        ItemCondition::Anything => return,
        ItemCondition::Holds(None) => format!("attribute_not_exists({name})"),
        ItemCondition::Holds(Some(value)) => {
            let variable = format!(":{}", name.to_ascii_lowercase());
            let expression = format!("{name} = {variable}");
            body["ExpressionAttributeValues"] = json::object([(&variable, of_text(value))]);
            expression
        }
    };
    body["ConditionExpression"] = expression.into();
}

fn item(answer: &Value, field: &str, attribute: Attribute) -> Option<Item> {
    let item = answer.get(field)?.as_object()?;
    let value = item.get(attribute.name()).and_then(|it| it["S"].as_str());
    (!item.is_empty()).then(|| Item {
        value: value.map(str::to_owned),
    })
}

fn description(table: &Value) -> Option<TableDescription> {
    let types = table["AttributeDefinitions"].as_array()?;
    let part = |part: &Value| {
        let name = part["AttributeName"].as_str()?;
        let kind = types.iter().find(|it| it["AttributeName"] == name)?;
        Some(KeyPart {
            name: name.to_owned(),
            kind: kind["AttributeType"].as_str()?.to_owned(),
            is_partition_key: part["KeyType"] == "HASH",
        })
    };
    let key = table["KeySchema"].as_array()?.iter();
    Some(TableDescription {
        status: table["TableStatus"].as_str()?.to_owned(),
        key: key.map(part).collect::<Option<_>>()?,
    })
}

fn misunderstood(operation: Operation, key: &str) -> Failed {
    Failed {
        operation,
        key: key.to_owned(),
        failure: Failure::misunderstood("what came is no answer of DynamoDB", operation.changes()),
    }
}

fn header(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_description_names_status_and_key_in_order() {
        let answer = json!({
            "TableStatus": "ACTIVE",
            "AttributeDefinitions": [
                { "AttributeName": "Sort", "AttributeType": "N" },
                { "AttributeName": "LockID", "AttributeType": "S" },
            ],
            "KeySchema": [
                { "AttributeName": "LockID", "KeyType": "HASH" },
                { "AttributeName": "Sort", "KeyType": "RANGE" },
            ],
        });
        let part = |name: &str, kind: &str, is_partition_key| KeyPart {
            name: name.to_owned(),
            kind: kind.to_owned(),
            is_partition_key,
        };
        let table = description(&answer).unwrap();
        assert_eq!(table.status, "ACTIVE");
        assert_eq!(
            table.key,
            [part("LockID", "S", true), part("Sort", "N", false)]
        );
        assert!(description(&json!({ "TableStatus": "ACTIVE" })).is_none());
    }
}
