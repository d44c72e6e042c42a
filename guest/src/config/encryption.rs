//! Server-side encryption: which kind the block and the environment order, with which key.
//!
//! Without these rules a mistyped key shows up as a refusal of S3's in the middle of an apply; or a state is stored
//! under a key that nobody has written down.

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{DecodeError, alphabet};
use md5::{Digest, Md5};
use zeroize::Zeroizing;

use crate::secret::Secret;

use super::block::Block;
use super::settings::{CustomerKey, Encryption, Sourced, is_header_text};
use super::{Diagnostic, Environment};

/// 32 bytes in base64.
const CUSTOMER_KEY_LENGTH: usize = 44;

/// As lenient as Go about the bits behind the last byte: a key that Terraform takes is the same key here.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// Refuses a `kms_key_id` that names no key of KMS. An empty one counts as absent.
pub(super) fn check_kms_key(block: &Block, diagnostics: &mut Vec<Diagnostic>) {
    let Some(given) = kms_key(block) else { return };
    // A text with fewer parts is no ARN for Terraform either.
    let is_arn = given.starts_with("arn:") && given.split(':').count() >= 6;
    let (kind, is_valid) = if is_arn {
        ("ARN", is_kms_arn(given))
    } else {
        ("ID", is_kms_key(given) || is_kms_alias(given))
    };
    if !is_valid {
        let summary = format!("Invalid KMS Key {kind}");
        let detail = format!("Value must be a valid KMS Key {kind}, got {given:?}");
        diagnostics.push(Diagnostic::error(&summary, detail).at("kms_key_id"));
    }
}

/// What is ordered, and what there is to say about arguments that order nothing. All of them are checked, also those
/// without effect, as in Terraform.
pub(super) fn find(
    block: &Block,
    environment: &dyn Environment,
    diagnostics: &mut Vec<Diagnostic>,
) -> (Encryption, Option<&'static str>) {
    let kms_key = kms_key(block);
    let variable = Sourced::from_environment("sse_customer_key", environment);
    if kms_key.is_some() && variable.is_some() {
        let detail = "Only one of \"kms_key_id\" and the environment variable \
                      \"AWS_SSE_CUSTOMER_KEY\" can be set.\n\nThe \"kms_key_id\" is used for \
                      encryption with KMS-Managed Keys (SSE-KMS)\nwhile \"AWS_SSE_CUSTOMER_KEY\" \
                      is used for encryption with customer-managed keys (SSE-C).\nPlease choose \
                      one or the other.";
        let summary = "Invalid encryption configuration";
        diagnostics.push(Diagnostic::error(summary, detail));
    }
    let customer_key = match block.text("sse_customer_key") {
        Some(text) => {
            let refuse = |it: Diagnostic| it.at("sse_customer_key");
            let name = "sse_customer_key";
            customer_key(text, name, name, refuse, diagnostics)
        }
        None => variable.and_then(|variable| {
            let name = "AWS_SSE_CUSTOMER_KEY";
            let subject = format!("The {}", variable.described());
            let text = Zeroizing::new(variable.value);
            customer_key(&text, name, &subject, |it| it, diagnostics)
        }),
    };
    match (block.flag("encrypt"), kms_key, customer_key) {
        (true, Some(id), _) => (Encryption::Kms(id.to_owned()), None),
        (true, None, Some(key)) => (Encryption::CustomerKey(key), None),
        (true, None, None) => (Encryption::Aes256, None),
        (false, Some(_), _) => {
            let note = "kms_key_id has no effect without encrypt = true";
            (Encryption::None, Some(note))
        }
        (false, None, Some(_)) => {
            let note = "sse_customer_key has no effect without encrypt = true";
            (Encryption::None, Some(note))
        }
        (false, None, None) => (Encryption::None, None),
    }
}

fn kms_key(block: &Block) -> Option<&str> {
    block.text("kms_key_id").filter(|text| !text.is_empty())
}

/// A customer's key out of its base64. No message holds any of it.
fn customer_key(
    text: &str,
    name: &str,
    subject: &str,
    at: impl Fn(Diagnostic) -> Diagnostic,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<CustomerKey> {
    let mut refuse = |requirement: &str| {
        let summary = format!("Invalid {name} value");
        let detail = format!("{subject} must be {requirement}");
        diagnostics.push(at(Diagnostic::error(&summary, detail)));
        None
    };
    if text.len() != CUSTOMER_KEY_LENGTH {
        return refuse(&format!("{CUSTOMER_KEY_LENGTH} characters in length"));
    }
    let key = match BASE64.decode(text) {
        Ok(key) => Zeroizing::new(key),
        Err(error) => {
            let place = match error {
                DecodeError::InvalidByte(place, _) | DecodeError::InvalidLastSymbol(place, _) => {
                    place
                }
                DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => text.len() - 1,
            };
            return refuse(&format!(
                "base64 encoded: illegal base64 data at input byte {place}"
            ));
        }
    };
    if key.len() != 32 {
        return refuse("the base64 of 32 bytes");
    }
    Some(CustomerKey {
        base64: Secret::new(BASE64.encode(&*key)),
        md5: Secret::new(BASE64.encode(Md5::digest(&*key))),
    })
}

fn is_kms_arn(arn: &str) -> bool {
    let resource = arn.splitn(6, ':').nth(5).unwrap_or_default();
    let is_key = match resource.strip_prefix("key/") {
        Some(id) => is_kms_key(id),
        None => is_kms_alias(resource),
    };
    is_key && is_header_text(arn)
}

/// A UUID, or the id of a key that several regions share.
fn is_kms_key(id: &str) -> bool {
    let is_hex = |text: &str, length: usize| {
        text.len() == length
            && text
                .bytes()
                .all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
    };
    if let Some(id) = id.strip_prefix("mrk-") {
        return is_hex(id, 32);
    }
    let groups: Vec<_> = id.split('-').collect();
    let [first, second, version, variant, node] = groups[..] else {
        return false;
    };
    is_hex(first, 8)
        && is_hex(second, 4)
        && is_hex(version, 4)
        && version.starts_with(['1', '2', '3', '4', '5'])
        && is_hex(variant, 4)
        && variant.starts_with(['8', '9', 'a', 'b'])
        && is_hex(node, 12)
}

fn is_kms_alias(name: &str) -> bool {
    name.strip_prefix("alias/").is_some_and(|name| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/_-".contains(&byte);
        !name.is_empty() && name.bytes().all(allowed)
    })
}
