//! The gateway over real HTTP, on a store in memory.

mod fake;
mod fuzz;
mod locks;
mod states;
mod transport;

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use md5::{Digest as _, Md5};

use self::fake::FakeStore;
use super::{Gateway, RunningGateway};
use crate::LockInfo;

/// A gateway, its store, and a client.
struct Bench {
    store: Arc<FakeStore>,
    gateway: RunningGateway,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// An answer, read to its end.
#[derive(Debug)]
struct Reply {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Bench {
    async fn new() -> Self {
        Self::with(FakeStore::default(), |gateway| gateway).await
    }

    async fn with(store: FakeStore, set: impl FnOnce(Gateway) -> Gateway) -> Self {
        Self::on(Arc::new(store), set).await
    }

    async fn on(store: Arc<FakeStore>, set: impl FnOnce(Gateway) -> Gateway) -> Self {
        let gateway = Gateway::builder(store.clone()).listen("127.0.0.1:0".parse().unwrap());
        let gateway = set(gateway).start().await.unwrap();
        Self {
            store,
            gateway,
            client: Client::builder(TokioExecutor::new()).build_http(),
        }
    }

    /// A gateway on the same store that remembers nothing.
    async fn restarted(self) -> Self {
        self.gateway.shutdown().await;
        Self::on(self.store, |gateway| gateway).await
    }

    async fn send(&self, request: http::request::Builder, body: impl Into<Bytes>) -> Reply {
        let request = request.body(Full::new(body.into())).unwrap();
        let (head, body) = self.client.request(request).await.unwrap().into_parts();
        let text = body.collect().await.unwrap().to_bytes();
        Reply {
            status: head.status.as_u16(),
            headers: head.headers,
            text: String::from_utf8(text.to_vec()).unwrap(),
        }
    }

    /// A request as Terraform sends it: with a digest if it has a body.
    async fn ask(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Reply {
        let body = body.into();
        let uri = format!("http://{}/state/{path}", self.gateway.address());
        let mut request = Request::builder().method(method).uri(uri);
        let bare = matches!(method, "GET" | "HEAD") || (method == "DELETE" && body.is_empty());
        if !bare {
            request = request.header("content-md5", BASE64_STANDARD.encode(Md5::digest(&body)));
        }
        self.send(request, body).await
    }

    async fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, "").await
    }

    async fn post(&self, path: &str, body: impl Into<Bytes>) -> u16 {
        self.ask("POST", path, body).await.status
    }

    async fn lock(&self, path: &str, id: &str) -> Reply {
        self.ask("LOCK", path, lock_body(id)).await
    }

    async fn unlock(&self, path: &str, id: &str) -> Reply {
        self.ask("UNLOCK", path, lock_body(id)).await
    }

    fn stored(&self, workspace: &str) -> Option<String> {
        self.store
            .stored(workspace)
            .map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }
}

fn info(id: &str) -> LockInfo {
    LockInfo {
        id: id.to_owned(),
        operation: "OperationTypeApply".to_owned(),
        who: "somebody@somewhere".to_owned(),
        version: "1.11.4".to_owned(),
        created: "2026-11-23T01:28:14.19720879Z".to_owned(),
        ..LockInfo::default()
    }
}

fn lock_body(id: &str) -> String {
    serde_json::to_string(&info(id)).unwrap()
}

fn holder_of(reply: &Reply) -> LockInfo {
    serde_json::from_str(&reply.text).unwrap()
}
