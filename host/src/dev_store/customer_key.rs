//! Keys of the customer (SSE-C): whoever stores an object with one reads it only with the same one.
//!
//! Without this module a backend that forgets the key on one of its reads would find out only on AWS. Nothing is
//! encrypted: of the key, the object remembers a salted hash.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use s3s::crypto::{Checksum as _, Md5, Sha256};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use crate::checksum::hex;

/// Bytes of a key of AES-256.
const KEY: usize = 32;

const HEADERS: &str = "x-amz-server-side-encryption-customer-";

const SOURCE_HEADERS: &str = "x-amz-copy-source-server-side-encryption-customer-";

/// A key as a request brings it. It has no `Debug`.
#[derive(Clone)]
pub(super) struct CustomerKey {
    key: [u8; KEY],
    /// As it was sent.
    md5: HeaderValue,
}

impl CustomerKey {
    pub(super) fn of(headers: &HeaderMap) -> S3Result<Option<Self>> {
        Self::with_prefix(headers, HEADERS)
    }

    /// The one that opens what a copy is made of.
    pub(super) fn of_source(headers: &HeaderMap) -> S3Result<Option<Self>> {
        Self::with_prefix(headers, SOURCE_HEADERS)
    }

    fn with_prefix(headers: &HeaderMap, prefix: &str) -> S3Result<Option<Self>> {
        let header = |name: &str| headers.get(format!("{prefix}{name}"));
        let (algorithm, key, md5) = (header("algorithm"), header("key"), header("key-md5"));
        if algorithm.is_none() && key.is_none() && md5.is_none() {
            return Ok(None);
        }
        let required = |value: Option<&HeaderValue>, what: &str| {
            value.cloned().ok_or_else(|| {
                s3_error!(
                    InvalidArgument,
                    "Requests specifying Server Side Encryption with Customer provided keys must provide {what}."
                )
            })
        };
        if required(algorithm, "a valid encryption algorithm")? != "AES256" {
            return Err(s3_error!(
                InvalidEncryptionAlgorithmError,
                "The Encryption request you specified is not valid. Supported value: AES256."
            ));
        }
        let key = required(key, "an appropriate secret key")?;
        let md5 = required(md5, "the client calculated MD5 of the secret key")?;
        let key = STANDARD.decode(key.as_bytes()).ok();
        let key: [u8; KEY] = key.and_then(|key| key.try_into().ok()).ok_or_else(|| {
            s3_error!(
                InvalidArgument,
                "The secret key was invalid for the specified algorithm."
            )
        })?;
        if md5.as_bytes() != STANDARD.encode(Md5::checksum(&key)).as_bytes() {
            return Err(s3_error!(
                InvalidArgument,
                "The calculated MD5 hash of the key did not match the hash that was provided."
            ));
        }
        Ok(Some(Self { key, md5 }))
    }

    /// What an object remembers of the key.
    pub(super) fn seal(&self) -> Seal {
        let salt = uuid::Uuid::new_v4().simple().to_string();
        Seal {
            hash: self.hash(&salt),
            salt,
        }
    }

    /// What an answer says of the key.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        let mut insert = |name: &str, value: HeaderValue| {
            if let Ok(name) = HeaderName::try_from(format!("{HEADERS}{name}")) {
                headers.insert(name, value);
            }
        };
        insert("algorithm", HeaderValue::from_static("AES256"));
        insert("key-md5", self.md5.clone());
    }

    fn hash(&self, salt: &str) -> String {
        hex(&Sha256::checksum(&[salt.as_bytes(), &self.key].concat()))
    }
}

/// The salted hash of a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Seal {
    salt: String,
    hash: String,
}

impl Seal {
    /// Lets in who brings the key of a sealed object, and nobody who brings one for an object without.
    pub(super) fn open(seal: Option<&Self>, key: Option<&CustomerKey>) -> S3Result<()> {
        match (seal, key) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err(s3_error!(
                InvalidRequest,
                "The encryption parameters are not applicable to this object."
            )),
            (Some(_), None) => Err(s3_error!(
                InvalidRequest,
                "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object."
            )),
            (Some(seal), Some(key)) => {
                let hash = key.hash(&seal.salt);
                if bool::from(hash.as_bytes().ct_eq(seal.hash.as_bytes())) {
                    return Ok(());
                }
                Err(S3Error::with_message(
                    S3ErrorCode::AccessDenied,
                    "Access Denied",
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::try_from(format!("{HEADERS}{name}")).unwrap();
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    /// The headers of the key that consists of this byte.
    fn key(byte: u8) -> CustomerKey {
        let (key, md5) = ([byte; KEY], Md5::checksum(&[byte; KEY]));
        let (key, md5) = (STANDARD.encode(key), STANDARD.encode(md5));
        let headers = headers(&[("algorithm", "AES256"), ("key", &key), ("key-md5", &md5)]);
        CustomerKey::of(&headers).unwrap().unwrap()
    }

    #[test]
    fn half_a_key_or_a_wrong_one_is_refused() {
        let right = STANDARD.encode([1; KEY]);
        let md5 = STANDARD.encode(Md5::checksum(&[1; KEY]));
        assert!(CustomerKey::of(&HeaderMap::new()).unwrap().is_none());
        for fields in [
            vec![("key", right.as_str()), ("key-md5", md5.as_str())],
            vec![("algorithm", "AES256"), ("key-md5", &md5)],
            vec![("algorithm", "AES256"), ("key", &right)],
            vec![("algorithm", "AES128"), ("key", &right), ("key-md5", &md5)],
            vec![("algorithm", "AES256"), ("key", "AAAA"), ("key-md5", &md5)],
            vec![("algorithm", "AES256"), ("key", "!"), ("key-md5", &md5)],
            vec![("algorithm", "AES256"), ("key", &right), ("key-md5", "x")],
        ] {
            let error = CustomerKey::of(&headers(&fields)).err().unwrap();
            assert_eq!(error.status_code().unwrap(), 400, "{fields:?}");
            assert!(!format!("{error:?}").contains(&right));
        }
    }

    #[test]
    fn a_seal_opens_with_its_key_alone_and_does_not_show_it() {
        let seal = key(1).seal();
        assert!(Seal::open(Some(&seal), Some(&key(1))).is_ok());
        assert!(Seal::open(None, None).is_ok());
        let code = |seal: Option<&Seal>, key: Option<CustomerKey>| {
            let refused = Seal::open(seal, key.as_ref()).err().unwrap();
            refused.code().clone()
        };
        assert_eq!(code(Some(&seal), Some(key(2))), S3ErrorCode::AccessDenied);
        assert_eq!(code(Some(&seal), None), S3ErrorCode::InvalidRequest);
        assert_eq!(code(None, Some(key(1))), S3ErrorCode::InvalidRequest);
        assert_ne!(seal.hash, key(1).seal().hash, "salted");
    }
}
