//! What a pipeline takes and gives.

use std::sync::Arc;

use crate::{DType, Shape};

/// How requests may be joined into one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchMode {
    /// The first dimension is rows; rows of different requests are run together.
    Rows,
    /// The first dimension is rows, but the model takes one at a time.
    Single,
    /// A request is run as it came.
    Whole,
}

/// Name, element type and dimensions (-1 is a free one) of an input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name, as the model file spells it.
    pub name: Arc<str>,
    /// Element type.
    pub dtype: DType,
    /// Dimensions; -1 is a free one.
    pub shape: Shape,
}

/// An input of a pipeline, with the column names that also mean it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// What the first step's model calls it and takes.
    pub spec: TensorSpec,
    /// Column names that also mean this input, best first.
    pub aliases: Vec<Arc<str>>,
    /// Scalar columns that, in this order, make one row of this input.
    pub parts: Vec<Arc<str>>,
}

impl Input {
    /// Whether a column called *name* is meant for this input.
    #[inline]
    pub fn is_called(&self, name: &str) -> bool {
        *self.spec.name == *name || self.aliases.iter().any(|alias| **alias == *name)
    }
}

/// Inputs and outputs of a pipeline, in the models' order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// What must be given.
    pub inputs: Vec<Input>,
    /// What comes back.
    pub outputs: Vec<TensorSpec>,
    /// How requests may be joined.
    pub batch_mode: BatchMode,
}

impl TensorSpec {
    /// Dimensions of one row: all but the first. Empty for scalars and vectors.
    pub fn row_shape(&self) -> &[i64] {
        self.shape.get(1..).unwrap_or_default()
    }
}
