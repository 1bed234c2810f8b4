//! Who runs what: read without a lock, replaced as a whole.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bettong_link::ProgramName;
use smallvec::SmallVec;

use crate::flight::Flight;
use crate::peer::Peer;

/// Another process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerAddress {
    /// Role and name.
    pub name: String,
    /// `host:port`.
    pub address: String,
    /// Revision at which it joined.
    pub epoch: u64,
}

/// Who runs a pipeline version.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Its version.
    pub version: String,
    /// Positions among the peers.
    pub replicas: Vec<usize>,
}

/// All that a forwarder shall know.
#[derive(Clone, Debug, Default)]
pub struct TableUpdate {
    /// By the sender's counter.
    pub revision: u64,
    /// All other processes.
    pub peers: Vec<PeerAddress>,
    /// Who runs which pipeline version.
    pub destinations: Vec<Destination>,
    /// Who takes every pipeline version that is not among the destinations. Positions among the peers.
    pub any: Vec<usize>,
}

type Replicas = SmallVec<[Arc<Peer>; 4]>;

/// One state of the table.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) revision: u64,
    pub(crate) peers: Vec<Arc<Peer>>,
    /// By index of the name, which is held so that it stays.
    pub(crate) by_name: HashMap<u32, (Arc<ProgramName>, Replicas), foldhash::fast::FixedState>,
    pub(crate) any: Vec<Arc<Peer>>,
}

impl Table {
    /// The peer that shall take *flight*: none that has been asked, and none that has failed a moment ago.
    #[inline]
    pub(crate) fn pick(&self, flight: &Flight, now: Instant) -> Option<&Arc<Peer>> {
        let free = |peer: &&Arc<Peer>| !flight.tried.contains(&peer.id) && !peer.is_ejected(now);
        let Some((_, replicas)) = self.by_name.get(&flight.ask.name.index) else {
            // Each pipeline has an order of its own among the routers.
            return self.any.iter().filter(free).max_by_key(|peer| mix(peer.hash, flight.ask.name.hash));
        };
        if let [only] = &replicas[..] {
            return Some(only).filter(free);
        }
        let candidates: SmallVec<[&Arc<Peer>; 16]> = replicas.iter().filter(free).collect();
        least_of_two(&candidates, now)
    }

    /// Whether more than one runs what *flight* asks for.
    pub(crate) fn has_choice(&self, flight: &Flight) -> bool {
        self.by_name.get(&flight.ask.name.index).is_some_and(|(_, replicas)| replicas.len() > 1)
    }

    /// Whether anybody could ever take *flight*.
    pub(crate) fn knows(&self, flight: &Flight) -> bool {
        !self.any.is_empty() || self.by_name.get(&flight.ask.name.index).is_some_and(|(_, replicas)| !replicas.is_empty())
    }
}

/// Of two different candidates at random, the one with less to do (M. Mitzenmacher, "The power of two choices in randomized
/// load balancing", IEEE TPDS 12(10), 2001).
#[inline]
fn least_of_two<'a>(candidates: &[&'a Arc<Peer>], now: Instant) -> Option<&'a Arc<Peer>> {
    match candidates {
        [] => None,
        [only] => Some(only),
        _ => {
            let random = next_random();
            let count = candidates.len() as u64;
            let first = (random >> 32) % count;
            let second = (first + 1 + (random & 0xFFFF_FFFF) % (count - 1)) % count;
            let (first, second) = (candidates[first as usize], candidates[second as usize]);
            Some(if second.load(now) < first.load(now) { second } else { first })
        }
    }
}

/// Xorshift (G. Marsaglia, "Xorshift RNGs", JSS 8(14), 2003): nothing here needs to be unpredictable.
fn next_random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(std::ptr::from_ref(&STATE_SEED) as u64 ^ u64::from(std::process::id()) << 32 | 1);
    }
    static STATE_SEED: u8 = 0;
    STATE.with(|state| {
        let mut x = state.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        state.set(x);
        x
    })
}

#[inline]
fn mix(one: u64, other: u64) -> u64 {
    let mut x = one ^ other.rotate_left(32);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
