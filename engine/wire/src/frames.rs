//! Frames: named columns of equal length, as the native routes take them.

use arrow_array::RecordBatch;
use bettong_frame::{Columns, Input, Signature};

/// A frame that a client gave.
#[derive(Debug)]
pub struct Frame {
    /// Columns that can be inputs, for [`bettong_frame::bind()`]. They own nothing of the body but slices.
    pub columns: Columns<'static>,
    /// Rows of every column.
    pub rows: usize,
    /// All columns as they came, for the reply's `in`.
    pub(crate) given: Given,
}

/// The columns of a frame as they came.
#[derive(Debug)]
pub(crate) enum Given {
    /// They are the tensors of [`Frame::columns`].
    Tensors,
    /// As Arrow, including columns that are no tensors.
    Arrow(Vec<RecordBatch>),
}

/// The input that a column called *name* is for; *alone* says that the frame has no other column.
pub(crate) fn input_for<'s>(signature: &'s Signature, name: &str, alone: bool) -> Option<&'s Input> {
    let called = signature.inputs.iter().find(|input| input.is_called(name));
    let lone = || if alone && signature.inputs.len() == 1 { signature.inputs.first() } else { None };
    let part = || signature.inputs.iter().find(|input| input.parts.iter().any(|part| **part == *name));
    called.or_else(part).or_else(lone)
}
