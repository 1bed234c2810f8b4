//! Frames as Arrow IPC, file and stream.
//!
//! Columns are taken and given without a look at single values where their layout allows it: what comes in as one batch
//! stays a slice of the body.
//!
//! * `ipc`: messages and batches, with every length checked before the library reads by it.
//! * `columns`: arrays as tensors.
//! * `build`: tensors as arrays; `texts`: what JSON has no type for, as text.

pub(crate) mod build;
pub(crate) mod columns;
mod ipc;
pub(crate) mod texts;

use std::borrow::Cow;
use std::collections::HashSet;

use arrow_array::{Array, ArrayRef, RecordBatch};
use bettong_frame::{Columns, Error, Result, Signature};
use bytes::Bytes;

use crate::frames::{Frame, Given, input_for};

/// The two forms of Arrow IPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArrowKind {
    /// With a footer, for random access.
    File,
    /// Message by message.
    Stream,
}

impl ArrowKind {
    /// Its media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::File => "application/vnd.apache.arrow.file",
            Self::Stream => "application/vnd.apache.arrow.stream",
        }
    }
}

/// Decode an Arrow body of *kind* for a pipeline that takes *signature*.
pub fn decode(body: &Bytes, kind: ArrowKind, signature: &Signature) -> Result<Frame> {
    let batches = ipc::read(body, kind)?;
    let rows = batches.iter().map(RecordBatch::num_rows).sum();
    let Some(schema) = batches.first().map(RecordBatch::schema).filter(|_| rows > 0) else {
        return Err(Error::invalid("the frame has zero rows"));
    };
    let mut names = HashSet::new();
    let mut columns = Columns::new();
    for (at, field) in schema.fields().iter().enumerate() {
        let name = field.name();
        if !names.insert(name.as_str()) {
            return Err(Error::invalid_field(name, format!("column '{name}' is there twice")));
        }
        let chunks: Vec<ArrayRef> =
            batches.iter().map(|batch| batch.column(at).clone()).filter(|chunk| !chunk.is_empty()).collect();
        let flat = columns::flatten(name, &chunks)?;
        if input_for(signature, name, schema.fields().len() == 1).is_some() {
            columns.push((Cow::Owned(name.clone()), columns::tensor(name, flat)?));
        }
    }
    refuse_missing(signature, &columns, &names)?;
    Ok(Frame { columns, rows, given: Given::Arrow(batches) })
}

/// Refuse a frame without an input, naming all of its columns.
fn refuse_missing(signature: &Signature, columns: &Columns<'_>, names: &HashSet<&str>) -> Result<()> {
    let alone = columns.len() == 1 && names.len() == 1 && signature.inputs.len() == 1;
    for input in &signature.inputs {
        let is_given = columns.iter().any(|(name, _)| input.is_called(name) || input.parts.iter().any(|part| **part == **name));
        if !(is_given || alone) {
            let mut given: Vec<&str> = names.iter().copied().collect();
            given.sort_unstable();
            let name = &input.spec.name;
            return Err(Error::invalid_field(name, format!("input '{name}' is missing; given: {given:?}")));
        }
    }
    Ok(())
}
