//! The entry to the library: a backend is an engine and a component; stores are opened from it.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::component::{ComponentSource, Loaded, load};
use crate::contract::Diagnostic;
use crate::instance::{Environment, Instance, WarningSink, within};
use crate::limits::count;
use crate::shared_credentials::SharedCredentials;
use crate::store::{Fence, Inner, Store};
use crate::surroundings::Surroundings;
use crate::transport::{Egress, Settings, Transport};
use crate::{ComponentError, Error, ErrorCode, Grant, Limits, Tenant, convert, inspection};

/// An engine and a component, ready to open stores. Cheap to clone.
#[derive(Clone)]
pub struct Backend {
    component: Arc<Loaded>,
    limits: Limits,
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend")
            .field("component", &self.component.sha256)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// How a [`Backend`] is built.
#[derive(Clone, Debug, Default)]
pub struct BackendBuilder {
    source: ComponentSource,
    sha256: Option<String>,
    limits: Limits,
}

impl BackendBuilder {
    /// Which component runs. Default: the embedded one.
    #[must_use]
    pub fn component(mut self, source: ComponentSource) -> Self {
        self.source = source;
        self
    }

    /// Only the component with this SHA-256 may run: 64 hex digits, in either case, `sha256:` before them or not. Any other
    /// is refused before anything of it is compiled. Default: whichever [`component`](Self::component) names.
    #[must_use]
    pub fn component_sha256(mut self, digest: impl Into<String>) -> Self {
        self.sha256 = Some(digest.into());
        self
    }

    /// Limits for every call of every store; a store may set its own.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Loads the component: milliseconds for the embedded one, about a second for any other.
    ///
    /// # Errors
    /// [`Error::Component`] when it cannot be loaded, is not the expected one, imports more than
    /// [`ALLOWED_IMPORTS`](crate::ALLOWED_IMPORTS), or does not export the contract.
    pub async fn build(self) -> Result<Backend, Error> {
        let Self {
            source,
            sha256,
            limits,
        } = self;
        let loaded = if matches!(source, ComponentSource::Embedded) {
            // Mapped in no time: a thread for it would take longer.
            load(&source, sha256.as_deref())
        } else {
            tokio::task::spawn_blocking(move || load(&source, sha256.as_deref()))
                .await
                .map_err(|error| ComponentError::Instantiate(error.to_string()))?
        };
        Ok(Backend {
            component: Arc::new(loaded?),
            limits,
        })
    }
}

/// Runs one function of the contract that needs no store, in an instance that reaches nothing.
macro_rules! ask {
    ($backend:expr, $surroundings:expr, $function:ident($($argument:expr),*)) => {{
        let backend: &Backend = $backend;
        let mut instance = backend.without_network($surroundings).await?;
        let call = instance.begin_call();
        let exports = instance.exports.cofferdam_state_backend_state_store();
        let answer = exports.$function(&mut instance.store, $($argument),*);
        within(backend.limits.wall_clock, &call, answer).await
    }};
}

impl Backend {
    /// A backend with the embedded component and the default limits, unless told otherwise.
    pub fn builder() -> BackendBuilder {
        BackendBuilder::default()
    }

    /// SHA-256 of the component, in hex.
    pub fn sha256(&self) -> &str {
        &self.component.sha256
    }

    /// A store of this configuration, the backend block as a JSON object.
    pub fn store(&self, config: Value) -> StoreBuilder {
        StoreBuilder {
            backend: self.clone(),
            config,
            grant: Grant::default(),
            limits: self.limits,
            tenant: Tenant::default(),
            fence: Fence::default(),
            warnings: Arc::new(|diagnostic| {
                tracing::warn!(
                    summary = diagnostic.summary,
                    detail = diagnostic.detail,
                    "state store"
                );
            }),
        }
    }

    /// The arguments that the component takes, as the contract's JSON.
    ///
    /// # Errors
    /// [`Error::Limit`] or [`Error::Trap`].
    pub async fn schema(&self) -> Result<String, Error> {
        ask!(self, Grant::sealed().ask(&Value::Null), call_schema())
    }

    /// Checks a configuration without touching the network. Empty: nothing to complain about.
    ///
    /// # Errors
    /// [`Error::Limit`] or [`Error::Trap`].
    pub async fn validate(&self, config: &Value, grant: &Grant) -> Result<Vec<Diagnostic>, Error> {
        let surroundings = grant.ask(config);
        let network = grant.network(config).await;
        let config = Zeroizing::new(config.to_string());
        let found = ask!(self, surroundings, call_validate(&config))?;
        let mut found: Vec<_> = found.into_iter().map(convert::diagnostic).collect();
        found.extend(network.map_or_else(|wrong| wrong, |(_, warnings)| warnings));
        Ok(found)
    }

    /// What a configuration resolves to and why, without any secret: where requests go, with which credentials, through
    /// which proxies, and what the [grant](Grant) allows. Touches no network. `docs/explain.md` describes the object.
    ///
    /// # Errors
    /// [`Error::Configuration`] with what is wrong, [`Error::Limit`] or [`Error::Trap`].
    pub async fn explain(&self, config: &Value, grant: &Grant) -> Result<Value, Error> {
        let surroundings = grant.ask(config);
        let network = grant.network(config).await;
        let text = Zeroizing::new(config.to_string());
        let explained = ask!(self, surroundings, call_explain(&text))?.map_err(|list| {
            Error::Configuration(list.into_iter().map(convert::diagnostic).collect())
        })?;
        let (network, warnings) = network.map_err(Error::Configuration)?;
        let mut account = match serde_json::from_str(&explained) {
            Ok(Value::Object(account)) => account,
            _ => {
                let message = "the component's account of the configuration is no JSON object";
                return Err(inspection::failure(ErrorCode::Other, message.to_owned()));
            }
        };
        if let Value::Object(of_network) = network.explain() {
            account.extend(of_network);
        }
        let of_grant = grant.explain(config, &network).await;
        account.insert("grant".to_owned(), of_grant);
        let diagnostics = account.entry("diagnostics").or_insert_with(|| json!([]));
        if let Value::Array(diagnostics) = diagnostics {
            diagnostics.extend(warnings.iter().map(|warning| json!(warning)));
        }
        Ok(account.into())
    }

    pub(crate) fn component(&self) -> &Loaded {
        &self.component
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// An instance that reaches nothing: for questions about configurations.
    pub(crate) async fn without_network(
        &self,
        surroundings: Arc<dyn Surroundings>,
    ) -> Result<Instance, Error> {
        let environment = Arc::new(Environment {
            limits: self.limits,
            tenant: Tenant::default(),
            surroundings,
            credentials: SharedCredentials::default(),
            transport: Arc::new(Transport::new(
                Egress::default(),
                Settings::default(),
                &self.limits,
                &Tenant::default(),
            )),
            warnings: Arc::new(|_| {}),
        });
        Instance::new(&self.component, &environment).await
    }
}

/// How a [`Store`] is opened.
#[must_use]
pub struct StoreBuilder {
    backend: Backend,
    config: Value,
    grant: Grant,
    limits: Limits,
    tenant: Tenant,
    fence: Fence,
    warnings: WarningSink,
}

impl std::fmt::Debug for StoreBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreBuilder")
            .field("grant", &self.grant)
            .field("limits", &self.limits)
            .field("tenant", &self.tenant)
            .field("fence", &self.fence)
            .finish_non_exhaustive()
    }
}

/// A store, and what there is to say about its configuration.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// Warnings about the configuration.
    pub warnings: Vec<Diagnostic>,
}

impl StoreBuilder {
    /// What the store may do. Default: [`Grant::sealed`].
    pub fn grant(mut self, grant: Grant) -> Self {
        self.grant = grant;
        self
    }

    /// Limits of this store's calls.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Whose store it is: the name in spans and metrics, and the caps that it shares with the tenant's other stores.
    /// Default: nobody's, named `none`, without caps.
    pub fn tenant(mut self, tenant: &Tenant) -> Self {
        self.tenant = tenant.clone();
        self
    }

    /// Whether a store that refuses conditional writes may be used without them. Default: it may not.
    pub fn fence(mut self, fence: Fence) -> Self {
        self.fence = fence;
        self
    }

    /// Takes the warnings that arise while the store works. Default: they are logged.
    pub fn on_warning(mut self, sink: impl Fn(Diagnostic) + Send + Sync + 'static) -> Self {
        self.warnings = Arc::new(sink);
        self
    }

    /// Opens the store. Touches no network.
    ///
    /// # Errors
    /// [`Error::Configuration`] with every diagnostic when the configuration is wrong, [`Error::Limit`] or
    /// [`Error::Trap`].
    pub async fn open(self) -> Result<Opened, Error> {
        let (network, network_warnings, wrong) = match self.grant.network(&self.config).await {
            Ok((network, warnings)) => (network, warnings, Vec::new()),
            Err(diagnostics) => (Settings::default(), Vec::new(), diagnostics),
        };
        let surroundings = self.grant.ask(&self.config);
        let egress = self
            .grant
            .egress(&self.config, &network, &*surroundings)
            .await;
        let environment = Arc::new(Environment {
            limits: self.limits,
            surroundings,
            credentials: SharedCredentials::default(),
            transport: Arc::new(Transport::new(egress, network, &self.limits, &self.tenant)),
            tenant: self.tenant,
            warnings: self.warnings,
        });
        let inner = Inner {
            component: self.backend.component,
            environment,
            config: Zeroizing::new(self.config.to_string()),
            fence: self.fence,
            idle: Mutex::default(),
            permits: Semaphore::new(
                count(self.limits.concurrent_calls).min(Semaphore::MAX_PERMITS),
            ),
        };
        // What the component finds wrong with the block as a whole comes first.
        let (store, mut warnings) = Store::open(inner).await?;
        if !wrong.is_empty() {
            return Err(Error::Configuration(wrong));
        }
        warnings.extend(network_warnings);
        Ok(Opened { store, warnings })
    }
}
