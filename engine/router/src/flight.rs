//! One call on its way, and who waits for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bettong_frame::{Answer, BatchMode, DType, Error, ErrorKind, Reply, Result, Signature, Tensor, Timing, Trace};
use bettong_link::{Answering, Carry, ProgramName};
use bettong_telemetry::{PipelineMetrics, Registry};
use bettong_wire::link::{Body, CallHead, Failure, OutcomeHead, decode_tensors};
use bytes::Bytes;
use smallvec::SmallVec;

use crate::hedging::Runner;

/// What is known of a pipeline version whose requests are forwarded.
pub struct Pipeline {
    metrics: Arc<PipelineMetrics>,
    /// Datatypes of its outputs.
    outputs: Box<[DType]>,
    /// Whether each row gives a row.
    by_row: bool,
}

impl Pipeline {
    /// One with *signature*, whose requests are counted in *metrics*.
    pub fn new(signature: &Signature, metrics: Arc<PipelineMetrics>) -> Self {
        let outputs = signature.outputs.iter().map(|output| output.dtype).collect();
        Self { metrics, outputs, by_row: signature.batch_mode != BatchMode::Whole }
    }

    /// The answer in *outputs*, for so many *rows*. They are not ours, so nothing is taken for granted.
    #[inline]
    fn answer(&self, head: OutcomeHead, outputs: &Bytes, rows: u32) -> Result<Answer> {
        let unread = |error: Error| Error::internal(format!("the outputs of an executor can't be read: {error}"));
        let outputs = decode_tensors(outputs).map_err(unread)?;
        let fits = |(tensor, &dtype): (&Tensor, &DType)| {
            tensor.dtype == dtype && (!self.by_row || tensor.shape.first() == Some(&i64::from(rows)))
        };
        if outputs.len() != self.outputs.len() || !outputs.iter().zip(&self.outputs).all(fits) {
            return Err(Error::internal("the outputs of an executor are not those of the pipeline version"));
        }
        let timing = Timing { queue_ns: head.queue_ns, steps_ns: head.steps_ns, batch_rows: head.batch_rows as usize };
        Ok(Answer { outputs, timing })
    }
}

impl Pipeline {
    /// Count an answer. A run that several requests shared is counted for each of them: nobody here sees who shared it.
    #[inline]
    fn count(&self, timing: &Timing, arrived: Instant, rows: u32) {
        let metrics = &self.metrics;
        metrics.queue.observe(timing.queue_ns);
        metrics.total.observe(arrived.elapsed().as_nanos() as u64);
        metrics.rows.add(u64::from(rows));
        metrics.batch_rows.observe(timing.batch_rows as u64);
        for (step, &elapsed) in metrics.steps.iter().zip(&timing.steps_ns) {
            step.run.observe(elapsed);
        }
        metrics.note_inference();
    }
}

/// Who waits for a call.
pub enum Waiter {
    /// Whoever waits for the first of two.
    Race(Runner),
    /// A client of this process.
    Client {
        /// Answers it.
        reply: Box<dyn Reply>,
        /// Its pipeline.
        pipeline: Arc<Pipeline>,
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

/// What is asked.
#[derive(Clone)]
pub struct Ask {
    pub name: Arc<ProgramName>,
    pub rows: u32,
    pub inputs: Body,
    pub arrived: Instant,
    pub deadline: Option<Instant>,
    pub trace: Trace,
}

/// A call on its way.
pub struct Flight {
    pub ask: Ask,
    /// How often it may have been run.
    pub attempt: u32,
    /// Whether a peer of ours that went away may have run it.
    pub may_have_run: bool,
    /// Peers that were asked since it was parked last.
    pub tried: SmallVec<[u64; 4]>,
    /// Since when no peer takes it, and how often that was looked at.
    pub parked: Option<(Instant, u32)>,
    /// Why the last peer that was asked did not run it.
    pub refusal: Option<Error>,
    pub waiter: Waiter,
}

impl Flight {
    /// One that has not been tried here.
    pub fn new(ask: Ask, attempt: u32, waiter: Waiter) -> Box<Self> {
        Box::new(Self { ask, attempt, may_have_run: false, tried: SmallVec::new(), parked: None, refusal: None, waiter })
    }

    /// Answer with what a peer gave.
    #[inline]
    pub fn land(self: Box<Self>, head: OutcomeHead, outputs: Bytes) {
        let (arrived, rows) = (self.ask.arrived, self.ask.rows);
        match self.waiter {
            Waiter::Race(runner) => {
                if let Some(waiter) = runner.win() {
                    Self::new(self.ask, self.attempt, waiter).land(head, outputs);
                }
            }
            Waiter::Process { answering, .. } => answering.answer(head, Some(&Body::Raw(outputs))),
            Waiter::Client { reply, pipeline } => {
                let answer = pipeline.answer(head, &outputs, rows);
                if let Ok(answer) = &answer {
                    pipeline.count(&answer.timing, arrived, rows);
                }
                reply.answer(answer);
            }
        }
    }

    /// Answer with a failure.
    #[cold]
    pub fn fail(self: Box<Self>, failure: Failure) {
        let is_late = self.is_late(Instant::now());
        match self.waiter {
            Waiter::Race(runner) => {
                if let Some((waiter, may_have_run)) = runner.lose(&failure, self.may_have_run, is_late) {
                    let flight = Self::new(self.ask, self.attempt, waiter);
                    Box::new(Self { may_have_run, ..*flight }).fail(failure);
                }
            }
            Waiter::Client { reply, .. } => reply.answer(Err(failure.error)),
            Waiter::Process { answering, .. } => answering.fail(failure.error, failure.not_run && !self.may_have_run, 0),
        }
    }

    /// Whether it waits here when nobody takes it: nobody before us can try it elsewhere.
    pub fn waits_here(&self) -> bool {
        match &self.waiter {
            Waiter::Race(runner) => runner.waits(self.may_have_run),
            Waiter::Client { .. } => true,
            Waiter::Process { .. } => self.may_have_run,
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
        self.ask.deadline.is_some_and(|deadline| deadline <= now)
    }
}

/// The shortest time that is sent, because none means no limit.
const SHORTEST: Duration = Duration::from_micros(1);

impl Carry for Box<Flight> {
    #[inline]
    fn name(&self) -> &Arc<ProgramName> {
        &self.ask.name
    }

    #[inline]
    fn head(&self, now: Instant) -> CallHead {
        CallHead {
            rows: self.ask.rows,
            timeout: self.ask.deadline.map(|deadline| deadline.saturating_duration_since(now).max(SHORTEST)),
            attempt: self.attempt,
            request_id: self.ask.trace.request_id.clone(),
            traceparent: self.ask.trace.traceparent.clone(),
            ..CallHead::default()
        }
    }

    #[inline]
    fn inputs(&self) -> &Body {
        &self.ask.inputs
    }

    fn is_over(&mut self, now: Instant) -> bool {
        self.is_late(now)
            || match &mut self.waiter {
                Waiter::Race(runner) => runner.is_over(),
                Waiter::Client { reply, .. } => reply.is_abandoned(),
                Waiter::Process { answering, .. } => answering.is_abandoned(),
            }
    }
}
