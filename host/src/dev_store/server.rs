//! The HTTP side: connections, the request log, and the faults around the library that speaks S3.
//!
//! Without this module the library would answer, and nobody would know in which order, nor how a client takes it
//! when it does not.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::{BoxBody, UnsyncBoxBody};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use s3s::service::S3Service;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::checksum::hex;

use super::access::StoreTime;
use super::checksum::{Algorithm, Checksum};
use super::contents::Contents;
use super::dynamo::{self, Call};
use super::early::{Early, now};
use super::faults::{Asked, Faults, Interference, Plan};
use super::io_error;
use super::keyring::Keyring;
use super::log::{self, Caller, Log};
use super::object::{Conditions, Headers, Object};
use super::signature;
use super::sts::{self, Role};
use super::target::{SECRET_HEADERS, Scope, Service, Target, checksum_header, logged_headers};

pub(super) type AnswerBody = UnsyncBoxBody<Bytes, BodyError>;
pub(super) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// How long requests in progress may take to end when the store is shut down.
const GRACE: Duration = Duration::from_secs(5);

/// How long to wait when no more connections can be accepted, mostly because too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How much of a body that nobody wants is read, so that the client gets to read why.
const DRAINED: usize = 64 * 1024 * 1024;

/// The most bytes of a request that is held back.
const LARGEST_HELD: usize = 1024 * 1024 * 1024 + 64 * 1024 * 1024;

/// What all connections share.
pub(super) struct Server {
    pub(super) contents: Arc<Contents>,
    pub(super) bucket: String,
    pub(super) table: String,
    pub(super) region: String,
    pub(super) keys: Arc<Keyring>,
    pub(super) roles: Vec<Role>,
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
            let (present, gone) = oneshot::channel();
            let answered = tokio::spawn(Arc::clone(&self).answer(number, request, gone));
            async move {
                let _present: oneshot::Sender<Infallible> = present;
                answered.await.unwrap_or(Err(Unanswered))
            }
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
        request: Request<Incoming>,
        gone: oneshot::Receiver<Infallible>,
    ) -> Result<Response<AnswerBody>, Unanswered> {
        let (mut head, body) = request.into_parts();
        for name in SECRET_HEADERS {
            if let Some(value) = head.headers.get_mut(name) {
                value.set_sensitive(true);
            }
        }
        let (target, question) = if dynamo::is_meant(&head) {
            let call = Call::receive(&head, body).await.ok_or(Unanswered)?;
            (Target::of_call(&call), Question::Table(call))
        } else if sts::is_meant(&head) {
            let call = sts::Call::receive(body).await.ok_or(Unanswered)?;
            (Target::of_sts(&call), Question::Sts(call))
        } else {
            (
                Target::of(&head.method, &head.uri, &head.headers),
                Question::Bucket(body.boxed()),
            )
        };
        let text = |name: header::HeaderName| {
            let value = head.headers.get(name).and_then(|it| it.to_str().ok());
            value.map(str::to_owned)
        };
        let scope = text(header::AUTHORIZATION).and_then(|value| Scope::of(&value));
        let mut entry = log::Request {
            sequence: 0,
            connection,
            method: head.method.to_string(),
            operation: target.operation,
            bucket: target.bucket.clone(),
            key: target.key.clone(),
            condition: target.condition.clone(),
            headers: logged_headers(&head),
            if_match: text(header::IF_MATCH),
            if_none_match: text(header::IF_NONE_MATCH),
            access_key_id: scope.as_ref().map(|scope| scope.access_key_id.clone()),
            user_agent: text(header::USER_AGENT),
            status: 0,
            etag: None,
        };
        let plan = self.faults.befall(&Asked {
            operation: entry.operation,
            key: &entry.key,
            is_conditional_write: (entry.if_match.is_some() || entry.if_none_match.is_some())
                && !matches!(head.method, Method::GET | Method::HEAD),
            has_checksum: checksum_header(&head.headers).is_some(),
        });
        let (question, is_gone) = match plan.hold {
            Some(time) => question.hold(time, gone).await?,
            None => (question, false),
        };
        let caller = Arc::new(Caller::new(entry.user_agent.clone(), plan.flaws));
        let early = if is_gone {
            Early::Close
        } else {
            self.interfere(&plan);
            self.instead(&plan, &target, &head.headers, scope.as_ref())
        };
        let answer = match (early, question) {
            (Early::Close, _) => Err(Unanswered),
            (Early::Answer(answer), question) => {
                if let Question::Bucket(body) = question {
                    drain(body).await;
                }
                Ok(*answer)
            }
            (Early::None, Question::Bucket(body)) => {
                let request = Request::from_parts(head, body);
                self.serve_bucket(&plan, Arc::clone(&caller), request).await
            }
            (Early::None, Question::Sts(call)) => {
                let now = now(plan.skew_seconds.unwrap_or(0));
                Ok(call.answer(&head, &self.keys, &self.roles, &self.region, now))
            }
            (Early::None, Question::Table(call)) => Ok(self
                .serve_table(&plan, Arc::clone(&caller), &head, call)
                .await),
        };
        let mut answer = answer.map(|answer| self.sign_off(target.service, &plan, answer));

        entry.sequence = caller
            .sequence()
            .unwrap_or_else(|| self.contents.next_sequence());
        if let Ok(answer) = &mut answer {
            entry.status = answer.status().as_u16();
            let etag = answer.headers().get(header::ETAG);
            entry.etag = etag.and_then(|etag| etag.to_str().ok()).map(str::to_owned);
            let name = match target.service {
                Service::DynamoDb | Service::Sts => "x-amzn-requestid",
                Service::S3 => "x-amz-request-id",
            };
            if let Ok(id) = HeaderValue::from_str(&format!("{:016X}", entry.sequence)) {
                answer.headers_mut().insert(name, id);
            }
        }
        if self.contents.is_recording() {
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

    async fn serve_table(
        &self,
        plan: &Plan,
        caller: Arc<Caller>,
        head: &Parts,
        call: Call,
    ) -> Response<AnswerBody> {
        let now = now(plan.skew_seconds.unwrap_or(0));
        let (body, keys) = (&call.body, &self.keys);
        let done = match signature::check(head, body, keys, "dynamodb", &self.region, now) {
            Ok(_) => call.execute(&self.contents, caller, &self.region).await,
            Err(problem) => Err(problem.into()),
        };
        match done {
            Ok(body) => dynamo::answer(StatusCode::OK, &body),
            Err(error) => error.answer(None),
        }
    }

    /// Lets the library check and answer the request.
    async fn serve_bucket(
        &self,
        plan: &Plan,
        caller: Arc<Caller>,
        mut request: Request<QuestionBody>,
    ) -> Result<Response<AnswerBody>, Unanswered> {
        let time = StoreTime(now(plan.skew_seconds.unwrap_or(0)));
        request.extensions_mut().insert(caller);
        request.extensions_mut().insert(time);
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
        for interference in &plan.interference {
            let caller = Caller::default();
            let done = match interference {
                Interference::Item(key, item) => {
                    self.contents.set_item(&self.table, key, item.clone())
                }
                Interference::Object(key, None) => self
                    .contents
                    .delete(&caller, &self.bucket, key, None, None)
                    .map(|_| ())
                    .map_err(io_error),
                Interference::Object(key, Some(body)) => self
                    .contents
                    .put(
                        &caller,
                        &self.bucket,
                        plain_object(key, body.clone()),
                        &Conditions::default(),
                    )
                    .map(|_| ())
                    .map_err(io_error),
            };
            if let Err(error) = done {
                tracing::warn!(%error, "a fault of the embedded store had no effect");
            }
        }
    }
}

/// An object as the program itself, not a client, stores it.
pub(super) fn plain_object(key: &str, body: Bytes) -> Object {
    use s3s::crypto::Checksum as _;
    let etag = hex(&s3s::crypto::Md5::checksum(&body));
    let checksum = Checksum::of(Algorithm::Crc64Nvme, &body);
    Object::with_etag(key, body, etag, checksum, Headers::default())
}

/// What is left of a request when its head has been read.
enum Question {
    Bucket(QuestionBody),
    Sts(sts::Call),
    Table(Call),
}

type QuestionBody = BoxBody<Bytes, hyper::Error>;

impl Question {
    /// Waits, and answers whether the client went away meanwhile. That shows only when all it sent has been read.
    async fn hold(
        self,
        time: Duration,
        gone: oneshot::Receiver<Infallible>,
    ) -> Result<(Self, bool), Unanswered> {
        let question = match self {
            Self::Bucket(body) => {
                let read = Limited::new(body, LARGEST_HELD).collect().await;
                // With its length: without one, the library refuses whatever comes without a header for it.
                let read = Full::new(read.map_err(|_| Unanswered)?.to_bytes());
                Self::Bucket(read.map_err(|never| match never {}).boxed())
            }
            Self::Sts(_) | Self::Table(_) => self,
        };
        let is_gone = tokio::select! {
            () = tokio::time::sleep(time) => false,
            _ = gone => true,
        };
        Ok((question, is_gone))
    }
}

/// The connection is closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the request is not answered")]
pub(super) struct Unanswered;

/// Reads on, so that a client that is still sending gets to read the answer.
async fn drain(mut body: QuestionBody) {
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
    body: Option<QuestionBody>,
    rest: Arc<Mutex<Option<QuestionBody>>>,
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
