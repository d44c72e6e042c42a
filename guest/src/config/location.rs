//! Where a bucket is: the host that requests go to, and what stands in front of the key in their
//! path.
//!
//! Without one answer to this, signing, sending and the host's network rules could each mean
//! another place.

use super::Diagnostic;
use super::endpoint::Endpoint;
use super::region;
use super::service::{Variant, s3_host};

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

/// Where the bucket is. `endpoint` is one that [`Endpoint`] made, or none.
pub(super) fn of(
    bucket: &str,
    region: &str,
    endpoint: Option<&str>,
    variant: Variant,
    use_path_style: bool,
) -> BucketLocation {
    let access_point = AccessPoint::parse(bucket);
    let (region, variant) = variant.of_region(region);
    let (name, region) = match &access_point {
        Some(point) => ("s3-accesspoint", point.region),
        None => ("s3", region.as_ref()),
    };
    let service = match endpoint {
        Some(endpoint) => endpoint.to_owned(),
        None => format!("https://{}", s3_host(name, region, variant)),
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

/// Says why an access point cannot be reached by a client of this region, if it can't. `may_cross`: it may be in another
/// region.
pub(super) fn check_access_point(
    bucket: &str,
    region: &str,
    may_cross: bool,
) -> Option<Diagnostic> {
    let point = AccessPoint::parse(bucket)?;
    let [ours, theirs] = [region, point.region].map(|it| region::partition(it).name);
    let problem = if point.region != region && !may_cross {
        format!(
            "Invalid configuration: region from ARN `{}` does not match client region `{region}` and UseArnRegion is \
             `false`\n\nFor an access point in another region, set AWS_S3_USE_ARN_REGION=true, or s3_use_arn_region = \
             true in the profile.",
            point.region
        )
    } else if ours != theirs {
        format!("Client was configured for partition `{ours}` but ARN (`{bucket}`) has `{theirs}`")
    } else {
        return None;
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
