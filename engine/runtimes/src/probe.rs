//! The first runs of a model: do rows go through independently, and how long does one take?
//!
//! Rows of different clients may only be run together if a row's result does not depend on its neighbours. A free first
//! dimension does not promise that (a softmax over it, a mean, a cumulative sum), so it is tried: some made-up rows are run
//! alone and together, and must give the same.

use std::time::{Duration, Instant};

use bettong_frame::cast::to_f64;
use bettong_frame::tensor::{element_count, push_byte_element};
use bettong_frame::{BatchMode, DType, Result, Shape, Tensor, TensorSpec};
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
    /// Time of a run of one row; `None` when made-up rows could not be run.
    pub row_time: Option<Duration>,
}

type Outputs = SmallVec<[Tensor; 2]>;

/// Free dimensions other than rows are probed with this size.
const FREE_DIM: i64 = 1;

/// Runs of one row that are timed, after one that warms up.
const TIMED_RUNS: usize = 3;

/// A model whose row takes longer is run as little as will do.
const SLOW_ROW: Duration = Duration::from_millis(50);

/// Run the model on made-up rows. `known` is how its rows may be joined where that has been found out before; then it is only
/// timed.
pub fn probe(model: &dyn Model, inputs: &[Declared], outputs: &[Declared], known: Option<BatchMode>) -> Probed {
    let declared = declared_mode(inputs, outputs);
    // Made-up numbers may be outside of what a model takes (an index, say); zeros are nearly always inside.
    let fillings = [Filling::Varied, Filling::Zeros];
    let Some((filling, first, first_time)) = fillings.into_iter().find_map(|filling| first_run(model, inputs, filling)) else {
        let trusted = declared == BatchMode::Rows && one_symbol(inputs, outputs);
        let batch_mode = if trusted || declared == BatchMode::Single { declared } else { BatchMode::Whole };
        return Probed { batch_mode: known.unwrap_or(batch_mode), row_time: None };
    };
    let slow = first_time >= SLOW_ROW;
    let independent = || rows_are_independent(model, inputs, filling, first.clone(), slow).unwrap_or(false);
    let batch_mode = known.unwrap_or_else(|| match declared {
        BatchMode::Rows if independent() => BatchMode::Rows,
        BatchMode::Single if gives_rows(&first, 1) => BatchMode::Single,
        _ => BatchMode::Whole,
    });
    let timed = |_| {
        let start = Instant::now();
        run(model, inputs, &[0], filling).ok().map(|_| start.elapsed())
    };
    // What warming up costs is small beside a slow row.
    let row_time = if slow { Some(first_time) } else { (0..TIMED_RUNS).filter_map(timed).min() };
    Probed { batch_mode, row_time }
}

/// Run one made-up row, if the model takes it. Return what it gave, and how long that took.
fn first_run(model: &dyn Model, inputs: &[Declared], filling: Filling) -> Option<(Filling, Outputs, Duration)> {
    let start = Instant::now();
    run(model, inputs, &[0], filling).ok().map(|outputs| (filling, outputs, start.elapsed()))
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

/// Whether rows give the same alone, together, and together in another order. `first` is what the first row gave alone.
fn rows_are_independent(model: &dyn Model, inputs: &[Declared], filling: Filling, first: Outputs, slow: bool) -> Result<bool> {
    let orders: [&[usize]; 2] = if slow { [&[0, 1], &[1, 0]] } else { [&[0, 1, 2], &[2, 0, 1]] };
    let rows = orders[0].len();
    let mut alone = vec![first];
    for row in 1..rows {
        alone.push(run(model, inputs, &[row], filling)?);
    }
    for order in orders {
        let together = run(model, inputs, order, filling)?;
        if !gives_rows(&together, rows as i64) {
            return Ok(false);
        }
        for (place, &row) in order.iter().enumerate() {
            let same = together.iter().zip(&alone[row]).all(|(joined, single)| is_same(&joined.slice_rows(place, 1), single));
            if !same {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Whether two tensors agree within what another order of additions can change.
fn is_same(joined: &Tensor, single: &Tensor) -> bool {
    const RELATIVE: f64 = 1e-3;
    const ABSOLUTE: f64 = 1e-5;
    if joined.shape != single.shape || !joined.dtype.is_float() {
        return joined == single;
    }
    to_f64(joined).zip(to_f64(single)).all(|(a, b)| {
        a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()) || (a - b).abs() <= ABSOLUTE + RELATIVE * a.abs().max(b.abs())
    })
}

/// What made-up rows consist of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Filling {
    /// Another value in each row and place.
    Varied,
    /// Zeros and empty strings.
    Zeros,
}

impl Filling {
    /// A value for *place* of *row*, between -1 and 1, the same at every call.
    fn number(self, row: usize, place: usize) -> f64 {
        if self == Self::Zeros {
            return 0.0;
        }
        let mixed = ((row as u64 + 1) << 32 | place as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 40) as f64 / f64::from(1 << 23) - 1.0
    }

    /// Append the elements of one row of *dtype*.
    fn put_row(self, dtype: DType, row: usize, elements: usize, data: &mut Vec<u8>) {
        for place in 0..elements {
            let number = self.number(row, place);
            // Small whole numbers, because integers are most often indices.
            let whole = (number.abs() * 3.0) as u8;
            match dtype {
                DType::Bytes if self == Self::Zeros => push_byte_element(data, b""),
                DType::Bytes => push_byte_element(data, &[b'a' + whole]),
                DType::Bool => data.push(whole & 1),
                dtype if dtype.is_float() => bettong_frame::cast::put_f64(dtype, number, data),
                dtype => {
                    let size = dtype.size().unwrap_or(1);
                    data.push(whole);
                    data.resize(data.len() + size - 1, 0);
                }
            }
        }
    }
}

/// Run made-up *rows*, by their numbers.
fn run(model: &dyn Model, inputs: &[Declared], rows: &[usize], filling: Filling) -> Result<Outputs> {
    let shapes: Vec<Shape> = inputs.iter().map(|input| sized(&input.spec.shape, rows.len() as i64)).collect();
    let given = inputs.iter().zip(&shapes);
    let data: Vec<(Vec<u64>, usize)> =
        given.clone().map(|(input, shape)| aligned(&data_of(input.spec.dtype, shape, rows, filling))).collect();
    let views: Vec<View<'_>> = given
        .zip(&data)
        .map(|((input, shape), (words, len))| View { dtype: input.spec.dtype, shape, data: &bytes_of(words)[..*len] })
        .collect();
    model.run(&views)
}

fn sized(shape: &[i64], rows: i64) -> Shape {
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

fn data_of(dtype: DType, shape: &[i64], rows: &[usize], filling: Filling) -> Vec<u8> {
    let mut data = Vec::new();
    let elements = element_count(shape).unwrap_or(0);
    for &row in rows {
        filling.put_row(dtype, row, elements / rows.len(), &mut data);
    }
    data
}

/// *data* in words, so that it is aligned for every element type, with its length in bytes.
fn aligned(data: &[u8]) -> (Vec<u64>, usize) {
    let mut words = vec![0_u64; data.len().div_ceil(8).max(1)];
    for (word, bytes) in words.iter_mut().zip(data.chunks(8)) {
        let mut padded = [0; 8];
        padded[..bytes.len()].copy_from_slice(bytes);
        *word = u64::from_ne_bytes(padded);
    }
    (words, data.len())
}

fn bytes_of(words: &[u64]) -> &[u8] {
    // SAFETY: every byte of a word is a valid u8, the length is that of the words, and alignment only gets weaker.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}
