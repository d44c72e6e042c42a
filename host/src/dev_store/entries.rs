//! Listings as the protocol writes them.
//!
//! Without this module the two versions of the listing would each spell keys in their own way.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{
    self, CommonPrefix, DeleteMarkerEntry, ETag, EncodingType, ObjectStorageClass, ObjectVersion,
    ObjectVersionStorageClass, Timestamp,
};
use s3s::{S3Result, s3_error};

use super::listing::{After, Query};
use super::object::{Metadata, Object};
use super::versions::Version;

pub(super) fn query(
    prefix: &Option<String>,
    delimiter: &Option<String>,
    after: Option<After>,
    max_keys: Option<i32>,
) -> S3Result<Query> {
    let max_keys = max_keys
        .map(usize::try_from)
        .transpose()
        .map_err(|_| s3_error!(InvalidArgument, "Argument max-keys must not be negative"))?;
    Ok(Query {
        prefix: prefix.clone().unwrap_or_default(),
        delimiter: delimiter.clone().unwrap_or_default(),
        after,
        max_keys,
    })
}

/// How keys are written into a listing: as they are, or for `encoding-type=url` percent-encoded.
pub(super) fn encoder(encoding: Option<&EncodingType>) -> fn(&str) -> String {
    const NOT_IN_URLS: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'~')
        .remove(b'/');
    match encoding.map(EncodingType::as_str) {
        Some(EncodingType::URL) => |key| utf8_percent_encode(key, NOT_IN_URLS).to_string(),
        _ => str::to_owned,
    }
}

pub(super) fn contents(
    objects: Vec<(String, Arc<Object>)>,
    encode: fn(&str) -> String,
) -> Vec<dto::Object> {
    let entry = |(key, object): (String, Arc<Object>)| dto::Object {
        e_tag: Some(etag(&object.metadata)),
        key: Some(encode(&key)),
        last_modified: Some(timestamp(object.metadata.modified)),
        size: i64::try_from(object.metadata.size).ok(),
        storage_class: Some(ObjectStorageClass::from_static(
            ObjectStorageClass::STANDARD,
        )),
        ..dto::Object::default()
    };
    objects.into_iter().map(entry).collect()
}

/// The delete markers, and the others.
pub(super) fn versions(
    entries: Vec<(Version, bool)>,
    encode: fn(&str) -> String,
) -> (Vec<DeleteMarkerEntry>, Vec<ObjectVersion>) {
    let (mut markers, mut versions) = (Vec::new(), Vec::new());
    for (version, is_latest) in entries {
        let metadata = &version.object.metadata;
        if version.is_delete_marker() {
            markers.push(DeleteMarkerEntry {
                is_latest: Some(is_latest),
                key: Some(encode(version.key())),
                last_modified: Some(timestamp(metadata.modified)),
                version_id: Some(version.id.clone()),
                ..DeleteMarkerEntry::default()
            });
        } else {
            versions.push(ObjectVersion {
                e_tag: Some(etag(metadata)),
                is_latest: Some(is_latest),
                key: Some(encode(version.key())),
                last_modified: Some(timestamp(metadata.modified)),
                size: i64::try_from(metadata.size).ok(),
                storage_class: Some(ObjectVersionStorageClass::from_static(
                    ObjectVersionStorageClass::STANDARD,
                )),
                version_id: Some(version.id.clone()),
                ..ObjectVersion::default()
            });
        }
    }
    (markers, versions)
}

pub(super) fn common_prefixes(
    prefixes: Vec<String>,
    encode: fn(&str) -> String,
) -> Vec<CommonPrefix> {
    let entry = |prefix: String| CommonPrefix {
        prefix: Some(encode(&prefix)),
    };
    prefixes.into_iter().map(entry).collect()
}

pub(super) fn etag(metadata: &Metadata) -> ETag {
    ETag::Strong(metadata.etag.clone())
}

pub(super) fn timestamp(seconds: u64) -> Timestamp {
    (UNIX_EPOCH + Duration::from_secs(seconds)).into()
}
