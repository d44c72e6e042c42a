//! The account of where each setting came from.
//!
//! Without it, "which region, which keys, which host?" is answered by trying, on somebody's state.

use serde_json::Value;

use crate::json;

use super::settings::{Encryption, ServiceLocation, Sourced};
use super::validate::Resolved;
use super::{Diagnostic, Severity, credentials};

/// The JSON that [`explain`](super::explain()) documents.
pub(super) fn json(resolved: &Resolved, host_lends: bool, diagnostics: &[Diagnostic]) -> String {
    let settings = &resolved.settings;
    let bucket = settings.bucket_location();
    // Access points stand in front of a host of their own.
    let s3_url = match bucket.authority.split_once('.') {
        Some((_, host)) if settings.bucket.starts_with("arn:") => {
            format!("{}://{host}{}", bucket.scheme, bucket.path_prefix)
        }
        _ => settings.s3_url(),
    };
    let source = settings.s3_endpoint.as_ref();
    let source = source.map_or("default", |it| &it.source);
    let diagnostics: Vec<_> = diagnostics
        .iter()
        .map(|it| {
            let severity = match it.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            json::object([
                ("severity", severity.into()),
                ("summary", it.summary.as_str().into()),
                ("detail", it.detail.as_str().into()),
                ("attribute", it.attribute.clone().into()),
            ])
        })
        .collect();
    let dynamodb = settings.dynamodb_table.as_ref().map(|_| {
        let location = settings.dynamodb_location();
        service(&location, settings.dynamodb_endpoint.as_ref())
    });
    let known = &settings.credential_endpoints;
    let sts = (known.sts.as_ref().ok()).map(|it| service(it, settings.sts_endpoint.as_ref()));
    let iam = (known.iam.as_ref().ok()).map(|it| service(it, settings.iam_endpoint.as_ref()));
    let sso = credentials::sso_portal(&resolved.session).filter(|_| !host_lends);
    let sso = sso.map(|portal| {
        json::object([
            ("url", portal.value.url().into()),
            ("signing_region", Value::Null),
            ("source", portal.source.as_str().into()),
        ])
    });
    let (mode, kms_key_id) = match &settings.encryption {
        Encryption::Aes256 => ("AES256", None),
        Encryption::CustomerKey(_) => ("SSE-C", None),
        Encryption::Kms(id) => ("aws:kms", Some(id)),
        Encryption::None => ("none", None),
    };
    let region = [
        ("value", settings.region.value.as_str().into()),
        ("source", settings.region.source.as_str().into()),
    ];
    let s3 = [
        ("url", s3_url.into()),
        ("signing_region", bucket.region.as_str().into()),
        ("source", source.into()),
    ];
    let endpoints = [
        ("s3", json::object(s3)),
        ("dynamodb", dynamodb.into()),
        ("sts", sts.into()),
        ("iam", iam.into()),
        ("sso", sso.into()),
    ];
    let retry = [
        ("mode", settings.retry_mode.name().into()),
        ("max_attempts", settings.max_attempts.into()),
    ];
    let locking = [
        ("lockfile", settings.use_lockfile.into()),
        ("dynamodb_table", settings.dynamodb_table.clone().into()),
    ];
    let encryption = [
        ("mode", mode.into()),
        ("kms_key_id", kms_key_id.cloned().into()),
        ("note", resolved.encryption_note.into()),
    ];
    let tags = [
        ("state", settings.state_tags.clone().into()),
        ("lock", settings.lock_tags.clone().into()),
    ];
    json::text(&json::object([
        ("format_version", "1".into()),
        ("region", json::object(region)),
        ("endpoints", json::object(endpoints)),
        ("bucket_url", bucket.url().into()),
        ("addressing", bucket.addressing.into()),
        ("addressing_reason", bucket.reason.into()),
        (
            "credentials",
            credentials::explained(&resolved.session, host_lends),
        ),
        ("retry", json::object(retry)),
        ("locking", json::object(locking)),
        ("encryption", json::object(encryption)),
        ("tags", json::object(tags)),
        ("diagnostics", diagnostics.into()),
    ]))
}

fn service(location: &ServiceLocation, endpoint: Option<&Sourced<String>>) -> Value {
    let source = endpoint.map_or("default", |it| &it.source);
    json::object([
        ("url", location.url().into()),
        ("signing_region", location.region.as_str().into()),
        ("source", source.into()),
    ])
}
