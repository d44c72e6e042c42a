//! Why a command ends without success: what the person reads, and the exit code that a script reads.

use cofferdam::config::ConfigError;
use cofferdam::{Diagnostic, Error, ErrorCode, Severity};

use crate::output::lock_info;

/// Any error that has no code of its own.
const ERROR: u8 = 1;

/// The command line is wrong (`EX_USAGE`).
pub(crate) const USAGE: u8 = 64;

/// Somebody else holds the lock: try again later (`EX_TEMPFAIL`).
pub(crate) const LOCKED: u8 = 75;

/// What the person reads, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) diagnostics: Vec<Diagnostic>,
    pub(crate) code: u8,
}

impl Failure {
    pub(crate) fn new(summary: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            diagnostics: vec![diagnostic(Severity::Error, summary, detail)],
            code: ERROR,
        }
    }

    /// An error of the library, under a heading that says what was tried.
    pub(crate) fn store(summary: &str, error: &Error) -> Self {
        match error {
            Error::Configuration(diagnostics) => Self {
                diagnostics: diagnostics.clone(),
                code: ERROR,
            },
            error => Self {
                diagnostics: vec![diagnostic(Severity::Error, summary, described(error))],
                code: if error.code() == Some(ErrorCode::Locked) {
                    LOCKED
                } else {
                    ERROR
                },
            },
        }
    }

    /// Adds what the person can do.
    #[must_use]
    pub(crate) fn with_advice(mut self, advice: &str) -> Self {
        if let Some(diagnostic) = self.diagnostics.first_mut() {
            diagnostic.detail = format!("{}\n\n{advice}", diagnostic.detail.trim_end());
        }
        self
    }

    /// Adds what else went wrong. The code stays that of the first.
    #[must_use]
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.diagnostics.extend(other.diagnostics);
        self
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self {
            diagnostics: vec![error.diagnostic()],
            code: ERROR,
        }
    }
}

pub(crate) fn diagnostic(
    severity: Severity,
    summary: impl Into<String>,
    detail: impl Into<String>,
) -> Diagnostic {
    Diagnostic {
        severity,
        summary: summary.into(),
        detail: detail.into(),
        attribute: None,
    }
}

/// The error and, where it tells, who holds the lock.
fn described(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    for holder in error.store().into_iter().flat_map(|error| &error.holders) {
        match &holder.info {
            // The backend's message may hold the block already.
            Some(info) if !text.contains("Lock Info:") => text += &format!("\n{}", lock_info(info)),
            Some(_) => {}
            None => {
                text += &format!(
                    "\nThe lock's record cannot be read. When it is certain that nobody works under it, \
                     release it with: cofferdam force-unlock --token '{}'",
                    holder.token
                );
            }
        }
    }
    text
}
