//! The operations of S3 that this backend uses, typed.
//!
//! Everything that is S3's and not ours stays in here: paths and their encoding, headers and what their absence
//! means, and which 404 says that there is no object.

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::aws::http::{Answer, AnswerBody, Client, Failure, Payload, Request};
use crate::aws::retry::Cause;
use crate::aws::xml;
use crate::config::{BucketLocation, Settings};
use crate::contract::{Checksum, Revision};
use crate::platform::{Method, Platform, TransportError};

/// A page of a listing has at most 1000 keys of at most 1 KiB, which XML can blow up sixfold.
const MAX_PAGE: u64 = 16 << 20;

/// An operation of S3 on one object, or on the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    DeleteObject,
    GetObject,
    ListObjects,
    PutObject,
}

impl Operation {
    /// As AWS calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Operation::DeleteObject => "DeleteObject",
            Operation::GetObject => "GetObject",
            Operation::ListObjects => "ListObjectsV2",
            Operation::PutObject => "PutObject",
        }
    }

    /// The permission that it takes.
    pub(crate) fn permission(self) -> &'static str {
        match self {
            Operation::DeleteObject => "s3:DeleteObject",
            Operation::GetObject => "s3:GetObject",
            Operation::ListObjects => "s3:ListBucket",
            Operation::PutObject => "s3:PutObject",
        }
    }

    pub(crate) fn method(self) -> Method {
        match self {
            Operation::DeleteObject => Method::Delete,
            Operation::GetObject | Operation::ListObjects => Method::Get,
            Operation::PutObject => Method::Put,
        }
    }
}

/// An operation that failed, and what it was about.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) operation: Operation,
    /// The object's key; for a listing its prefix.
    pub(crate) key: String,
    pub(crate) failure: Failure,
}

/// What must be stored for an operation to take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition<'c> {
    /// Nothing.
    Absent,
    /// Whatever there is.
    Anything,
    /// The generation with this ETag.
    Tag(&'c str),
}

/// The answer to a read.
pub(crate) enum Got {
    Absent,
    Object(Object),
    /// Larger than what was asked for; not read.
    TooLarge {
        size: u64,
        tag: Option<String>,
    },
    /// The known generation.
    Unchanged,
}

/// One generation of an object. Not `Debug`: it holds a state.
pub(crate) struct Object {
    pub(crate) bytes: Vec<u8>,
    /// The ETag; none from a store that has no such thing.
    pub(crate) tag: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) checksum: Option<Checksum>,
}

impl Object {
    pub(crate) fn revision(&self) -> Option<Revision> {
        Some(Revision {
            tag: self.tag.clone()?,
            version: self.version.clone(),
        })
    }
}

/// One page of a listing.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) keys: Vec<String>,
    /// Where the next page begins; none: this is the last.
    pub(crate) next: Option<String>,
}

/// The bucket.
pub(crate) struct S3<'a, P> {
    pub(crate) client: Client<'a, P>,
    settings: &'a Settings,
    path_prefix: &'a str,
}

impl<'a, P: Platform> S3<'a, P> {
    pub(crate) fn new(
        platform: &'a P,
        settings: &'a Settings,
        location: &'a BucketLocation,
        skew: &'a AtomicI64,
        budget: Option<Duration>,
    ) -> Self {
        Self {
            client: Client::new(platform, settings, location, skew, budget),
            settings,
            path_prefix: &location.path_prefix,
        }
    }

    /// Reads an object of at most `limit` bytes, unless it is still the generation with the ETag `known`.
    pub(crate) fn get(&self, key: &str, known: Option<&str>, limit: u64) -> Result<Got, Failed> {
        let mut headers = Vec::new();
        if !self.settings.skip_s3_checksum {
            headers.push(header("x-amz-checksum-mode", "ENABLED"));
        }
        if let Some(tag) = known {
            headers.push(header("if-none-match", tag));
        }
        let answer = match self.send(Operation::GetObject, key, headers, None, limit) {
            Ok(answer) => answer,
            Err(failed) if failed.failure.is(|error| error.is_no_such_key()) => {
                return Ok(Got::Absent);
            }
            Err(failed) => return Err(failed),
        };
        if answer.status == 304 {
            return Ok(Got::Unchanged);
        }
        let tag = tag(&answer);
        let version = version(&answer);
        let checksum = full_object_checksum(&answer);
        Ok(match answer.body {
            AnswerBody::TooLarge(size) => Got::TooLarge { size, tag },
            AnswerBody::Whole(bytes) => Got::Object(Object {
                bytes,
                tag,
                version,
                checksum,
            }),
        })
    }

    /// Stores an object. None: it is stored, but the store named no ETag for it.
    pub(crate) fn put(
        &self,
        key: &str,
        payload: Payload<'_>,
        condition: Condition<'_>,
    ) -> Result<Option<Revision>, Failed> {
        let mut headers = vec![header("content-type", "application/json")];
        match condition {
            Condition::Absent => headers.push(header("if-none-match", "*")),
            Condition::Anything => {}
            Condition::Tag(tag) => headers.push(header("if-match", tag)),
        }
        if !self.settings.skip_s3_checksum {
            let sha256 = BASE64.encode(payload.sha256);
            headers.push(header("x-amz-checksum-sha256", &sha256));
        }
        if self.settings.encrypt {
            headers.push(header("x-amz-server-side-encryption", "AES256"));
        }
        if let Some(acl) = &self.settings.acl {
            headers.push(header("x-amz-acl", acl));
        }
        let answer = self.send(Operation::PutObject, key, headers, Some(payload), 0)?;
        Ok(tag(&answer).map(|tag| Revision {
            tag,
            version: version(&answer),
        }))
    }

    /// Removes an object; with a tag, that generation or nothing. Without one, an absent object is no error.
    pub(crate) fn delete(&self, key: &str, tag: Option<&str>) -> Result<(), Failed> {
        let headers = tag.map(|tag| header("if-match", tag)).into_iter().collect();
        match self.send(Operation::DeleteObject, key, headers, None, 0) {
            Err(failed) if tag.is_none() && failed.failure.is(|error| error.is_no_such_key()) => {
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// One page of the keys that begin with `prefix`.
    pub(crate) fn list(&self, prefix: &str, page: Option<&str>) -> Result<Page, Failed> {
        let mut path = match self.path_prefix {
            "" => "/".to_owned(),
            prefix => prefix.to_owned(),
        };
        path.push('?');
        if let Some(token) = page {
            path.push_str("continuation-token=");
            encode(&mut path, token, false);
            path.push('&');
        }
        path.push_str("list-type=2&max-keys=1000&prefix=");
        encode(&mut path, prefix, false);
        let failed = |failure| Failed {
            operation: Operation::ListObjects,
            key: prefix.to_owned(),
            failure,
        };
        let answer = self
            .client
            .send(&Request {
                method: Method::Get,
                path_and_query: path,
                headers: Vec::new(),
                body: None,
                limit: MAX_PAGE,
            })
            .map_err(failed)?;
        let listing = match &answer.body {
            AnswerBody::Whole(bytes) => parse_page(bytes),
            AnswerBody::TooLarge(_) => None,
        };
        listing.ok_or_else(|| {
            failed(Failure {
                cause: Cause::Transport(TransportError::Broken(
                    "what came is no listing of S3".to_owned(),
                )),
                attempts: 1,
                ambiguous: false,
                out_of_time: false,
            })
        })
    }

    fn send(
        &self,
        operation: Operation,
        key: &str,
        headers: Vec<(String, String)>,
        body: Option<Payload<'_>>,
        limit: u64,
    ) -> Result<Answer, Failed> {
        let mut path = format!("{}/", self.path_prefix);
        encode(&mut path, key, true);
        let request = Request {
            method: operation.method(),
            path_and_query: path,
            headers,
            body,
            limit,
        };
        self.client.send(&request).map_err(|failure| Failed {
            operation,
            key: key.to_owned(),
            failure,
        })
    }
}

fn header(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn tag(answer: &Answer) -> Option<String> {
    let tag = answer.header("etag")?;
    (!tag.is_empty()).then(|| tag.to_owned())
}

/// A bucket that stopped keeping versions calls them all `null`.
fn version(answer: &Answer) -> Option<String> {
    let version = answer.header("x-amz-version-id")?;
    (version != "null").then(|| version.to_owned())
}

/// The best checksum that covers the whole object. Those of multipart uploads cover the checksums of the parts.
fn full_object_checksum(answer: &Answer) -> Option<Checksum> {
    let is_composite = |kind: &str| kind.eq_ignore_ascii_case("COMPOSITE");
    if answer
        .header("x-amz-checksum-type")
        .is_some_and(is_composite)
    {
        return None;
    }
    ["sha256", "crc64nvme", "crc32c", "crc32", "sha1"]
        .into_iter()
        .find_map(|algorithm| {
            let value = answer.header(&format!("x-amz-checksum-{algorithm}"))?;
            // A composite value ends in `-` and the number of parts, which is no base64.
            let value = BASE64.decode(value).ok()?;
            Some(Checksum {
                algorithm: algorithm.to_owned(),
                value,
            })
        })
}

/// None: this is no listing, or not all of one.
fn parse_page(document: &[u8]) -> Option<Page> {
    let mut page = Page::default();
    let mut is_listing = false;
    let mut is_truncated = false;
    let mut token = None;
    xml::visit_texts(document, |path, text| match path {
        "ListBucketResult" => is_listing = true,
        "ListBucketResult/Contents/Key" => page.keys.push(text),
        "ListBucketResult/IsTruncated" => is_truncated = text.trim() == "true",
        "ListBucketResult/NextContinuationToken" if !text.is_empty() => token = Some(text),
        _ => {}
    })
    .ok()?;
    if is_truncated {
        page.next = Some(token?);
    }
    is_listing.then_some(page)
}

/// Percent-encodes all that is not unreserved, as S3 canonicalises it. `/` stays in a path.
fn encode(out: &mut String, text: &str, in_path: bool) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b'/' if in_path => out.push('/'),
            _ => {
                out.push('%');
                out.push(char::from(DIGITS[usize::from(byte >> 4)]));
                out.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_encoded_byte_by_byte_and_keeps_its_slashes() {
        let mut path = String::new();
        encode(&mut path, "env:/dév/a b+c~.tfstate", true);
        assert_eq!(path, "env%3A/d%C3%A9v/a%20b%2Bc~.tfstate");
        let mut query = String::new();
        encode(&mut query, "env:/", false);
        assert_eq!(query, "env%3A%2F");
    }

    #[test]
    fn a_listing_that_is_not_whole_is_none() {
        let open = "<ListBucketResult><IsTruncated>";
        for document in [
            "<html/>".to_owned(),
            format!("{open}false</IsTruncated><Contents><Key>a</Key>"),
            format!("{open}true</IsTruncated></ListBucketResult>"),
            "<Error><Contents><Key>a</Key></Contents></Error>".to_owned(),
        ] {
            assert!(parse_page(document.as_bytes()).is_none(), "{document}");
        }
        let page = format!(
            "{open}true</IsTruncated><Contents><Key>a&amp;b</Key></Contents>\
             <NextContinuationToken>t</NextContinuationToken></ListBucketResult>"
        );
        let page = parse_page(page.as_bytes()).unwrap();
        assert_eq!(page.keys, ["a&b"]);
        assert_eq!(page.next.as_deref(), Some("t"));
    }
}
