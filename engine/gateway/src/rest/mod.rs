//! REST: the Open Inference Protocol and the native routes, over HTTP/1.1 and HTTP/2 alike.

mod infer;
mod model_json;
mod native;
mod oip;
mod reply;
mod routes;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bettong_frame::{Error, ErrorKind};
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};

pub use self::oip::{Answering, Incoming, InferTarget, submit};
pub use self::reply::{Reply, failure};
use crate::account::Account;
use crate::head::Head;
use crate::http2::{BodyReader, until_sent};
use crate::shared::{LEAST_BYTES_PER_S, Shared};

/// What a request asks, besides its body.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// GET, POST, …
    pub method: &'a Method,
    /// Begins with a slash.
    pub path: &'a str,
    /// Without the question mark.
    pub query: &'a str,
    /// Headers that matter.
    pub head: &'a Arc<Head>,
    /// When the head had been read.
    pub arrived: Instant,
}

/// Who waits for a reply.
pub trait Client {
    /// Resolve when it has left.
    fn poll_left(&mut self, context: &mut Context<'_>) -> Poll<()>;
}

impl Client for crate::http1::Io {
    fn poll_left(&mut self, context: &mut Context<'_>) -> Poll<()> {
        crate::http1::Io::poll_left(self, context)
    }
}

impl Client for SendResponse<Bytes> {
    fn poll_left(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.poll_reset(context).map(|_| ())
    }
}

/// Answer one request.
pub async fn serve(shared: &Arc<Shared>, asked: &Asked<'_>, body: Bytes, client: &mut impl Client) -> Reply {
    match routes::serve(shared, asked, body, client).await {
        Ok(reply) => reply,
        Err(error) => failed(shared, asked.head, &error, asked.path),
    }
}

/// Serve one HTTP/2 request that is not gRPC.
pub async fn serve_http2(shared: Arc<Shared>, parts: Parts, body: RecvStream, mut respond: SendResponse<Bytes>) {
    let arrived = Instant::now();
    let mut reader = BodyReader::new(body, shared.max_request_bytes);
    let read = tokio::time::timeout(shared.read_timeout, poll_fn(|context| reader.poll_read(context)));
    let body = match read.await {
        Ok(Ok(body)) => body,
        Ok(Err(_left)) => return,
        Err(_elapsed) => Err(Error::new(ErrorKind::DeadlineExceeded, "the request did not arrive in time")),
    };
    let (head, wrong) = match Head::read(&parts.headers) {
        Ok(head) => (head, None),
        Err(error) => (Head::default(), Some(error)),
    };
    let head = Arc::new(head);
    let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
    let asked = Asked { method: &parts.method, path, query, head: &head, arrived };
    let reply = match (body, wrong) {
        (Ok(body), None) => serve(&shared, &asked, body, &mut respond).await,
        (Err(error), _) | (_, Some(error)) => failed(&shared, &head, &error, path),
    };
    send_http2(&shared, &mut respond, reply, &head, &parts.method).await;
}

/// Answer an HTTP/2 request with nothing but *error*, once its body has been read over: clients take an answer that comes
/// before as a broken connection.
pub async fn refuse_http2(shared: Arc<Shared>, body: RecvStream, mut respond: SendResponse<Bytes>, error: Error) {
    let mut reader = BodyReader::new(body, shared.max_request_bytes);
    let _ = tokio::time::timeout(shared.read_timeout, poll_fn(|context| reader.poll_read(context))).await;
    let head = Head::default();
    let reply = failed(&shared, &head, &error, "/v2");
    send_http2(&shared, &mut respond, reply, &head, &Method::POST).await;
}

/// The reply that says *error* of a request that is of no pipeline.
#[cold]
fn failed(shared: &Shared, head: &Head, error: &Error, path: &str) -> Reply {
    failure(shared, &Account { protocol: "rest", entry: None, head }, error, path)
}

async fn send_http2(shared: &Arc<Shared>, respond: &mut SendResponse<Bytes>, reply: Reply, head: &Head, method: &Method) {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(reply.body.len()));
    for (name, value) in &reply.headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(*name, value);
        }
    }
    head.echo(headers);
    let body = if method == Method::HEAD { Bytes::new() } else { until_sent(shared, reply.body) };
    let Ok(mut stream) = respond.send_response(response, body.is_empty()) else { return };
    send_body(&mut stream, body, shared.read_timeout).await;
}

/// Send *body* as fast as the client takes it, if that is the least rate in the long run; a slower one is let go after *patience*.
async fn send_body(stream: &mut h2::SendStream<Bytes>, mut body: Bytes, patience: Duration) {
    let mut until = tokio::time::Instant::now() + patience;
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let taken = tokio::time::timeout_at(until, poll_fn(|context| stream.poll_capacity(context))).await;
        let Ok(taken) = taken else { return stream.send_reset(h2::Reason::CANCEL) };
        let Some(Ok(capacity)) = taken else { return };
        let piece = body.split_to(capacity.min(body.len()));
        until += Duration::from_secs_f64(piece.len() as f64 / LEAST_BYTES_PER_S);
        if stream.send_data(piece, body.is_empty()).is_err() {
            return;
        }
    }
}
