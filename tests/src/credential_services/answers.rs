//! What is answered, in the forms of the services.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use super::{
    ACCOUNT, IMDS_TOKEN, INSTANCE_ROLE, ImdsVersions, Keys, Operation, Recorded, Reply, Settings,
    seconds_now,
};

const STS: &str = "https://sts.amazonaws.com/doc/2011-06-15/";
const IAM: &str = "https://iam.amazonaws.com/doc/2010-05-08/";

/// The answer. `None`: the connection is closed.
pub(super) fn of(request: &Recorded, settings: &mut Settings) -> Option<Response<Full<Bytes>>> {
    let operation = request.operation;
    if let Some(refused) = refused(request, settings) {
        return Some(refused);
    }
    let waiting = settings.once.get_mut(&operation);
    let reply = waiting
        .and_then(std::collections::VecDeque::pop_front)
        .or_else(|| settings.always.get(&operation).cloned())
        .unwrap_or_else(|| usual(request, settings));
    if let Reply::SsoToken { access_token, .. } = &reply {
        settings.sso_token = Some(access_token.clone());
    }
    match reply {
        Reply::Close => None,
        Reply::Error {
            status,
            code,
            message,
        } => Some(error(operation, status, &code, &message)),
        Reply::Identity(arn) => Some(identity(operation, &arn)),
        Reply::Keys(keys) => Some(keys_of(request, &keys)),
        Reply::Raw {
            status,
            content_type,
            body,
        } => {
            let mut answer = answer(status, &content_type, body);
            if operation == Operation::ImdsToken {
                // Go's SDK takes a token without this for none.
                let seconds = "300".parse().expect("a header");
                let name = "x-aws-ec2-metadata-token-ttl-seconds";
                answer.headers_mut().insert(name, seconds);
            }
            Some(answer)
        }
        Reply::SsoToken {
            access_token,
            refresh_token,
            lasts_seconds,
        } => {
            let mut token = json!({
                "accessToken": access_token,
                "expiresIn": lasts_seconds,
                "tokenType": "Bearer",
            });
            if let Some(refresh_token) = refresh_token {
                token["refreshToken"] = refresh_token.into();
            }
            Some(json_answer(200, &token))
        }
    }
}

/// What whoever lacks a token is told.
fn refused(request: &Recorded, settings: &Settings) -> Option<Response<Full<Bytes>>> {
    let is_lacking = |name: &str, wanted: Option<&String>| {
        wanted.is_some_and(|wanted| request.header(name) != Some(wanted.as_str()))
    };
    let operation = request.operation;
    match operation {
        Operation::ContainerCredentials => {
            is_lacking("authorization", settings.container_token.as_ref()).then(|| {
                error(
                    operation,
                    403,
                    "AccessDenied",
                    "the token is not the right one",
                )
            })
        }
        Operation::GetRoleCredentials => {
            is_lacking("x-amz-sso_bearer_token", settings.sso_token.as_ref()).then(|| {
                error(
                    operation,
                    401,
                    "UnauthorizedException",
                    "Session token not found or invalid",
                )
            })
        }
        Operation::ImdsToken if settings.imds == ImdsVersions::OnlyV1 => {
            Some(error(operation, 404, "NotFound", "there is no such page"))
        }
        Operation::ImdsCredentials | Operation::ImdsInstanceProfile | Operation::ImdsRole => {
            let token = request.header("x-aws-ec2-metadata-token");
            let is_right = match settings.imds {
                ImdsVersions::Both => token.is_none_or(|token| token == IMDS_TOKEN),
                ImdsVersions::OnlyV1 => true,
                ImdsVersions::OnlyV2 => token == Some(IMDS_TOKEN),
            };
            (!is_right).then(|| error(operation, 401, "Unauthorized", "no session token"))
        }
        _ => None,
    }
}

/// What no test said anything about.
fn usual(request: &Recorded, settings: &Settings) -> Reply {
    let keys = settings.keys.clone();
    let keys =
        keys.unwrap_or_else(|| Keys::new("ASIASTUB", "stub-secret").with_token("stub-token"));
    match request.operation {
        Operation::AssumeRole
        | Operation::AssumeRoleWithWebIdentity
        | Operation::ContainerCredentials
        | Operation::GetRoleCredentials
        | Operation::ImdsCredentials => Reply::Keys(keys),
        Operation::CreateToken => Reply::SsoToken {
            access_token: "refreshed-access-token".to_owned(),
            refresh_token: Some("next-refresh-token".to_owned()),
            lasts_seconds: 3600,
        },
        Operation::DynamoDb => raw("application/x-amz-json-1.0", "{}".to_owned()),
        Operation::GetCallerIdentity | Operation::GetUser => {
            Reply::Identity(format!("arn:aws:iam::{ACCOUNT}:user/stub"))
        }
        Operation::ImdsInstanceProfile => {
            Reply::Identity(format!("arn:aws:iam::{ACCOUNT}:instance-profile/stub"))
        }
        Operation::ImdsRole => raw("text/plain", INSTANCE_ROLE.to_owned()),
        Operation::ImdsToken => raw("text/plain", IMDS_TOKEN.to_owned()),
        Operation::ListRoles => Reply::Identity(format!("arn:aws:iam::{ACCOUNT}:role/stub")),
        Operation::S3 if request.method == "GET" && request.path.contains("list-type=2") => raw(
            "application/xml",
            "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><KeyCount>0</KeyCount>\
             <IsTruncated>false</IsTruncated></ListBucketResult>"
                .to_owned(),
        ),
        Operation::S3 => Reply::Error {
            status: if matches!(request.method.as_str(), "GET" | "HEAD") { 404 } else { 501 },
            code: if matches!(request.method.as_str(), "GET" | "HEAD") {
                "NoSuchKey"
            } else {
                "NotImplemented"
            }
            .to_owned(),
            message: "this server has nothing and keeps nothing".to_owned(),
        },
    }
}

fn raw(content_type: &str, body: String) -> Reply {
    Reply::Raw {
        status: 200,
        content_type: content_type.to_owned(),
        body,
    }
}

fn keys_of(request: &Recorded, keys: &Keys) -> Response<Full<Bytes>> {
    let (id, secret) = (&keys.access_key_id, &keys.secret_access_key);
    let (date, date_now) = (date(keys.expires_at()), date(seconds_now()));
    match request.operation {
        operation @ (Operation::AssumeRole | Operation::AssumeRoleWithWebIdentity) => {
            let role = request.field("RoleArn").unwrap_or_default();
            let role = role.rsplit('/').next().unwrap_or_default();
            let session = request.field("RoleSessionName").unwrap_or_default();
            let token = keys.session_token.as_deref().unwrap_or_default();
            let result = format!(
                "<AssumedRoleUser><AssumedRoleId>AROASTUB:{session}</AssumedRoleId>\
                 <Arn>arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{session}</Arn></AssumedRoleUser>\
                 <Credentials><AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey>\
                 <SessionToken>{}</SessionToken><Expiration>{date}</Expiration></Credentials>",
                escaped(id),
                escaped(secret),
                escaped(token)
            );
            query(&format!("{operation:?}"), STS, &result)
        }
        Operation::GetRoleCredentials => json_answer(
            200,
            &json!({ "roleCredentials": {
                "accessKeyId": id,
                "secretAccessKey": secret,
                "sessionToken": keys.session_token,
                "expiration": keys.expires_at() * 1000,
            }}),
        ),
        _ => json_answer(
            200,
            &json!({
                "Code": "Success",
                "LastUpdated": date_now,
                "Type": "AWS-HMAC",
                "AccessKeyId": id,
                "SecretAccessKey": secret,
                "Token": keys.session_token,
                "Expiration": date,
                "AccountId": ACCOUNT,
            }),
        ),
    }
}

fn identity(operation: Operation, arn: &str) -> Response<Full<Bytes>> {
    let arn = escaped(arn);
    match operation {
        Operation::GetUser => query("GetUser", IAM, &format!("<User><Arn>{arn}</Arn></User>")),
        Operation::ImdsInstanceProfile => json_answer(
            200,
            &json!({ "Code": "Success", "InstanceProfileArn": arn, "InstanceProfileId": "AIPASTUB" }),
        ),
        Operation::ListRoles => query(
            "ListRoles",
            IAM,
            &format!(
                "<Roles><member><Arn>{arn}</Arn></member></Roles><IsTruncated>false</IsTruncated>"
            ),
        ),
        _ => {
            let account = arn.split(':').nth(4).unwrap_or_default();
            let result =
                format!("<Arn>{arn}</Arn><UserId>AIDASTUB</UserId><Account>{account}</Account>");
            query("GetCallerIdentity", STS, &result)
        }
    }
}

fn error(operation: Operation, status: u16, code: &str, message: &str) -> Response<Full<Bytes>> {
    let (escaped_code, escaped_message) = (escaped(code), escaped(message));
    match operation {
        Operation::AssumeRole
        | Operation::AssumeRoleWithWebIdentity
        | Operation::GetCallerIdentity
        | Operation::GetUser
        | Operation::ListRoles => answer(
            status,
            "text/xml",
            format!(
                "<ErrorResponse xmlns=\"{STS}\"><Error><Type>Sender</Type><Code>{escaped_code}</Code>\
                 <Message>{escaped_message}</Message></Error><RequestId>stub</RequestId></ErrorResponse>"
            ),
        ),
        Operation::ContainerCredentials => {
            json_answer(status, &json!({ "code": code, "message": message }))
        }
        Operation::CreateToken => json_answer(
            status,
            &json!({ "error": code, "error_description": message }),
        ),
        Operation::DynamoDb => json_answer(
            status,
            &json!({ "__type": format!("com.amazonaws.dynamodb.v20120810#{code}"), "message": message }),
        ),
        Operation::GetRoleCredentials => {
            let mut answer = json_answer(status, &json!({ "message": message }));
            let code = code.parse().expect("a code that fits into a header");
            answer.headers_mut().insert("x-amzn-errortype", code);
            answer
        }
        Operation::ImdsCredentials
        | Operation::ImdsInstanceProfile
        | Operation::ImdsRole
        | Operation::ImdsToken => answer(
            status,
            "text/html",
            format!("<html><head><title>{status} - {escaped_code}</title></head></html>"),
        ),
        Operation::S3 => answer(
            status,
            "application/xml",
            format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{escaped_code}</Code>\
                 <Message>{escaped_message}</Message><RequestId>stub</RequestId></Error>"
            ),
        ),
    }
}

/// An answer of the Query protocol.
fn query(action: &str, namespace: &str, result: &str) -> Response<Full<Bytes>> {
    let body = format!(
        "<{action}Response xmlns=\"{namespace}\"><{action}Result>{result}</{action}Result>\
         <ResponseMetadata><RequestId>stub</RequestId></ResponseMetadata></{action}Response>"
    );
    answer(200, "text/xml", body)
}

fn json_answer(status: u16, body: &Value) -> Response<Full<Bytes>> {
    answer(status, "application/json", body.to_string())
}

fn answer(status: u16, content_type: &str, body: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
    let content_type = content_type.parse().expect("a content type");
    answer.headers_mut().insert("content-type", content_type);
    answer
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;");
    text.replace('<', "&lt;").replace('>', "&gt;")
}

/// RFC 3339, of seconds since 1970.
fn date(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).expect("a time");
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
