//! The names by which IAM knows what a configuration uses.
//!
//! Errors name a resource so that a person can allow something on it, and a policy allows it: both must mean the same.

use crate::config::{BucketLocation, Settings, region};

/// The ARNs of one configuration.
#[derive(Clone, Copy)]
pub(crate) struct Arns<'a> {
    /// Whose table and key it is that are not named by ARNs. `*`: nobody told.
    pub(crate) account: &'a str,
    pub(crate) settings: &'a Settings,
    pub(crate) location: &'a BucketLocation,
}

impl Arns<'_> {
    /// The bucket, or the access point.
    pub(crate) fn bucket(&self) -> String {
        let bucket = &self.settings.bucket;
        if self.is_access_point() {
            return bucket.clone();
        }
        let partition = region::partition(&self.location.region).name;
        format!("arn:{partition}:s3:::{bucket}")
    }

    /// An object in the bucket.
    pub(crate) fn object(&self, key: &str) -> String {
        let infix = if self.is_access_point() {
            "/object"
        } else {
            ""
        };
        format!("{}{infix}/{key}", self.bucket())
    }

    /// A key of KMS, by its id, its alias or its own ARN. A key that is named by its alias can be any key, with the
    /// alias as a condition.
    pub(crate) fn kms_key<'k>(&self, id: &'k str) -> (String, Option<&'k str>) {
        let (before, resource) = match id.splitn(6, ':').nth(5) {
            Some(resource) => (id[..id.len() - resource.len()].to_owned(), resource),
            None => {
                let region = &self.location.region;
                let partition = region::partition(region).name;
                let account = self.account;
                (format!("arn:{partition}:kms:{region}:{account}:"), id)
            }
        };
        if resource.starts_with("alias/") {
            return (format!("{before}key/*"), Some(resource));
        }
        let id = resource.strip_prefix("key/").unwrap_or(resource);
        (format!("{before}key/{id}"), None)
    }

    /// The DynamoDB table.
    pub(crate) fn table(&self) -> String {
        let table = self.settings.dynamodb_table.as_deref().unwrap_or_default();
        if table.starts_with("arn:") {
            return table.to_owned();
        }
        let region = &self.settings.region.value;
        let partition = region::partition(region).name;
        let account = self.account;
        format!("arn:{partition}:dynamodb:{region}:{account}:table/{table}")
    }

    /// Whether the bucket is named by the ARN of an access point.
    pub(crate) fn is_access_point(&self) -> bool {
        self.settings.bucket.starts_with("arn:")
    }
}
