//! S3 requests by hand, signed, with the headers that Terraform's own backend sends.
//!
//! A race between cofferdam and cofferdam proves little: half of the contenders have to be somebody else.
//! And a test that looks at what is stored must not look through the code that it tests.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use sha2::{Digest as _, Sha256};

use crate::Site;

/// The user agent of these requests: it tells them from cofferdam's in the log of a store.
pub const USER_AGENT: &str = "APN/1.0 HashiCorp/1.0 Terraform/1.11.4 (raw request of a test)";

/// A client that sends one request for one call, and tries nothing twice.
#[derive(Clone, Debug)]
pub struct RawS3 {
    site: Site,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// The body, if the answer says that all went well.
    ///
    /// # Panics
    /// If it says anything else.
    pub fn expect_success(self, what: &str) -> Bytes {
        assert!(
            self.status.is_success(),
            "{what}: {} {:?}",
            self.status,
            self.body
        );
        self.body
    }
}

impl RawS3 {
    /// A client with connections of its own.
    pub fn new(site: &Site) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .retry_canceled_requests(false)
            .build(HttpConnector::new());
        Self {
            site: site.clone(),
            client,
        }
    }

    /// Reads an object.
    pub async fn get(&self, key: &str) -> Answer {
        let path = format!("{}?x-id=GetObject", self.path(key));
        self.send("s3", Method::GET, &path, &[], Bytes::new()).await
    }

    /// The bytes of an object; `None` if there is none.
    ///
    /// # Panics
    /// If the store answers anything but 200 or 404.
    pub async fn object(&self, key: &str) -> Option<Bytes> {
        let answer = self.get(key).await;
        match answer.status {
            StatusCode::NOT_FOUND => None,
            _ => Some(answer.expect_success("read an object")),
        }
    }

    /// Stores an object, as Terraform does.
    pub async fn put(&self, key: &str, body: impl Into<Bytes>) -> Answer {
        self.put_with(key, body.into(), &[]).await
    }

    /// Takes a lock exactly as Terraform does: stores its record unless there is one.
    pub async fn put_lock(&self, lock_key: &str, record: impl Into<Bytes>) -> Answer {
        self.put_with(lock_key, record.into(), &[("if-none-match", "*")])
            .await
    }

    /// Deletes an object, unconditionally.
    pub async fn delete(&self, key: &str) -> Answer {
        let path = format!("{}?x-id=DeleteObject", self.path(key));
        self.send("s3", Method::DELETE, &path, &[], Bytes::new())
            .await
    }

    /// Makes the bucket.
    pub async fn create_bucket(&self) -> Answer {
        let path = format!("/{}", self.site.bucket);
        self.send("s3", Method::PUT, &path, &[], Bytes::new()).await
    }

    /// A call of the query protocol, which IAM speaks.
    pub async fn query(&self, service: &str, form: &str) -> Answer {
        let headers = [(
            "content-type",
            "application/x-www-form-urlencoded; charset=utf-8",
        )];
        self.send(
            service,
            Method::POST,
            "/",
            &headers,
            Bytes::copy_from_slice(form.as_bytes()),
        )
        .await
    }

    async fn put_with(&self, key: &str, body: Bytes, more: &[(&str, &str)]) -> Answer {
        let path = format!("{}?x-id=PutObject", self.path(key));
        let checksum = STANDARD.encode(Sha256::digest(&body));
        let mut headers = vec![
            ("content-type", "application/json"),
            ("x-amz-checksum-sha256", checksum.as_str()),
            ("x-amz-sdk-checksum-algorithm", "SHA256"),
        ];
        headers.extend_from_slice(more);
        self.send("s3", Method::PUT, &path, &headers, body).await
    }

    fn path(&self, key: &str) -> String {
        format!("/{}/{}", self.site.bucket, escaped(key))
    }

    async fn send(
        &self,
        service: &str,
        method: Method,
        path_and_query: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Answer {
        let uri = format!("{}{path_and_query}", self.site.url);
        let mut builder = Request::builder()
            .method(method)
            .uri(&uri)
            .header("host", self.site.url.trim_start_matches("http://"))
            .header("user-agent", USER_AGENT)
            .header("accept-encoding", "identity")
            .header("amz-sdk-invocation-id", uuid::Uuid::new_v4().to_string())
            .header("amz-sdk-request", "attempt=1; max=5");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let mut request = builder.body(Full::new(body.clone())).expect("a request");
        self.sign(service, &mut request, &body);

        let response = self
            .client
            .request(request)
            .await
            .expect("the store answers");
        let (head, body) = response.into_parts();
        let body = body
            .collect()
            .await
            .expect("the store sends the whole body")
            .to_bytes();
        Answer {
            status: head.status,
            headers: head.headers,
            body,
        }
    }

    fn sign(&self, service: &str, request: &mut Request<Full<Bytes>>, body: &[u8]) {
        let identity = Credentials::new(
            &self.site.access_key_id,
            &self.site.secret_access_key,
            None,
            None,
            "tests",
        )
        .into();
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.site.region)
            .name(service)
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .expect("all parameters are set")
            .into();
        let uri = request.uri().to_string();
        let headers = request
            .headers()
            .iter()
            .filter(|(name, _)| *name != "user-agent")
            .map(|(name, value)| (name.as_str(), value.to_str().expect("an ASCII header")));
        let signable = SignableRequest::new(
            request.method().as_str(),
            &uri,
            headers,
            SignableBody::Bytes(body),
        )
        .expect("a request that can be signed");
        let (instructions, _) = sign(signable, &params).expect("a signature").into_parts();
        instructions.apply_to_request_http1x(request);
    }
}

/// A key as it stands in a path: `/` kept, everything else that is not unreserved escaped.
fn escaped(key: &str) -> String {
    use std::fmt::Write as _;
    let mut path = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                path.push(char::from(byte));
            }
            _ => write!(path, "%{byte:02X}").expect("a string takes everything"),
        }
    }
    path
}
