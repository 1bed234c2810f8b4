//! Joining requests, running steps, splitting answers.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use bettong_frame::{BatchMode, Error, Request, Result, Shape, Tensor};
use bettong_runtimes::View;
use bytes::BytesMut;
use smallvec::SmallVec;

use crate::buffer::{AlignedBuffer, is_aligned};
use crate::crash;
use crate::program::{Program, ProgramSpec, Source, answer};
use crate::queue::{Unwanted, deadline_exceeded, unwanted};

/// Tensors of one step or request.
pub type Tensors = SmallVec<[Tensor; 2]>;

/// Nanoseconds of each step.
pub type StepTimes = SmallVec<[u64; 4]>;

/// Scratch memory above this is given back after a run.
const KEEP_SCRATCH_BYTES: usize = 4 << 20;

/// A request of more rows is run in pieces of this many, so that intermediate results stay in the caches.
const PIECE_ROWS: usize = 4096;

/// Why a run gave nothing.
pub enum Stopped {
    /// The model failed.
    Failed(Error),
    /// Every deadline has passed, or every client has left.
    Nobody,
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Outputs with the time of each step, or why there are none.
pub type Outcome = std::result::Result<(Tensors, StepTimes), Stopped>;

/// Says whether anybody still waits for what runs.
pub type Wanted<'a> = &'a mut dyn FnMut(Instant) -> bool;

/// Runs batches on one thread, reusing its memory.
#[derive(Default)]
pub struct Runner {
    /// For inputs that do not lie on a boundary of their element type.
    realigned: Vec<AlignedBuffer>,
}

impl Runner {
    /// Run *batch* and answer each of its requests. A request that breaks the batch fails alone.
    pub fn run_batch(&mut self, program: &Program, batch: &mut Vec<Request>, formed: Instant) {
        let rows: usize = batch.iter().map(|request| request.rows).sum();
        program.metrics.batch_rows.observe(rows as u64);
        program.running_rows.fetch_add(rows, Relaxed);
        let running = crash::running(&program.crash_line);
        let outcome = self.run_requests(&program.spec, batch, rows);
        drop(running);
        program.running_rows.fetch_sub(rows, Relaxed);
        match outcome {
            Ok((outputs, steps_ns)) => {
                let done = Instant::now();
                program.learn(rows, done - formed);
                program.metrics.note_inference();
                for (step, &elapsed) in program.metrics.steps.iter().zip(&steps_ns) {
                    step.run.observe(elapsed);
                }
                answer_all(program, batch, outputs, &steps_ns, (formed, done, rows));
            }
            Err(Stopped::Nobody) => batch.drain(..).for_each(answer_unwanted),
            Err(Stopped::Failed(error)) if batch.len() == 1 => {
                let error = self.locate(&program.spec, &batch[0], error);
                batch.drain(..).for_each(|request| request.reply.answer(Err(error.clone())));
            }
            Err(Stopped::Failed(_)) => {
                let mut second = batch.split_off(batch.len() / 2);
                self.run_batch(program, batch, formed);
                self.run_batch(program, &mut second, formed);
            }
        }
    }

    fn run_requests(&mut self, spec: &ProgramSpec, batch: &mut [Request], rows: usize) -> Outcome {
        if let [request] = batch {
            let inputs = std::mem::take(&mut request.inputs);
            let outcome = self.run_rows(spec, &inputs, rows, &mut |now| is_wanted(batch, now));
            batch[0].inputs = inputs;
            return outcome;
        }
        let inputs: Tensors = (0..spec.signature.inputs.len()).map(|at| join_input(batch, at, rows)).collect();
        self.run_rows(spec, &inputs, rows, &mut |now| is_wanted(batch, now))
    }

    /// Run inputs of *rows* rows as the batch mode says.
    ///
    /// *wanted* is asked between steps and between pieces whether anybody still waits.
    pub fn run_rows(&mut self, spec: &ProgramSpec, inputs: &[Tensor], rows: usize, wanted: Wanted<'_>) -> Outcome {
        let piece = match spec.signature.batch_mode {
            BatchMode::Whole => rows,
            BatchMode::Single => 1,
            BatchMode::Rows => PIECE_ROWS,
        };
        if rows <= piece {
            return self.run_steps(spec, inputs, wanted);
        }
        let mut pieces: Vec<Tensors> = Vec::with_capacity(rows.div_ceil(piece));
        let mut times: StepTimes = smallvec::smallvec![0; spec.steps.len()];
        let mut at = 0;
        while at < rows {
            let count = piece.min(rows - at);
            let part: Tensors = inputs.iter().map(|input| input.slice_rows(at, count)).collect();
            let (outputs, part_times) = self.run_steps(spec, &part, wanted)?;
            if !wanted(Instant::now()) {
                return Err(Stopped::Nobody);
            }
            times.iter_mut().zip(part_times).for_each(|(sum, time)| *sum += time);
            pieces.push(outputs);
            at += count;
        }
        Ok((concatenate(&pieces, rows)?, times))
    }

    /// Run every step once over *inputs*.
    fn run_steps(&mut self, spec: &ProgramSpec, inputs: &[Tensor], wanted: Wanted<'_>) -> Outcome {
        let mut produced: SmallVec<[Tensors; 2]> = SmallVec::new();
        let mut times = StepTimes::new();
        let mut start = Instant::now();
        for (at, step) in spec.steps.iter().enumerate() {
            if at > 0 && !wanted(start) {
                return Err(Stopped::Nobody);
            }
            let given: SmallVec<[&Tensor; 4]> = step.inputs.iter().map(|&source| find(inputs, &produced, source)).collect();
            let outputs = self.run_model(step.model.as_ref(), &given)?;
            drop(given);
            produced.push(outputs);
            let end = Instant::now();
            times.push((end - start).as_nanos() as u64);
            start = end;
        }
        let outputs = if let [only] = &mut produced[..]
            && is_identity(&spec.outputs, only.len())
        {
            std::mem::take(only)
        } else {
            spec.outputs.iter().map(|&source| find(inputs, &produced, source).clone()).collect()
        };
        Ok((outputs, times))
    }

    fn run_model(&mut self, model: &dyn bettong_runtimes::Model, given: &[&Tensor]) -> Result<Tensors> {
        self.realigned.resize_with(given.len().max(self.realigned.len()), AlignedBuffer::default);
        let mut views: SmallVec<[View<'_>; 4]> = SmallVec::new();
        for (tensor, buffer) in given.iter().zip(&mut self.realigned) {
            views.push(View { dtype: tensor.dtype, shape: &tensor.shape, data: aligned(tensor, buffer) });
        }
        let outputs = model.run(&views);
        drop(views);
        self.realigned.iter_mut().for_each(|buffer| buffer.shrink(KEEP_SCRATCH_BYTES));
        outputs
    }

    /// Name the row of *request* that breaks it, if one does alone.
    fn locate(&mut self, spec: &ProgramSpec, request: &Request, error: Error) -> Error {
        if spec.signature.batch_mode != BatchMode::Rows || request.rows < 2 {
            return error;
        }
        let (mut from, mut to) = (0, request.rows);
        let mut last = error;
        while to - from > 1 {
            let middle = from + (to - from) / 2;
            match self.try_rows(spec, request, from, middle) {
                Err(first_half) => (to, last) = (middle, first_half),
                Ok(()) => match self.try_rows(spec, request, middle, to) {
                    Err(second_half) => (from, last) = (middle, second_half),
                    Ok(()) => return last,
                },
            }
        }
        Error { message: format!("row {from}: {}", last.message).into(), ..last }
    }

    fn try_rows(&mut self, spec: &ProgramSpec, request: &Request, from: usize, to: usize) -> Result<()> {
        let part: Tensors = request.inputs.iter().map(|input| input.slice_rows(from, to - from)).collect();
        match self.run_rows(spec, &part, to - from, &mut |_| true) {
            Err(Stopped::Failed(error)) => Err(error),
            Ok(_) | Err(Stopped::Nobody) => Ok(()),
        }
    }
}

/// Whether anybody waits for *batch* at *now*.
fn is_wanted(batch: &mut [Request], now: Instant) -> bool {
    batch.iter_mut().any(|request| request.deadline.is_none_or(|deadline| deadline > now) && !request.reply.is_abandoned())
}

/// Answer a request that nobody waits for.
fn answer_unwanted(mut request: Request) {
    // It was not wanted a moment ago, which does not change; it is answered all the same if it did.
    let why = unwanted(&mut request, Instant::now()).unwrap_or(Unwanted::Late);
    request.reply.answer(Err(why.error()));
}

/// The bytes of *tensor* where its elements can be read, copied only when they must be.
#[inline]
fn aligned<'a>(tensor: &'a Tensor, buffer: &'a mut AlignedBuffer) -> &'a [u8] {
    match tensor.dtype.size() {
        Some(size) if size > 1 && !is_aligned(&tensor.data, size) => {
            buffer.clear();
            buffer.extend(&tensor.data);
            buffer.bytes()
        }
        _ => &tensor.data,
    }
}

fn find<'a>(inputs: &'a [Tensor], produced: &'a [Tensors], source: Source) -> &'a Tensor {
    match source {
        Source::Input(input) => &inputs[input],
        Source::Step { step, output } => &produced[step][output],
    }
}

fn is_identity(outputs: &[Source], produced: usize) -> bool {
    outputs.len() == produced && outputs.iter().enumerate().all(|(at, &source)| source == Source::Step { step: 0, output: at })
}

fn concatenate(pieces: &[Tensors], rows: usize) -> Result<Tensors> {
    let Some(first) = pieces.first() else { return Ok(Tensors::new()) };
    first
        .iter()
        .enumerate()
        .map(|(at, head)| {
            let mut data = BytesMut::with_capacity(pieces.iter().map(|piece| piece[at].data.len()).sum());
            let mut seen = 0;
            for piece in pieces {
                if piece[at].shape.get(1..) != head.shape.get(1..) {
                    return Err(Error::internal("the model gives outputs of different shapes for different rows"));
                }
                seen += piece[at].rows();
                data.extend_from_slice(&piece[at].data);
            }
            if seen != rows {
                return Err(wrong_rows(rows, seen));
            }
            let mut shape: Shape = head.shape.clone();
            if let Some(count) = shape.first_mut() {
                *count = rows as i64;
            }
            Ok(Tensor { dtype: head.dtype, shape, data: data.freeze() })
        })
        .collect()
}

#[cold]
fn wrong_rows(wanted: usize, found: usize) -> Error {
    Error::internal(format!("the model gave {found} rows for {wanted}"))
}

/// Split *outputs* over the requests of *batch*, in order.
fn answer_all(
    program: &Program,
    batch: &mut Vec<Request>,
    outputs: Tensors,
    steps_ns: &StepTimes,
    run: (Instant, Instant, usize),
) {
    let (formed, done, rows) = run;
    let whole = program.spec.signature.batch_mode == BatchMode::Whole;
    let wrong = if whole { None } else { outputs.iter().map(Tensor::rows).find(|&found| found != rows) };
    let alone = batch.len() == 1;
    let mut outputs = Some(outputs);
    let mut at = 0;
    for request in batch.drain(..) {
        let queue_ns = formed.saturating_duration_since(request.arrived).as_nanos() as u64;
        let count = request.rows;
        let outcome = if let Some(found) = wrong {
            Err(wrong_rows(rows, found))
        } else if request.deadline.is_some_and(|deadline| deadline <= done) {
            Err(deadline_exceeded())
        } else if alone {
            Ok(answer(outputs.take().unwrap_or_default(), queue_ns, steps_ns, rows))
        } else {
            let all = outputs.as_deref().unwrap_or_default();
            let part = all.iter().map(|output| output.slice_rows(at, count)).collect();
            Ok(answer(part, queue_ns, steps_ns, rows))
        };
        at += count;
        if outcome.is_ok() {
            program.metrics.queue.observe(queue_ns);
            program.metrics.total.observe(done.saturating_duration_since(request.arrived).as_nanos() as u64);
            program.metrics.rows.add(count as u64);
        }
        request.reply.answer(outcome);
    }
}

fn join_input(batch: &[Request], at: usize, rows: usize) -> Tensor {
    let first = &batch[0].inputs[at];
    let mut data = BytesMut::with_capacity(batch.iter().map(|request| request.inputs[at].data.len()).sum());
    for request in batch {
        data.extend_from_slice(&request.inputs[at].data);
    }
    let mut shape = first.shape.clone();
    if let Some(count) = shape.first_mut() {
        *count = rows as i64;
    }
    Tensor { dtype: first.dtype, shape, data: data.freeze() }
}
