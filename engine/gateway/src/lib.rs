//! The data port: protocols, admission, deadlines.
//!
//! * [`server`]: binding, accepting, draining.
//! * [`routes`]: the table of what is served.
//! * [`admission`]: how much may be under way at once.
//! * [`control`]: requests that the control plane answers.
//! * [`streams`]: streams of other processes.
//! * `connection`, `http1`, `http2`: one client's connection.
//! * `grpc`: the Open Inference Protocol, health and reflection.
//! * `rest`: the Open Inference Protocol and the native routes over HTTP.

mod account;
pub mod admission;
mod connection;
pub mod control;
mod describe;
mod grpc;
mod head;
mod http1;
mod http2;
mod rest;
mod retired;
pub mod routes;
pub mod server;
mod shared;
pub mod streams;

pub use control::{Control, ControlCall, ControlMethod};
pub use routes::{Entry, Routes};
pub use server::{BindError, Gateway, GatewayConfig, GatewayStatus};
pub use streams::Streams;
