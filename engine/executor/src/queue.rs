//! Requests of one program that wait for their batch.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bettong_frame::{Error, ErrorKind, Request};

/// A bounded queue, counted in rows.
#[derive(Default)]
pub struct Queue {
    waiting: VecDeque<Request>,
    rows: usize,
}

impl Queue {
    /// Rows that wait.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Append *request*.
    pub fn push(&mut self, request: Request) {
        self.rows += request.rows;
        self.waiting.push_back(request);
    }

    /// Take requests from the front while they fit in `max_rows`, at least one, at most `max_requests`. Those whose
    /// deadline passed or whose client left are answered and left out.
    pub fn take_batch(&mut self, max_rows: usize, max_requests: usize, now: Instant, batch: &mut Vec<Request>) {
        let mut rows = 0;
        while let Some(request) = self.waiting.front() {
            let fits =
                |first: &Request| rows + request.rows <= max_rows && batch.len() < max_requests && can_join(first, request);
            if !batch.first().is_none_or(fits) {
                break;
            }
            let Some(request) = self.waiting.pop_front() else { break };
            self.rows -= request.rows;
            if let Some(request) = still_wanted(request, now) {
                rows += request.rows;
                batch.push(request);
            }
        }
    }

    /// Everything that waits, for answering it at the end.
    pub fn drain(&mut self) -> impl Iterator<Item = Request> {
        self.rows = 0;
        self.waiting.drain(..)
    }
}

/// Whether two requests can be joined: all dimensions but the rows are the same.
fn can_join(one: &Request, other: &Request) -> bool {
    one.inputs.iter().zip(&other.inputs).all(|(a, b)| a.shape.get(1..) == b.shape.get(1..))
}

/// *request*, unless its deadline passed or its client left; then it is answered.
pub fn still_wanted(mut request: Request, now: Instant) -> Option<Request> {
    if request.deadline.is_some_and(|deadline| deadline <= now) {
        request.reply.answer(Err(deadline_exceeded()));
        return None;
    }
    if request.reply.is_abandoned() {
        request.reply.answer(Err(Error::new(ErrorKind::Cancelled, "the client left before its request was run")));
        return None;
    }
    Some(request)
}

/// The answer to a request that waited too long.
pub fn deadline_exceeded() -> Error {
    Error::new(ErrorKind::DeadlineExceeded, "the deadline passed before the answer was ready")
}

/// When it is worth trying again after a refusal: when what waits will have been run, with jitter so that the refused do
/// not come back together. Between 1 ms and 30 s.
pub fn retry_after(rows: usize, row_ns: u64, now: Instant) -> Duration {
    const SHORTEST: Duration = Duration::from_millis(1);
    const LONGEST: Duration = Duration::from_secs(30);
    let wait = Duration::from_nanos((rows as u64).saturating_mul(row_ns)).clamp(SHORTEST, LONGEST);
    // The low bits of the clock spread callers over half the wait; nothing here needs to be unpredictable.
    let spread = (now.elapsed().subsec_nanos() ^ rows as u32).wrapping_mul(2_654_435_769) >> 16;
    wait + wait.mul_f64(f64::from(spread) / f64::from(u16::MAX) / 2.0)
}
