//! Checks who sent a request to a table, or to STS.
//!
//! Without this module a client that signs wrongly would find out only at AWS. Keys and signatures are
//! `aws-sigv4`'s; what is signed is put together here, from the request as it arrived.

use http::HeaderMap;
use http::request::Parts;
use jiff::{SignedDuration, Timestamp};
use s3s::crypto::{Checksum as _, Sha256};
use subtle::ConstantTimeEq as _;

use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};

use crate::checksum::hex;

use super::keyring::{Keyring, Signer, TokenProblem};
use super::target::signing_time;

/// How far a signature's time may be off; the number of AWS's services other than S3.
const LARGEST_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// What is wrong with a signature. Each service has its own names for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// The credentials have ended.
    Expired,
    /// The header is none of Signature Version 4.
    Incomplete,
    /// Why it does not hold.
    Invalid(String),
    /// There is none.
    Missing,
    /// No such key, or not with this session token.
    UnknownKey,
}

/// Who signed a request; refuses one that is not signed by a known key, for this service and region, at this time, as
/// it is.
pub(super) fn check(
    head: &Parts,
    body: &[u8],
    keys: &Keyring,
    service: &str,
    region: &str,
    now: Timestamp,
) -> Result<Signer, Problem> {
    let headers = &head.headers;
    let Some(authorization) = headers.get(http::header::AUTHORIZATION) else {
        return Err(Problem::Missing);
    };
    let authorization = authorization.to_str().ok().and_then(Authorization::of);
    let authorization = authorization.ok_or(Problem::Incomplete)?;
    let token = headers.get("x-amz-security-token");
    let token = token.map(http::HeaderValue::as_bytes);
    let signer = keys.signer(authorization.key_id, token, now);
    let signer = signer.map_err(|problem| match problem {
        TokenProblem::Expired => Problem::Expired,
        TokenProblem::NoToken | TokenProblem::UnknownKey | TokenProblem::WrongToken => {
            Problem::UnknownKey
        }
    })?;
    if authorization.region != region {
        return Err(invalid(format!(
            "Credential should be scoped to a valid region, not '{}': this is '{region}'.",
            authorization.region
        )));
    }
    if authorization.service != service {
        return Err(invalid(format!(
            "Credential should be scoped to correct service: '{service}'."
        )));
    }
    let signed = signing_time(headers)
        .ok_or_else(|| invalid("X-Amz-Date must be a time as in 20261123T012443Z.".to_owned()))?;
    let date = headers.get("x-amz-date").and_then(|it| it.to_str().ok());
    if date.and_then(|date| date.split('T').next()) != Some(authorization.date) {
        return Err(invalid(
            "Date in Credential scope does not match the one in X-Amz-Date.".to_owned(),
        ));
    }
    if now.duration_since(signed) > LARGEST_SKEW {
        return Err(invalid(format!(
            "Signature expired: {signed} is now earlier than {now} - 5 min."
        )));
    }
    if signed.duration_since(now) > LARGEST_SKEW {
        return Err(invalid(format!(
            "Signature not yet current: {signed} is still later than {now} + 5 min."
        )));
    }
    let request = canonical_request(head, body, &authorization)?;
    let scope = format!("{}/{region}/{service}/aws4_request", authorization.date);
    let text = format!(
        "AWS4-HMAC-SHA256\n{}\n{scope}\n{}",
        date.unwrap_or_default(),
        hex(&Sha256::checksum(request.as_bytes()))
    );
    let signing_key = generate_signing_key(signer.secret.expose(), signed.into(), region, service);
    let expected = calculate_signature(signing_key, text.as_bytes());
    if bool::from(
        expected
            .as_bytes()
            .ct_eq(authorization.signature.as_bytes()),
    ) {
        return Ok(signer);
    }
    Err(invalid(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
         Access Key and signing method. Consult the service documentation for details."
            .to_owned(),
    ))
}

/// The header `Authorization`, taken apart.
struct Authorization<'a> {
    key_id: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    signed_headers: Vec<&'a str>,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let fields = text.strip_prefix("AWS4-HMAC-SHA256 ")?;
        let field = |name: &str| {
            fields
                .split(',')
                .find_map(|field| field.trim().strip_prefix(name))
        };
        let scope: Vec<&str> = field("Credential=")?.split('/').collect();
        let [key_id, date, region, service, "aws4_request"] = scope[..] else {
            return None;
        };
        Some(Self {
            key_id,
            date,
            region,
            service,
            signed_headers: field("SignedHeaders=")?.split(';').collect(),
            signature: field("Signature=")?,
        })
    }
}

fn canonical_request(
    head: &Parts,
    body: &[u8],
    authorization: &Authorization<'_>,
) -> Result<String, Problem> {
    let names = &authorization.signed_headers;
    let must_be_signed = |name: &&str| *name == "host" || name.starts_with("x-amz-");
    let present = head.headers.keys().map(http::HeaderName::as_str);
    if let Some(name) = present
        .filter(must_be_signed)
        .chain(["host"])
        .find(|name| !names.contains(name))
    {
        return Err(invalid(format!(
            "'{name}' must be a 'SignedHeader' in the AWS Authorization."
        )));
    }
    let headers: String = names
        .iter()
        .map(|name| format!("{name}:{}\n", header_values(&head.headers, name)))
        .collect();
    Ok(format!(
        "{}\n{}\n{}\n{headers}\n{}\n{}",
        head.method,
        head.uri.path(),
        head.uri.query().unwrap_or_default(),
        names.join(";"),
        hex(&Sha256::checksum(body))
    ))
}

/// All values of a header, each with its runs of blanks made one.
fn header_values(headers: &HeaderMap, name: &str) -> String {
    let values = headers.get_all(name).iter();
    let values = values.map(|value| {
        let text = String::from_utf8_lossy(value.as_bytes());
        text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
    });
    values.collect::<Vec<_>>().join(",")
}

fn invalid(message: String) -> Problem {
    Problem::Invalid(message)
}

#[cfg(test)]
mod tests {
    use http::Request;
    use s3s::auth::SecretKey;

    use super::super::access::OwnKey;
    use super::*;

    /// Signs a request, whose canonical form is spelled out here, and changes it on its way.
    fn check_at(
        time: &str,
        body: &str,
        change: impl FnOnce(&mut Parts),
    ) -> Result<Signer, Problem> {
        let date: Timestamp = "2026-11-23T01:24:43Z".parse().unwrap();
        let request = "POST\n/\n\nhost:127.0.0.1:6004\nx-amz-date:20261123T012443Z\nx-amz-target:\
                       DynamoDB_20120810.ListTables\n\nhost;x-amz-date;x-amz-target\n"
            .to_owned()
            + &hex(&Sha256::checksum(b"{}"));
        let text = format!(
            "AWS4-HMAC-SHA256\n20261123T012443Z\n20261123/us-east-1/dynamodb/aws4_request\n{}",
            hex(&Sha256::checksum(request.as_bytes()))
        );
        let signing_key = generate_signing_key("SECRET", date.into(), "us-east-1", "dynamodb");
        let signature = calculate_signature(signing_key, text.as_bytes());
        let (mut head, ()) = Request::post("/")
            .header("host", "127.0.0.1:6004")
            .header("x-amz-date", "20261123T012443Z")
            .header("x-amz-target", "DynamoDB_20120810.ListTables")
            .header(
                "authorization",
                format!(
                    "AWS4-HMAC-SHA256 Credential=ID/20261123/us-east-1/dynamodb/aws4_request, \
                     SignedHeaders=host;x-amz-date;x-amz-target, Signature={signature}"
                ),
            )
            .body(())
            .unwrap()
            .into_parts();
        change(&mut head);
        let key = OwnKey {
            id: "ID".to_owned(),
            secret: SecretKey::from("SECRET"),
        };
        check(
            &head,
            body.as_bytes(),
            &Keyring::new(key),
            "dynamodb",
            "us-east-1",
            time.parse().unwrap(),
        )
    }

    #[test]
    fn a_signature_holds_for_the_request_it_was_made_for_and_for_five_minutes() {
        let refused = |time: &str, body: &str, change: fn(&mut Parts)| {
            check_at(time, body, change)
                .err()
                .map(|problem| match problem {
                    Problem::Invalid(message) => message,
                    other => format!("{other:?}"),
                })
        };
        let now = "2026-11-23T01:25:00Z";
        assert_eq!(refused(now, "{}", |_| {}), None);
        assert_eq!(refused("2026-11-23T01:29:43Z", "{}", |_| {}), None);
        let late = refused("2026-11-23T01:29:44Z", "{}", |_| {}).unwrap();
        assert!(late.starts_with("Signature expired"), "{late}");
        let early = refused("2026-11-23T01:19:42Z", "{}", |_| {}).unwrap();
        assert!(early.starts_with("Signature not yet current"), "{early}");
        let other_body = refused(now, "{ }", |_| {}).unwrap();
        assert!(other_body.contains("does not match"), "{other_body}");
        let other_target = refused(now, "{}", |head| {
            let target = "DynamoDB_20120810.DeleteTable".parse().unwrap();
            head.headers.insert("x-amz-target", target);
        });
        assert!(other_target.unwrap().contains("does not match"));
        let unsigned_header = refused(now, "{}", |head| {
            head.headers.insert("x-amz-more", "1".parse().unwrap());
        });
        assert!(unsigned_header.unwrap().contains("'x-amz-more'"));
    }
}
