//! What is asked of S3 and of DynamoDB, by name, and how it fails.
//!
//! A refusal helps nobody unless it says what was refused: each operation knows its permission, for both services
//! in one table.

use crate::aws::http::Failure;
use crate::platform::Method;

/// An operation on one object, on the bucket, on one item, or on the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    DeleteItem,
    DeleteObject,
    /// Removes one version of an object for good.
    DeleteVersion,
    DescribeTable,
    GetBucketVersioning,
    GetItem,
    GetObject,
    /// Reads a version of an object that need not be the newest.
    GetVersion,
    ListObjects,
    ListVersions,
    PutItem,
    PutObject,
}

impl Operation {
    /// As AWS calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Operation::DeleteItem => "DeleteItem",
            Operation::DeleteObject | Operation::DeleteVersion => "DeleteObject",
            Operation::DescribeTable => "DescribeTable",
            Operation::GetBucketVersioning => "GetBucketVersioning",
            Operation::GetItem => "GetItem",
            Operation::GetObject | Operation::GetVersion => "GetObject",
            Operation::ListObjects => "ListObjectsV2",
            Operation::ListVersions => "ListObjectVersions",
            Operation::PutItem => "PutItem",
            Operation::PutObject => "PutObject",
        }
    }

    /// The permission that it takes.
    pub(crate) fn permission(self) -> &'static str {
        match self {
            Operation::DeleteItem => "dynamodb:DeleteItem",
            Operation::DeleteObject => "s3:DeleteObject",
            Operation::DeleteVersion => "s3:DeleteObjectVersion",
            Operation::DescribeTable => "dynamodb:DescribeTable",
            Operation::GetBucketVersioning => "s3:GetBucketVersioning",
            Operation::GetItem => "dynamodb:GetItem",
            Operation::GetObject => "s3:GetObject",
            Operation::GetVersion => "s3:GetObjectVersion",
            Operation::ListObjects => "s3:ListBucket",
            Operation::ListVersions => "s3:ListBucketVersions",
            Operation::PutItem => "dynamodb:PutItem",
            Operation::PutObject => "s3:PutObject",
        }
    }

    pub(crate) fn method(self) -> Method {
        match self {
            Operation::DeleteItem
            | Operation::DescribeTable
            | Operation::GetItem
            | Operation::PutItem => Method::Post,
            Operation::DeleteObject | Operation::DeleteVersion => Method::Delete,
            Operation::GetBucketVersioning
            | Operation::GetObject
            | Operation::GetVersion
            | Operation::ListObjects
            | Operation::ListVersions => Method::Get,
            Operation::PutObject => Method::Put,
        }
    }

    /// Whether it is one of DynamoDB.
    pub(crate) fn is_of_table(self) -> bool {
        self.method() == Method::Post
    }

    /// Whether it can change what is stored.
    pub(crate) fn changes(self) -> bool {
        matches!(
            self,
            Operation::DeleteItem
                | Operation::DeleteObject
                | Operation::DeleteVersion
                | Operation::PutItem
                | Operation::PutObject
        )
    }
}

/// An operation that failed, and what it was about.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) operation: Operation,
    /// Key of the object, or prefix of a listing; key of the item, or nothing for the table itself.
    pub(crate) key: String,
    pub(crate) failure: Failure,
}
