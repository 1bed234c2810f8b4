//! One call on its way, and who waits for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bettong_frame::{Answer, Error, ErrorKind, Reply, Result, Timing, Trace};
use bettong_link::{Answering, Carry, ProgramName};
use bettong_telemetry::{PipelineMetrics, Registry};
use bettong_wire::link::{Body, CallHead, Failure, OutcomeHead, decode_tensors};
use bytes::Bytes;
use smallvec::SmallVec;

/// Who waits for a call.
pub enum Waiter {
    /// A client of this process.
    Client {
        /// Answers it.
        reply: Box<dyn Reply>,
        /// What is counted of its pipeline.
        metrics: Arc<PipelineMetrics>,
        /// Outputs of its pipeline.
        outputs: usize,
    },
    /// Another process.
    Process {
        /// Answers it.
        answering: Answering,
        /// Counts it as under way.
        _under_way: UnderWay,
    },
}

/// Counts a call as under way while it lives.
pub struct UnderWay(Arc<Registry>);

impl UnderWay {
    /// Count one more.
    pub fn new(registry: Arc<Registry>) -> Self {
        registry.gateway.in_flight.add(1);
        Self(registry)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.gateway.in_flight.add(-1);
    }
}

/// A call on its way.
pub struct Flight {
    pub name: Arc<ProgramName>,
    pub rows: u32,
    pub inputs: Body,
    pub arrived: Instant,
    pub deadline: Option<Instant>,
    pub trace: Trace,
    /// How often it may have been run.
    pub attempt: u32,
    /// Peers that were asked since it was parked last.
    pub tried: SmallVec<[u64; 4]>,
    /// Since when no peer takes it, and how often that was looked at.
    pub parked: Option<(Instant, u32)>,
    /// Why the last peer that was asked did not run it.
    pub refusal: Option<Error>,
    pub waiter: Waiter,
}

impl Flight {
    /// Answer with what a peer gave.
    #[inline]
    pub fn land(self: Box<Self>, head: OutcomeHead, outputs: Bytes) {
        let (arrived, rows) = (self.arrived, self.rows);
        match self.waiter {
            Waiter::Process { answering, .. } => answering.answer(head, Some(&Body::Raw(outputs))),
            Waiter::Client { reply, metrics, outputs: wanted } => {
                let answer = answer(head, &outputs, wanted);
                if let Ok(answer) = &answer {
                    metrics.queue.observe(answer.timing.queue_ns);
                    metrics.total.observe(arrived.elapsed().as_nanos() as u64);
                    metrics.rows.add(u64::from(rows));
                }
                reply.answer(answer);
            }
        }
    }

    /// Answer with a failure.
    #[cold]
    pub fn fail(self: Box<Self>, failure: Failure) {
        match self.waiter {
            Waiter::Client { reply, .. } => reply.answer(Err(failure.error)),
            Waiter::Process { answering, .. } => answering.fail(failure.error, failure.not_run),
        }
    }

    /// Answer a call whose outcome is of no more use.
    #[cold]
    pub fn give_up(self: Box<Self>, now: Instant) {
        let error = if self.is_late(now) {
            Error::new(ErrorKind::DeadlineExceeded, "the deadline passed before the answer was ready")
        } else {
            Error::new(ErrorKind::Cancelled, "the client left before its request was answered")
        };
        self.fail(Failure { error, not_run: false });
    }

    /// Whether its deadline has passed.
    pub fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

#[inline]
fn answer(head: OutcomeHead, outputs: &Bytes, wanted: usize) -> Result<Answer> {
    let outputs = decode_tensors(outputs)?;
    if outputs.len() != wanted {
        return Err(Error::internal(format!("an executor gave {} outputs, the pipeline has {wanted}", outputs.len())));
    }
    let timing = Timing { queue_ns: head.queue_ns, steps_ns: head.steps_ns, batch_rows: head.batch_rows as usize };
    Ok(Answer { outputs, timing })
}

/// The shortest time that is sent, because none means no limit.
const SHORTEST: Duration = Duration::from_micros(1);

impl Carry for Box<Flight> {
    #[inline]
    fn name(&self) -> &Arc<ProgramName> {
        &self.name
    }

    #[inline]
    fn head(&self, now: Instant) -> CallHead {
        CallHead {
            rows: self.rows,
            timeout: self.deadline.map(|deadline| deadline.saturating_duration_since(now).max(SHORTEST)),
            attempt: self.attempt,
            request_id: self.trace.request_id.clone(),
            traceparent: self.trace.traceparent.clone(),
            ..CallHead::default()
        }
    }

    #[inline]
    fn inputs(&self) -> &Body {
        &self.inputs
    }

    fn is_over(&mut self, now: Instant) -> bool {
        self.is_late(now)
            || match &mut self.waiter {
                Waiter::Client { reply, .. } => reply.is_abandoned(),
                Waiter::Process { answering, .. } => answering.is_abandoned(),
            }
    }
}
