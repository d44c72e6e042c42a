//! The operations of S3 that this backend uses, typed.
//!
//! Everything that is S3's and not ours stays in here: paths and their encoding, headers and what their absence
//! means, and which 404 says that there is no object.

use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::aws::http::{Answer, AnswerBody, Client, Failure, Payload, Place, Request};
use crate::aws::xml;
use crate::config::{BucketLocation, CustomerKey, Encryption, Settings};
use crate::contract::{Checksum, Revision};
use crate::operation::{Failed, Operation};
use crate::platform::Platform;

/// A page of a listing has at most 1000 keys of at most 1 KiB, which XML can blow up sixfold.
const MAX_PAGE: u64 = 16 << 20;

/// What an object is for; it decides about its tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Lock,
    State,
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

/// A version of an object, as a listing names it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) id: String,
    pub(crate) tag: String,
}

/// Whether a bucket keeps versions of its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Versioning {
    Enabled,
    /// It never did.
    Off,
    Suspended,
    /// What came says nothing about it.
    Untold,
}

/// The bucket.
pub(crate) struct S3<'a, P> {
    pub(crate) client: Rc<Client<'a, P>>,
    settings: &'a Settings,
    location: &'a BucketLocation,
}

impl<'a, P: Platform> S3<'a, P> {
    pub(crate) fn new(
        client: Rc<Client<'a, P>>,
        settings: &'a Settings,
        location: &'a BucketLocation,
    ) -> Self {
        Self {
            client,
            settings,
            location,
        }
    }

    /// Reads an object of at most `limit` bytes, unless it is still the generation with the ETag `known`.
    pub(crate) fn get(&self, key: &str, known: Option<&str>, limit: u64) -> Result<Got, Failed> {
        self.fetch(key, None, known, limit)
    }

    /// Reads a version of an object, if it has at most `limit` bytes.
    pub(crate) fn get_version(&self, key: &str, version: &str, limit: u64) -> Result<Got, Failed> {
        self.fetch(key, Some(version), None, limit)
    }

    fn fetch(
        &self,
        key: &str,
        generation: Option<&str>,
        known: Option<&str>,
        limit: u64,
    ) -> Result<Got, Failed> {
        let operation = match generation {
            Some(_) => Operation::GetVersion,
            None => Operation::GetObject,
        };
        let request = self.get_request(key, generation, known, limit);
        let answer = match self.send(operation, key, &request) {
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
        kind: Kind,
        payload: Payload<'_>,
        condition: Condition<'_>,
    ) -> Result<Option<Revision>, Failed> {
        let request = self.put_request(key, kind, payload, condition);
        let answer = self.send(Operation::PutObject, key, &request)?;
        Ok(tag(&answer).map(|tag| Revision {
            tag,
            version: version(&answer),
        }))
    }

    /// Removes an object; with a tag, that generation or nothing. Without one, an absent object is no error.
    pub(crate) fn delete(&self, key: &str, tag: Option<&str>) -> Result<(), Failed> {
        let request = self.delete_request(key, None, tag);
        match self.send(Operation::DeleteObject, key, &request) {
            Err(failed) if tag.is_none() && failed.failure.is(|error| error.is_no_such_key()) => {
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// The request for a read.
    pub(crate) fn get_request(
        &self,
        key: &str,
        generation: Option<&str>,
        known: Option<&str>,
        limit: u64,
    ) -> Request<'_> {
        let mut headers = Vec::new();
        if !self.settings.skip_s3_checksum {
            headers.push(header("x-amz-checksum-mode", "ENABLED"));
        }
        if let Some(tag) = known {
            headers.push(header("if-none-match", tag));
        }
        if let Encryption::CustomerKey(key) = &self.settings.encryption {
            headers.extend(customer_key(key));
        }
        let path = self.object(key, generation);
        self.request(Operation::GetObject, path, headers, None, limit)
    }

    /// The request that stores an object.
    pub(crate) fn put_request<'r>(
        &'r self,
        key: &str,
        kind: Kind,
        payload: Payload<'r>,
        condition: Condition<'_>,
    ) -> Request<'r> {
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
        headers.extend(self.protection());
        if let Some(acl) = &self.settings.acl {
            headers.push(header("x-amz-acl", acl));
        }
        let tags = match kind {
            Kind::Lock => &self.settings.lock_tags,
            Kind::State => &self.settings.state_tags,
        };
        if let Some(tags) = tags {
            headers.push(header("x-amz-tagging", tags));
        }
        let path = self.object(key, None);
        self.request(Operation::PutObject, path, headers, Some(payload), 0)
    }

    /// The request that removes an object, or one version of it for good.
    pub(crate) fn delete_request(
        &self,
        key: &str,
        version: Option<&str>,
        tag: Option<&str>,
    ) -> Request<'_> {
        let headers = tag.map(|tag| header("if-match", tag)).into_iter().collect();
        let path = self.object(key, version);
        self.request(Operation::DeleteObject, path, headers, None, 0)
    }

    /// One page of the keys that begin with `prefix`.
    pub(crate) fn list(&self, prefix: &str, page: Option<&str>) -> Result<Page, Failed> {
        let mut path = self.bucket();
        if let Some(token) = page {
            path.push_str("continuation-token=");
            encode(&mut path, token, false);
            path.push('&');
        }
        path.push_str("list-type=2&max-keys=1000&prefix=");
        encode(&mut path, prefix, false);
        self.listing(Operation::ListObjects, prefix, path, parse_page)
    }

    /// The newest versions of an object, newest first; at most so many of all keys that begin like its own.
    pub(crate) fn versions(&self, key: &str, most: u32) -> Result<Vec<Version>, Failed> {
        let mut path = self.bucket();
        path.push_str(&format!("max-keys={most}&prefix="));
        encode(&mut path, key, false);
        path.push_str("&versions=");
        self.listing(Operation::ListVersions, key, path, |document| {
            parse_versions(document, key)
        })
    }

    /// Every version, and every marker of a deletion, of the keys that begin with `prefix`: key and version id. The first
    /// thousand of them.
    pub(crate) fn remains(&self, prefix: &str) -> Result<Vec<(String, String)>, Failed> {
        let mut path = self.bucket();
        path.push_str("max-keys=1000&prefix=");
        encode(&mut path, prefix, false);
        path.push_str("&versions=");
        self.listing(Operation::ListVersions, prefix, path, parse_remains)
    }

    /// Whether the bucket keeps versions.
    pub(crate) fn versioning(&self) -> Result<Versioning, Failed> {
        let operation = Operation::GetBucketVersioning;
        let answer = self.send(operation, "", &self.versioning_request())?;
        Ok(versioning_of(&answer))
    }

    /// The request that asks whether the bucket keeps versions.
    pub(crate) fn versioning_request(&self) -> Request<'_> {
        let path = format!("{}versioning=", self.bucket());
        self.request(
            Operation::GetBucketVersioning,
            path,
            Vec::new(),
            None,
            MAX_PAGE,
        )
    }

    fn listing<T>(
        &self,
        operation: Operation,
        prefix: &str,
        path: String,
        parse: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, Failed> {
        let request = self.request(operation, path, Vec::new(), None, MAX_PAGE);
        let answer = self.send(operation, prefix, &request)?;
        let listing = match &answer.body {
            AnswerBody::Whole(bytes) => parse(bytes),
            AnswerBody::TooLarge(_) => None,
        };
        listing.ok_or_else(|| Failed {
            operation,
            key: prefix.to_owned(),
            failure: Failure::misunderstood("what came is no listing of S3", false),
        })
    }

    /// The headers that encrypt what is stored.
    fn protection(&self) -> Vec<(String, String)> {
        const MODE: &str = "x-amz-server-side-encryption";
        match &self.settings.encryption {
            Encryption::Aes256 => vec![header(MODE, "AES256")],
            Encryption::CustomerKey(key) => customer_key(key).into(),
            Encryption::Kms(id) => vec![
                header(MODE, "aws:kms"),
                header("x-amz-server-side-encryption-aws-kms-key-id", id),
            ],
            Encryption::None => Vec::new(),
        }
    }

    /// Path of the bucket, up to the query.
    fn bucket(&self) -> String {
        match self.location.path_prefix.as_str() {
            "" => "/?".to_owned(),
            prefix => format!("{prefix}?"),
        }
    }

    /// Path of an object, or of one version of it.
    fn object(&self, key: &str, version: Option<&str>) -> String {
        let mut path = format!("{}/", self.location.path_prefix);
        encode(&mut path, key, true);
        if let Some(version) = version {
            path.push_str("?versionId=");
            encode(&mut path, version, false);
        }
        path
    }

    fn request<'r>(
        &'r self,
        operation: Operation,
        path_and_query: String,
        headers: Vec<(String, String)>,
        body: Option<Payload<'r>>,
        limit: u64,
    ) -> Request<'r> {
        Request {
            place: Place {
                service: "s3",
                scheme: &self.location.scheme,
                authority: &self.location.authority,
                region: &self.location.region,
            },
            method: operation.method(),
            changes: operation.changes(),
            path_and_query,
            headers,
            body,
            limit,
        }
    }

    fn send(
        &self,
        operation: Operation,
        key: &str,
        request: &Request<'_>,
    ) -> Result<Answer, Failed> {
        self.client.send(request).map_err(|failure| Failed {
            operation,
            key: key.to_owned(),
            failure,
        })
    }
}

fn header(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// The headers without which nobody reads what was stored with them. They hold the key: never to be logged.
fn customer_key(key: &CustomerKey) -> [(String, String); 3] {
    [
        header("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        header(
            "x-amz-server-side-encryption-customer-key",
            key.base64.expose(),
        ),
        header(
            "x-amz-server-side-encryption-customer-key-md5",
            key.md5.expose(),
        ),
    ]
}

/// What a bucket says of its versions.
pub(crate) fn versioning_of(answer: &Answer) -> Versioning {
    let mut versioning = Versioning::Untold;
    let AnswerBody::Whole(body) = &answer.body else {
        return versioning;
    };
    let mut status = String::new();
    let read = xml::visit_texts(body, |path, text| match path {
        "VersioningConfiguration" => versioning = Versioning::Off,
        "VersioningConfiguration/Status" => status = text,
        _ => {}
    });
    match (read, versioning, status.as_str()) {
        (Ok(()), Versioning::Off, "Enabled") => Versioning::Enabled,
        (Ok(()), Versioning::Off, "Suspended") => Versioning::Suspended,
        (Ok(()), Versioning::Off, "") => Versioning::Off,
        _ => Versioning::Untold,
    }
}

/// The ETag of what was stored or read.
pub(crate) fn tag(answer: &Answer) -> Option<String> {
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

/// Versions of exactly this key; markers of deletions are none. None: this is no listing, or not all of one.
fn parse_versions(document: &[u8], wanted: &str) -> Option<Vec<Version>> {
    let mut versions = Vec::new();
    let mut is_listing = false;
    let (mut key, mut current) = (String::new(), Version::default());
    xml::visit_texts(document, |path, text| match path {
        "ListVersionsResult" => is_listing = true,
        "ListVersionsResult/Version/ETag" => current.tag = text,
        "ListVersionsResult/Version/Key" => key = text,
        "ListVersionsResult/Version/VersionId" => current.id = text,
        "ListVersionsResult/Version" => {
            let version = std::mem::take(&mut current);
            if std::mem::take(&mut key) == wanted {
                versions.push(version);
            }
        }
        _ => {}
    })
    .ok()?;
    is_listing.then_some(versions)
}

/// Versions and markers. None: this is no listing, or not all of one.
fn parse_remains(document: &[u8]) -> Option<Vec<(String, String)>> {
    let mut remains = Vec::new();
    let mut is_listing = false;
    let mut current = (String::new(), String::new());
    xml::visit_texts(document, |path, text| {
        let Some(rest) = path.strip_prefix("ListVersionsResult") else {
            return;
        };
        match rest {
            "" => is_listing = true,
            "/DeleteMarker/Key" | "/Version/Key" => current.0 = text,
            "/DeleteMarker/VersionId" | "/Version/VersionId" => current.1 = text,
            "/DeleteMarker" | "/Version" => remains.push(std::mem::take(&mut current)),
            _ => {}
        }
    })
    .ok()?;
    is_listing.then_some(remains)
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

    #[test]
    fn versions_are_those_of_the_key_and_no_markers() {
        let document = "<ListVersionsResult><DeleteMarker><Key>k</Key><VersionId>d</VersionId>\
            </DeleteMarker><Version><Key>k</Key><VersionId>2</VersionId><ETag>&quot;b&quot;</ETag>\
            </Version><Version><Key>k.tflock</Key><VersionId>9</VersionId><ETag>\"x\"</ETag>\
            </Version><Version><Key>k</Key><VersionId>1</VersionId><ETag>\"a\"</ETag></Version>\
            </ListVersionsResult>";
        let version = |id: &str, tag: &str| Version {
            id: id.to_owned(),
            tag: tag.to_owned(),
        };
        assert_eq!(
            parse_versions(document.as_bytes(), "k").unwrap(),
            [version("2", "\"b\""), version("1", "\"a\"")]
        );
        let cut = &document.as_bytes()[..document.len() - 10];
        assert!(parse_versions(cut, "k").is_none());
        assert!(parse_versions(b"<ListBucketResult/>", "k").is_none());
    }
}
