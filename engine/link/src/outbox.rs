//! What waits to be sent back on a link, filled from whatever thread a call was run on.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Context;

use atomic_waker::AtomicWaker;
use bettong_frame::Error;
use bettong_wire::link::{Body, BundleWriter, Failure, OutcomeHead};
use bytes::Bytes;

/// What waits to be sent back on one link.
#[derive(Default)]
pub struct Outbox {
    inner: Mutex<Inner>,
    /// Calls that were cancelled and are not answered yet: looked at before the lock is taken.
    cancelled: AtomicUsize,
    closed: AtomicBool,
    waker: AtomicWaker,
}

#[derive(Default)]
struct Inner {
    writer: BundleWriter,
    /// Calls taken and not answered.
    open: usize,
    cancelled: HashSet<u64, foldhash::fast::FixedState>,
}

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

    /// Note a call; its outcome goes through what is returned.
    #[inline]
    pub fn open(self: &Arc<Self>, sequence: u64) -> Answering {
        self.lock().open += 1;
        Answering { outbox: Some(self.clone()), sequence }
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
    fn put(&self, head: &OutcomeHead, outputs: Option<&Body>) {
        let mut inner = self.lock();
        inner.open -= 1;
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
            outbox.put(&head, outputs);
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
            outbox.put(&OutcomeHead { sequence: self.sequence, failure: Some(failure), ..OutcomeHead::default() }, None);
        }
    }
}
