//! Open Inference Protocol over HTTP: infer requests and responses as JSON, with the binary tensor extension.
//!
//! Values are parsed straight into the bytes of their dtype; binary tensors stay slices of the body.

mod decode;
mod encode;
mod parameters;

pub use decode::{OipRequest, RequestedOutput, decode};
pub use encode::{ReplyHead, Wanted, encode, wanted_outputs};
pub use parameters::{Parameter, Parameters, is_reserved};
