//! What a credential chain reaches from a person's own machine: STS, IAM, SSO and its token service, the metadata
//! services, and the endpoints that the person named for them.
//!
//! Exact hosts, never `*.amazonaws.com`: every bucket of every customer is a host there. Regions and endpoints that
//! stand only in shared files are read out of these files, by key, in whatever profile.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use http::{Method, Uri};
use serde_json::Value;
use zeroize::Zeroizing;

use super::partition::{Partition, hosts};
use super::places::{is_host_name, real_region, text, usable_endpoint};
use crate::shared_files::{SharedFiles, values};
use crate::surroundings::{LOCAL_VARIABLES, Surroundings};
use crate::transport::EgressRule;

/// EC2's metadata service, at both of its addresses.
const METADATA: &[&str] = &["http://169.254.169.254", "http://[fd00:ec2::254]"];
/// ECS's credentials (169.254.170.2) and EKS's pod identities: where plain http is as good as loopback.
const CONTAINERS: &[&str] = &["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];

/// What variables and shared files say about the chain.
pub(super) struct Chain {
    variables: BTreeMap<&'static str, String>,
    files: Vec<Zeroizing<String>>,
    /// Every `endpoint_url` of the files, for whatever service.
    pub(super) endpoints: Vec<String>,
}

impl Chain {
    /// Asks the surroundings, as the component will.
    pub(super) async fn of(config: &Value, surroundings: &dyn Surroundings) -> Self {
        let mut variables = BTreeMap::new();
        for name in LOCAL_VARIABLES {
            if let Ok(Some(value)) = surroundings.variable(name).await
                && !value.is_empty()
            {
                variables.insert(*name, value);
            }
        }
        let shared = SharedFiles::of(config, |name| variables.get(name).cloned());
        let mut files = Vec::new();
        for path in shared.paths() {
            if let Ok(bytes) = surroundings.read_file(path).await {
                let bytes = Zeroizing::new(bytes);
                files.push(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()));
            }
        }
        let endpoints = in_files(&files, "endpoint_url")
            .iter()
            .map(|url| usable_endpoint(url))
            .collect();
        Self {
            variables,
            files,
            endpoints,
        }
    }

    /// The requests that the chain of this configuration may make.
    pub(super) fn rules(&self, config: &Value) -> Vec<EgressRule> {
        let mut places: BTreeSet<(&'static [Method], String, bool)> = BTreeSet::new();
        let mut exactly = |methods, url: String| places.insert((methods, url, true));
        let regions = [
            text(config, "region"),
            text(config, "sts_region"),
            self.variable("AWS_REGION"),
            self.variable("AWS_DEFAULT_REGION"),
        ];
        let regions = regions.into_iter().flatten().map(|it| real_region(&it));
        for region in regions.filter(|it| is_host_name(it)) {
            for host in hosts("sts", &region) {
                exactly(POST, format!("https://{host}/"));
            }
            for host in Partition::of(&region).iam {
                exactly(POST, format!("https://{host}/"));
            }
        }
        let regions = in_files(&self.files, "sso_region").into_iter();
        for region in regions
            .map(|it| real_region(&it))
            .filter(|it| is_host_name(it))
        {
            for host in hosts("portal.sso", &region) {
                exactly(GET, format!("https://{host}/federation/credentials"));
            }
            for host in hosts("oidc", &region) {
                exactly(POST, format!("https://{host}/token"));
            }
        }
        for (service, argument, variables, methods, path) in SERVICES {
            for endpoint in self.endpoints_of(config, service, argument, variables) {
                exactly(methods, format!("{endpoint}{path}"));
            }
        }
        for endpoint in self.metadata_endpoints(config) {
            places.insert((METADATA_METHODS, format!("{endpoint}/latest/"), false));
        }
        let rule = |(methods, url, exact): (&[Method], String, bool)| {
            let rule = EgressRule::new(methods, &url.parse().ok()?)?;
            Some(rule.exactly(exact).or_private(true))
        };
        let of_containers = self.container_uris().into_iter().filter_map(|uri| {
            let rule = rule((GET, uri, true))?;
            Some(rule.with_secret_path())
        });
        let rules = places.into_iter().filter_map(rule);
        rules.chain(of_containers).collect()
    }

    /// The endpoints that are named for a service, without a slash at the end.
    fn endpoints_of(
        &self,
        config: &Value,
        service: &str,
        argument: &str,
        variables: &[&str],
    ) -> Vec<String> {
        let in_block = [
            config.get("endpoints").and_then(|it| text(it, service)),
            text(config, &format!("endpoints.{service}")),
            text(config, argument),
        ];
        let by_variable = variables.iter().map(|name| self.variable(name));
        in_block
            .into_iter()
            .chain(by_variable)
            .chain([self.variable("AWS_ENDPOINT_URL")])
            .flatten()
            .map(|url| usable_endpoint(&url))
            .chain(self.endpoints.iter().cloned())
            .map(|url| url.trim_end_matches('/').to_owned())
            .collect()
    }

    /// Where a container gets its credentials. The path is all that proves who asks.
    fn container_uris(&self) -> Vec<String> {
        let relative = self.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
        let relative = relative.filter(|uri| uri.starts_with('/'));
        let full = self.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI");
        relative
            .map(|uri| format!("http://{}{uri}", CONTAINERS[0]))
            .into_iter()
            .chain(full.filter(|uri| is_container_uri(uri)))
            .collect()
    }

    fn metadata_endpoints(&self, config: &Value) -> Vec<String> {
        let named = [
            text(config, "ec2_metadata_service_endpoint"),
            self.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT"),
            self.variable("AWS_METADATA_URL"),
        ];
        METADATA
            .iter()
            .map(|url| (*url).to_owned())
            .chain(named.into_iter().flatten())
            .chain(in_files(&self.files, "ec2_metadata_service_endpoint"))
            .map(|url| url.trim_end_matches('/').to_owned())
            .collect()
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }
}

fn in_files(files: &[Zeroizing<String>], key: &str) -> Vec<String> {
    let found = files.iter().flat_map(|file| values(file, key));
    found.filter(|value| !value.is_empty()).collect()
}

const GET: &[Method] = &[Method::GET];
const POST: &[Method] = &[Method::POST];
const METADATA_METHODS: &[Method] = &[Method::GET, Method::PUT];

/// Services: field of `endpoints`, older argument, variables; and the one request that each is sent.
type Service = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [Method],
    &'static str,
);

const SERVICES: &[Service] = &[
    (
        "iam",
        "iam_endpoint",
        &["AWS_ENDPOINT_URL_IAM", "AWS_IAM_ENDPOINT"],
        POST,
        "/",
    ),
    (
        "sso",
        "",
        &["AWS_ENDPOINT_URL_SSO"],
        GET,
        "/federation/credentials",
    ),
    ("", "", &["AWS_ENDPOINT_URL_SSO_OIDC"], POST, "/token"),
    (
        "sts",
        "sts_endpoint",
        &["AWS_ENDPOINT_URL_STS", "AWS_STS_ENDPOINT"],
        POST,
        "/",
    ),
];

/// Container credentials come over https, or over plain http from this machine. A name other than `localhost` would
/// have to be resolved to know, so it needs https.
fn is_container_uri(uri: &str) -> bool {
    let Ok(uri) = uri.parse::<Uri>() else {
        return false;
    };
    let host = uri.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match uri.scheme_str() {
        Some("https") => true,
        Some("http") => {
            host.eq_ignore_ascii_case("localhost")
                || CONTAINERS.contains(&host)
                || host
                    .parse::<IpAddr>()
                    .is_ok_and(|it| it.to_canonical().is_loopback())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::Grant;
    use super::*;
    use crate::transport::Settings;

    /// Whether a local store of this block, with this shared config file and these variables, may send the request.
    async fn may(config: &Value, file: &str, variables: &[(&str, &str)], request: &str) -> bool {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".aws")).unwrap();
        std::fs::write(home.path().join(".aws/config"), file).unwrap();
        let home = [("HOME", home.path().to_str().unwrap())];
        let variables = home.iter().chain(variables);
        let grant = Grant::local()
            .environment(variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let (method, url) = request.split_once(' ').unwrap();
        let network = Arc::new(Settings::default());
        let egress = grant.egress(config, &network, &*grant.ask(config)).await;
        let method = method.parse().unwrap();
        egress.check(&method, &url.parse().unwrap()).is_ok()
    }

    #[tokio::test]
    async fn a_local_store_reaches_what_its_chain_needs_and_no_more() {
        let config =
            json!({"bucket": "b", "key": "k", "region": "eu-west-1", "sts_region": "us-east-1"});
        let file = "[sso-session s]\nsso_region = ap-south-1\n";
        let variables = [(
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "/v2/credentials?id=1",
        )];
        for request in [
            "POST https://sts.eu-west-1.amazonaws.com/",
            "POST https://sts.us-east-1.amazonaws.com/",
            "POST https://sts-fips.us-east-1.api.aws/",
            "POST https://iam.amazonaws.com/",
            "GET https://portal.sso.ap-south-1.amazonaws.com/federation/credentials?account_id=1",
            "POST https://oidc.ap-south-1.amazonaws.com/token",
            "PUT http://169.254.169.254/latest/api/token",
            "GET http://169.254.169.254/latest/meta-data/iam/security-credentials/",
            "GET http://[fd00:ec2::254]/latest/dynamic/instance-identity/document",
            "GET http://169.254.170.2/v2/credentials?id=1",
            "GET https://b.s3-fips.dualstack.eu-west-1.amazonaws.com/k",
        ] {
            assert!(may(&config, file, &variables, request).await, "{request}");
        }
        for request in [
            "POST https://sts.eu-central-1.amazonaws.com/",
            "GET https://sts.eu-west-1.amazonaws.com/",
            "POST https://sts.eu-west-1.amazonaws.com/other",
            "POST https://oidc.eu-west-1.amazonaws.com/token",
            "GET http://169.254.169.254/",
            "GET http://169.254.169.254/latest/../other",
            "GET http://169.254.170.2/v2/other",
            "GET http://169.254.170.23/v1/credentials",
            "GET http://127.0.0.1/",
        ] {
            assert!(!may(&config, file, &variables, request).await, "{request}");
        }
    }

    #[tokio::test]
    async fn endpoints_are_reached_where_block_variables_or_files_name_them() {
        let plain = json!({"bucket": "b", "key": "k", "region": "eu-west-1"});
        let mut block = plain.clone();
        block["endpoints"] =
            json!({"sts": "http://127.0.0.1:1/base/", "sso": "http://127.0.0.1:2"});
        block["ec2_metadata_service_endpoint"] = json!("http://127.0.0.1:3/");
        let file = "[services s]\nsts =\n  endpoint_url = http://10.0.0.1:4\n";
        for (config, file, variables, request) in [
            (&block, "", &[][..], "POST http://127.0.0.1:1/base/"),
            (
                &block,
                "",
                &[][..],
                "GET http://127.0.0.1:2/federation/credentials",
            ),
            (
                &block,
                "",
                &[][..],
                "PUT http://127.0.0.1:3/latest/api/token",
            ),
            (&plain, file, &[][..], "POST http://10.0.0.1:4/"),
            (&plain, file, &[][..], "GET http://10.0.0.1:4/b/k"),
            (
                &plain,
                "",
                &[("AWS_ENDPOINT_URL_STS", "http://localhost:5")][..],
                "POST http://localhost:5/",
            ),
            (
                &plain,
                "",
                &[("AWS_ENDPOINT_URL", "http://localhost:6")][..],
                "POST http://localhost:6/token",
            ),
            (
                &plain,
                "ec2_metadata_service_endpoint = http://10.0.0.2",
                &[][..],
                "GET http://10.0.0.2/latest/x",
            ),
            (
                &plain,
                "",
                &[(
                    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                    "http://169.254.170.23/v1/credentials",
                )][..],
                "GET http://169.254.170.23/v1/credentials",
            ),
            (
                &plain,
                "",
                &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "https://creds.test/x")][..],
                "GET https://creds.test/x",
            ),
        ] {
            assert!(may(config, file, variables, request).await, "{request}");
            let others = may(&plain, "", &[], request).await;
            assert!(!others, "{request} without being named");
        }
        for uri in [
            "http://10.0.0.1/x",
            "http://creds.test/x",
            "ftp://127.0.0.1/x",
        ] {
            let variables = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri)];
            assert!(
                !may(&plain, "", &variables, &format!("GET {uri}")).await,
                "{uri}"
            );
        }
    }

    #[tokio::test]
    async fn a_local_store_reaches_the_hosts_of_a_region_that_asks_for_fips() {
        let config = json!({"bucket": "b", "key": "k", "dynamodb_table": "t"});
        for region in ["fips-us-east-1", "us-east-1-fips"] {
            let variables = [("AWS_REGION", region)];
            for request in [
                "GET https://b.s3-fips.us-east-1.amazonaws.com/k",
                "POST https://dynamodb-fips.us-east-1.amazonaws.com/",
                "POST https://sts-fips.us-east-1.api.aws/",
            ] {
                assert!(may(&config, "", &variables, request).await, "{request}");
            }
        }
        let request = "POST http://localhost:8000/";
        assert!(may(&config, "", &[("AWS_REGION", "local")], request).await);
        assert!(!may(&config, "", &[("AWS_REGION", "us-east-1")], request).await);
    }

    #[tokio::test]
    async fn a_sealed_store_reaches_nothing_of_the_chain() {
        let config = json!({"bucket": "b", "key": "k", "region": "eu-west-1",
            "endpoints": {"sts": "https://sts.test"}});
        let (grant, network) = (Grant::sealed(), Settings::default());
        let egress = grant.egress(&config, &network, &*grant.ask(&config)).await;
        for url in ["https://sts.eu-west-1.amazonaws.com/", "https://sts.test/"] {
            let url = url.parse().unwrap();
            assert!(egress.check(&Method::POST, &url).is_err(), "{url}");
        }
    }
}
