//! Bodies: collected with their bound, and inflated.

use bettong_frame::{Error, ErrorKind, Result};
use bettong_wire::grpc::{Encoding, decompress, too_large};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

/// The whole of *body*, at most *limit* bytes.
pub async fn collect(mut body: Incoming, limit: usize) -> Result<Bytes> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let announced = body.size_hint().lower();
    if announced > limit as u64 {
        return Err(too_large(limit));
    }
    let Some(first) = next_chunk(&mut body).await? else { return Ok(Bytes::new()) };
    if body.is_end_stream() || first.len() as u64 == announced {
        return if first.len() > limit { Err(too_large(limit)) } else { Ok(first) };
    }
    let mut whole = BytesMut::with_capacity((announced as usize).max(first.len() * 2));
    whole.extend_from_slice(&first);
    while let Some(chunk) = next_chunk(&mut body).await? {
        if whole.len() + chunk.len() > limit {
            return Err(too_large(limit));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

async fn next_chunk(body: &mut Incoming) -> Result<Option<Bytes>> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Error::invalid(format!("the body can't be read: {error}")))?;
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// *body* as it was before `Content-Encoding`.
pub fn inflated(headers: &HeaderMap, body: &Bytes, limit: usize) -> Result<Bytes> {
    let Some(encoding) = headers.get(header::CONTENT_ENCODING) else { return Ok(body.clone()) };
    let encoding = Encoding::from_name(Some(encoding.as_bytes()))
        .map_err(|error| Error::new(ErrorKind::UnsupportedMediaType, error.message))?;
    if encoding == Encoding::Identity { Ok(body.clone()) } else { decompress(encoding, body, limit) }
}
