//! From the first try to the last.
//!
//! A call is stateless: it may be run twice, so one whose peer went away is tried on another, as long as its deadline and the
//! budget allow. One that was certainly not run costs no budget. One that nobody takes at the moment is parked for a while:
//! a table that is on its way may name somebody. That is for the process to do which the client asked: a router gives it back,
//! so that another router is asked meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bettong_frame::{Error, ErrorKind};
use bettong_link::Busy;
use bettong_telemetry::log::debug_enabled;
use bettong_wire::link::Failure;

use crate::flight::{Flight, Waiter};
use crate::forwarder::Core;

/// A call that nobody takes is kept for this long, until somebody does.
const LONGEST_PARK: Duration = Duration::from_secs(5);

/// How soon a call that nobody takes is tried again: at first, doubling so many times.
const FIRST_PARK: Duration = Duration::from_millis(2);
const PARK_DOUBLINGS: u32 = 5;

/// Calls that are parked at most.
const MAX_PARKED: usize = 65_536;

/// What a refused client waits for at least, when every replica's window is full.
const SHORTEST_WAIT: Duration = Duration::from_millis(5);

impl Core {
    /// See *flight* through.
    #[inline]
    pub fn begin(self: &Arc<Self>, flight: Box<Flight>) {
        self.budget.pay_in();
        match self.settings.hedge_after {
            None => self.send(flight),
            Some(after) => self.send_hedged(flight, after),
        }
    }

    #[inline]
    pub fn send(self: &Arc<Self>, flight: Box<Flight>) {
        if let Some(lane) = self.reactors.current() {
            self.send_on(lane, flight);
        } else {
            // Large requests are decoded on other threads.
            let lane = self.lane_of(&flight);
            let core = self.clone();
            self.reactors.spawn(lane, Box::pin(async move { core.send_on(lane, flight) }));
        }
    }

    /// The lane that *flight* is sent from when its own thread is none: its name spreads them.
    pub fn lane_of(&self, flight: &Flight) -> usize {
        self.reactors.current().unwrap_or_else(|| flight.ask.name.index as usize % self.reactors.count())
    }

    #[inline]
    fn send_on(self: &Arc<Self>, lane: usize, mut flight: Box<Flight>) {
        let now = Instant::now();
        let table = self.table.load();
        let mut full = false;
        while let Some(peer) = table.pick(&flight, now) {
            flight.tried.push(peer.id);
            if let Waiter::Race(runner) = &flight.waiter {
                runner.note_asked(peer.id);
            }
            if debug_enabled() {
                log_hop(&flight, &peer.at.name);
            }
            match peer.submit(lane, flight, now) {
                Ok(()) => return,
                Err((back, busy)) => (flight, full) = (back, full || busy == Busy::Full),
            }
        }
        let known = table.knows(&flight);
        drop(table);
        self.stuck(flight, full, known, now);
    }

    /// Nobody takes *flight* at the moment.
    #[cold]
    fn stuck(self: &Arc<Self>, mut flight: Box<Flight>, full: bool, known: bool, now: Instant) {
        if flight.is_late(now) {
            return flight.give_up(now);
        }
        let refusal = flight.refusal.take();
        if let Some(error) = refusal.as_ref().filter(|error| error.kind != ErrorKind::Unavailable) {
            // It is full everywhere, or wrong everywhere: neither is a matter of a better table.
            return flight.fail(Failure { error: error.clone(), not_run: true });
        }
        if full {
            let after = self.registry.mean_request_ns().map_or(SHORTEST_WAIT, Duration::from_nanos).max(SHORTEST_WAIT);
            let error = Error::overloaded("every replica has as many calls of this pipeline as it takes", after);
            return flight.fail(Failure { error, not_run: true });
        }
        let (since, looks) = flight.parked.unwrap_or((now, 0));
        let pause = FIRST_PARK * (1 << looks.min(PARK_DOUBLINGS));
        let in_time = flight.ask.deadline.is_none_or(|deadline| now + pause < deadline);
        let patient = now.duration_since(since) < LONGEST_PARK && self.parked.load(Relaxed) < MAX_PARKED;
        if !patient || !in_time || !flight.waits_here() {
            let error = refusal.unwrap_or_else(|| nobody(&flight, known));
            return flight.fail(Failure { error, not_run: true });
        }
        flight.parked = Some((since, looks + 1));
        flight.refusal = refusal;
        flight.tried.clear();
        self.park(flight, pause);
    }

    fn park(self: &Arc<Self>, mut flight: Box<Flight>, pause: Duration) {
        self.parked.fetch_add(1, Relaxed);
        let core = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            core.parked.fetch_sub(1, Relaxed);
            let now = Instant::now();
            if bettong_link::Carry::is_over(&mut flight, now) {
                flight.give_up(now);
            } else {
                core.send(flight);
            }
        });
    }

    /// A peer answered *flight* with *failure*.
    #[cold]
    pub fn refused(self: &Arc<Self>, mut flight: Box<Flight>, failure: Failure) {
        // A full queue is worth one more look elsewhere, a program that is not there as many as there are replicas.
        let looks = if failure.error.kind == ErrorKind::ResourceExhausted { 2 } else { usize::MAX };
        if !failure.not_run || flight.tried.len() >= looks || flight.is_second() {
            return flight.fail(failure);
        }
        flight.refusal = Some(failure.error);
        self.send(flight);
    }

    /// The peer of *flight* went away. `reached`: it may have begun to run it.
    #[cold]
    pub fn lost(self: &Arc<Self>, mut flight: Box<Flight>, error: &Error, reached: bool) {
        if reached {
            flight.attempt += 1;
            flight.may_have_run = true;
            let why = if flight.is_second() {
                "it was asked of another at once"
            } else if flight.attempt >= self.settings.max_attempts {
                "it was tried too often"
            } else if self.budget.take() {
                ""
            } else {
                self.registry.links.retries_refused.add(1);
                "too many calls are tried again already"
            };
            if !why.is_empty() {
                let message = format!("the process that ran this request went away, and {why}: {error}");
                let error = Error::new(ErrorKind::Unavailable, message);
                return flight.fail(Failure { error, not_run: false });
            }
            self.registry.links.retried.add(1);
        }
        self.send(flight);
    }
}

#[cold]
fn nobody(flight: &Flight, known: bool) -> Error {
    let (pipeline, version) = (&flight.ask.name.pipeline, &flight.ask.name.version);
    let why = if known { "no process that runs it answers" } else { "no process runs it" };
    Error::new(ErrorKind::Unavailable, format!("pipeline '{pipeline}' in version '{version}' is not available: {why}"))
}

/// One line for each hop, under the id that the client, the gateway and the executor call the request by.
#[cold]
pub fn log_hop(flight: &Flight, peer: &str) {
    let request_id = String::from_utf8_lossy(&flight.ask.trace.request_id);
    let traceparent = String::from_utf8_lossy(&flight.ask.trace.traceparent);
    let (pipeline, version, attempt) = (&*flight.ask.name.pipeline, &*flight.ask.name.version, flight.attempt);
    tracing::debug!(event = "hop", pipeline, version, request_id = &*request_id, traceparent = &*traceparent, peer, attempt);
}
