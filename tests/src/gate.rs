//! A server that passes everything on to another one, and can hold one request for as long as a test wants.
//!
//! A program can be ended anywhere. Whether anything is lost by that shows only when it is ended at every single
//! place, and when it is certain that it was ended there: a request that is held here is known to be on its way.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::Site;

/// What happens to the request that is held.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// The store did what it says, and the answer never arrives.
    Answerless,
    /// It reaches the store once it is [released](Gate::release), if it ever is.
    Underway,
}

/// The place in front of a site. It ends when this is dropped.
#[derive(Debug)]
pub struct Gate {
    inner: Arc<Inner>,
    address: SocketAddr,
    held: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Inner {
    /// `host:port` of the server behind.
    behind: String,
    client: Client<HttpConnector, Full<Bytes>>,
    plan: Mutex<Plan>,
    is_held: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Plan {
    /// What came so far, in words.
    seen: Vec<String>,
    /// Counted from 1.
    hold: Option<(usize, Fate)>,
    underway: VecDeque<Request<Full<Bytes>>>,
}

impl Gate {
    /// A gate before the bucket and the table of a site; both have to be at one address.
    ///
    /// # Panics
    /// If they are not.
    pub async fn before(site: &Site) -> Self {
        let table = site.dynamodb.as_ref();
        assert!(
            table.is_none_or(|table| table.url == site.url),
            "two servers"
        );
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("its address");
        let (is_held, held) = watch::channel(false);
        let inner = Arc::new(Inner {
            behind: site.url.trim_start_matches("http://").to_owned(),
            client: Client::builder(TokioExecutor::new())
                .retry_canceled_requests(false)
                .build(HttpConnector::new()),
            plan: Mutex::default(),
            is_held,
        });
        let task = tokio::spawn(Arc::clone(&inner).run(listener));
        Self {
            inner,
            address,
            held,
            task,
        }
    }

    /// The site as it is seen through the gate.
    pub fn site(&self, behind: &Site) -> Site {
        let url = format!("http://{}", self.address);
        let mut site = Site {
            url: url.clone(),
            ..behind.clone()
        };
        if let Some(table) = &mut site.dynamodb {
            table.url = url;
        }
        site
    }

    /// Forgets what came so far, and holds the request that comes as this one from here on; 1 is the next.
    pub fn hold(&self, number: usize, fate: Fate) {
        *self.inner.plan() = Plan {
            hold: Some((number, fate)),
            ..Plan::default()
        };
        self.inner.is_held.send_replace(false);
    }

    /// Forgets what came so far, and holds nothing.
    pub fn open(&self) {
        *self.inner.plan() = Plan::default();
        self.inner.is_held.send_replace(false);
    }

    /// Waits until the request is held: it has left its sender, and the store has done it, or nobody but the gate
    /// knows of it.
    pub async fn held(&self) {
        let mut held = self.held.clone();
        held.wait_for(|held| *held).await.expect("the gate is here");
    }

    /// Lets the request reach the store that is underway, and answers with the store's status.
    ///
    /// # Panics
    /// If there is none, or if the store does not answer.
    pub async fn release(&self) -> u16 {
        let request = self.inner.plan().underway.pop_front();
        let request = request.expect("a request underway");
        let answer = self.inner.client.request(request).await;
        answer.expect("the store answers").status().as_u16()
    }

    /// What came so far, in words: `PutObject app/terraform.tfstate`.
    pub fn seen(&self) -> Vec<String> {
        self.inner.plan().seen.clone()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Inner {
    fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(self: Arc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(Arc::clone(&self).connection(stream));
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let service = service_fn(|request| Arc::clone(&self).pass(request));
        // A client that is killed ends its connections as it likes.
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    async fn pass(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, hyper_util::client::legacy::Error> {
        let (mut head, body) = request.into_parts();
        let body = body.collect().await.expect("the whole request").to_bytes();
        let said = in_words(&head, &body);
        let path = head.uri.path_and_query().expect("a path").as_str();
        // The name of the host stays as it was signed.
        head.uri = format!("http://{}{path}", self.behind)
            .parse()
            .expect("an address");
        let request = Request::from_parts(head, Full::new(body));
        let fate = {
            let mut plan = self.plan();
            plan.seen.push(said);
            let number = plan.seen.len();
            plan.hold
                .filter(|(hold, _)| *hold == number)
                .map(|(_, fate)| fate)
        };
        if fate == Some(Fate::Underway) {
            self.plan().underway.push_back(request);
            self.is_held.send_replace(true);
            return std::future::pending().await;
        }
        let answer = self.client.request(request).await?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.expect("the whole answer").to_bytes();
        if fate == Some(Fate::Answerless) {
            self.is_held.send_replace(true);
            return std::future::pending().await;
        }
        Ok(Response::from_parts(head, Full::new(body)))
    }
}

/// A request to either service, as an operation and what it is about.
fn in_words(head: &http::request::Parts, body: &[u8]) -> String {
    let target = head.headers.get("x-amz-target");
    let Some(target) = target.and_then(|target| target.to_str().ok()) else {
        let path = head.uri.path();
        let key = path.splitn(3, '/').nth(2).unwrap_or(path);
        return format!("{} {key}", head.method);
    };
    let operation = target.rsplit('.').next().unwrap_or(target);
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let key = ["Item", "Key"].map(|part| body[part]["LockID"]["S"].as_str());
    let key = key.into_iter().flatten().next().unwrap_or_default();
    format!("{operation} {key}")
}
