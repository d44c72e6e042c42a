//! What a backend block means: its arguments, their defaults and environment variables, and what is
//! wrong with them.
//!
//! Without one place for this, the documentation, the checks and the requests would each have their
//! own idea of an argument, and a misspelt `use_lockfile` would go unnoticed until two writers met.
//!
//! The data flows one way: `schema` says what may stand in a block, `block` reads one by it,
//! `validate` judges it and makes [`Settings`], and `explain` tells where those came from.

#[cfg(not(target_arch = "wasm32"))]
mod arguments_page;
mod block;
mod credentials;
mod duration;
mod encryption;
pub(crate) mod endpoint;
mod endpoints;
mod explain;
mod location;
pub(crate) mod region;
mod roles;
mod schema;
mod service;
mod settings;
mod shared;
mod suggest;
#[cfg(test)]
mod tests;
mod validate;

use crate::credentials::Session;
use crate::platform::Surroundings;

pub use location::BucketLocation;
pub(crate) use service::{Asked, Custom};
pub use service::{Service, Variant};
pub use settings::{CustomerKey, Encryption, RetryMode, ServiceLocation, Settings, Sourced};

/// How serious a diagnostic is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, but the person should know this.
    Warning,
}

/// A message for the person at the keyboard, in Terraform's diagnostic form. It never holds the
/// value of a sensitive argument.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Diagnostic {
    /// How serious it is.
    pub severity: Severity,
    /// One line, without a final stop.
    pub summary: String,
    /// The explanation; may hold line breaks; may be empty.
    pub detail: String,
    /// Path of the argument at fault, such as `endpoints.s3`. None: the whole block, or the
    /// environment.
    pub attribute: Option<String>,
}

impl Diagnostic {
    fn error(summary: &str, detail: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            summary: summary.to_owned(),
            detail: detail.into(),
            attribute: None,
        }
    }

    fn warning(summary: &str, detail: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(summary, detail)
        }
    }

    fn at(mut self, attribute: &str) -> Self {
        self.attribute = Some(attribute.to_owned());
        self
    }
}

/// The environment variables that a backend block falls back on.
pub trait Environment {
    /// The value of a variable. None: not set, or not granted.
    fn variable(&self, name: &str) -> Option<String>;
}

/// The arguments as a JSON array, in the order of the documentation. Each is an object of `name`,
/// `type`, `required`, `default`, `environment` (first come, first served), `sensitive`,
/// `deprecated` (what to use instead, or null), `conflicts` and `documentation` (Markdown).
pub fn schema_json() -> String {
    schema::json()
}

/// The arguments, and the variables and profile keys beside them, as Markdown tables for the documentation.
#[cfg(not(target_arch = "wasm32"))]
pub fn arguments_markdown() -> String {
    arguments_page::markdown()
}

/// Checks a backend block, a JSON object: every argument on its own, everything that there is to
/// say in Terraform's order. An empty list: nothing to complain about.
pub fn validate(config: &str, environment: &dyn Environment) -> Vec<Diagnostic> {
    validate::check(config, environment, None).diagnostics
}

/// What a backend block stands for.
#[derive(Debug)]
pub(crate) struct Resolution {
    pub(crate) settings: Settings,
    pub(crate) session: Session,
    pub(crate) warnings: Vec<Diagnostic>,
}

/// Turns a backend block into what it stands for. Reads the shared AWS files; touches no network.
///
/// # Errors
///
/// All diagnostics, when one of them is an error.
pub(crate) fn resolve(
    config: &str,
    surroundings: &dyn Surroundings,
) -> Result<Resolution, Vec<Diagnostic>> {
    let checked = validate::check(config, surroundings, Some(surroundings));
    match checked.resolved {
        Some(resolved) => Ok(Resolution {
            settings: resolved.settings,
            session: resolved.session,
            warnings: checked.diagnostics,
        }),
        None => Err(checked.diagnostics),
    }
}

/// What a backend block resolves to and why, as a JSON object without a secret:
///
/// - `format_version`: `"1"`. Fields may be added under the same version.
/// - `region`: `value`, `source`.
/// - `endpoints.s3`, null where there is none for FIPS or dualstack `endpoints.sts` and `endpoints.iam`, null where they
///   are not used `endpoints.dynamodb` and `endpoints.sso`: `url`, `signing_region`, `source`.
/// - `bucket_url`; `addressing`: `path` or `virtual`; `addressing_reason`.
/// - `credentials`: `source`, `access_key_id` (null unless known without a call), `profile` (null), `passed_over` (objects
///   of `source` and `reason`), `files` (that were looked at).
/// - `retry`: `mode`, `max_attempts`. `locking`: `lockfile`, `dynamodb_table` (null: none).
/// - `encryption`: `mode` (`none`, `AES256`, `aws:kms` or `SSE-C`), `kms_key_id` (null), `note` (null; what is set and has
///   no effect). `tags`: `state`, `lock`, each as the header `x-amz-tagging` has them, or null.
/// - `diagnostics`: the warnings, objects of `severity`, `summary`, `detail`, `attribute`.
///
/// Sources read `argument region`, `environment AWS_REGION` or `default`.
///
/// # Errors
///
/// All diagnostics, when one of them is an error.
pub fn explain(config: &str, surroundings: &dyn Surroundings) -> Result<String, Vec<Diagnostic>> {
    let host_lends = surroundings.credentials().is_some();
    let checked = validate::check(config, surroundings, Some(surroundings));
    match checked.resolved {
        Some(resolved) => Ok(explain::json(&resolved, host_lends, &checked.diagnostics)),
        None => Err(checked.diagnostics),
    }
}
