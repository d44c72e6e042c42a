//! What a store says when it refuses a request.
//!
//! A refusal that is not understood cannot be acted on: a wrong region looks like missing rights, a slow-down like
//! a failure, and another writer's success like an error.

use std::time::Duration;

use serde_json::Value;

use crate::calendar;
use crate::platform::HttpResponse;

use super::xml;

/// Longest text of a store that gets into a message.
const MAX_TEXT: usize = 400;

/// A response with an error status. Its texts come from the store: cut, and without control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoreError {
    pub(crate) status: u16,
    /// The error code, such as `NoSuchKey`; none when the body is no error of AWS.
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) request_id: Option<String>,
    /// The region that the bucket is in, where the store names it.
    pub(crate) region: Option<String>,
    /// The header or condition at fault, where the store names it.
    pub(crate) culprit: Option<String>,
    /// Seconds.
    pub(crate) retry_after: Option<u64>,
    /// The store's clock, since 1970.
    pub(crate) date: Option<Duration>,
}

impl StoreError {
    /// Reads an error out of the head of a response and whatever stands in its body.
    pub(crate) fn of(response: &HttpResponse, body: &[u8]) -> Self {
        let header = |name: &str| response.header(name).and_then(presentable);
        let mut error = Self {
            status: response.status,
            region: header("x-amz-bucket-region"),
            request_id: header("x-amz-request-id").or_else(|| header("x-amzn-requestid")),
            retry_after: response
                .header("retry-after")
                .and_then(|value| value.trim().parse().ok()),
            date: response.header("date").and_then(calendar::parse_http_date),
            ..Self::default()
        };
        if body.starts_with(b"{") {
            error.take_json(body);
            // `Name:http://…`
            let kind = header("x-amzn-errortype");
            if let Some(code) = kind.and_then(|kind| presentable(kind.split(':').next()?)) {
                error.code = Some(code);
            }
            return error;
        }
        // What was read of a body that breaks off still counts.
        let _ = xml::visit_texts(body, |path, text| {
            // STS and IAM wrap it.
            let field = match path.strip_prefix("ErrorResponse/").unwrap_or(path) {
                "Error/Code" => &mut error.code,
                "Error/Message" => &mut error.message,
                "Error/RequestId" | "RequestId" => &mut error.request_id,
                "Error/Region" => &mut error.region,
                "Error/Header" | "Error/Condition" | "Error/ArgumentName" => &mut error.culprit,
                _ => return,
            };
            if let Some(text) = presentable(&text) {
                field.get_or_insert(text);
            }
        });
        error
    }

    /// Takes code and message out of an answer of a service that speaks JSON.
    fn take_json(&mut self, body: &[u8]) {
        let body = String::from_utf8_lossy(body);
        let body: Value = serde_json::from_str(&body).unwrap_or_default();
        let text = |names: &[&str]| {
            let mut texts = names.iter().filter_map(|name| body.get(name)?.as_str());
            texts.find_map(presentable)
        };
        // The code comes behind its namespace: `com.amazonaws.dynamodb.v20120810#ResourceNotFoundException`.
        let code = text(&["__type", "code", "error"]);
        self.code = code.and_then(|code| presentable(code.rsplit('#').next()?));
        self.message = text(&["message", "Message", "error_description"]);
    }

    /// The code, or nothing.
    pub(crate) fn code(&self) -> &str {
        self.code.as_deref().unwrap_or_default()
    }

    /// There is no such object. A 404 without S3's code proves nothing: anything on the way can answer so.
    pub(crate) fn is_no_such_key(&self) -> bool {
        self.status == 404 && matches!(self.code(), "NoSuchKey" | "NotFound")
    }

    /// What was to be made is there already.
    pub(crate) fn is_already_there(&self) -> bool {
        self.status == 412 || self.code() == "ConditionalCheckFailedException"
    }

    /// What is stored is not what the request's condition wants. S3 answers 404 when nothing is stored.
    pub(crate) fn is_failed_condition(&self) -> bool {
        self.is_already_there() || self.is_no_such_key()
    }

    /// Another request for the same object or item came in between: not a verdict on the condition.
    pub(crate) fn is_conflict(&self) -> bool {
        match self.code() {
            "" | "ConditionalRequestConflict" | "OperationAborted" => self.status == 409,
            code => matches!(
                code,
                "ReplicatedWriteConflictException" | "TransactionConflictException"
            ),
        }
    }

    /// The store does not know conditional requests.
    pub(crate) fn is_condition_unsupported(&self) -> bool {
        self.is_not_implemented()
            && match &self.culprit {
                Some(culprit) => starts_with_ignoring_case(culprit, "if-"),
                None => !self.is_about_checksums(),
            }
    }

    /// The store does not know something that the request asks for.
    pub(crate) fn is_not_implemented(&self) -> bool {
        self.status == 501 || self.code() == "NotImplemented"
    }

    /// Whether the store's message holds a word, in any case.
    pub(crate) fn says(&self, word: &str) -> bool {
        let message = self.message.as_deref().unwrap_or_default();
        message
            .to_ascii_lowercase()
            .contains(&word.to_ascii_lowercase())
    }

    /// The store complains of a checksum header.
    pub(crate) fn is_about_checksums(&self) -> bool {
        matches!(self.status, 400 | 501)
            && [&self.culprit, &self.message]
                .into_iter()
                .flatten()
                .any(|text| text.to_ascii_lowercase().contains("checksum"))
    }
}

/// Cuts a text, and drops what could play tricks on a terminal. None: nothing is left.
pub(crate) fn presentable(text: &str) -> Option<String> {
    let text: String = text
        .chars()
        .filter(|character| !character.is_control())
        .take(MAX_TEXT)
        .collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn starts_with_ignoring_case(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}
