//! Checksums: verified on the way in, kept, and given back.
//!
//! Without this module a client whose checksum is wrong would be told that its bytes are safe.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::{S3Result, dto, s3_error};
use serde::{Deserialize, Serialize};

/// An algorithm of `x-amz-checksum-…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

impl Algorithm {
    const ALL: [Self; 5] = [
        Self::Crc32,
        Self::Crc32c,
        Self::Crc64Nvme,
        Self::Sha1,
        Self::Sha256,
    ];

    /// The name in `x-amz-checksum-algorithm`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    fn header(self) -> HeaderName {
        HeaderName::from_static(match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        })
    }

    fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Crc32 => Crc32::checksum(bytes).to_vec(),
            Self::Crc32c => Crc32c::checksum(bytes).to_vec(),
            Self::Crc64Nvme => Crc64Nvme::checksum(bytes).to_vec(),
            Self::Sha1 => Sha1::checksum(bytes).to_vec(),
            Self::Sha256 => Sha256::checksum(bytes).to_vec(),
        }
    }
}

/// A checksum as the headers carry it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checksum {
    pub(super) algorithm: Algorithm,
    /// Base64; of a composite one, with `-` and the number of parts behind it.
    pub(super) value: String,
    /// Of the checksums of the parts, not of the bytes.
    pub(super) composite: bool,
}

impl Checksum {
    pub(super) fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        Self {
            algorithm,
            value: STANDARD.encode(algorithm.digest(bytes)),
            composite: false,
        }
    }

    /// The checksum of the parts' checksums.
    pub(super) fn composite(algorithm: Algorithm, parts: &[&[u8]]) -> Self {
        let digests: Vec<u8> = parts
            .iter()
            .flat_map(|part| algorithm.digest(part))
            .collect();
        Self {
            algorithm,
            value: format!(
                "{}-{}",
                STANDARD.encode(algorithm.digest(&digests)),
                parts.len()
            ),
            composite: true,
        }
    }

    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_str(&self.value) {
            headers.insert(self.algorithm.header(), value);
            headers.insert(
                HeaderName::from_static("x-amz-checksum-type"),
                HeaderValue::from_static(self.kind()),
            );
        }
    }

    /// For answers that carry it in XML.
    pub(super) fn fields(&self) -> dto::Checksum {
        let mut fields = dto::Checksum::default();
        let value = Some(self.value.clone());
        match self.algorithm {
            Algorithm::Crc32 => fields.checksum_crc32 = value,
            Algorithm::Crc32c => fields.checksum_crc32c = value,
            Algorithm::Crc64Nvme => fields.checksum_crc64nvme = value,
            Algorithm::Sha1 => fields.checksum_sha1 = value,
            Algorithm::Sha256 => fields.checksum_sha256 = value,
        }
        fields.checksum_type = Some(dto::ChecksumType::from_static(self.kind()));
        fields
    }

    fn kind(&self) -> &'static str {
        if self.composite {
            dto::ChecksumType::COMPOSITE
        } else {
            dto::ChecksumType::FULL_OBJECT
        }
    }
}

/// What was found out about bytes that passed every check the client asked for.
pub(super) struct Verified {
    pub(super) md5: [u8; 16],
    /// The one that the client sent, else a CRC-64/NVME, as S3 computes it for everything since 2024.
    pub(super) checksum: Checksum,
    /// Whether the client asked for any check.
    pub(super) demanded: bool,
}

/// Checks bytes against `Content-MD5` and every `x-amz-checksum-…` among the headers and trailers.
pub(super) fn verify(
    bytes: &[u8],
    headers: &HeaderMap,
    trailers: Option<&HeaderMap>,
) -> S3Result<Verified> {
    let md5 = Md5::checksum(bytes);
    if let Some(expected) = headers.get("content-md5") {
        match STANDARD.decode(expected.as_bytes()) {
            Ok(expected) if expected.len() == md5.len() => {
                if expected != md5 {
                    return Err(s3_error!(
                        BadDigest,
                        "The Content-MD5 you specified did not match what we received."
                    ));
                }
            }
            _ => {
                return Err(s3_error!(
                    InvalidDigest,
                    "The Content-MD5 you specified is not valid."
                ));
            }
        }
    }
    let mut kept = None;
    for algorithm in Algorithm::ALL {
        let name = algorithm.header();
        let expected = headers
            .get(&name)
            .or_else(|| trailers.and_then(|trailers| trailers.get(&name)));
        let Some(expected) = expected else { continue };
        let computed = Checksum::of(algorithm, bytes);
        if expected.as_bytes() != computed.value.as_bytes() {
            return Err(s3_error!(
                BadDigest,
                "The {} you specified did not match the calculated checksum.",
                algorithm.name()
            ));
        }
        kept.get_or_insert(computed);
    }
    Ok(Verified {
        md5,
        demanded: kept.is_some() || headers.contains_key("content-md5"),
        checksum: kept.unwrap_or_else(|| Checksum::of(Algorithm::Crc64Nvme, bytes)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_checksum_is_kept_and_a_wrong_one_refused() {
        let mut headers = HeaderMap::new();
        let sha256 = Checksum::of(Algorithm::Sha256, b"state");
        sha256.add_to(&mut headers);
        assert_eq!(
            verify(b"state", &headers, None).unwrap().checksum,
            sha256,
            "the client's algorithm is kept"
        );
        let error = verify(b"other", &headers, None).err().unwrap();
        assert_eq!(error.code(), &s3s::S3ErrorCode::BadDigest);
        let error = verify(b"other", &HeaderMap::new(), Some(&headers))
            .err()
            .unwrap();
        assert_eq!(error.code(), &s3s::S3ErrorCode::BadDigest, "in a trailer");
    }

    #[test]
    fn content_md5_must_be_sixteen_right_bytes() {
        let mut headers = HeaderMap::new();
        headers.insert(
            "content-md5",
            HeaderValue::from_static("1B2M2Y8AsgTpgAmY7PhCfg=="),
        );
        assert!(verify(b"", &headers, None).is_ok());
        assert_eq!(
            verify(b"x", &headers, None).err().unwrap().code(),
            &s3s::S3ErrorCode::BadDigest
        );
        headers.insert("content-md5", HeaderValue::from_static("AAAA"));
        assert_eq!(
            verify(b"x", &headers, None).err().unwrap().code(),
            &s3s::S3ErrorCode::InvalidDigest
        );
    }

    #[test]
    fn a_composite_checksum_says_how_many_parts_it_has() {
        let composite = Checksum::composite(Algorithm::Sha256, &[b"a", b"b"]);
        assert!(composite.value.ends_with("=-2"), "{}", composite.value);
    }
}
