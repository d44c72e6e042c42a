//! S3 requests by hand, as Terraform's own backend sends them.
//!
//! A race between cofferdam and cofferdam proves little: half of the contenders have to be somebody else.
//! And a test that looks at what is stored must not look through the code that it tests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, StatusCode};
use sha2::{Digest as _, Sha256};

use crate::Site;
use crate::signed::{Answer, Call, Signed};

/// A client that sends one request for one call, and tries nothing twice.
#[derive(Clone, Debug)]
pub struct RawS3(Signed);

impl RawS3 {
    /// A client with connections of its own.
    pub fn new(site: &Site) -> Self {
        Self(Signed::new(site))
    }

    /// Reads an object.
    pub async fn get(&self, key: &str) -> Answer {
        self.get_with(key, &[]).await
    }

    /// Reads an object with more headers, such as those of a customer's key.
    pub async fn get_with(&self, key: &str, headers: &[(&str, &str)]) -> Answer {
        let path = format!("{}?x-id=GetObject", self.path(key));
        self.send(Method::GET, &path, headers, Bytes::new()).await
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
        self.send(Method::DELETE, &path, &[], Bytes::new()).await
    }

    /// Lists the keys that begin so, up to 1000 of them.
    pub async fn list(&self, prefix: &str) -> Answer {
        let prefix = escaped(prefix).replace('/', "%2F");
        let bucket = &self.0.site.bucket;
        let path = format!("/{bucket}?list-type=2&max-keys=1000&prefix={prefix}");
        self.send(Method::GET, &path, &[], Bytes::new()).await
    }

    /// Makes the bucket.
    pub async fn create_bucket(&self) -> Answer {
        self.create_bucket_with(&[]).await
    }

    /// Makes the bucket, with more headers.
    pub async fn create_bucket_with(&self, headers: &[(&str, &str)]) -> Answer {
        let path = format!("/{}", self.0.site.bucket);
        self.send(Method::PUT, &path, headers, Bytes::new()).await
    }

    /// Sets one of the bucket's properties, such as `versioning`, with a document in XML.
    pub async fn configure_bucket(&self, property: &str, document: &str) -> Answer {
        let path = format!("/{}?{property}=", self.0.site.bucket);
        let headers = [("content-type", "application/xml")];
        let document = Bytes::copy_from_slice(document.as_bytes());
        self.send(Method::PUT, &path, &headers, document).await
    }

    /// The keys of all objects.
    ///
    /// # Panics
    /// If the store refuses, or has more than it tells at once.
    pub async fn keys(&self) -> Vec<String> {
        keys(self.list("").await)
    }

    /// The keys of all versions and delete markers; each as often as it has any.
    ///
    /// # Panics
    /// As [`keys`](Self::keys).
    pub async fn versions(&self) -> Vec<String> {
        let path = format!("/{}?versions=", self.0.site.bucket);
        keys(self.send(Method::GET, &path, &[], Bytes::new()).await)
    }

    /// A call of the query protocol, which IAM speaks.
    pub async fn query(&self, service: &str, form: &str) -> Answer {
        let content_type = "application/x-www-form-urlencoded; charset=utf-8";
        self.post(service, "/", content_type, form).await
    }

    /// A request of a server's own, which no service of AWS has.
    pub async fn post_text(&self, path: &str, text: &str) -> Answer {
        self.post("s3", path, "text/plain", text).await
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
        self.send(Method::PUT, &path, &headers, body).await
    }

    async fn post(&self, service: &str, path: &str, content_type: &str, text: &str) -> Answer {
        let call = Call {
            service,
            method: Method::POST,
            url: &self.0.site.url,
            path_and_query: path,
            headers: &[("content-type", content_type)],
            body: Bytes::copy_from_slice(text.as_bytes()),
        };
        self.0.send(call).await
    }

    async fn send(
        &self,
        method: Method,
        path_and_query: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Answer {
        let call = Call {
            service: "s3",
            method,
            url: &self.0.site.url,
            path_and_query,
            headers,
            body,
        };
        self.0.send(call).await
    }

    fn path(&self, key: &str) -> String {
        format!("/{}/{}", self.0.site.bucket, escaped(key))
    }
}

/// All keys that an answer lists.
fn keys(answer: Answer) -> Vec<String> {
    let page = answer.expect_success("list the bucket");
    let page = String::from_utf8_lossy(&page);
    assert!(!page.contains("<IsTruncated>true"), "too many objects");
    let keys = page.split("<Key>").skip(1);
    keys.filter_map(|rest| Some(rest.split_once('<')?.0.to_owned()))
        .collect()
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
