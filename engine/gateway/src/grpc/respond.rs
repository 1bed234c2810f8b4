//! Responses and statuses.

use bettong_frame::Error;
use bettong_wire::grpc::{encode_message, status_details};
use bytes::Bytes;
use h2::SendStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Response, header};

use crate::head::Head;

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
const OK: HeaderValue = HeaderValue::from_static("0");

/// Begin a successful response. `None`: the client has left.
#[inline]
pub fn begin(respond: &mut SendResponse<Bytes>, head: &Head) -> Option<SendStream<Bytes>> {
    let mut response = Response::new(());
    response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
    head.echo(response.headers_mut());
    respond.send_response(response, false).ok()
}

/// End a response with status OK.
#[inline]
pub fn end(stream: &mut SendStream<Bytes>) {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", OK);
    // Fails only when the client has left.
    let _ = stream.send_trailers(trailers);
}

/// Answer with one message.
#[inline]
pub fn message(respond: &mut SendResponse<Bytes>, head: &Head, message: Bytes) {
    let Some(mut stream) = begin(respond, head) else { return };
    if stream.send_data(message, false).is_ok() {
        end(&mut stream);
    }
}

/// Headers that say *error*.
fn status(error: &Error) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert("grpc-status", HeaderValue::from(u16::from(error.kind.grpc_code())));
    if let Ok(message) = HeaderValue::try_from(encode_message(&error.message)) {
        headers.insert("grpc-message", message);
    }
    if let Some(details) = status_details(error).and_then(|details| HeaderValue::try_from(details).ok()) {
        headers.insert("grpc-status-details-bin", details);
    }
    headers
}

/// Answer with nothing but *error*.
#[cold]
pub fn fail(respond: &mut SendResponse<Bytes>, head: &Head, error: &Error) {
    let mut response = Response::new(());
    *response.headers_mut() = status(error);
    response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
    head.echo(response.headers_mut());
    // A request that was not read to its end is reset by the library once the response has left.
    let _ = respond.send_response(response, true);
}

/// End a response that has begun with *error*.
#[cold]
pub fn end_with(stream: &mut SendStream<Bytes>, error: &Error) {
    let _ = stream.send_trailers(status(error));
}
