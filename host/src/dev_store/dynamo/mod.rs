//! DynamoDB, as far as locks need it: items with conditions, and tables to keep them in.
//!
//! Without it the second kind of lock could be tried only against an account. Its requests come to the same port
//! as S3's, as JSON: the header `X-Amz-Target` tells them apart. Items are in the same critical section as objects,
//! and have their places in the same order of effects.
//!
//! Numbers are kept and compared as they are written. There are no indexes, streams, transactions or batches.

mod expression;
mod items;
mod table;

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use s3s::crypto::Crc32;
use serde_json::{Map, Value, json};

use super::contents::{Contents, Failure};
use super::log::Caller;
use super::server::AnswerBody;
use super::signature::Problem;
use super::transfer::blocking;

pub(super) use items::is_table_name;
pub(super) use table::{Definition, KeyAttribute, Kind, StoredItem, Table};

/// The attributes of an item by their names, each as the protocol writes it: `{"S": "text"}`.
pub(super) type Item = Map<String, Value>;

/// The most bytes of a request; DynamoDB's number.
const LARGEST_REQUEST: usize = 16 * 1024 * 1024;

/// What every `X-Amz-Target` starts with.
const TARGET: &str = "DynamoDB_20120810.";

/// The operations known here.
const OPERATIONS: [&str; 8] = [
    "CreateTable",
    "DeleteItem",
    "DeleteTable",
    "DescribeTable",
    "GetItem",
    "ListTables",
    "PutItem",
    "Scan",
];

/// Whether a request is meant for a table, not for a bucket.
pub(super) fn is_meant(head: &Parts) -> bool {
    head.method == Method::POST
        && head.uri.path() == "/"
        && head.headers.contains_key("x-amz-target")
}

/// A request, as far as it can be understood before anybody has checked its signature. It has no `Debug`: an item
/// may tell what a lock's holder is up to.
pub(super) struct Call {
    /// `Unknown` for one that is not known here.
    pub(super) operation: &'static str,
    pub(super) table: String,
    /// The text of its partition key, if the partition key is a `LockID` with a text.
    pub(super) key: String,
    pub(super) condition: Option<String>,
    pub(super) body: Bytes,
    request: Option<Value>,
}

impl Call {
    /// Takes in the body. `None`: it broke off, or is larger than any request.
    pub(super) async fn receive(head: &Parts, mut body: Incoming) -> Option<Self> {
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame.ok()?.data_ref() {
                if bytes.len() + data.len() > LARGEST_REQUEST {
                    return None;
                }
                bytes.extend_from_slice(data);
            }
        }
        Some(Self::new(head, bytes.freeze()))
    }

    fn new(head: &Parts, body: Bytes) -> Self {
        let target = head.headers.get("x-amz-target");
        let name = target
            .and_then(|target| target.to_str().ok())
            .and_then(|target| target.strip_prefix(TARGET));
        let known = OPERATIONS
            .iter()
            .find(|operation| Some(**operation) == name);
        let request: Option<Value> = serde_json::from_slice(&body).ok();
        let text = |path: &str| {
            let text = request.as_ref()?.pointer(path)?.as_str()?;
            Some(text.to_owned())
        };
        Self {
            operation: known.unwrap_or(&"Unknown"),
            table: text("/TableName").unwrap_or_default(),
            key: text("/Key/LockID/S")
                .or_else(|| text("/Item/LockID/S"))
                .unwrap_or_default(),
            condition: text("/ConditionExpression"),
            body,
            request,
        }
    }

    /// Does what is asked, on a thread of its own when it waits for a disk or is made to wait.
    pub(super) async fn execute(
        self,
        contents: &Arc<Contents>,
        caller: Arc<Caller>,
        region: &str,
    ) -> Result<Value, Error> {
        let Some(Value::Object(request)) = self.request else {
            return Err(Error::service(
                "SerializationException",
                "The body of the request is not a JSON object",
            ));
        };
        let operation = self.operation;
        let region = region.to_owned();
        let shared = Arc::clone(contents);
        let racy = caller.flaws.race;
        let run = move || shared.dynamo(&caller, operation, &request, &region);
        if !contents.is_durable() && !racy {
            return run();
        }
        blocking(run)
            .await
            .map_err(|error| Error::internal(error.message().unwrap_or_default()))?
    }
}

/// A refusal.
pub(super) struct Error {
    /// With its namespace.
    code: String,
    message: String,
    /// What stands in the way, when that was asked for.
    item: Option<Item>,
}

impl Error {
    /// Of the service that all of AWS's services stand on.
    fn service(code: &str, message: impl Into<String>) -> Self {
        Self::new(format!("com.amazon.coral.service#{code}"), message)
    }

    /// Of DynamoDB itself.
    pub(super) fn dynamo(code: &str, message: impl Into<String>) -> Self {
        Self::new(format!("com.amazonaws.dynamodb.v20120810#{code}"), message)
    }

    fn validation(message: impl Into<String>) -> Self {
        Self::new(
            "com.amazon.coral.validate#ValidationException".to_owned(),
            message,
        )
    }

    fn internal(message: impl Into<String>) -> Self {
        Self::dynamo("InternalServerError", message)
    }

    fn condition_failed(present: Option<Item>) -> Self {
        Self {
            item: present,
            ..Self::dynamo(
                "ConditionalCheckFailedException",
                "The conditional request failed",
            )
        }
    }

    fn no_such_table(name: &str) -> Self {
        Self::dynamo(
            "ResourceNotFoundException",
            format!("Requested resource not found: Table: {name} not found"),
        )
    }

    pub(super) fn into_io(self) -> io::Error {
        io::Error::other(format!("the embedded store: {}", self.message))
    }

    fn new(code: String, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            item: None,
        }
    }

    /// As an answer; without a status of its own it is 400, or 500 if the store is to blame.
    pub(super) fn answer(self, status: Option<StatusCode>) -> Response<AnswerBody> {
        let status = status.unwrap_or(if self.code.ends_with("#InternalServerError") {
            StatusCode::INTERNAL_SERVER_ERROR
        } else {
            StatusCode::BAD_REQUEST
        });
        let mut body = json!({ "__type": self.code, "message": self.message });
        if let Some(item) = self.item {
            body["Item"] = Value::Object(item);
        }
        answer(status, &body)
    }
}

impl fmt::Debug for Error {
    /// Without the item.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Expired => Self::service(
                "ExpiredTokenException",
                "The security token included in the request is expired",
            ),
            Problem::Incomplete => Self::service(
                "IncompleteSignatureException",
                "The Authorization header is not AWS4-HMAC-SHA256 with Credential, SignedHeaders and Signature",
            ),
            Problem::Invalid(message) => Self::service("InvalidSignatureException", message),
            Problem::Missing => Self::service(
                "MissingAuthenticationTokenException",
                "Request is missing Authentication Token",
            ),
            Problem::UnknownKey => Self::service(
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            ),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::internal(failure.to_string())
    }
}

/// A JSON answer with its checksum.
pub(super) fn answer(status: StatusCode, body: &Value) -> Response<AnswerBody> {
    let body = Bytes::from(body.to_string());
    let checksum = Crc32::checksum_u32(&body);
    let body = Full::new(body).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-amz-json-1.0"),
    );
    headers.insert("x-amz-crc32", checksum.into());
    answer
}
