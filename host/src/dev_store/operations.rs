//! The S3 operations: from the library's requests to [`Objects`] and back.
//!
//! Without this module there would be objects and a protocol, and nothing between them. What is not here is
//! answered 501 `NotImplemented` by the library.

use std::sync::Arc;
use std::time::SystemTime;

use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use crate::checksum::hex;

use super::checksum::Algorithm;
use super::entries::{common_prefixes, contents, encoder, etag, query, timestamp};
use super::listing::After;
use super::log::Caller;
use super::objects::{Conditions, Headers, Metadata, Object, Objects};
use super::transfer::{blocking, frames, receive, refuse_customer_key, without_chunking};
use super::uploads::{Listed, Part as StoredPart, Upload};

/// Answers the library's requests.
#[derive(Clone)]
pub(super) struct Operations {
    pub(super) objects: Arc<Objects>,
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
        self.change(&request, move |objects, caller| {
            objects.create_bucket(caller, &bucket)
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
        self.objects
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
        let buckets = self.objects.buckets(&caller(&request))?;
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
        self.objects
            .has_bucket(&caller(&request), &request.input.bucket)?;
        // S3 leaves its first region out.
        let constraint = Some(self.region.clone()).filter(|region| region != "us-east-1");
        Ok(S3Response::new(GetBucketLocationOutput {
            location_constraint: constraint.map(BucketLocationConstraint::from),
        }))
    }

    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = &request.input;
        refuse_customer_key(&request.headers)?;
        let conditions = Conditions {
            if_match: input.if_match.clone(),
            if_none_match: input.if_none_match.clone(),
        };
        let object = self
            .objects
            .get(&caller(&request), &input.bucket, &input.key, &conditions)?;
        let Metadata {
            size,
            modified,
            headers,
            checksum,
            ..
        } = &object.metadata;
        let mut body = object.body.clone();
        let mut content_range = None;
        if let Some(range) = &input.range {
            let range = range
                .check(*size)
                .map_err(|_| s3_error!(InvalidRange, "The requested range is not satisfiable"))?;
            content_range = Some(format!(
                "bytes {}-{}/{size}",
                range.start,
                range.end.saturating_sub(1)
            ));
            let at = |offset: u64| usize::try_from(offset).unwrap_or(body.len());
            body = body.slice(at(range.start)..at(range.end));
        }
        let whole = content_range.is_none();
        let mut response = S3Response::new(GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            cache_control: headers.cache_control.clone(),
            content_disposition: headers.content_disposition.clone(),
            content_encoding: headers.content_encoding.clone(),
            content_language: headers.content_language.clone(),
            content_length: i64::try_from(body.len()).ok(),
            content_range,
            content_type: headers.content_type.clone(),
            e_tag: Some(etag(&object.metadata)),
            last_modified: Some(timestamp(*modified)),
            metadata: user_metadata(headers),
            server_side_encryption: headers.encryption.clone().map(Into::into),
            ssekms_key_id: headers.kms_key.clone(),
            body: Some(frames(body)),
            ..GetObjectOutput::default()
        });
        if whole && wants_checksum(input.checksum_mode.as_ref()) {
            checksum.add_to(&mut response.headers);
        }
        Ok(response)
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = &request.input;
        refuse_customer_key(&request.headers)?;
        let conditions = Conditions {
            if_match: input.if_match.clone(),
            if_none_match: input.if_none_match.clone(),
        };
        let object = self
            .objects
            .get(&caller(&request), &input.bucket, &input.key, &conditions)?;
        let Metadata {
            size,
            modified,
            headers,
            checksum,
            ..
        } = &object.metadata;
        let mut response = S3Response::new(HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            cache_control: headers.cache_control.clone(),
            content_disposition: headers.content_disposition.clone(),
            content_encoding: headers.content_encoding.clone(),
            content_language: headers.content_language.clone(),
            content_length: i64::try_from(*size).ok(),
            content_type: headers.content_type.clone(),
            e_tag: Some(etag(&object.metadata)),
            last_modified: Some(timestamp(*modified)),
            metadata: user_metadata(headers),
            server_side_encryption: headers.encryption.clone().map(Into::into),
            ssekms_key_id: headers.kms_key.clone(),
            ..HeadObjectOutput::default()
        });
        if wants_checksum(input.checksum_mode.as_ref()) {
            checksum.add_to(&mut response.headers);
        }
        Ok(response)
    }

    async fn put_object(
        &self,
        mut request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        refuse_customer_key(&request.headers)?;
        let stream = request.input.body.take();
        let (body, verified) = receive(&request, stream).await?;
        let input = &request.input;
        let headers = Headers {
            cache_control: input.cache_control.clone(),
            content_disposition: input.content_disposition.clone(),
            content_encoding: without_chunking(input.content_encoding.as_deref()),
            content_language: input.content_language.clone(),
            content_type: input.content_type.clone(),
            metadata: input.metadata.iter().flatten().map(clone_pair).collect(),
            encryption: input
                .server_side_encryption
                .as_ref()
                .map(|it| it.as_str().to_owned()),
            kms_key: input.ssekms_key_id.clone(),
        };
        let conditions = Conditions {
            if_match: input.if_match.clone(),
            if_none_match: input.if_none_match.clone(),
        };
        let mut response = S3Response::new(PutObjectOutput {
            server_side_encryption: input.server_side_encryption.clone(),
            ssekms_key_id: input.ssekms_key_id.clone(),
            ..PutObjectOutput::default()
        });
        verified.checksum.add_to(&mut response.headers);
        let object = Object::new(&input.key, body, &verified, headers);
        response.output.e_tag = Some(etag(&object.metadata));
        let bucket = input.bucket.clone();
        self.change(&request, move |objects, caller| {
            objects.put(caller, &bucket, object, &conditions)
        })
        .await?;
        Ok(response)
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let DeleteObjectInput {
            bucket,
            key,
            if_match,
            ..
        } = request.input.clone();
        self.change(&request, move |objects, caller| {
            objects.delete(caller, &bucket, &key, if_match.as_ref())
        })
        .await?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
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
        let keys: Vec<String> = delete.objects.into_iter().map(|it| it.key).collect();
        let deleted = keys.iter().map(|key| DeletedObject {
            key: Some(key.clone()),
            ..DeletedObject::default()
        });
        let deleted = Some(deleted.collect()).filter(|_| delete.quiet != Some(true));
        self.change(&request, move |objects, caller| {
            objects.delete_many(caller, &bucket, &keys)
        })
        .await?;
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted,
            ..DeleteObjectsOutput::default()
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
            .objects
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
            .objects
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

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        refuse_customer_key(&request.headers)?;
        let input = &request.input;
        let algorithm = match &input.checksum_algorithm {
            None => None,
            Some(name) => Some(Algorithm::from_name(name.as_str()).ok_or_else(|| {
                s3_error!(
                    InvalidRequest,
                    "Checksum algorithm provided is unsupported."
                )
            })?),
        };
        let kind = input.checksum_type.as_ref().map(ChecksumType::as_str);
        let upload = Upload {
            key: input.key.clone(),
            headers: Headers {
                cache_control: input.cache_control.clone(),
                content_disposition: input.content_disposition.clone(),
                content_encoding: input.content_encoding.clone(),
                content_language: input.content_language.clone(),
                content_type: input.content_type.clone(),
                metadata: input.metadata.iter().flatten().map(clone_pair).collect(),
                encryption: input
                    .server_side_encryption
                    .as_ref()
                    .map(|it| it.as_str().to_owned()),
                kms_key: input.ssekms_key_id.clone(),
            },
            algorithm,
            // Composite is S3's default for all but CRC-64.
            composite: kind != Some(ChecksumType::FULL_OBJECT)
                && algorithm.is_some_and(|it| it != Algorithm::Crc64Nvme),
            parts: Default::default(),
        };
        let id = uuid::Uuid::new_v4().simple().to_string();
        self.objects
            .create_upload(&caller(&request), &input.bucket, id.clone(), upload)?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket.clone()),
            key: Some(input.key.clone()),
            checksum_algorithm: input.checksum_algorithm.clone(),
            checksum_type: input.checksum_type.clone(),
            server_side_encryption: input.server_side_encryption.clone(),
            ssekms_key_id: input.ssekms_key_id.clone(),
            upload_id: Some(id),
            ..CreateMultipartUploadOutput::default()
        }))
    }

    async fn upload_part(
        &self,
        mut request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        refuse_customer_key(&request.headers)?;
        let number = request.input.part_number;
        if !(1..=10_000).contains(&number) {
            return Err(s3_error!(
                InvalidArgument,
                "Part number must be an integer between 1 and 10000, inclusive"
            ));
        }
        let stream = request.input.body.take();
        let (body, verified) = receive(&request, stream).await?;
        let input = &request.input;
        let mut response = S3Response::new(UploadPartOutput {
            e_tag: Some(ETag::Strong(hex(&verified.md5))),
            ..UploadPartOutput::default()
        });
        verified.checksum.add_to(&mut response.headers);
        let part = StoredPart {
            body,
            md5: verified.md5,
            checksum: verified.checksum,
            modified: SystemTime::now(),
        };
        self.objects.put_part(
            &caller(&request),
            &input.bucket,
            &input.key,
            &input.upload_id,
            number,
            part,
        )?;
        Ok(response)
    }

    async fn list_parts(
        &self,
        request: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        let input = request.input.clone();
        let parts = self.objects.parts(
            &caller(&request),
            &input.bucket,
            &input.key,
            &input.upload_id,
        )?;
        let after = input.part_number_marker.unwrap_or(0);
        let limit = usize::try_from(input.max_parts.unwrap_or(1000).min(1000)).unwrap_or(0);
        let mut rest = parts.into_iter().filter(|(number, _)| *number > after);
        let listed: Vec<Part> = rest
            .by_ref()
            .take(limit)
            .map(|(number, part)| {
                let checksum = part.checksum.fields();
                Part {
                    checksum_crc32: checksum.checksum_crc32,
                    checksum_crc32c: checksum.checksum_crc32c,
                    checksum_crc64nvme: checksum.checksum_crc64nvme,
                    checksum_sha1: checksum.checksum_sha1,
                    checksum_sha256: checksum.checksum_sha256,
                    e_tag: Some(ETag::Strong(hex(&part.md5))),
                    last_modified: Some(part.modified.into()),
                    part_number: Some(number),
                    size: i64::try_from(part.body.len()).ok(),
                }
            })
            .collect();
        Ok(S3Response::new(ListPartsOutput {
            is_truncated: Some(rest.next().is_some()),
            next_part_number_marker: listed.last().and_then(|part| part.part_number),
            parts: Some(listed),
            max_parts: i32::try_from(limit).ok(),
            part_number_marker: Some(after),
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            ..ListPartsOutput::default()
        }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input.clone();
        let parts = input.multipart_upload.and_then(|upload| upload.parts);
        let listed: Vec<Listed> = parts
            .unwrap_or_default()
            .into_iter()
            .map(|part| Listed {
                number: part.part_number.unwrap_or(0),
                etag: part.e_tag.map(ETag::into_value).unwrap_or_default(),
                checksums: [
                    part.checksum_crc32,
                    part.checksum_crc32c,
                    part.checksum_crc64nvme,
                    part.checksum_sha1,
                    part.checksum_sha256,
                ]
                .into_iter()
                .flatten()
                .collect(),
            })
            .collect();
        let conditions = Conditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
        };
        let (bucket, key, id) = (
            input.bucket.clone(),
            input.key.clone(),
            input.upload_id.clone(),
        );
        // Joining the parts is long work even without a disk.
        let objects = Arc::clone(&self.objects);
        let caller = caller(&request);
        let metadata = blocking(move || {
            objects.complete_upload(&caller, &bucket, &key, &id, &listed, &conditions)
        })
        .await??;
        let checksum = metadata.checksum.fields();
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            checksum_crc32: checksum.checksum_crc32,
            checksum_crc32c: checksum.checksum_crc32c,
            checksum_crc64nvme: checksum.checksum_crc64nvme,
            checksum_sha1: checksum.checksum_sha1,
            checksum_sha256: checksum.checksum_sha256,
            checksum_type: checksum.checksum_type,
            e_tag: Some(etag(&metadata)),
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            bucket: Some(input.bucket),
            key: Some(input.key),
            ..CompleteMultipartUploadOutput::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = &request.input;
        self.objects.abort_upload(
            &caller(&request),
            &input.bucket,
            &input.key,
            &input.upload_id,
        )?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }
}

impl Operations {
    /// Runs a change, on a thread of its own when it waits for a disk.
    async fn change<I: Sync, T: Send + 'static>(
        &self,
        request: &S3Request<I>,
        effect: impl FnOnce(&Objects, &Caller) -> S3Result<T> + Send + 'static,
    ) -> S3Result<T> {
        let caller = caller(request);
        if !self.objects.is_durable() {
            return effect(&self.objects, &caller);
        }
        let objects = Arc::clone(&self.objects);
        blocking(move || effect(&objects, &caller)).await?
    }
}

/// The caller that the server put into the request.
fn caller<T>(request: &S3Request<T>) -> Arc<Caller> {
    let caller = request.extensions.get::<Arc<Caller>>();
    caller.map(Arc::clone).unwrap_or_default()
}

fn wants_checksum(mode: Option<&ChecksumMode>) -> bool {
    mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED)
}

fn user_metadata(headers: &Headers) -> Option<std::collections::HashMap<String, String>> {
    (!headers.metadata.is_empty()).then(|| headers.metadata.iter().map(clone_pair).collect())
}

fn clone_pair((name, value): (&String, &String)) -> (String, String) {
    (name.clone(), value.clone())
}
