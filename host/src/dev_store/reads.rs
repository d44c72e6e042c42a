//! Reads of one object.
//!
//! Without this module GET and HEAD would each have an idea of their own of what an object says of itself.

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::customer_key::CustomerKey;
use super::entries::{etag, timestamp};
use super::object::{Conditions, Headers, Object, Wanted};
use super::objects::Found;
use super::operations::{Operations, caller};
use super::tags;
use super::transfer::frames;

impl Operations {
    pub(super) async fn read(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = &request.input;
        let customer_key = CustomerKey::of(&request.headers)?;
        let wanted = Wanted {
            key: &input.key,
            version: input.version_id.as_deref(),
            customer_key: customer_key.as_ref(),
            conditions: Conditions {
                if_match: input.if_match.clone(),
                if_none_match: input.if_none_match.clone(),
            },
        };
        let Found { object, version } =
            self.contents
                .get(&caller(&request), &input.bucket, &wanted)?;
        let mut response = S3Response::new(about(&object));
        response.output.version_id = version;
        if let Some(key) = &customer_key {
            key.add_to(&mut response.headers);
        }
        let mut body = object.body.clone();
        let size = object.metadata.size;
        if let Some(range) = &input.range {
            let range = range
                .check(size)
                .map_err(|_| s3_error!(InvalidRange, "The requested range is not satisfiable"))?;
            response.output.content_range = Some(format!(
                "bytes {}-{}/{size}",
                range.start,
                range.end.saturating_sub(1)
            ));
            let at = |offset: u64| usize::try_from(offset).unwrap_or(body.len());
            body = body.slice(at(range.start)..at(range.end));
        } else if wants_checksum(input.checksum_mode.as_ref()) {
            object.metadata.checksum.add_to(&mut response.headers);
        }
        response.output.content_length = i64::try_from(body.len()).ok();
        response.output.body = Some(frames(body));
        Ok(response)
    }

    pub(super) async fn head(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = &request.input;
        let customer_key = CustomerKey::of(&request.headers)?;
        let wanted = Wanted {
            key: &input.key,
            version: input.version_id.as_deref(),
            customer_key: customer_key.as_ref(),
            conditions: Conditions {
                if_match: input.if_match.clone(),
                if_none_match: input.if_none_match.clone(),
            },
        };
        let Found { object, version } =
            self.contents
                .get(&caller(&request), &input.bucket, &wanted)?;
        let about = about(&object);
        let mut response = S3Response::new(HeadObjectOutput {
            accept_ranges: about.accept_ranges,
            cache_control: about.cache_control,
            content_disposition: about.content_disposition,
            content_encoding: about.content_encoding,
            content_language: about.content_language,
            content_length: about.content_length,
            content_type: about.content_type,
            e_tag: about.e_tag,
            last_modified: about.last_modified,
            metadata: about.metadata,
            server_side_encryption: about.server_side_encryption,
            ssekms_key_id: about.ssekms_key_id,
            version_id: version,
            ..HeadObjectOutput::default()
        });
        if let Some(key) = &customer_key {
            key.add_to(&mut response.headers);
        }
        if wants_checksum(input.checksum_mode.as_ref()) {
            object.metadata.checksum.add_to(&mut response.headers);
        }
        Ok(response)
    }
}

impl Operations {
    pub(super) async fn tags(
        &self,
        request: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<S3Response<GetObjectTaggingOutput>> {
        let input = &request.input;
        let (headers, version_id) = self.contents.headers(
            &caller(&request),
            &input.bucket,
            &input.key,
            input.version_id.as_deref(),
        )?;
        Ok(S3Response::new(GetObjectTaggingOutput {
            tag_set: tags::to_set(&headers.tags),
            version_id,
        }))
    }

    pub(super) async fn access_list(
        &self,
        request: S3Request<GetObjectAclInput>,
    ) -> S3Result<S3Response<GetObjectAclOutput>> {
        let input = &request.input;
        let (headers, _) = self.contents.headers(
            &caller(&request),
            &input.bucket,
            &input.key,
            input.version_id.as_deref(),
        )?;
        Ok(S3Response::new(GetObjectAclOutput {
            grants: tags::grants(headers.acl.as_deref().unwrap_or("private")),
            owner: Some(tags::owner()),
            ..GetObjectAclOutput::default()
        }))
    }
}

/// What an object says of itself, without its bytes.
fn about(object: &Object) -> GetObjectOutput {
    let metadata = &object.metadata;
    let headers = &metadata.headers;
    GetObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        cache_control: headers.cache_control.clone(),
        content_disposition: headers.content_disposition.clone(),
        content_encoding: headers.content_encoding.clone(),
        content_language: headers.content_language.clone(),
        content_length: i64::try_from(metadata.size).ok(),
        content_type: headers.content_type.clone(),
        e_tag: Some(etag(metadata)),
        last_modified: Some(timestamp(metadata.modified)),
        metadata: user_metadata(headers),
        server_side_encryption: headers.encryption.clone().map(Into::into),
        ssekms_key_id: headers.kms_key.clone(),
        tag_count: i32::try_from(headers.tags.len())
            .ok()
            .filter(|&count| count > 0),
        ..GetObjectOutput::default()
    }
}

fn wants_checksum(mode: Option<&ChecksumMode>) -> bool {
    mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED)
}

fn user_metadata(headers: &Headers) -> Option<Metadata> {
    let pairs = headers.metadata.iter();
    let pairs = pairs.map(|(name, value)| (name.clone(), value.clone()));
    (!headers.metadata.is_empty()).then(|| pairs.collect())
}
