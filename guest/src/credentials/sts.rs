//! The security token service: roles, and whose credentials they are. IAM too, where STS does not say.
//!
//! Without the exact form of these calls a role would be assumed without its external id, policy or tags: with more
//! rights than the block orders, or under a name that the account's audit log cannot tell from another's.

use zeroize::Zeroizing;

use crate::aws::error::StoreError;
use crate::config::ServiceLocation;
use crate::contract::ErrorCode;
use crate::platform::{AccessKey, Method, Refusal};

use super::wire::{self, Call, Effort, Failed, Reply, Wire};
use super::{Credentials, Identity, ProviderError, RoleArguments, Token, WebIdentityArguments};

const STS_VERSION: &str = "2011-06-15";
const IAM_VERSION: &str = "2010-05-08";

/// The shortest that STS grants, and what it is asked for unless something else is ordered. Seconds.
const DEFAULT_DURATION: u32 = 900;

/// What the people who verify tokens may get over. Web identity only.
const TRANSIENT_TOKEN_ERRORS: &[&str] = &["IDPCommunicationError", "InvalidIdentityToken"];

/// STS at one place.
pub(super) struct Sts<'a> {
    pub(super) wire: Wire<'a>,
    pub(super) place: &'a ServiceLocation,
    pub(super) attempts: u32,
}

impl Sts<'_> {
    pub(super) fn assume_role(
        &self,
        role: &RoleArguments,
        from: &Credentials,
    ) -> Result<Credentials, ProviderError> {
        let mut form = Form::new("AssumeRole", STS_VERSION);
        let session_name = match &role.session_name {
            Some(name) => name.clone(),
            None => format!("aws-go-sdk-{}", self.nanoseconds()),
        };
        let duration = match role.duration_seconds {
            0 => DEFAULT_DURATION,
            seconds => seconds,
        };
        form.add("DurationSeconds", &duration.to_string());
        form.add("RoleArn", &role.role_arn);
        form.add("RoleSessionName", &session_name);
        form.add_if("ExternalId", role.external_id.as_deref());
        form.add_if("Policy", role.policy.as_deref().map(str::trim));
        form.add_if("SourceIdentity", role.source_identity.as_deref());
        form.add_list("PolicyArns", ".arn", &role.policy_arns);
        form.add_list("TransitiveTagKeys", "", &role.transitive_tag_keys);
        for ((key, value), n) in role.tags.iter().zip(1..) {
            form.add(&format!("Tags.member.{n}.Key"), key);
            form.add(&format!("Tags.member.{n}.Value"), value);
        }
        let body = form.encoded();
        let call = self.call("sts:AssumeRole", &body, Some(("sts", &from.key)), &[]);
        let reply = self
            .wire
            .send(&call)
            .map_err(|failed| explained(&call, &failed, &role.role_arn))?;
        role_credentials(&call, &reply)
    }

    pub(super) fn assume_role_with_web_identity(
        &self,
        role: &WebIdentityArguments,
    ) -> Result<Credentials, ProviderError> {
        let read;
        let token = match &role.token {
            Token::File(path) => {
                read = self.token(path)?;
                &read
            }
            Token::Inline(token) => token.expose(),
        };
        let mut form = Form::new("AssumeRoleWithWebIdentity", STS_VERSION);
        let session_name = match &role.session_name {
            Some(name) => name.clone(),
            None => self.nanoseconds(),
        };
        form.add("RoleArn", &role.role_arn);
        form.add("RoleSessionName", &session_name);
        form.add_if("Policy", role.policy.as_deref().map(str::trim));
        form.add_list("PolicyArns", ".arn", &role.policy_arns);
        if let Some(seconds) = role.duration_seconds {
            form.add("DurationSeconds", &seconds.to_string());
        }
        form.add("WebIdentityToken", token);
        let body = form.encoded();
        let secrets = [token, token.trim()];
        let mut call = self.call("sts:AssumeRoleWithWebIdentity", &body, None, &secrets);
        call.effort.transient_codes = TRANSIENT_TOKEN_ERRORS;
        let reply = self
            .wire
            .send(&call)
            .map_err(|failed| explained(&call, &failed, &role.role_arn))?;
        role_credentials(&call, &reply)
    }

    pub(super) fn caller_identity(&self, of: &AccessKey) -> Result<Identity, ProviderError> {
        let body = Form::new("GetCallerIdentity", STS_VERSION).encoded();
        let call = self.call("sts:GetCallerIdentity", &body, Some(("sts", of)), &[]);
        let reply = self
            .wire
            .send(&call)
            .map_err(|failed| explained(&call, &failed, ""))?;
        let [arn] = wire::texts(&reply.body, ["GetCallerIdentityResult/Arn"]);
        identity(&call, arn)
    }

    fn call<'c>(
        &'c self,
        operation: &'static str,
        body: &'c [u8],
        signer: Option<(&'static str, &'c AccessKey)>,
        secrets: &'c [&'c str],
    ) -> Call<'c> {
        form_call(operation, self.place, body, signer, secrets, self.attempts)
    }

    /// The content of a token's file, verbatim.
    fn token(&self, path: &str) -> Result<Zeroizing<String>, ProviderError> {
        let bytes = self.wire.platform.read_file(path);
        let bytes =
            bytes.map_err(|refusal| wire::unreadable("web identity token", path, &refusal))?;
        let bytes = Zeroizing::new(bytes);
        match std::str::from_utf8(&bytes) {
            Ok(token) if !token.is_empty() => Ok(Zeroizing::new(token.to_owned())),
            _ => {
                let refusal = Refusal::Failed("it holds no token".to_owned());
                Err(wire::unreadable("web identity token", path, &refusal))
            }
        }
    }

    fn nanoseconds(&self) -> String {
        let now = self.wire.platform.now();
        format!("{}{:09}", now.as_secs(), now.subsec_nanos())
    }
}

/// What IAM says of the user whose credentials they are. None: it does not say.
pub(super) fn iam_user(
    wire: Wire<'_>,
    place: &ServiceLocation,
    of: &AccessKey,
    attempts: u32,
) -> Result<Option<Identity>, ProviderError> {
    let body = Form::new("GetUser", IAM_VERSION).encoded();
    let signer = Some(("iam", of));
    let call = form_call("iam:GetUser", place, &body, signer, &[], attempts);
    match wire.send(&call) {
        Ok(reply) => {
            let [arn] = wire::texts(&reply.body, ["User/Arn"]);
            identity(&call, arn).map(Some)
        }
        Err(failed) => match failed.refusal().map(StoreError::code) {
            // A role is no user, and few may look: nothing is wrong with either.
            Some("AccessDenied" | "InvalidClientTokenId" | "ValidationError") => Ok(None),
            _ => Err(wire::error(&call, &failed)),
        },
    }
}

/// The account, by the first role that IAM lists in it.
pub(super) fn iam_role(
    wire: Wire<'_>,
    place: &ServiceLocation,
    of: &AccessKey,
    attempts: u32,
) -> Result<Identity, ProviderError> {
    let mut form = Form::new("ListRoles", IAM_VERSION);
    form.add("MaxItems", "1");
    let body = form.encoded();
    let signer = Some(("iam", of));
    let call = form_call("iam:ListRoles", place, &body, signer, &[], attempts);
    let reply = wire.ask(&call)?;
    let [arn] = wire::texts(&reply.body, ["Roles/member/Arn"]);
    identity(&call, arn)
}

fn form_call<'c>(
    operation: &'static str,
    place: &'c ServiceLocation,
    body: &'c [u8],
    signer: Option<(&'static str, &'c AccessKey)>,
    secrets: &'c [&'c str],
    attempts: u32,
) -> Call<'c> {
    Call {
        operation,
        method: Method::Post,
        place,
        path_and_query: &place.path,
        headers: vec![wire::header(
            "content-type",
            "application/x-www-form-urlencoded",
        )],
        body: Some(body),
        signer,
        secrets,
        effort: Effort::usual(attempts),
    }
}

/// Credentials of a role.
fn role_credentials(call: &Call<'_>, reply: &Reply) -> Result<Credentials, ProviderError> {
    let [id, secret, token, expiration, arn] = wire::texts(
        &reply.body,
        [
            "Credentials/AccessKeyId",
            "Credentials/SecretAccessKey",
            "Credentials/SessionToken",
            "Credentials/Expiration",
            "AssumedRoleUser/Arn",
        ],
    );
    if token.is_none() {
        return Err(wire::malformed(call, "session token"));
    }
    let credentials = wire::credentials(id, secret, token);
    let mut credentials = credentials.map_err(|what| wire::malformed(call, what))?;
    credentials.expires_at = expiration.as_deref().and_then(wire::seconds);
    if credentials.expires_at.is_none() {
        return Err(wire::malformed(call, "expiration"));
    }
    credentials.account_id = arn
        .as_deref()
        .and_then(|arn| Some(arn.split(':').nth(4)?.to_owned()));
    Ok(credentials)
}

fn identity(call: &Call<'_>, arn: Option<String>) -> Result<Identity, ProviderError> {
    match arn {
        Some(arn) if arn.starts_with("arn:") && arn.split(':').count() >= 6 => Ok(Identity { arn }),
        _ => Err(wire::malformed(call, "ARN")),
    }
}

/// The error of STS, and what to do about it. `role`: the one to be assumed, or nothing.
fn explained(call: &Call<'_>, failed: &Failed, role: &str) -> ProviderError {
    let mut error = wire::error(call, failed);
    if !role.is_empty() {
        // The message begins with the operation.
        let place = call.operation.len().min(error.message.len());
        error.message.insert_str(place, &format!(" of {role}"));
    }
    let Some(refusal) = failed.refusal() else {
        return error;
    };
    let is_web_identity = call.signer.is_none();
    let (code, advice) = match refusal.code() {
        _ if failed.wrong_clock => (
            ErrorCode::Other,
            "The clock of this machine or of STS is wrong",
        ),
        "AccessDenied" | "AccessDeniedException" if role.is_empty() => (
            ErrorCode::AccessDenied,
            "A policy denies sts:GetCallerIdentity explicitly; skip_credentials_validation = true goes without it",
        ),
        "AccessDenied" | "AccessDeniedException" => {
            error.facts.push(wire::header("permission", call.operation));
            error.facts.push(wire::header("resource", role));
            (
                ErrorCode::AccessDenied,
                if is_web_identity {
                    "The trust policy of the role has to allow sts:AssumeRoleWithWebIdentity to this token's issuer, \
                     audience and subject"
                } else {
                    "Allow sts:AssumeRole on the role to whoever assumes it, and name them in the trust policy of the \
                     role, together with the external id if it asks for one"
                },
            )
        }
        "ExpiredToken" | "ExpiredTokenException" => (
            ErrorCode::Credentials,
            if is_web_identity {
                "The web identity token has expired: get a new one"
            } else {
                "The credentials that the call was signed with have expired: renew them"
            },
        ),
        "IDPCommunicationError" | "IDPRejectedClaim" | "InvalidIdentityToken" => (
            ErrorCode::Credentials,
            "Check the identity provider that IAM has for this token, and the token's audience",
        ),
        "InvalidClientTokenId" | "SignatureDoesNotMatch" | "UnrecognizedClientException" => (
            ErrorCode::Credentials,
            "STS does not accept the credentials that the call was signed with: correct them",
        ),
        "MalformedPolicyDocument" | "MalformedPolicyDocumentException" => (
            ErrorCode::InvalidArgument,
            "Correct the argument policy of the role",
        ),
        "PackedPolicyTooLarge" | "PackedPolicyTooLargeException" => (
            ErrorCode::InvalidArgument,
            "Policy, policy_arns and tags of the role are too large together: shorten them",
        ),
        "RegionDisabledException" => (
            ErrorCode::Credentials,
            "STS is not activated in this region for this account: activate it in the account's settings, or set \
             sts_region to another region",
        ),
        "ValidationError" => (
            ErrorCode::InvalidArgument,
            "Correct the arguments of the role",
        ),
        _ => return error,
    };
    error.code = code;
    error.message.push_str(". ");
    error.message.push_str(advice);
    error
}

/// A body of the form that STS and IAM take: in the order of the names, as Go encodes it.
struct Form(Vec<(String, Zeroizing<String>)>);

impl Form {
    fn new(action: &str, version: &str) -> Self {
        let mut form = Self(Vec::new());
        form.add("Action", action);
        form.add("Version", version);
        form
    }

    fn add(&mut self, name: &str, value: &str) {
        let place = self.0.partition_point(|(other, _)| other.as_str() < name);
        let value = Zeroizing::new(value.to_owned());
        self.0.insert(place, (name.to_owned(), value));
    }

    fn add_if(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.add(name, value);
        }
    }

    fn add_list(&mut self, name: &str, field: &str, values: &[String]) {
        for (value, n) in values.iter().zip(1..) {
            self.add(&format!("{name}.member.{n}{field}"), value);
        }
    }

    fn encoded(&self) -> Zeroizing<Vec<u8>> {
        let mut body = Zeroizing::new(Vec::new());
        for (name, value) in &self.0 {
            if !body.is_empty() {
                body.push(b'&');
            }
            encode(&mut body, name);
            body.push(b'=');
            encode(&mut body, value);
        }
        body
    }
}

fn encode(out: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte),
            b' ' => out.push(b'+'),
            _ => out.extend(wire::escaped(byte)),
        }
    }
}
