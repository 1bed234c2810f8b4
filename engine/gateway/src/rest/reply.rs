//! Responses and errors.

use bettong_frame::Error;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

/// Content type of JSON replies.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A reply with *status* and *body*.
pub fn with_status(status: u16, content_type: HeaderValue, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// A successful JSON reply.
pub fn json(body: impl Into<Bytes>) -> Response<Bytes> {
    with_status(200, JSON, body.into())
}

/// A reply without a body, as the protocol's health routes give it.
pub fn empty(status: u16) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

/// The reply that says *error*: `{"error": …}`, on *native* routes with the fields that their clients know.
#[cold]
pub fn error(error: &Error, native: bool) -> Response<Bytes> {
    let status = error.kind.http_status();
    let body = if native {
        serde_json::json!({"error": error.message, "code": status, "status": "error", "source": "engine", "field": error.field})
    } else {
        serde_json::json!({"error": error.message})
    };
    let mut response = with_status(status, JSON, body.to_string().into());
    if let Some(after) = error.retry_after {
        // Whole seconds is all that the header can say (RFC 9110, 10.2.3); the exact time goes beside it.
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs_f64().ceil() as u64));
        response.headers_mut().insert("retry-after-ms", HeaderValue::from(after.as_millis() as u64));
    }
    response
}
