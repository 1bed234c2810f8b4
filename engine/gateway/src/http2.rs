//! HTTP/2: gRPC on its own fast path, anything else as REST.

use std::future::poll_fn;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bettong_frame::{Error, ErrorKind, Result};
use bettong_wire::grpc::too_large;
use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use h2::server::{Connection, SendResponse};
use http::{Request, header};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::shared::{Shared, Signal, Unsent};
use crate::{grpc, rest};

/// Windows that let a client send whole requests without waiting for us.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;

/// Requests that one connection may have open.
const MAX_STREAMS: u32 = 4096;

/// Largest DATA frame that clients may send: large tensors come in few pieces.
const MAX_FRAME_BYTES: u32 = 1 << 20;

const MAX_HEAD_BYTES: u32 = 64 << 10;

/// Serve one connection.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(shared: &Arc<Shared>, stream: S, signal: &Signal) {
    let stream = Noting { stream, signal };
    let handshake = h2::server::Builder::new()
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .max_frame_size(MAX_FRAME_BYTES)
        .max_header_list_size(MAX_HEAD_BYTES)
        .handshake(stream);
    // Time is only limited until the client has shown that it speaks the protocol; idle connections may stay.
    let Ok(Ok(mut connection)) = tokio::time::timeout(shared.read_timeout, handshake).await else { return };
    let mut finishing = false;
    while let Some(Ok((request, respond))) = next_request(&mut connection, signal, &mut finishing).await {
        accept(shared, request, respond);
    }
}

/// The refusal of gRPC-Web and the like, which the gRPC protocol asks for.
#[cold]
fn not_grpc() -> Error {
    Error::new(ErrorKind::UnsupportedMediaType, "of gRPC's content types, only application/grpc is served here")
}

type Accepted = Option<std::result::Result<(Request<RecvStream>, SendResponse<Bytes>), h2::Error>>;

/// The next request. When told to finish, the client gets GOAWAY and what is under way is answered.
async fn next_request<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<S, Bytes>,
    signal: &Signal,
    finishing: &mut bool,
) -> Accepted {
    poll_fn(|context| {
        if !*finishing && signal.is_finishing() {
            *finishing = true;
            connection.graceful_shutdown();
        }
        connection.poll_accept(context)
    })
    .await
}

/// Hand a request to its protocol. Runs on the connection's task, so it must not wait.
#[inline]
fn accept(shared: &Arc<Shared>, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
    let (head, body) = request.into_parts();
    let content_type = head.headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    match content_type.strip_prefix(b"application/grpc") {
        None => {
            tokio::spawn(rest::serve_http2(shared.clone(), head, body, respond));
        }
        Some([] | [b'+' | b';', ..]) => grpc::accept(shared, &head, body, respond),
        Some(_other) => {
            tokio::spawn(rest::refuse_http2(shared.clone(), body, respond, not_grpc()));
        }
    }
}

/// Tells a drain what comes and goes.
struct Noting<'a, S> {
    stream: S,
    signal: &'a Signal,
}

impl<S: AsyncRead + Unpin> AsyncRead for Noting<'_, S> {
    #[inline]
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.signal.note_moved();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> Noting<'_, S> {
    #[inline]
    fn wrote(&self, wrote: Poll<std::io::Result<usize>>) -> Poll<std::io::Result<usize>> {
        if wrote.is_ready() {
            self.signal.note_moved();
        }
        wrote
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noting<'_, S> {
    #[inline]
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(wrote)
    }

    #[inline]
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.wrote(wrote)
    }

    #[inline]
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Bytes of a reply that the connection still has to send.
struct Held {
    bytes: Bytes,
    _unsent: Unsent,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// *bytes* that keep a drain waiting until the connection has sent them. Fewer than a client always has room for leave at once.
#[inline]
pub fn until_sent(shared: &Arc<Shared>, bytes: Bytes) -> Bytes {
    const FEW_BYTES: usize = 16 << 10;
    if bytes.len() < FEW_BYTES { bytes } else { Bytes::from_owner(Held { bytes, _unsent: Unsent::new(shared) }) }
}

/// Collects a body, with its bound.
pub struct BodyReader {
    body: RecvStream,
    first: Bytes,
    rest: BytesMut,
    limit: usize,
}

impl BodyReader {
    /// A reader of a body of at most *limit* bytes.
    pub fn new(body: RecvStream, limit: usize) -> Self {
        Self { body, first: Bytes::new(), rest: BytesMut::new(), limit }
    }

    /// The whole body, if all of it has arrived.
    #[inline]
    pub fn read_now(&mut self) -> Poll<std::result::Result<Result<Bytes>, h2::Error>> {
        self.poll_read(&mut Context::from_waker(Waker::noop()))
    }

    /// The whole body; the outer error is the connection's, the inner one the client's.
    #[inline]
    pub fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<std::result::Result<Result<Bytes>, h2::Error>> {
        while !self.body.is_end_stream() {
            match self.body.poll_data(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => break,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(Some(Ok(chunk))) => {
                    // The window is given back at once: what is held is bounded by the limit.
                    let _ = self.body.flow_control().release_capacity(chunk.len());
                    if self.first.len() + self.rest.len() + chunk.len() > self.limit {
                        return Poll::Ready(Ok(Err(too_large(self.limit))));
                    }
                    self.add(chunk);
                }
            }
        }
        let whole = if self.rest.is_empty() { std::mem::take(&mut self.first) } else { self.rest.split().freeze() };
        Poll::Ready(Ok(Ok(whole)))
    }

    #[inline]
    fn add(&mut self, chunk: Bytes) {
        if self.first.is_empty() && self.rest.is_empty() {
            self.first = chunk;
            return;
        }
        if !self.first.is_empty() {
            // A length that was announced says how much is to come; gRPC announces it in the first bytes.
            let announced = announced_len(&self.first).min(self.limit + 5);
            self.rest.reserve(announced.max(self.first.len() + chunk.len()));
            self.rest.extend_from_slice(&self.first);
            self.first = Bytes::new();
        }
        self.rest.extend_from_slice(&chunk);
    }
}

/// Bytes of a gRPC body whose first frame begins with *start*.
fn announced_len(start: &[u8]) -> usize {
    /// More than this is not reserved on the client's word alone.
    const TRUSTED_BYTES: usize = 64 << 20;
    match start {
        [0, a, b, c, d, ..] => (5 + u32::from_be_bytes([*a, *b, *c, *d]) as usize).min(TRUSTED_BYTES),
        _ => 0,
    }
}
