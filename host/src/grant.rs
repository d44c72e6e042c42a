//! What one store may do: egress rules, surroundings. Two profiles make one, sealed and local.
//!
//! `places` is the one module of the host that knows how a bucket, a key and a table's service look in a URL.

mod chain;
mod partition;
mod places;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::Diagnostic;
use crate::environment::Environment;
use crate::surroundings::{AccessKey, Local, Nothing, Surroundings, WithCredentials};
use crate::transport::{
    CertificatesError, Egress, EgressRule, NameSource, Operator, Proxies, Resolve, Settings, Trust,
};
use chain::Chain;
use places::places;

/// What one store may do.
///
/// A grant that is not told otherwise is [sealed](Grant::sealed): the store reaches the objects that its
/// configuration names, over TLS and at public addresses, and sees nothing of this machine.
#[derive(Clone)]
pub struct Grant {
    profile: Profile,
    rules: Vec<EgressRule>,
    credentials: Option<AccessKey>,
    /// In place of the profile's.
    surroundings: Option<Arc<dyn Surroundings>>,
    environment: Environment,
    any_command: bool,
    operator: Operator,
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
    /// For every tenant of a shared service. Network: the state and lock objects of the configuration, and the
    /// DynamoDB endpoint of its table, over https, at public addresses. No variables, files or commands. What else it
    /// may reach, the operator [allows](Self::allow); credentials come from the block or from [`credentials`](Self::credentials).
    pub fn sealed() -> Self {
        Self::of(Profile::Sealed)
    }

    /// For a person on their own machine. Network: the same places, also over plain http where the configuration
    /// or the environment names such an endpoint, and at private addresses: a store of one's own, or AWS through
    /// an interface endpoint of a VPC; and what the credential chain reaches, metadata services included. Variables,
    /// files and commands: those of [`Local`].
    pub fn local() -> Self {
        Self::of(Profile::Local)
    }

    fn of(profile: Profile) -> Self {
        Self {
            profile,
            rules: Vec::new(),
            credentials: None,
            surroundings: None,
            environment: Environment::Process,
            any_command: false,
            operator: Operator::default(),
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
        self.credentials = Some(key);
        self
    }

    /// Replaces what the store may see of this machine, [credentials](Self::credentials) apart.
    #[must_use]
    pub fn surroundings(mut self, surroundings: Arc<dyn Surroundings>) -> Self {
        self.surroundings = Some(surroundings);
        self
    }

    /// The environment of the person for whom a local store works, in place of this process's: variables, home
    /// directory, proxies, and what a `credential_process` gets. Nothing to a sealed store.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.environment = Environment::Given(Arc::new(variables.into_iter().collect()));
        self
    }

    /// Whether a local store may run a `credential_process` that stands in a file which the block names, outside of
    /// `~/.aws`. Default: it may not, for the block may come with a repository of somebody else's.
    #[must_use]
    pub fn allow_credential_process(mut self, allow: bool) -> Self {
        self.any_command = allow;
        self
    }

    /// The proxies of this store. The configuration then can't name others. Behind a proxy only names can be judged,
    /// not addresses: a sealed store there reaches AWS's own hosts, and others only where a [rule](Self::allow)
    /// names them.
    #[must_use]
    pub fn proxies(mut self, proxies: Proxies) -> Self {
        self.operator.proxies = Some(proxies);
        self
    }

    /// The certificate authorities to trust instead of the system's, in PEM form. The configuration then can't name
    /// others.
    ///
    /// # Errors
    /// When there is no certificate in it.
    pub fn certificate_authorities(mut self, pem: &[u8]) -> Result<Self, CertificatesError> {
        self.operator.trust = Some(Trust::bundle(pem)?);
        Ok(self)
    }

    /// Who is asked for the addresses of hosts, in place of the system's resolver. Behind a proxy nobody is asked but for the
    /// proxy's own.
    #[must_use]
    pub fn resolver(mut self, resolver: Arc<dyn Resolve>) -> Self {
        self.operator.resolver = NameSource::Given(resolver);
        self
    }

    /// Whether `insecure` in the configuration holds although the store is sealed, or trusts authorities of the
    /// grant. Default: it is refused.
    #[must_use]
    pub fn allow_insecure(mut self, allow: bool) -> Self {
        self.operator.allow_insecure = allow;
        self
    }

    /// What a store of this configuration may see.
    pub(crate) fn ask(&self, config: &Value) -> Arc<dyn Surroundings> {
        let inner = match (&self.surroundings, self.profile) {
            (Some(given), _) => Arc::clone(given),
            (None, Profile::Local) => Arc::new(
                Local::with(config, self.environment.clone())
                    .allow_credential_process(self.any_command),
            ),
            (None, Profile::Sealed) => Arc::new(Nothing),
        };
        match self.credentials.clone() {
            Some(key) => Arc::new(WithCredentials { key, inner }),
            None => inner,
        }
    }

    /// How the network is reached, and warnings; or what is wrong.
    pub(crate) async fn network(
        &self,
        config: &Value,
    ) -> Result<(Settings, Vec<Diagnostic>), Vec<Diagnostic>> {
        let local = (self.profile == Profile::Local).then_some(&self.environment);
        Settings::of(config, &self.operator, local).await
    }

    /// The rules that hold for this configuration. `surroundings`: what [`ask`](Self::ask) answers for it.
    pub(crate) async fn egress(
        &self,
        config: &Value,
        network: &Settings,
        surroundings: &dyn Surroundings,
    ) -> Egress {
        let local = self.profile == Profile::Local;
        let mut rules = self.rules.clone();
        let mut further = Vec::new();
        if local {
            let chain = Chain::of(config, surroundings).await;
            rules.extend(chain.rules(config));
            further = chain.endpoints;
        }
        // The proxy resolves names: nobody could tell whether a tenant's endpoint is an internal host.
        let only_aws = !local && network.has_proxy();
        let derived = places(config, surroundings, &further, only_aws).await;
        rules.extend(derived.into_iter().filter_map(|place| {
            let rule = EgressRule::new(place.methods, &place.url)?;
            let proper = local || (rule.is_https() && !rule.climbs());
            proper.then(|| rule.reaching(place.reach).or_private(local))
        }));
        Egress::new(rules)
    }
}

impl Grant {
    /// For `explain`: `{"profile":"local|sealed","egress":[rules as text],"variables":[names]|null,"files":[texts]|null,
    /// "commands":"any-file|none|own-files"|null}`. Null: what the embedding program put in place of the profile's
    /// surroundings decides.
    pub(crate) async fn explain(&self, config: &Value, network: &Settings) -> Value {
        let egress = self.egress(config, network, &*self.ask(config)).await;
        let mut account = match (&self.surroundings, self.profile) {
            (Some(_), _) => json!({ "variables": null, "files": null, "commands": null }),
            (None, Profile::Local) => {
                let local = Local::with(config, self.environment.clone());
                local
                    .allow_credential_process(self.any_command)
                    .explain()
                    .await
            }
            (None, Profile::Sealed) => json!({ "variables": [], "files": [], "commands": "none" }),
        };
        account["profile"] = match self.profile {
            Profile::Local => json!("local"),
            Profile::Sealed => json!("sealed"),
        };
        account["egress"] = json!(egress.told());
        account
    }
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grant")
            .field("profile", &self.profile)
            .field("rules", &self.rules)
            .field("any_command", &self.any_command)
            .field("operator", &self.operator)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;

    use super::*;

    async fn allowed(grant: &Grant, config: &Value, method: Method, url: &str) -> bool {
        let network = Settings::default();
        grant
            .egress(config, &network, &*grant.ask(config))
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
                "https://b.s3.eu-west-1.amazonaws.com/?list-type=2&prefix=env%3A%2F",
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
            (
                Method::PUT,
                "https://b.s3.eu-west-1.amazonaws.com/app/state?acl",
            ),
            (
                Method::GET,
                "https://b.s3.eu-west-1.amazonaws.com/env%3A/dev/other",
            ),
            (
                Method::GET,
                "https://b.s3.eu-west-1.amazonaws.com/?list-type=2",
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
    async fn a_sealed_store_whose_key_climbs_reaches_nothing() {
        for key in ["app/../other", "app/./state", ".."] {
            let config = json!({"bucket": "b", "key": key, "region": "eu-west-1"});
            let url = format!("https://s3.eu-west-1.amazonaws.com/b/{key}");
            let reached = |grant: Grant| {
                let (config, url) = (config.clone(), url.clone());
                async move { allowed(&grant, &config, Method::GET, &url).await }
            };
            assert!(!reached(Grant::sealed()).await, "{key}");
            assert!(reached(Grant::local()).await, "{key}");
        }
    }

    #[tokio::test]
    async fn a_table_opens_exactly_its_endpoint_of_dynamodb() {
        let without = json!({"bucket": "b", "key": "k", "region": "cn-north-1"});
        let mut with = without.clone();
        with["dynamodb_table"] = "locks".into();
        let url = "https://dynamodb.cn-north-1.amazonaws.com.cn/";
        let sealed = Grant::sealed();
        assert!(allowed(&sealed, &with, Method::POST, url).await);
        assert!(!allowed(&sealed, &without, Method::POST, url).await);
        for (method, url) in [
            (Method::GET, url),
            (
                Method::POST,
                "https://dynamodb.cn-north-1.amazonaws.com.cn/x",
            ),
            (Method::POST, "https://dynamodb.eu-west-1.amazonaws.com/"),
            (Method::POST, "https://s3.cn-north-1.amazonaws.com.cn/"),
            (Method::POST, "https://s3.cn-north-1.amazonaws.com.cn/b/k"),
        ] {
            assert!(
                !allowed(&sealed, &with, method.clone(), url).await,
                "{method} {url}"
            );
        }
        for endpoint in [
            json!({"endpoints": {"dynamodb": "https://tables.example/"}}),
            json!({"endpoints.dynamodb": "tables.example"}),
            json!({"dynamodb_endpoint": "https://tables.example"}),
        ] {
            let mut config = with.clone();
            config
                .as_object_mut()
                .unwrap()
                .extend(endpoint.as_object().unwrap().clone());
            assert!(allowed(&sealed, &config, Method::POST, "https://tables.example/").await);
            assert!(
                !allowed(&sealed, &config, Method::POST, url).await,
                "{endpoint}"
            );
        }
    }

    #[tokio::test]
    async fn a_probe_reaches_keys_of_its_own_beside_the_state() {
        let config = json!({"bucket": "b", "key": "app/state", "region": "eu-west-1"});
        let base = "https://b.s3.eu-west-1.amazonaws.com/app";
        for (url, reached) in [
            (format!("{base}/state.cofferdam-probe-1/race"), true),
            (format!("{base}/state.cofferdam-probe-1?versionId=2"), true),
            (format!("{base}/state.cofferdam-probe-1/../../other"), false),
            (format!("{base}/state.cofferdam"), false),
            (format!("{base}/.cofferdam-probe-1"), false),
        ] {
            for method in [Method::PUT, Method::GET, Method::DELETE] {
                let answer = allowed(&Grant::sealed(), &config, method.clone(), &url).await;
                assert_eq!(answer, reached, "{method} {url}");
            }
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
    async fn a_configuration_cannot_turn_awss_hosts_into_others() {
        for (bucket, region) in [
            ("evil.test/", "eu-west-1"),
            ("b", "evil.test/"),
            ("evil.test#", "x"),
        ] {
            let config = json!({"bucket": bucket, "key": "k", "region": region});
            for url in [
                "https://evil.test/k",
                "https://s3.evil.test/b/k",
                "https://evil.test/",
            ] {
                let reached = allowed(&Grant::sealed(), &config, Method::GET, url).await;
                assert!(!reached, "{bucket} {region}: {url}");
            }
        }
    }

    #[tokio::test]
    async fn behind_a_proxy_a_tenants_endpoint_needs_a_rule() {
        let mut config = json!({"bucket": "b", "key": "k", "region": "eu-west-1"});
        let aws = "https://b.s3.eu-west-1.amazonaws.com/k".parse().unwrap();
        let own = "https://internal.corp/b/k".parse().unwrap();
        let proxies = Proxies::new(None, Some("proxy.test"), "").unwrap();
        let grant = Grant::sealed().proxies(proxies);
        let (network, _) = grant.network(&config).await.unwrap();
        let egress = grant.egress(&config, &network, &*grant.ask(&config)).await;
        assert!(egress.check(&Method::GET, &aws).is_ok());
        config["endpoints"] = json!({"s3": "https://internal.corp"});
        let egress = grant.egress(&config, &network, &*grant.ask(&config)).await;
        assert!(egress.check(&Method::GET, &own).is_err());
        let grant = grant.allow("https://internal.corp/b/".parse().unwrap());
        let egress = grant.egress(&config, &network, &*grant.ask(&config)).await;
        assert!(egress.check(&Method::GET, &own).is_ok());
    }

    #[tokio::test]
    async fn a_sealed_store_sees_nothing_of_the_machine() {
        let surroundings = Grant::sealed().ask(&json!({}));
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
