//! Uploads in parts, from the protocol's side.
//!
//! Without this module Terraform could not store states above 5 MiB here.

use std::sync::Arc;
use std::time::SystemTime;

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use crate::checksum::hex;

use super::checksum::Algorithm;
use super::customer_key::CustomerKey;
use super::entries::etag;
use super::object::{Conditions, Headers};
use super::operations::{Operations, caller};
use super::tags;
use super::transfer::{blocking, receive};
use super::uploads::{Listed, Part as StoredPart, Place, Upload};
use super::writes::{Encryption, user_metadata};

impl Operations {
    pub(super) async fn start_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = &request.input;
        let encryption = Encryption::of(&request.headers)?;
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
                metadata: user_metadata(input.metadata.as_ref()),
                tags: tags::from_header(&request.headers)?,
                acl: self.acl(&input.bucket, &request.headers)?,
                ..encryption.headers()
            },
            algorithm,
            // Composite is S3's default for all but CRC-64.
            composite: kind != Some(ChecksumType::FULL_OBJECT)
                && algorithm.is_some_and(|it| it != Algorithm::Crc64Nvme),
            parts: Default::default(),
        };
        let id = uuid::Uuid::new_v4().simple().to_string();
        self.contents
            .create_upload(&caller(&request), &input.bucket, id.clone(), upload)?;
        let mut response = S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket.clone()),
            key: Some(input.key.clone()),
            checksum_algorithm: input.checksum_algorithm.clone(),
            checksum_type: input.checksum_type.clone(),
            upload_id: Some(id),
            ..CreateMultipartUploadOutput::default()
        });
        encryption.add_to(&mut response.headers);
        Ok(response)
    }

    pub(super) async fn take_part(
        &self,
        mut request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let customer_key = CustomerKey::of(&request.headers)?;
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
        self.demand_checksum(&input.bucket, &verified, "Upload Part")?;
        let mut response = S3Response::new(UploadPartOutput {
            e_tag: Some(ETag::Strong(hex(&verified.md5))),
            ..UploadPartOutput::default()
        });
        if let Some(key) = &customer_key {
            key.add_to(&mut response.headers);
        }
        verified.checksum.add_to(&mut response.headers);
        let part = StoredPart {
            body,
            md5: verified.md5,
            checksum: verified.checksum,
            modified: SystemTime::now(),
        };
        let place = place(&input.bucket, &input.key, &input.upload_id);
        self.contents.put_part(
            &caller(&request),
            &place,
            number,
            part,
            customer_key.as_ref(),
        )?;
        Ok(response)
    }

    pub(super) async fn parts_so_far(
        &self,
        request: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        let input = request.input.clone();
        let place = place(&input.bucket, &input.key, &input.upload_id);
        let parts = self.contents.parts(&caller(&request), &place)?;
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

    pub(super) async fn end_upload(
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
        let place = place(&input.bucket, &input.key, &input.upload_id);
        // Joining the parts is long work even without a disk.
        let contents = Arc::clone(&self.contents);
        let caller = caller(&request);
        let (metadata, version) =
            blocking(move || contents.complete_upload(&caller, &place, &listed, &conditions))
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
            version_id: version,
            ..CompleteMultipartUploadOutput::default()
        }))
    }

    pub(super) async fn abort_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = &request.input;
        let place = place(&input.bucket, &input.key, &input.upload_id);
        self.contents.abort_upload(&caller(&request), &place)?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }
}

fn place(bucket: &str, key: &str, id: &str) -> Place {
    Place {
        bucket: bucket.to_owned(),
        key: key.to_owned(),
        id: id.to_owned(),
    }
}
