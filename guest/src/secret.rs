//! Text that must not show up anywhere.
//!
//! Without this type a secret key reaches a log or an error message with the first `{:?}` of a record
//! that holds one.

use std::fmt;

use zeroize::Zeroizing;

/// A secret key or a session token. `Debug` hides it, dropping it wipes it, and it is not `Display`.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over, without a copy.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself: for signing and for the header that carries a session token, nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_neither_the_text_nor_its_length() {
        let short = Secret::new("canary".to_owned());
        let long = Secret::new("canary".repeat(9));
        assert_eq!(format!("{short:?}"), "Secret(…)");
        assert_eq!(format!("{short:#?}"), format!("{long:?}"));
        assert_eq!(short.expose(), "canary");
    }
}
