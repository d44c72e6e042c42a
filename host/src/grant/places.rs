//! Where a configuration's objects and its table are, as URLs.
//!
//! Without it a store could be let at a whole host where it needs two objects, or be kept from its own.

use http::{Method, Uri};
use serde_json::Value;

use super::partition::{Partition, hosts};
use crate::surroundings::Surroundings;
use crate::transport::Reach;

/// A place in the store that a configuration names.
pub(super) struct Place {
    pub(super) methods: &'static [Method],
    pub(super) url: Uri,
    pub(super) reach: Reach,
}

const OBJECTS: &[Method] = &[Method::GET, Method::PUT, Method::DELETE];
const LISTING: &[Method] = &[Method::GET];
const TABLE: &[Method] = &[Method::POST];

/// What the keys of a probe of the store begin with, behind the state's own.
const PROBE: &str = ".cofferdam-probe-";

/// What a configuration and the environment call an endpoint of AWS's.
struct Service {
    /// In `endpoints`, and in the host names of AWS.
    name: &'static str,
    older_argument: &'static str,
    variables: &'static [&'static str],
}

const DYNAMODB: Service = Service {
    name: "dynamodb",
    older_argument: "dynamodb_endpoint",
    variables: &["AWS_ENDPOINT_URL_DYNAMODB", "AWS_DYNAMODB_ENDPOINT"],
};

const S3: Service = Service {
    name: "s3",
    older_argument: "endpoint",
    variables: &["AWS_ENDPOINT_URL_S3", "AWS_S3_ENDPOINT"],
};

/// Where a configuration's objects and its table are. `further`: endpoints that shared files name, for whatever
/// service. `only_aws`: at AWS's own hosts or nowhere.
pub(super) async fn places(
    config: &Value,
    surroundings: &dyn Surroundings,
    further: &[String],
    only_aws: bool,
) -> Vec<Place> {
    let mut found = objects(config, surroundings, further, only_aws).await;
    found.extend(table(config, surroundings, further, only_aws).await);
    found
}

/// The default workspace's state and lock, those of the other workspaces, the keys of a probe, and listings of the bucket
/// that begin like one of them, in both styles of address.
async fn objects(
    config: &Value,
    surroundings: &dyn Surroundings,
    further: &[String],
    only_aws: bool,
) -> Vec<Place> {
    let Some(bucket) = text(config, "bucket") else {
        return Vec::new();
    };
    let key = text(config, "key").unwrap_or_default();
    let prefix = match config.get("workspace_key_prefix").and_then(Value::as_str) {
        Some("") => String::new(),
        Some(prefix) => format!("{prefix}/"),
        None => "env:/".to_owned(),
    };
    let region = region(config, surroundings).await;
    let on_aws = region.map(|region| aws_hosts(&region, &bucket));
    let bases: Vec<String> = match endpoint(&S3, config, surroundings).await {
        Some(_) if only_aws => Vec::new(),
        Some(endpoint) => bases(&endpoint, &bucket),
        None => {
            let named = further.iter().flat_map(|it| bases(it, &bucket));
            on_aws.into_iter().flatten().chain(named).collect()
        }
    };
    let state = format!("/{}", encoded(&key));
    let lock = format!("{state}.tflock");
    let probe = format!("{state}{PROBE}");
    let workspaces = format!("/{}", encoded(&prefix));
    let ends = Reach::Workspaces(vec![state.clone(), lock.clone()]);
    let listing = Reach::Listing(vec![prefix, key]);
    let of_bucket: [(_, &str, _); 6] = [
        (OBJECTS, &state, Reach::Object),
        (OBJECTS, &lock, Reach::Object),
        (OBJECTS, &probe, Reach::Objects),
        (OBJECTS, &workspaces, ends),
        (LISTING, "", listing.clone()),
        (LISTING, "/", listing),
    ];
    let in_base = |base: &String| {
        let places = of_bucket.iter().filter_map(|(methods, path, reach)| {
            place(methods, &format!("{base}{path}"), reach.clone())
        });
        places.collect::<Vec<_>>()
    };
    bases.iter().flat_map(in_base).collect()
}

/// DynamoDB, if the configuration names a table. The name stands in the body, which is looked at.
async fn table(
    config: &Value,
    surroundings: &dyn Surroundings,
    further: &[String],
    only_aws: bool,
) -> Vec<Place> {
    let Some(table) = text(config, "dynamodb_table") else {
        return Vec::new();
    };
    let region = region(config, surroundings).await;
    let on_aws = region
        .filter(|region| is_host_name(region))
        .map(|region| match region.as_str() {
            // DynamoDB local, as AWS's SDKs find it.
            "local" if !only_aws => vec!["http://localhost:8000".to_owned()],
            region => hosts("dynamodb", region)
                .map(|host| format!("https://{host}"))
                .to_vec(),
        });
    let bases: Vec<String> = match endpoint(&DYNAMODB, config, surroundings).await {
        Some(_) if only_aws => Vec::new(),
        Some(endpoint) => vec![endpoint],
        None => on_aws
            .into_iter()
            .flatten()
            .chain(further.iter().cloned())
            .collect(),
    };
    let with_path = |base: &String| match base.split_once("://") {
        Some((_, rest)) if rest.contains('/') => base.clone(),
        _ => format!("{base}/"),
    };
    bases
        .iter()
        .filter_map(|base| place(TABLE, &with_path(base), Reach::Table(table.clone())))
        .collect()
}

fn place(methods: &'static [Method], url: &str, reach: Reach) -> Option<Place> {
    let url = url.parse().ok()?;
    Some(Place {
        methods,
        url,
        reach,
    })
}

/// The URLs that a bucket may have at an endpoint: in the path, in front of the host, or as an access point.
fn bases(endpoint: &str, bucket: &str) -> Vec<String> {
    let Some((scheme, host)) = endpoint.split_once("://") else {
        return Vec::new();
    };
    let host = host.trim_end_matches('/');
    if let Some((name, account, _)) = access_point(bucket) {
        return vec![format!("{scheme}://{name}-{account}.{host}")];
    }
    let mut found = vec![format!("{scheme}://{host}/{}", encoded(bucket))];
    if is_host_name(bucket) {
        found.push(format!("{scheme}://{bucket}.{host}"));
    }
    found
}

/// The URLs that a bucket may have on AWS: plain, FIPS, dualstack, both. A profile may switch between them.
fn aws_hosts(region: &str, bucket: &str) -> Vec<String> {
    if let Some((name, account, region)) = access_point(bucket) {
        let suffix = Partition::of(region).dns;
        let hosts = ["", "-fips", ".dualstack", "-fips.dualstack"];
        return hosts
            .map(|kind| format!("https://{name}-{account}.s3-accesspoint{kind}.{region}.{suffix}"))
            .to_vec();
    }
    if !is_host_name(region) {
        return Vec::new();
    }
    let suffix = Partition::of(region).dns;
    ["s3", "s3-fips", "s3.dualstack", "s3-fips.dualstack"]
        .iter()
        .flat_map(|service| bases(&format!("https://{service}.{region}.{suffix}"), bucket))
        .collect()
}

/// Name, account and region of `arn:<partition>:s3:<region>:<account>:accesspoint/<name>`.
fn access_point(bucket: &str) -> Option<(&str, &str, &str)> {
    let parts: Vec<&str> = bucket.strip_prefix("arn:")?.splitn(5, ':').collect();
    let [_, "s3", region, account, resource] = parts[..] else {
        return None;
    };
    let name = resource.strip_prefix("accesspoint")?;
    let name = name.strip_prefix(['/', ':'])?;
    let usable = [name, account, region].iter().all(|it| is_host_name(it));
    usable.then_some((name, account, region))
}

/// Whether a text can stand in a host name without changing which host that is.
pub(super) fn is_host_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    !text.is_empty() && text.chars().all(plain)
}

async fn endpoint(
    service: &Service,
    config: &Value,
    surroundings: &dyn Surroundings,
) -> Option<String> {
    let given = config
        .get("endpoints")
        .and_then(|endpoints| text(endpoints, service.name))
        .or_else(|| text(config, &format!("endpoints.{}", service.name)))
        .or_else(|| text(config, service.older_argument));
    let named = match given {
        Some(given) => Some(given),
        None => endpoint_variable(service, surroundings).await,
    }?;
    Some(usable_endpoint(&named))
}

/// An endpoint as the backend uses it: without user, query and fragment, and with https where it is a bare host.
pub(super) fn usable_endpoint(named: &str) -> String {
    let named = named.split(['?', '#']).next().unwrap_or_default();
    match named.split_once("://") {
        Some((scheme, rest)) => format!(
            "{scheme}://{}",
            rest.rsplit_once('@').map_or(rest, |it| it.1)
        ),
        None => format!("https://{named}"),
    }
}

async fn endpoint_variable(service: &Service, surroundings: &dyn Surroundings) -> Option<String> {
    let own = first_variable(surroundings, service.variables).await;
    if own.is_some() {
        return own;
    }
    let ignore = first_variable(surroundings, &["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"]).await;
    if ignore.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return None;
    }
    first_variable(surroundings, &["AWS_ENDPOINT_URL"]).await
}

async fn region(config: &Value, surroundings: &dyn Surroundings) -> Option<String> {
    let region = match text(config, "region") {
        Some(region) => Some(region),
        None => first_variable(surroundings, &["AWS_REGION", "AWS_DEFAULT_REGION"]).await,
    };
    region.map(|region| real_region(&region))
}

/// A region's real name: `fips-X` and `X-fips` ask for FIPS hosts of X.
pub(super) fn real_region(name: &str) -> String {
    let name = name.replace("-fips-", "-").replace("fips-", "");
    name.replace("-fips", "")
}

async fn first_variable(surroundings: &dyn Surroundings, names: &[&str]) -> Option<String> {
    for name in names {
        if let Ok(Some(value)) = surroundings.variable(name).await
            && !value.is_empty()
        {
            return Some(value);
        }
    }
    None
}

pub(super) fn text(object: &Value, name: &str) -> Option<String> {
    object
        .get(name)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

/// Percent-encodes a key as S3's canonical path has it: all but unreserved characters and `/`.
fn encoded(key: &str) -> String {
    use std::fmt::Write as _;
    key.bytes()
        .fold(String::with_capacity(key.len()), |mut path, byte| {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                    path.push(char::from(byte));
                }
                _ => {
                    // Writing into a String cannot fail.
                    let _ = write!(path, "%{byte:02X}");
                }
            }
            path
        })
}
