//! The account of where each setting came from.
//!
//! Without it, "which region, which keys, which host?" is answered by trying, on somebody's state.

use serde_json::json;

use super::settings::{Encryption, ServiceLocation, Sourced};
use super::validate::Resolved;
use super::{Diagnostic, Severity, credentials};

/// The JSON that [`explain`](super::explain()) documents.
pub(super) fn json(resolved: &Resolved, host_lends: bool, diagnostics: &[Diagnostic]) -> String {
    let settings = &resolved.settings;
    let bucket = settings.bucket_location();
    let source = settings.s3_endpoint.as_ref();
    let source = source.map_or("default", |it| &it.source);
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
    let dynamodb = settings.dynamodb_table.as_ref().map(|_| {
        let location = settings.dynamodb_location();
        service(&location, settings.dynamodb_endpoint.as_ref())
    });
    let known = &settings.credential_endpoints;
    let sso = credentials::sso_portal(&resolved.session).filter(|_| !host_lends);
    let sso = sso.map(|(location, is_default)| {
        json!({
            "url": location.url(),
            "signing_region": null,
            "source": if is_default { "default" } else { "configured" },
        })
    });
    let (mode, kms_key_id) = match &settings.encryption {
        Encryption::Aes256 => ("AES256", None),
        Encryption::CustomerKey(_) => ("SSE-C", None),
        Encryption::Kms(id) => ("aws:kms", Some(id)),
        Encryption::None => ("none", None),
    };
    json!({
        "format_version": "1",
        "region": { "value": settings.region.value, "source": settings.region.source },
        "endpoints": {
            "s3": { "url": settings.s3_url(), "signing_region": bucket.region, "source": source },
            "dynamodb": dynamodb,
            "sts": service(&known.sts, settings.sts_endpoint.as_ref()),
            "iam": service(&known.iam, settings.iam_endpoint.as_ref()),
            "sso": sso,
        },
        "bucket_url": bucket.url(),
        "addressing": bucket.addressing,
        "addressing_reason": bucket.reason,
        "credentials": credentials::explained(&resolved.session, host_lends),
        "retry": { "mode": settings.retry_mode.name(), "max_attempts": settings.max_attempts },
        "locking": {
            "lockfile": settings.use_lockfile,
            "dynamodb_table": settings.dynamodb_table,
        },
        "encryption": {
            "mode": mode,
            "kms_key_id": kms_key_id,
            "note": resolved.encryption_note,
        },
        "tags": { "state": settings.state_tags, "lock": settings.lock_tags },
        "diagnostics": diagnostics,
    })
    .to_string()
}

fn service(location: &ServiceLocation, endpoint: Option<&Sourced<String>>) -> serde_json::Value {
    json!({
        "url": location.url(),
        "signing_region": location.region,
        "source": endpoint.map_or("default", |it| &it.source),
    })
}
