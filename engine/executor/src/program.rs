//! A compiled pipeline, which takes requests.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bettong_frame::{Answer, BatchMode, Dispatch, Error, Request, Result, Signature, Tensor};
use bettong_runtimes::Model;
use bettong_telemetry::PipelineMetrics;

use crate::batch::{Runner, StepTimes, Stopped, Tensors};
use crate::lane::{self, Lanes};
use crate::pool::Pool;
use crate::queue::{BatchLimits, Queue, retry_after};

/// Where a column comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// An input of the pipeline.
    Input(usize),
    /// An output of an earlier step.
    Step {
        /// Which step, from 0.
        step: usize,
        /// Which of its outputs.
        output: usize,
    },
}

/// One step: a model and where its inputs come from.
pub struct StepSpec {
    /// Runs it.
    pub model: Arc<dyn Model>,
    /// One for each of its inputs.
    pub inputs: Vec<Source>,
}

/// A pipeline version to be served.
pub struct ProgramSpec {
    /// What it takes and gives.
    pub signature: Signature,
    /// In order; at least one.
    pub steps: Vec<StepSpec>,
    /// One for each output of the signature.
    pub outputs: Vec<Source>,
    /// Longest batch in rows.
    pub max_batch_rows: usize,
    /// How long a batch may wait for more rows.
    pub max_batch_delay: Duration,
}

impl ProgramSpec {
    /// Refuse sources that do not exist yet where they are used, so that running needs no checks.
    pub fn check(&self) -> Result<()> {
        let exists = |source: Source, before: usize| match source {
            Source::Input(input) => input < self.signature.inputs.len(),
            Source::Step { step, output } => {
                step < before && self.steps.get(step).is_some_and(|step| output < step.model.info().outputs.len())
            }
        };
        for (at, step) in self.steps.iter().enumerate() {
            let wanted = step.model.info().inputs.len();
            if step.inputs.len() != wanted || !step.inputs.iter().all(|&source| exists(source, at)) {
                return Err(Error::invalid(format!("step {} needs {wanted} columns that exist before it", at + 1)));
            }
        }
        let outputs_exist = self.outputs.iter().all(|&source| exists(source, self.steps.len()));
        if self.steps.is_empty() || self.outputs.len() != self.signature.outputs.len() || !outputs_exist {
            return Err(Error::invalid("the pipeline's outputs do not all exist"));
        }
        Ok(())
    }
}

/// What a program shares with all others of its executor.
pub(crate) struct Surroundings {
    pub(crate) pool: Arc<Pool>,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) slow_model: Duration,
    pub(crate) max_queue_rows: usize,
}

/// A pipeline version that is served.
pub struct Program {
    /// What it is made of.
    pub spec: ProgramSpec,
    /// Unique in the process: the key of lanes' queues.
    pub(crate) id: u64,
    pub(crate) metrics: Arc<PipelineMetrics>,
    /// Written if running it brings the process down.
    pub(crate) crash_line: String,
    pub(crate) pool: Arc<Pool>,
    pub(crate) lanes: Arc<Lanes>,
    pub(crate) max_queue_rows: usize,
    /// What waits for compute threads.
    pub(crate) pooled: Mutex<Queue>,
    /// Whether it is in the pool's list, so that it is there once.
    pub(crate) scheduled: AtomicBool,
    /// Rows of batches that run now.
    pub(crate) running_rows: AtomicUsize,
    /// Its models are too slow for a reactor.
    slow: bool,
    /// Time of a row in a batch, smoothed, in nanoseconds.
    row_ns: AtomicU64,
}

/// A batch that is expected to take longer than this runs on compute threads.
const REACTOR_BUDGET_NS: u64 = 10_000_000;

/// Batches of fewer rows do not tell what a row costs, because the fixed cost of a run dominates.
const TELLING_ROWS: usize = 16;

/// Assumed for a model that could not be run with zeros.
const UNKNOWN_ROW_NS: u64 = 1_000_000;

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Program {
    pub(crate) fn new(spec: ProgramSpec, metrics: Arc<PipelineMetrics>, around: &Surroundings) -> Arc<Self> {
        let times: Vec<Option<Duration>> = spec.steps.iter().map(|step| step.model.info().row_time).collect();
        let row_ns = times.iter().map(|time| time.map_or(UNKNOWN_ROW_NS, |time| time.as_nanos() as u64)).sum();
        let slow = times.iter().any(|time| time.is_none_or(|time| time > around.slow_model));
        Arc::new(Self {
            spec,
            id: NEXT_ID.fetch_add(1, Relaxed),
            crash_line: format!("run {} {}\n", metrics.pipeline, metrics.version),
            metrics,
            pool: around.pool.clone(),
            lanes: around.lanes.clone(),
            max_queue_rows: around.max_queue_rows,
            pooled: Mutex::default(),
            scheduled: AtomicBool::new(false),
            running_rows: AtomicUsize::new(0),
            slow,
            row_ns: AtomicU64::new(row_ns),
        })
    }

    /// Whether a batch of *rows* would hold a reactor up.
    #[inline]
    pub(crate) fn needs_compute_thread(&self, rows: usize) -> bool {
        self.slow || (rows as u64).saturating_mul(self.row_ns.load(Relaxed)) > REACTOR_BUDGET_NS
    }

    /// Time of a row in a batch, in nanoseconds.
    pub(crate) fn row_ns(&self) -> u64 {
        self.row_ns.load(Relaxed)
    }

    /// Learn from a batch of *rows* that took *elapsed*.
    pub(crate) fn learn(&self, rows: usize, elapsed: Duration) {
        let seen = elapsed.as_nanos() as u64 / rows.max(1) as u64;
        let known = self.row_ns.load(Relaxed);
        // Where one row takes long, the fixed cost of a run does not matter.
        if rows >= TELLING_ROWS || self.slow || seen < known {
            self.row_ns.store(known - known / 8 + seen / 8, Relaxed);
        }
    }

    /// Why *request* may not join *waiting* rows that *threads* run, if so: no room, or its deadline would pass first.
    #[inline]
    pub(crate) fn refusal(&self, waiting: usize, request: &Request, threads: usize) -> Option<Error> {
        let ahead = waiting + self.running_rows.load(Relaxed);
        // With nothing ahead it is run whatever the estimate says, so that a wrong estimate is corrected.
        if ahead == 0 {
            return None;
        }
        let ahead_ns = (ahead as u64).saturating_mul(self.row_ns()) / threads.max(1) as u64;
        let own_ns = (request.rows as u64).saturating_mul(self.row_ns());
        let done = request.arrived + Duration::from_nanos(ahead_ns.saturating_add(own_ns));
        let late = request.deadline.is_some_and(|deadline| done > deadline);
        if (waiting == 0 || waiting + request.rows <= self.max_queue_rows) && !late {
            return None;
        }
        let after = retry_after(ahead, self.row_ns() / threads.max(1) as u64, request.arrived);
        let why = if late { "the deadline would pass while waiting" } else { "too many rows wait for this pipeline" };
        Some(Error::overloaded(format!("{why}; {ahead} rows are ahead, try again in {} ms", after.as_millis().max(1)), after))
    }

    /// How much goes into a batch that is formed *now*.
    pub(crate) fn batch_limits(&self, now: Instant) -> BatchLimits {
        // Rows are joined only where the model takes them together.
        let joined = self.spec.signature.batch_mode == BatchMode::Rows;
        let requests = if joined { usize::MAX } else { 1 };
        BatchLimits { rows: self.spec.max_batch_rows, requests, row_ns: self.row_ns(), now }
    }
}

impl Drop for Program {
    /// Whoever lets a program go last may be a lane, and releasing a session takes milliseconds to seconds.
    fn drop(&mut self) {
        if lane::is_here() {
            self.pool.free(std::mem::take(&mut self.spec.steps));
        }
    }
}

/// A handle on a program that takes its requests. Once it is dropped nothing more comes, and lanes let the program go.
pub struct ProgramTarget(pub(crate) Arc<Program>);

impl Drop for ProgramTarget {
    fn drop(&mut self) {
        self.0.lanes.forget(self.0.id);
    }
}

impl Dispatch for ProgramTarget {
    fn submit(&self, request: Request) {
        let program = &self.0;
        if program.needs_compute_thread(request.rows) {
            program.pool.submit(program, request);
        } else {
            lane::submit(program, request);
        }
    }
}

/// Run *inputs*, which were bound to the signature, on the caller's thread.
pub fn run_local(spec: &ProgramSpec, inputs: &[Tensor], rows: usize) -> Result<(Tensors, StepTimes)> {
    Runner::default().run_rows(spec, inputs, rows, &mut |_| true).map_err(|stopped| match stopped {
        Stopped::Failed(error) => error,
        Stopped::Nobody => Error::internal("a local run stopped although its caller waits"),
    })
}

/// The answer made of *outputs*.
pub(crate) fn answer(outputs: Tensors, queue_ns: u64, steps_ns: &StepTimes, batch_rows: usize) -> Answer {
    let timing = bettong_frame::Timing { queue_ns, steps_ns: steps_ns.clone(), batch_rows };
    Answer { outputs, timing }
}
