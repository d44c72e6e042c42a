//! The S3 operations: from the library's requests to [`Contents`] and back.
//!
//! Without this module there would be objects and a protocol, and nothing between them. What is not here is
//! answered 501 `NotImplemented` by the library. Single objects are left to the modules `reads`, `writes` and
//! `multipart`.

use std::sync::Arc;

use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use super::contents::Contents;
use super::entries::{common_prefixes, contents, encoder, query, versions};
use super::listing::After;
use super::log::Caller;
use super::tags::{self, Tags};
use super::versions::{Settings, Versioning};

/// Answers the library's requests.
#[derive(Clone)]
pub(super) struct Operations {
    pub(super) contents: Arc<Contents>,
    pub(super) region: String,
}

#[async_trait::async_trait]
impl S3 for Operations {
    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let location = format!("/{}", request.input.bucket);
        let bucket = request.input.bucket.clone();
        let object_lock = request.input.object_lock_enabled_for_bucket == Some(true);
        let settings = Settings {
            versioning: match object_lock {
                true => Versioning::Enabled,
                false => Versioning::Off,
            },
            object_lock,
            ..Settings::default()
        };
        self.change(&request, move |contents, caller| {
            contents.create_bucket(caller, &bucket, settings)
        })
        .await?;
        Ok(S3Response::new(CreateBucketOutput {
            location: Some(location),
        }))
    }

    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.contents
            .has_bucket(&caller(&request), &request.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput {
            bucket_region: Some(self.region.clone()),
            ..HeadBucketOutput::default()
        }))
    }

    async fn list_buckets(
        &self,
        request: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        let buckets = self.contents.buckets(&caller(&request))?;
        let buckets = buckets.into_iter().map(|(name, created)| Bucket {
            bucket_region: Some(self.region.clone()),
            creation_date: Some(created.into()),
            name: Some(name),
        });
        Ok(S3Response::new(ListBucketsOutput {
            buckets: Some(buckets.collect()),
            ..ListBucketsOutput::default()
        }))
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.contents
            .has_bucket(&caller(&request), &request.input.bucket)?;
        // S3 leaves its first region out.
        let constraint = Some(self.region.clone()).filter(|region| region != "us-east-1");
        Ok(S3Response::new(GetBucketLocationOutput {
            location_constraint: constraint.map(BucketLocationConstraint::from),
        }))
    }

    async fn get_bucket_versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        let bucket = &request.input.bucket;
        self.contents.has_bucket(&caller(&request), bucket)?;
        let status = match self.contents.settings(bucket).versioning {
            Versioning::Enabled => Some(BucketVersioningStatus::ENABLED),
            Versioning::Off => None,
            Versioning::Suspended => Some(BucketVersioningStatus::SUSPENDED),
        };
        Ok(S3Response::new(GetBucketVersioningOutput {
            status: status.map(BucketVersioningStatus::from_static),
            ..GetBucketVersioningOutput::default()
        }))
    }

    async fn put_bucket_versioning(
        &self,
        request: S3Request<PutBucketVersioningInput>,
    ) -> S3Result<S3Response<PutBucketVersioningOutput>> {
        let bucket = request.input.bucket.clone();
        let status = &request.input.versioning_configuration.status;
        let versioning = match status.as_ref().map(BucketVersioningStatus::as_str) {
            Some(BucketVersioningStatus::ENABLED) => Versioning::Enabled,
            Some(BucketVersioningStatus::SUSPENDED) => Versioning::Suspended,
            _ => {
                return Err(s3_error!(
                    MalformedXML,
                    "The versioning element must be specified"
                ));
            }
        };
        self.change(&request, move |contents, caller| {
            contents.change_settings(caller, &bucket, |settings| {
                if settings.object_lock && versioning != Versioning::Enabled {
                    return Err(s3_error!(
                        InvalidBucketState,
                        "An Object Lock configuration is present on this bucket, so the versioning state cannot be changed."
                    ));
                }
                settings.versioning = versioning;
                Ok(())
            })
        })
        .await?;
        Ok(S3Response::new(PutBucketVersioningOutput::default()))
    }

    async fn get_object_lock_configuration(
        &self,
        request: S3Request<GetObjectLockConfigurationInput>,
    ) -> S3Result<S3Response<GetObjectLockConfigurationOutput>> {
        let bucket = &request.input.bucket;
        self.contents.has_bucket(&caller(&request), bucket)?;
        if !self.contents.settings(bucket).object_lock {
            return Err(s3_error!(
                ObjectLockConfigurationNotFoundError,
                "Object Lock configuration does not exist for this bucket"
            ));
        }
        let enabled = ObjectLockEnabled::from_static(ObjectLockEnabled::ENABLED);
        Ok(S3Response::new(GetObjectLockConfigurationOutput {
            object_lock_configuration: Some(ObjectLockConfiguration {
                object_lock_enabled: Some(enabled),
                rule: None,
            }),
        }))
    }

    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        self.read(request).await
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        self.head(request).await
    }

    async fn put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        self.write(request).await
    }

    async fn copy_object(
        &self,
        request: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        self.copy(request).await
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.remove(request).await
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        self.remove_many(request).await
    }

    async fn list_object_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let input = request.input.clone();
        if input.delimiter.is_some() {
            return Err(s3_error!(
                NotImplemented,
                "The embedded store lists versions only without a delimiter"
            ));
        }
        let after = match (&input.key_marker, &input.version_id_marker) {
            (Some(key), version) if !key.is_empty() => Some((key.as_str(), version.as_deref())),
            (_, None) => None,
            (_, Some(_)) => {
                return Err(s3_error!(
                    InvalidArgument,
                    "A version-id marker cannot be specified without a key marker."
                ));
            }
        };
        let query = query(&input.prefix, &None, None, input.max_keys)?;
        let page = self
            .contents
            .list_versions(&caller(&request), &input.bucket, &query, after)?;
        let encode = encoder(input.encoding_type.as_ref());
        let last = page.entries.last().filter(|_| page.is_truncated);
        let next = last.map(|(version, _)| (encode(version.key()), version.id.clone()));
        let (markers, versions) = versions(page.entries, encode);
        let (next_key_marker, next_version_id_marker) = next.unzip();
        Ok(S3Response::new(ListObjectVersionsOutput {
            delete_markers: Some(markers),
            versions: Some(versions),
            is_truncated: Some(page.is_truncated),
            next_key_marker,
            next_version_id_marker,
            key_marker: Some(input.key_marker.as_deref().map(encode).unwrap_or_default()),
            version_id_marker: Some(input.version_id_marker.unwrap_or_default()),
            max_keys: i32::try_from(query.limit()).ok(),
            prefix: Some(encode(&query.prefix)),
            encoding_type: input.encoding_type,
            name: Some(input.bucket),
            ..ListObjectVersionsOutput::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input.clone();
        let after = match (&input.continuation_token, &input.start_after) {
            (Some(token), _) => Some(After::from_token(token).ok_or_else(|| {
                s3_error!(
                    InvalidArgument,
                    "The continuation token provided is incorrect"
                )
            })?),
            (None, Some(key)) => Some(After::Key(key.clone())),
            (None, None) => None,
        };
        let query = query(&input.prefix, &input.delimiter, after, input.max_keys)?;
        let page = self
            .contents
            .list(&caller(&request), &input.bucket, &query)?;
        let encode = encoder(input.encoding_type.as_ref());
        Ok(S3Response::new(ListObjectsV2Output {
            key_count: i32::try_from(page.objects.len() + page.prefixes.len()).ok(),
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next.map(|next| next.token()),
            contents: Some(contents(page.objects, encode)),
            common_prefixes: Some(common_prefixes(page.prefixes, encode)),
            max_keys: i32::try_from(query.limit()).ok(),
            prefix: Some(encode(&query.prefix)),
            delimiter: input.delimiter.as_deref().map(encode),
            start_after: input.start_after.as_deref().map(encode),
            continuation_token: input.continuation_token,
            encoding_type: input.encoding_type,
            name: Some(input.bucket),
            ..ListObjectsV2Output::default()
        }))
    }

    async fn list_objects(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        let input = request.input.clone();
        let delimiter = input.delimiter.as_deref().unwrap_or_default();
        let after = input.marker.clone().map(|marker| {
            if !delimiter.is_empty() && marker.ends_with(delimiter) {
                After::Prefix(marker)
            } else {
                After::Key(marker)
            }
        });
        let query = query(&input.prefix, &input.delimiter, after, input.max_keys)?;
        let page = self
            .contents
            .list(&caller(&request), &input.bucket, &query)?;
        let encode = encoder(input.encoding_type.as_ref());
        Ok(S3Response::new(ListObjectsOutput {
            is_truncated: Some(page.next.is_some()),
            next_marker: page.next.map(|next| match next {
                After::Key(last) | After::Prefix(last) => encode(&last),
            }),
            contents: Some(contents(page.objects, encode)),
            common_prefixes: Some(common_prefixes(page.prefixes, encode)),
            max_keys: i32::try_from(query.limit()).ok(),
            prefix: Some(encode(&query.prefix)),
            delimiter: input.delimiter.as_deref().map(encode),
            marker: Some(input.marker.as_deref().map(encode).unwrap_or_default()),
            encoding_type: input.encoding_type,
            name: Some(input.bucket),
            ..ListObjectsOutput::default()
        }))
    }

    async fn get_object_acl(
        &self,
        request: S3Request<GetObjectAclInput>,
    ) -> S3Result<S3Response<GetObjectAclOutput>> {
        self.access_list(request).await
    }

    async fn get_object_tagging(
        &self,
        request: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<S3Response<GetObjectTaggingOutput>> {
        self.tags(request).await
    }

    async fn put_object_tagging(
        &self,
        request: S3Request<PutObjectTaggingInput>,
    ) -> S3Result<S3Response<PutObjectTaggingOutput>> {
        let input = request.input.clone();
        let tags = tags::from_set(input.tagging.tag_set)?;
        let version_id = self
            .change(&request, move |contents, caller| {
                let version = input.version_id.as_deref();
                contents.set_tags(caller, &input.bucket, &input.key, version, tags)
            })
            .await?;
        Ok(S3Response::new(PutObjectTaggingOutput { version_id }))
    }

    async fn delete_object_tagging(
        &self,
        request: S3Request<DeleteObjectTaggingInput>,
    ) -> S3Result<S3Response<DeleteObjectTaggingOutput>> {
        let input = request.input.clone();
        let version_id = self
            .change(&request, move |contents, caller| {
                let version = input.version_id.as_deref();
                contents.set_tags(caller, &input.bucket, &input.key, version, Tags::new())
            })
            .await?;
        Ok(S3Response::new(DeleteObjectTaggingOutput { version_id }))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.start_upload(request).await
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        self.take_part(request).await
    }

    async fn list_parts(
        &self,
        request: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        self.parts_so_far(request).await
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        self.end_upload(request).await
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.abort_upload(request).await
    }
}

/// The caller that the server put into the request.
pub(super) fn caller<T>(request: &S3Request<T>) -> Arc<Caller> {
    let caller = request.extensions.get::<Arc<Caller>>();
    caller.map(Arc::clone).unwrap_or_default()
}
