//! One client's connection: which protocol it speaks, and its end.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::shared::{Registered, Shared, Signal};
use crate::streams::Streams;
use crate::{http1, http2};

/// What every HTTP/2 client sends first (RFC 9113, 3.4). No HTTP/1.1 request begins with its first three bytes.
const PREFACE_START: [u8; 3] = *b"PRI";

/// Serve *stream* until either side ends it.
pub async fn serve(shared: Arc<Shared>, stream: std::net::TcpStream, registered: Registered) {
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    match shared.streams.as_deref().and_then(Streams::acceptor) {
        None => until_stopped(speak(&shared, stream, &registered.signal), &registered.signal).await,
        Some(acceptor) => until_stopped(prove_and_speak(&shared, acceptor, stream, &registered.signal), &registered.signal).await,
    }
}

/// Do *work*, until it is done or the connection is told to stop.
async fn until_stopped(work: impl Future<Output = ()>, signal: &Signal) {
    let mut work = pin!(work);
    poll_fn(|context| {
        // First, so that whatever comes after the looks below wakes this task again.
        signal.register(context);
        if work.as_mut().poll(context).is_ready() || signal.is_stopped() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Serve other processes, which must prove themselves; they speak HTTP/2.
async fn prove_and_speak(shared: &Arc<Shared>, acceptor: &TlsAcceptor, stream: TcpStream, signal: &Arc<Signal>) {
    match tokio::time::timeout(shared.read_timeout, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => http2::serve(shared, stream, signal).await,
        Ok(Err(error)) => tracing::warn!(event = "link_not_proven", reason = %error),
        Err(_late) => {}
    }
}

async fn speak(shared: &Arc<Shared>, stream: TcpStream, signal: &Arc<Signal>) {
    let Ok(Ok(is_http2)) = tokio::time::timeout(shared.read_timeout, speaks_http2(&stream)).await else { return };
    if is_http2 {
        http2::serve(shared, stream, signal).await;
    } else {
        http1::serve(shared, stream, signal).await;
    }
}

/// Whether the client speaks HTTP/2. Bytes are looked at, not taken.
async fn speaks_http2(stream: &TcpStream) -> std::io::Result<bool> {
    let look = || {
        let mut start = [MaybeUninit::uninit(); PREFACE_START.len()];
        let seen = SockRef::from(stream).peek(&mut start)?;
        // SAFETY: the system has just written so many bytes.
        let start = unsafe { std::slice::from_raw_parts(start.as_ptr().cast::<u8>(), seen) };
        match start {
            [] => Err(ErrorKind::UnexpectedEof.into()),
            start if *start == PREFACE_START => Ok(true),
            start if PREFACE_START.starts_with(start) => Err(ErrorKind::WouldBlock.into()),
            _ => Ok(false),
        }
    };
    loop {
        let ready = stream.ready(Interest::READABLE).await?;
        // The start of the preface alone counts as nothing, so that this waits until more comes: a look that has seen something
        // would find the connection readable at once, again and again. So would one after the client's end.
        match stream.try_io(Interest::READABLE, look) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            Err(_) if ready.is_read_closed() => return Err(ErrorKind::UnexpectedEof.into()),
            Err(_) => {}
            Ok(found) => return Ok(found),
        }
    }
}
