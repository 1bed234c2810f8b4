//! Model runtimes, each opened from the shared library inside its wheel.
//!
//! * [`model`]: what a loaded model is to the rest of the engine.
//! * [`onnx`]: ONNX Runtime through its C API.

pub mod model;
pub mod onnx;
mod probe;

pub use model::{LoadError, Model, ModelInfo, View};
