//! What is wrong with the sources of a backend block.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::{Diagnostic, Severity};

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// Counted from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

/// Why no backend block could be made. Shows names of arguments, never their values.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Two backend blocks (or a `cloud` block beside one) outside override files, or in one of those.
    #[error("{second}: a configuration may have only one backend; another one is at {first}")]
    Duplicate {
        /// The one met first.
        first: Place,
        /// The one too many.
        second: Place,
    },
    /// No block in the files, and `terraform init` left one of another backend.
    #[error("{} holds a backend of type \"{kind}\"; cofferdam implements \"s3\"", path.display())]
    InitialisedOther {
        /// The backend's type.
        kind: String,
        /// The file that `terraform init` wrote.
        path: PathBuf,
    },
    /// The files say `s3`, but `terraform init` was last run for another backend.
    #[error(
        "{place} declares backend \"s3\", but {} is initialised for backend \"{kind}\"",
        path.display()
    )]
    InitialisedOtherwise {
        /// The type of the initialised backend.
        kind: String,
        /// The file that `terraform init` wrote.
        path: PathBuf,
        /// The block in the files.
        place: Place,
    },
    /// There is no backend block anywhere.
    #[error("no backend \"s3\" block in {}", directory_name(directory))]
    NoBackend {
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// A value that only Terraform or OpenTofu could work out.
    #[error("{place}: the value of {argument} is {what}; cofferdam takes literal values only")]
    NotLiteral {
        /// The argument.
        argument: String,
        /// Its value.
        place: Place,
        /// What it is instead, such as `a reference`.
        what: &'static str,
    },
    /// A `--backend-config` without the name of an argument.
    #[error(
        "--backend-config wants FILE or key=value; one of its values has no key before the \"=\""
    )]
    Option,
    /// A block of another backend, or a `cloud` block.
    #[error(
        "{place}: the configuration uses {}; cofferdam implements backend \"s3\"",
        backend_name(kind)
    )]
    OtherBackend {
        /// The backend's type; `cloud` for a `cloud` block.
        kind: String,
        /// The block.
        place: Place,
    },
    /// A file or directory cannot be read or written.
    #[error("cannot access {}: {source}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that is not what it should be.
    #[error("{place}: {reason}")]
    Syntax {
        /// Where.
        place: Place,
        /// What is wrong, without the text itself.
        reason: String,
    },
    /// A name that no workspace may have.
    #[error("the workspace name {0:?} is not allowed")]
    WorkspaceName(String),
}

impl ConfigError {
    /// The error in Terraform's diagnostic form, with what to do about it.
    pub fn diagnostic(&self) -> Diagnostic {
        let (summary, advice) = match self {
            Self::Duplicate { .. } => ("Duplicate backend configuration", "Remove one of them."),
            Self::InitialisedOther { .. } => (
                "Unsupported backend",
                "Add a backend \"s3\" block to the configuration and run \"terraform init\", or give the arguments with --backend-config.",
            ),
            Self::InitialisedOtherwise { .. } => (
                "Backend initialization required",
                "Run \"terraform init -migrate-state\" (or \"-reconfigure\") first, so that it is certain which backend holds the state.",
            ),
            Self::NoBackend { .. } => (
                "No backend configuration",
                "Run the command in the directory of the configuration (or with --chdir), or give the arguments with --backend-config.",
            ),
            Self::NotLiteral { .. } => (
                "Value not literal",
                "Variables and locals in a backend block (OpenTofu's early evaluation) are not supported. Write the value itself, or leave it out and give it with --backend-config, or run \"tofu init\" first: from then on the values that it found are used.",
            ),
            Self::Option => ("Invalid --backend-config", ""),
            Self::OtherBackend { .. } => (
                "Unsupported backend",
                "To keep the state in S3 through cofferdam, declare backend \"s3\", or give the arguments of one with --backend-config.",
            ),
            Self::Read { .. } => ("Cannot access a file", ""),
            Self::Syntax { .. } => ("Invalid configuration", ""),
            Self::WorkspaceName(_) => (
                "Invalid workspace name",
                "The name must contain only URL safe\ncharacters, contain no path separators, and not be an empty string.",
            ),
        };
        let mut detail = self.to_string();
        let begins_with_a_word = matches!(
            self,
            Self::NoBackend { .. } | Self::Read { .. } | Self::WorkspaceName(_)
        );
        if let Some(first) = detail.get_mut(..1)
            && begins_with_a_word
        {
            first.make_ascii_uppercase();
        }
        detail.push('.');
        if !advice.is_empty() {
            detail = format!("{detail}\n\n{advice}");
        }
        Diagnostic {
            severity: Severity::Error,
            summary: summary.to_owned(),
            detail,
            attribute: None,
        }
    }
}

fn directory_name(directory: &Path) -> String {
    match directory.as_os_str().is_empty() {
        true => "this directory".to_owned(),
        false => directory.display().to_string(),
    }
}

fn backend_name(kind: &str) -> String {
    match kind {
        "cloud" => "a cloud block".to_owned(),
        kind => format!("backend {kind:?}"),
    }
}
