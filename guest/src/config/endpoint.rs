//! URLs of endpoints: taken apart as Terraform takes them, then held to what can be sent.
//!
//! Without the first half, a block that Terraform refuses would pass here, and the other way round.
//! Without the second, `https://s3.example@elsewhere` or a space in a host name would send signed
//! requests to a place that nobody named.

use std::net::{Ipv4Addr, Ipv6Addr};

/// An endpoint that requests can be sent to.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Endpoint {
    /// `http` or `https`.
    pub(crate) scheme: &'static str,
    /// A name in lower case, an IPv4 address, or an IPv6 address in brackets.
    pub(crate) host: String,
    /// None: the scheme's own.
    pub(crate) port: Option<u16>,
    /// Empty, or begins with a slash; ends with none.
    pub(crate) path: String,
    /// Whether the URL had a user name, query or fragment, which requests can't carry.
    pub(crate) trimmed: bool,
}

impl Endpoint {
    /// Takes a complete URL.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let parts = Parts::of(url)?;
        let scheme = match parts.scheme.to_ascii_lowercase().as_str() {
            "http" => "http",
            "https" => "https",
            _ => return Err("the scheme must be http or https".to_owned()),
        };
        let (host, port) = split_port(parts.host);
        let host = host.to_ascii_lowercase();
        if !is_host(&host) {
            return Err(
                "the host must be a name of letters, digits, dots and hyphens, \
                 or an IP address"
                    .to_owned(),
            );
        }
        let port = match port {
            "" => None,
            port => match port.parse::<u16>() {
                Ok(0) | Err(_) => return Err("the port must be between 1 and 65535".to_owned()),
                Ok(port) => Some(port),
            },
        };
        let path = parts.path.trim_end_matches('/');
        if !path.bytes().all(is_path_byte) {
            return Err("the path must have its special characters percent-encoded".to_owned());
        }
        if path.split('/').any(|part| matches!(part, "." | "..")) {
            return Err("the path must not have the parts \".\" and \"..\"".to_owned());
        }
        Ok(Self {
            scheme,
            host,
            port: port.filter(|port| *port != default_port(scheme)),
            path: path.to_owned(),
            trimmed: parts.extra,
        })
    }

    /// The host, with the port if it is not the scheme's own.
    pub(crate) fn authority(&self) -> String {
        match self.port {
            None => self.host.clone(),
            Some(port) => format!("{}:{port}", self.host),
        }
    }

    /// The whole of it as a URL.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}{}", self.scheme, self.authority(), self.path)
    }

    /// Whether the host is an address, which no bucket's name can stand in front of.
    pub(crate) fn is_address(&self) -> bool {
        self.host.starts_with('[') || self.host.parse::<Ipv4Addr>().is_ok()
    }
}

/// What Terraform thinks of a URL.
pub(super) enum Verdict {
    Complete,
    /// It lacks the scheme or the host. The URL that was probably meant.
    Incomplete(String),
    /// Terraform's words for why it is none. They hold nothing that [`redacted`] leaves out.
    Unparsable(String),
}

/// Judges a URL as Terraform does.
pub(super) fn judge(url: &str) -> Verdict {
    match Parts::of(url) {
        Err(_) => {
            let shown = redacted(url);
            let reason = match Parts::of(&shown) {
                Err(reason) => reason,
                Ok(_) => "net/url: invalid userinfo".to_owned(),
            };
            Verdict::Unparsable(format!("parse {shown:?}: {reason}"))
        }
        Ok(parts) if !parts.scheme.is_empty() && !parts.host.is_empty() => Verdict::Complete,
        Ok(_) if url.starts_with("//") => Verdict::Incomplete(format!("https:{url}")),
        Ok(_) if url.contains("://") => Verdict::Incomplete(url.to_owned()),
        Ok(_) => Verdict::Incomplete(format!("https://{url}")),
    }
}

/// A URL as it may be shown: without user name, password, query and fragment. It leaves out too
/// much rather than too little, since a password may hold any character.
pub(super) fn redacted(url: &str) -> String {
    let (scheme, rest) = match url.find("//") {
        Some(place) => url.split_at(place + 2),
        None => ("", url),
    };
    // An `@` in front of the `//` belongs to something that is no scheme.
    let scheme = scheme.rsplit('@').next().unwrap_or_default();
    let rest = rest.rsplit('@').next().unwrap_or_default();
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    format!("{scheme}{}", &rest[..end])
}

/// A URL in the pieces that Go's `net/url` makes of it.
struct Parts<'a> {
    scheme: &'a str,
    host: &'a str,
    path: &'a str,
    extra: bool,
}

impl<'a> Parts<'a> {
    /// Fails with the messages of Go's `net/url`, which Terraform shows.
    fn of(url: &'a str) -> Result<Self, String> {
        if url.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
            return Err("net/url: invalid control character in URL".to_owned());
        }
        let end = url.find(['?', '#']).unwrap_or(url.len());
        let extra = end < url.len();
        let (scheme, rest) = split_scheme(&url[..end])?;
        let Some(rest) = rest.strip_prefix("//") else {
            let first = rest.split('/').next().unwrap_or_default();
            if scheme.is_empty() && first.contains(':') {
                return Err("first path segment in URL cannot contain colon".to_owned());
            }
            return Ok(Self {
                scheme,
                host: "",
                path: rest,
                extra,
            });
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user, host) = match authority.rsplit_once('@') {
            None => (None, authority),
            Some((user, host)) => (Some(user), host),
        };
        if user.is_some_and(|user| !user.bytes().all(is_user_byte)) {
            return Err("net/url: invalid userinfo".to_owned());
        }
        check_host(host)?;
        check_escapes(path)?;
        Ok(Self {
            scheme,
            host,
            path,
            extra: extra || user.is_some(),
        })
    }
}

fn split_scheme(url: &str) -> Result<(&str, &str), String> {
    for (place, byte) in url.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if place > 0 => {}
            b':' if place == 0 => return Err("missing protocol scheme".to_owned()),
            b':' => return Ok((&url[..place], &url[place + 1..])),
            _ => break,
        }
    }
    Ok(("", url))
}

fn check_host(host: &str) -> Result<(), String> {
    if host.starts_with('[') && !host.contains(']') {
        return Err("missing ']' in host".to_owned());
    }
    let (name, _) = split_port(host);
    let port = &host[name.len()..];
    let is_port = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    if !is_port {
        return Err(format!("invalid port {port:?} after host"));
    }
    if let Some(byte) = name.chars().find(|it| " \\^`{|}\"".contains(*it)) {
        let shown = byte.to_string();
        return Err(format!("invalid character {shown:?} in host name"));
    }
    check_escapes(name)
}

fn check_escapes(text: &str) -> Result<(), String> {
    for (place, _) in text.match_indices('%') {
        let escape = text.get(place..place + 3).unwrap_or(&text[place..]);
        if escape.len() < 3 || !escape[1..].bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("invalid URL escape {escape:?}"));
        }
    }
    Ok(())
}

/// Host and port; the brackets of an IPv6 address stay with the host.
fn split_port(host: &str) -> (&str, &str) {
    let name = host.rfind(']').map_or(0, |place| place + 1);
    match host[name..].find(':') {
        None => (host, ""),
        Some(place) => (&host[..name + place], &host[name + place + 1..]),
    }
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']');
        return address.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    let labels = host.strip_suffix('.').unwrap_or(host);
    host.len() <= 253
        && labels.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
}

/// Characters of a path in RFC 3986.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&byte)
}

/// Characters of a user name and password in RFC 3986, and the `@` that Go allows.
fn is_user_byte(byte: u8) -> bool {
    byte != b'/' && is_path_byte(byte)
}

fn default_port(scheme: &str) -> u16 {
    if scheme == "http" { 80 } else { 443 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every text of up to four of these pieces, and the same behind `http://a`.
    fn texts() -> Vec<String> {
        let pieces = [
            "http:", "//", "/", ":", "@", "?", "#", "[", "::1]", "%2", "é", "a.", "80",
        ];
        let mut texts = vec![String::new()];
        let mut first = 0;
        for _ in 0..4 {
            let end = texts.len();
            for text in first..end {
                for piece in pieces {
                    texts.push(format!("{}{piece}", texts[text]));
                }
            }
            first = end;
        }
        let complete = texts.iter().map(|text| format!("http://a{text}"));
        let complete: Vec<_> = complete.collect();
        texts.extend(complete);
        texts
    }

    #[test]
    fn no_text_makes_the_parser_panic_and_what_it_takes_it_takes_again() {
        let mut taken = 0;
        for text in texts() {
            judge(&text);
            redacted(&text);
            let Ok(endpoint) = Endpoint::parse(&text) else {
                continue;
            };
            taken += 1;
            let url = endpoint.url();
            assert!(
                !url.contains(['@', '?', '#']) || endpoint.path.contains('@'),
                "{text}: {url}"
            );
            let again = Endpoint::parse(&url);
            let trimmed = false;
            assert_eq!(
                again,
                Ok(Endpoint {
                    trimmed,
                    ..endpoint
                }),
                "{text}"
            );
        }
        assert!(taken > 1000, "{taken}");
    }

    #[test]
    fn a_url_is_shown_without_all_that_may_be_secret() {
        for (url, shown) in [
            ("https://h:1/p", "https://h:1/p"),
            ("https://user:word@h/p", "https://h/p"),
            ("https://user:wo/rd@h/p", "https://h/p"),
            ("https://h/p?signature=x#y", "https://h/p"),
            ("user:word@h", "h"),
            ("", ""),
        ] {
            assert_eq!(redacted(url), shown);
        }
    }

    #[test]
    fn an_address_is_told_from_a_name() {
        for (url, is_address) in [
            ("http://127.0.0.1", true),
            ("http://[::1]:9000", true),
            ("http://localhost", false),
            ("http://10.0.0.1.example", false),
        ] {
            assert_eq!(
                Endpoint::parse(url).unwrap().is_address(),
                is_address,
                "{url}"
            );
        }
    }
}
