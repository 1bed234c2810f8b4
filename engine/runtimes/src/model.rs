//! What a loaded model is to the rest of the engine.

use std::time::Duration;

use bettong_frame::{BatchMode, DType, Result, Tensor, TensorSpec};
use smallvec::SmallVec;

/// Why a file can't be served.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file is damaged, not a model, or needs something that the runtime lacks.
    #[error("{0}")]
    InvalidModel(String),
    /// The runtime itself can't be used.
    #[error("{0}")]
    Runtime(String),
}

/// What the file says, and what a first run showed.
#[derive(Clone, Debug)]
pub struct ModelInfo {
    /// Inputs in the model's order.
    pub inputs: Vec<TensorSpec>,
    /// Outputs in the model's order.
    pub outputs: Vec<TensorSpec>,
    /// How rows may be joined.
    pub batch_mode: BatchMode,
    /// Time of a run of one row, after warming up; `None` when it could not be run without real data.
    pub row_time: Option<Duration>,
}

/// Contiguous, borrowed data of one input.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Element type.
    pub dtype: DType,
    /// Dimensions.
    pub shape: &'a [i64],
    /// Elements, aligned to their size; length-prefixed for BYTES.
    pub data: &'a [u8],
}

/// A loaded model. Runs may go on at the same time on several threads.
pub trait Model: Send + Sync {
    /// What it takes and gives.
    fn info(&self) -> &ModelInfo;

    /// Run once. Inputs are in the model's order and fit its signature.
    fn run(&self, inputs: &[View<'_>]) -> Result<SmallVec<[Tensor; 2]>>;
}
