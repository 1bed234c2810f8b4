//! ONNX Runtime through its C API (<https://onnxruntime.ai/docs/api/c/>).

mod library;
mod run;
mod session;

pub use library::OnnxRuntime;
pub use session::OnnxModel;
