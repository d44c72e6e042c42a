//! A forward proxy that leads every plain request to one server, whatever host it names.
//!
//! Buckets that stand in the host's name need names that resolve. Terraform resolves nothing behind a proxy.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A running proxy. It ends when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    url: String,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts one before the server at this address, such as `127.0.0.1:4567`.
    pub async fn start(server: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let server = server.to_owned();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
                let service =
                    service_fn(move |request| forward(client.clone(), server.clone(), request));
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        Self { url, task }
    }

    /// What `http_proxy` has to be.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sends a request on as it came, with the header `Host` that it came with.
async fn forward(
    client: Client<HttpConnector, Full<Bytes>>,
    server: String,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let answer = async {
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query()?.as_str();
        head.uri = format!("http://{server}{path}").parse::<Uri>().ok()?;
        let body = body.collect().await.ok()?.to_bytes();
        let request = Request::from_parts(head, Full::new(body));
        let (head, body) = client.request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        Some(Response::from_parts(head, Full::new(body)))
    };
    Ok(answer.await.unwrap_or_else(|| {
        let mut answer = Response::default();
        *answer.status_mut() = StatusCode::BAD_GATEWAY;
        answer
    }))
}
