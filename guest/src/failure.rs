//! Turns what went wrong into an error that a person can act on.
//!
//! "Access Denied" helps nobody: the error says which operation on which object was refused, which permission it
//! takes, which region is the right one, and whether something may have changed all the same.

use crate::aws::error::StoreError;
use crate::aws::retry::{self, Cause};
use crate::config::{BucketLocation, Settings};
use crate::contract::{Error, ErrorCode, Holder, Outcome};
use crate::platform::TransportError;
use crate::s3::{Failed, Operation};

/// What every error of a call names.
pub(crate) struct Context<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) location: &'a BucketLocation,
    pub(crate) workspace: Option<&'a str>,
}

impl Context<'_> {
    /// An error after which nothing has changed.
    pub(crate) fn error(&self, code: ErrorCode, message: String) -> Error {
        let mut error = Error {
            code,
            message,
            outcome: Outcome::NotDone,
            retryable: false,
            holders: Vec::new(),
            facts: Vec::new(),
        }
        .fact("bucket", &self.settings.bucket)
        .fact("region", &self.location.region);
        if let Some(workspace) = self.workspace {
            error = error.fact("workspace", workspace);
        }
        error
    }

    /// An argument of the call that is wrong.
    pub(crate) fn invalid(&self, argument: &str, message: String) -> Error {
        self.error(ErrorCode::InvalidArgument, message)
            .fact("argument", argument)
    }

    /// An operation on the store that failed.
    pub(crate) fn failed(&self, failed: &Failed) -> Error {
        let failure = &failed.failure;
        let (code, why, retryable) = self.explain(failed);
        let mut message = format!("cannot {}: {why}", self.action(failed));
        if failure.attempts > 1 {
            message.push_str(&format!(" ({} attempts)", failure.attempts));
        }
        if failure.out_of_time && failure.attempts > 0 {
            message.push_str(" The time that this call may take leaves room for no other attempt.");
        }
        if failure.ambiguous {
            message
                .push_str(" The store may have done it all the same: read before you try again.");
        }
        let mut error = self
            .error(code, message)
            .fact("operation", failed.operation.name())
            .fact("attempts", failure.attempts.to_string());
        if failed.operation != Operation::ListObjects {
            error = error.fact("key", &failed.key);
        }
        error.retryable = retryable;
        if failure.ambiguous {
            error.outcome = Outcome::Unknown;
        }
        match &failure.cause {
            Cause::Store(refusal) => {
                error = store_facts(error, refusal);
                if error.code == ErrorCode::AccessDenied {
                    error = error
                        .fact("permission", failed.operation.permission())
                        .fact("resource", self.resource(failed));
                }
            }
            Cause::Transport(TransportError::Denied(_)) => {
                let BucketLocation {
                    scheme, authority, ..
                } = self.location;
                let method = failed.operation.method().as_str();
                error = error.fact("rule", format!("{method} {scheme}://{authority}"));
            }
            _ => {}
        }
        error
    }

    fn action(&self, failed: &Failed) -> String {
        let bucket = &self.settings.bucket;
        let key = &failed.key;
        match failed.operation {
            Operation::DeleteObject => format!("delete s3://{bucket}/{key}"),
            Operation::GetObject => format!("read s3://{bucket}/{key}"),
            Operation::ListObjects => format!("list s3://{bucket}/{key}"),
            Operation::PutObject => format!("write s3://{bucket}/{key}"),
        }
    }

    /// The code, the reason with what to do, and whether trying again may help.
    fn explain(&self, failed: &Failed) -> (ErrorCode, String, bool) {
        let host = &self.location.authority;
        match &failed.failure.cause {
            Cause::BudgetSpent => (
                ErrorCode::TimedOut,
                "the time that this call may take was spent before the request could be sent."
                    .to_owned(),
                true,
            ),
            Cause::NoCredentials => (
                ErrorCode::Credentials,
                "there are no credentials. Looked at, in this order: the credentials that the \
                 host lends; the arguments access_key and secret_key; the environment variables \
                 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
                    .to_owned(),
                false,
            ),
            Cause::Store(error) => self.explain_refusal(failed, error),
            Cause::Transport(error) => match error {
                TransportError::Broken(text) => (
                    ErrorCode::Unreachable,
                    format!("the connection to {host} failed: {text}."),
                    true,
                ),
                TransportError::Denied(text) => (
                    ErrorCode::Unreachable,
                    format!(
                        "the host of this backend does not let it reach {host}: {text}. Whoever \
                         runs it has to allow this destination."
                    ),
                    false,
                ),
                TransportError::NotConnected(text) => (
                    ErrorCode::Unreachable,
                    format!("there is no connection to {host}: {text}."),
                    true,
                ),
                TransportError::TimedOut(text) => (
                    ErrorCode::TimedOut,
                    format!("{host} did not answer in time: {text}."),
                    true,
                ),
                TransportError::Unusable(text) => (
                    ErrorCode::Unreachable,
                    format!(
                        "{host} cannot be reached: {text}. Check the arguments endpoints.s3 and \
                         region."
                    ),
                    false,
                ),
            },
            Cause::Unsendable(text) => (
                ErrorCode::InvalidArgument,
                format!("the request cannot be made: {text}."),
                false,
            ),
        }
    }

    fn explain_refusal(&self, failed: &Failed, error: &StoreError) -> (ErrorCode, String, bool) {
        let said = said(error);
        let bucket = &self.settings.bucket;
        let region = &self.location.region;
        if let Some(actual) = self.actual_region(error) {
            return (
                ErrorCode::Other,
                format!(
                    "{said} The bucket \"{bucket}\" is in the region \"{actual}\", but requests \
                     go to \"{region}\": set region = \"{actual}\"."
                ),
                false,
            );
        }
        match error.code() {
            "NoSuchBucket" => (
                ErrorCode::NoSuchBucket,
                format!(
                    "the bucket \"{bucket}\" does not exist in the region \"{region}\": {said} \
                     Create it first, or correct the argument bucket; a bucket that was just made \
                     takes a minute to show."
                ),
                false,
            ),
            "BadDigest" | "InvalidDigest" | "XAmzContentSHA256Mismatch" => (
                ErrorCode::InvalidArgument,
                format!("{said} The SHA-256 does not belong to the bytes; nothing was stored."),
                false,
            ),
            "EntityTooLarge" => (ErrorCode::TooLarge, said, false),
            "ExpiredToken"
            | "ExpiredTokenException"
            | "InvalidAccessKeyId"
            | "InvalidToken"
            | "SignatureDoesNotMatch"
            | "TokenRefreshRequired" => (
                ErrorCode::Credentials,
                format!("{said} The store does not accept the credentials: renew or correct them."),
                false,
            ),
            "RequestExpired" | "RequestInTheFuture" | "RequestTimeTooSkewed" => (
                ErrorCode::Credentials,
                format!("{said} The clock of this machine or of the store is wrong."),
                false,
            ),
            _ if retry::is_throttling(error) => (ErrorCode::Throttled, said, true),
            _ if retry::is_transient(error) => (ErrorCode::Other, said, true),
            _ if error.status == 401 => (ErrorCode::Credentials, said, false),
            _ if error.status == 403 => (
                ErrorCode::AccessDenied,
                format!("{said} {}", self.missing_permission(failed)),
                false,
            ),
            _ if error.is_about_checksums() => (
                ErrorCode::Unsupported,
                format!("{said} The store refuses checksums: set skip_s3_checksum = true."),
                false,
            ),
            _ if error.is_not_implemented() => (ErrorCode::Unsupported, said, false),
            "" if error.status == 404 => (
                ErrorCode::Other,
                format!("{said} That is not how S3 answers: check the argument endpoints.s3."),
                false,
            ),
            _ => (ErrorCode::Other, said, error.is_conflict()),
        }
    }

    fn missing_permission(&self, failed: &Failed) -> String {
        let permission = failed.operation.permission();
        let resource = self.resource(failed);
        let mut text = format!("Allow {permission} on {resource}.");
        if failed.operation == Operation::GetObject {
            text.push_str(&format!(
                " Without s3:ListBucket on {}, S3 answers 403 instead of 404, so that this may \
                 also be an object that does not exist.",
                self.bucket_arn()
            ));
        }
        text
    }

    /// Where the bucket is, when that is not where requests go.
    fn actual_region<'e>(&self, error: &'e StoreError) -> Option<&'e str> {
        let is_redirect = matches!(error.status, 301 | 302 | 307 | 308)
            || matches!(
                error.code(),
                "AuthorizationHeaderMalformed"
                    | "IllegalLocationConstraintException"
                    | "PermanentRedirect"
                    | "TemporaryRedirect"
            );
        let actual = error.region.as_deref()?;
        (is_redirect && actual != self.location.region).then_some(actual)
    }

    fn resource(&self, failed: &Failed) -> String {
        match failed.operation {
            Operation::ListObjects => self.bucket_arn(),
            _ if self.settings.bucket.starts_with("arn:") => {
                format!("{}/object/{}", self.settings.bucket, failed.key)
            }
            _ => format!("{}/{}", self.bucket_arn(), failed.key),
        }
    }

    fn bucket_arn(&self) -> String {
        let bucket = &self.settings.bucket;
        if bucket.starts_with("arn:") {
            return bucket.clone();
        }
        let partition = match self.location.region.as_str() {
            region if region.starts_with("cn-") => "aws-cn",
            region if region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        };
        format!("arn:{partition}:s3:::{bucket}")
    }
}

/// Builds errors up.
pub(crate) trait ErrorExt: Sized {
    /// Adds a fact; the contract lists the names.
    fn fact(self, name: &str, value: impl Into<String>) -> Self;

    /// Says who holds the lock.
    fn held_by(self, holders: Vec<Holder>) -> Self;
}

impl ErrorExt for Error {
    fn fact(mut self, name: &str, value: impl Into<String>) -> Self {
        self.facts.push((name.to_owned(), value.into()));
        self
    }

    fn held_by(mut self, holders: Vec<Holder>) -> Self {
        self.holders = holders;
        self
    }
}

fn store_facts(mut error: Error, refusal: &StoreError) -> Error {
    error = error.fact("status", refusal.status.to_string());
    let texts = [
        ("store-code", &refusal.code),
        ("request-id", &refusal.request_id),
        ("actual-region", &refusal.region),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            error = error.fact(name, text);
        }
    }
    if let Some(seconds) = refusal.retry_after {
        error = error.fact("retry-after", seconds.to_string());
    }
    error
}

/// The store's own words.
fn said(error: &StoreError) -> String {
    let mut text = format!("the store answered {}", error.status);
    if let Some(code) = &error.code {
        text.push_str(&format!(" {code}"));
    }
    if let Some(message) = &error.message {
        text.push_str(&format!(", \"{message}\""));
    }
    if let Some(id) = &error.request_id {
        text.push_str(&format!(" (request id {id})"));
    }
    text.push('.');
    text
}
