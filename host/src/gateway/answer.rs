//! The answers of the gateway, and which status each failure gets.
//!
//! The status decides what the client does: it repeats connection errors, 429 and everything from 500 on
//! except 501; it reads the holder out of 423; it words 401 and 403 as its own credentials and takes 404
//! for an empty state. A wrong one makes people look in the wrong place, or makes a plan for recreating
//! everything.

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use http_body_util::Full;
use jiff::Timestamp;

use crate::{Error, ErrorCode, Holder, LockInfo, Outcome, StoreError};

/// What a retry cannot mend and is none of the client's credentials: the store refuses, the bucket is
/// missing, the configuration or the state is bad.
const CANNOT: StatusCode = StatusCode::UNPROCESSABLE_ENTITY;

/// Seconds after which the client may try again, when the store names no time.
const PAUSE: u32 = 1;

/// Go's zero time: a client that parses the record must not stumble over the date.
const NO_DATE: &str = "0001-01-01T00:00:00Z";

/// An answer before it becomes HTTP.
pub(super) struct Answer {
    status: StatusCode,
    content: Content,
    retry_after: Option<u32>,
}

enum Content {
    Holder(Bytes),
    Nothing,
    State(Bytes),
    Text(String),
}

impl Answer {
    /// It is done.
    pub(super) fn done() -> Self {
        Self {
            status: StatusCode::OK,
            content: Content::Nothing,
            retry_after: None,
        }
    }

    /// Here is the state.
    pub(super) fn state(bytes: Bytes) -> Self {
        Self {
            status: StatusCode::OK,
            content: Content::State(bytes),
            retry_after: None,
        }
    }

    /// A refusal, with its reason and what to do. The reason is logged: no secrets in it.
    pub(super) fn text(status: StatusCode, reason: impl Into<String>) -> Self {
        Self {
            status,
            content: Content::Text(reason.into()),
            retry_after: None,
        }
    }

    /// Somebody else holds the lock. The body is always a complete record with an id: clients wait for a
    /// lock only when they can read whose it is.
    pub(super) fn held_by(holders: &[Holder]) -> Self {
        let record = presentable(holders);
        match serde_json::to_vec(&record) {
            Ok(json) => Self {
                status: StatusCode::LOCKED,
                content: Content::Holder(json.into()),
                retry_after: None,
            },
            Err(_) => Self::text(
                StatusCode::LOCKED,
                format!("the lock is held by {:?}", record.id),
            ),
        }
    }

    /// The status that the client will see.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// Why not, if it says so in words.
    pub(super) fn reason(&self) -> Option<&str> {
        match &self.content {
            Content::Text(reason) => Some(reason),
            _ => None,
        }
    }

    /// As HTTP.
    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let (kind, body) = match self.content {
            Content::Holder(json) => (Some("application/json"), json),
            Content::Nothing => (None, Bytes::new()),
            Content::State(bytes) => (Some("application/json"), bytes),
            Content::Text(mut reason) => {
                reason.push('\n');
                (Some("text/plain; charset=utf-8"), reason.into())
            }
        };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(kind) = kind {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"cofferdam\""),
            );
        }
        response
    }
}

impl From<Error> for Answer {
    fn from(error: Error) -> Self {
        match &error {
            Error::Store(error) => error.into(),
            Error::Configuration(_) => Self::text(CANNOT, error.to_string()),
            Error::Component(_) | Error::Limit { .. } | Error::Trap { .. } => {
                Self::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
            }
        }
    }
}

impl From<&StoreError> for Answer {
    fn from(error: &StoreError) -> Self {
        let status = match error.code {
            ErrorCode::AccessDenied
            | ErrorCode::Credentials
            | ErrorCode::DigestMismatch
            | ErrorCode::InvalidArgument
            | ErrorCode::NoSuchBucket
            | ErrorCode::Unsupported => CANNOT,
            ErrorCode::Locked => return Self::held_by(&error.holders),
            ErrorCode::LockMismatch if !error.holders.is_empty() => {
                return Self::held_by(&error.holders);
            }
            ErrorCode::LockMismatch | ErrorCode::StateChanged => StatusCode::CONFLICT,
            ErrorCode::Throttled | ErrorCode::TimedOut | ErrorCode::Unreachable => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            // Unless it is known that nothing happened, the client must ask again to find out.
            ErrorCode::Other if error.retryable || error.outcome == Outcome::Unknown => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            ErrorCode::Other => CANNOT,
            ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        };
        let mut reason = error.message.clone();
        // With a revision, the state is known to be stored, and the message says what is not.
        if error.outcome == Outcome::Unknown && error.fact("stored-revision").is_none() {
            reason.push_str(
                "\nIt is not known whether it took effect. Repeating the request is safe.",
            );
        }
        let retry_after = (status == StatusCode::SERVICE_UNAVAILABLE).then(|| {
            error
                .fact("retry-after")
                .and_then(|fact| fact.parse().ok())
                .unwrap_or(PAUSE)
        });
        Self {
            retry_after,
            ..Self::text(status, reason)
        }
    }
}

/// The record of the first holder that can be read, as every client can parse it.
fn presentable(holders: &[Holder]) -> LockInfo {
    let Some(info) = holders.iter().find_map(|holder| holder.info.as_ref()) else {
        let info = match holders.first() {
            Some(holder) => format!(
                "The lock record in {} cannot be read. Find out who holds it; `cofferdam force-unlock` breaks it.",
                holder.place
            ),
            None => {
                "The lock was held, but its record was gone when it was read. Try again.".to_owned()
            }
        };
        return LockInfo {
            id: "unreadable".to_owned(),
            info,
            created: NO_DATE.to_owned(),
            ..LockInfo::default()
        };
    };
    let mut info = info.clone();
    if info.id.is_empty() {
        info.id = "unnamed".to_owned();
    }
    if info.created.parse::<Timestamp>().is_err() {
        info.created = NO_DATE.to_owned();
    }
    info
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::Limit;

    fn store_error(code: ErrorCode) -> StoreError {
        StoreError {
            code,
            message: "the reason".to_owned(),
            outcome: Outcome::NotDone,
            retryable: false,
            holders: Vec::new(),
            facts: Vec::new(),
        }
    }

    fn holder(info: Option<LockInfo>) -> Holder {
        Holder {
            place: "s3".to_owned(),
            info,
            token: "t".to_owned(),
        }
    }

    async fn body(answer: Answer) -> String {
        let bytes = answer
            .into_response()
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn what_a_retry_cannot_mend_is_neither_repeated_nor_taken_for_the_clients_credentials() {
        use ErrorCode::*;
        for code in [
            AccessDenied,
            Credentials,
            DigestMismatch,
            InvalidArgument,
            LockMismatch,
            NoSuchBucket,
            Other,
            StateChanged,
            TooLarge,
            Unsupported,
        ] {
            let status = Answer::from(&store_error(code)).status();
            assert!(status.is_client_error(), "{code:?}: {status}");
            assert!(
                ![401, 403, 404, 429].contains(&status.as_u16()),
                "{code:?}: {status}"
            );
        }
    }

    #[test]
    fn what_may_pass_is_repeated_after_the_time_that_the_store_names() {
        for code in [
            ErrorCode::Throttled,
            ErrorCode::TimedOut,
            ErrorCode::Unreachable,
        ] {
            let mut error = store_error(code);
            let response = Answer::from(&error).into_response();
            assert_eq!(response.status(), 503, "{code:?}");
            assert_eq!(response.headers()[RETRY_AFTER], "1");

            error.facts.push(("retry-after".to_owned(), "7".to_owned()));
            assert_eq!(
                Answer::from(&error).into_response().headers()[RETRY_AFTER],
                "7"
            );
        }
    }

    #[test]
    fn an_unknown_outcome_makes_the_client_ask_again() {
        let error = StoreError {
            outcome: Outcome::Unknown,
            ..store_error(ErrorCode::Other)
        };
        assert_eq!(Answer::from(&error).status(), 503);
    }

    #[test]
    fn the_sandbox_failing_is_an_internal_error() {
        let limit = Error::Limit {
            limit: Limit::Memory(1 << 28),
            outcome: Outcome::NotDone,
            read_back: None,
        };
        assert_eq!(Answer::from(limit).status(), 500);
        let trap = Error::Trap {
            reason: "unreachable".to_owned(),
            outcome: Outcome::Unknown,
            read_back: None,
        };
        assert_eq!(Answer::from(trap).status(), 500);
    }

    #[tokio::test]
    async fn a_refusal_carries_the_reason_as_plain_text() {
        let answer = Answer::from(&store_error(ErrorCode::AccessDenied));
        assert_eq!(answer.reason(), Some("the reason"));
        assert_eq!(body(answer).await, "the reason\n");
    }

    #[tokio::test]
    async fn a_holder_is_written_with_terraforms_keys_in_terraforms_order() {
        let info = LockInfo {
            id: "i".to_owned(),
            operation: "OperationTypeApply".to_owned(),
            info: String::new(),
            who: "a@b".to_owned(),
            version: "1.11.4".to_owned(),
            created: "2026-11-23T01:28:14.19720879Z".to_owned(),
            path: "bucket/key".to_owned(),
        };
        let answer = Answer::held_by(&[holder(None), holder(Some(info))]);
        assert_eq!(answer.status(), 423);
        assert_eq!(
            body(answer).await,
            r#"{"ID":"i","Operation":"OperationTypeApply","Info":"","Who":"a@b","Version":"1.11.4","Created":"2026-11-23T01:28:14.19720879Z","Path":"bucket/key"}"#
        );
    }

    #[test]
    fn a_holder_that_cannot_be_read_still_has_an_id_and_a_date() {
        let broken = LockInfo {
            created: "yesterday".to_owned(),
            ..LockInfo::default()
        };
        for holders in [vec![], vec![holder(None)], vec![holder(Some(broken))]] {
            let shown = presentable(&holders);
            assert!(!shown.id.is_empty(), "{holders:?}");
            assert!(shown.created.parse::<Timestamp>().is_ok(), "{holders:?}");
        }
        assert!(
            presentable(&[holder(None)])
                .info
                .contains("s3 cannot be read")
        );
    }
}
