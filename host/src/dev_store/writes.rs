//! Writes and deletions of objects.
//!
//! Without this module there would be nothing to read.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderMap;
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::checksum::{Verified, verify};
use super::contents::Contents;
use super::customer_key::CustomerKey;
use super::entries::{etag, timestamp};
use super::log::Caller;
use super::object::{Conditions, Headers, Object, Wanted};
use super::objects::Found;
use super::operations::{Operations, caller};
use super::tags;
use super::transfer::{blocking, receive, without_chunking};

impl Operations {
    pub(super) async fn write(
        &self,
        mut request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let stream = request.input.body.take();
        let (body, verified) = receive(&request, stream).await?;
        let input = &request.input;
        self.demand_checksum(&input.bucket, &verified, "Put Object")?;
        let encryption = Encryption::of(&request.headers)?;
        let headers = Headers {
            cache_control: input.cache_control.clone(),
            content_disposition: input.content_disposition.clone(),
            content_encoding: without_chunking(input.content_encoding.as_deref()),
            content_language: input.content_language.clone(),
            content_type: input.content_type.clone(),
            metadata: user_metadata(input.metadata.as_ref()),
            tags: tags::from_header(&request.headers)?,
            acl: self.acl(&input.bucket, &request.headers)?,
            ..encryption.headers()
        };
        let conditions = Conditions {
            if_match: input.if_match.clone(),
            if_none_match: input.if_none_match.clone(),
        };
        let mut response = S3Response::new(PutObjectOutput::default());
        encryption.add_to(&mut response.headers);
        verified.checksum.add_to(&mut response.headers);
        let object = Object::new(&input.key, body, &verified, headers);
        response.output.e_tag = Some(etag(&object.metadata));
        let bucket = input.bucket.clone();
        response.output.version_id = self
            .change(&request, move |contents, caller| {
                contents.put(caller, &bucket, object, &conditions)
            })
            .await?;
        Ok(response)
    }

    pub(super) async fn copy(
        &self,
        request: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = &request.input;
        for name in ["if-match", "if-none-match"] {
            if request.headers.contains_key(name) {
                return Err(s3_error!(
                    NotImplemented,
                    "The embedded store copies only without conditions on the target: {name}"
                ));
            }
        }
        let CopySource::Bucket {
            bucket,
            key,
            version_id,
        } = &input.copy_source
        else {
            return Err(s3_error!(
                NotImplemented,
                "The embedded store has no access points"
            ));
        };
        let encryption = Encryption::of(&request.headers)?;
        let replaces = is_replace(input.metadata_directive.as_ref().map(|it| it.as_str()));
        let same = **bucket == *input.bucket && **key == *input.key && version_id.is_none();
        if same && !replaces && !encryption.is_some() {
            return Err(s3_error!(
                InvalidRequest,
                "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata or encryption attributes."
            ));
        }
        let source_key = CustomerKey::of_source(&request.headers)?;
        let wanted = Wanted {
            key,
            version: version_id.as_deref(),
            customer_key: source_key.as_ref(),
            conditions: Conditions {
                if_match: input.copy_source_if_match.clone(),
                if_none_match: input.copy_source_if_none_match.clone(),
            },
        };
        let Found {
            object: source,
            version,
        } = self
            .contents
            .get(&caller(&request), bucket, &wanted)
            .map_err(|error| match error.code() {
                s3s::S3ErrorCode::NotModified => {
                    s3_error!(PreconditionFailed, "copy-source-If-None-Match")
                }
                _ => error,
            })?;
        let described = &source.metadata.headers;
        let own = encryption.headers();
        let tagging = input.tagging_directive.as_ref().map(|it| it.as_str());
        let tags = match is_replace(tagging) {
            true => tags::from_header(&request.headers)?,
            false => described.tags.clone(),
        };
        let acl = self.acl(&input.bucket, &request.headers)?;
        let headers = if replaces {
            Headers {
                cache_control: input.cache_control.clone(),
                content_disposition: input.content_disposition.clone(),
                content_encoding: input.content_encoding.clone(),
                content_language: input.content_language.clone(),
                content_type: input.content_type.clone(),
                metadata: user_metadata(input.metadata.as_ref()),
                tags,
                acl,
                ..own
            }
        } else {
            Headers {
                encryption: own.encryption,
                kms_key: own.kms_key,
                seal: own.seal,
                tags,
                acl,
                ..described.clone()
            }
        };
        let body = source.body.clone();
        // The source's checksum may be one over parts, its ETag may be no MD5.
        let verified: Verified = blocking(move || verify(&body, &HeaderMap::new(), None)).await??;
        let object = Object::new(&input.key, source.body.clone(), &verified, headers);
        let checksum = verified.checksum.fields();
        let mut response = S3Response::new(CopyObjectOutput {
            copy_object_result: Some(CopyObjectResult {
                checksum_crc64nvme: checksum.checksum_crc64nvme,
                checksum_type: checksum.checksum_type,
                e_tag: Some(etag(&object.metadata)),
                last_modified: Some(timestamp(object.metadata.modified)),
                ..CopyObjectResult::default()
            }),
            copy_source_version_id: version,
            ..CopyObjectOutput::default()
        });
        encryption.add_to(&mut response.headers);
        let target = input.bucket.clone();
        response.output.version_id = self
            .change(&request, move |contents, caller| {
                contents.put(caller, &target, object, &Conditions::default())
            })
            .await?;
        Ok(response)
    }

    pub(super) async fn remove(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input.clone();
        if input.if_match_last_modified_time.is_some() || input.if_match_size.is_some() {
            return Err(s3_error!(
                NotImplemented,
                "The embedded store deletes on no other condition than If-Match"
            ));
        }
        let removed = self
            .change(&request, move |contents, caller| {
                contents.delete(
                    caller,
                    &input.bucket,
                    &input.key,
                    input.version_id.as_deref(),
                    input.if_match.as_ref(),
                )
            })
            .await?;
        Ok(S3Response::new(DeleteObjectOutput {
            delete_marker: removed.delete_marker.then_some(true),
            version_id: removed.version,
            ..DeleteObjectOutput::default()
        }))
    }

    pub(super) async fn remove_many(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let DeleteObjectsInput { bucket, delete, .. } = request.input.clone();
        if delete.objects.iter().any(|object| object.e_tag.is_some()) {
            return Err(s3_error!(
                NotImplemented,
                "The embedded store deletes many objects only without conditions"
            ));
        }
        let targets: Vec<(String, Option<String>)> = delete
            .objects
            .into_iter()
            .map(|object| (object.key, object.version_id))
            .collect();
        let (targets, removed) = self
            .change(&request, move |contents, caller| {
                let removed = contents.delete_many(caller, &bucket, &targets)?;
                Ok((targets, removed))
            })
            .await?;
        let deleted = targets.into_iter().zip(removed);
        let deleted = deleted.map(|((key, version_id), removed)| DeletedObject {
            key: Some(key),
            delete_marker: removed.delete_marker.then_some(true),
            delete_marker_version_id: removed.version.filter(|_| removed.delete_marker),
            version_id,
        });
        let deleted = Some(deleted.collect()).filter(|_| delete.quiet != Some(true));
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted,
            ..DeleteObjectsOutput::default()
        }))
    }

    /// The access list that a request brings.
    pub(super) fn acl(&self, bucket: &str, headers: &HeaderMap) -> S3Result<Option<String>> {
        tags::acl(headers, self.contents.settings(bucket).acls_disabled)
    }

    /// What is to be locked must come with a checksum.
    pub(super) fn demand_checksum(
        &self,
        bucket: &str,
        verified: &Verified,
        what: &str,
    ) -> S3Result<()> {
        if self.contents.settings(bucket).object_lock && !verified.demanded {
            return Err(s3_error!(
                InvalidRequest,
                "Content-MD5 OR x-amz-checksum- HTTP header is required for {what} requests with Object Lock parameters"
            ));
        }
        Ok(())
    }

    /// Runs a change, on a thread of its own when it waits for a disk or is made to wait.
    pub(super) async fn change<I: Sync, T: Send + 'static>(
        &self,
        request: &S3Request<I>,
        effect: impl FnOnce(&Contents, &Caller) -> S3Result<T> + Send + 'static,
    ) -> S3Result<T> {
        let caller = caller(request);
        if !self.contents.is_durable() && !caller.flaws.race {
            return effect(&self.contents, &caller);
        }
        let contents = Arc::clone(&self.contents);
        blocking(move || effect(&contents, &caller)).await?
    }
}

/// How an object shall be encrypted. Only the words for it are kept and given back.
pub(super) struct Encryption {
    customer_key: Option<CustomerKey>,
    method: Option<String>,
    kms_key: Option<String>,
}

impl Encryption {
    pub(super) fn of(headers: &HeaderMap) -> S3Result<Self> {
        let text = |name: &str| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.map(str::to_owned)
        };
        let encryption = Self {
            customer_key: CustomerKey::of(headers)?,
            method: text("x-amz-server-side-encryption"),
            kms_key: text("x-amz-server-side-encryption-aws-kms-key-id"),
        };
        if encryption.customer_key.is_some()
            && (encryption.method.is_some() || encryption.kms_key.is_some())
        {
            return Err(s3_error!(
                InvalidArgument,
                "Server Side Encryption with Customer provided key is incompatible with the encryption method specified"
            ));
        }
        Ok(encryption)
    }

    pub(super) fn headers(&self) -> Headers {
        Headers {
            encryption: self.method.clone(),
            kms_key: self.kms_key.clone(),
            seal: self.customer_key.as_ref().map(CustomerKey::seal),
            ..Headers::default()
        }
    }

    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        if let Some(key) = &self.customer_key {
            key.add_to(headers);
        }
        for (name, value) in [
            ("x-amz-server-side-encryption", &self.method),
            ("x-amz-server-side-encryption-aws-kms-key-id", &self.kms_key),
        ] {
            if let Some(Ok(value)) = value.as_ref().map(|value| value.parse()) {
                headers.insert(name, value);
            }
        }
    }

    fn is_some(&self) -> bool {
        self.customer_key.is_some() || self.method.is_some()
    }
}

pub(super) fn user_metadata(metadata: Option<&Metadata>) -> BTreeMap<String, String> {
    let pairs = metadata.into_iter().flatten();
    pairs
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn is_replace(directive: Option<&str>) -> bool {
    directive == Some(MetadataDirective::REPLACE)
}
