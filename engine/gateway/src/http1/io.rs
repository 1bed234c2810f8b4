//! Reading and writing, with the time that clients are given.

use std::future::poll_fn;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bettong_frame::{Error, ErrorKind, Result};
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::shared::Signal;

/// Room for a read: most requests come whole in one.
const READ_BYTES: usize = 16 << 10;

/// A body that comes more slowly than this has the read time-out in all, and no more.
const LEAST_BYTES_PER_S: f64 = 16_384.0;

/// One client's connection.
pub struct Io {
    stream: TcpStream,
    input: BytesMut,
    output: BytesMut,
    /// One timer a connection, looked at only when it fires: setting one for each request costs more than parsing it.
    timer: Pin<Box<Sleep>>,
    keep_alive: Duration,
    read_timeout: Duration,
    /// Counts what has been read whole: heads and bodies. Unchanged between two looks of the timer, nothing was.
    wholes: u64,
    /// Bytes read since the last whole.
    bytes: usize,
    /// What the last look saw, and when progress was last seen.
    seen: (u64, usize),
    progress_at: Instant,
}

impl Io {
    /// A connection over *stream*.
    pub fn new(stream: TcpStream, keep_alive: Duration, read_timeout: Duration) -> Self {
        let now = Instant::now();
        let period = keep_alive.min(read_timeout) / 2;
        Self {
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
            timer: Box::pin(tokio::time::sleep(period)),
            keep_alive,
            read_timeout,
            wholes: 0,
            bytes: 0,
            seen: (0, 0),
            progress_at: now,
        }
    }

    /// What has arrived and not been taken.
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// What is to be sent before the next reply's body.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Read what comes next. `None`: the client left, was idle for too long, or the server is finishing.
    /// `Some(Err(_))`: a request was begun and not finished in time.
    pub async fn read_more(&mut self, signal: Option<&Signal>) -> Option<Result<()>> {
        poll_fn(|context| {
            let idle = signal.is_some() && self.input.is_empty();
            if idle && signal.is_some_and(|signal| signal.is_finishing(context)) {
                return Poll::Ready(None);
            }
            match self.poll_read(context) {
                Poll::Ready(true) => Poll::Ready(Some(Ok(()))),
                Poll::Ready(false) => Poll::Ready(None),
                Poll::Pending => self.poll_timer(context, idle),
            }
        })
        .await
    }

    /// Read once. `true`: something came; `false`: the client left.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        if self.input.capacity() - self.input.len() < READ_BYTES / 4 {
            self.input.reserve(READ_BYTES);
        }
        let room = self.input.spare_capacity_mut();
        let mut buffer = ReadBuf::uninit(room);
        match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(_)) => Poll::Ready(false),
            Poll::Ready(Ok(())) => {
                let read = buffer.filled().len();
                // SAFETY: the stream has just initialised these bytes.
                unsafe { self.input.set_len(self.input.len() + read) };
                self.bytes += read;
                Poll::Ready(read > 0)
            }
        }
    }

    /// Note that a head or a body has been read to its end.
    pub fn end_part(&mut self) {
        self.wholes += 1;
        self.bytes = 0;
    }

    /// Look how the client gets on: idle ones may stay for the keep-alive time; a request must arrive in the read time-out,
    /// which starts anew only as long as its body comes at the least rate.
    fn poll_timer(&mut self, context: &mut Context<'_>, idle: bool) -> Poll<Option<Result<()>>> {
        while self.timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            let period = self.keep_alive.min(self.read_timeout) / 2;
            let (wholes, bytes) = self.seen;
            let least = (LEAST_BYTES_PER_S * period.as_secs_f64()) as usize;
            if self.wholes != wholes || self.bytes >= bytes + least {
                self.progress_at = now;
                self.seen = (self.wholes, self.bytes);
            }
            let allowed = if idle { self.keep_alive } else { self.read_timeout };
            if now - self.progress_at >= allowed {
                let slow = || Error::new(ErrorKind::DeadlineExceeded, "the request did not arrive in time");
                return Poll::Ready(if idle { None } else { Some(Err(slow())) });
            }
            self.timer.as_mut().reset(now + period);
        }
        Poll::Pending
    }

    /// Resolve when the client leaves. Meanwhile what it sends ahead is kept, up to a bound.
    pub fn poll_left(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.input.len() < READ_BYTES {
            match self.poll_read(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// Send the output, and *body* after it. `None`: the client left.
    pub async fn flush(&mut self, mut body: Bytes) -> Option<()> {
        poll_fn(|context| {
            while self.output.has_remaining() || body.has_remaining() {
                let stream = Pin::new(&mut self.stream);
                // One buffer goes out by `send`, which is cheaper than `writev`.
                let wrote = if body.is_empty() {
                    stream.poll_write(context, &self.output)
                } else {
                    stream.poll_write_vectored(context, &[IoSlice::new(&self.output), IoSlice::new(&body)])
                };
                match wrote {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(_) | Ok(0)) => return Poll::Ready(None),
                    Poll::Ready(Ok(written)) => {
                        let head = written.min(self.output.len());
                        self.output.advance(head);
                        body.advance(written - head);
                    }
                }
            }
            self.output.clear();
            Poll::Ready(Some(()))
        })
        .await
    }

    /// Read over what the client still sends, for a moment, so that it sees the reply and not a reset.
    pub async fn linger(&mut self) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        const AT_MOST: Duration = Duration::from_secs(1);
        let _ = self.stream.shutdown().await;
        let mut sink = [0; 4096];
        let _ =
            tokio::time::timeout(AT_MOST, async { while matches!(self.stream.read(&mut sink).await, Ok(read) if read > 0) {} })
                .await;
    }
}
