//! `version`: what a report about a defect needs.

use serde_json::json;

use crate::arguments::Format;
use crate::failure::Failure;
use crate::output::{data, json};
use crate::session::Session;

pub(crate) async fn run(session: &Session, options: &Format) -> Result<(), Failure> {
    let backend = session.backend().await?;
    let version = env!("CARGO_PKG_VERSION");
    // The build script tells; the crate itself does not.
    let wasmtime = option_env!("COFFERDAM_WASMTIME_VERSION");
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
    let wasmtime = wasmtime
        .map(|version| format!("wasmtime {version}\n"))
        .unwrap_or_default();
    data(
        format!("cofferdam {version}\ncomponent sha256:{component}\n{wasmtime}license {license}\n")
            .as_bytes(),
    )
}
