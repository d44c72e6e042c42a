//! The requests of Terraform's `http` backend by hand: to see what a gateway answers to each of them, and to write through
//! one without a Terraform.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use md5::{Digest as _, Md5};
use serde_json::{Value, json};

/// A client of one workspace that sends one request for one call, and tries nothing twice.
#[derive(Clone, Debug)]
pub struct HttpBackend {
    address: String,
    /// The value of `Authorization`.
    login: Option<String>,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// Status and body; `None`: no whole answer came, and nobody knows what the gateway did.
pub type Answered = Option<(StatusCode, Bytes)>;

impl HttpBackend {
    /// For the workspace with this address, with a password if the gateway wants one.
    pub fn new(address: impl Into<String>, password: Option<&str>) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .retry_canceled_requests(false)
            .build(HttpConnector::new());
        Self {
            address: address.into(),
            login: password.map(|it| format!("Basic {}", STANDARD.encode(format!("t:{it}")))),
            client,
        }
    }

    /// As Terraform is configured by the environment that `cofferdam exec` gives to its command; `None` without it.
    pub fn from_environment() -> Option<Self> {
        let address = std::env::var("TF_HTTP_ADDRESS").ok()?;
        let password = std::env::var("TF_HTTP_PASSWORD").ok();
        Some(Self::new(address, password.as_deref()))
    }

    /// What Terraform sends with a lock and with its release.
    pub fn record(id: &str, who: &str) -> Value {
        json!({ "ID": id, "Operation": "OperationTypeApply", "Info": "", "Who": who, "Version": "1.11.4",
            "Created": "2026-11-23T01:28:14.19720879Z", "Path": "" })
    }

    /// Takes the lock.
    pub async fn lock(&self, record: &Value) -> Answered {
        self.send("LOCK", "", record.to_string().into()).await
    }

    /// Asks for the state.
    pub async fn read(&self) -> Answered {
        self.send("GET", "", Bytes::new()).await
    }

    /// Stores a state, under the lock of this id.
    pub async fn write(&self, state: Bytes, lock: &str) -> Answered {
        self.send("POST", &format!("?ID={lock}"), state).await
    }

    /// Releases the lock.
    pub async fn unlock(&self, record: &Value) -> Answered {
        self.send("UNLOCK", "", record.to_string().into()).await
    }

    async fn send(&self, method: &str, query: &str, body: Bytes) -> Answered {
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).expect("a method"))
            .uri(format!("{}{query}", self.address))
            .header("user-agent", "Go-http-client/1.1");
        if let Some(login) = &self.login {
            request = request.header("authorization", login);
        }
        if !body.is_empty() {
            request = request
                .header("content-md5", STANDARD.encode(Md5::digest(&body)))
                .header("content-type", "application/json");
        }
        let request = request.body(Full::new(body)).expect("a request");
        let response = self.client.request(request).await.ok()?;
        let status = response.status();
        let body = response.into_body().collect().await.ok()?;
        Some((status, body.to_bytes()))
    }
}
