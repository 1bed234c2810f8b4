//! The two models: one that does nothing, and one that ONNX Runtime runs.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bettong_frame::{BatchMode, DType, Result, Shape, Tensor, TensorSpec};
use bettong_runtimes::onnx::OnnxModel;
use bettong_runtimes::{Model, ModelInfo, View};
use bytes::Bytes;
use smallvec::SmallVec;

/// Features of a row, as many as a card transaction has.
pub const FEATURES: usize = 29;

/// Rows of the largest batch that the lanes form.
pub const MAX_BATCH_ROWS: usize = 256;

/// Time of a row that lanes are told, so that a slow machine (or a simulated one) does not make them choose another way.
const ROW_TIME: Duration = Duration::from_micros(1);

static ELSEWHERE: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static ON_LANE: Cell<bool> = const { Cell::new(false) };
}

/// Runs on the calling thread are on the lane from now on.
pub extern "C" fn this_is_the_lane() {
    ON_LANE.set(true);
}

/// Runs on other threads so far. A lane hands a batch to compute threads when it expects that it takes long, which a pause of
/// the machine can make it believe; such a run is not what is counted.
pub fn runs_elsewhere() -> u64 {
    ELSEWHERE.load(Relaxed)
}

fn note_thread() {
    if !ON_LANE.get() {
        ELSEWHERE.fetch_add(1, Relaxed);
    }
}

/// Gives 0 for each row and computes nothing, so that what is counted is the engine.
pub struct NoOp {
    info: ModelInfo,
}

impl NoOp {
    /// It takes and gives what the other model does.
    pub fn new() -> Self {
        let spec =
            |name: &str, width: i64| TensorSpec { name: name.into(), dtype: DType::Fp32, shape: Shape::from_slice(&[-1, width]) };
        let info = ModelInfo {
            inputs: vec![spec("features", FEATURES as i64)],
            outputs: vec![spec("score", 1)],
            batch_mode: BatchMode::Rows,
            row_time: Some(ROW_TIME),
        };
        Self { info }
    }
}

impl Model for NoOp {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn run(&self, inputs: &[View<'_>]) -> Result<SmallVec<[Tensor; 2]>> {
        static ZEROS: [u8; 4 * MAX_BATCH_ROWS] = [0; 4 * MAX_BATCH_ROWS];
        note_thread();
        let rows = inputs[0].shape[0];
        let data = Bytes::from_static(&ZEROS[..4 * rows as usize]);
        Ok(smallvec::smallvec![Tensor { dtype: DType::Fp32, shape: Shape::from_slice(&[rows, 1]), data }])
    }
}

/// A model whose measured time is replaced by [`ROW_TIME`].
pub struct Steady {
    inner: OnnxModel,
    info: ModelInfo,
}

impl Steady {
    /// *inner*, as if a row of it took [`ROW_TIME`].
    pub fn new(inner: OnnxModel) -> Self {
        let info = ModelInfo { row_time: Some(ROW_TIME), ..inner.info().clone() };
        Self { inner, info }
    }
}

impl Model for Steady {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn run(&self, inputs: &[View<'_>]) -> Result<SmallVec<[Tensor; 2]>> {
        note_thread();
        self.inner.run(inputs)
    }
}
