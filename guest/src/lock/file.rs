//! The lock file: an object beside the state. Its mark is the ETag.

use sha2::{Digest, Sha256};

use crate::aws::http::{Failure, Payload};
use crate::contract::Error;
use crate::failure::{Context, ErrorExt};
use crate::lock_record;
use crate::operation::{Failed, Operation};
use crate::platform::Platform;
use crate::s3::{Condition, Got, Kind, S3};

use super::protocol::{Found, Place};

/// A record has some hundred bytes; what is larger is no record.
const MAX_RECORD: u64 = 1 << 20;

pub(super) struct LockFile<'a, P> {
    s3: &'a S3<'a, P>,
    bucket: &'a str,
    key: String,
}

impl<'a, P> LockFile<'a, P> {
    /// The one of the state with this key.
    pub(super) fn new(s3: &'a S3<'a, P>, context: &'a Context<'a>, state: &str) -> Self {
        Self {
            s3,
            bucket: &context.settings.bucket,
            key: format!("{state}.tflock"),
        }
    }
}

impl<P: Platform> Place for LockFile<'_, P> {
    fn name(&self) -> &'static str {
        "s3"
    }

    fn shown(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.key)
    }

    fn argument(&self) -> &'static str {
        "use_lockfile"
    }

    fn locate(&self, error: Error) -> Error {
        error.fact("key", &self.key)
    }

    fn create(&self, record: &str) -> Result<Option<String>, Failed> {
        let payload = Payload {
            bytes: record.as_bytes(),
            sha256: Sha256::digest(record).into(),
        };
        match self
            .s3
            .put(&self.key, Kind::Lock, payload, Condition::Absent)?
        {
            Some(revision) => Ok(Some(revision.tag)),
            // A page of a proxy's, perhaps: nobody holds a lock because of that before it was read.
            None => Err(Failed {
                operation: Operation::PutObject,
                key: self.key.clone(),
                failure: Failure::misunderstood("the answer names no ETag", true),
            }),
        }
    }

    fn read(&self) -> Result<Option<Found>, Failed> {
        Ok(match self.s3.get(&self.key, None, MAX_RECORD)? {
            Got::Absent | Got::Unchanged => None,
            Got::Object(object) => Some(Found {
                info: lock_record::from_json(&object.bytes),
                mark: object.tag,
            }),
            Got::TooLarge { tag, .. } => Some(Found {
                info: None,
                mark: tag,
            }),
        })
    }

    fn delete(&self, mark: Option<&str>) -> Result<(), Failed> {
        self.s3.delete(&self.key, mark)
    }

    fn pause_after_collision(&self, round: u32) -> bool {
        self.s3.client.pause_after_collision(round)
    }
}
