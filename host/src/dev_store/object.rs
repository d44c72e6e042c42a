//! What is stored under a key, and the conditions that requests put on it.
//!
//! Without this module a condition could mean one thing for a write and another for a deletion.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use s3s::dto::ETagCondition;
use s3s::{S3Error, S3Result, s3_error};
use serde::{Deserialize, Serialize};

use crate::checksum::hex;

use super::checksum::{Algorithm, Checksum, Verified};
use super::customer_key::{CustomerKey, Seal};
use super::misbehaviour::Flaws;
use super::tags::Tags;

/// An object. It has no `Debug`: its bytes may be a state.
pub(super) struct Object {
    pub(super) metadata: Metadata,
    pub(super) body: Bytes,
}

impl Object {
    pub(super) fn new(key: &str, body: Bytes, verified: &Verified, headers: Headers) -> Self {
        let method = headers.encryption.as_deref();
        // As at S3: of what is encrypted under somebody's key, the ETag tells nothing.
        let etag = if headers.seal.is_some() || method.is_some_and(|it| it.starts_with("aws:kms")) {
            uuid::Uuid::new_v4().simple().to_string()
        } else {
            hex(&verified.md5)
        };
        Self::with_etag(key, body, etag, verified.checksum.clone(), headers)
    }

    pub(super) fn with_etag(
        key: &str,
        body: Bytes,
        etag: String,
        checksum: Checksum,
        headers: Headers,
    ) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            metadata: Metadata {
                key: key.to_owned(),
                size: body.len() as u64,
                etag,
                modified: now.map_or(0, |since| since.as_secs()),
                checksum,
                headers,
                delete_marker: false,
            },
            body,
        }
    }

    pub(super) fn delete_marker(key: &str) -> Self {
        let checksum = Checksum::of(Algorithm::Crc64Nvme, b"");
        let mut marker = Self::with_etag(
            key,
            Bytes::new(),
            String::new(),
            checksum,
            Headers::default(),
        );
        marker.metadata.delete_marker = true;
        marker
    }
}

/// What is kept with an object's bytes, also on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Metadata {
    pub(super) key: String,
    /// Bytes.
    pub(super) size: u64,
    /// Without quotes.
    pub(super) etag: String,
    /// Seconds since 1970.
    pub(super) modified: u64,
    pub(super) checksum: Checksum,
    pub(super) headers: Headers,
    /// It says that there is no object, and has no bytes.
    #[serde(default)]
    pub(super) delete_marker: bool,
}

impl Metadata {
    pub(super) fn quoted_etag(&self) -> String {
        format!("\"{}\"", self.etag)
    }
}

/// The headers that an object gives back as it was given them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Headers {
    pub(super) cache_control: Option<String>,
    pub(super) content_disposition: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) content_language: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) metadata: BTreeMap<String, String>,
    /// `x-amz-server-side-encryption`; nothing is encrypted.
    pub(super) encryption: Option<String>,
    pub(super) kms_key: Option<String>,
    /// Of the customer's key.
    #[serde(default)]
    pub(super) seal: Option<Seal>,
    #[serde(default)]
    pub(super) tags: Tags,
    /// The name of a canned access list.
    #[serde(default)]
    pub(super) acl: Option<String>,
}

/// What a read asks for.
pub(super) struct Wanted<'a> {
    pub(super) key: &'a str,
    /// `None`: the newest.
    pub(super) version: Option<&'a str>,
    pub(super) customer_key: Option<&'a CustomerKey>,
    pub(super) conditions: Conditions,
}

/// What a request says must be stored.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    pub(super) if_match: Option<ETagCondition>,
    pub(super) if_none_match: Option<ETagCondition>,
}

impl Conditions {
    /// Those that a store with these flaws heeds.
    pub(super) fn heeded(&self, flaws: Flaws) -> Self {
        let if_match = self.if_match.clone();
        let if_none_match = self.if_none_match.clone();
        Self {
            if_match: if_match.filter(|_| !flaws.ignore_if_match),
            if_none_match: if_none_match.filter(|_| !flaws.ignore_create_only),
        }
    }

    /// For a write: the object it is about to replace.
    pub(super) fn check_write(&self, present: Option<&Arc<Object>>) -> S3Result<()> {
        if let Some(condition) = &self.if_match {
            let present = present.ok_or_else(no_such_key)?;
            if !matches(condition, present) {
                return Err(failed("If-Match"));
            }
        }
        match (&self.if_none_match, present) {
            (Some(ETagCondition::Any), Some(_)) => Err(failed("If-None-Match")),
            (Some(ETagCondition::ETag(_)), _) => Err(s3_error!(
                NotImplemented,
                "If-None-Match takes only * on a write"
            )),
            _ => Ok(()),
        }
    }

    /// For a deletion, and `condition` alone.
    pub(super) fn check_deletion(
        condition: Option<&ETagCondition>,
        present: Option<&Arc<Object>>,
    ) -> S3Result<()> {
        match condition {
            Some(condition) if !matches(condition, present.ok_or_else(no_such_key)?) => {
                Err(failed("If-Match"))
            }
            _ => Ok(()),
        }
    }

    /// For a read: the object it is about to answer.
    pub(super) fn check_read(&self, present: &Arc<Object>) -> S3Result<()> {
        if let Some(condition) = &self.if_match
            && !matches(condition, present)
        {
            return Err(failed("If-Match"));
        }
        if let Some(condition) = &self.if_none_match
            && matches(condition, present)
        {
            let mut error = s3_error!(NotModified);
            let mut headers = http::HeaderMap::new();
            if let Ok(etag) = present.metadata.quoted_etag().parse() {
                headers.insert(http::header::ETAG, etag);
            }
            error.set_headers(headers);
            return Err(error);
        }
        Ok(())
    }
}

fn matches(condition: &ETagCondition, object: &Object) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(etag) => etag.as_strong() == Some(object.metadata.etag.as_str()),
    }
}

pub(super) fn no_such_key() -> S3Error {
    s3_error!(NoSuchKey, "The specified key does not exist.")
}

pub(super) fn failed(condition: &str) -> S3Error {
    s3_error!(
        PreconditionFailed,
        "At least one of the pre-conditions you specified did not hold: {condition}"
    )
}
