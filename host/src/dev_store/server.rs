//! The HTTP side: connections, the request log, and the faults around the library that speaks S3.
//!
//! Without this module the library would answer, and nobody would know in which order, nor how a client takes it
//! when it does not.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use percent_encoding::percent_decode_str;
use s3s::service::S3Service;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::checksum::hex;

use super::checksum::{Algorithm, Checksum};
use super::faults::{Faults, Instead, Plan};
use super::log::{self, Caller, Log};
use super::objects::{Conditions, Headers, Object, Objects};

pub(super) type AnswerBody = UnsyncBoxBody<Bytes, BodyError>;
pub(super) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// How far a signature's time may be off; S3's number.
const LARGEST_SKEW: SignedDuration = SignedDuration::from_mins(15);

/// How long requests in progress may take to end when the store is shut down.
const GRACE: Duration = Duration::from_secs(5);

/// How long to wait when no more connections can be accepted, mostly because too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How much of a body that nobody wants is read, so that the client gets to read why.
const DRAINED: usize = 64 * 1024 * 1024;

/// Headers that must not show in anybody's debug output.
const SECRET_HEADERS: [&str; 4] = [
    "authorization",
    "x-amz-security-token",
    "x-amz-server-side-encryption-customer-key",
    "x-amz-copy-source-server-side-encryption-customer-key",
];

/// What all connections share.
pub(super) struct Server {
    pub(super) objects: Arc<Objects>,
    pub(super) bucket: String,
    pub(super) region: String,
    /// Checks the time of signatures.
    pub(super) service: S3Service,
    /// Does not: for requests whose time was checked against a skewed clock.
    pub(super) timeless: S3Service,
    pub(super) faults: Faults,
    pub(super) log: Log,
    pub(super) connections: AtomicU64,
}

impl Server {
    /// Serves until told to stop.
    pub(super) async fn run(
        self: Arc<Self>,
        listener: TcpListener,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let number = self.connections.fetch_add(1, Ordering::SeqCst) + 1;
                        connections.spawn(Arc::clone(&self).connection(stream, number, stop.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the embedded store can't accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
                _ = stop.changed() => break,
            }
        }
        drop(listener);
        // Whoever is not done by then is cut off when the set is dropped.
        let _ = tokio::time::timeout(GRACE, async {
            while connections.join_next().await.is_some() {}
        })
        .await;
    }

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        number: u64,
        mut stop: watch::Receiver<bool>,
    ) {
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let service = service_fn(|request| {
            // Once a request is here it is seen through, also when the client goes away: an effect without an
            // entry in the log must not be.
            let answered = tokio::spawn(Arc::clone(&self).answer(number, request));
            async move { answered.await.unwrap_or(Err(Unanswered)) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            _ = stop.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, connection = number, "a connection of the embedded store ended early");
        }
    }

    async fn answer(
        self: Arc<Self>,
        connection: u64,
        mut request: Request<Incoming>,
    ) -> Result<Response<AnswerBody>, Unanswered> {
        let target = Target::of(request.method(), request.uri());
        for name in SECRET_HEADERS {
            if let Some(value) = request.headers_mut().get_mut(name) {
                value.set_sensitive(true);
            }
        }
        let headers = request.headers();
        let text = |name: header::HeaderName| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.map(str::to_owned)
        };
        let scope = text(header::AUTHORIZATION).and_then(|value| Scope::of(&value));
        let mut entry = log::Request {
            sequence: 0,
            connection,
            method: request.method().to_string(),
            operation: target.operation,
            bucket: target.bucket,
            key: target.key,
            if_match: text(header::IF_MATCH),
            if_none_match: text(header::IF_NONE_MATCH),
            access_key_id: scope.as_ref().map(|scope| scope.access_key_id.clone()),
            user_agent: text(header::USER_AGENT),
            status: 0,
            etag: None,
        };
        let conditional_write = (entry.if_match.is_some() || entry.if_none_match.is_some())
            && !matches!(*request.method(), Method::GET | Method::HEAD);
        let plan = self
            .faults
            .befall(entry.operation, &entry.key, conditional_write);
        let caller = Arc::new(Caller::new(
            entry.user_agent.clone(),
            plan.ignores_conditions,
        ));
        self.interfere(&plan);

        let early = self.instead(&plan, entry.operation, request.headers(), scope.as_ref());
        let answer = match early {
            Early::Close => Err(Unanswered),
            Early::Answer(answer) => {
                drain(request.into_body()).await;
                Ok(*answer)
            }
            Early::None => self.serve(&plan, Arc::clone(&caller), request).await,
        };
        let mut answer = answer.map(|answer| self.sign_off(&plan, answer));

        entry.sequence = caller
            .sequence()
            .unwrap_or_else(|| self.objects.next_sequence());
        if let Ok(answer) = &mut answer {
            entry.status = answer.status().as_u16();
            let etag = answer.headers().get(header::ETAG);
            entry.etag = etag.and_then(|etag| etag.to_str().ok()).map(str::to_owned);
            if let Ok(id) = HeaderValue::from_str(&format!("{:016X}", entry.sequence)) {
                answer.headers_mut().insert("x-amz-request-id", id);
            }
        }
        if self.objects.is_recording() {
            self.log.push(entry);
        }
        if let Some(delay) = plan.delay {
            tokio::time::sleep(delay).await;
        }
        if plan.lose_answer {
            return Err(Unanswered);
        }
        answer.map(|answer| answer.map(|body| plan.spoil(body)))
    }

    /// Lets the library check and answer the request.
    async fn serve(
        &self,
        plan: &Plan,
        caller: Arc<Caller>,
        mut request: Request<Incoming>,
    ) -> Result<Response<AnswerBody>, Unanswered> {
        request.extensions_mut().insert(caller);
        let rest = Arc::new(Mutex::new(None));
        let request = request.map(|body| {
            s3s::Body::http_body(Lent {
                body: Some(body),
                rest: Arc::clone(&rest),
            })
        });
        let service = match plan.skew_seconds {
            Some(_) => &self.timeless,
            None => &self.service,
        };
        let answer = service.call(request).await.map_err(|_| Unanswered)?;
        let rest = rest.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(rest) = rest {
            drain(rest).await;
        }
        // A 304 has no body, and says nothing of one.
        if answer.status() == StatusCode::NOT_MODIFIED {
            return Ok(answer.map(|_| AnswerBody::default()));
        }
        Ok(answer.map(|body| body.boxed_unsync()))
    }

    /// What the plan lets others do to the store first.
    fn interfere(&self, plan: &Plan) {
        for (key, body) in &plan.interference {
            let caller = Caller::default();
            let done = match body {
                None => self.objects.delete(&caller, &self.bucket, key, None),
                Some(body) => self.objects.put(
                    &caller,
                    &self.bucket,
                    plain_object(key, body.clone()),
                    &Conditions::default(),
                ),
            };
            if let Err(error) = done {
                tracing::warn!(%error, key, "a fault of the embedded store had no effect");
            }
        }
    }

    /// What comes in place of the request: by a fault, or because it is meant for another region.
    fn instead(
        &self,
        plan: &Plan,
        operation: &str,
        headers: &HeaderMap,
        scope: Option<&Scope>,
    ) -> Early {
        match &plan.instead {
            Some(Instead::Reset) => return Early::Close,
            Some(Instead::Garbage) => {
                let status = if operation.starts_with("List") {
                    StatusCode::OK
                } else {
                    StatusCode::INTERNAL_SERVER_ERROR
                };
                return Early::answer(status, "text/html", "<<garbage & more");
            }
            Some(Instead::RefuseConditions) => {
                return Early::error(
                    StatusCode::NOT_IMPLEMENTED,
                    "NotImplemented",
                    "A header you provided implies functionality that is not implemented",
                    &[],
                );
            }
            Some(Instead::Status { status, code }) => {
                let status =
                    StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                return Early::error(status, code, "The fault was injected", &[]);
            }
            None => {}
        }
        if let Some(skew) = plan.skew_seconds
            && let Some(signed) = signing_time(headers)
            && (signed.duration_since(now(skew))).abs() > LARGEST_SKEW
        {
            return Early::error(
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
    fn sign_off(&self, plan: &Plan, mut answer: Response<AnswerBody>) -> Response<AnswerBody> {
        let status = answer.status();
        let headers = answer.headers_mut();
        if let Ok(region) = HeaderValue::from_str(&self.region)
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

/// An object as the program itself, not a client, stores it.
pub(super) fn plain_object(key: &str, body: Bytes) -> Object {
    use s3s::crypto::Checksum as _;
    let etag = hex(&s3s::crypto::Md5::checksum(&body));
    let checksum = Checksum::of(Algorithm::Crc64Nvme, &body);
    Object::with_etag(key, body, etag, checksum, Headers::default())
}

/// The connection is closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the request is not answered")]
pub(super) struct Unanswered;

/// What is decided before the library sees the request.
enum Early {
    Answer(Box<Response<AnswerBody>>),
    Close,
    None,
}

impl Early {
    fn error(status: StatusCode, code: &str, message: &str, more: &[(&str, &str)]) -> Self {
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

/// What a request is about, as far as its first line tells.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    operation: &'static str,
    bucket: String,
    key: String,
}

impl Target {
    fn of(method: &Method, uri: &Uri) -> Self {
        let path = uri.path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let names: Vec<&str> = uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split('=').next())
            .collect();
        let has = |name: &str| names.contains(&name);
        let operation = match (method.as_str(), bucket.is_empty(), key.is_empty()) {
            ("GET", true, true) => "ListBuckets",
            ("HEAD", false, true) => "HeadBucket",
            ("PUT", false, true) => "CreateBucket",
            ("DELETE", false, true) => "DeleteBucket",
            ("POST", false, true) if has("delete") => "DeleteObjects",
            ("GET", false, true) if has("location") => "GetBucketLocation",
            ("GET", false, true) if has("list-type") => "ListObjectsV2",
            ("GET", false, true) if has("uploads") => "ListMultipartUploads",
            ("GET", false, true) if has("versions") => "ListObjectVersions",
            ("GET", false, true) => "ListObjects",
            ("GET", false, false) if has("uploadId") => "ListParts",
            ("GET", false, false) => "GetObject",
            ("HEAD", false, false) => "HeadObject",
            ("PUT", false, false) if has("partNumber") => "UploadPart",
            ("PUT", false, false) => "PutObject",
            ("POST", false, false) if has("uploads") => "CreateMultipartUpload",
            ("POST", false, false) if has("uploadId") => "CompleteMultipartUpload",
            ("DELETE", false, false) if has("uploadId") => "AbortMultipartUpload",
            ("DELETE", false, false) => "DeleteObject",
            _ => "Unknown",
        };
        Self {
            operation,
            bucket: decoded(bucket),
            key: decoded(key),
        }
    }
}

/// Who signed, and for which region.
#[derive(Debug, PartialEq, Eq)]
struct Scope {
    access_key_id: String,
    region: String,
}

impl Scope {
    fn of(authorization: &str) -> Option<Self> {
        let (_, credential) = authorization.split_once("Credential=")?;
        let mut parts = credential.split('/');
        let access_key_id = parts.next()?.to_owned();
        let _date = parts.next()?;
        let region = parts.next()?.to_owned();
        Some(Self {
            access_key_id,
            region,
        })
    }
}

fn now(skew_seconds: i64) -> Timestamp {
    let now = Timestamp::now();
    now.saturating_add(SignedDuration::from_secs(skew_seconds))
        .unwrap_or(now)
}

fn signing_time(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get("x-amz-date")?.to_str().ok()?;
    let time = civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// Reads on, so that a client that is still sending gets to read the answer.
async fn drain(mut body: Incoming) {
    let mut left = DRAINED;
    while let Some(Ok(frame)) = body.frame().await {
        left = match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(left) => left,
            None => return,
        };
    }
}

/// A body that leaves what was not read of it behind.
struct Lent {
    body: Option<Incoming>,
    rest: Arc<Mutex<Option<Incoming>>>,
}

impl Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let rest = self.body.take().filter(|body| !body.is_end_stream());
        *self.rest.lock().unwrap_or_else(PoisonError::into_inner) = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_tells_what_a_request_is_about() {
        let of = |method: Method, uri: &str| {
            let target = Target::of(&method, &uri.parse().unwrap());
            (target.operation, target.bucket, target.key)
        };
        let named = |operation, bucket: &str, key: &str| (operation, bucket.into(), key.into());
        assert_eq!(
            of(Method::GET, "/b/env%3A/a%20b?x-id=GetObject"),
            named("GetObject", "b", "env:/a b")
        );
        assert_eq!(
            of(Method::PUT, "/b/k?partNumber=1&uploadId=x"),
            named("UploadPart", "b", "k")
        );
        assert_eq!(
            of(Method::POST, "/b/k?uploads="),
            named("CreateMultipartUpload", "b", "k")
        );
        assert_eq!(
            of(Method::GET, "/b?list-type=2&prefix=env%3A%2F"),
            named("ListObjectsV2", "b", "")
        );
        assert_eq!(of(Method::GET, "/"), named("ListBuckets", "", ""));
        assert_eq!(of(Method::PATCH, "/b/k"), named("Unknown", "b", "k"));
    }

    #[test]
    fn a_signature_names_its_signer_and_region() {
        let scope = Scope::of(
            "AWS4-HMAC-SHA256 Credential=ID/20261123/eu-west-1/s3/aws4_request, SignedHeaders=host, Signature=0",
        );
        assert_eq!(
            scope,
            Some(Scope {
                access_key_id: "ID".to_owned(),
                region: "eu-west-1".to_owned()
            })
        );
        assert_eq!(Scope::of("Basic eHk="), None);
    }
}
