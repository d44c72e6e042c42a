//! What was asked.

use std::collections::BTreeMap;

use http::request::Parts;

/// What a request asks for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Operation {
    /// STS.
    AssumeRole,
    /// STS, unsigned.
    AssumeRoleWithWebIdentity,
    /// The endpoint of ECS or EKS.
    ContainerCredentials,
    /// OIDC of IAM Identity Center.
    CreateToken,
    /// Any operation of DynamoDB: its header `x-amz-target` tells which.
    DynamoDb,
    /// STS.
    GetCallerIdentity,
    /// The portal of IAM Identity Center.
    GetRoleCredentials,
    /// IAM.
    GetUser,
    /// The keys of the instance's role.
    ImdsCredentials,
    /// The instance profile.
    ImdsInstanceProfile,
    /// The name of the instance's role.
    ImdsRole,
    /// A session token.
    ImdsToken,
    /// IAM.
    ListRoles,
    /// Anything of S3, and whatever else comes.
    S3,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// What it asks for.
    pub operation: Operation,
    /// The HTTP method.
    pub method: String,
    /// Path and query, as sent; of a request through a proxy the whole URL.
    pub path: String,
    /// The header `Host`.
    pub host: String,
    /// All headers, by their lower-case names.
    pub headers: BTreeMap<String, String>,
    /// Who signed.
    pub access_key_id: Option<String>,
    /// The region that it is signed for.
    pub region: Option<String>,
    /// The service that it is signed for.
    pub service: Option<String>,
    /// The body.
    pub body: String,
}

impl Recorded {
    pub(super) fn new(head: &Parts, body: &[u8]) -> Self {
        let mut headers = BTreeMap::new();
        for (name, value) in &head.headers {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            headers.insert(name.as_str().to_owned(), value);
        }
        let scope = headers
            .get("authorization")
            .and_then(|value| value.split_once("Credential="))
            .and_then(|(_, rest)| rest.split(',').next())
            .map(|scope| scope.split('/').map(str::to_owned).collect::<Vec<_>>())
            .unwrap_or_default();
        let mut recorded = Self {
            operation: Operation::S3,
            method: head.method.to_string(),
            path: head.uri.to_string(),
            host: headers.get("host").cloned().unwrap_or_default(),
            access_key_id: scope.first().cloned(),
            region: scope.get(2).cloned(),
            service: scope.get(3).cloned(),
            headers,
            body: String::from_utf8_lossy(body).into_owned(),
        };
        recorded.operation = recorded.operation_of(head.uri.path());
        recorded
    }

    /// A header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The header `X-Amz-Security-Token`.
    pub fn session_token(&self) -> Option<&str> {
        self.header("x-amz-security-token")
    }

    /// A field of the form that is the body, decoded.
    pub fn field(&self, name: &str) -> Option<String> {
        let mut fields = self.body.split('&').filter_map(|it| it.split_once('='));
        let (_, value) = fields.find(|(known, _)| *known == name)?;
        Some(decoded(value))
    }

    fn operation_of(&self, path: &str) -> Operation {
        match (self.method.as_str(), path) {
            ("PUT", "/latest/api/token") => Operation::ImdsToken,
            ("GET", "/latest/meta-data/iam/info") => Operation::ImdsInstanceProfile,
            ("GET", "/latest/meta-data/iam/security-credentials/") => Operation::ImdsRole,
            ("GET", path) if path.starts_with("/latest/") => Operation::ImdsCredentials,
            ("GET", "/federation/credentials") => Operation::GetRoleCredentials,
            ("POST", "/token") => Operation::CreateToken,
            ("GET", path)
                if path.starts_with("/container") || path.starts_with("/v2/credentials") =>
            {
                Operation::ContainerCredentials
            }
            ("POST", "/") if self.headers.contains_key("x-amz-target") => Operation::DynamoDb,
            ("POST", "/") => match self.field("Action").as_deref() {
                Some("AssumeRole") => Operation::AssumeRole,
                Some("AssumeRoleWithWebIdentity") => Operation::AssumeRoleWithWebIdentity,
                Some("GetCallerIdentity") => Operation::GetCallerIdentity,
                Some("GetUser") => Operation::GetUser,
                Some("ListRoles") => Operation::ListRoles,
                _ => Operation::S3,
            },
            _ => Operation::S3,
        }
    }
}

/// A value of a form.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let digits = String::from_utf8_lossy(&digits).into_owned();
                bytes.push(u8::from_str_radix(&digits, 16).expect("two hexadecimal digits"));
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
