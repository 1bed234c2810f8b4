//! REST: the Open Inference Protocol and the native routes, over HTTP/1.1 and HTTP/2 alike.

mod body;
mod model_json;
mod native;
mod oip;
mod reply;
mod routes;

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Instant;

use bettong_frame::{Error, ErrorKind, Result};
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::head::Head;
use crate::http2::BodyReader;
use crate::shared::Shared;

/// A request with its whole body.
pub struct RestRequest {
    /// Method, path, headers.
    pub parts: Parts,
    /// What every protocol reads from the headers.
    pub head: Head,
    /// As it came, compressed or not.
    pub body: Bytes,
    /// When the head had been read.
    pub arrived: Instant,
}

/// Serve one HTTP/1.1 request.
pub async fn serve_http1(shared: &Arc<Shared>, request: Request<Incoming>) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let arrived = Instant::now();
    let (parts, body) = request.into_parts();
    let read = tokio::time::timeout(shared.read_timeout, body::collect(body, shared.max_request_bytes));
    let body = read.await.unwrap_or_else(|_elapsed| Err(too_slow()));
    Ok(serve(shared, parts, arrived, body).await.map(Full::new))
}

/// Serve one HTTP/2 request that is not gRPC.
pub async fn serve_http2(shared: Arc<Shared>, parts: Parts, body: RecvStream, mut respond: SendResponse<Bytes>) {
    let arrived = Instant::now();
    let mut reader = BodyReader::new(body, shared.max_request_bytes);
    let read = tokio::time::timeout(shared.read_timeout, poll_fn(|context| reader.poll_read(context)));
    let body = match read.await {
        Ok(Ok(body)) => body,
        Ok(Err(_left)) => return,
        Err(_elapsed) => Err(too_slow()),
    };
    let (head, body) = serve(&shared, parts, arrived, body).await.into_parts();
    let Ok(mut stream) = respond.send_response(Response::from_parts(head, ()), false) else { return };
    send_body(&mut stream, body).await;
}

/// Send *body* as fast as the client takes it.
async fn send_body(stream: &mut h2::SendStream<Bytes>, mut body: Bytes) {
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let Some(Ok(capacity)) = poll_fn(|context| stream.poll_capacity(context)).await else { return };
        let piece = body.split_to(capacity.min(body.len()));
        if stream.send_data(piece, false).is_err() {
            return;
        }
    }
    let _ = stream.send_data(Bytes::new(), true);
}

#[cold]
fn too_slow() -> Error {
    Error::new(ErrorKind::DeadlineExceeded, "the request did not arrive in time")
}

async fn serve(shared: &Arc<Shared>, parts: Parts, arrived: Instant, body: Result<Bytes>) -> Response<Bytes> {
    let native = !parts.uri.path().starts_with("/v2");
    let head = Head::read(&parts.headers);
    let (head, answered) = match (head, body) {
        (Ok(head), Ok(body)) => {
            let request = RestRequest { parts, head, body, arrived };
            let answered = routes::serve(shared, &request).await;
            (request.head, answered)
        }
        (Ok(head), Err(error)) => (head, Err(error)),
        (Err(error), _) => (Head::default(), Err(error)),
    };
    let mut response = answered.unwrap_or_else(|error| reply::error(&error, native));
    head.echo(response.headers_mut());
    response
}
