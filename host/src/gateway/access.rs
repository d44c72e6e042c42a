//! Who may come in: host name, origin, token; judged before a byte of a body is read.
//!
//! Without the first two a web page could reach a gateway on loopback through the browser of whoever
//! visits it: by a name of its own that it lets point to 127.0.0.1, or by a form that posts across sites.

use std::{collections::BTreeSet, net::IpAddr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{
    HeaderMap, StatusCode,
    header::{AUTHORIZATION, HOST, ORIGIN},
    request::Parts,
    uri::Authority,
};
use zeroize::Zeroizing;

use super::{answer::Answer, token::Token};

/// The conditions on which a request is looked at.
pub(super) struct Access {
    token: Option<Token>,
    address: IpAddr,
    names: BTreeSet<String>,
}

impl Access {
    /// `names` are in lower case and without ports.
    pub(super) fn new(token: Option<Token>, address: IpAddr, names: BTreeSet<String>) -> Self {
        Self {
            token,
            address,
            names,
        }
    }

    /// Lets a request in, or says why not.
    pub(super) fn admit(&self, request: &Parts) -> Result<(), Answer> {
        // A URL that names a host of its own goes before the header (RFC 9112, 3.2.2): both are judged.
        let header = request
            .headers
            .get(HOST)
            .and_then(|host| host.to_str().ok()?.parse().ok());
        let known = |authority: &Authority| self.knows(authority.host());
        if !header.as_ref().is_some_and(known) || !request.uri.authority().is_none_or(known) {
            return Err(Answer::text(
                StatusCode::MISDIRECTED_REQUEST,
                "the gateway does not answer under this host name: use the address it printed, or allow the name when starting it",
            ));
        }
        if request.headers.contains_key(ORIGIN) {
            return Err(Answer::text(
                StatusCode::FORBIDDEN,
                "the gateway does not serve web pages",
            ));
        }
        match &self.token {
            Some(token) if !shown(&request.headers).is_some_and(|shown| token.matches(&shown)) => {
                Err(Answer::text(
                    StatusCode::UNAUTHORIZED,
                    "the gateway needs its token: set it as TF_HTTP_PASSWORD, with any TF_HTTP_USERNAME",
                ))
            }
            _ => Ok(()),
        }
    }

    fn knows(&self, host: &str) -> bool {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        match bare.parse::<IpAddr>() {
            Ok(ip) => {
                ip.to_canonical().is_loopback() || ip == self.address || self.names.contains(bare)
            }
            Err(_) => {
                let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
                name == "localhost" || self.names.contains(&name)
            }
        }
    }
}

/// The token that a request shows: a bearer token, or the password of Basic, which is all that Terraform
/// can send.
fn shown(headers: &HeaderMap) -> Option<Zeroizing<Vec<u8>>> {
    let (scheme, value) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let value = value.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Zeroizing::new(value.as_bytes().to_vec()));
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let pair = Zeroizing::new(BASE64_STANDARD.decode(value).ok()?);
        let colon = pair.iter().position(|byte| *byte == b':')?;
        return Some(Zeroizing::new(pair[colon + 1..].to_vec()));
    }
    None
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn status(access: &Access, request: http::request::Builder) -> u16 {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        access
            .admit(&parts)
            .map_or_else(|answer| answer.status().as_u16(), |()| 200)
    }

    fn open() -> Access {
        Access::new(
            None,
            "192.0.2.7".parse().unwrap(),
            BTreeSet::from(["state.example".to_owned()]),
        )
    }

    #[test]
    fn only_loopback_names_the_own_address_and_allowed_names_are_hosts() {
        let access = open();
        for host in [
            "localhost",
            "LOCALHOST:8089",
            "localhost.",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:8089",
            "192.0.2.7:8089",
            "state.example",
            "State.Example:443",
        ] {
            assert_eq!(
                status(&access, Request::get("/").header(HOST, host)),
                200,
                "{host}"
            );
        }
        for host in [
            "evil.example",
            "192.0.2.8",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            "0.0.0.0",
            "a@b@c",
            "[::2]",
        ] {
            assert_eq!(
                status(&access, Request::get("/").header(HOST, host)),
                421,
                "{host}"
            );
        }
        assert_eq!(status(&access, Request::get("/")), 421, "no host at all");
    }

    #[test]
    fn a_host_in_the_url_is_judged_too() {
        let request = Request::get("http://evil.example/").header(HOST, "localhost");
        assert_eq!(status(&open(), request), 421);
    }

    #[test]
    fn pages_of_other_sites_are_turned_away() {
        let request = Request::post("/")
            .header(HOST, "localhost")
            .header(ORIGIN, "https://evil.example");
        assert_eq!(status(&open(), request), 403);
    }

    #[test]
    fn the_token_is_taken_as_bearer_and_as_basic_password_under_any_user() {
        let token = Token::generate();
        let access = Access::new(
            Some(token.clone()),
            "127.0.0.1".parse().unwrap(),
            BTreeSet::new(),
        );
        let ask = |authorization: String| {
            let request = Request::get("/").header(HOST, "localhost");
            status(&access, request.header(AUTHORIZATION, authorization))
        };
        let basic = |pair: String| format!("Basic {}", BASE64_STANDARD.encode(pair));
        let secret = token.expose();

        assert_eq!(ask(format!("Bearer {secret}")), 200);
        assert_eq!(ask(format!("bearer {secret}")), 200);
        assert_eq!(ask(basic(format!("anybody:{secret}"))), 200);
        assert_eq!(ask(basic(format!(":{secret}"))), 200);

        assert_eq!(ask(basic(format!("{secret}:"))), 401);
        assert_eq!(ask(basic(secret.to_owned())), 401);
        assert_eq!(ask(format!("Basic {secret}")), 401);
        assert_eq!(ask(format!("Bearer {secret}x")), 401);
        assert_eq!(ask("Bearer".to_owned()), 401);
        assert_eq!(
            status(&access, Request::get("/").header(HOST, "localhost")),
            401
        );
    }
}
