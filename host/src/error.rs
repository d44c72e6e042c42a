//! What a call of this library may fail with.
//!
//! Three layers stay apart, because the answer to each differs: the backend's own typed error (the store
//! said no), a limit or trap (the sandbox ended the call), and the component (it cannot be run at all).

use std::time::Duration;

use crate::{Diagnostic, ErrorCode, Outcome, StoreError};

/// What a call of this library may fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The component cannot be loaded or run.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// The backend block is wrong. At least one diagnostic is an error.
    #[error("{}", first_error(.0))]
    Configuration(Vec<Diagnostic>),
    /// A limit ended the call.
    #[error("{limit}{}", consequence(*.outcome, *.read_back))]
    Limit {
        /// Which one.
        limit: Limit,
        /// Whether the store may have changed.
        outcome: Outcome,
        /// What was found when the store was asked afterwards.
        read_back: Option<&'static str>,
    },
    /// The backend answered with an error.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The component crashed. The next call runs in a fresh instance.
    #[error("the component crashed: {reason}{}", consequence(*.outcome, *.read_back))]
    Trap {
        /// The kind of trap, without any text from the component.
        reason: String,
        /// Whether the store may have changed.
        outcome: Outcome,
        /// What was found when the store was asked afterwards.
        read_back: Option<&'static str>,
    },
}

impl Error {
    /// The backend's error code, if the backend answered.
    pub fn code(&self) -> Option<ErrorCode> {
        self.store().map(|error| error.code)
    }

    /// The backend's error, if the backend answered.
    pub fn store(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error) => Some(error),
            _ => None,
        }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.retryable,
            Self::Limit { limit, .. } => matches!(limit, Limit::WallClock(_)),
            Self::Component(_) | Self::Configuration(_) | Self::Trap { .. } => false,
        }
    }

    /// Whether something may have changed in the store although the call failed.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Store(error) => error.outcome,
            Self::Limit { outcome, .. } | Self::Trap { outcome, .. } => *outcome,
            Self::Component(_) | Self::Configuration(_) => Outcome::NotDone,
        }
    }

    /// The diagnostics of a wrong configuration; empty for every other error.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            Self::Configuration(diagnostics) => diagnostics,
            _ => &[],
        }
    }
}

/// A limit of the sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Limit {
    /// The component handed more than this many bytes to the host at once.
    #[error("the component handed over more than {0} bytes at once")]
    Answer(u64),
    /// The component computed for longer than this.
    #[error("the component used more than its {} ms of processor time", .0.as_millis())]
    Cpu(Duration),
    /// The component held more than this many resources.
    #[error("the component held more than its {0} resources")]
    Handles(u64),
    /// The component wanted to send more than this many bytes of headers in one request.
    #[error("the component wanted to send more than {0} bytes of headers")]
    Headers(u64),
    /// The component wanted more memory than this many bytes.
    #[error("the component wanted more than its {} MiB of memory", .0 >> 20)]
    Memory(u64),
    /// The component asked for more than this many random bytes at once.
    #[error("the component asked for more than {0} random bytes at once")]
    Random(u64),
    /// The component wanted a table of more than this many elements.
    #[error("the component wanted a table of more than {0} elements")]
    TableElements(u64),
    /// The call took longer than this.
    #[error("the call took longer than its {} ms", .0.as_millis())]
    WallClock(Duration),
}

/// Why a component cannot be loaded or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComponentError {
    /// It is another one than was asked for. Nothing of it was compiled.
    #[error(
        "the component is not the expected one: its SHA-256 is {actual}, and not {expected}; nothing of it was run"
    )]
    Digest {
        /// As it was asked for.
        expected: String,
        /// In hex.
        actual: String,
    },
    /// It imports something that no state backend needs.
    #[error(
        "the component imports {}, which this host does not offer: a state backend needs only the imports of the world `state-backend`",
        .0.join(", ")
    )]
    ForbiddenImport(Vec<String>),
    /// It cannot be instantiated.
    #[error("the component cannot be instantiated: {0}")]
    Instantiate(String),
    /// It is not a component, or not a valid one.
    #[error("not a WebAssembly component that this host can run: {0}")]
    Invalid(String),
    /// It does not export the contract.
    #[error(
        "the component does not export `cofferdam:state-backend/state-store@0.1.0`; it exports {0}"
    )]
    MissingExport(String),
    /// The library was built without a component of its own.
    #[error(
        "this build embeds no component: name one, or build with the feature `embedded-component`"
    )]
    NotEmbedded,
    /// It is machine code, which is never taken from outside.
    #[error("precompiled code is not accepted: hand over the .wasm component itself")]
    Precompiled,
    /// The file cannot be read.
    #[error("cannot read the component {path}")]
    Read {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

fn first_error(diagnostics: &[Diagnostic]) -> String {
    diagnostics
        .iter()
        .find(|diagnostic| diagnostic.severity == crate::Severity::Error)
        .map_or_else(
            || "the configuration is not valid".to_owned(),
            ToString::to_string,
        )
}

fn consequence(outcome: Outcome, read_back: Option<&'static str>) -> String {
    let outcome = match outcome {
        Outcome::NotDone => "; nothing was changed",
        Outcome::Unknown => "; the store may have changed",
    };
    match read_back {
        Some(finding) => format!("{outcome}: {finding}"),
        None => outcome.to_owned(),
    }
}
