//! Which requests may leave the sandbox. One function decides, [`Egress::check`]; whatever connects asks it.
//!
//! Without it a component could send credentials or states to any host that this machine reaches.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::{HeaderMap, Method, Uri};
use percent_encoding::percent_decode_str;

/// One kind of request that may leave: `METHODS scheme://host[:port][/path-prefix]`.
///
/// `METHODS` is a list such as `GET,PUT`; left out it means GET, HEAD, PUT, POST and DELETE. The host is compared without regard to
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
    /// Narrower than the prefix in a rule that the host derives from a configuration.
    reach: Reach,
    /// The operator, or a person on their own machine, named the host: it may be a private address.
    private: bool,
    /// The path is as good as a password, and not shown.
    secret: bool,
}

/// All methods that may leave. Others are no store's: `CONNECT` would make a tunnel of a connection.
const METHODS: [Method; 5] = [
    Method::GET,
    Method::HEAD,
    Method::PUT,
    Method::POST,
    Method::DELETE,
];

/// Which paths, queries and bodies a rule covers at its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The path itself, with any query.
    Exact,
    /// Listings of a bucket, of keys that begin with one of these; and whether the bucket keeps versions.
    Listing(Vec<String>),
    /// The path itself: an object, or a version of it.
    Object,
    /// Objects whose path begins so.
    Objects,
    /// Everything whose path begins so.
    Prefix,
    /// The path itself, if the body names this table of DynamoDB's.
    Table(String),
    /// The objects behind the path, a workspace's name, and one of these.
    Workspaces(Vec<String>),
}

/// What follows the path: `*` stands for anything, `<workspace>` for a name.
impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact | Self::Object => Ok(()),
            Self::Listing(prefixes) => write!(f, " (listing of {}*)", prefixes.join("*, ")),
            Self::Objects | Self::Prefix => f.write_str("*"),
            Self::Table(name) => write!(f, " (table {name})"),
            Self::Workspaces(ends) => {
                let ends: Vec<_> = ends.iter().map(|end| format!("<workspace>{end}")).collect();
                f.write_str(&ends.join(" or "))
            }
        }
    }
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
                Ok(method) if METHODS.contains(&method) => Ok(method),
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
        match self.secret {
            true => f.write_str("/…"),
            false => f.write_str(&self.path_prefix),
        }
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
            reach: Reach::Prefix,
            private: false,
            secret: false,
        })
    }

    /// Keeps the path out of what is shown.
    pub(crate) fn with_secret_path(mut self) -> Self {
        self.secret = true;
        self
    }

    /// Narrows the rule to the one path.
    pub(crate) fn exactly(mut self, exact: bool) -> Self {
        if exact {
            self.reach = Reach::Exact;
        }
        self
    }

    /// Narrows the rule.
    pub(crate) fn reaching(mut self, reach: Reach) -> Self {
        self.reach = reach;
        self
    }

    /// Whether the rule's own path climbs, for servers that resolve such paths.
    pub(crate) fn climbs(&self) -> bool {
        has_dot_segment(&self.path_prefix)
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

    fn allows(&self, method: &Method, to: &Destination<'_>) -> bool {
        let methods = match &self.methods[..] {
            [] => &METHODS,
            methods => methods,
        };
        self.names_place(to) && methods.contains(method) && self.reaches(to)
    }

    fn names_place(&self, to: &Destination<'_>) -> bool {
        Some(self.port) == to.port
            && self.host.eq_ignore_ascii_case(to.host)
            && self.scheme.eq_ignore_ascii_case(to.scheme)
    }

    fn reaches(&self, to: &Destination<'_>) -> bool {
        let (path, query) = (to.path, to.query);
        let behind = path.strip_prefix(&self.path_prefix);
        match &self.reach {
            Reach::Exact | Reach::Table(_) => behind == Some(""),
            Reach::Listing(prefixes) => behind == Some("") && is_listing(query, prefixes),
            Reach::Object => behind == Some("") && is_object(query),
            Reach::Objects => behind.is_some() && !has_dot_segment(path) && is_object(query),
            Reach::Prefix => behind.is_some() && !has_dot_segment(path),
            Reach::Workspaces(ends) => {
                let name = ends
                    .iter()
                    .find_map(|end| behind?.strip_suffix(end.as_str()));
                name.is_some_and(is_one_part) && !has_dot_segment(path) && is_object(query)
            }
        }
    }
}

/// Where a request goes, taken apart once for all rules.
struct Destination<'u> {
    scheme: &'u str,
    host: &'u str,
    /// The scheme's default included.
    port: Option<u16>,
    path: &'u str,
    query: Option<&'u str>,
}

impl<'u> Destination<'u> {
    /// None: there is no host.
    fn of(uri: &'u Uri) -> Option<Self> {
        let scheme = uri.scheme_str().unwrap_or_default();
        Some(Self {
            scheme,
            host: uri.host()?,
            port: uri.port_u16().or_else(|| default_port(scheme)),
            path: uri.path(),
            query: uri.query(),
        })
    }
}

/// All that one store may reach.
#[derive(Clone, Debug, Default)]
pub(crate) struct Egress {
    rules: Vec<EgressRule>,
}

/// How a request may leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    /// The host may be a private address.
    pub(crate) private: bool,
    /// The body must name one of these tables of DynamoDB's; empty: it is not looked at.
    pub(crate) tables: Vec<String>,
}

/// Why a request may not leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// The address is loopback, private or link-local, and no rule names it for that; this one would.
    Address(String),
    /// This header makes a server do another thing than method and path say.
    Header(&'static str),
    /// No rule covers it; this one would.
    Rule(String),
    /// Its body names another table than the store's, or none; this rule would let every table be reached.
    Table(String),
}

/// Headers that make a server do another thing than method and path say: copy another object into this one, or take the
/// request for another.
const DIVERTING: [&str; 8] = [
    "x-amz-copy-source",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-uri",
    "x-original-url",
    "x-rewrite-url",
    "x-forwarded-host",
];

/// Refuses headers that would make the judgement of method and path worthless.
pub(crate) fn check_headers(headers: &HeaderMap) -> Result<(), Denied> {
    match DIVERTING
        .into_iter()
        .find(|name| headers.contains_key(*name))
    {
        Some(name) => Err(Denied::Header(name)),
        None => Ok(()),
    }
}

/// The rule that would allow a request.
pub(crate) fn rule_for(method: &Method, uri: &Uri) -> String {
    let place = EgressRule::new(std::slice::from_ref(method), uri);
    place.map_or_else(String::new, |rule| rule.to_string())
}

impl Egress {
    pub(crate) fn new(rules: Vec<EgressRule>) -> Self {
        Self { rules }
    }

    /// The rules, each once.
    pub(crate) fn told(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for rule in &self.rules {
            let text = format!("{rule}{}", rule.reach);
            if !all.contains(&text) {
                all.push(text);
            }
        }
        all
    }

    /// Decides about one request before anything is resolved or connected.
    pub(crate) fn check(&self, method: &Method, uri: &Uri) -> Result<Pass, Denied> {
        let refused = || Denied::Rule(rule_for(method, uri));
        if uri.authority().is_none_or(|it| it.as_str().contains('@')) {
            return Err(refused());
        }
        let to = Destination::of(uri).ok_or_else(refused)?;
        let allowing = self.rules.iter().filter(|rule| rule.allows(method, &to));
        let allowing: Vec<&EgressRule> = allowing.collect();
        let Some(private) = allowing.iter().map(|rule| rule.private).max() else {
            return Err(refused());
        };
        let tables = allowing.iter().map(|rule| match &rule.reach {
            Reach::Table(name) => Some(name.clone()),
            _ => None,
        });
        // A rule that does not look at the body allows every table.
        let tables = tables.collect::<Option<_>>().unwrap_or_default();
        let pass = Pass { private, tables };
        // A literal address never passes the resolver, so it is judged here.
        let host = to.host.trim_start_matches('[').trim_end_matches(']');
        match host.parse::<IpAddr>() {
            Ok(address) if !private && is_private(address) => {
                Err(Denied::Address(rule_for(method, uri)))
            }
            _ => Ok(pass),
        }
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    [("http", 80), ("https", 443)]
        .into_iter()
        .find_map(|(name, port)| name.eq_ignore_ascii_case(scheme).then_some(port))
}

/// Whether a query asks for an object, or a version of it, and not for what belongs to it, such as its access list.
fn is_object(query: Option<&str>) -> bool {
    parameters(query).is_some_and(|found| found.iter().all(|(name, _)| name == "versionId"))
}

/// Whether a query lists keys that begin with one of the prefixes, or asks whether the bucket keeps versions.
fn is_listing(query: Option<&str>, prefixes: &[String]) -> bool {
    const NAMES: [&str; 5] = [
        "continuation-token",
        "list-type",
        "max-keys",
        "prefix",
        "versions",
    ];
    let Some(found) = parameters(query) else {
        return false;
    };
    if matches!(&found[..], [(name, _)] if name == "versioning") {
        return true;
    }
    let mut asked = found.iter().filter(|(name, _)| name == "prefix");
    // Of two prefixes one server may take the first and another the last.
    let (Some((_, prefix)), None) = (asked.next(), asked.next()) else {
        return false;
    };
    found.iter().all(|(name, _)| NAMES.contains(&name.as_str()))
        && prefixes.iter().any(|it| prefix.starts_with(it))
}

/// Names and values of a query, decoded; none when servers may read it in different ways.
fn parameters(query: Option<&str>) -> Option<Vec<(String, String)>> {
    let query = query.unwrap_or_default();
    if query.contains(['+', ';']) {
        return None;
    }
    let decoded = |text: &str| Some(percent_decode_str(text).decode_utf8().ok()?.into_owned());
    query
        .split('&')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Some((decoded(name)?, decoded(value)?))
        })
        .collect()
}

/// Whether a text is one part of a path, however a server decodes it.
fn is_one_part(text: &str) -> bool {
    let decoded = percent_decode_str(text).collect::<Vec<u8>>();
    !decoded.is_empty() && !decoded.iter().any(|byte| matches!(byte, b'/' | b'\\'))
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
mod tests;
