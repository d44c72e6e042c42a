//! Taking in a request's body: bounded, timed, and checked against the digest that came with it.
//!
//! Without it a client could fill the memory, hold a connection for ever, or have a damaged state stored.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header::EXPECT};
use http_body::Body;
use http_body_util::BodyExt as _;
use md5::{Digest as _, Md5};
use tokio::time::timeout;

use super::answer::Answer;

/// MD5 of the body in base64 (RFC 1864).
pub(super) const CONTENT_MD5: &str = "content-md5";

/// How long the next piece of a body may take.
const PIECE: Duration = Duration::from_secs(60);

/// How long a body that was refused is still taken in and thrown away. A connection closed with unread
/// data in it is reset, and the client would never see why it was refused.
const LINGER: Duration = Duration::from_secs(10);

/// The whole body, at most `limit` bytes of it.
pub(super) async fn receive<B>(
    headers: &HeaderMap,
    mut body: B,
    limit: u64,
) -> Result<Bytes, Answer>
where
    B: Body<Data = Bytes> + Unpin,
{
    let expected = content_md5(headers)?;
    let declared = body.size_hint().exact();
    if declared.is_some_and(|length| length > limit) {
        // Who asks whether to send waits for the answer, and has sent nothing yet.
        if !headers.contains_key(EXPECT) {
            discard(body).await;
        }
        return Err(too_large(limit));
    }
    let mut hash = expected.map(|expected| (expected, Md5::new()));
    let mut bytes =
        BytesMut::with_capacity(declared.and_then(|n| usize::try_from(n).ok()).unwrap_or(0));
    loop {
        let frame = match timeout(PIECE, body.frame()).await {
            Ok(None) => break,
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => return Err(bad("the body broke off or is not valid HTTP")),
            Err(_) => {
                return Err(Answer::text(
                    StatusCode::REQUEST_TIMEOUT,
                    format!("no more of the body came for {} s", PIECE.as_secs()),
                ));
            }
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if (bytes.len() + data.len()) as u64 > limit {
            discard(body).await;
            return Err(too_large(limit));
        }
        if let Some((_, hash)) = &mut hash {
            hash.update(&data);
        }
        bytes.extend_from_slice(&data);
    }
    if let Some((expected, hash)) = hash
        && hash.finalize()[..] != expected
    {
        return Err(bad(
            "the body does not match its Content-MD5: it was damaged on the way; send it again",
        ));
    }
    Ok(bytes.freeze())
}

async fn discard<B: Body + Unpin>(mut body: B) {
    let _ = timeout(LINGER, async {
        while let Some(Ok(_)) = body.frame().await {}
    })
    .await;
}

fn content_md5(headers: &HeaderMap) -> Result<Option<[u8; 16]>, Answer> {
    let Some(value) = headers.get(CONTENT_MD5) else {
        return Ok(None);
    };
    BASE64_STANDARD
        .decode(value.as_bytes())
        .ok()
        .and_then(|digest| digest.try_into().ok())
        .map(Some)
        .ok_or_else(|| bad("Content-MD5 is not the base64 form of an MD5 digest"))
}

fn too_large(limit: u64) -> Answer {
    Answer::text(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body is larger than the limit of {limit} bytes"),
    )
}

fn bad(reason: &str) -> Answer {
    Answer::text(StatusCode::BAD_REQUEST, reason)
}
