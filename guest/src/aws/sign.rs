//! Signs requests, S3's way.
//!
//! S3 differs from AWS's other services: the path is encoded once and never normalised, and the payload's hash is a
//! header. With the usual settings every key that holds a `:` (all workspaces but `default`) is refused.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;

use crate::platform::{AccessKey, Method};

/// SHA-256 of no bytes, in hexadecimal.
pub(crate) const EMPTY_SHA256: &str =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// What is signed.
pub(crate) struct Signable<'a> {
    pub(crate) method: Method,
    /// Absolute, percent-encoded as it is sent.
    pub(crate) url: &'a str,
    /// All that is sent; names in lower case.
    pub(crate) headers: &'a [(String, String)],
    /// In hexadecimal.
    pub(crate) payload_sha256: &'a str,
    pub(crate) region: &'a str,
    /// Since 1970, by the store's clock.
    pub(crate) time: Duration,
}

/// The headers that the signature adds.
///
/// # Errors
/// A header or the URL holds what no request may hold; the text names neither.
pub(crate) fn signature(
    request: &Signable<'_>,
    key: &AccessKey,
) -> Result<Vec<(String, String)>, String> {
    let identity = Credentials::new(
        &key.id,
        key.secret.expose(),
        key.session_token
            .as_ref()
            .map(|token| token.expose().to_owned()),
        None,
        "cofferdam",
    )
    .into();
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(request.region)
        .name("s3")
        .time(SystemTime::UNIX_EPOCH + request.time)
        .settings(settings)
        .build()
        .map_err(|error| error.to_string())?
        .into();
    let signable = SignableRequest::new(
        request.method.as_str(),
        request.url,
        request
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
        SignableBody::Precomputed(request.payload_sha256.to_owned()),
    )
    .map_err(|error| error.to_string())?;
    let (instructions, _) = sign(signable, &params)
        .map_err(|error| error.to_string())?
        .into_parts();
    Ok(instructions
        .headers()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

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
            url: &format!("https://examplebucket.s3.amazonaws.com{path}"),
            headers: &headers,
            payload_sha256: sha256,
            region: "us-east-1",
            // 2013-05-24T00:00:00Z
            time: Duration::from_secs(1_369_353_600),
        };
        let signed = signature(&signable, &key).unwrap();
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

    #[test]
    fn an_escaped_colon_is_signed_as_it_is_sent() {
        let escaped = example(Method::Get, "/env%3A/dev/k", &[], EMPTY_SHA256);
        let bare = example(Method::Get, "/env:/dev/k", &[], EMPTY_SHA256);
        assert_ne!(escaped, bare);
    }
}
