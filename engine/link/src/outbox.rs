//! What waits to be sent back on a link, filled from whatever thread a call was run on.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;

use atomic_waker::AtomicWaker;
use bettong_frame::Error;
use bettong_wire::link::{Body, BundleWriter, Failure, OutcomeHead};
use bytes::Bytes;

use crate::{SPARE_BYTES, SPARE_CALLS, WINDOW_BYTES, WINDOW_CALLS};

/// What waits to be sent back on one link.
#[derive(Default)]
pub struct Outbox {
    inner: Mutex<Inner>,
    /// Calls that were cancelled and are not answered yet: looked at before the lock is taken.
    cancelled: AtomicUsize,
    closed: AtomicBool,
    waker: AtomicWaker,
}

struct Inner {
    writer: BundleWriter,
    /// Calls taken and not answered.
    open: usize,
    /// Those calls by pipeline.
    windows: Vec<Window>,
    cancelled: HashSet<u64, foldhash::fast::FixedState>,
}

impl Default for Inner {
    fn default() -> Self {
        let windows = vec![Window::default()];
        Self { writer: BundleWriter::default(), open: 0, windows, cancelled: HashSet::default() }
    }
}

/// Open calls of one pipeline.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    calls: u32,
    bytes: u64,
}

/// The window of calls whose name is not known.
pub const NAMELESS: u32 = 0;

/// Cancels that are kept besides those of open calls.
const SPARE_CANCELS: usize = 64;

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Have the current task woken when there is something to send.
    pub fn register(&self, context: &Context<'_>) {
        self.waker.register(context.waker());
    }

    /// Write something that is no outcome; the caller's task sends it.
    pub fn write(&self, write: impl FnOnce(&mut BundleWriter)) {
        write(&mut self.lock().writer);
    }

    /// Take what is to be sent, and whether every call has been answered by that.
    #[inline]
    pub fn take(&self) -> (Vec<Bytes>, bool) {
        let mut inner = self.lock();
        let pieces = if inner.writer.is_empty() { Vec::new() } else { inner.writer.take() };
        (pieces, inner.open == 0)
    }

    /// Begin to count the calls of another pipeline. Return where.
    pub fn add_window(&self) -> u32 {
        let mut inner = self.lock();
        inner.windows.push(Window::default());
        inner.windows.len() as u32 - 1
    }

    /// Note a call with so many *bytes* of inputs; its outcome goes through what is returned. Also return whether it keeps to
    /// what its caller was granted. One call alone may have any size.
    #[inline]
    pub fn open(self: &Arc<Self>, sequence: u64, window: u32, bytes: u64) -> (Answering, bool) {
        let mut inner = self.lock();
        inner.open += 1;
        let open = &mut inner.windows[window as usize];
        open.calls += 1;
        open.bytes += bytes;
        let within = open.calls <= WINDOW_CALLS + SPARE_CALLS && open.bytes <= WINDOW_BYTES + SPARE_BYTES;
        let fits = within || open.calls == 1;
        drop(inner);
        (Answering { outbox: Some(self.clone()), sequence, window, bytes }, fits)
    }

    /// Note that the outcome of a call is of no more use. It may have been sent already.
    pub fn cancel(&self, sequence: u64) {
        let mut inner = self.lock();
        if inner.open == 0 {
            return;
        }
        if inner.cancelled.len() >= 2 * inner.open + SPARE_CANCELS {
            // Most are of calls that were answered before. One that is forgotten here is run in vain, that is all.
            inner.cancelled.clear();
        }
        inner.cancelled.insert(sequence);
        self.cancelled.store(inner.cancelled.len(), Ordering::Release);
    }

    /// The other side is gone: outcomes are of no more use.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    #[inline]
    fn put(&self, window: u32, bytes: u64, head: &OutcomeHead, outputs: Option<&Body>) {
        let mut inner = self.lock();
        inner.open -= 1;
        let open = &mut inner.windows[window as usize];
        open.calls -= 1;
        open.bytes -= bytes;
        if self.closed.load(Ordering::Relaxed) {
            return;
        }
        if self.cancelled.load(Ordering::Relaxed) > 0 {
            inner.cancelled.remove(&head.sequence);
            if inner.open == 0 {
                inner.cancelled.clear();
            }
            self.cancelled.store(inner.cancelled.len(), Ordering::Release);
        }
        inner.writer.put_outcome(head, outputs);
        drop(inner);
        self.waker.wake();
    }
}

/// Answers one call, exactly once; dropped unanswered, it says that the call was lost.
pub struct Answering {
    /// Taken by the answer.
    outbox: Option<Arc<Outbox>>,
    sequence: u64,
    window: u32,
    bytes: u64,
}

impl Answering {
    /// Whether the outcome is of no more use.
    #[inline]
    pub fn is_abandoned(&self) -> bool {
        let Some(outbox) = &self.outbox else { return true };
        outbox.closed.load(Ordering::Acquire)
            || outbox.cancelled.load(Ordering::Acquire) > 0 && outbox.lock().cancelled.contains(&self.sequence)
    }

    /// Answer with *head*, whose sequence is set here, and *outputs* unless it failed.
    #[inline]
    pub fn answer(mut self, mut head: OutcomeHead, outputs: Option<&Body>) {
        head.sequence = self.sequence;
        if let Some(outbox) = self.outbox.take() {
            outbox.put(self.window, self.bytes, &head, outputs);
        }
    }

    /// Answer with *error*. `not_run`: the call certainly had no effect.
    #[cold]
    pub fn fail(self, error: Error, not_run: bool, waiting_rows: u32) {
        self.answer(OutcomeHead { failure: Some(Failure { error, not_run }), waiting_rows, ..OutcomeHead::default() }, None);
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if let Some(outbox) = self.outbox.take() {
            let failure = Failure { error: Error::internal("the request was lost inside the server"), not_run: false };
            let head = OutcomeHead { sequence: self.sequence, failure: Some(failure), ..OutcomeHead::default() };
            outbox.put(self.window, self.bytes, &head, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_open_calls_are_bounded_for_each_pipeline() {
        let outbox = Arc::new(Outbox::default());
        let (one, other) = (outbox.add_window(), outbox.add_window());
        // Of any size, if it is alone.
        let (large, fits) = outbox.open(1, one, 2 * WINDOW_BYTES);
        assert!(fits);
        assert!(!outbox.open(2, one, 1).1);
        let (_open, fits) = outbox.open(3, other, WINDOW_BYTES);
        assert!(fits);
        drop(large);
        let (_open, fits) = outbox.open(4, one, WINDOW_BYTES + SPARE_BYTES - 1);
        assert!(fits);
        let (last, fits) = outbox.open(5, one, 1);
        assert!(fits);
        assert!(!outbox.open(6, one, 1).1);
        drop(last);
        assert!(outbox.open(7, one, 1).1);
    }
}
