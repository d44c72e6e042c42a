//! Uploads in parts, which Terraform uses for states above 5 MiB.
//!
//! Parts are kept in memory only: a crash before the last request loses an upload as a whole, and its client is
//! told so (`NoSuchUpload`). What was completed is an object like any other.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use s3s::crypto::{Checksum as _, Md5};
use s3s::{S3Result, s3_error};

use crate::checksum::hex;

use super::checksum::{Algorithm, Checksum};
use super::object::Headers;

/// Every part but the last has at least this many bytes; S3's number.
const SMALLEST_PART: usize = 5 * 1024 * 1024;

/// An upload in progress.
#[derive(Clone)]
pub(super) struct Upload {
    pub(super) key: String,
    pub(super) headers: Headers,
    /// The checksum that the object shall have.
    pub(super) algorithm: Option<Algorithm>,
    /// Whether it is one over the parts' checksums.
    pub(super) composite: bool,
    pub(super) parts: BTreeMap<i32, Part>,
}

/// Where an upload is.
pub(super) struct Place {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) id: String,
}

#[derive(Clone)]
pub(super) struct Part {
    pub(super) body: Bytes,
    pub(super) md5: [u8; 16],
    pub(super) checksum: Checksum,
    pub(super) modified: SystemTime,
}

/// A part as the client names it when it completes the upload.
pub(super) struct Listed {
    pub(super) number: i32,
    /// Without quotes.
    pub(super) etag: String,
    /// The checksums that the client gave, whatever their algorithms.
    pub(super) checksums: Vec<String>,
}

/// What the parts come to.
pub(super) struct Joined {
    pub(super) body: Bytes,
    pub(super) etag: String,
    pub(super) checksum: Checksum,
}

impl Upload {
    pub(super) fn join(&self, listed: &[Listed]) -> S3Result<Joined> {
        if listed.is_empty() {
            return Err(s3_error!(
                MalformedXML,
                "You must specify at least one part"
            ));
        }
        if !listed.is_sorted_by(|one, next| one.number < next.number) {
            return Err(s3_error!(
                InvalidPartOrder,
                "The list of parts was not in ascending order."
            ));
        }
        let mut parts = Vec::with_capacity(listed.len());
        for wanted in listed {
            let part = self.parts.get(&wanted.number).filter(|part| {
                hex(&part.md5) == wanted.etag
                    && wanted
                        .checksums
                        .iter()
                        .all(|value| *value == part.checksum.value)
            });
            parts.push(part.ok_or_else(|| {
                s3_error!(
                    InvalidPart,
                    "Part {} was not uploaded, or its ETag or checksum is another.",
                    wanted.number
                )
            })?);
        }
        if let Some((_, but_last)) = parts.split_last()
            && but_last.iter().any(|part| part.body.len() < SMALLEST_PART)
        {
            return Err(s3_error!(
                EntityTooSmall,
                "A part that is not the last is smaller than 5 MiB."
            ));
        }
        let mut body = BytesMut::with_capacity(parts.iter().map(|part| part.body.len()).sum());
        let mut digests = Vec::with_capacity(parts.len() * 16);
        for part in &parts {
            body.extend_from_slice(&part.body);
            digests.extend_from_slice(&part.md5);
        }
        let body = body.freeze();
        let checksum = match self.algorithm {
            Some(algorithm) if self.composite => {
                let bodies: Vec<&[u8]> = parts.iter().map(|part| part.body.as_ref()).collect();
                Checksum::composite(algorithm, &bodies)
            }
            algorithm => Checksum::of(algorithm.unwrap_or(Algorithm::Crc64Nvme), &body),
        };
        Ok(Joined {
            body,
            etag: format!("{}-{}", hex(&Md5::checksum(&digests)), parts.len()),
            checksum,
        })
    }
}
