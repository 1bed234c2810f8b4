//! The half of a connection that answers.
//!
//! A reply is written by whoever has it, mostly the lane that ran its batch: the connection's own task sleeps until the next
//! request comes. It is woken only for what a reply leaves to be done.

use std::io::{ErrorKind, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;

use super::head::Ending;
use super::write;
use crate::admission::Permit;
use crate::head::Head;
use crate::rest::Reply;
use crate::shared::Signal;

/// No request is under way, and everything is sent.
const IDLE: u8 = 0;
/// A request is under way.
const BUSY: u8 = 1;
/// A request is under way, and the task has something to do after its answer.
const WATCHED: u8 = 2;
/// The answer left something to do: bytes to be sent, or the connection to be closed.
const UNFINISHED: u8 = 3;

/// Memory for replies above this is given back.
const KEEP_BYTES: usize = 64 << 10;

/// Writes replies, from any thread, one at a time.
pub struct Link {
    stream: OwnedWriteHalf,
    signal: Arc<Signal>,
    state: AtomicU8,
    /// Whether the connection's task is gone, so that nobody gets what is written.
    left: AtomicBool,
    outgoing: Mutex<Outgoing>,
}

/// What is still to be sent.
#[derive(Default)]
struct Outgoing {
    /// Heads and small bodies.
    head: BytesMut,
    /// A body that is sent from where it is.
    body: Bytes,
    /// Whether the connection ends after it.
    closes: bool,
    /// The place of the request, kept until its reply is sent.
    permit: Option<Permit>,
    /// Bytes of it that the connection's task has sent.
    flushed: usize,
}

/// What a reply has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The next request may come.
    Open,
    /// The connection is to be closed.
    Closed,
}

impl Link {
    pub fn new(stream: OwnedWriteHalf, signal: Arc<Signal>) -> Self {
        let (state, left) = (AtomicU8::new(IDLE), AtomicBool::new(false));
        Self { stream, signal, state, left, outgoing: Mutex::default() }
    }

    /// The connection.
    pub fn stream(&self) -> &TcpStream {
        self.stream.as_ref()
    }

    /// Note that the client has sent something.
    #[inline]
    pub fn note_moved(&self) {
        self.signal.note_moved();
    }

    /// Whether the server wants connections to end.
    #[inline]
    pub fn is_finishing(&self) -> bool {
        self.signal.is_finishing()
    }

    /// Note that a request is under way, which will be answered once.
    #[inline]
    pub fn begin(&self) {
        self.state.store(BUSY, Ordering::Relaxed);
    }

    /// Whether the client has left.
    #[inline]
    pub fn has_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    /// Note that the client has left.
    pub fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    /// Answer the request that is under way.
    pub fn answer(&self, reply: &mut Reply, head: &Head, ending: Ending, now: Instant) {
        let mut outgoing = self.lock();
        write::put(&mut outgoing.head, reply, head, ending, now);
        if !ending.without_body {
            outgoing.body = write::apart(reply);
        }
        outgoing.closes = ending.closes;
        let sent = self.send(&mut outgoing).is_ready();
        if !sent {
            (outgoing.permit, outgoing.flushed) = (reply.permit.take(), 0);
        }
        let done = sent && !outgoing.closes;
        // Before the lock is given back: who has it may rely on the state.
        let before = self.state.swap(if done { IDLE } else { UNFINISHED }, Ordering::AcqRel);
        drop(outgoing);
        if before == WATCHED || !done {
            self.signal.wake();
        }
    }

    /// Append what comes before any reply.
    pub fn put_interim(&self, bytes: &[u8]) {
        self.lock().head.extend_from_slice(bytes);
    }

    /// Have a client that sends no more show whether it still reads: the system of one that does not will reset the connection.
    /// Every client reads over this, which some ask for (RFC 9110, 15.2).
    #[cold]
    pub fn probe(&self) {
        let outgoing = self.lock();
        if matches!(self.state.load(Ordering::Acquire), BUSY | WATCHED) && !outgoing.head.has_remaining() {
            // It goes out as a whole or the client reads slowly, and is there.
            let _ = self.stream().try_write(super::CONTINUE);
        }
    }

    /// Bytes of a reply that the task has sent so far, if one is unfinished.
    pub fn flushed(&self) -> Option<usize> {
        (self.state.load(Ordering::Acquire) == UNFINISHED).then(|| self.lock().flushed)
    }

    /// Resolve when the request that was begun has been answered and its reply sent. With `watch`, the current task is woken by
    /// the answer; without, it need not be.
    #[inline]
    pub fn poll_answered(&self, context: &mut Context<'_>, watch: bool) -> Poll<After> {
        let mut state = self.state.load(Ordering::Acquire);
        if watch && state == BUSY {
            let watched = self.state.compare_exchange(BUSY, WATCHED, Ordering::AcqRel, Ordering::Acquire);
            state = watched.err().unwrap_or(WATCHED);
        }
        match state {
            IDLE => Poll::Ready(After::Open),
            UNFINISHED => self.poll_flush(context),
            _ => Poll::Pending,
        }
    }

    /// Send what is still to be sent.
    #[cold]
    pub fn poll_flush(&self, context: &mut Context<'_>) -> Poll<After> {
        loop {
            let mut outgoing = self.lock();
            let before = outgoing.unsent();
            let sent = self.send(&mut outgoing).is_ready();
            outgoing.flushed += before - outgoing.unsent();
            if sent {
                outgoing.permit = None;
                return Poll::Ready(if outgoing.closes { After::Closed } else { After::Open });
            }
            drop(outgoing);
            if ready!(self.stream().poll_write_ready(context)).is_err() {
                return Poll::Ready(After::Closed);
            }
        }
    }

    /// Send as much as the connection takes now; ready when nothing is left. What can't be sent any more is forgotten.
    #[inline]
    fn send(&self, outgoing: &mut Outgoing) -> Poll<()> {
        while outgoing.head.has_remaining() || outgoing.body.has_remaining() {
            // One buffer goes out by `send`, which is cheaper than `writev`.
            let sent = if outgoing.body.is_empty() {
                self.stream.try_write(&outgoing.head)
            } else {
                self.stream.try_write_vectored(&[IoSlice::new(&outgoing.head), IoSlice::new(&outgoing.body)])
            };
            match sent {
                Ok(count) if count > 0 => {
                    self.signal.note_moved();
                    outgoing.advance(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Poll::Pending,
                _ => {
                    outgoing.body = Bytes::new();
                    outgoing.head.clear();
                    outgoing.closes = true;
                }
            }
        }
        if outgoing.head.capacity() > KEEP_BYTES {
            outgoing.head = BytesMut::new();
        }
        Poll::Ready(())
    }

    #[inline]
    fn lock(&self) -> MutexGuard<'_, Outgoing> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outgoing {
    fn unsent(&self) -> usize {
        self.head.len() + self.body.len()
    }

    #[inline]
    fn advance(&mut self, count: usize) {
        if count == self.head.len() {
            // Cleared and not advanced over, so that its memory is used again.
            self.head.clear();
            return;
        }
        let head = count.min(self.head.len());
        self.head.advance(head);
        self.body.advance(count - head);
    }
}
