//! Forwarding calls to other processes: which replica takes a call, and what is tried again when one goes away.
//!
//! * [`forwarder`]: what gateways and routers call.
//! * [`table`]: who runs what, read without a lock and replaced as a whole.
//! * `peer`: one other process, its links and how it does.
//! * `flight`: one call on its way, and who waits for it.
//! * `sending`: from the first try to the last.
//! * `hedging`: calls that are asked of two.
//! * `budget`: how much may be tried again.

mod budget;
mod flight;
pub mod forwarder;
mod hedging;
mod peer;
mod sending;
pub mod table;

pub use forwarder::{Forwarder, ForwarderStatus, PeerStatus, Settings};
pub use table::{Destination, PeerAddress, TableUpdate};
