//! Who is let in.
//!
//! Without this module the store would serve a client that does not sign, as AWS does not.

use std::sync::Arc;

use jiff::Timestamp;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Error, S3Result, s3_error};

use super::keyring::{Keyring, TokenProblem};
use super::operations::Operations;

/// The store's own key.
#[derive(Clone, Debug)]
pub(super) struct OwnKey {
    pub(super) id: String,
    pub(super) secret: SecretKey,
}

impl OwnKey {
    pub(super) fn random() -> Self {
        let random = || uuid::Uuid::new_v4().simple().to_string();
        let mut id = random().to_uppercase();
        id.truncate(11);
        Self {
            id: format!("COFFERDAM{id}"),
            secret: SecretKey::from(format!("{}{}", random(), random())),
        }
    }
}

/// The keys, as the library asks for them.
struct Keys(Arc<Keyring>);

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, id: &str) -> S3Result<SecretKey> {
        self.0.secret(id).ok_or_else(unknown_key)
    }
}

/// Only holders of keys may do anything, and of temporary ones only with their session token and until they end.
struct SignedOnly(Arc<Keyring>);

/// The store's time, for one request; in its extensions.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoreTime(pub(super) Timestamp);

#[async_trait::async_trait]
impl S3Access for SignedOnly {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let now = context.extensions_mut().get::<StoreTime>().copied();
        let now = now.map_or_else(Timestamp::now, |StoreTime(now)| now);
        let Some(credentials) = context.credentials() else {
            return Err(s3_error!(AccessDenied, "Access Denied"));
        };
        let token = context.headers().get("x-amz-security-token");
        let token = token.map(|token| token.as_bytes().to_vec());
        // A presigned request has it in its query.
        let query = context.uri().query().unwrap_or_default().as_bytes();
        let token = token.or_else(|| {
            form_urlencoded::parse(query)
                .find(|(name, _)| name.eq_ignore_ascii_case("x-amz-security-token"))
                .map(|(_, token)| token.into_owned().into_bytes())
        });
        let signer = self
            .0
            .signer(&credentials.access_key, token.as_deref(), now);
        signer.map(|_| ()).map_err(|problem| match problem {
            TokenProblem::Expired => {
                s3_error!(ExpiredToken, "The provided token has expired.")
            }
            TokenProblem::NoToken | TokenProblem::UnknownKey => unknown_key(),
            TokenProblem::WrongToken => s3_error!(
                InvalidToken,
                "The provided token is malformed or otherwise invalid."
            ),
        })
    }
}

fn unknown_key() -> S3Error {
    s3_error!(
        InvalidAccessKeyId,
        "The AWS Access Key Id you provided does not exist in our records."
    )
}

/// The library, so that it lets nobody else in. A skew, in seconds, in place of its own.
pub(super) fn service(
    operations: Operations,
    keys: &Arc<Keyring>,
    largest_skew: Option<u32>,
) -> S3Service {
    let mut config = S3Config::default();
    if let Some(seconds) = largest_skew {
        config.presigned_url_max_skew_time_secs = seconds;
    }
    let mut builder = S3ServiceBuilder::new(operations);
    builder.set_auth(Keys(Arc::clone(keys)));
    builder.set_access(SignedOnly(Arc::clone(keys)));
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    builder.build()
}
