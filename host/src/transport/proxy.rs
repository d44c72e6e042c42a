//! Which requests go through which proxy. Exceptions are Go's (golang.org/x/net/http/httpproxy), because Terraform's
//! users wrote their `NO_PROXY` for it.
//!
//! Without this module a store behind a company's proxy is out of reach, or the way round the proxy is taken where
//! none is allowed.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

use crate::Secret;

/// The proxies of a store: one for http, one for https, and the hosts that are reached without.
///
/// `localhost` and loopback addresses are always reached without.
///
/// ```
/// use cofferdam::{Grant, Proxies};
/// let proxy = Some("http://user:secret@proxy.corp.example:3128");
/// let proxies = Proxies::new(proxy, proxy, ".corp.example, 10.0.0.0/8")?;
/// let grant = Grant::sealed().proxies(proxies);
/// # Ok::<(), cofferdam::ProxyUrlError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    pub(super) http: Option<Proxy>,
    pub(super) https: Option<Proxy>,
    pub(super) except: Exceptions,
}

/// Why a text names no proxy. Does not show the text: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}: write `[scheme://][user:password@]host[:port]` with the scheme http, https, socks5 or socks5h"
)]
pub struct ProxyUrlError(&'static str);

impl Proxies {
    /// The proxy for http, the one for https, and the exceptions: `*`, or a list of hosts (`host` means its
    /// subdomains, too; `.domain` and `*.domain` only those), addresses and CIDR ranges, with commas between;
    /// each but a range may end in `:port`. An empty URL is no proxy.
    ///
    /// # Errors
    /// When a text is no URL of a proxy.
    pub fn new(
        http: Option<&str>,
        https: Option<&str>,
        no_proxy: &str,
    ) -> Result<Self, ProxyUrlError> {
        Ok(Self {
            http: Proxy::parse(http.unwrap_or_default())?,
            https: Proxy::parse(https.unwrap_or_default())?,
            except: Exceptions::parse(no_proxy),
        })
    }

    /// The proxy for a request to this place; `None`: it goes there itself.
    pub(crate) fn of(&self, to: &Uri) -> Option<&Proxy> {
        let (proxy, default_port) = match to.scheme_str()? {
            "http" => (self.http.as_ref()?, 80),
            "https" => (self.https.as_ref()?, 443),
            _ => return None,
        };
        let port = to.port_u16().unwrap_or(default_port);
        (!self.except.cover(to.host()?, port)).then_some(proxy)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.http.is_none() && self.https.is_none()
    }
}

/// One proxy.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    pub(super) protocol: Protocol,
    /// Where it listens, with its port; the scheme tells whether it wants TLS.
    pub(super) address: Uri,
    pub(super) credentials: Option<Credentials>,
    /// The scheme as it was written, for messages.
    scheme: String,
}

/// How a proxy is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http,
    Socks5,
}

#[derive(Clone, Debug)]
pub(super) struct Credentials {
    pub(super) user: Secret,
    pub(super) password: Secret,
}

impl Credentials {
    /// The value of `Proxy-Authorization` (RFC 7617).
    pub(super) fn basic(&self) -> Secret {
        let pair = format!("{}:{}", self.user.expose(), self.password.expose());
        let pair = Secret::new(pair);
        Secret::new(format!("Basic {}", STANDARD.encode(pair.expose())))
    }
}

/// Scheme, host and port: neither user nor password.
impl std::fmt::Display for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let authority = self.address.authority().map_or("", |it| it.as_str());
        write!(f, "{}://{authority}", self.scheme)
    }
}

impl Proxy {
    /// Reads a URL; one without a scheme means http.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, ProxyUrlError> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        let url = match text.contains("://") {
            true => Url::parse(text),
            false => Url::parse(&format!("http://{text}")),
        };
        let url = url
            .ok()
            .filter(|url| url.host_str().is_some_and(|host| !host.is_empty()))
            .ok_or(ProxyUrlError("it is not the URL of a proxy"))?;
        let (protocol, transport, port) = match url.scheme() {
            "http" => (Protocol::Http, "http", 80),
            "https" => (Protocol::Http, "https", 443),
            // Either way the proxy resolves the name.
            "socks5" | "socks5h" => (Protocol::Socks5, "http", 1080),
            _ => return Err(ProxyUrlError("it has another scheme")),
        };
        let host = url.host_str().unwrap_or_default();
        let port = url.port().unwrap_or(port);
        let address = format!("{transport}://{host}:{port}/")
            .parse()
            .map_err(|_| ProxyUrlError("its host is not valid"))?;
        let decoded = |part: &str| Secret::new(percent_decode_str(part).decode_utf8_lossy());
        let named = !url.username().is_empty() || url.password().is_some();
        Ok(Some(Self {
            protocol,
            address,
            credentials: named.then(|| Credentials {
                user: decoded(url.username()),
                password: decoded(url.password().unwrap_or_default()),
            }),
            scheme: url.scheme().to_owned(),
        }))
    }

    /// Whether requests for plain http go to it whole, with the URL of their place.
    pub(super) fn forwards(&self, to: &Uri) -> bool {
        self.protocol == Protocol::Http && to.scheme_str() == Some("http")
    }
}

/// The hosts that are reached without a proxy.
#[derive(Clone, Debug, Default)]
pub(super) struct Exceptions(Vec<Exception>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    Address(IpAddr, Option<u16>),
    All,
    /// Begins with a dot.
    Domain {
        suffix: String,
        itself: bool,
        port: Option<u16>,
    },
    Range(IpNet),
}

impl Exceptions {
    pub(super) fn parse(list: &str) -> Self {
        Self(list.split(',').filter_map(Exception::parse).collect())
    }

    /// What is left of each, for a person. What is no name of a host, and may be anything, is not shown.
    pub(super) fn shown(&self) -> Vec<String> {
        self.0.iter().filter_map(Exception::shown).collect()
    }

    fn cover(&self, host: &str, port: u16) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.eq_ignore_ascii_case("localhost") {
            return true;
        }
        let address = host
            .parse::<IpAddr>()
            .ok()
            .map(|address| address.to_canonical());
        if address.is_some_and(|address| address.is_loopback()) {
            return true;
        }
        let host = host.to_ascii_lowercase();
        self.0.iter().any(|exception| match exception {
            Exception::Address(excepted, at) => {
                address == Some(*excepted) && at.is_none_or(|at| at == port)
            }
            Exception::All => true,
            Exception::Domain {
                suffix,
                itself,
                port: at,
            } => {
                (host.ends_with(suffix) || (*itself && host == suffix[1..]))
                    && at.is_none_or(|at| at == port)
            }
            Exception::Range(range) => address.is_some_and(|address| range.contains(&address)),
        })
    }
}

impl Exception {
    fn shown(&self) -> Option<String> {
        let (host, port) = match self {
            Self::Address(address @ IpAddr::V6(_), port) => (format!("[{address}]"), port),
            Self::Address(address, port) => (address.to_string(), port),
            Self::All => return Some("*".to_owned()),
            Self::Domain {
                suffix,
                itself,
                port,
            } => {
                let is_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
                let name = if *itself { &suffix[1..] } else { suffix };
                (name.chars().all(is_name).then(|| name.to_owned())?, port)
            }
            Self::Range(range) => return Some(range.to_string()),
        };
        Some(match port {
            Some(port) => format!("{host}:{port}"),
            None => host,
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_lowercase();
        if text == "*" {
            return Some(Self::All);
        }
        if let Ok(range) = text.parse() {
            return Some(Self::Range(range));
        }
        let (host, port) = split_port(&text)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = host.parse::<IpAddr>() {
            return Some(Self::Address(address.to_canonical(), port));
        }
        let name = host.strip_prefix("*.").or(host.strip_prefix('.'));
        let itself = name.is_none();
        let name = name.unwrap_or(host);
        if name.is_empty() {
            return None;
        }
        // Punycode, as names stand in URLs.
        let ascii = match Host::parse(name) {
            Ok(Host::Domain(ascii)) => ascii,
            _ => name.to_owned(),
        };
        Some(Self::Domain {
            suffix: format!(".{ascii}"),
            itself,
            port,
        })
    }
}

/// Host and port; `None` when there is no host or the port is none: such an entry covers nothing.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let bare_v6 = text.matches(':').count() > 1 && !text.starts_with('[');
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !bare_v6 && !port.ends_with(']') => (host, port),
        _ => (text, ""),
    };
    let port = match port {
        "" => None,
        digits => Some(digits.parse().ok()?),
    };
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a request goes through the proxy, with these exceptions.
    fn proxied(no_proxy: &str, url: &str) -> bool {
        let proxy = Some("proxy.test:3128");
        let proxies = Proxies::new(proxy, proxy, no_proxy).unwrap();
        proxies.of(&url.parse().unwrap()).is_some()
    }

    #[test]
    fn exceptions_are_those_of_go() {
        for (no_proxy, url, expected) in [
            ("", "https://s3.test/", true),
            // Never.
            ("", "http://localhost:9000/", false),
            ("", "http://LOCALHOST/", false),
            ("", "http://127.0.0.1/", false),
            ("", "http://127.0.0.2:9000/", false),
            ("", "http://[::1]:9000/", false),
            ("", "http://[::ffff:127.0.0.1]/", false),
            ("", "http://localhost.test/", true),
            // All.
            ("*", "https://s3.test/", false),
            ("a.test, *", "https://s3.test/", false),
            // A domain and its subdomains.
            ("s3.test", "https://s3.test/", false),
            ("s3.test", "https://b.s3.test/", false),
            ("s3.test", "https://bs3.test/", true),
            ("S3.Test", "https://b.s3.TEST/", false),
            (" a.test , s3.test ", "https://s3.test/", false),
            // Subdomains only.
            (".s3.test", "https://s3.test/", true),
            (".s3.test", "https://b.s3.test/", false),
            ("*.s3.test", "https://s3.test/", true),
            ("*.s3.test", "https://b.s3.test/", false),
            // Ports.
            ("s3.test:443", "https://s3.test/", false),
            ("s3.test:443", "https://s3.test:8443/", true),
            ("s3.test:80", "http://s3.test/", false),
            (".s3.test:80", "https://b.s3.test/", true),
            ("s3.test:x", "https://s3.test/", true),
            (":443", "https://s3.test/", true),
            // Addresses.
            ("10.1.2.3", "http://10.1.2.3:9000/", false),
            ("10.1.2.3:9000", "http://10.1.2.3:9000/", false),
            ("10.1.2.3:9000", "http://10.1.2.3/", true),
            ("169.254.169.254", "http://169.254.169.254/latest/", false),
            ("fd00:ec2::254", "http://[fd00:ec2::254]/latest/", false),
            ("[fd00:ec2::254]:80", "http://[fd00:ec2::254]/", false),
            ("[fd00:ec2::254]:81", "http://[fd00:ec2::254]/", true),
            // Ranges.
            ("10.0.0.0/8", "https://10.1.2.3/", false),
            ("10.1.2.3/8", "https://10.200.0.1/", false),
            ("10.0.0.0/8", "https://11.1.2.3/", true),
            ("10.0.0.0/8", "https://ten.test/", true),
            ("fd00::/8", "https://[fd00:ec2::254]/", false),
            // Names beyond ASCII stand in URLs as punycode.
            ("bücher.test", "https://xn--bcher-kva.test/", false),
            (",,", "https://s3.test/", true),
        ] {
            assert_eq!(proxied(no_proxy, url), expected, "`{no_proxy}` for {url}");
        }
    }

    #[test]
    fn a_proxy_is_chosen_by_the_scheme_of_the_request() {
        let proxies = Proxies::new(Some("plain.test"), Some("https://tls.test"), "").unwrap();
        let of = |url: &str| proxies.of(&url.parse().unwrap()).unwrap().to_string();
        assert_eq!(of("http://s3.test/"), "http://plain.test:80");
        assert_eq!(of("https://s3.test/"), "https://tls.test:443");
        let only_plain = Proxies::new(Some("plain.test"), Some(""), "").unwrap();
        assert!(
            only_plain
                .of(&"https://s3.test/".parse().unwrap())
                .is_none()
        );
    }

    #[test]
    fn the_url_of_a_proxy_may_leave_out_much() {
        for (text, shown) in [
            ("proxy.test", "http://proxy.test:80"),
            ("proxy.test:3128", "http://proxy.test:3128"),
            ("127.0.0.1:3128", "http://127.0.0.1:3128"),
            ("http://proxy.test:3128/", "http://proxy.test:3128"),
            ("socks5://proxy.test", "socks5://proxy.test:1080"),
            ("socks5h://[::1]:1081", "socks5h://[::1]:1081"),
            ("HTTPS://proxy.test", "https://proxy.test:443"),
        ] {
            let proxy = Proxy::parse(text).unwrap().unwrap();
            assert_eq!(proxy.to_string(), shown, "{text}");
        }
        for text in ["http://", "ftp://proxy.test", "http://a b", "://"] {
            assert!(Proxy::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn credentials_are_decoded_and_never_shown() {
        let proxy = Proxy::parse("http://us%40er:p%3Aw@proxy.test")
            .unwrap()
            .unwrap();
        let credentials = proxy.credentials.as_ref().unwrap();
        let expected = format!("Basic {}", STANDARD.encode("us@er:p:w"));
        assert_eq!(credentials.basic().expose(), expected);
        for shown in [format!("{proxy}"), format!("{proxy:?}")] {
            assert!(
                !shown.contains("p%3Aw") && !shown.contains("p:w"),
                "{shown}"
            );
        }
        let error = Proxies::new(Some("ftp://user:canary@x"), None, "").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
}
