//! The account of where each setting came from.
//!
//! Without it, "which region, which keys, which host?" is answered by trying, on somebody's state.

use serde_json::json;

use super::location;
use super::validate::Resolved;
use super::{Diagnostic, Severity};

/// The JSON that [`explain`](super::explain()) documents.
pub(super) fn json(resolved: &Resolved, diagnostics: &[Diagnostic]) -> String {
    let settings = &resolved.settings;
    let bucket = settings.bucket_location();
    let (url, source) = match &settings.s3_endpoint {
        Some(endpoint) => (endpoint.value.clone(), endpoint.source.as_str()),
        None => (location::aws_endpoint(&settings.region.value), "default"),
    };
    let credentials = settings.credentials.as_ref();
    let passed_over: Vec<_> = resolved
        .passed_over
        .iter()
        .map(|it| json!({ "source": it.source, "reason": it.reason }))
        .collect();
    let diagnostics: Vec<_> = diagnostics
        .iter()
        .map(|it| {
            json!({
                "severity": match it.severity {
                    Severity::Error => "error",
                    Severity::Warning => "warning",
                },
                "summary": it.summary,
                "detail": it.detail,
                "attribute": it.attribute,
            })
        })
        .collect();
    json!({
        "format_version": "1",
        "region": { "value": settings.region.value, "source": settings.region.source },
        "endpoints": {
            "s3": { "url": url, "signing_region": bucket.region, "source": source },
        },
        "bucket_url": bucket.url(),
        "addressing": bucket.addressing,
        "addressing_reason": bucket.reason,
        "credentials": {
            "source": credentials.map(|it| &it.source),
            "access_key_id": credentials.map(|it| &it.access_key_id),
            "profile": null,
            "passed_over": passed_over,
        },
        "retry": { "mode": "standard", "max_attempts": settings.max_attempts },
        "locking": { "lockfile": settings.use_lockfile },
        "encryption": { "mode": if settings.encrypt { "AES256" } else { "none" } },
        "diagnostics": diagnostics,
    })
    .to_string()
}
