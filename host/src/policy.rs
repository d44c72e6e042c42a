//! The least that AWS must allow for a configuration to work: asked of the component, which knows its own requests.
//!
//! Whoever has to guess grants `s3:*`, and every job can read every state.

use serde_json::Value;
use wasmtime::component::{ComponentType, Lift, Lower};
use zeroize::Zeroizing;

use crate::bindings::cofferdam::state_backend::types as wit;
use crate::inspection::{self, run};
use crate::instance::within;
use crate::{Backend, Error, ErrorCode, Grant, convert};

/// What somebody does with states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// Plans and applies: reads, locks and writes states, new workspaces' too.
    Apply,
    /// [Probes](crate::Store::probe) the store.
    Doctor,
    /// Reads states.
    Outputs,
    /// Reads states, and locks them meanwhile.
    Plan,
    /// Compares digests with states and their earlier versions, under the lock, and records others.
    Repair,
}

/// For whom and for what a policy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyOptions {
    purpose: Purpose,
    workspaces: Option<Vec<String>>,
    delete_workspaces: bool,
    even_aws: bool,
    principals: Vec<String>,
}

impl PolicyOptions {
    /// A policy of whoever works with the states of all workspaces.
    pub fn new(purpose: Purpose) -> Self {
        Self {
            purpose,
            workspaces: None,
            delete_workspaces: false,
            even_aws: false,
            principals: Vec::new(),
        }
    }

    /// Only the states of these workspaces, and no list of workspaces.
    #[must_use]
    pub fn workspaces(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.workspaces = Some(names.into_iter().collect());
        self
    }

    /// With [`Purpose::Apply`]: whether workspaces other than `default` may be deleted. Default: they may not.
    #[must_use]
    pub fn delete_workspaces(mut self, allow: bool) -> Self {
        self.delete_workspaces = allow;
        self
    }

    /// With [`Purpose::Doctor`]: as in [`ProbeOptions::even_aws`](crate::ProbeOptions::even_aws).
    #[must_use]
    pub fn even_aws(mut self, even_aws: bool) -> Self {
        self.even_aws = even_aws;
        self
    }

    /// The policy of the bucket instead, which allows this principal (an ARN, or the id of an account) something; may
    /// be called several times.
    #[must_use]
    pub fn principal(mut self, principal: impl Into<String>) -> Self {
        self.principals.push(principal.into());
        self
    }
}

/// A policy.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Policy {
    /// The policy of AWS IAM, a JSON object.
    pub document: Value,
    /// What a person should know about it, in sentences.
    pub notes: Vec<String>,
}

impl Backend {
    /// The least that AWS must allow for this configuration. Touches no network.
    ///
    /// # Errors
    /// [`Error::Configuration`] with what is wrong with the configuration or the options, [`ErrorCode::Unsupported`]
    /// when the component does not offer it, [`Error::Limit`] or [`Error::Trap`].
    pub async fn least_policy(
        &self,
        config: &Value,
        grant: &Grant,
        options: &PolicyOptions,
    ) -> Result<Policy, Error> {
        let function = self.component().inspection.as_ref();
        let function = function
            .and_then(|it| it.least_policy.as_ref())
            .ok_or_else(|| {
                let message = "this component does not tell the least policy of a configuration";
                inspection::failure(ErrorCode::Unsupported, message.to_owned())
            })?;
        let mut instance = self.without_network(grant.ask(config)).await?;
        let call = instance.begin_call();
        let config = Zeroizing::new(config.to_string());
        let arguments = (config.as_str(), WitPolicyOptions::from(options));
        let asking = run::<_, WitPolicy, Vec<wit::Diagnostic>>(&mut instance, function, arguments);
        let policy = within(self.limits().wall_clock, &call, asking)
            .await?
            .map_err(|list| {
                Error::Configuration(list.into_iter().map(convert::diagnostic).collect())
            })?;
        let document = serde_json::from_str(&policy.document)
            .ok()
            .filter(Value::is_object);
        Ok(Policy {
            document: document.ok_or_else(|| {
                let message = "the component's policy is no JSON object";
                inspection::failure(ErrorCode::Other, message.to_owned())
            })?,
            notes: policy.notes,
        })
    }
}

#[derive(Clone, Copy, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
enum WitPurpose {
    #[component(name = "apply")]
    Apply,
    #[component(name = "doctor")]
    Doctor,
    #[component(name = "outputs")]
    Outputs,
    #[component(name = "plan")]
    Plan,
    #[component(name = "repair")]
    Repair,
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct WitPolicyOptions {
    purpose: WitPurpose,
    workspaces: Option<Vec<String>>,
    #[component(name = "delete-workspaces")]
    delete_workspaces: bool,
    #[component(name = "even-aws")]
    even_aws: bool,
    principals: Vec<String>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct WitPolicy {
    document: String,
    notes: Vec<String>,
}

impl From<&PolicyOptions> for WitPolicyOptions {
    fn from(options: &PolicyOptions) -> Self {
        Self {
            purpose: match options.purpose {
                Purpose::Apply => WitPurpose::Apply,
                Purpose::Doctor => WitPurpose::Doctor,
                Purpose::Outputs => WitPurpose::Outputs,
                Purpose::Plan => WitPurpose::Plan,
                Purpose::Repair => WitPurpose::Repair,
            },
            workspaces: options.workspaces.clone(),
            delete_workspaces: options.delete_workspaces,
            even_aws: options.even_aws,
            principals: options.principals.clone(),
        }
    }
}
