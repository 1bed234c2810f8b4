//! Calls between the processes of a cluster: bundles of them on persistent gRPC streams.
//!
//! * [`client`]: the side that makes calls; one [`Link`] for each lane and peer.
//! * [`service`]: the side that takes calls.
//! * [`host`]: runs the calls that are taken, on this process's own lanes.
//! * [`tls`]: links that both sides prove themselves on.
//! * [`names`]: pipeline versions by a short index.

pub mod client;
mod exchange;
pub mod host;
pub mod names;
mod open_calls;
mod outbox;
pub mod service;
pub mod tls;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bettong_frame::{Error, Result};
use bettong_wire::link::{Hello, PROTOCOL};

pub use client::{Busy, Carry, End, Events, Link};
pub use host::{Host, Hosted};
pub use names::{Names, ProgramName};
pub use outbox::Answering;
pub use service::{Calls, Inbound, Service};
pub use tls::LinkTls;

/// Who we are, for the other side of every link.
#[derive(Debug, Default)]
pub struct Identity {
    /// Name of the cluster; both sides must have the same.
    pub cluster: String,
    /// Gateway, router or executor.
    pub role: String,
    /// Name among those of the role.
    pub member: String,
    /// Revision at which we joined.
    pub epoch: u64,
    /// Version of the product.
    pub version: String,
    rounds: AtomicU64,
}

impl Identity {
    /// An identity.
    pub fn new(cluster: String, role: String, member: String, epoch: u64, version: String) -> Self {
        Self { cluster, role, member, epoch, version, rounds: AtomicU64::new(1) }
    }

    /// Whether *who*, which has said *hello*, is one to talk to.
    fn check(&self, who: &str, hello: &Hello) -> Result<()> {
        let (ours, theirs) = (&self.cluster, &hello.cluster);
        if ours != theirs {
            return Err(Error::invalid(format!("this is cluster '{ours}', {who} belongs to '{theirs}'")));
        }
        if hello.protocol > PROTOCOL {
            let theirs = hello.protocol;
            return Err(Error::invalid(format!("{who} speaks version {theirs} of the protocol of links, we {PROTOCOL}")));
        }
        Ok(())
    }

    /// What begins the next link.
    fn hello(&self) -> Hello {
        Hello {
            protocol: PROTOCOL,
            cluster: self.cluster.clone(),
            role: self.role.clone(),
            member: self.member.clone(),
            epoch: self.epoch,
            version: self.version.clone(),
            round: self.rounds.fetch_add(1, Relaxed),
            window_calls: WINDOW_CALLS,
            window_bytes: WINDOW_BYTES,
        }
    }
}

/// Calls that may be open at once for each pipeline on each link: more than a lane can use, few enough that a slow pipeline
/// does not fill the memory of its executor.
const WINDOW_CALLS: u32 = 4096;

/// Bytes of those calls. One call alone may have more.
const WINDOW_BYTES: u64 = 256 << 20;

/// Calls that are taken beyond their window, and their bytes: its caller counts those as closed that it has cancelled, and we
/// when they are answered.
const SPARE_CALLS: u32 = WINDOW_CALLS / 4;
const SPARE_BYTES: u64 = WINDOW_BYTES / 4;

/// Windows of HTTP/2, which never stand in the way: calls have their own.
const STREAM_WINDOW_BYTES: u32 = 1 << 30;

/// Largest frame that is taken, so that most bundles come in one piece.
const MAX_FRAME_BYTES: u32 = 4 << 20;

/// Largest bundle that is taken: a request of the largest size, and what came with it.
const MAX_BUNDLE_BYTES: usize = 2 << 30;

/// How often a link without calls shows that it lives.
const IDLE_BEAT: Duration = Duration::from_secs(5);
