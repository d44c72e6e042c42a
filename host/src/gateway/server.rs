//! Connections and requests: accepting, TLS, time-outs, the order in which a request is judged, the log.
//!
//! Without care here a client that hangs up would cut off a write in the middle, one that sends nothing
//! would hold a connection for ever, and one without the token could make the process read its body.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tracing::{Instrument as _, Span, field};

use super::{
    access::Access,
    answer::Answer,
    body,
    protocol::{Call, Protocol},
    target::{Action, Target},
};

/// Largest lock record, in bytes: that of the store.
const MAX_LOCK: u64 = 1 << 20;

/// Connections at a time. Each may hold a state in memory; a client uses one.
const MAX_CONNECTIONS: usize = 256;

/// How long a TLS handshake or the head of a request may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pause after a connection could not be accepted, which mostly means that the process has too many files
/// open: trying again at once would only burn the processor.
const BREATH: Duration = Duration::from_millis(100);

/// Held by all that runs; when the last one is dropped, the gateway is idle.
pub(super) type Busy = mpsc::Sender<Infallible>;

/// What every connection serves.
pub(super) struct Server {
    pub(super) access: Access,
    pub(super) protocol: Protocol,
    /// Bytes.
    pub(super) max_state: u64,
}

/// Accepts connections until the other end of `stopped` is dropped, then waits for the open ones.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    server: Arc<Server>,
    mut stopped: watch::Receiver<()>,
    busy: Busy,
) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopped.changed() => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &room) => accepted,
        };
        let Some((stream, place)) = accepted else {
            sleep(BREATH).await;
            continue;
        };
        let (tls, server) = (tls.clone(), server.clone());
        let (stopped, busy) = (stopped.clone(), busy.clone());
        connections.spawn(async move {
            let _place = place;
            match tls {
                None => converse(stream, server, stopped, busy).await,
                Some(tls) => {
                    if let Ok(Ok(stream)) = timeout(PATIENCE, tls.accept(stream)).await {
                        converse(stream, server, stopped, busy).await;
                    }
                }
            }
        });
    }
    drop((listener, busy));
    while connections.join_next().await.is_some() {}
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = room.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // Answers are small and awaited.
            let _ = stream.set_nodelay(true);
            Some((stream, place))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            None
        }
    }
}

/// Serves one connection until it ends.
pub(super) async fn converse<S>(
    stream: S,
    server: Arc<Server>,
    mut stopped: watch::Receiver<()>,
    busy: Busy,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(|request| {
        let (server, busy) = (server.clone(), busy.clone());
        async move { Ok::<_, Infallible>(respond(server, request, busy).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        ended = connection.as_mut() => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn respond(
    server: Arc<Server>,
    request: Request<Incoming>,
    busy: Busy,
) -> Response<Full<Bytes>> {
    let begun = Instant::now();
    let span = tracing::info_span!(
        "request",
        method = %request.method(),
        workspace = field::Empty,
        lock = field::Empty,
        who = field::Empty,
        status = field::Empty,
        milliseconds = field::Empty,
    );
    async {
        let answer = attend(server, request, busy)
            .await
            .unwrap_or_else(|refusal| refusal);
        let (status, milliseconds) = (answer.status().as_u16(), begun.elapsed().as_millis());
        match answer.reason() {
            None => tracing::info!(status, milliseconds, "answered"),
            // What every first run sees.
            Some(_) if status == StatusCode::NOT_FOUND => {
                tracing::info!(status, milliseconds, "no state")
            }
            Some(reason) if answer.status().is_server_error() => {
                tracing::error!(status, milliseconds, reason, "failed");
            }
            Some(reason) => tracing::warn!(status, milliseconds, reason, "refused"),
        }
        let span = Span::current();
        span.record("status", status);
        span.record("milliseconds", milliseconds);
        answer.into_response()
    }
    .instrument(span)
    .await
}

/// Judges a request in the order in which it costs: who, what, how large; then lets it run.
async fn attend(
    server: Arc<Server>,
    request: Request<Incoming>,
    busy: Busy,
) -> Result<Answer, Answer> {
    let (head, body) = request.into_parts();
    server.access.admit(&head)?;

    let target = Target::parse(&head.method, &head.uri)?;
    Span::current().record("workspace", field::debug(&target.workspace));

    let bytes = match target.action {
        Action::Read => Bytes::new(),
        Action::Write => body::receive(&head.headers, body, server.max_state).await?,
        Action::Delete | Action::Lock | Action::Unlock => {
            body::receive(&head.headers, body, MAX_LOCK).await?
        }
    };
    let call = Call::new(
        target.action,
        target.lock,
        head.headers.contains_key(body::CONTENT_MD5),
        bytes,
    )?;
    if let Some(lock) = call.lock() {
        Span::current().record("lock", field::debug(lock));
    }
    if let Some(who) = call.who() {
        Span::current().record("who", field::debug(who));
    }

    // In a task of its own: when the client hangs up, the connection and all that it awaits are dropped,
    // but a lock or a write that has begun goes on to its end.
    let task = async move {
        let answer = server.protocol.perform(&target.workspace, call).await;
        drop(busy);
        answer
    };
    tokio::spawn(task.in_current_span())
        .await
        .unwrap_or_else(|_| {
            Err(Answer::text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the request ended unexpectedly; try again",
            ))
        })
}
