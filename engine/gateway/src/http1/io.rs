//! Reading, with the time that clients are given.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bettong_frame::{Error, ErrorKind, Result};
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::{Instant, Sleep};

use super::link::{After, Link};
use crate::shared::{LEAST_BYTES_PER_S, Signal};

/// Room for a read: most requests come whole in one.
const READ_BYTES: usize = 16 << 10;

/// One client's connection.
pub struct Io {
    stream: OwnedReadHalf,
    link: Arc<Link>,
    input: BytesMut,
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
    /// There once the client has sent its last byte; done when the connection breaks, so that it can't read either.
    ended: Option<Broken>,
    /// Whether the client understands what comes before a reply: not in HTTP/1.0.
    takes_interim: bool,
}

type Broken = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Io {
    /// A connection over *stream*, on the current task.
    pub async fn new(stream: TcpStream, signal: Arc<Signal>, keep_alive: Duration, read_timeout: Duration) -> Self {
        let now = Instant::now();
        let period = keep_alive.min(read_timeout) / 2;
        let (stream, writing) = stream.into_split();
        let mut timer = Box::pin(tokio::time::sleep(period));
        // A timer wakes nobody before it has been polled, and a connection whose requests come at once never waits for it.
        poll_fn(|context| Poll::Ready(timer.as_mut().poll(context))).await.is_ready();
        Self {
            stream,
            link: Arc::new(Link::new(writing, signal)),
            input: BytesMut::new(),
            timer,
            keep_alive,
            read_timeout,
            wholes: 0,
            bytes: 0,
            seen: (0, 0),
            progress_at: now,
            ended: None,
            takes_interim: false,
        }
    }

    /// What has arrived and not been taken.
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Where replies are written.
    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Read what comes next; *between* requests or within one. `None`: the client left, or was idle for too long.
    /// `Some(Err(_))`: a request was begun and not finished in time.
    ///
    /// A server that is finishing still waits here: the next request may be on its way, and its reply says that it was the last.
    pub async fn read_more(&mut self, between: bool) -> Option<Result<()>> {
        poll_fn(|context| {
            let idle = between && self.input.is_empty();
            match self.poll_read(context) {
                Poll::Ready(Ok(true)) => Poll::Ready(Some(Ok(()))),
                Poll::Ready(_) => Poll::Ready(None),
                Poll::Pending => self.poll_timer(context, idle),
            }
        })
        .await
    }

    /// Wait until the request that is under way has been answered. `None`: the client left, or does not take its reply.
    /// `Some(false)`: the connection is to be closed.
    pub async fn answered(&mut self) -> Option<bool> {
        poll_fn(|context| {
            if let Poll::Ready(after) = self.link.poll_answered(context, false) {
                return Poll::Ready(Some(after == After::Open));
            }
            if self.poll_left(context).is_ready() {
                return Poll::Ready(None);
            }
            if self.timer.is_elapsed() && self.poll_taken(context).is_ready() {
                return Poll::Ready(None);
            }
            // What was sent ahead is served as soon as the answer has left; nothing else will wake this task then.
            let watch = !self.input.is_empty() || self.ended.is_some();
            self.link.poll_answered(context, watch).map(|after| Some(after == After::Open))
        })
        .await
    }

    /// Read once. `true`: something came; `false`: the client sends no more.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<bool>> {
        if self.input.capacity() - self.input.len() < READ_BYTES / 4 {
            self.input.reserve(READ_BYTES);
        }
        let room = self.input.spare_capacity_mut();
        let mut buffer = ReadBuf::uninit(room);
        match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                let read = buffer.filled().len();
                // SAFETY: the stream has just initialised these bytes.
                unsafe { self.input.set_len(self.input.len() + read) };
                self.bytes += read;
                self.link.note_moved();
                Poll::Ready(Ok(read > 0))
            }
        }
    }

    /// Note that a request is under way, whose client understands what comes before a reply or not.
    #[inline]
    pub fn begin(&mut self, takes_interim: bool) {
        self.takes_interim = takes_interim;
        self.link.begin();
    }

    /// Note that a head has begun and is not complete. Its time starts now, however long the connection has been idle.
    #[cold]
    pub fn begin_head(&mut self) {
        self.progress_at = Instant::now();
        self.seen = (self.wholes, self.bytes);
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

    /// Look how the client takes its reply, which has the time of a request; while the request is worked on, time is the
    /// server's, and the timer only goes on.
    #[cold]
    fn poll_taken(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self.link.flushed() {
            Some(bytes) => self.bytes = bytes,
            None => self.end_part(),
        }
        self.poll_timer(context, false).map(|_late| ())
    }

    /// Resolve when the client leaves. Meanwhile what it sends ahead is kept, up to a bound.
    #[inline]
    pub fn poll_left(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.input.len() < READ_BYTES && self.ended.is_none() {
            match self.poll_read(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => self.end_input(),
                Poll::Ready(Err(_broken)) => return Poll::Ready(()),
            }
        }
        self.ended.as_mut().map_or(Poll::Pending, |broken| broken.as_mut().poll(context))
    }

    /// Note that the client sends no more. It may still read, and a request that it has sent is answered; but most clients end
    /// both ways at once, and what they have asked for should not be run.
    #[cold]
    fn end_input(&mut self) {
        let link = self.link.clone();
        self.ended = Some(Box::pin(async move {
            let _ = link.stream().ready(Interest::ERROR).await;
        }));
        if self.takes_interim {
            self.link.probe();
        }
    }

    /// Send *bytes* before the reply. `None`: the client left.
    pub async fn send_interim(&mut self, bytes: &[u8]) -> Option<()> {
        self.link.put_interim(bytes);
        let after = poll_fn(|context| self.link.poll_flush(context)).await;
        (after == After::Open).then_some(())
    }

    /// Read over what the client still sends, for a moment, so that it sees the reply and not a reset.
    pub async fn linger(&mut self) {
        const AT_MOST: Duration = Duration::from_secs(1);
        let _ = socket2::SockRef::from(self.link.stream()).shutdown(std::net::Shutdown::Write);
        let mut sink = [0; 4096];
        let _ =
            tokio::time::timeout(AT_MOST, async { while matches!(self.stream.read(&mut sink).await, Ok(read) if read > 0) {} })
                .await;
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        self.link.leave();
    }
}
