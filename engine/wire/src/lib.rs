//! Wire formats of the data port, as pure functions on bytes.
//!
//! * [`grpc`]: framing, time-outs and statuses above HTTP/2; [`proto`]: generated messages.
//! * [`oip_pb`]: the Open Inference Protocol's infer messages in protobuf, on the hot path.
//! * [`oip_json`]: the same over HTTP, as JSON with binary tensors.
//! * [`records`] and [`arrow`]: frames as JSON records and as Arrow IPC; [`frames`]: what they are read as;
//!   [`reply`]: what is answered, of which [`dataset`] chooses.
//! * [`link`]: what processes of a cluster say to each other about requests.
//! * [`openapi`]: the document that describes all of it over HTTP.

pub mod arrow;
mod contents;
pub mod dataset;
pub mod frames;
pub mod grpc;
mod json;
pub mod link;
pub mod oip_json;
pub mod oip_pb;
pub mod openapi;
mod pb;
pub mod proto;
pub mod records;
pub mod reply;
