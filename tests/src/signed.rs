//! Signed requests to a service of AWS, one for one call, with the headers that Terraform's own backend sends.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tracing::subscriber::NoSubscriber;

use crate::Site;

/// The user agent of these requests: it tells them from cofferdam's in the log of a store.
pub const USER_AGENT: &str = "APN/1.0 HashiCorp/1.0 Terraform/1.11.4 (raw request of a test)";

/// Sends requests with a site's key, and tries nothing twice.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    pub(crate) site: Site,
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

/// What is sent.
pub(crate) struct Call<'a> {
    /// The service to sign for: `s3`, `dynamodb`, `iam`.
    pub(crate) service: &'a str,
    pub(crate) method: Method,
    /// `http://127.0.0.1:port`.
    pub(crate) url: &'a str,
    pub(crate) path_and_query: &'a str,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: Bytes,
}

impl Signed {
    /// A client with connections of its own.
    pub(crate) fn new(site: &Site) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .retry_canceled_requests(false)
            .build(HttpConnector::new());
        Self {
            site: site.clone(),
            client,
        }
    }

    /// Sends one request.
    ///
    /// # Panics
    /// If no whole answer comes.
    pub(crate) async fn send(&self, call: Call<'_>) -> Answer {
        let uri = format!("{}{}", call.url, call.path_and_query);
        let mut builder = Request::builder()
            .method(call.method)
            .uri(&uri)
            .header("host", call.url.trim_start_matches("http://"))
            .header("user-agent", USER_AGENT)
            .header("accept-encoding", "identity")
            .header("amz-sdk-invocation-id", uuid::Uuid::new_v4().to_string())
            .header("amz-sdk-request", "attempt=1; max=5");
        for (name, value) in call.headers {
            builder = builder.header(*name, *value);
        }
        let mut request = builder
            .body(Full::new(call.body.clone()))
            .expect("a request");
        self.sign(call.service, &mut request, &call.body);

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
        settings.payload_checksum_kind = match service {
            "s3" => PayloadChecksumKind::XAmzSha256,
            _ => PayloadChecksumKind::NoHeader,
        };
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
        // The library logs all headers, customer keys too. What is searched for secrets is cofferdam's log: it signs
        // with a part of the library that logs nothing.
        let signed = tracing::subscriber::with_default(NoSubscriber::new(), || {
            sign(signable, &params).expect("a signature")
        });
        let (instructions, _) = signed.into_parts();
        instructions.apply_to_request_http1x(request);
    }
}
