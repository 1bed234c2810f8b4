//! Requests of one program that wait for their batch.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bettong_frame::{Error, ErrorKind, Request};

/// How much goes into one batch.
pub struct BatchLimits {
    /// Rows at most, unless one request alone has more.
    pub rows: usize,
    /// Requests at most.
    pub requests: usize,
    /// What a row is expected to take, in nanoseconds.
    pub row_ns: u64,
    /// When the batch is formed.
    pub now: Instant,
}

impl BatchLimits {
    /// Whether a batch of *rows* is expected to end before *deadline*.
    fn in_time(&self, rows: usize, deadline: Option<Instant>) -> bool {
        deadline.is_none_or(|deadline| self.now + Duration::from_nanos((rows as u64).saturating_mul(self.row_ns)) <= deadline)
    }
}

/// What was taken from a queue at one time. Dropped requests are answered by whoever took them, once the queue is free
/// again: an answer may lead to the next request of the same program.
#[derive(Default)]
pub struct Taken {
    /// To be run together.
    pub batch: Vec<Request>,
    dropped: Vec<(Request, Unwanted)>,
}

/// Why a request need not be run.
#[derive(Clone, Copy)]
pub enum Unwanted {
    /// Its deadline has passed, or would before it is run.
    Late,
    /// Its client left.
    Left,
}

impl Unwanted {
    /// What its client is told.
    #[cold]
    pub fn error(self) -> Error {
        match self {
            Self::Late => deadline_exceeded(),
            Self::Left => Error::new(ErrorKind::Cancelled, "the client left before its request was run"),
        }
    }
}

impl Taken {
    /// Answer what is not run.
    #[inline]
    pub fn answer_dropped(&mut self) {
        if !self.dropped.is_empty() {
            self.dropped.drain(..).for_each(|(request, why)| request.reply.answer(Err(why.error())));
        }
    }
}

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

    /// Take a batch from the front: at least one request, as many as *limits* allow. Those whose deadline passed, would pass
    /// before they are run, or whose client left are dropped.
    pub fn take_batch(&mut self, limits: &BatchLimits, taken: &mut Taken) {
        let (mut rows, mut earliest) = (0, None);
        let Taken { batch, dropped } = taken;
        while let Some(request) = self.waiting.front() {
            let due = [earliest, request.deadline].into_iter().flatten().min();
            let joined = rows + request.rows;
            let fits = |first: &Request| {
                let room = joined <= limits.rows && batch.len() < limits.requests && can_join(first, request);
                // With a margin, because a batch that ends late is late for all of its requests.
                room && limits.in_time(joined + joined / 4, due)
            };
            if !batch.first().is_none_or(fits) {
                break;
            }
            let hopeless = !limits.in_time(request.rows, request.deadline) && self.waiting.len() > 1;
            let Some(mut request) = self.waiting.pop_front() else { break };
            self.rows -= request.rows;
            // Others wait that can still be answered in time. Alone it is run, because the estimate may be wrong.
            let why = if hopeless { Some(Unwanted::Late) } else { unwanted(&mut request, limits.now) };
            if let Some(why) = why {
                dropped.push((request, why));
            } else {
                (rows, earliest) = (rows + request.rows, due);
                batch.push(request);
            }
        }
    }

    /// Everything that waits, for [`fail_stopping`].
    pub fn take_all(&mut self) -> VecDeque<Request> {
        self.rows = 0;
        std::mem::take(&mut self.waiting)
    }
}

/// Whether two requests can be joined: all dimensions but the rows are the same.
fn can_join(one: &Request, other: &Request) -> bool {
    one.inputs.iter().zip(&other.inputs).all(|(a, b)| a.shape.get(1..) == b.shape.get(1..))
}

/// Why *request* need not be run, if so.
#[inline]
pub fn unwanted(request: &mut Request, now: Instant) -> Option<Unwanted> {
    if request.deadline.is_some_and(|deadline| deadline <= now) {
        return Some(Unwanted::Late);
    }
    request.reply.is_abandoned().then_some(Unwanted::Left)
}

/// Answer *requests*, which were never run: the server is stopping.
pub fn fail_stopping(requests: VecDeque<Request>) {
    for request in requests {
        request.reply.answer(Err(Error::new(ErrorKind::Unavailable, "the server is stopping")));
    }
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
