//! Who is let in.
//!
//! Without this module the store would serve a client that does not sign, as AWS does not.

use std::sync::Arc;

use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Result, s3_error};

use super::operations::Operations;

/// The key that may sign.
#[derive(Clone, Debug)]
pub(super) struct AccessKey {
    pub(super) id: String,
    pub(super) secret: SecretKey,
}

impl AccessKey {
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

#[async_trait::async_trait]
impl S3Auth for AccessKey {
    async fn get_secret_key(&self, id: &str) -> S3Result<SecretKey> {
        if id == self.id {
            return Ok(self.secret.clone());
        }
        Err(s3_error!(
            InvalidAccessKeyId,
            "The AWS Access Key Id you provided does not exist in our records."
        ))
    }
}

/// Only the key's holder may do anything, and without a session token: the key has none.
struct SignedOnly;

#[async_trait::async_trait]
impl S3Access for SignedOnly {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        if context.credentials().is_none() {
            return Err(s3_error!(AccessDenied, "Access Denied"));
        }
        if context.headers().contains_key("x-amz-security-token") {
            return Err(s3_error!(
                InvalidToken,
                "The provided token is malformed or otherwise invalid."
            ));
        }
        Ok(())
    }
}

/// The library, so that it lets nobody else in. A skew, in seconds, in place of its own.
pub(super) fn service(
    operations: Operations,
    key: AccessKey,
    largest_skew: Option<u32>,
) -> S3Service {
    let mut config = S3Config::default();
    if let Some(seconds) = largest_skew {
        config.presigned_url_max_skew_time_secs = seconds;
    }
    let mut builder = S3ServiceBuilder::new(operations);
    builder.set_auth(key);
    builder.set_access(SignedOnly);
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    builder.build()
}
