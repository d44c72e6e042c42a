//! `version`: what a report about a defect needs.
//!
//! `--json`: `{"format_version", "version", "component": {"sha256"}, "wasmtime", "license"}`.

use serde_json::json;

use crate::arguments::Format;
use crate::failure::Failure;
use crate::output::{data, json};
use crate::session::Session;

pub(crate) async fn run(session: &Session, options: &Format) -> Result<(), Failure> {
    let backend = session.backend().await?;
    let version = env!("CARGO_PKG_VERSION");
    let wasmtime = env!("COFFERDAM_WASMTIME_VERSION");
    let license = env!("CARGO_PKG_LICENSE");
    let component = backend.sha256();
    if options.json {
        return json(json!({
            "version": version,
            "component": { "sha256": component },
            "wasmtime": wasmtime,
            "license": license,
        }));
    }
    data(
        format!("cofferdam {version}\ncomponent sha256:{component}\nwasmtime {wasmtime}\nlicense {license}\n")
            .as_bytes(),
    )
}
