//! The merged block that `terraform init` leaves in its data directory.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Arguments;
use super::error::{ConfigError, Place};

/// Its name in the data directory. Not a state, although it is named like one.
const FILE: &str = "terraform.tfstate";

/// What `terraform init` was last run for.
pub(super) struct Initialised {
    pub(super) kind: String,
    pub(super) config: Arguments,
    pub(super) path: PathBuf,
}

/// `None`: not initialised, or without a backend.
pub(super) fn read(data_dir: &Path) -> Result<Option<Initialised>, ConfigError> {
    let path = data_dir.join(FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(source) => return Err(ConfigError::Read { path, source }),
    };
    let file: File = serde_json::from_slice(&bytes).map_err(|error| ConfigError::Syntax {
        place: Place {
            path: path.clone(),
            line: error.line(),
        },
        reason: "not what \"terraform init\" writes; run it again".to_owned(),
    })?;
    Ok(file
        .backend
        .filter(|backend| !backend.kind.is_empty())
        .map(|backend| Initialised {
            kind: backend.kind,
            config: backend.config.unwrap_or_default(),
            path,
        }))
}

#[derive(Deserialize)]
struct File {
    backend: Option<Backend>,
}

#[derive(Deserialize)]
struct Backend {
    #[serde(rename = "type", default)]
    kind: String,
    config: Option<Arguments>,
}
