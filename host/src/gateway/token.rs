//! The secret that clients of a gateway show.
//!
//! Without it every process on the machine could read the states, and a comparison that stops at the first
//! wrong byte would tell the secret to whoever measures.

use std::{fmt, io, path::Path};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;
use zeroize::Zeroizing;

/// Characters below which a token from a file is refused: it could be guessed.
const SHORTEST: usize = 16;

/// What a client must show. `Debug` prints nothing of it.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// 256 random bits, base64url.
    pub fn generate() -> Self {
        // Lock ids come from the same source. Three of them carry 366 random bits of the system; hashing
        // folds them into 256 without their fixed bits.
        let mut hash = Sha256::new();
        for _ in 0..3 {
            hash.update(Uuid::new_v4());
        }
        Self(Zeroizing::new(
            BASE64_URL_SAFE_NO_PAD.encode(hash.finalize()),
        ))
    }

    /// The token that a file holds, apart from white space around it.
    ///
    /// # Errors
    /// When the file cannot be read, or holds fewer than 16 or other than visible ASCII characters.
    pub fn from_file(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let explain = |kind, reason: &dyn fmt::Display| {
            io::Error::new(
                kind,
                format!("cannot take a token from {}: {reason}", path.display()),
            )
        };
        let text = std::fs::read_to_string(path)
            .map(Zeroizing::new)
            .map_err(|error| explain(error.kind(), &error))?;
        let token = text.trim();
        if token.len() < SHORTEST || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let reason =
                format!("it must be at least {SHORTEST} visible ASCII characters on one line");
            return Err(explain(io::ErrorKind::InvalidData, &reason));
        }
        Ok(Self(Zeroizing::new(token.to_owned())))
    }

    /// The secret itself, for the one who must set it on the client's side.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether these are its bytes. The time that takes does not depend on where they differ.
    pub(super) fn matches(&self, shown: &[u8]) -> bool {
        Sha256::digest(self.0.as_bytes())
            .ct_eq(&Sha256::digest(shown))
            .into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn generated_tokens_carry_256_bits_and_differ() {
        let (one, other) = (Token::generate(), Token::generate());
        assert_eq!(
            BASE64_URL_SAFE_NO_PAD.decode(one.expose()).unwrap().len(),
            32
        );
        assert_ne!(one.expose(), other.expose());
    }

    #[test]
    fn debug_shows_nothing_of_the_token() {
        let token = Token::generate();
        assert!(!format!("{token:?}").contains(token.expose()));
    }

    #[test]
    fn only_the_whole_token_matches() {
        let token = Token::generate();
        let text = token.expose().as_bytes();
        assert!(token.matches(text));
        assert!(!token.matches(&text[1..]));
        assert!(!token.matches(b""));
    }

    #[test]
    fn a_token_file_may_end_in_a_newline_but_not_be_short() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "0123456789abcdef").unwrap();
        assert_eq!(
            Token::from_file(file.path()).unwrap().expose(),
            "0123456789abcdef"
        );

        let mut short = tempfile::NamedTempFile::new().unwrap();
        writeln!(short, "secret").unwrap();
        let error = Token::from_file(short.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(!error.to_string().contains("secret"));
    }

    #[test]
    fn a_missing_token_file_is_named() {
        let error = Token::from_file("/nonexistent/token").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("/nonexistent/token"));
    }
}
