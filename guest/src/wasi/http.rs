//! HTTP over `wasi:http`, synchronous: one request at a time, or several that are all under way before the first answer
//! is waited for.
//!
//! Five rules, each the lesson of somebody's hang or trap: hand the request over before its body is written; name its
//! length, always; never write more than the stream permits; watch for the answer while writing, for a store may refuse
//! before it has read all; drop children before their parents (fields are dropped in the order of their declaration).

use std::time::Duration;

use crate::bindings::wasi::clocks::monotonic_clock;
use crate::bindings::wasi::http::outgoing_handler;
use crate::bindings::wasi::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingResponse,
    Method as WasiMethod, OutgoingBody, OutgoingRequest, RequestOptions, Scheme, http_error_code,
};
use crate::bindings::wasi::io::poll::{Pollable, poll};
use crate::bindings::wasi::io::streams::{InputStream, OutputStream, StreamError};
use crate::platform::{HttpBody, HttpRequest, HttpResponse, Method, Timeouts, TransportError};

use super::nanoseconds;

/// How much is asked for at a time: more than any runtime hands out at once.
const READ_SIZE: u64 = 1 << 20;

/// What is read of the answers to requests that were sent together, which are short.
const LONGEST_OF_MANY: usize = 1 << 20;

/// Sends a request and waits for the head of the response.
pub(super) fn send(request: &HttpRequest<'_>) -> Result<HttpResponse, TransportError> {
    start(request)?.finish()
}

/// Sends requests, and reads the answers, whichever comes first, when all of them are under way. A host that lets so many
/// go at a time, each until its answer is read, would otherwise wait for us, and we for the host.
pub(super) fn send_all(requests: &[HttpRequest<'_>]) -> Vec<Result<HttpResponse, TransportError>> {
    let mut waiting = Vec::new();
    let mut answers: Vec<_> = requests
        .iter()
        .enumerate()
        .map(|(place, request)| match start(request) {
            Ok(started) => {
                waiting.push((place, started));
                Err(TransportError::TimedOut("nothing came".to_owned()))
            }
            Err(error) => Err(error),
        })
        .collect();
    while let Some((_, first)) = waiting.first() {
        let answered: Vec<_> = waiting
            .iter()
            .map(|(_, started)| started.future.subscribe())
            .collect();
        let any: Vec<_> = answered.iter().collect();
        if first.patience.wait(&any, first.patience.head).is_err() {
            break;
        }
        let ready: Vec<_> = answered.iter().map(Pollable::ready).collect();
        drop(any);
        drop(answered);
        // From the end, so that places do not move.
        for index in (0..ready.len()).rev().filter(|index| ready[*index]) {
            let (place, started) = waiting.swap_remove(index);
            answers[place] = started.finish().map(whole);
        }
    }
    answers
}

/// A response whose body was read, as far as anybody wants to know it.
fn whole(mut response: HttpResponse) -> HttpResponse {
    let mut chunks = Vec::new();
    let mut left = LONGEST_OF_MANY;
    while let Some(chunk) = response.body.next_chunk().transpose() {
        let length = chunk.as_ref().map_or(left, Vec::len);
        chunks.push(chunk);
        left = left.saturating_sub(length);
        if left == 0 {
            break;
        }
    }
    HttpResponse {
        body: Box::new(Chunks(chunks.into_iter())),
        ..response
    }
}

/// What was read of a body, and what ended it.
struct Chunks(std::vec::IntoIter<Result<Vec<u8>, TransportError>>);

impl HttpBody for Chunks {
    fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, TransportError> {
        self.0.next().transpose()
    }
}

/// A request that is under way, its body included.
struct Started {
    future: FutureIncomingResponse,
    unfinished: Option<OutgoingBody>,
    patience: Patience,
}

fn start(request: &HttpRequest<'_>) -> Result<Started, TransportError> {
    let patience = Patience::new(&request.timeouts);
    let outgoing = outgoing(request)?;
    let body = match request.body {
        Some(_) => Some(
            outgoing
                .body()
                .map_err(|()| unusable("the request has no body"))?,
        ),
        // Not even asked for: a body without a length would be sent in chunks.
        None => None,
    };
    let future = outgoing_handler::handle(outgoing, Some(options(&request.timeouts)))
        .map_err(|code| translate(&code))?;
    let unfinished = match (body, request.body) {
        (Some(body), Some(bytes)) => upload(body, bytes, &future, &patience)?,
        _ => None,
    };
    Ok(Started {
        future,
        unfinished,
        patience,
    })
}

impl Started {
    /// Waits for the head of the response.
    fn finish(self) -> Result<HttpResponse, TransportError> {
        let Started {
            future,
            unfinished,
            patience,
        } = self;
        let response = loop {
            match future.get() {
                Some(Ok(Ok(response))) => break response,
                Some(Ok(Err(code))) => return Err(translate(&code)),
                Some(Err(())) => return Err(broken("the response was already taken")),
                None => {}
            }
            let answered = future.subscribe();
            patience.wait(&[&answered], patience.head)?;
        };
        let headers = headers(&response);
        let body = response
            .consume()
            .map_err(|()| broken("the response has no body"))?;
        let stream = body
            .stream()
            .map_err(|()| broken("the response has no body"))?;
        Ok(HttpResponse {
            status: response.status(),
            headers,
            body: Box::new(Body {
                stream,
                _body: body,
                _response: response,
                _future: future,
                _unfinished: unfinished,
                patience,
            }),
        })
    }
}

/// The body of a response, and what it hangs on, children first.
struct Body {
    stream: InputStream,
    _body: IncomingBody,
    _response: IncomingResponse,
    _future: FutureIncomingResponse,
    /// Giving up a body ends the connection, and with it the answer that is still to be read.
    _unfinished: Option<OutgoingBody>,
    patience: Patience,
}

impl HttpBody for Body {
    fn next_chunk(&mut self) -> Result<Option<Vec<u8>>, TransportError> {
        loop {
            match self.stream.read(READ_SIZE) {
                Ok(bytes) if bytes.is_empty() => {
                    let readable = self.stream.subscribe();
                    self.patience
                        .wait(&[&readable], self.patience.between_bytes)?;
                }
                Ok(bytes) => return Ok(Some(bytes)),
                Err(StreamError::Closed) => return Ok(None),
                Err(StreamError::LastOperationFailed(error)) => {
                    return Err(match http_error_code(&error) {
                        Some(code) => translate(&code),
                        None => broken("the connection broke"),
                    });
                }
            }
        }
    }
}

/// When to give up waiting, should the host not do so itself.
struct Patience {
    /// On the monotonic clock.
    deadline: Option<u64>,
    /// For the head of the response, the connection included.
    head: Duration,
    between_bytes: Duration,
}

impl Patience {
    fn new(timeouts: &Timeouts) -> Self {
        Self {
            deadline: timeouts
                .total
                .map(|total| monotonic_clock::now().saturating_add(nanoseconds(total))),
            head: timeouts.connect + timeouts.first_byte,
            between_bytes: timeouts.between_bytes,
        }
    }

    /// Waits until something is ready, at most so long.
    fn wait(&self, pollables: &[&Pollable], longest: Duration) -> Result<(), TransportError> {
        let until = monotonic_clock::now().saturating_add(nanoseconds(longest));
        let until = self.deadline.map_or(until, |deadline| deadline.min(until));
        let alarm = monotonic_clock::subscribe_instant(until);
        let mut all = pollables.to_vec();
        all.push(&alarm);
        let ready = poll(&all);
        let is_alarm = |index: &u32| *index as usize == pollables.len();
        if ready.iter().all(is_alarm) {
            return Err(TransportError::TimedOut("nothing came".to_owned()));
        }
        Ok(())
    }
}

fn outgoing(request: &HttpRequest<'_>) -> Result<OutgoingRequest, TransportError> {
    let entries: Vec<_> = request
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), value.clone().into_bytes()))
        .collect();
    let fields = Fields::from_list(&entries).map_err(|_| unusable("the host refuses a header"))?;
    let method = match request.method {
        Method::Delete => WasiMethod::Delete,
        Method::Get => WasiMethod::Get,
        Method::Post => WasiMethod::Post,
        Method::Put => WasiMethod::Put,
    };
    let scheme = match request.scheme {
        "http" => Scheme::Http,
        _ => Scheme::Https,
    };
    let outgoing = OutgoingRequest::new(fields);
    outgoing
        .set_method(&method)
        .and_then(|()| outgoing.set_scheme(Some(&scheme)))
        .and_then(|()| outgoing.set_authority(Some(request.authority)))
        .and_then(|()| outgoing.set_path_with_query(Some(request.path_and_query)))
        .map_err(|()| unusable("the host refuses the address"))?;
    Ok(outgoing)
}

/// A host that does not know one of them is covered by [`Patience`].
fn options(timeouts: &Timeouts) -> RequestOptions {
    let options = RequestOptions::new();
    let _ = options.set_connect_timeout(Some(nanoseconds(timeouts.connect)));
    let _ = options.set_first_byte_timeout(Some(nanoseconds(timeouts.first_byte)));
    let _ = options.set_between_bytes_timeout(Some(nanoseconds(timeouts.between_bytes)));
    options
}

/// Writes the body. When the answer, or the end of the connection, comes first, what was not finished comes back; a
/// failure shows in the answer.
fn upload(
    body: OutgoingBody,
    bytes: &[u8],
    future: &FutureIncomingResponse,
    patience: &Patience,
) -> Result<Option<OutgoingBody>, TransportError> {
    let stream = body
        .write()
        .map_err(|()| unusable("the request has no body"))?;
    let done = write_all(&stream, bytes, future, patience)?;
    drop(stream);
    if !done {
        return Ok(Some(body));
    }
    // What is wrong with the request as a whole shows in the answer, too.
    let _ = OutgoingBody::finish(body, None);
    Ok(None)
}

/// False: the other side wants no more.
fn write_all(
    stream: &OutputStream,
    bytes: &[u8],
    future: &FutureIncomingResponse,
    patience: &Patience,
) -> Result<bool, TransportError> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match stream.check_write() {
            Err(_) => return Ok(false),
            Ok(0) => {
                let writable = stream.subscribe();
                let answered = future.subscribe();
                patience.wait(&[&writable, &answered], patience.head)?;
                if answered.ready() && !writable.ready() {
                    return Ok(false);
                }
            }
            Ok(permit) => {
                let size = usize::try_from(permit)
                    .unwrap_or(usize::MAX)
                    .min(rest.len());
                let (chunk, later) = rest.split_at(size);
                if stream.write(chunk).is_err() {
                    return Ok(false);
                }
                rest = later;
            }
        }
    }
    Ok(stream.flush().is_ok())
}

fn headers(response: &IncomingResponse) -> Vec<(String, String)> {
    response
        .headers()
        .entries()
        .into_iter()
        .map(|(mut name, value)| {
            name.make_ascii_lowercase();
            let value = String::from_utf8(value)
                .unwrap_or_else(|wrong| String::from_utf8_lossy(wrong.as_bytes()).into_owned());
            (name, value)
        })
        .collect()
}

fn translate(code: &ErrorCode) -> TransportError {
    let (kind, text): (fn(String) -> TransportError, &str) = match code {
        ErrorCode::HttpRequestDenied => (TransportError::Denied, "its policy forbids this request"),
        ErrorCode::DestinationIpProhibited => {
            (TransportError::Denied, "its policy forbids this address")
        }
        ErrorCode::DnsError(payload)
            if payload
                .rcode
                .as_deref()
                .is_some_and(|rcode| rcode.contains("NXDOMAIN")) =>
        {
            (TransportError::Unusable, "there is no such host")
        }
        ErrorCode::DestinationNotFound => (TransportError::Unusable, "there is no such host"),
        ErrorCode::DnsError(_) => (
            TransportError::NotConnected,
            "the name could not be resolved",
        ),
        ErrorCode::DnsTimeout => (
            TransportError::NotConnected,
            "the name was not resolved in time",
        ),
        ErrorCode::DestinationUnavailable | ErrorCode::DestinationIpUnroutable => {
            (TransportError::NotConnected, "no way leads there")
        }
        ErrorCode::ConnectionRefused => (TransportError::NotConnected, "connection refused"),
        ErrorCode::ConnectionTimeout => (
            TransportError::NotConnected,
            "the connection was not made in time",
        ),
        ErrorCode::ConnectionLimitReached => (
            TransportError::NotConnected,
            "there are too many connections",
        ),
        ErrorCode::TlsCertificateError => {
            (TransportError::Unusable, "its certificate is not trusted")
        }
        ErrorCode::TlsProtocolError | ErrorCode::TlsAlertReceived(_) => {
            (TransportError::Broken, "TLS failed")
        }
        ErrorCode::ConnectionReadTimeout | ErrorCode::HttpResponseTimeout => {
            (TransportError::TimedOut, "nothing came")
        }
        ErrorCode::ConnectionWriteTimeout => {
            (TransportError::TimedOut, "the request could not be sent")
        }
        ErrorCode::ConnectionTerminated => (TransportError::Broken, "the connection was closed"),
        ErrorCode::HttpResponseIncomplete => (TransportError::Broken, "the answer broke off"),
        ErrorCode::HttpRequestLengthRequired
        | ErrorCode::HttpRequestBodySize(_)
        | ErrorCode::HttpRequestMethodInvalid
        | ErrorCode::HttpRequestUriInvalid
        | ErrorCode::HttpRequestUriTooLong
        | ErrorCode::HttpRequestHeaderSectionSize(_)
        | ErrorCode::HttpRequestHeaderSize(_)
        | ErrorCode::HttpRequestTrailerSectionSize(_)
        | ErrorCode::HttpRequestTrailerSize(_)
        | ErrorCode::LoopDetected
        | ErrorCode::ConfigurationError => (
            TransportError::Unusable,
            "the host cannot send this request",
        ),
        _ => (TransportError::Broken, "what came is not proper HTTP"),
    };
    kind(text.to_owned())
}

fn broken(text: &str) -> TransportError {
    TransportError::Broken(text.to_owned())
}

fn unusable(text: &str) -> TransportError {
    TransportError::Unusable(text.to_owned())
}
