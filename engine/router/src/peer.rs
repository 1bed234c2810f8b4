//! One other process: its links, and how it does.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use bettong_frame::Error;
use bettong_link::client::Endpoint;
use bettong_link::names::hash_name;
use bettong_link::{Busy, End, Events, Link};
use bettong_wire::link::OutcomeHead;
use bytes::Bytes;

use crate::flight::Flight;
use crate::forwarder::Core;
use crate::table::PeerAddress;

/// One other process.
pub struct Peer {
    pub at: PeerAddress,
    /// Unique in this process.
    pub id: u64,
    /// Of its name, the same in every process.
    pub hash: u64,
    /// One for each lane.
    links: Box<[Arc<Link<Box<Flight>>>]>,
    events: OnceLock<Arc<dyn Events<Box<Flight>>>>,
    /// Calls that it has not answered.
    outstanding: AtomicI64,
    /// Rows that it last said wait there, for whomever.
    waiting_rows: AtomicU32,
    /// When it said so, in nanoseconds after `began`.
    said_ns: AtomicU64,
    /// In nanoseconds after `began`; it is left out until then.
    ejected_until_ns: AtomicU64,
    /// Failures since it last answered.
    failures: AtomicU32,
    began: Instant,
    last_error: Mutex<String>,
}

/// A peer that failed is left out for this long at first, twice as long each time after.
const FIRST_EJECTION: Duration = Duration::from_millis(50);
const LONGEST_EJECTION: Duration = Duration::from_secs(2);

/// What a peer said of its load counts half as much after so long.
const HALVED_AFTER_NS: u64 = 100_000_000;

impl Peer {
    /// The process at *at*, with a link for each of *lanes*.
    pub fn new(at: PeerAddress, id: u64, lanes: usize, endpoint: Endpoint, core: &Weak<Core>) -> Arc<Self> {
        let endpoint = Arc::new(endpoint);
        let peer = Arc::new(Self {
            hash: hash_name(&at.name),
            at,
            id,
            links: (0..lanes).map(|_| Arc::new(Link::new(endpoint.clone()))).collect(),
            events: OnceLock::new(),
            outstanding: AtomicI64::new(0),
            waiting_rows: AtomicU32::new(0),
            said_ns: AtomicU64::new(0),
            ejected_until_ns: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            began: Instant::now(),
            last_error: Mutex::default(),
        });
        let events: Arc<dyn Events<Box<Flight>>> = Arc::new(PeerEvents { peer: Arc::downgrade(&peer), core: core.clone() });
        let _ = peer.events.set(events);
        peer
    }

    /// Give it *flight*, or get it back if it takes no more now.
    #[inline]
    pub fn submit(&self, lane: usize, flight: Box<Flight>, now: Instant) -> Result<(), (Box<Flight>, Busy)> {
        let Some(events) = self.events.get() else { return Err((flight, Busy::Leaving)) };
        self.outstanding.fetch_add(1, Relaxed);
        self.links[lane].submit(flight, now, events).inspect_err(|_| {
            self.outstanding.fetch_sub(1, Relaxed);
        })
    }

    /// How much it has to do: our calls, and what it says waits there.
    #[inline]
    pub fn load(&self, now: Instant) -> i64 {
        let waiting = self.waiting_rows.load(Relaxed);
        let outstanding = self.outstanding.load(Relaxed);
        if waiting == 0 {
            return outstanding;
        }
        // What it said counts less and less: one that was busy once is asked again, and says how it does now.
        let age_ns = self.nanoseconds(now).saturating_sub(self.said_ns.load(Relaxed));
        let halvings = u32::try_from(age_ns / HALVED_AFTER_NS).unwrap_or(u32::MAX);
        outstanding + i64::from(waiting.checked_shr(halvings).unwrap_or(0))
    }

    fn nanoseconds(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_nanos() as u64
    }

    /// Calls that it has not answered.
    pub fn outstanding(&self) -> i64 {
        self.outstanding.load(Relaxed)
    }

    /// Rows that it last said wait there.
    pub fn waiting_rows(&self) -> u32 {
        self.waiting_rows.load(Relaxed)
    }

    /// Links that are up.
    pub fn links(&self) -> usize {
        self.links.iter().filter(|link| link.is_up()).count()
    }

    /// Why it failed last.
    pub fn last_error(&self) -> String {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it is left out because it failed.
    #[inline]
    pub fn is_ejected(&self, now: Instant) -> bool {
        let until_ns = self.ejected_until_ns.load(Relaxed);
        until_ns > 0 && self.nanoseconds(now) < until_ns
    }

    /// Take no more calls; links end when those that are open have been answered.
    pub fn retire(&self) {
        for link in &self.links {
            link.retire();
        }
    }

    #[inline]
    fn note_answer(&self, waiting_rows: u32) {
        self.outstanding.fetch_sub(1, Relaxed);
        self.waiting_rows.store(waiting_rows, Relaxed);
        if waiting_rows > 0 {
            self.said_ns.store(self.nanoseconds(Instant::now()), Relaxed);
        }
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
            self.ejected_until_ns.store(0, Relaxed);
        }
    }

    /// Keep *error* for those who ask why. Return whether that is news: it answered since, or failed otherwise.
    fn note_error(&self, error: &Error) -> bool {
        let mut last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        let news = self.failures.load(Relaxed) == 0 || *last != *error.message;
        error.message.as_ref().clone_into(&mut last);
        news
    }

    /// Leave it out for a while, longer each time. Its links fail together, which counts once.
    fn eject(&self) {
        if self.is_ejected(Instant::now()) {
            return;
        }
        let failures = self.failures.fetch_add(1, Relaxed);
        let pause = (FIRST_EJECTION * (1 << failures.min(10))).min(LONGEST_EJECTION);
        // Spread by a quarter, so that those that lost it do not all come back together.
        let now = self.began.elapsed();
        let spread = pause.mul_f64(f64::from(now.subsec_nanos() % 1024) / 4096.0);
        self.ejected_until_ns.store((now + pause + spread).as_nanos() as u64, Relaxed);
    }
}

struct PeerEvents {
    peer: Weak<Peer>,
    core: Weak<Core>,
}

impl Events<Box<Flight>> for PeerEvents {
    #[inline]
    fn outcome(&self, flight: Box<Flight>, head: OutcomeHead, outputs: Bytes) {
        if let Some(peer) = self.peer.upgrade() {
            peer.note_answer(head.waiting_rows);
        }
        match head.failure {
            None => flight.land(head, outputs),
            Some(failure) => match self.core.upgrade() {
                Some(core) => core.refused(flight, failure),
                None => flight.fail(failure),
            },
        }
    }

    fn lost(&self, flight: Box<Flight>, error: &Error, reached: bool) {
        // A peer that no table names any more is gone before its last link.
        if let Some(peer) = self.peer.upgrade() {
            peer.outstanding.fetch_sub(1, Relaxed);
        }
        if let Some(core) = self.core.upgrade() {
            core.lost(flight, error, reached);
        }
    }

    fn over(&self, flight: Box<Flight>) {
        if let Some(peer) = self.peer.upgrade() {
            peer.outstanding.fetch_sub(1, Relaxed);
        }
        flight.give_up(Instant::now());
    }

    fn ended(&self, end: End<'_>) {
        let (Some(peer), Some(core)) = (self.peer.upgrade(), self.core.upgrade()) else { return };
        peer.waiting_rows.store(0, Relaxed);
        let (name, address) = (&*peer.at.name, &*peer.at.address);
        match end {
            End::Lost(error) => {
                peer.note_error(error);
                tracing::info!(event = "peer_lost", peer = name, address, reason = &*error.message);
            }
            // It is asked again from time to time and says the same, which is worth one line.
            End::Refused(error) if peer.note_error(error) => {
                tracing::warn!(event = "peer_refused", peer = name, address, reason = &*error.message);
            }
            End::Done | End::Refused(_) => {}
        }
        if !matches!(end, End::Done) {
            core.registry.links.ejected.add(1);
        }
        peer.eject();
    }
}
