//! Misdeeds on the network.

use crate::bindings::wasi::http::outgoing_handler;
use crate::bindings::wasi::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, HeaderError, IncomingResponse, Method, OutgoingBody,
    OutgoingRequest, Scheme, http_error_code,
};
use crate::bindings::wasi::io::streams::{InputStream, OutputStream, StreamError};

/// Why a request did not come to an answer.
#[derive(Debug)]
#[expect(dead_code, reason = "the host is told in the words of Debug")]
pub(crate) enum Failure {
    /// The host takes no such header.
    Header(HeaderError),
    /// What a request is sent or answered with.
    Http(ErrorCode),
    /// The host takes no such authority, method, path or body.
    Refused,
    Stream,
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        Self::Http(code)
    }
}

impl From<HeaderError> for Failure {
    fn from(error: HeaderError) -> Self {
        Self::Header(error)
    }
}

impl From<()> for Failure {
    fn from((): ()) -> Self {
        Self::Refused
    }
}

/// The status of the answer to a `GET`.
pub(crate) fn get(url: &str) -> Result<u16, Failure> {
    Ok(answer(request("GET", url, Fields::new())?)?.status())
}

/// `METHOD URL`, then lines of headers, an empty line and a body. Gives the status of the answer.
pub(crate) fn send(text: &str) -> Result<u16, Failure> {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut lines = head.lines();
    let (method, url) = lines
        .next()
        .and_then(|line| line.split_once(' '))
        .ok_or(Failure::Refused)?;
    let headers = Fields::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        headers.append(name, value.as_bytes())?;
    }
    if body.is_empty() {
        return Ok(answer(request(method, url, headers)?)?.status());
    }
    headers.append("content-length", body.len().to_string().as_bytes())?;
    let request = request(method, url, headers)?;
    let out = request.body()?;
    let future = outgoing_handler::handle(request, None)?;
    let written = write(&out, body.as_bytes());
    finished(out, written, future)
}

/// Goes where an answer leads, and gives both statuses.
pub(crate) fn follow(url: &str) -> (Result<u16, Failure>, Result<u16, Failure>) {
    let first = request("GET", url, Fields::new()).and_then(answer);
    let next = first.as_ref().ok().and_then(|response| {
        let values = response.headers().get("location");
        String::from_utf8(values.into_iter().next()?).ok()
    });
    let second = next.map_or(Err(Failure::Refused), |url| get(&url));
    (first.map(|response| response.status()), second)
}

/// Puts so many headers into one request.
pub(crate) fn headers(count: usize) -> Result<usize, Failure> {
    let fields = Fields::new();
    for number in 0..count {
        fields.append(&format!("x-{number}"), b"1")?;
    }
    Ok(count)
}

/// The length of what is answered.
pub(crate) fn read_to_the_end(url: &str) -> Result<u64, Failure> {
    let response = answer(request("GET", url, Fields::new())?)?;
    let body = response.consume()?;
    let stream: InputStream = body.stream()?;
    let mut length = 0;
    loop {
        match stream.blocking_read(1 << 20) {
            Ok(piece) => length += piece.len() as u64,
            Err(StreamError::Closed) => return Ok(length),
            Err(error) => return Err(stream_failure(&error)),
        }
    }
}

/// `URL [DECLARED] SENT`: a `PUT` that says it has `DECLARED` bytes and sends `SENT`, or `endless`, or sends a part and then
/// panics (`trap`).
pub(crate) fn upload(text: &str) -> Result<u16, Failure> {
    let mut words = text.split(' ');
    let (url, declared, sent) = (words.next(), words.next(), words.next());
    let (declared, sent) = match (declared, sent) {
        (declared, Some(sent)) => (declared, sent),
        (sent, None) => (None, sent.unwrap_or_default()),
    };
    let headers = Fields::new();
    if let Some(declared) = declared {
        headers.append("content-length", declared.as_bytes())?;
    }
    let request = request("PUT", url.unwrap_or_default(), headers)?;
    let body = request.body()?;
    let future = outgoing_handler::handle(request, None)?;
    match sent {
        "endless" => {
            let written = write_for_ever(&body);
            finished(body, written, future)
        }
        "trap" => {
            write(&body, &[b' '; 1 << 20])?;
            panic!("in the middle of an upload");
        }
        sent => {
            let written = write(&body, &vec![b' '; crate::number(sent)]);
            finished(body, written, future)
        }
    }
}

/// The status, or why there is none: what the answer says comes before what became of the body.
fn finished(
    body: OutgoingBody,
    written: Result<(), Failure>,
    future: FutureIncomingResponse,
) -> Result<u16, Failure> {
    if written.is_ok() {
        OutgoingBody::finish(body, None)?;
    } else {
        drop(body);
    }
    let status = waited_for(future)?.status();
    written.map(|()| status)
}

fn request(method: &str, url: &str, headers: Fields) -> Result<OutgoingRequest, Failure> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let request = OutgoingRequest::new(headers);
    request.set_method(&match method {
        "DELETE" => Method::Delete,
        "GET" => Method::Get,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        other => Method::Other(other.to_owned()),
    })?;
    request.set_scheme(Some(&match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    }))?;
    request.set_authority(Some(authority))?;
    // `http:` in front of the path makes an absolute one.
    request.set_path_with_query(Some(path.strip_prefix("/absolute:").unwrap_or(path)))?;
    Ok(request)
}

fn answer(request: OutgoingRequest) -> Result<IncomingResponse, Failure> {
    waited_for(outgoing_handler::handle(request, None)?)
}

fn waited_for(future: FutureIncomingResponse) -> Result<IncomingResponse, Failure> {
    future.subscribe().block();
    match future.get() {
        Some(Ok(Ok(response))) => Ok(response),
        Some(Ok(Err(code))) => Err(code.into()),
        _ => Err(Failure::Stream),
    }
}

fn write(body: &OutgoingBody, bytes: &[u8]) -> Result<(), Failure> {
    let stream: OutputStream = body.write()?;
    write_all(&stream, bytes).map_err(|error| stream_failure(&error))
}

fn write_for_ever(body: &OutgoingBody) -> Result<(), Failure> {
    let stream: OutputStream = body.write()?;
    loop {
        write_all(&stream, &[b' '; 1 << 16]).map_err(|error| stream_failure(&error))?;
    }
}

fn write_all(stream: &OutputStream, mut bytes: &[u8]) -> Result<(), StreamError> {
    while !bytes.is_empty() {
        stream.subscribe().block();
        let permit = usize::try_from(stream.check_write()?).unwrap_or(usize::MAX);
        let (now, later) = bytes.split_at(bytes.len().min(permit));
        stream.write(now)?;
        bytes = later;
    }
    stream.blocking_flush()
}

fn stream_failure(error: &StreamError) -> Failure {
    match error {
        StreamError::Closed => Failure::Stream,
        StreamError::LastOperationFailed(cause) => {
            http_error_code(cause).map_or(Failure::Stream, Failure::Http)
        }
    }
}
