//! Wire formats of the data port, as pure functions on bytes.
//!
//! * [`grpc`]: framing, time-outs and statuses above HTTP/2; [`proto`]: generated messages.
//! * [`oip_pb`]: the Open Inference Protocol's infer messages in protobuf, on the hot path.

mod contents;
pub mod grpc;
pub mod oip_pb;
mod pb;
pub mod proto;
