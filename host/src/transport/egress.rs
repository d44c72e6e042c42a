//! Which requests may leave the sandbox. One function decides, [`Egress::check`]; whatever connects asks it.
//!
//! Without it a component could send credentials or states to any host that this machine reaches.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::{Method, Uri};

/// One kind of request that may leave: `METHODS scheme://host[:port][/path-prefix]`.
///
/// `METHODS` is a list such as `GET,PUT`; left out it means any. The host is compared without regard to
/// case, the port must be the same, and the path must begin with the prefix, byte for byte, without `.` or
/// `..` parts.
///
/// ```
/// let rule: cofferdam::EgressRule = "GET,PUT https://s3.eu-west-1.amazonaws.com/tfstate/app/".parse()?;
/// assert_eq!(rule.to_string(), "GET,PUT https://s3.eu-west-1.amazonaws.com/tfstate/app/");
/// # Ok::<(), cofferdam::EgressRuleError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressRule {
    methods: Vec<Method>,
    scheme: String,
    host: String,
    port: u16,
    path_prefix: String,
    /// The path must be the prefix itself: a rule that the host derives from a configuration.
    exact: bool,
    /// The operator, or a person on their own machine, named the host: it may be a private address.
    private: bool,
}

/// Why a text is no [`EgressRule`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no egress rule ({reason}): write `METHODS scheme://host[:port][/path-prefix]`, such as `GET,PUT https://s3.eu-west-1.amazonaws.com/bucket/`"
)]
pub struct EgressRuleError {
    text: String,
    reason: &'static str,
}

impl FromStr for EgressRule {
    type Err = EgressRuleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |reason| EgressRuleError {
            text: text.to_owned(),
            reason,
        };
        let (methods, url) = match text.trim().split_once(' ') {
            Some((methods, url)) => (methods, url.trim()),
            None => ("", text.trim()),
        };
        let methods = methods
            .split(',')
            .filter(|name| !name.is_empty())
            .map(|name| match Method::from_str(&name.to_ascii_uppercase()) {
                Ok(
                    method @ (Method::GET
                    | Method::HEAD
                    | Method::PUT
                    | Method::POST
                    | Method::DELETE),
                ) => Ok(method),
                _ => Err(fail("unknown method")),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let uri: Uri = url.parse().map_err(|_| fail("not a URL"))?;
        if uri.query().is_some() || uri.authority().is_some_and(|it| it.as_str().contains('@')) {
            return Err(fail("a user or a query does not belong here"));
        }
        let mut rule =
            Self::new(&[], &uri).ok_or_else(|| fail("needs http or https and a host"))?;
        rule.methods = methods;
        rule.private = true;
        Ok(rule)
    }
}

impl fmt::Display for EgressRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.methods.is_empty() {
            let names: Vec<_> = self.methods.iter().map(Method::as_str).collect();
            write!(f, "{} ", names.join(","))?;
        }
        write!(f, "{}://{}", self.scheme, self.host)?;
        if Some(self.port) != default_port(&self.scheme) {
            write!(f, ":{}", self.port)?;
        }
        f.write_str(&self.path_prefix)
    }
}

impl EgressRule {
    /// A rule for the place that a URL names; `None` when it is neither http nor https or has no host.
    pub(crate) fn new(methods: &[Method], uri: &Uri) -> Option<Self> {
        let scheme = uri.scheme_str()?.to_ascii_lowercase();
        let port = uri.port_u16().or(default_port(&scheme))?;
        Some(Self {
            methods: methods.to_vec(),
            host: uri
                .host()
                .filter(|host| !host.is_empty())?
                .to_ascii_lowercase(),
            scheme,
            port,
            path_prefix: uri.path().to_owned(),
            exact: false,
            private: false,
        })
    }

    /// Narrows the rule to the one path.
    pub(crate) fn exactly(mut self, exact: bool) -> Self {
        self.exact = exact;
        self
    }

    /// Lets the rule's host be a loopback or private address.
    pub(crate) fn or_private(mut self, private: bool) -> Self {
        self.private |= private;
        self
    }

    /// Whether the rule wants TLS.
    pub(crate) fn is_https(&self) -> bool {
        self.scheme == "https"
    }

    fn names_place(&self, uri: &Uri) -> bool {
        let scheme = uri.scheme_str().unwrap_or_default();
        self.scheme.eq_ignore_ascii_case(scheme)
            && uri
                .host()
                .is_some_and(|host| self.host.eq_ignore_ascii_case(host))
            && uri.port_u16().or(default_port(&self.scheme)) == Some(self.port)
    }

    fn allows(&self, method: &Method, uri: &Uri) -> bool {
        (self.methods.is_empty() || self.methods.contains(method))
            && self.names_place(uri)
            && match self.exact {
                true => uri.path() == self.path_prefix,
                false => uri.path().starts_with(&self.path_prefix) && !has_dot_segment(uri.path()),
            }
    }
}

/// All that one store may reach.
#[derive(Clone, Debug, Default)]
pub(crate) struct Egress {
    rules: Vec<EgressRule>,
}

/// Why a request may not leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// The address is loopback, private or link-local, and no rule names it for that.
    Address,
    /// No rule covers it; this one would.
    Rule(String),
}

impl Egress {
    pub(crate) fn new(rules: Vec<EgressRule>) -> Self {
        Self { rules }
    }

    /// Decides about one request before anything is resolved or connected. The answer says whether its host may
    /// be a private address.
    pub(crate) fn check(&self, method: &Method, uri: &Uri) -> Result<bool, Denied> {
        let refused = || {
            let place = EgressRule::new(std::slice::from_ref(method), uri);
            Denied::Rule(place.map_or_else(String::new, |rule| rule.to_string()))
        };
        if uri.authority().is_none_or(|it| it.as_str().contains('@')) {
            return Err(refused());
        }
        let allowing = self.rules.iter().filter(|rule| rule.allows(method, uri));
        let Some(private) = allowing.map(|rule| rule.private).max() else {
            return Err(refused());
        };
        // A literal address never passes the resolver, so it is judged here.
        let host = uri
            .host()
            .map(|host| host.trim_start_matches('[').trim_end_matches(']'));
        match host.and_then(|host| host.parse::<IpAddr>().ok()) {
            Some(address) if !private && is_private(address) => Err(Denied::Address),
            _ => Ok(private),
        }
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// Whether a path, decoded as a server might decode it, climbs.
fn has_dot_segment(path: &str) -> bool {
    let path = path
        .to_ascii_lowercase()
        .replace("%2e", ".")
        .replace("%2f", "/")
        .replace("%5c", "/");
    path.split(['/', '\\'])
        .any(|part| part == "." || part == "..")
}

/// Loopback, private, link-local (metadata services), shared, multicast and unspecified addresses, also in
/// their IPv6 spellings (RFC 1918, 3927, 4193, 4291, 6598, 6890).
pub(super) fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || a == 0
                || (a == 100 && (64..128).contains(&b))
                || (a == 192 && b == 0 && c == 0)
                || (a == 198 && (18..20).contains(&b))
                // Azure's platform address.
                || v4.octets() == [168, 63, 129, 16]
                || a >= 240
        }
        IpAddr::V6(v6) => {
            let segments = v6.segments();
            // 64:ff9b::/96 and 2002::/16 carry an IPv4 address: judge that one.
            let embedded = match segments {
                [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
                    let [a, b] = high.to_be_bytes();
                    let [c, d] = low.to_be_bytes();
                    Some(IpAddr::from([a, b, c, d]))
                }
                // The deprecated IPv4-compatible form, ::a.b.c.d, is never a public host.
                [0, 0, 0, 0, 0, 0, ..] => return true,
                _ => None,
            };
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || (segments[0] & 0xfe00) == 0xfc00
                || (segments[0] & 0xff80) == 0xfe80
                || segments[..3] == [0x64, 0xff9b, 1]
                || embedded.is_some_and(is_private)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: &str, method: &str, uri: &str) -> Result<bool, Denied> {
        let egress = Egress::new(vec![rule.parse().unwrap()]);
        egress.check(&method.parse().unwrap(), &uri.parse().unwrap())
    }

    #[test]
    fn a_rule_covers_its_methods_and_everything_under_its_path() {
        let rule = "GET,PUT https://s3.test/bucket/app/";
        assert_eq!(
            check(rule, "PUT", "https://S3.test:443/bucket/app/state?x=1"),
            Ok(true)
        );
        for (method, uri) in [
            ("DELETE", "https://s3.test/bucket/app/state"),
            ("GET", "http://s3.test/bucket/app/state"),
            ("GET", "https://s3.test:8443/bucket/app/state"),
            ("GET", "https://s3.test.evil/bucket/app/state"),
            ("GET", "https://s3.test/bucket/other/state"),
            ("GET", "https://s3.test/bucket/app/../other"),
            ("GET", "https://s3.test/bucket/app/%2e%2E/other"),
            ("GET", "https://s3.test/bucket/app/x%2f..%2fother"),
            ("GET", "https://s3.test@evil/bucket/app/state"),
        ] {
            assert!(
                matches!(check(rule, method, uri), Err(Denied::Rule(_))),
                "{method} {uri}"
            );
        }
    }

    #[test]
    fn a_denied_request_names_the_rule_that_would_allow_it() {
        assert_eq!(
            check("https://a.test/", "GET", "https://b.test/key?list-type=2"),
            Err(Denied::Rule("GET https://b.test/key".to_owned()))
        );
    }

    #[test]
    fn private_addresses_are_judged_in_every_spelling() {
        for address in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.100.100.200",
            "192.0.0.192",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "::a9fe:a9fe",
            "ff02::1",
            "198.18.0.1",
            "168.63.129.16",
            "fec0::1",
            "64:ff9b:1::1",
            "240.0.0.1",
        ] {
            assert!(is_private(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "52.216.0.1",
            "2600:1fa0::1",
            "100.128.0.1",
            "172.32.0.1",
        ] {
            assert!(!is_private(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_literal_private_address_needs_a_rule_that_was_written_for_it() {
        let uri: Uri = "http://127.0.0.1:9000/bucket/key".parse().unwrap();
        let derived = EgressRule::new(&[], &"http://127.0.0.1:9000/".parse().unwrap()).unwrap();
        let egress = Egress::new(vec![derived.clone()]);
        assert_eq!(egress.check(&Method::GET, &uri), Err(Denied::Address));
        let egress = Egress::new(vec![derived.or_private(true)]);
        assert_eq!(egress.check(&Method::GET, &uri), Ok(true));
    }

    #[test]
    fn a_text_that_is_no_rule_says_what_to_write() {
        for text in [
            "",
            "s3.test",
            "GET",
            "ftp://s3.test/",
            "https://u:p@s3.test/",
            "https://s3.test/?a=b",
            "G T https://x/",
        ] {
            let error = text.parse::<EgressRule>().unwrap_err();
            assert!(
                error.to_string().contains("METHODS scheme://host"),
                "{text}"
            );
        }
    }
}
