//! Which endpoints block, environment and profile name, and whether there are such.
//!
//! Without Terraform's order among them, signed requests would go to a place that somebody else named; without its
//! refusals, to one without the cryptography that was ordered.

use super::block::Block;
use super::endpoint::{self, Endpoint, Verdict};
use super::service::{Asked, Custom, Service, Variant};
use super::settings::Sourced;
use super::shared::{Shared, switch};
use super::{Diagnostic, Environment};

/// The endpoint that the block names, in either spelling.
pub(super) fn given(
    block: &Block,
    spellings: [&'static str; 2],
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Sourced<String>> {
    // Both are checked before one of them is taken.
    let [new, old] = spellings.map(|name| {
        let url = block.text(name)?;
        let subject = "The value";
        let url = normalised(url, subject, diagnostics, |it| it.at(name))?;
        Some(Sourced::argument(name, url))
    });
    new.or(old)
}

/// The endpoint that environment or profile name for an argument.
pub(super) fn of(
    argument: &str,
    shared: Shared<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Sourced<String>> {
    // This switch is for the variable of all services and for profiles, not for a service's own variables.
    let is_ignored = shared.ignores_configured_endpoints();
    let found = match Sourced::from_environment(argument, shared.environment) {
        Some(found) if found.source == "environment AWS_ENDPOINT_URL" && is_ignored => None,
        Some(found) => Some(found),
        None if is_ignored => None,
        None => {
            let service = argument.strip_prefix("endpoints.").unwrap_or(argument);
            let found = shared.profile.and_then(|profile| profile.endpoint(service));
            found.map(|(url, source)| Sourced {
                value: url.to_owned(),
                source,
            })
        }
    }?;
    let subject = format!("The value of the {}", found.described());
    let mut said = Vec::new();
    let value = normalised(&found.value, &subject, &mut said, |it| it);
    // One variable may stand for several services.
    said.retain(|it| !diagnostics.contains(it));
    diagnostics.append(&mut said);
    Some(Sourced {
        value: value?,
        source: found.source,
    })
}

/// An endpoint's URL in the one form that the rest of the guest knows. None: it is empty or of no
/// use.
fn normalised(
    url: &str,
    subject: &str,
    diagnostics: &mut Vec<Diagnostic>,
    at: impl Fn(Diagnostic) -> Diagnostic,
) -> Option<String> {
    let shown = endpoint::redacted(url);
    let complete = match endpoint::judge(url) {
        Verdict::Unparsable(reason) => {
            let detail = format!("{subject} {shown:?} cannot be parsed as a URL: {reason}");
            diagnostics.push(at(Diagnostic::error("Invalid Value", detail)));
            return None;
        }
        Verdict::Incomplete(complete) => {
            let detail = format!(
                "{subject} should be a valid URL containing at least a scheme and hostname. Had \
                 {shown:?}.\n\nUsing an incomplete URL, such as a hostname only, may work, but may have \
                 unexpected behavior."
            );
            diagnostics.push(at(Diagnostic::warning("Complete URL Expected", detail)));
            if url.is_empty() {
                return None;
            }
            complete
        }
        Verdict::Complete => url.to_owned(),
    };
    match Endpoint::parse(&complete) {
        Err(reason) => {
            let detail = format!("{subject} {shown:?} cannot be used as an endpoint: {reason}");
            diagnostics.push(at(Diagnostic::error("Invalid Value", detail)));
            None
        }
        Ok(endpoint) => {
            if endpoint.trimmed {
                let detail = format!(
                    "{subject} has a user name, a query or a fragment, which requests cannot carry. \
                     They go to {:?}.",
                    endpoint.url()
                );
                diagnostics.push(at(Diagnostic::warning("Endpoint shortened", detail)));
            }
            Some(endpoint.url())
        }
    }
}

/// What block and environment say of FIPS and dualstack. An argument that is false leaves it to the others, as in
/// Terraform.
pub(super) fn asked_variant(
    block: &Block,
    environment: &dyn Environment,
    diagnostics: &mut Vec<Diagnostic>,
) -> Asked {
    let mut asked = |argument, variable| {
        let by_variable = switch(environment, variable, "true, false", diagnostics);
        if block.flag(argument) {
            Some(true)
        } else {
            by_variable
        }
    };
    Asked {
        fips: asked("use_fips_endpoint", "AWS_USE_FIPS_ENDPOINT"),
        dualstack: asked("use_dualstack_endpoint", "AWS_USE_DUALSTACK_ENDPOINT"),
    }
}

/// Passing over FIPS would send a state otherwise than its owner ordered.
pub(super) fn check_variant(
    service: Service,
    region: &Sourced<String>,
    variant: Variant,
    endpoint: Option<(&Sourced<String>, Custom<'_>)>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let custom = endpoint.map(|(_, custom)| custom);
    let Some(reason) = service.refusal(&region.value, variant, custom) else {
        return;
    };
    let name = service.name();
    let detail = match endpoint {
        Some((endpoint, _)) => format!(
            "{reason}\n\nThe endpoint of {name} is the {}. One that the block names, by \
             \"endpoints.{name}\", is used as it is.",
            endpoint.described()
        ),
        None => format!(
            "{reason}\n\nThis is about {name} in the region {} ({}), with use_fips_endpoint or \
             use_dualstack_endpoint from the block, the environment or the profile.",
            region.value, region.source
        ),
    };
    diagnostics.push(Diagnostic::error("Invalid endpoint configuration", detail));
}
