//! One client's connection: which protocol it speaks, and its end.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::net::TcpStream;

use crate::shared::{Registered, Shared, Signal};
use crate::{http1, http2};

/// What every HTTP/2 client sends first (RFC 9113, 3.4). No HTTP/1.1 request begins with its first three bytes.
const PREFACE_START: &[u8] = b"PRI";

/// Serve *stream* until either side ends it.
pub async fn serve(shared: Arc<Shared>, stream: std::net::TcpStream, registered: Registered) {
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    let mut speaking = pin!(speak(&shared, stream, &registered.signal));
    poll_fn(|context| {
        // First, so that whatever comes after the looks below wakes this task again.
        registered.signal.register(context);
        if speaking.as_mut().poll(context).is_ready() || registered.signal.is_stopped() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

async fn speak(shared: &Arc<Shared>, mut stream: TcpStream, signal: &Arc<Signal>) {
    let mut start = [0; PREFACE_START.len()];
    let Ok(Ok(is_http2)) = tokio::time::timeout(shared.read_timeout, speaks_http2(&mut stream, &mut start)).await else { return };
    if is_http2 {
        http2::serve(shared, stream, signal).await;
    } else {
        http1::serve(shared, stream, signal).await;
    }
}

/// Whether the client speaks HTTP/2. Bytes are looked at, not taken.
async fn speaks_http2(stream: &mut TcpStream, start: &mut [u8]) -> std::io::Result<bool> {
    loop {
        let seen = stream.peek(start).await?;
        if seen == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if start[..seen] != PREFACE_START[..seen] {
            return Ok(false);
        }
        if seen == start.len() {
            return Ok(true);
        }
        // The start of the preface alone: wait for more than is there.
        stream.readable().await?;
        tokio::task::yield_now().await;
    }
}
