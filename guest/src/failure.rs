//! Turns what went wrong into an error that a person can act on.
//!
//! "Access Denied" helps nobody: the error says which operation on which object was refused, which permission it
//! takes, which region is the right one, and whether something may have changed all the same.

use crate::arn::Arns;
use crate::aws::error::StoreError;
use crate::aws::retry::{self, Cause};
use crate::config::{BucketLocation, Encryption, Settings};
use crate::contract::{Error, ErrorCode, Holder, Outcome};
use crate::dynamodb::PARTITION_KEY;
use crate::operation::{Failed, Operation};
use crate::platform::TransportError;

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

    /// An operation on bucket or table that failed.
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
        error = match failed.operation {
            Operation::GetBucketVersioning | Operation::ListObjects => error,
            operation if operation.is_of_table() => {
                let error = error.fact("table", self.table());
                match failed.key.as_str() {
                    "" => error,
                    item => error.fact("item", item),
                }
            }
            _ => error.fact("key", &failed.key),
        };
        error.retryable = retryable;
        if failure.ambiguous {
            error.outcome = Outcome::Unknown;
        }
        match &failure.cause {
            Cause::Store(refusal) => {
                error = store_facts(error, refusal);
                if error.code == ErrorCode::AccessDenied {
                    let (permission, resource) = self.missing(failed, refusal);
                    error = error
                        .fact("permission", permission)
                        .fact("resource", resource);
                }
            }
            Cause::Credentials(refusal) => {
                // It is their call that failed, not that to the store.
                for (name, value) in &refusal.facts {
                    error.facts.retain(|(known, _)| known != name);
                    error = error.fact(name, value);
                }
            }
            Cause::Transport(TransportError::Denied(_)) => {
                let (scheme, authority) = self.destination(failed);
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
            Operation::DeleteVersion => format!("delete a version of s3://{bucket}/{key}"),
            Operation::GetBucketVersioning => {
                format!("ask whether the bucket \"{bucket}\" keeps versions")
            }
            Operation::GetVersion => format!("read an older version of s3://{bucket}/{key}"),
            Operation::ListVersions => format!("list the versions of s3://{bucket}/{key}"),
            Operation::DeleteItem => format!("delete the item {key:?} of {}", self.the_table()),
            Operation::DescribeTable => format!("look at {}", self.the_table()),
            Operation::GetItem => format!("read the item {key:?} of {}", self.the_table()),
            Operation::PutItem => format!("write the item {key:?} of {}", self.the_table()),
            Operation::ListObjects => format!("list s3://{bucket}/{key}"),
            Operation::PutObject => format!("write s3://{bucket}/{key}"),
        }
    }

    /// The code, the reason with what to do, and whether trying again may help.
    fn explain(&self, failed: &Failed) -> (ErrorCode, String, bool) {
        let (_, host) = self.destination(failed);
        match &failed.failure.cause {
            Cause::BudgetSpent => (
                ErrorCode::TimedOut,
                "the time that this call may take was spent before the request could be sent."
                    .to_owned(),
                true,
            ),
            Cause::Credentials(error) => {
                (error.code, format!("{}.", error.message), error.retryable)
            }
            Cause::Store(error) if failed.operation.is_of_table() => {
                self.explain_refusal_of_table(failed, error)
            }
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
                        "{host} cannot be reached: {text}. Check the arguments {} and region.",
                        endpoint_argument(failed.operation)
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
        let said = self.said(error);
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
        if let Some(remedy) = self.protection_remedy(failed, error) {
            return (ErrorCode::Unsupported, format!("{said} {remedy}"), false);
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
            _ if let Some(general) = self.explain_generally(failed, error) => general,
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

    fn explain_refusal_of_table(
        &self,
        failed: &Failed,
        error: &StoreError,
    ) -> (ErrorCode, String, bool) {
        let said = self.said(error);
        let needed = format!("a partition key named {PARTITION_KEY}, of type String");
        match error.code() {
            "ResourceNotFoundException" => (
                ErrorCode::Other,
                format!(
                    "{said} For these credentials there is no such table in {}: create \"{}\", \
                     with {needed}, or correct the argument dynamodb_table.",
                    self.settings.region.value,
                    self.table()
                ),
                false,
            ),
            "ValidationException" if error.message.as_deref().is_some_and(is_about_keys) => (
                ErrorCode::Unsupported,
                format!(
                    "{said} {} cannot hold locks and digests: that takes a table with {needed} \
                     and no sort key. Name such a one in the argument dynamodb_table.",
                    self.the_table()
                ),
                false,
            ),
            _ => self
                .explain_generally(failed, error)
                .unwrap_or_else(|| match error.code() {
                    "" => (
                        ErrorCode::Other,
                        format!(
                            "{said} That is not how DynamoDB answers: check the argument \
                             endpoints.dynamodb."
                        ),
                        false,
                    ),
                    _ => (ErrorCode::Other, said, error.is_conflict()),
                }),
        }
    }

    /// What all services say alike.
    fn explain_generally(
        &self,
        failed: &Failed,
        error: &StoreError,
    ) -> Option<(ErrorCode, String, bool)> {
        let said = self.said(error);
        Some(match error.code() {
            // Whatever the code is: DynamoDB, for one, calls it a wrong signature.
            _ if failed.failure.wrong_clock => (
                ErrorCode::Other,
                format!("{said} The clock of this machine or of the store is wrong."),
                false,
            ),
            "ExpiredToken"
            | "ExpiredTokenException"
            | "IncompleteSignatureException"
            | "InvalidAccessKeyId"
            | "InvalidSignatureException"
            | "InvalidToken"
            | "MissingAuthenticationTokenException"
            | "SignatureDoesNotMatch"
            | "TokenRefreshRequired"
            | "UnrecognizedClientException" => (
                ErrorCode::Credentials,
                format!("{said} The store does not accept the credentials: renew or correct them."),
                false,
            ),
            _ if retry::is_throttling(error) => (ErrorCode::Throttled, said, true),
            _ if retry::is_transient(error) => (ErrorCode::Other, said, true),
            _ if error.status == 401 => (ErrorCode::Credentials, said, false),
            code if error.status == 403 || code == "AccessDeniedException" => (
                ErrorCode::AccessDenied,
                format!("{said} {}", self.missing_permission(failed, error)),
                false,
            ),
            _ => return None,
        })
    }

    /// What to change in the configuration or at the bucket when an upload's protection is refused, or an object was
    /// stored with another one.
    fn protection_remedy(&self, failed: &Failed, error: &StoreError) -> Option<String> {
        let operation = failed.operation;
        let has_key = matches!(self.settings.encryption, Encryption::CustomerKey(_));
        let says = |word| error.says(word);
        let remedy = match (operation, error.status) {
            (Operation::PutObject, _) if error.code() == "AccessControlListNotSupported" => {
                "The bucket has ACLs switched off: remove the argument acl, or switch them on in \
                 the bucket's object ownership."
            }
            (Operation::PutObject | Operation::GetObject, _)
                if error.code().starts_with("KMS.") =>
            {
                "KMS does not let S3 use the key: check kms_key_id, and that the key is enabled \
                 and in the bucket's region."
            }
            (Operation::PutObject, 400)
                if self.settings.skip_s3_checksum
                    && (error.is_about_checksums() || says("content-md5")) =>
            {
                "This bucket wants a checksum with each upload, as those with Object Lock do: set \
                 skip_s3_checksum = false."
            }
            (Operation::GetObject, 400)
                if has_key
                    && (says("encrypt")
                        || matches!(error.code(), "InvalidArgument" | "InvalidRequest")) =>
            {
                "The object was stored with another customer key, or with none: check \
                 sse_customer_key."
            }
            (Operation::GetObject, 400) if says("encryption") => {
                "The object was stored with a customer's own key: set encrypt = true and \
                 sse_customer_key to that key."
            }
            _ => return None,
        };
        Some(remedy.to_owned())
    }

    /// The permission that is missing, and on what.
    fn missing(&self, failed: &Failed, error: &StoreError) -> (&'static str, String) {
        if let Some(permission) = named_permission(failed, error) {
            let resource = match &self.settings.encryption {
                Encryption::Kms(id) if permission.starts_with("kms:") => {
                    format!("the KMS key {id}")
                }
                _ if permission.starts_with("kms:") => "the bucket's KMS key".to_owned(),
                _ => self.resource(failed),
            };
            return (permission, resource);
        }
        (failed.operation.permission(), self.resource(failed))
    }

    fn missing_permission(&self, failed: &Failed, error: &StoreError) -> String {
        let (permission, resource) = self.missing(failed, error);
        let mut text = format!("Allow {permission} on {resource}.");
        if named_permission(failed, error).is_some() {
            return text;
        }
        let settings = self.settings;
        let has_customer_key = matches!(settings.encryption, Encryption::CustomerKey(_));
        match failed.operation {
            Operation::PutObject => {
                if settings.state_tags.is_some() || settings.lock_tags.is_some() {
                    text.push_str(" Tags take s3:PutObjectTagging as well.");
                }
                if settings.acl.is_some() {
                    text.push_str(" The argument acl takes s3:PutObjectAcl as well.");
                }
                if matches!(settings.encryption, Encryption::Kms(_)) {
                    text.push_str(" The KMS key has to allow kms:GenerateDataKey and kms:Decrypt.");
                }
                if has_customer_key {
                    text.push_str(
                        " New buckets of AWS also refuse customer keys until SSE-C is unblocked \
                         in their default encryption.",
                    );
                }
            }
            Operation::GetObject if has_customer_key => text.push_str(
                " If that is allowed, the object was stored with another customer key: check \
                 sse_customer_key.",
            ),
            _ => {}
        }
        if failed.operation == Operation::GetObject {
            text.push_str(&format!(
                " Without s3:ListBucket on {}, S3 answers 403 instead of 404, so that this may \
                 also be an object that does not exist.",
                self.arns().bucket()
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

    /// The store's own words, unless they repeat the header that holds the customer's key.
    fn said(&self, error: &StoreError) -> String {
        let repeats = |text: &str| match &self.settings.encryption {
            // A part, as a long message is cut.
            Encryption::CustomerKey(key) => {
                let start = key.base64.expose().get(..8);
                start.is_some_and(|start| text.contains(start))
            }
            _ => false,
        };
        let mut text = format!("the store answered {}", error.status);
        if let Some(code) = &error.code {
            text.push_str(&format!(" {code}"));
        }
        if let Some(message) = error.message.as_ref().filter(|it| !repeats(it)) {
            text.push_str(&format!(", \"{message}\""));
        }
        if let Some(id) = &error.request_id {
            text.push_str(&format!(" (request id {id})"));
        }
        text.push('.');
        text
    }

    fn resource(&self, failed: &Failed) -> String {
        match failed.operation {
            Operation::GetBucketVersioning | Operation::ListObjects | Operation::ListVersions => {
                self.arns().bucket()
            }
            operation if operation.is_of_table() => self.arns().table(),
            _ => self.arns().object(&failed.key),
        }
    }

    fn arns(&self) -> Arns<'_> {
        Arns {
            account: "*",
            settings: self.settings,
            location: self.location,
        }
    }

    /// Scheme and authority that an operation's requests go to.
    fn destination(&self, failed: &Failed) -> (String, String) {
        if failed.operation.is_of_table() {
            let location = self.settings.dynamodb_location();
            return (location.scheme, location.authority);
        }
        let location = self.location.clone();
        (location.scheme, location.authority)
    }

    fn table(&self) -> &str {
        self.settings.dynamodb_table.as_deref().unwrap_or_default()
    }

    /// For sentences.
    pub(crate) fn the_table(&self) -> String {
        let region = &self.settings.region.value;
        format!("the DynamoDB table \"{}\" in {region}", self.table())
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

/// Whether a refusal is about the keys of items, in the words that DynamoDB has for a table of another shape.
fn is_about_keys(message: &str) -> bool {
    message.to_ascii_lowercase().contains("key")
}

fn endpoint_argument(operation: Operation) -> &'static str {
    match operation.is_of_table() {
        true => "endpoints.dynamodb",
        false => "endpoints.s3",
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

/// Permissions beside an operation's own, as AWS's refusals name them.
fn named_permission(failed: &Failed, error: &StoreError) -> Option<&'static str> {
    if failed.operation.is_of_table() {
        return None;
    }
    [
        "kms:Decrypt",
        "kms:Encrypt",
        "kms:GenerateDataKey",
        "s3:PutObjectAcl",
        "s3:PutObjectTagging",
    ]
    .into_iter()
    .find(|permission| error.says(permission))
}
