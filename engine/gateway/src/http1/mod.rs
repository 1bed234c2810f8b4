//! HTTP/1.1 (RFC 9112), one request at a time on each connection.
//!
//! A codec of its own because it is on the path of every REST event: a general one costs more than the model does.
//! Parsing of heads is `httparse`'s.

mod head;
mod io;
mod write;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Instant;

use bettong_frame::{Error, Result};
use bytes::{Bytes, BytesMut};
use http::Method;
use tokio::net::TcpStream;
use tokio::sync::watch;

use self::head::{BodyLength, RequestLine, parse_head};
pub use self::io::Io;
use crate::head::Head;
use crate::rest::{self, Asked, Reply};
use crate::shared::{Shared, Signal};

/// Serve one connection until either side ends it.
pub async fn serve(shared: &Arc<Shared>, stream: TcpStream, signal: &Signal) {
    let mut io = Io::new(stream, shared.keep_alive, shared.read_timeout);
    // The first reply that can't be written, or request that can't be read, is the end; there is nobody left to tell.
    while serve_one(shared, &mut io, signal).await.is_some_and(|again| again) {}
}

/// Serve one request. `None`: the connection is gone. `Some(false)`: it is to be closed.
async fn serve_one(shared: &Arc<Shared>, io: &mut Io, signal: &Signal) -> Option<bool> {
    let parsed = match read_head(io, signal).await? {
        Ok(parsed) => parsed,
        Err(error) => return refuse(io, &RequestLine::default(), &Head::default(), &error).await,
    };
    let (line, mut head) = parsed;
    let arrived = Instant::now();
    let body = match read_body(shared, io, &line).await? {
        Ok(body) => body,
        Err(error) => return refuse(io, &line, &head, &error).await,
    };
    io.end_part();
    let asked = Asked { method: &line.method, path: line.path(), query: line.query(), head: &head, arrived };
    let reply = rest::serve(shared, &asked, body, io).await;
    if reply.status >= 400 {
        head.ensure_request_id();
    }
    let keep = line.keep_alive && !poll_fn(|context| std::task::Poll::Ready(signal.is_finishing(context))).await;
    write::put(io.output(), &reply, &head, line.ending(keep), arrived);
    io.flush(if line.method == Method::HEAD { Bytes::new() } else { write::apart(&reply) }).await?;
    Some(keep)
}

/// Answer a request whose framing can't be trusted, and close.
async fn refuse(io: &mut Io, line: &RequestLine, head: &Head, error: &Error) -> Option<bool> {
    let reply = Reply::error(error, !line.path().starts_with("/v2"));
    write::put(io.output(), &reply, head, line.ending(false), Instant::now());
    io.flush(write::apart(&reply)).await?;
    io.linger().await;
    Some(false)
}

/// Read until a whole head is there.
async fn read_head(io: &mut Io, signal: &Signal) -> Option<Result<(RequestLine, Head)>> {
    loop {
        if !io.input().is_empty() {
            match parse_head(io.input()) {
                Ok(Some(parsed)) => {
                    io.end_part();
                    return Some(Ok(parsed));
                }
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
        if let Err(error) = io.read_more(Some(signal)).await? {
            return Some(Err(error));
        }
    }
}

/// Read the body that *line* announces.
async fn read_body(shared: &Shared, io: &mut Io, line: &RequestLine) -> Option<Result<Bytes>> {
    let limit = shared.max_request_bytes;
    let there = io.input().len();
    match line.body {
        BodyLength::None => Some(Ok(Bytes::new())),
        BodyLength::Known(len) if len > limit as u64 => Some(Err(bettong_wire::grpc::too_large(limit))),
        BodyLength::Known(len) if there >= len as usize => Some(Ok(io.input().split_to(len as usize).freeze())),
        BodyLength::Known(len) => {
            continue_if_expected(io, line).await?;
            read_known(io, len as usize).await
        }
        BodyLength::Chunked => {
            continue_if_expected(io, line).await?;
            read_chunked(io, limit).await
        }
    }
}

async fn continue_if_expected(io: &mut Io, line: &RequestLine) -> Option<()> {
    if !line.expects_continue {
        return Some(());
    }
    io.output().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
    io.flush(Bytes::new()).await
}

/// Memory is taken for this much on the client's word alone; beyond that as data arrives.
const TRUSTED_BYTES: usize = 64 << 20;

async fn read_known(io: &mut Io, len: usize) -> Option<Result<Bytes>> {
    while io.input().len() < len {
        let wanted = (len - io.input().len()).min(TRUSTED_BYTES);
        io.input().reserve(wanted);
        if let Err(error) = io.read_more(None).await? {
            return Some(Err(error));
        }
    }
    Some(Ok(io.input().split_to(len).freeze()))
}

/// Read chunks (RFC 9112, 7.1); extensions and trailers are read over.
async fn read_chunked(io: &mut Io, limit: usize) -> Option<Result<Bytes>> {
    let mut body = BytesMut::new();
    loop {
        let (start, size) = match chunk_size(io).await? {
            Ok(size) => size,
            Err(error) => return Some(Err(error)),
        };
        if size > (limit - body.len()) as u64 {
            return Some(Err(bettong_wire::grpc::too_large(limit)));
        }
        let _ = io.input().split_to(start);
        if size == 0 {
            return Some(read_trailers(io).await?.map(|()| body.freeze()));
        }
        let size = size as usize;
        while io.input().len() < size + 2 {
            if let Err(error) = io.read_more(None).await? {
                return Some(Err(error));
            }
        }
        body.extend_from_slice(&io.input().split_to(size));
        if &io.input().split_to(2)[..] != b"\r\n" {
            return Some(Err(bad_chunk()));
        }
    }
}

/// Where the next chunk starts, and its size.
async fn chunk_size(io: &mut Io) -> Option<Result<(usize, u64)>> {
    /// A size with its extensions takes no more than this.
    const LONGEST_LINE_BYTES: usize = 1024;
    loop {
        // A line without a digit would be read as size 0, the end; others may read it differently.
        if io.input().first().is_some_and(|byte| !byte.is_ascii_hexdigit()) {
            return Some(Err(bad_chunk()));
        }
        match httparse::parse_chunk_size(io.input()) {
            Ok(httparse::Status::Complete(found)) => return Some(Ok(found)),
            Ok(httparse::Status::Partial) if io.input().len() <= LONGEST_LINE_BYTES => {}
            _ => return Some(Err(bad_chunk())),
        }
        if let Err(error) = io.read_more(None).await? {
            return Some(Err(error));
        }
    }
}

async fn read_trailers(io: &mut Io) -> Option<Result<()>> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; head::MAX_HEADERS];
        let small = io.input().len() <= head::MAX_HEAD_BYTES;
        match httparse::parse_headers(io.input(), &mut headers) {
            Ok(httparse::Status::Complete((end, _))) => {
                let _ = io.input().split_to(end);
                return Some(Ok(()));
            }
            Ok(httparse::Status::Partial) if small => {}
            _ => return Some(Err(bad_chunk())),
        }
        if let Err(error) = io.read_more(None).await? {
            return Some(Err(error));
        }
    }
}

#[cold]
fn bad_chunk() -> Error {
    Error::invalid("the chunked body is not well-formed")
}

/// Serve the metrics port until told to stop.
pub async fn serve_metrics(shared: Arc<Shared>, listener: std::net::TcpListener, mut stop: watch::Receiver<bool>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|&stop| stop) => return,
        };
        let Ok((stream, _)) = accepted else { continue };
        tokio::spawn(serve_metrics_connection(shared.clone(), stream));
    }
}

async fn serve_metrics_connection(shared: Arc<Shared>, stream: TcpStream) {
    let mut io = Io::new(stream, shared.keep_alive, shared.read_timeout);
    let signal = Signal::default();
    while let Some(Ok((line, head))) = read_head(&mut io, &signal).await {
        let reply = match (line.path(), &line.method) {
            ("/metrics", &Method::GET | &Method::HEAD) => Reply {
                content_type: bettong_telemetry::text::CONTENT_TYPE,
                body: bettong_telemetry::text::render(&shared.registry, &shared.version).into(),
                ..Reply::default()
            },
            _ => Reply {
                status: 404,
                content_type: "text/plain",
                body: Bytes::from_static(b"metrics are at /metrics\n"),
                ..Reply::default()
            },
        };
        let keep = line.keep_alive && line.body == BodyLength::None;
        write::put(io.output(), &reply, &head, line.ending(keep), Instant::now());
        let body = if line.method == Method::HEAD { Bytes::new() } else { write::apart(&reply) };
        if io.flush(body).await.is_none() || !keep {
            return;
        }
    }
}
