//! Where a bucket is: the host that requests go to, and what stands in front of the key in their
//! path.
//!
//! Without one answer to this, signing, sending and the host's network rules could each mean
//! another place.

use super::Diagnostic;
use super::endpoint::Endpoint;
use super::region;
use super::settings::ServiceLocation;

/// What the URLs of a bucket's objects begin with: `<scheme>://<authority><path_prefix>`; `/` and
/// the percent-encoded key follow.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BucketLocation {
    /// `http` or `https`.
    pub scheme: String,
    /// `host[:port]`, without the scheme's own port. What the header `Host` holds.
    pub authority: String,
    /// Empty, `/bucket`, or either behind the endpoint's own path. Percent-encoded, no slash at its
    /// end.
    pub path_prefix: String,
    /// `path` or `virtual`.
    pub addressing: &'static str,
    /// Why it is addressed so, for a person.
    pub reason: &'static str,
    /// The region to sign for; an access point's own.
    pub region: String,
}

impl BucketLocation {
    /// URL of the bucket, without a slash at its end.
    pub fn url(&self) -> String {
        format!("{}://{}{}", self.scheme, self.authority, self.path_prefix)
    }
}

/// AWS's own endpoint in a region.
pub(super) fn aws_endpoint(region: &str) -> String {
    format!("https://s3.{region}.{}", region::dns_suffix(region))
}

/// Where the bucket is. `endpoint` is one that [`Endpoint`] made, or none.
pub(super) fn of(
    bucket: &str,
    region: &str,
    endpoint: Option<&str>,
    use_path_style: bool,
) -> BucketLocation {
    let access_point = AccessPoint::parse(bucket);
    let region = access_point.as_ref().map_or(region, |point| point.region);
    let service = match (endpoint, &access_point) {
        (Some(endpoint), _) => endpoint.to_owned(),
        (None, Some(_)) => format!(
            "https://s3-accesspoint.{region}.{}",
            region::dns_suffix(region)
        ),
        (None, None) => aws_endpoint(region),
    };
    let (scheme, rest) = service.split_once("://").unwrap_or(("https", &service));
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (addressing, reason) = match access_point {
        Some(_) => ("virtual", "the bucket is an access point"),
        None => addressing(bucket, &service, use_path_style),
    };
    let (authority, path_prefix) = match (&access_point, addressing) {
        (Some(point), _) => (
            format!("{}-{}.{host}", point.name, point.account),
            path.to_owned(),
        ),
        (None, "virtual") => (format!("{bucket}.{host}"), path.to_owned()),
        (None, _) => (host.to_owned(), format!("{path}/{}", encoded(bucket))),
    };
    BucketLocation {
        scheme: scheme.to_owned(),
        authority,
        path_prefix,
        addressing,
        reason,
        region: region.to_owned(),
    }
}

/// Where a service of AWS is. `endpoint` is one that [`Endpoint`] made, or none.
pub(super) fn of_service(service: &str, region: &str, endpoint: Option<&str>) -> ServiceLocation {
    let url = match endpoint {
        Some(endpoint) => endpoint.to_owned(),
        None => format!("https://{service}.{region}.{}", region::dns_suffix(region)),
    };
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", &url));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    ServiceLocation {
        scheme: scheme.to_owned(),
        authority: authority.to_owned(),
        path: if path.is_empty() { "/" } else { path }.to_owned(),
        region: region.to_owned(),
    }
}

/// Says why a bucket's name cannot be addressed, if it can't.
pub(super) fn check(bucket: &str, use_path_style: bool) -> Option<Diagnostic> {
    let problem = if bucket.ends_with("--x-s3") {
        "Directory buckets (S3 Express One Zone) are not supported yet."
    } else if !bucket.starts_with("arn:") {
        return None;
    } else if AccessPoint::parse(bucket).is_some() {
        if !use_path_style {
            return None;
        }
        "Path-style addressing cannot be used with ARN buckets"
    } else if bucket.split(':').nth(3) == Some("") {
        "Multi-Region Access Points are not supported yet."
    } else {
        "The only ARN that can stand for a bucket is one of an access point, such as \
         \"arn:aws:s3:eu-west-1:123456789012:accesspoint/states\"."
    };
    Some(Diagnostic::error("Invalid Value", problem).at("bucket"))
}

/// Path style wherever a bucket in front of the host would name no host, or one that the
/// certificate does not cover.
fn addressing(bucket: &str, endpoint: &str, use_path_style: bool) -> (&'static str, &'static str) {
    let is_address = Endpoint::parse(endpoint).is_ok_and(|it| it.is_address());
    if use_path_style {
        ("path", "use_path_style is true")
    } else if is_address {
        ("path", "the endpoint's host is an IP address")
    } else if !is_host_part(bucket) {
        ("path", "the bucket's name cannot be part of a host name")
    } else if bucket.contains('.') && endpoint.starts_with("https:") {
        let reason = "the bucket's name has a dot, and the certificate covers one label only";
        ("path", reason)
    } else {
        ("virtual", "the bucket's name can be part of a host name")
    }
}

/// Whether a bucket's name can stand in front of a host: S3's rules for names of buckets.
fn is_host_part(bucket: &str) -> bool {
    (3..=63).contains(&bucket.len())
        && bucket.split('.').all(region::is_host_label)
        && !bucket.bytes().any(|byte| byte.is_ascii_uppercase())
        && bucket.parse::<std::net::Ipv4Addr>().is_err()
}

/// Percent-encodes all that is not unreserved.
pub(super) fn encoded(text: &str) -> String {
    let mut path = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(byte.into());
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

/// An access point out of its ARN.
struct AccessPoint<'a> {
    region: &'a str,
    account: &'a str,
    name: &'a str,
}

impl<'a> AccessPoint<'a> {
    /// `arn:<partition>:s3:<region>:<account>:accesspoint/<name>`, also with `:` for the slash.
    fn parse(arn: &'a str) -> Option<Self> {
        let mut parts = arn.splitn(6, ':');
        let (first, _, service) = (parts.next()?, parts.next()?, parts.next()?);
        let (region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
        let name = resource.strip_prefix("accesspoint")?;
        let name = name.strip_prefix(['/', ':'])?;
        let labels = [region, account, name].into_iter();
        (first == "arn" && service == "s3" && labels.into_iter().all(region::is_host_label))
            .then_some(Self {
                region,
                account,
                name,
            })
    }
}
