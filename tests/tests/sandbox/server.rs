//! Servers that answer as a test wants, on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How one request is answered, after its head was read.
pub enum Answer {
    /// These bytes, and the end.
    Bytes(Vec<u8>),
    /// A body without end.
    Endless,
    /// Nothing; what comes is read.
    Sink,
}

/// A server that counts its connections.
pub struct Server {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    load: Arc<Load>,
}

/// Requests that wait for their answers.
#[derive(Default)]
struct Load {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Server {
    /// Answers each connection's one request by its head.
    pub async fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1", answer).await
    }

    /// At this address, on a port of its own.
    pub async fn at(
        address: &str,
        answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let load = Arc::<Load>::default();
        let told = Arc::clone(&load);
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(socket, Arc::clone(&answer), Arc::clone(&told)));
            }
        });
        Self {
            address,
            connections,
            load,
        }
    }

    /// One whom nobody should talk to.
    pub async fn victim() -> Self {
        Self::start(|_| status(200)).await
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How many requests waited for their answers at once.
    pub fn most_at_once(&self) -> usize {
        self.load.most.load(Ordering::SeqCst)
    }
}

/// An answer without a body.
pub fn status(status: u16) -> Answer {
    with_headers(status, "")
}

/// An answer without a body, with these lines of headers.
pub fn with_headers(status: u16, headers: &str) -> Answer {
    Answer::Bytes(
        format!(
            "HTTP/1.1 {status} Told\r\ncontent-length: 0\r\nconnection: close\r\n{headers}\r\n"
        )
        .into_bytes(),
    )
}

/// Ends when the client goes, which is no failure of the server's.
async fn serve(
    mut socket: TcpStream,
    answer: Arc<impl Fn(&str) -> Answer>,
    load: Arc<Load>,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut piece = [0; 4096];
        match socket.read(&mut piece).await {
            Ok(length) if length > 0 => head.extend_from_slice(&piece[..length]),
            _ => return None,
        }
    }
    let now = load.now.fetch_add(1, Ordering::SeqCst) + 1;
    load.most.fetch_max(now, Ordering::SeqCst);
    // Time for others to come, if they can.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    load.now.fetch_sub(1, Ordering::SeqCst);
    match answer(&String::from_utf8_lossy(&head)) {
        Answer::Bytes(bytes) => {
            socket.write_all(&bytes).await.ok()?;
            socket.shutdown().await.ok()
        }
        Answer::Endless => {
            let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            socket.write_all(head).await.ok()?;
            let chunk = [b"1000\r\n".as_slice(), &[b' '; 0x1000], b"\r\n"].concat();
            loop {
                socket.write_all(&chunk).await.ok()?;
            }
        }
        Answer::Sink => {
            let mut piece = vec![0; 1 << 16];
            while socket.read(&mut piece).await.ok()? > 0 {}
            None
        }
    }
}
