//! What processes of a cluster say to each other (`bettong/internal/v1/link.proto`), read and written by hand: tensors stay
//! slices of the message that they came in, and large ones are sent as they are.

mod read;
mod tensors;
mod write;

use std::time::Duration;

use bettong_frame::{Error, ErrorKind, Tensor};
use bytes::Bytes;

pub use read::{Item, decode};
pub use tensors::{Tensors, decode_tensors};
pub use write::BundleWriter;

/// Path of the one method.
pub const PATH: &str = "/bettong.internal.v1.Link/Exchange";

/// Version of the protocol that is spoken.
pub const PROTOCOL: u32 = 1;

/// The inputs of a call or the outputs of an outcome.
#[derive(Clone, Debug)]
pub enum Body {
    /// Decoded.
    Tensors(Tensors),
    /// As they came: the content of a `Tensors` message.
    Raw(Bytes),
}

impl Body {
    /// Bytes of the tensors, about.
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Tensors(tensors) => tensors.iter().map(|tensor: &Tensor| tensor.data.len()).sum(),
            Self::Raw(raw) => raw.len(),
        }
    }
}

/// A request without its inputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallHead {
    /// Unique on its link.
    pub sequence: u64,
    /// Index of the name of its pipeline version.
    pub name: u32,
    /// Rows of every input.
    pub rows: u32,
    /// Time until the answer is of no more use.
    pub timeout: Option<Duration>,
    /// How often it has been tried before.
    pub attempt: u32,
    /// The client's, or the gateway's for it; empty if there is none.
    pub request_id: Bytes,
    /// W3C trace context; empty if there is none.
    pub traceparent: Bytes,
}

/// What became of a call, without its outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutcomeHead {
    /// The call's.
    pub sequence: u64,
    /// Set when it failed.
    pub failure: Option<Failure>,
    /// From its arrival at the executor until its batch was formed.
    pub queue_ns: u64,
    /// Each step's run of the whole batch.
    pub steps_ns: smallvec::SmallVec<[u64; 4]>,
    /// Rows of the batch that it rode in.
    pub batch_rows: u32,
    /// Rows that wait at the sender.
    pub waiting_rows: u32,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the client is told.
    pub error: Error,
    /// Whether it was certainly not run.
    pub not_run: bool,
}

/// Who is at the other end of a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// Version of the protocol.
    pub protocol: u32,
    /// Name of the cluster.
    pub cluster: String,
    /// Gateway, router or executor.
    pub role: String,
    /// Name among those of the role.
    pub member: String,
    /// Revision at which it joined.
    pub epoch: u64,
    /// Version of the product.
    pub version: String,
    /// Counts the connections of this side.
    pub round: u64,
    /// Calls that may be open at once for each pipeline.
    pub window_calls: u32,
    /// Their bytes.
    pub window_bytes: u64,
}

/// The kind of failure that a code of `google.rpc.Code` stands for.
fn kind_of(code: u64, too_large: bool) -> ErrorKind {
    match code {
        1 => ErrorKind::Cancelled,
        3 => ErrorKind::InvalidArgument,
        4 => ErrorKind::DeadlineExceeded,
        5 => ErrorKind::NotFound,
        8 if too_large => ErrorKind::TooLarge,
        8 => ErrorKind::ResourceExhausted,
        12 => ErrorKind::Unimplemented,
        14 => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    }
}
