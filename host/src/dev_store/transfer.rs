//! Objects' bytes on their way in and out.
//!
//! Without this module a body would be taken before anybody compared it with what its sender says of it.

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use s3s::dto::StreamingBlob;
use s3s::{S3Request, S3Result, s3_error};

use super::checksum::{Verified, verify};

/// The pieces in which an object's bytes are handed to the connection, all slices of the same memory.
const FRAME: usize = 256 * 1024;

/// The most bytes that one request may bring: the store keeps everything in memory.
const LARGEST_BODY: usize = 1024 * 1024 * 1024;

/// From here on hashing gets a thread of its own.
const LONG_WORK: usize = 1024 * 1024;

/// Takes in a whole body and checks what the client says of it.
pub(super) async fn receive<T>(
    request: &S3Request<T>,
    stream: Option<StreamingBlob>,
) -> S3Result<(Bytes, Verified)> {
    let announced = request.headers.get(http::header::CONTENT_LENGTH);
    let announced = announced
        .and_then(|length| length.to_str().ok())
        .and_then(|length| length.parse::<usize>().ok())
        .unwrap_or(0);
    let too_large = || {
        s3_error!(
            EntityTooLarge,
            "The embedded store takes at most 1 GiB at once"
        )
    };
    if announced > LARGEST_BODY {
        return Err(too_large());
    }
    let mut body = BytesMut::with_capacity(announced);
    if let Some(mut stream) = stream {
        while let Some(piece) = stream.next().await {
            // The library ends the stream with an error when the signed hash is not that of the bytes. A body
            // that ends early is one too, but then nobody is left to read the answer.
            let piece = piece.map_err(|error| {
                let mut refused = s3s::S3Error::with_message(
                    s3s::S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into()),
                    "The provided 'x-amz-content-sha256' header does not match what was computed.",
                );
                refused.set_status_code(http::StatusCode::BAD_REQUEST);
                refused.set_source(error);
                refused
            })?;
            if body.len() + piece.len() > LARGEST_BODY {
                return Err(too_large());
            }
            body.extend_from_slice(&piece);
        }
    }
    let body = body.freeze();
    let trailers = request.trailing_headers.as_ref().and_then(|it| it.take());
    if body.len() < LONG_WORK {
        let verified = verify(&body, &request.headers, trailers.as_ref())?;
        return Ok((body, verified));
    }
    let headers = request.headers.clone();
    blocking(move || {
        let verified = verify(&body, &headers, trailers.as_ref())?;
        Ok((body, verified))
    })
    .await?
}

/// Slices of the object's memory: nothing is copied. (A stream, because the library would print the bytes of a
/// body that it holds as a whole in its debug output.)
pub(super) fn frames(mut body: Bytes) -> StreamingBlob {
    StreamingBlob::wrap(futures_util::stream::iter(std::iter::from_fn(move || {
        (!body.is_empty()).then(|| Ok::<_, std::io::Error>(body.split_to(body.len().min(FRAME))))
    })))
}

/// The client names the framing of its upload there, which is not the object's.
pub(super) fn without_chunking(encoding: Option<&str>) -> Option<String> {
    let kept: Vec<&str> = encoding?
        .split(',')
        .map(str::trim)
        .filter(|it| !it.is_empty() && *it != "aws-chunked")
        .collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

/// Runs work that would keep others waiting on a thread of its own.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> S3Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| s3_error!(InternalError, "The work was not done: {error}"))
}
