//! What a configuration says about proxies and certificates, and how much of that holds.
//!
//! The host reads these arguments itself, because the component never sees a socket. In a sealed store the block is a
//! tenant's: a proxy or a certificate authority of the tenant's choice would sit between the host and places that the
//! operator trusts, so only the operator's word counts there.

use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use serde_json::{Value, json};

use super::proxy::{Proxies, Proxy};
use super::resolve::NameSource;
use super::tls::Trust;
use crate::environment::{Environment, expand};
use crate::{Diagnostic, Severity};

/// What the operator says about the way to the network, in the grant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Operator {
    pub(crate) proxies: Option<Proxies>,
    pub(crate) resolver: NameSource,
    pub(crate) trust: Option<Trust>,
    /// Lets `insecure` hold in a sealed store.
    pub(crate) allow_insecure: bool,
}

/// How the network is reached.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(super) proxies: Proxies,
    pub(super) resolver: NameSource,
    trust: Trust,
    /// Made when the first TLS connection is: reading the system's root certificates takes longer than all the
    /// rest of a start.
    client_config: OnceLock<Option<Arc<ClientConfig>>>,
    sources: Sources,
}

/// Where each setting came from.
#[derive(Debug, Default)]
struct Sources {
    http: Option<Source>,
    https: Option<Source>,
    except: Option<Source>,
    trust: Option<Source>,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    Argument(&'static str),
    Environment(&'static str),
    Grant,
}

impl Source {
    /// As the component words it.
    fn told(self) -> String {
        match self {
            Self::Argument(name) => format!("argument {name}"),
            Self::Environment(name) => format!("environment {name}"),
            Self::Grant => "grant".to_owned(),
        }
    }
}

impl Settings {
    /// `local`: the variables of the person for whom the store works; `None` for a sealed store.
    ///
    /// Gives the settings and warnings, or what is wrong.
    pub(crate) async fn of(
        config: &Value,
        operator: &Operator,
        local: Option<&Environment>,
    ) -> Result<(Self, Vec<Diagnostic>), Vec<Diagnostic>> {
        let mut reader = Reader {
            config,
            diagnostics: Vec::new(),
            sources: Sources::default(),
        };
        let proxies = match (&operator.proxies, local) {
            (None, Some(environment)) => reader.proxies(environment),
            (Some(proxies), _) => {
                reader.refuse(&["http_proxy", "https_proxy", "no_proxy"], "a proxy", true);
                reader.sources.http = proxies.http.is_some().then_some(Source::Grant);
                reader.sources.https = proxies.https.is_some().then_some(Source::Grant);
                reader.sources.except = Some(Source::Grant);
                proxies.clone()
            }
            (None, None) => {
                reader.refuse(&["http_proxy", "https_proxy", "no_proxy"], "a proxy", false);
                Proxies::default()
            }
        };
        let trust = match (&operator.trust, local) {
            (None, Some(environment)) => reader.trust(environment).await,
            (trust, _) => {
                let what = "the certificate authorities to trust";
                reader.refuse(&["custom_ca_bundle"], what, false);
                reader.sources.trust = trust.is_some().then_some(Source::Grant);
                trust.clone().unwrap_or_default()
            }
        };
        let may_be_insecure =
            operator.allow_insecure || (local.is_some() && operator.trust.is_none());
        let trust = match reader.is_true("insecure") {
            true if may_be_insecure => {
                reader.sources.trust = Some(Source::Argument("insecure"));
                Trust::Anybody
            }
            true => {
                reader.refuse(&["insecure"], "whether certificates are verified", false);
                trust
            }
            false => trust,
        };
        let wrong = |diagnostic: &Diagnostic| diagnostic.severity == Severity::Error;
        if reader.diagnostics.iter().any(wrong) {
            return Err(reader.diagnostics);
        }
        let settings = Self {
            proxies,
            resolver: operator.resolver.clone(),
            trust,
            client_config: OnceLock::new(),
            sources: reader.sources,
        };
        Ok((settings, reader.diagnostics))
    }

    /// Whether requests may go through a proxy.
    pub(crate) fn has_proxy(&self) -> bool {
        !self.proxies.is_empty()
    }

    /// For TLS with servers and proxies.
    pub(super) fn client_config(&self) -> std::io::Result<Arc<ClientConfig>> {
        let made = self.client_config.get_or_init(|| {
            self.trust
                .client_config()
                .map_err(|error| tracing::error!(%error, "no system root certificates"))
                .ok()
                .map(Arc::new)
        });
        made.clone()
            .ok_or_else(|| std::io::Error::other("there are no root certificates on this system"))
    }

    /// For `explain`: `{"proxy":{"http":{"url","source"}|null,"https":…|null,"except":{"hosts":[…],"source"}|null},
    /// "tls":{"verify":bool,"roots":"system|bundle"|null,"source":…|null}}`. URLs without user and password.
    pub(crate) fn explain(&self) -> Value {
        let told = |source: Option<Source>| source.map(Source::told);
        let shown = |proxy: &Option<Proxy>, source| match proxy {
            Some(proxy) => json!({ "url": proxy.to_string(), "source": told(source) }),
            None => Value::Null,
        };
        let roots = match self.trust {
            Trust::Anybody => Value::Null,
            Trust::Bundle(_) => json!("bundle"),
            Trust::System => json!("system"),
        };
        json!({
            "proxy": {
                "http": shown(&self.proxies.http, self.sources.http),
                "https": shown(&self.proxies.https, self.sources.https),
                "except": match self.proxies.except.shown() {
                    hosts if hosts.is_empty() => Value::Null,
                    hosts => json!({ "hosts": hosts, "source": told(self.sources.except) }),
                },
            },
            "tls": {
                "verify": !matches!(self.trust, Trust::Anybody),
                "roots": roots,
                "source": told(self.sources.trust),
            },
        })
    }
}

struct Reader<'c> {
    config: &'c Value,
    diagnostics: Vec<Diagnostic>,
    sources: Sources,
}

impl Reader<'_> {
    /// As Terraform reads them: arguments before variables, an empty argument for no proxy, and the proxy for http
    /// also for https where nothing else is said.
    fn proxies(&mut self, environment: &Environment) -> Proxies {
        let (http_argument, https_argument) = (self.text("http_proxy"), self.text("https_proxy"));
        let of_https = environment.first(&["HTTPS_PROXY", "https_proxy"]);
        let http = match &http_argument {
            Some(url) => self.argument("http_proxy", "Invalid HTTP Proxy", url),
            // A CGI program's HTTP_PROXY is a header of whoever sent the request.
            None if environment.first(&["REQUEST_METHOD"]).is_some() => None,
            None => variable(environment.first(&["HTTP_PROXY", "http_proxy"])),
        };
        self.sources.http = http.as_ref().map(|it| it.1);
        let https = match (&https_argument, of_https, &http_argument) {
            (Some(url), _, _) => self.argument("https_proxy", "Invalid HTTPS Proxy", url),
            (None, Some(named), _) => variable(Some(named)),
            (None, None, Some(_)) => {
                if let Some((proxy, _)) = &http {
                    self.diagnostics.push(missing_https_proxy(proxy));
                }
                http.clone()
            }
            (None, None, None) => None,
        };
        self.sources.https = https.as_ref().map(|it| it.1);
        let argument = self.text("no_proxy").filter(|list| !list.is_empty());
        let exceptions = argument
            .map(|list| (Source::Argument("no_proxy"), list))
            .or_else(|| of_environment(environment.first(&["NO_PROXY", "no_proxy"])));
        self.sources.except = exceptions.as_ref().map(|it| it.0);
        Proxies {
            http: http.map(|it| it.0),
            https: https.map(|it| it.0),
            except: super::proxy::Exceptions::parse(&exceptions.map(|it| it.1).unwrap_or_default()),
        }
    }

    fn argument(
        &mut self,
        name: &'static str,
        summary: &str,
        url: &str,
    ) -> Option<(Proxy, Source)> {
        match Proxy::parse(url) {
            Ok(proxy) => proxy.map(|proxy| (proxy, Source::Argument(name))),
            Err(error) => {
                self.error(name, summary, format!("Unable to parse URL: {error}."));
                None
            }
        }
    }

    async fn trust(&mut self, environment: &Environment) -> Trust {
        let argument = self
            .text("custom_ca_bundle")
            .filter(|path| !path.is_empty())
            .map(|path| ("custom_ca_bundle", path));
        self.sources.trust = argument.as_ref().map(|it| Source::Argument(it.0));
        let variable = || environment.first(&["AWS_CA_BUNDLE"]);
        let Some((source, path)) = argument.or_else(variable) else {
            return Trust::System;
        };
        self.sources
            .trust
            .get_or_insert(Source::Environment(source));
        let Some(file) = expand(&path, |name| environment.get(name)) else {
            let reason = "there is no home directory to put for `~`";
            let summary = format!("expanding custom CA bundle: {path}: {reason}");
            self.error(source, &summary, String::new());
            return Trust::System;
        };
        let trust = match Trust::file(file.as_ref()) {
            Ok(trust) => trust,
            Err(error) => {
                let summary = format!("reading custom CA bundle: {file}: {error}");
                self.error(source, &summary, String::new());
                return Trust::System;
            }
        };
        trust.unwrap_or_else(|error| {
            let detail = format!("{file}, named by `{source}`: {error}.");
            self.error(source, "failed to load custom CA bundle PEM file", detail);
            Trust::System
        })
    }

    /// Refuses arguments that are not the configuration's to set. `even_empty`: an empty one would opt out of what
    /// the operator set.
    fn refuse(&mut self, arguments: &[&'static str], what: &str, even_empty: bool) {
        for argument in arguments {
            let set = self
                .text(argument)
                .is_some_and(|value| even_empty || !value.is_empty());
            if set {
                let detail = format!(
                    "`{argument}` sets {what}. In this store that is the operator's to decide: remove the argument, or have the operator set it in the store's grant."
                );
                self.error(argument, "Argument not allowed", detail);
            }
        }
    }

    fn is_true(&self, argument: &str) -> bool {
        let text = self.text(argument);
        text.is_some_and(|text| text.eq_ignore_ascii_case("true") || text == "1")
    }

    /// An argument as text; `None`: it is not set.
    fn text(&self, argument: &str) -> Option<String> {
        match self.config.get(argument)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }

    fn error(&mut self, attribute: &str, summary: &str, detail: String) {
        self.diagnostics.push(Diagnostic {
            severity: Severity::Error,
            summary: summary.to_owned(),
            detail,
            attribute: Some(attribute.to_owned()),
        });
    }
}

fn of_environment(named: Option<(&'static str, String)>) -> Option<(Source, String)> {
    named.map(|(name, value)| (Source::Environment(name), value))
}

/// The proxy that a variable names; one that is no URL is none, as in Go.
fn variable(named: Option<(&'static str, String)>) -> Option<(Proxy, Source)> {
    let (name, url) = named?;
    match Proxy::parse(&url) {
        Ok(proxy) => proxy.map(|proxy| (proxy, Source::Environment(name))),
        Err(error) => {
            tracing::warn!(name, %error, "the variable names no proxy");
            None
        }
    }
}

fn missing_https_proxy(proxy: &Proxy) -> Diagnostic {
    Diagnostic {
        severity: Severity::Warning,
        summary: "Missing HTTPS Proxy".to_owned(),
        detail: format!(
            "An HTTP proxy was set but no HTTPS proxy was. Using HTTP proxy \"{proxy}\" for HTTPS requests. This behavior may change in future versions.\n\nTo specify no proxy for HTTPS, set the HTTPS to an empty string."
        ),
        attribute: Some("http_proxy".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let owned = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Environment::Given(Arc::new(owned.collect()))
    }

    async fn local(
        config: Value,
        variables: &[(&str, &str)],
    ) -> Result<(Settings, Vec<Diagnostic>), Vec<Diagnostic>> {
        Settings::of(&config, &Operator::default(), Some(&environment(variables))).await
    }

    /// The proxies for http and https, and the warnings.
    async fn chosen(config: Value, variables: &[(&str, &str)]) -> (String, String, usize) {
        let (settings, warnings) = local(config, variables).await.unwrap();
        let of = |url: &str| {
            let proxy = settings.proxies.of(&url.parse().unwrap());
            proxy.map(ToString::to_string).unwrap_or_default()
        };
        (
            of("http://s3.test/"),
            of("https://s3.test/"),
            warnings.len(),
        )
    }

    #[tokio::test]
    async fn arguments_come_before_variables_and_http_stands_in_for_https() {
        let a = || "http://a.test:1".to_owned();
        let b = || "http://b.test:2".to_owned();
        let none = String::new;
        for (config, variables, expected) in [
            (json!({}), &[][..], (none(), none(), 0)),
            (
                json!({}),
                &[("HTTP_PROXY", "a.test:1")][..],
                (a(), none(), 0),
            ),
            (
                json!({}),
                &[("http_proxy", "a.test:1")][..],
                (a(), none(), 0),
            ),
            (
                json!({}),
                &[("HTTPS_PROXY", "a.test:1")][..],
                (none(), a(), 0),
            ),
            (
                json!({}),
                &[("HTTPS_PROXY", ""), ("https_proxy", "a.test:1")][..],
                (none(), a(), 0),
            ),
            (
                json!({}),
                &[("HTTPS_PROXY", "a.test:1"), ("https_proxy", "b.test:2")][..],
                (none(), a(), 0),
            ),
            (
                json!({"http_proxy": "http://a.test:1"}),
                &[][..],
                (a(), a(), 1),
            ),
            (
                json!({"http_proxy": "http://a.test:1", "https_proxy": ""}),
                &[][..],
                (a(), none(), 0),
            ),
            (
                json!({"http_proxy": "http://a.test:1", "https_proxy": "http://b.test:2"}),
                &[][..],
                (a(), b(), 0),
            ),
            (
                json!({"http_proxy": "http://a.test:1"}),
                &[("HTTPS_PROXY", "b.test:2")][..],
                (a(), b(), 0),
            ),
            (
                json!({"http_proxy": "", "https_proxy": null}),
                &[("HTTP_PROXY", "b.test:2")][..],
                (none(), none(), 0),
            ),
            (
                json!({"https_proxy": ""}),
                &[("HTTPS_PROXY", "b.test:2")][..],
                (none(), none(), 0),
            ),
            (
                json!({}),
                &[("HTTP_PROXY", "a.test:1"), ("REQUEST_METHOD", "GET")][..],
                (none(), none(), 0),
            ),
            (
                json!({}),
                &[("HTTPS_PROXY", "ftp://a.test")][..],
                (none(), none(), 0),
            ),
            (
                json!({"no_proxy": "s3.test"}),
                &[("HTTPS_PROXY", "a.test:1")][..],
                (none(), none(), 0),
            ),
            (
                json!({"no_proxy": ""}),
                &[("HTTPS_PROXY", "a.test:1"), ("NO_PROXY", ".test")][..],
                (none(), none(), 0),
            ),
            (
                json!({"no_proxy": "other.test"}),
                &[("HTTPS_PROXY", "a.test:1"), ("no_proxy", ".test")][..],
                (none(), a(), 0),
            ),
        ] {
            let shown = format!("{config} {variables:?}");
            assert_eq!(chosen(config, variables).await, expected, "{shown}");
        }
    }

    #[tokio::test]
    async fn a_proxy_that_is_no_url_is_refused_without_its_password() {
        let config = json!({"http_proxy": "ftp://u:canary@x", "https_proxy": "http://u:canary@"});
        let wrong = local(config, &[]).await.unwrap_err();
        let summaries: Vec<_> = wrong.iter().map(|it| it.summary.as_str()).collect();
        assert_eq!(summaries, ["Invalid HTTP Proxy", "Invalid HTTPS Proxy"]);
        assert!(!format!("{wrong:?}").contains("canary"));
        let config = json!({"http_proxy": "http://u:canary@a.test"});
        let (settings, warnings) = local(config, &[]).await.unwrap();
        assert_eq!(warnings[0].summary, "Missing HTTPS Proxy");
        assert!(warnings[0].detail.contains("\"http://a.test:80\""));
        let shown = format!("{warnings:?} {settings:?} {}", settings.explain());
        assert!(!shown.contains("canary"), "{shown}");
    }

    #[tokio::test]
    async fn a_bundle_that_cannot_be_used_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        let path = file.to_str().unwrap().to_owned();
        let summary = async |path: &str| {
            let wrong = local(json!({"custom_ca_bundle": path}), &[]).await;
            wrong.unwrap_err()[0].summary.clone()
        };
        assert!(
            summary(&path)
                .await
                .starts_with("reading custom CA bundle: ")
        );
        assert!(
            summary("~x/y")
                .await
                .starts_with("expanding custom CA bundle: ")
        );
        std::fs::write(&file, "no certificate").unwrap();
        let expected = "failed to load custom CA bundle PEM file";
        assert_eq!(summary(&path).await, expected);
        let by_variable = [
            ("AWS_CA_BUNDLE", "$DIR/ca.pem"),
            ("DIR", path.trim_end_matches("/ca.pem")),
        ];
        let wrong = local(json!({}), &by_variable).await.unwrap_err();
        assert_eq!(wrong[0].summary, expected);

        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&file, made.cert.pem()).unwrap();
        let (settings, _) = local(json!({}), &by_variable).await.unwrap();
        assert_eq!(
            settings.explain()["tls"],
            json!({"verify": true, "roots": "bundle", "source": "environment AWS_CA_BUNDLE"})
        );
        let (settings, _) = local(json!({"insecure": "true"}), &by_variable)
            .await
            .unwrap();
        assert_eq!(settings.explain()["tls"]["verify"], false);
    }

    #[tokio::test]
    async fn a_tenants_block_cannot_choose_proxy_authorities_or_verification() {
        let sealed =
            async |config: Value, operator: &Operator| match Settings::of(&config, operator, None)
                .await
            {
                Ok((settings, _)) => Ok(settings.explain()),
                Err(wrong) => Err(wrong
                    .into_iter()
                    .filter_map(|it| it.attribute)
                    .collect::<Vec<_>>()),
            };
        let nothing = Operator::default();
        for (argument, value) in [
            ("http_proxy", json!("http://a.test")),
            ("https_proxy", json!("http://a.test")),
            ("no_proxy", json!("a.test")),
            ("custom_ca_bundle", json!("/etc/passwd")),
            ("insecure", json!(true)),
            ("insecure", json!("true")),
        ] {
            let refused = sealed(json!({argument: value}), &nothing)
                .await
                .unwrap_err();
            assert_eq!(refused, [argument]);
        }
        let harmless = json!({"https_proxy": "", "no_proxy": null, "insecure": false});
        assert!(sealed(harmless.clone(), &nothing).await.is_ok());

        let operator = Operator {
            proxies: Some(Proxies::new(None, Some("proxy.test"), "").unwrap()),
            resolver: NameSource::System,
            trust: None,
            allow_insecure: true,
        };
        // An empty argument would opt out of the operator's proxy.
        let refused = sealed(harmless, &operator).await.unwrap_err();
        assert_eq!(refused, ["https_proxy"]);
        let explained = sealed(json!({"insecure": true}), &operator).await.unwrap();
        assert_eq!(explained["proxy"]["https"]["url"], "http://proxy.test:80");
        assert_eq!(explained["tls"]["verify"], false);
    }
}
