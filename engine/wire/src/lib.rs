//! Wire formats of the data port, as pure functions on bytes.
//!
//! * [`grpc`]: framing, time-outs and statuses above HTTP/2; [`proto`]: generated messages.
//! * [`oip_pb`]: the Open Inference Protocol's infer messages in protobuf, on the hot path.
//! * [`oip_json`]: the same over HTTP, as JSON with binary tensors.
//! * [`records`]: frames as JSON records; [`frames`]: what they are read as.

mod contents;
pub mod frames;
pub mod grpc;
mod json;
pub mod oip_json;
pub mod oip_pb;
mod pb;
pub mod proto;
pub mod records;
