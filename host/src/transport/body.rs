//! Bodies on their way through the host: they note progress, and a response that stalls ends.
//!
//! Without this a server that stops in the middle of an answer would hold a call until its wall-clock limit.

use std::error::Error as StdError;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper_util::client::legacy::Error as ClientError;
use tokio::time::Sleep;
use wasmtime_wasi_http::{Error, WasiBody};

use super::{CallRecord, Turn};
use crate::observe::Traffic;

/// How far a request got. Shared by its body, which runs inside the client, and whoever waits.
#[derive(Debug)]
pub(crate) struct Progress {
    started: Instant,
    last_millis: AtomicU64,
}

impl Progress {
    pub(crate) fn start() -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            last_millis: AtomicU64::new(0),
        })
    }

    /// Time since the last byte of the request was taken, or since the request began.
    pub(crate) fn idle(&self) -> Duration {
        let last = Duration::from_millis(self.last_millis.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(last)
    }

    /// Something moved.
    pub(crate) fn advance(&self) {
        let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_millis.store(millis, Ordering::Relaxed);
    }
}

/// The body of a request; tells how far it was taken, and ends with an error when there is too much of it.
pub(crate) struct RequestBody {
    pub(crate) inner: WasiBody,
    pub(crate) progress: Arc<Progress>,
    /// Bytes that it may still have.
    pub(crate) allowed: u64,
    pub(crate) record: Arc<CallRecord>,
    pub(crate) traffic: Traffic,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        self.progress.advance();
        if let Some(Ok(frame)) = &frame {
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            let Some(left) = self.allowed.checked_sub(length) else {
                self.record
                    .note("the request is larger than the limit `request`".to_owned());
                return Poll::Ready(Some(Err(Error::HttpRequestBodySize(None))));
            };
            self.allowed = left;
            self.traffic.count(length);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The body of a response; ends with an error when nothing comes for too long, or too much comes.
pub(crate) struct ResponseBody {
    inner: hyper::body::Incoming,
    between_bytes: Duration,
    stalled: Pin<Box<Sleep>>,
    allowed: u64,
    record: Arc<CallRecord>,
    /// Others wait until this answer is read, or given up.
    _turn: Turn,
    traffic: Traffic,
}

impl ResponseBody {
    pub(crate) fn new(
        inner: hyper::body::Incoming,
        between_bytes: Duration,
        allowed: u64,
        record: Arc<CallRecord>,
        (turn, traffic): (Turn, Traffic),
    ) -> Self {
        Self {
            inner,
            between_bytes,
            stalled: Box::pin(tokio::time::sleep(between_bytes)),
            allowed,
            record,
            _turn: turn,
            traffic,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, |data| data.len() as u64);
                if length > this.allowed {
                    this.record
                        .note("the answer is larger than the limit `response`".to_owned());
                    return Poll::Ready(Some(Err(Error::HttpResponseBodySize(None))));
                }
                this.allowed -= length;
                this.traffic.count(length);
                this.stalled
                    .as_mut()
                    .reset(tokio::time::Instant::now() + this.between_bytes);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(broken_body(&error)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                ready!(this.stalled.as_mut().poll(context));
                Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn broken_body(error: &hyper::Error) -> Error {
    if error.is_timeout() {
        Error::HttpResponseTimeout
    } else {
        Error::HttpResponseIncomplete
    }
}

/// What an error says it was caused by. An i/o error that wraps another one does not name it as its source.
pub(crate) fn deeper<'e>(
    error: &'e (dyn StdError + 'static),
) -> Option<&'e (dyn StdError + 'static)> {
    match error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

/// The first cause of this type.
pub(crate) fn cause<E: StdError + 'static>(error: &ClientError) -> Option<&E> {
    std::iter::successors(error.source(), |error| deeper(*error))
        .find_map(|error| error.downcast_ref())
}

/// What a failed request means, in the words that the component understands.
pub(crate) fn request_error(error: &ClientError) -> Error {
    if let Some(Error::HttpRequestBodySize(size)) = cause::<Error>(error) {
        return Error::HttpRequestBodySize(*size);
    }
    let connecting = error.is_connect();
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(own) = cause.downcast_ref::<super::ConnectError>() {
            return own.into();
        }
        if let Some(failure) = cause.downcast_ref::<super::ProxyFailure>() {
            return failure.into();
        }
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return match tls {
                rustls::Error::InvalidCertificate(_) => Error::TlsCertificateError,
                _ => Error::TlsProtocolError,
            };
        }
        if let Some(hyper) = cause.downcast_ref::<hyper::Error>()
            && !connecting
        {
            return if hyper.is_timeout() {
                Error::HttpResponseTimeout
            } else if hyper.is_parse() {
                Error::HttpProtocolError
            } else {
                Error::ConnectionTerminated
            };
        }
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            match io.kind() {
                io::ErrorKind::ConnectionRefused => return Error::ConnectionRefused,
                io::ErrorKind::TimedOut => return Error::ConnectionTimeout,
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                    return Error::DestinationIpUnroutable;
                }
                // The reason is inside: TLS's, above all.
                _ if io.get_ref().is_some() => {}
                // What answers on this port does not speak TLS.
                io::ErrorKind::InvalidData if connecting => return Error::TlsProtocolError,
                _ if connecting => {}
                _ => return Error::ConnectionTerminated,
            }
        }
        source = deeper(cause);
    }
    if connecting {
        Error::DestinationUnavailable
    } else {
        Error::ConnectionTerminated
    }
}
