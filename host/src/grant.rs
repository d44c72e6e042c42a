//! What one store may do: egress rules, surroundings. Two profiles make one, sealed and local.
//!
//! [`places`] is the one function of the host that knows how a bucket and a key look in a URL.

use std::sync::Arc;

use http::{Method, Uri};
use serde_json::Value;

use crate::surroundings::{AccessKey, Local, Nothing, Surroundings, WithCredentials};
use crate::transport::{Egress, EgressRule};

/// What one store may do.
///
/// A grant that is not told otherwise is [sealed](Grant::sealed): the store reaches the objects that its
/// configuration names, over TLS and at public addresses, and sees nothing of this machine.
#[derive(Clone)]
pub struct Grant {
    profile: Profile,
    rules: Vec<EgressRule>,
    surroundings: Arc<dyn Surroundings>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Profile {
    Local,
    Sealed,
}

impl Default for Grant {
    fn default() -> Self {
        Self::sealed()
    }
}

impl Grant {
    /// For every tenant of a shared service. Network: the state and lock objects of the configuration, over
    /// https, at public addresses. No variables, files or commands. What else it may reach, the operator
    /// [allows](Self::allow); credentials come from the block or from [`credentials`](Self::credentials).
    pub fn sealed() -> Self {
        Self {
            profile: Profile::Sealed,
            rules: Vec::new(),
            surroundings: Arc::new(Nothing),
        }
    }

    /// For a person on their own machine. Network: the same objects, also over plain http where the configuration
    /// or the environment names such an endpoint, and at private addresses: a store of one's own, or AWS through
    /// an interface endpoint of a VPC. Variables:
    /// [`LOCAL_VARIABLES`](crate::LOCAL_VARIABLES).
    pub fn local() -> Self {
        Self {
            profile: Profile::Local,
            rules: Vec::new(),
            surroundings: Arc::new(Local),
        }
    }

    /// Allows a place besides those of the configuration. A place that is named here may be plain http or a
    /// private address.
    #[must_use]
    pub fn allow(mut self, rule: EgressRule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Credentials for this store, before any that the configuration names.
    #[must_use]
    pub fn credentials(mut self, key: AccessKey) -> Self {
        self.surroundings = Arc::new(WithCredentials {
            key,
            inner: self.surroundings,
        });
        self
    }

    /// Replaces what the store may see of this machine.
    #[must_use]
    pub fn surroundings(mut self, surroundings: Arc<dyn Surroundings>) -> Self {
        self.surroundings = surroundings;
        self
    }

    pub(crate) fn ask(&self) -> Arc<dyn Surroundings> {
        Arc::clone(&self.surroundings)
    }

    /// The rules that hold for this configuration.
    pub(crate) async fn egress(&self, config: &Value) -> Egress {
        let local = self.profile == Profile::Local;
        let mut rules = self.rules.clone();
        let derived = places(config, self.surroundings.as_ref()).await;
        rules.extend(derived.into_iter().filter_map(|place| {
            let rule = EgressRule::new(place.methods, &place.url)?;
            (local || rule.is_https()).then(|| rule.exactly(place.exact).or_private(local))
        }));
        Egress::new(rules)
    }
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grant")
            .field("profile", &self.profile)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

/// A place in the store that a configuration names.
struct Place {
    methods: &'static [Method],
    url: Uri,
    /// This object alone, rather than everything whose path begins so.
    exact: bool,
}

const OBJECTS: &[Method] = &[Method::GET, Method::PUT, Method::DELETE];
const LISTING: &[Method] = &[Method::GET];

/// Where the objects of a configuration are: the default workspace's state and lock, everything under the
/// prefix of the other workspaces, and the listing of the bucket, in both styles of address.
async fn places(config: &Value, surroundings: &dyn Surroundings) -> Vec<Place> {
    let Some(bucket) = text(config, "bucket") else {
        return Vec::new();
    };
    let key = text(config, "key").unwrap_or_default();
    let prefix = match config.get("workspace_key_prefix").and_then(Value::as_str) {
        Some("") => String::new(),
        Some(prefix) => format!("{}/", encoded(prefix)),
        None => "env%3A/".to_owned(),
    };
    let (scheme, host) = match endpoint(config, surroundings).await {
        Some(endpoint) => {
            let Some((scheme, rest)) = endpoint.split_once("://") else {
                return Vec::new();
            };
            (scheme.to_owned(), rest.trim_end_matches('/').to_owned())
        }
        None => {
            let Some(region) = region(config, surroundings).await else {
                return Vec::new();
            };
            let suffix = dns_suffix(&region);
            ("https".to_owned(), format!("s3.{region}.{suffix}"))
        }
    };
    let bases = bases(&scheme, &host, &bucket);
    let mut found = Vec::new();
    for base in bases {
        let state = format!("{base}/{}", encoded(&key));
        for (methods, url, exact) in [
            (OBJECTS, format!("{state}.tflock"), true),
            (OBJECTS, state, true),
            (OBJECTS, format!("{base}/{prefix}"), false),
            (LISTING, base.clone(), true),
            (LISTING, format!("{base}/"), true),
        ] {
            found.extend(url.parse().ok().map(|url| Place {
                methods,
                url,
                exact,
            }));
        }
    }
    found
}

/// The URLs that a bucket may have: in the path, in front of the host, or as an access point.
fn bases(scheme: &str, host: &str, bucket: &str) -> Vec<String> {
    let Some(point) = bucket.strip_prefix("arn:") else {
        let in_path = format!("{scheme}://{host}/{}", encoded(bucket));
        return vec![in_path, format!("{scheme}://{bucket}.{host}")];
    };
    // arn:<partition>:s3:<region>:<account>:accesspoint/<name>
    let parts: Vec<&str> = point.splitn(5, ':').collect();
    let [_, "s3", region, account, resource] = parts[..] else {
        return Vec::new();
    };
    let Some(name) = resource
        .strip_prefix("accesspoint")
        .and_then(|it| it.strip_prefix(['/', ':']))
    else {
        return Vec::new();
    };
    let on_aws = format!(
        "{scheme}://{name}-{account}.s3-accesspoint.{region}.{}",
        dns_suffix(region)
    );
    vec![on_aws, format!("{scheme}://{name}-{account}.{host}")]
}

async fn endpoint(config: &Value, surroundings: &dyn Surroundings) -> Option<String> {
    let given = config
        .get("endpoints")
        .and_then(|endpoints| text(endpoints, "s3"))
        .or_else(|| text(config, "endpoints.s3"))
        .or_else(|| text(config, "endpoint"));
    let named = match given {
        Some(given) => Some(given),
        None => endpoint_variable(surroundings).await,
    }?;
    // The backend drops these from an endpoint, too.
    let named = named.split(['?', '#']).next().unwrap_or_default();
    let named = match named.split_once("://") {
        Some((scheme, rest)) => format!(
            "{scheme}://{}",
            rest.rsplit_once('@').map_or(rest, |it| it.1)
        ),
        None => named.to_owned(),
    };
    // A bare host name means https, as it does to the backend.
    Some(if named.contains("://") {
        named
    } else {
        format!("https://{named}")
    })
}

async fn endpoint_variable(surroundings: &dyn Surroundings) -> Option<String> {
    let of_s3 = first_variable(surroundings, &["AWS_ENDPOINT_URL_S3", "AWS_S3_ENDPOINT"]).await;
    if of_s3.is_some() {
        return of_s3;
    }
    let ignore = first_variable(surroundings, &["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"]).await;
    if ignore.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return None;
    }
    first_variable(surroundings, &["AWS_ENDPOINT_URL"]).await
}

async fn region(config: &Value, surroundings: &dyn Surroundings) -> Option<String> {
    match text(config, "region") {
        Some(region) => Some(region),
        None => first_variable(surroundings, &["AWS_REGION", "AWS_DEFAULT_REGION"]).await,
    }
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

fn text(object: &Value, name: &str) -> Option<String> {
    object
        .get(name)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

/// The domain of a region's partition. Sources: AWS's partition table.
fn dns_suffix(region: &str) -> &'static str {
    match region {
        _ if region.starts_with("cn-") => "amazonaws.com.cn",
        _ if region.starts_with("eusc-") => "amazonaws.eu",
        _ if region.starts_with("us-isob-") => "sc2s.sgov.gov",
        _ if region.starts_with("us-isof-") => "csp.hci.ic.gov",
        _ if region.starts_with("eu-isoe-") => "cloud.adc-e.uk",
        _ if region.starts_with("us-iso-") => "c2s.ic.gov",
        _ => "amazonaws.com",
    }
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

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;

    use super::*;

    async fn allowed(grant: &Grant, config: &Value, method: Method, url: &str) -> bool {
        grant
            .egress(config)
            .await
            .check(&method, &url.parse().unwrap())
            .is_ok()
    }

    #[tokio::test]
    async fn a_sealed_store_reaches_its_own_objects_and_nothing_else() {
        let config = json!({"bucket": "b", "key": "app/state", "region": "eu-west-1"});
        let grant = Grant::sealed();
        for (method, url) in [
            (
                Method::GET,
                "https://b.s3.eu-west-1.amazonaws.com/app/state",
            ),
            (
                Method::PUT,
                "https://b.s3.eu-west-1.amazonaws.com/app/state.tflock",
            ),
            (
                Method::DELETE,
                "https://b.s3.eu-west-1.amazonaws.com/env%3A/dev/app/state.tflock",
            ),
            (
                Method::GET,
                "https://s3.eu-west-1.amazonaws.com/b?list-type=2&prefix=env%3A%2F",
            ),
            (
                Method::GET,
                "https://b.s3.eu-west-1.amazonaws.com/?list-type=2",
            ),
        ] {
            assert!(
                allowed(&grant, &config, method.clone(), url).await,
                "{method} {url}"
            );
        }
        for (method, url) in [
            (
                Method::GET,
                "https://c.s3.eu-west-1.amazonaws.com/app/state",
            ),
            (
                Method::GET,
                "https://s3.eu-west-1.amazonaws.com/c/app/state",
            ),
            (Method::PUT, "https://b.s3.eu-west-1.amazonaws.com/other"),
            (Method::GET, "https://b.s3.eu-west-1.amazonaws.com/other"),
            (
                Method::GET,
                "https://b.s3.eu-west-1.amazonaws.com/app/state2",
            ),
            (Method::DELETE, "https://b.s3.eu-west-1.amazonaws.com/"),
            (Method::GET, "http://b.s3.eu-west-1.amazonaws.com/app/state"),
            (
                Method::GET,
                "https://b.s3.us-east-1.amazonaws.com/app/state",
            ),
            (Method::GET, "http://169.254.169.254/latest/meta-data/"),
        ] {
            assert!(
                !allowed(&grant, &config, method.clone(), url).await,
                "{method} {url}"
            );
        }
    }

    #[tokio::test]
    async fn an_access_point_is_reached_at_its_own_host() {
        let config = json!({"bucket": "arn:aws:s3:eu-west-1:123456789012:accesspoint/states",
            "key": "app", "region": "us-east-1"});
        let url = "https://states-123456789012.s3-accesspoint.eu-west-1.amazonaws.com/app";
        assert!(allowed(&Grant::sealed(), &config, Method::GET, url).await);
        let other = "https://other-123456789012.s3-accesspoint.eu-west-1.amazonaws.com/app";
        assert!(!allowed(&Grant::sealed(), &config, Method::GET, other).await);
    }

    #[tokio::test]
    async fn a_plain_http_endpoint_needs_the_local_profile_or_a_rule() {
        let config = json!({"bucket": "b", "key": "k", "region": "us-east-1",
            "endpoints": {"s3": "http://127.0.0.1:9000"}});
        let url = "http://127.0.0.1:9000/b/k";
        assert!(!allowed(&Grant::sealed(), &config, Method::GET, url).await);
        assert!(allowed(&Grant::local(), &config, Method::GET, url).await);
        let rule = "GET,PUT,DELETE http://127.0.0.1:9000/b/".parse().unwrap();
        assert!(allowed(&Grant::sealed().allow(rule), &config, Method::GET, url).await);
    }

    #[tokio::test]
    async fn a_sealed_store_sees_nothing_of_the_machine() {
        let surroundings = Grant::sealed().ask();
        assert_eq!(
            surroundings.variable("AWS_REGION").await,
            Err(crate::Refusal::Denied)
        );
        assert!(matches!(
            surroundings.credentials().await,
            Err(crate::Refusal::Denied)
        ));
        assert!(surroundings.read_file("/etc/passwd").await.is_err());
        assert!(surroundings.run("true").await.is_err());
    }
}
