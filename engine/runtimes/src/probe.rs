//! The first runs of a model, on zeros: do rows go through independently in count, and how long does one take?

use std::time::{Duration, Instant};

use bettong_frame::tensor::element_count;
use bettong_frame::{BatchMode, Result, Shape, Tensor, TensorSpec};
use smallvec::SmallVec;

use crate::{Model, View};

/// A declared input or output, with the name of its first dimension if it is free.
pub struct Declared {
    /// Name, dtype and shape.
    pub spec: TensorSpec,
    /// For example `"batch"` or `"N"`.
    pub rows_symbol: Option<String>,
}

/// What the first runs showed.
pub struct Probed {
    /// How rows may be joined.
    pub batch_mode: BatchMode,
    /// Time of a run of one row; `None` when zeros could not be run.
    pub row_time: Option<Duration>,
}

/// Free dimensions other than rows are probed with this size.
const FREE_DIM: i64 = 1;

/// Runs of one row that are timed, after one to warm up.
const TIMED_RUNS: usize = 3;

/// Run the model on zeros.
pub fn probe(model: &dyn Model, inputs: &[Declared], outputs: &[Declared]) -> Probed {
    let declared = declared_mode(inputs, outputs);
    let Ok(one) = run_zeros(model, inputs, 1) else {
        let trusted = declared == BatchMode::Rows && one_symbol(inputs, outputs);
        let batch_mode = if trusted || declared == BatchMode::Single { declared } else { BatchMode::Whole };
        return Probed { batch_mode, row_time: None };
    };
    let row_time = (0..TIMED_RUNS)
        .filter_map(|_| {
            let start = Instant::now();
            run_zeros(model, inputs, 1).ok().map(|_| start.elapsed())
        })
        .min();
    let batch_mode = match declared {
        BatchMode::Rows if gives_rows(&one, 1) && run_zeros(model, inputs, 2).is_ok_and(|two| gives_rows(&two, 2)) => {
            BatchMode::Rows
        }
        BatchMode::Single if gives_rows(&one, 1) => BatchMode::Single,
        _ => BatchMode::Whole,
    };
    Probed { batch_mode, row_time }
}

/// What the first dimensions say: all free, all one, or something else.
fn declared_mode(inputs: &[Declared], outputs: &[Declared]) -> BatchMode {
    let all = |dim: i64| inputs.iter().chain(outputs).all(|declared| declared.spec.shape.first() == Some(&dim));
    let inputs_free = !inputs.is_empty() && inputs.iter().all(|declared| declared.spec.shape.first() == Some(&-1));
    let outputs_ranked = outputs.iter().all(|declared| !declared.spec.shape.is_empty());
    if inputs_free && outputs_ranked {
        BatchMode::Rows
    } else if !inputs.is_empty() && all(1) {
        BatchMode::Single
    } else {
        BatchMode::Whole
    }
}

fn one_symbol(inputs: &[Declared], outputs: &[Declared]) -> bool {
    let first = inputs.first().and_then(|declared| declared.rows_symbol.as_deref());
    first.is_some() && inputs.iter().chain(outputs).all(|declared| declared.rows_symbol.as_deref() == first)
}

fn gives_rows(outputs: &[Tensor], rows: i64) -> bool {
    outputs.iter().all(|output| output.shape.first() == Some(&rows))
}

fn run_zeros(model: &dyn Model, inputs: &[Declared], rows: i64) -> Result<SmallVec<[Tensor; 2]>> {
    let shapes: Vec<Shape> = inputs.iter().map(|input| zero_shape(&input.spec.shape, rows)).collect();
    let data: Vec<Vec<u64>> = inputs.iter().zip(&shapes).map(|(input, shape)| zeros(input, shape)).collect();
    let views: Vec<View<'_>> = inputs
        .iter()
        .zip(&shapes)
        .zip(&data)
        .map(|((input, shape), data)| {
            let count = element_count(shape).unwrap_or(0);
            let len = count * input.spec.dtype.size().unwrap_or(EMPTY_STRING_BYTES);
            View { dtype: input.spec.dtype, shape, data: &bytes_of(data)[..len] }
        })
        .collect();
    model.run(&views)
}

/// An empty string is its length alone.
const EMPTY_STRING_BYTES: usize = 4;

fn zero_shape(shape: &[i64], rows: i64) -> Shape {
    shape
        .iter()
        .enumerate()
        .map(|(at, &dim)| {
            if dim >= 0 {
                dim
            } else if at == 0 {
                rows
            } else {
                FREE_DIM
            }
        })
        .collect()
}

/// Zeros for *shape*, in words so that they are aligned; as byte strings they are empty ones.
fn zeros(input: &Declared, shape: &[i64]) -> Vec<u64> {
    let size = input.spec.dtype.size().unwrap_or(EMPTY_STRING_BYTES);
    vec![0; (element_count(shape).unwrap_or(0) * size).div_ceil(8).max(1)]
}

fn bytes_of(words: &[u64]) -> &[u8] {
    // SAFETY: every byte of a word is a valid u8, the length is that of the words, and alignment only gets weaker.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}
