//! What a request is about and who sent it, as its head tells before anybody has checked it.
//!
//! Without this module the log would know only of requests that the library let in, and faults could not choose
//! among the others.

use std::collections::BTreeMap;

use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Uri};
use jiff::{Timestamp, civil, tz::TimeZone};
use percent_encoding::percent_decode_str;

use super::dynamo::Call;
use super::sts;

/// Headers that must not show in anybody's debug output.
pub(super) const SECRET_HEADERS: [&str; 4] = [
    "authorization",
    "x-amz-security-token",
    "x-amz-server-side-encryption-customer-key",
    "x-amz-copy-source-server-side-encryption-customer-key",
];

/// Which service a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    DynamoDb,
    S3,
    Sts,
}

/// What a request is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) service: Service,
    pub(super) operation: &'static str,
    /// Or the table.
    pub(super) bucket: String,
    /// Or the item's, or the ARN of a role.
    pub(super) key: String,
    pub(super) condition: Option<String>,
}

impl Target {
    pub(super) fn of_call(call: &Call) -> Self {
        Self {
            service: Service::DynamoDb,
            operation: call.operation,
            bucket: call.table.clone(),
            key: call.key.clone(),
            condition: call.condition.clone(),
        }
    }

    pub(super) fn of_sts(call: &sts::Call) -> Self {
        Self {
            service: Service::Sts,
            operation: call.operation(),
            bucket: String::new(),
            key: call.role().to_owned(),
            condition: None,
        }
    }

    /// As far as the head tells.
    pub(super) fn of(method: &Method, uri: &Uri, headers: &HeaderMap) -> Self {
        let path = uri.path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let names: Vec<&str> = uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split('=').next())
            .collect();
        let has = |name: &str| names.contains(&name);
        let operation = match (method.as_str(), bucket.is_empty(), key.is_empty()) {
            ("GET", true, true) => "ListBuckets",
            ("GET", false, true) if has("versioning") => "GetBucketVersioning",
            ("PUT", false, true) if has("versioning") => "PutBucketVersioning",
            ("GET", false, true) if has("object-lock") => "GetObjectLockConfiguration",
            ("HEAD", false, true) => "HeadBucket",
            ("PUT", false, true) => "CreateBucket",
            ("DELETE", false, true) => "DeleteBucket",
            ("POST", false, true) if has("delete") => "DeleteObjects",
            ("GET", false, true) if has("location") => "GetBucketLocation",
            ("GET", false, true) if has("list-type") => "ListObjectsV2",
            ("GET", false, true) if has("uploads") => "ListMultipartUploads",
            ("GET", false, true) if has("versions") => "ListObjectVersions",
            ("GET", false, true) => "ListObjects",
            ("GET", false, false) if has("uploadId") => "ListParts",
            ("GET", false, false) if has("acl") => "GetObjectAcl",
            ("GET", false, false) if has("tagging") => "GetObjectTagging",
            ("PUT", false, false) if has("tagging") => "PutObjectTagging",
            ("DELETE", false, false) if has("tagging") => "DeleteObjectTagging",
            ("GET", false, false) => "GetObject",
            ("HEAD", false, false) => "HeadObject",
            ("PUT", false, false) if has("partNumber") => "UploadPart",
            ("PUT", false, false) if headers.contains_key("x-amz-copy-source") => "CopyObject",
            ("PUT", false, false) => "PutObject",
            ("POST", false, false) if has("uploads") => "CreateMultipartUpload",
            ("POST", false, false) if has("uploadId") => "CompleteMultipartUpload",
            ("DELETE", false, false) if has("uploadId") => "AbortMultipartUpload",
            ("DELETE", false, false) => "DeleteObject",
            _ => "Unknown",
        };
        Self {
            service: Service::S3,
            operation,
            bucket: decoded(bucket),
            key: decoded(key),
            condition: None,
        }
    }
}

/// Who signed, and for which region.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) access_key_id: String,
    pub(super) region: String,
}

impl Scope {
    pub(super) fn of(authorization: &str) -> Option<Self> {
        let (_, credential) = authorization.split_once("Credential=")?;
        let mut parts = credential.split('/');
        let access_key_id = parts.next()?.to_owned();
        let _date = parts.next()?;
        let region = parts.next()?.to_owned();
        Some(Self {
            access_key_id,
            region,
        })
    }
}

/// The header `X-Amz-Date`.
pub(super) fn signing_time(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get("x-amz-date")?.to_str().ok()?;
    let time = civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// A header that gives a checksum of S3's newer kind, or asks for one.
pub(super) fn checksum_header(headers: &HeaderMap) -> Option<&str> {
    let names = headers.keys().map(HeaderName::as_str);
    let is_one = |name: &&str| {
        name.starts_with("x-amz-checksum-")
            || matches!(*name, "x-amz-sdk-checksum-algorithm" | "x-amz-trailer")
    };
    names.into_iter().find(is_one)
}

/// The headers that the log keeps.
pub(super) fn logged_headers(head: &Parts) -> BTreeMap<String, String> {
    let is_logged = |name: &str| {
        matches!(name, "content-encoding" | "content-length" | "content-type")
            || name.starts_with("if-")
            || name.starts_with("x-amz-")
    };
    let is_secret = |name: &str| name.contains("-customer-key") || name.contains("token");
    let logged = head
        .headers
        .iter()
        .filter(|(name, _)| is_logged(name.as_str()));
    logged
        .map(|(name, value)| {
            let value = if is_secret(name.as_str()) {
                "(secret)".into()
            } else {
                String::from_utf8_lossy(value.as_bytes()).into_owned()
            };
            (name.as_str().to_owned(), value)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_tells_what_a_request_is_about() {
        let of = |method: Method, uri: &str| {
            let target = Target::of(&method, &uri.parse().unwrap(), &HeaderMap::new());
            (target.operation, target.bucket, target.key)
        };
        let named = |operation, bucket: &str, key: &str| (operation, bucket.into(), key.into());
        assert_eq!(
            of(Method::GET, "/b/env%3A/a%20b?x-id=GetObject"),
            named("GetObject", "b", "env:/a b")
        );
        assert_eq!(
            of(Method::PUT, "/b/k?partNumber=1&uploadId=x"),
            named("UploadPart", "b", "k")
        );
        assert_eq!(
            of(Method::POST, "/b/k?uploads="),
            named("CreateMultipartUpload", "b", "k")
        );
        assert_eq!(
            of(Method::GET, "/b?list-type=2&prefix=env%3A%2F"),
            named("ListObjectsV2", "b", "")
        );
        assert_eq!(of(Method::GET, "/"), named("ListBuckets", "", ""));
        assert_eq!(of(Method::PATCH, "/b/k"), named("Unknown", "b", "k"));
    }

    #[test]
    fn a_signature_names_its_signer_and_region() {
        let scope = Scope::of(
            "AWS4-HMAC-SHA256 Credential=ID/20261123/eu-west-1/s3/aws4_request, SignedHeaders=host, Signature=0",
        );
        assert_eq!(
            scope,
            Some(Scope {
                access_key_id: "ID".to_owned(),
                region: "eu-west-1".to_owned()
            })
        );
        assert_eq!(Scope::of("Basic eHk="), None);
    }
}
