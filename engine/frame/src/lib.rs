//! What flows through the engine: tensors, signatures, requests, replies and errors.
//!
//! * [`dtype`]: element types and their names.
//! * [`tensor`]: contiguous bytes with a dtype and a shape.
//! * [`signature`]: what a pipeline takes and gives, and [`bind`]ing of given columns to it.
//! * [`request`]: a batch of rows on its way, and who waits for it.
//! * [`error`]: everything that can go wrong, once for all protocols.

pub mod bind;
pub mod cast;
pub mod dtype;
pub mod error;
pub mod request;
pub mod signature;
pub mod tensor;

pub use bind::{Columns, bind};
pub use dtype::DType;
pub use error::{Error, ErrorKind, Result};
pub use request::{Answer, Dispatch, Reactors, Reply, Request, Route, Task, Timing, Trace};
pub use signature::{BatchMode, Input, Signature, TensorSpec};
pub use tensor::{Shape, Tensor};
