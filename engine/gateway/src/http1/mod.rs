//! HTTP/1.1 (RFC 9112), one request at a time on each connection.
//!
//! A codec of its own because it is on the path of every REST event: a general one costs more than the model does.
//! Parsing of heads is `httparse`'s.

mod head;
mod io;
mod link;
mod write;

use std::sync::Arc;
use std::time::Instant;

use bettong_frame::{Error, Result};
use bytes::{Bytes, BytesMut};
use http::Method;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};

use self::head::{BodyLength, Heads, Manner, Parsed, RequestLine};
pub use self::io::Io;
use self::link::Link;
use crate::account::Account;
use crate::head::Head;
use crate::rest::{self, Answering, Asked, Incoming, Reply};
use crate::server::pause_accepting;
use crate::shared::{Shared, Signal};

/// Serve one connection until either side ends it.
pub async fn serve(shared: &Arc<Shared>, stream: TcpStream, signal: &Arc<Signal>) {
    let mut io = Io::new(stream, signal.clone(), shared.keep_alive, shared.read_timeout).await;
    let mut heads = Heads::default();
    // The first reply that can't be written, or request that can't be read, is the end; there is nobody left to tell.
    let told = loop {
        match serve_one(shared, &mut io, &mut heads).await {
            Some(true) => {}
            ended => break ended.is_some(),
        }
    };
    if told && signal.is_finishing() {
        // The client did not ask for the end, and may have sent the next request already.
        io.linger().await;
    }
}

/// Serve one request. `None`: the connection is gone. `Some(false)`: it is to be closed.
async fn serve_one(shared: &Arc<Shared>, io: &mut Io, heads: &mut Heads) -> Option<bool> {
    if let Err(error) = read_head(io, heads).await? {
        return refuse(shared, io, &Parsed::default(), &error).await;
    }
    let arrived = Instant::now();
    let parsed = heads.last();
    let body = match read_body(shared, io, &parsed.line).await? {
        Ok(body) => body,
        Err(error) => return refuse(shared, io, parsed, &error).await,
    };
    io.end_part();
    let (line, head) = (&parsed.line, &parsed.head);
    io.begin(line.manner.takes_interim());
    let turn = Turn { link: io.link().clone(), manner: line.manner, arrived };
    if let Some(target) = &parsed.infer {
        rest::submit(shared, Incoming { target, head, body, arrived }, turn);
    } else {
        let asked = Asked { method: &line.method, path: line.path(), query: line.query(), head, arrived };
        turn.send(rest::serve(shared, &asked, body, io).await, head);
    }
    io.answered().await
}

/// The right to answer one request.
struct Turn {
    link: Arc<Link>,
    manner: Manner,
    arrived: Instant,
}

impl Answering for Turn {
    #[inline]
    fn has_left(&self) -> bool {
        self.link.has_left()
    }

    #[inline]
    fn send(self, mut reply: Reply, head: &Head) {
        if !self.has_left() {
            self.link.answer(&mut reply, head, self.manner.ending(self.link.is_finishing()), self.arrived);
        }
    }
}

/// Answer a request whose framing can't be trusted, and close.
async fn refuse(shared: &Shared, io: &mut Io, parsed: &Parsed, error: &Error) -> Option<bool> {
    let account = Account { protocol: "http", entry: None, head: &parsed.head };
    let mut reply = rest::failure(shared, &account, error, parsed.line.path());
    io.link().begin();
    io.link().answer(&mut reply, &parsed.head, parsed.line.manner.ending(true), Instant::now());
    io.answered().await?;
    io.linger().await;
    Some(false)
}

/// Read until a whole head is there; it is then the last of *heads*.
async fn read_head(io: &mut Io, heads: &mut Heads) -> Option<Result<()>> {
    let mut begun = false;
    loop {
        if !io.input().is_empty() {
            match heads.take(io.input()) {
                Ok(true) => {
                    io.end_part();
                    return Some(Ok(()));
                }
                Ok(false) if begun => {}
                Ok(false) => {
                    begun = true;
                    io.begin_head();
                }
                Err(error) => return Some(Err(error)),
            }
        }
        if let Err(error) = io.read_more(true).await? {
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
    io.send_interim(CONTINUE).await
}

/// Tells a client to send on; any may get it (RFC 9110, 15.2.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Memory is taken for this much on the client's word alone; beyond that as data arrives.
const TRUSTED_BYTES: usize = 64 << 20;

async fn read_known(io: &mut Io, len: usize) -> Option<Result<Bytes>> {
    while io.input().len() < len {
        let wanted = (len - io.input().len()).min(TRUSTED_BYTES);
        io.input().reserve(wanted);
        if let Err(error) = io.read_more(false).await? {
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
            if let Err(error) = io.read_more(false).await? {
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
            // Its own line end is the only one: others take a line feed alone for the end of the line, too.
            Ok(httparse::Status::Complete((start, _))) if io.input()[..start - 2].contains(&b'\n') => {
                return Some(Err(bad_chunk()));
            }
            Ok(httparse::Status::Complete(found)) => return Some(Ok(found)),
            Ok(httparse::Status::Partial) if io.input().len() <= LONGEST_LINE_BYTES => {}
            _ => return Some(Err(bad_chunk())),
        }
        if let Err(error) = io.read_more(false).await? {
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
        if let Err(error) = io.read_more(false).await? {
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
    let places = Arc::new(Semaphore::new(MAX_METRICS_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|&stop| stop) => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                pause_accepting("metrics", &error).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            shared.registry.gateway.connections_refused.add(1);
            continue;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            let _place = place;
            serve_metrics_connection(&shared, stream).await;
        });
    }
}

/// Connections of the metrics port: scrapers are few.
const MAX_METRICS_CONNECTIONS: usize = 64;

async fn serve_metrics_connection(shared: &Shared, stream: TcpStream) {
    let mut io = Io::new(stream, Arc::default(), shared.keep_alive, shared.read_timeout).await;
    let mut heads = Heads::default();
    while let Some(Ok(())) = read_head(&mut io, &mut heads).await {
        let Parsed { line, head, .. } = heads.last();
        let mut reply = match (line.path(), &line.method) {
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
        let ending = line.manner.ending(line.body != BodyLength::None);
        io.link().begin();
        io.link().answer(&mut reply, head, ending, Instant::now());
        if io.answered().await != Some(true) {
            return;
        }
    }
}
