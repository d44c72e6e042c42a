//! Answers in place of the request: those of faults, and to whoever means another region or lives in another time.
//!
//! Without this module a fault would have to be told apart from the library's own refusals inside the library.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use jiff::{SignedDuration, Timestamp};

use super::dynamo;
use super::faults::{Instead, Plan};
use super::server::{AnswerBody, Server};
use super::sts;
use super::target::{Scope, Service, Target, checksum_header, signing_time};

/// How far a signature's time may be off; S3's number.
const LARGEST_SKEW: SignedDuration = SignedDuration::from_mins(15);

impl Server {
    /// What comes in place of the request: by a fault, or because it is meant for another region.
    pub(super) fn instead(
        &self,
        plan: &Plan,
        target: &Target,
        headers: &HeaderMap,
        scope: Option<&Scope>,
    ) -> Early {
        let service = target.service;
        match &plan.instead {
            Some(Instead::Reset) => return Early::Close,
            Some(Instead::Garbage) => {
                let status = if target.operation.starts_with("List") {
                    StatusCode::OK
                } else {
                    StatusCode::INTERNAL_SERVER_ERROR
                };
                return Early::answer(status, "text/html", "<<garbage & more");
            }
            Some(Instead::RefuseChecksums) => {
                return Early::error(
                    service,
                    StatusCode::BAD_REQUEST,
                    "InvalidArgument",
                    &format!(
                        "Unsupported header '{}' received for this API call.",
                        checksum_header(headers).unwrap_or_default()
                    ),
                    &[],
                );
            }
            Some(Instead::RefuseConditions) => {
                return Early::error(
                    service,
                    StatusCode::NOT_IMPLEMENTED,
                    "NotImplemented",
                    "A header you provided implies functionality that is not implemented",
                    &[],
                );
            }
            Some(Instead::Status { status, code }) => {
                let status =
                    StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                return Early::error(service, status, code, "The fault was injected", &[]);
            }
            Some(Instead::Throttle) => {
                let (status, code) = match service {
                    Service::DynamoDb => (
                        StatusCode::BAD_REQUEST,
                        "ProvisionedThroughputExceededException",
                    ),
                    Service::S3 => (StatusCode::SERVICE_UNAVAILABLE, "SlowDown"),
                    Service::Sts => (StatusCode::BAD_REQUEST, "Throttling"),
                };
                return Early::error(
                    service,
                    status,
                    code,
                    "Please reduce your request rate.",
                    &[],
                );
            }
            None => {}
        }
        // The others check time and region with the signature.
        if service != Service::S3 {
            return Early::None;
        }
        if let Some(skew) = plan.skew_seconds
            && let Some(signed) = signing_time(headers)
            && (signed.duration_since(now(skew))).abs() > LARGEST_SKEW
        {
            return Early::error(
                service,
                StatusCode::FORBIDDEN,
                "RequestTimeTooSkewed",
                "The difference between the request time and the current time is too large.",
                &[],
            );
        }
        if let Some(scope) = scope
            && scope.region != self.region
        {
            return Early::error(
                service,
                StatusCode::BAD_REQUEST,
                "AuthorizationHeaderMalformed",
                &format!(
                    "The authorization header is malformed; the region '{}' is wrong; expecting '{}'",
                    scope.region, self.region
                ),
                &[("Region", &self.region)],
            );
        }
        Early::None
    }

    /// The headers that every answer has.
    pub(super) fn sign_off(
        &self,
        service: Service,
        plan: &Plan,
        mut answer: Response<AnswerBody>,
    ) -> Response<AnswerBody> {
        let status = answer.status();
        let headers = answer.headers_mut();
        if service == Service::S3
            && let Ok(region) = HeaderValue::from_str(&self.region)
            && (status == StatusCode::BAD_REQUEST || status.is_redirection())
        {
            headers.insert("x-amz-bucket-region", region);
        }
        if let Some(skew) = plan.skew_seconds {
            let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
            if let Ok(date) = printer.timestamp_to_rfc9110_string(&now(skew))
                && let Ok(date) = HeaderValue::from_str(&date)
            {
                headers.insert(header::DATE, date);
            }
        }
        answer
    }
}

/// What is decided before the request is let in.
pub(super) enum Early {
    Answer(Box<Response<AnswerBody>>),
    Close,
    None,
}

impl Early {
    fn error(
        service: Service,
        status: StatusCode,
        code: &str,
        message: &str,
        more: &[(&str, &str)],
    ) -> Self {
        match service {
            Service::DynamoDb => {
                let error = dynamo::Error::dynamo(code, message);
                return Self::Answer(Box::new(error.answer(Some(status))));
            }
            Service::S3 => {}
            Service::Sts => {
                let error = sts::Error::new(status, code, message);
                return Self::Answer(Box::new(error.answer()));
            }
        }
        let mut xml = Vec::from(*br#"<?xml version="1.0" encoding="UTF-8"?>"#);
        let written = s3s::xml::Serializer::new(&mut xml).element("Error", |s| {
            s.content("Code", code)?;
            s.content("Message", message)?;
            more.iter()
                .try_for_each(|(name, value)| s.content(name, *value))
        });
        if written.is_err() {
            return Self::Close;
        }
        let mut early = Self::answer(status, "application/xml", xml);
        if let Self::Answer(answer) = &mut early
            && matches!(
                status,
                StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
            )
        {
            answer
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("0"));
        }
        early
    }

    fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let body = Full::new(body.into()).map_err(|never| match never {});
        let mut answer = Response::new(body.boxed_unsync());
        *answer.status_mut() = status;
        answer
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self::Answer(Box::new(answer))
    }
}

/// The store's time.
pub(super) fn now(skew_seconds: i64) -> Timestamp {
    let now = Timestamp::now();
    now.saturating_add(SignedDuration::from_secs(skew_seconds))
        .unwrap_or(now)
}
