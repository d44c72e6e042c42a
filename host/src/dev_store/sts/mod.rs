//! STS: whose a key is, and keys of roles.
//!
//! Without it roles could be tried only against an account, and a configuration for the embedded store would have to
//! switch off the checks that it needs everywhere else. Its requests come to the same port as S3's, as forms. Policies
//! bind nobody here, and nobody's tokens are verified: a role takes any web identity unless it is told which.

mod parameters;
mod role;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use jiff::{SignedDuration, Timestamp};
use s3s::xml::{SerResult, Serializer};

use super::keyring::{ACCOUNT, Issued, Keyring, Session, Signer};
use super::server::AnswerBody;
use super::signature::{self, Problem};
use parameters::{Parameters, duration, role_arn, session_name};

pub use role::Role;

/// The most bytes of a request.
const LARGEST_REQUEST: usize = 1024 * 1024;

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";
const VERSION: &str = "2011-06-15";

/// The operations known here.
const OPERATIONS: [&str; 3] = [
    "AssumeRole",
    "AssumeRoleWithWebIdentity",
    "GetCallerIdentity",
];

/// Sessions that assume a role get an hour at most. Seconds; AWS's number.
const LONGEST_CHAINED: i64 = 3600;

/// Whether a request is meant for STS: a form, posted to the root.
pub(super) fn is_meant(head: &Parts) -> bool {
    let kind = head.headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    head.method == Method::POST
        && head.uri.path() == "/"
        && kind.starts_with("application/x-www-form-urlencoded")
}

/// A request, before anybody has checked its signature. It has no `Debug`: it may hold a token.
pub(super) struct Call {
    parameters: Parameters,
    body: Bytes,
}

impl Call {
    /// Takes in the body. `None`: it broke off, or is larger than any request.
    pub(super) async fn receive(body: Incoming) -> Option<Self> {
        let body = Limited::new(body, LARGEST_REQUEST).collect().await;
        let body = body.ok()?.to_bytes();
        let parameters = Parameters::of(&body);
        Some(Self { parameters, body })
    }

    /// `Unknown` for one that is not known here.
    pub(super) fn operation(&self) -> &'static str {
        let action = self.parameters.get("Action");
        let is_it = |known: &&str| action == Some(*known);
        OPERATIONS.into_iter().find(is_it).unwrap_or("Unknown")
    }

    /// The role that is asked for.
    pub(super) fn role(&self) -> &str {
        self.parameters.get("RoleArn").unwrap_or_default()
    }

    /// Does what is asked.
    pub(super) fn answer(
        &self,
        head: &Parts,
        keys: &Keyring,
        roles: &[Role],
        region: &str,
        now: Timestamp,
    ) -> Response<AnswerBody> {
        let operation = self.operation();
        let result = if operation == "Unknown" || self.parameters.get("Version") != Some(VERSION) {
            Err(self.unknown_action())
        } else if operation == "AssumeRoleWithWebIdentity" {
            // Its token is its signature.
            self.assume_role_with_web_identity(keys, roles, now)
        } else {
            let signer = signature::check(head, &self.body, keys, "sts", region, now);
            match signer.map_err(Error::from) {
                Ok(signer) if operation == "AssumeRole" => {
                    self.assume_role(&signer, keys, roles, now)
                }
                Ok(signer) => Ok(Answer::identity(&signer)),
                Err(error) => Err(error),
            }
        };
        result
            .and_then(|answer| answer.written(operation))
            .unwrap_or_else(Error::answer)
    }

    fn assume_role(
        &self,
        signer: &Signer,
        keys: &Keyring,
        roles: &[Role],
        now: Timestamp,
    ) -> Result<Answer, Error> {
        let parameters = &self.parameters;
        let arn = role_arn(parameters)?;
        let name = session_name(parameters)?;
        let seconds = duration(parameters)?;
        parameters.check_rest()?;
        let denied = || {
            let who = identity_arn(signer.session.as_ref());
            Error::denied(format!(
                "User: {who} is not authorized to perform: sts:AssumeRole on resource: {arn}"
            ))
        };
        let found = role::find(roles, arn).ok_or_else(denied)?;
        if !found.admits(parameters.get("ExternalId")) {
            return Err(denied());
        }
        if parameters.get("SerialNumber").is_some() || parameters.get("TokenCode").is_some() {
            return Err(Error::denied(
                "MultiFactorAuthentication failed with invalid MFA one time pass code.".to_owned(),
            ));
        }
        found.check_duration(seconds)?;
        if signer.session.is_some() && seconds > LONGEST_CHAINED {
            return Err(Error::validation(
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining."
                    .to_owned(),
            ));
        }
        Ok(Answer::session(keys, arn, name, seconds, now))
    }

    fn assume_role_with_web_identity(
        &self,
        keys: &Keyring,
        roles: &[Role],
        now: Timestamp,
    ) -> Result<Answer, Error> {
        let parameters = &self.parameters;
        let arn = role_arn(parameters)?;
        let name = session_name(parameters)?;
        let seconds = match parameters.get("DurationSeconds") {
            Some(_) => duration(parameters)?,
            None => LONGEST_CHAINED,
        };
        let token = parameters.within("WebIdentityToken", "webIdentityToken", 4, 20_000)?;
        parameters.check_rest()?;
        let found = role::find(roles, arn).ok_or_else(|| {
            Error::denied("Not authorized to perform sts:AssumeRoleWithWebIdentity".to_owned())
        })?;
        found.check_web_identity(token, now)?;
        found.check_duration(seconds)?;
        Ok(Answer::session(keys, arn, name, seconds, now))
    }

    fn unknown_action(&self) -> Error {
        let of = |name| self.parameters.get(name).unwrap_or_default();
        Error::new(
            StatusCode::BAD_REQUEST,
            "InvalidAction",
            format!(
                "Could not find operation {} for version {}",
                of("Action"),
                of("Version")
            ),
        )
    }
}

/// What is answered.
enum Answer {
    Identity { arn: String, id: String },
    Session { issued: Issued, session: Session },
}

impl Answer {
    fn identity(signer: &Signer) -> Self {
        let session = signer.session.as_ref();
        Self::Identity {
            arn: identity_arn(session),
            id: session.map_or_else(|| "AIDACOFFERDAMDEVSTORE".to_owned(), Session::id),
        }
    }

    fn session(keys: &Keyring, arn: &str, name: &str, seconds: i64, now: Timestamp) -> Self {
        let session = Session {
            role: role::name_of(arn).to_owned(),
            name: name.to_owned(),
        };
        let end = now.saturating_add(SignedDuration::from_secs(seconds));
        let issued = keys.issue(session.clone(), end.unwrap_or(now), now);
        Self::Session { issued, session }
    }

    fn written(&self, operation: &str) -> Result<Response<AnswerBody>, Error> {
        let result = format!("{operation}Result");
        let body = document(&format!("{operation}Response"), |s| {
            s.element(&result, |s| match self {
                Self::Identity { arn, id } => {
                    s.content("Arn", arn)?;
                    s.content("UserId", id)?;
                    s.content("Account", ACCOUNT)
                }
                Self::Session { issued, session } => {
                    s.element("AssumedRoleUser", |s| {
                        s.content("AssumedRoleId", &session.id())?;
                        s.content("Arn", &session.arn())
                    })?;
                    s.element("Credentials", |s| {
                        let end = issued.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ");
                        s.content("AccessKeyId", &issued.id)?;
                        s.content("SecretAccessKey", issued.secret.expose())?;
                        s.content("SessionToken", issued.token.expose())?;
                        s.content("Expiration", &end.to_string())
                    })
                }
            })?;
            s.element("ResponseMetadata", |s| {
                s.content("RequestId", &request_id())
            })
        });
        match body {
            Some(body) => Ok(xml(StatusCode::OK, body)),
            None => Err(Error::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalFailure",
                "the answer cannot be written",
            )),
        }
    }
}

/// A refusal.
#[derive(Debug)]
pub(super) struct Error {
    status: StatusCode,
    code: String,
    message: String,
}

impl Error {
    pub(super) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            code: code.to_owned(),
            message: message.into(),
        }
    }

    fn denied(message: String) -> Self {
        Self::new(StatusCode::FORBIDDEN, "AccessDenied", message)
    }

    fn validation(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "ValidationError", message)
    }

    pub(super) fn answer(self) -> Response<AnswerBody> {
        let kind = match self.status.is_server_error() {
            true => "Receiver",
            false => "Sender",
        };
        let body = document("ErrorResponse", |s| {
            s.element("Error", |s| {
                s.content("Type", kind)?;
                s.content("Code", &self.code)?;
                s.content("Message", &self.message)
            })?;
            s.content("RequestId", &request_id())
        });
        xml(self.status, body.unwrap_or_default())
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        let (code, message) = match problem {
            Problem::Expired => (
                "ExpiredToken",
                "The security token included in the request is expired".to_owned(),
            ),
            Problem::Incomplete => (
                "IncompleteSignature",
                "The Authorization header is not AWS4-HMAC-SHA256 with Credential, SignedHeaders and Signature"
                    .to_owned(),
            ),
            Problem::Invalid(message) => ("SignatureDoesNotMatch", message),
            Problem::Missing => (
                "MissingAuthenticationToken",
                "Request is missing Authentication Token".to_owned(),
            ),
            Problem::UnknownKey => (
                "InvalidClientTokenId",
                "The security token included in the request is invalid.".to_owned(),
            ),
        };
        Self::new(StatusCode::FORBIDDEN, code, message)
    }
}

/// Whose credentials they are.
fn identity_arn(session: Option<&Session>) -> String {
    session.map_or_else(
        || format!("arn:aws:iam::{ACCOUNT}:user/cofferdam"),
        Session::arn,
    )
}

fn document(
    root: &str,
    content: impl FnOnce(&mut Serializer<&mut Vec<u8>>) -> SerResult,
) -> Option<Vec<u8>> {
    let mut xml = Vec::new();
    let written = Serializer::new(&mut xml).element_with_ns(root, NAMESPACE, content);
    written.is_ok().then_some(xml)
}

fn xml(status: StatusCode, body: Vec<u8>) -> Response<AnswerBody> {
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = status;
    let content_type = HeaderValue::from_static("text/xml");
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    answer
}

fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}
