//! The forms in which a secret can slip out. A key that is searched for as it is written is not seen in a dump of a
//! header, which is base64, nor in a body, which is URL-encoded.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

/// What the forms are called. Base64 has three of each kind: what a byte looks like depends on how many stand before it.
pub const FORMS: [&str; 12] = [
    "base64",
    "base64 after 1 byte",
    "base64 after 2 bytes",
    "base64 for URLs",
    "base64 for URLs after 1 byte",
    "base64 for URLs after 2 bytes",
    "hex",
    "hex in capitals",
    "list of bytes",
    "plain",
    "URL-encoded",
    "URL-encoded in small letters",
];

/// What to search for: each form of a secret, in the order of [`FORMS`], without the characters at both ends that
/// depend on what stands beside it.
pub(crate) fn patterns(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = Vec::with_capacity(FORMS.len());
    for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
        for before in 0..3 {
            let text = engine.encode([&vec![0; before], secret].concat());
            // Six bits a character: those that hold nothing but the secret's.
            let whole = (before * 8).div_ceil(6)..(before + secret.len()) * 8 / 6;
            forms.push(text[whole].as_bytes().to_vec());
        }
    }
    forms.push(hex(secret).into_bytes());
    forms.push(hex(secret).to_uppercase().into_bytes());
    forms.push(list(secret).into_bytes());
    forms.push(secret.to_vec());
    let url_encoded = percent_encode(secret, NON_ALPHANUMERIC).to_string();
    forms.push(small(&url_encoded).into_bytes());
    forms.insert(FORMS.len() - 2, url_encoded.into_bytes());
    forms
}

/// A secret in every form, each with other text around it, as programs write them: what `patterns` must find. It is
/// made the other way round, from the whole text, so that the two do not share a mistake.
pub fn encoded(secret: &[u8]) -> Vec<String> {
    let within = |before: &str| [before.as_bytes(), secret, b" and so on"].concat();
    let mut forms = Vec::with_capacity(FORMS.len());
    for engine in [&STANDARD, &URL_SAFE] {
        forms.extend(["abc", "abcd", "abcde"].map(|before| engine.encode(within(before))));
    }
    forms.push(hex(&within("ab")));
    forms.push(hex(&within("ab")).to_uppercase());
    forms.push(format!("{:?}", within("ab")));
    forms.push(String::from_utf8_lossy(&within("ab")).into_owned());
    let url_encoded = percent_encode(&within("a/"), NON_ALPHANUMERIC).to_string();
    forms.push(url_encoded.clone());
    forms.push(small(&url_encoded));
    forms
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As `{:?}` shows a `Vec<u8>`, without the brackets.
fn list(bytes: &[u8]) -> String {
    let shown = format!("{bytes:?}");
    shown.trim_matches(['[', ']']).to_owned()
}

/// URL-encoded text with the digits of its escapes in small letters.
fn small(text: &str) -> String {
    let mut escaped = 0;
    text.chars()
        .map(|c| {
            escaped = match c {
                '%' => 2,
                _ => i32::max(escaped - 1, -1),
            };
            if c != '%' && escaped >= 0 {
                c.to_ascii_lowercase()
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_found_in_text_that_has_it() {
        for secret in [
            "cofferdam+canary/x=",
            "p%\u{e4}ssw\u{f6}rd KEY",
            "short+/8",
            "nine+/+nine",
        ] {
            let patterns = patterns(secret.as_bytes());
            let texts = encoded(secret.as_bytes());
            assert_eq!((patterns.len(), texts.len()), (FORMS.len(), FORMS.len()));
            for ((form, pattern), text) in FORMS.iter().zip(patterns).zip(texts) {
                let pattern = String::from_utf8_lossy(&pattern).into_owned();
                assert!(text.contains(&pattern), "{form}: {pattern} in {text}");
                assert!(pattern.len() >= 8, "{form}: {pattern}");
            }
        }
    }

    #[test]
    fn only_the_digits_of_escapes_become_small() {
        assert_eq!(small("AB%2FCD%2B%3Dx"), "AB%2fCD%2b%3dx");
    }
}
