//! Signs requests: AWS Signature Version 4, in the header `Authorization`.
//!
//! Keys and signatures are `aws-sigv4`'s. What is signed is written down here, since the library's general way of doing
//! so is a sixth of the component. S3 differs from AWS's other services: its path is encoded once, and the payload's
//! hash is a header. Done as for other services, every key that holds a `:` (all workspaces but `default`) is refused.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::calendar;
use crate::platform::{AccessKey, Method};
use crate::secret::Secret;

/// SHA-256 of no bytes, in hexadecimal.
pub(crate) const EMPTY_SHA256: &str =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// What is signed.
pub(crate) struct Signable<'a> {
    pub(crate) method: Method,
    /// Host and, unless it is the scheme's default, port.
    pub(crate) authority: &'a str,
    /// Percent-encoded as it is sent; the parameters of the query in the order of their names.
    pub(crate) path_and_query: &'a str,
    /// All that is sent; names in lower case, each once.
    pub(crate) headers: &'a [(String, String)],
    /// In hexadecimal.
    pub(crate) payload_sha256: &'a str,
    pub(crate) region: &'a str,
    /// As credentials are scoped, such as `s3`.
    pub(crate) service: &'a str,
    /// Since 1970, by the store's clock.
    pub(crate) time: Duration,
}

/// The keys that requests were signed with, each for one secret, day, region and service. Deriving one takes half of the
/// hashing that a request needs.
#[derive(Default)]
pub(crate) struct SigningKeys(Mutex<Vec<SigningKey>>);

struct SigningKey {
    secret: Secret,
    /// Day, region and service, as a signature names them.
    scope: String,
    derived: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SigningKeys(…)")
    }
}

impl SigningKeys {
    /// One store signs for S3 and a few other services; the others are of earlier days or secrets.
    const MOST: usize = 4;

    fn sign(&self, request: &Signable<'_>, secret: &Secret, scope: &str, text: &str) -> String {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it =
            |key: &&SigningKey| key.scope == scope && key.secret.expose() == secret.expose();
        if let Some(key) = known.iter().find(is_it) {
            return calculate_signature(&*key.derived, text.as_bytes());
        }
        let time = SystemTime::UNIX_EPOCH + request.time;
        let key = generate_signing_key(secret.expose(), time, request.region, request.service);
        let derived = Zeroizing::new(key.as_ref().to_vec());
        let signature = calculate_signature(&*derived, text.as_bytes());
        if known.len() == Self::MOST {
            known.clear();
        }
        known.push(SigningKey {
            secret: secret.clone(),
            scope: scope.to_owned(),
            derived,
        });
        signature
    }
}

/// The headers that the signature adds.
///
/// # Errors
/// The name of a header whose value no request may hold.
pub(crate) fn signature(
    request: &Signable<'_>,
    key: &AccessKey,
    keys: &SigningKeys,
) -> Result<Vec<(String, String)>, String> {
    let date = calendar::basic_format(request.time);
    let is_s3 = request.service == "s3";
    let mut added = vec![header("x-amz-date", &date)];
    if is_s3 {
        added.push(header("x-amz-content-sha256", request.payload_sha256));
    }
    if let Some(token) = &key.session_token {
        added.push(header("x-amz-security-token", token.expose()));
    }
    let host = header("host", request.authority);

    let mut signed: Vec<&(String, String)> = Vec::new();
    for header in request.headers.iter().chain(&added).chain([&host]) {
        let (name, value) = header;
        if !value.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(format!("the value of {name} does not fit into a header"));
        }
        // Proxies change it.
        if name != "user-agent" {
            let place = signed.partition_point(|(other, _)| other < name);
            signed.insert(place, header);
        }
    }
    let names: Vec<_> = signed.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(";");

    let (path, query) = match request.path_and_query.split_once('?') {
        Some(parts) => parts,
        None => (request.path_and_query, ""),
    };
    let path = match is_s3 {
        true => path.to_owned(),
        false => path.replace('%', "%25"),
    };
    let mut canonical = [request.method.as_str(), &path, query, ""].join("\n");
    for (name, value) in signed {
        canonical.push_str(name);
        canonical.push(':');
        // Spaces at the ends do not count, nor do repeated ones.
        for (index, word) in value.split_ascii_whitespace().enumerate() {
            if index > 0 {
                canonical.push(' ');
            }
            canonical.push_str(word);
        }
        canonical.push('\n');
    }
    for last in ["\n", &names, "\n", request.payload_sha256] {
        canonical.push_str(last);
    }

    let (region, service) = (request.region, request.service);
    let (day, _) = date.split_at(8);
    let scope = [day, region, service, "aws4_request"].join("/");
    let canonical = hexadecimal(&Sha256::digest(canonical));
    let to_sign = ["AWS4-HMAC-SHA256", &date, &scope, &canonical].join("\n");
    let signature = keys.sign(request, &key.secret, &scope, &to_sign);
    let id = &key.id;
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}"
    );
    added.push(header("authorization", &authorization));
    Ok(added)
}

/// In lower case.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = Vec::with_capacity(2 * bytes.len());
    for byte in bytes {
        digits.extend([byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]));
    }
    // Never anything but ASCII.
    String::from_utf8(digits).unwrap_or_default()
}

fn header(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that AWS publishes in "Signature Calculations for the Authorization Header".
    fn example(method: Method, path: &str, headers: &[(&str, &str)], sha256: &str) -> String {
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let key = AccessKey {
            id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned()),
            session_token: None,
        };
        let signable = Signable {
            method,
            authority: "examplebucket.s3.amazonaws.com",
            path_and_query: path,
            headers: &headers,
            payload_sha256: sha256,
            region: "us-east-1",
            service: "s3",
            // 2013-05-24T00:00:00Z
            time: Duration::from_secs(1_369_353_600),
        };
        let signed = signature(&signable, &key, &SigningKeys::default()).unwrap();
        let (_, value) = signed
            .iter()
            .find(|(name, _)| name == "authorization")
            .unwrap();
        value.rsplit_once("Signature=").unwrap().1.to_owned()
    }

    #[test]
    fn a_get_with_a_header_is_signed_as_in_the_published_example() {
        let range = [("range", "bytes=0-9")];
        assert_eq!(
            example(Method::Get, "/test.txt", &range, EMPTY_SHA256),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
    }

    #[test]
    fn a_put_with_an_encoded_key_is_signed_as_in_the_published_example() {
        let headers = [
            ("date", "Fri, 24 May 2013 00:00:00 GMT"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ];
        assert_eq!(
            example(
                Method::Put,
                "/test%24file.text",
                &headers,
                "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"
            ),
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
        );
    }

    #[test]
    fn a_listing_is_signed_as_in_the_published_example() {
        assert_eq!(
            example(Method::Get, "/?max-keys=2&prefix=J", &[], EMPTY_SHA256),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
        );
    }

    /// The first two requests of AWS's Signature Version 4 test suite.
    #[test]
    fn requests_to_other_services_are_signed_as_in_the_test_suite() {
        for (method, signature) in [
            (
                Method::Get,
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                Method::Post,
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
        ] {
            let key = AccessKey {
                id: "AKIDEXAMPLE".to_owned(),
                secret: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
                session_token: None,
            };
            let signable = Signable {
                method,
                authority: "example.amazonaws.com",
                path_and_query: "/",
                headers: &[],
                payload_sha256: EMPTY_SHA256,
                region: "us-east-1",
                service: "service",
                // 2015-08-30T12:36:00Z
                time: Duration::from_secs(1_440_938_160),
            };
            let headers = super::signature(&signable, &key, &SigningKeys::default()).unwrap();
            let authorization = &headers.last().unwrap().1;
            assert!(authorization.ends_with(signature), "{authorization}");
        }
    }

    #[test]
    fn a_key_at_hand_signs_only_for_its_secret_day_region_and_service() {
        let keys = SigningKeys::default();
        let sign = |keys: &SigningKeys, secret: &str, time, region, service| {
            let key = AccessKey {
                id: "AKIDEXAMPLE".to_owned(),
                secret: Secret::new(secret.to_owned()),
                session_token: None,
            };
            let signable = Signable {
                method: Method::Get,
                authority: "example.amazonaws.com",
                path_and_query: "/",
                headers: &[],
                payload_sha256: EMPTY_SHA256,
                region,
                service,
                time: Duration::from_secs(time),
            };
            signature(&signable, &key, keys).unwrap()
        };
        let day = 86_400;
        for (secret, time, region, service) in [
            ("one", day, "us-east-1", "s3"),
            ("one", day + 60, "us-east-1", "s3"),
            ("one", 2 * day, "us-east-1", "s3"),
            ("one", day, "us-east-1", "dynamodb"),
            ("one", day, "eu-west-1", "s3"),
            ("two", day, "us-east-1", "s3"),
            ("one", day, "us-east-1", "s3"),
        ] {
            let fresh = sign(&SigningKeys::default(), secret, time, region, service);
            for _ in 0..2 {
                assert_eq!(sign(&keys, secret, time, region, service), fresh);
            }
        }
        assert_eq!(format!("{keys:?}"), "SigningKeys(…)");
    }

    #[test]
    fn an_escaped_colon_is_signed_as_it_is_sent() {
        let escaped = example(Method::Get, "/env%3A/dev/k", &[], EMPTY_SHA256);
        let bare = example(Method::Get, "/env:/dev/k", &[], EMPTY_SHA256);
        assert_ne!(escaped, bare);
    }
}
