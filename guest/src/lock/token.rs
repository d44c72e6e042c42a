//! The token of a lock: all that is needed to check and to release it, so that any instance can.
//!
//! It names the state: a token of one workspace is worth nothing in another. Each of its texts comes behind its length,
//! for a mark can be anything that somebody put into a table.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Token {
    /// When it was taken by whoever has the token; milliseconds since 1970.
    pub(super) taken: Option<u64>,
    /// Places and the marks of their records.
    pub(super) marks: Vec<(String, String)>,
}

impl Token {
    pub(super) fn add(&mut self, place: &str, mark: Option<String>) {
        self.marks.extend(mark.map(|mark| (place.to_owned(), mark)));
    }

    /// The mark of the record in this place, if it is known.
    pub(super) fn mark(&self, place: &str) -> Option<&str> {
        let (_, mark) = self.marks.iter().find(|(name, _)| name == place)?;
        Some(mark)
    }

    /// `path`: of the state.
    pub(super) fn encode(&self, path: &str) -> String {
        let mut text = String::new();
        let mut push = |part: &str| text.push_str(&format!("{}:{part}", part.len()));
        push(path);
        let taken = self.taken.map(|taken| taken.to_string());
        push(&taken.unwrap_or_default());
        for (place, mark) in &self.marks {
            push(place);
            push(mark);
        }
        BASE64.encode(text)
    }

    /// None: it is no token, or not one of the state with this path.
    pub(super) fn decode(token: &str, path: &str) -> Option<Self> {
        let text = String::from_utf8(BASE64.decode(token).ok()?).ok()?;
        let mut rest = text.as_str();
        if part(&mut rest)? != path {
            return None;
        }
        let mut token = Self {
            taken: match part(&mut rest)? {
                "" => None,
                taken => Some(taken.parse().ok()?),
            },
            marks: Vec::new(),
        };
        while !rest.is_empty() {
            let place = part(&mut rest)?.to_owned();
            token.marks.push((place, part(&mut rest)?.to_owned()));
        }
        Some(token)
    }
}

fn part<'t>(rest: &mut &'t str) -> Option<&'t str> {
    let (length, after) = rest.split_once(':')?;
    let (part, after) = after.split_at_checked(length.parse().ok()?)?;
    *rest = after;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_whatever_its_marks_hold() {
        let mut token = Token {
            taken: Some(7),
            marks: Vec::new(),
        };
        token.add("s3", Some("\"a:b\"".to_owned()));
        token.add("dynamodb", Some("={\n3:é}".to_owned()));
        token.add("third", None);
        let text = token.encode("b/k:1");
        assert_eq!(Token::decode(&text, "b/k:1").unwrap(), token);
        assert_eq!(token.mark("s3"), Some("\"a:b\""));
        assert_eq!(token.mark("third"), None);
        assert!(Token::decode(&text, "b/k").is_none());
    }

    #[test]
    fn what_is_no_token_is_none() {
        for text in [
            "",
            "1:a",
            "1:a0:2:xx",
            "1:a1:x",
            "9:a0:",
            "1:a0:-1:x",
            "x:a0:",
        ] {
            let token = BASE64.encode(text);
            assert!(Token::decode(&token, "a").is_none(), "{text}");
        }
        let cut = BASE64.encode("1:a0:2:é");
        assert!(Token::decode(&cut, "a").is_none());
        assert!(Token::decode("!", "a").is_none());
        assert!(Token::decode(&BASE64.encode("1:a0:"), "a").is_some());
    }
}
