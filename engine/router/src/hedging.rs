//! Hedged calls: one that is not answered for a while is asked of another replica too, and the first outcome counts (J. Dean,
//! L. A. Barroso, "The tail at scale", CACM 56(2), 2013). Off unless it is set. The second call is paid for from the same budget
//! as retries, is never tried again,
//! leaves enough of it to calls that fail, and is not made when the first has failed or the deadline comes before.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bettong_frame::{Error, ErrorKind};
use bettong_telemetry::Registry;
use bettong_telemetry::log::debug_enabled;
use bettong_wire::link::Failure;
use smallvec::SmallVec;

use crate::flight::{Ask, Flight, Waiter};
use crate::forwarder::Core;
use crate::sending::log_hop;

/// Two calls of which the first outcome counts.
struct Race {
    registry: Arc<Registry>,
    state: Mutex<State>,
}

struct State {
    /// Taken by the first outcome.
    waiter: Option<Waiter>,
    /// What the second call asks for, until it is made.
    second: Option<(Ask, u32)>,
    /// Calls that have no outcome.
    open: u32,
    /// Whether one that has failed may have been run.
    may_have_run: bool,
    /// Peers that the first call was given to.
    asked: SmallVec<[u64; 4]>,
}

/// One call of a race.
pub struct Runner {
    race: Arc<Race>,
    is_second: bool,
}

impl Race {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The second call, if there still is somebody who waits for it. It is none of the race before it is [entered](Self::enter).
    fn second(self: Arc<Self>) -> Option<Box<Flight>> {
        let mut state = self.lock();
        let (ask, attempt) = state.second.take().filter(|_| state.waiter.is_some())?;
        let tried = state.asked.clone();
        drop(state);
        let flight = Flight::new(ask, attempt, Waiter::Race(Runner { race: self, is_second: true }));
        Some(Box::new(Flight { tried, ..*flight }))
    }
}

impl Runner {
    /// Note that the call was given to a peer.
    pub fn note_asked(&self, peer: u64) {
        self.race.lock().asked.push(peer);
    }

    /// Who waits, unless the other call was first.
    pub fn win(self) -> Option<Waiter> {
        let mut state = self.race.lock();
        state.second = None;
        let waiter = state.waiter.take();
        if self.is_second && waiter.is_some() {
            self.race.registry.links.hedges_won.add(1);
        }
        waiter
    }

    /// Count this call among those of the race.
    fn enter(&self) {
        self.race.lock().open += 1;
    }

    /// Who hears of *failure*, and whether a call of the race may have been run: nobody while the other call may do better.
    pub fn lose(self, failure: &Failure, may_have_run: bool, is_late: bool) -> Option<(Waiter, bool)> {
        let mut state = self.race.lock();
        state.open -= 1;
        state.may_have_run |= may_have_run || !failure.not_run;
        let is_final = match failure.error.kind {
            ErrorKind::Unavailable => false,
            // A busy replica gives up early what it could not answer in time.
            ErrorKind::DeadlineExceeded => is_late,
            _ => !failure.not_run,
        };
        if state.open > 0 && !is_final {
            return None;
        }
        state.second = None;
        let may_have_run = state.may_have_run || state.open > 0;
        state.waiter.take().map(|waiter| (waiter, may_have_run))
    }

    /// Whether the outcome is of no more use.
    pub fn is_over(&self) -> bool {
        match &mut self.race.lock().waiter {
            None => true,
            Some(Waiter::Client { reply, .. }) => reply.is_abandoned(),
            Some(Waiter::Process { answering, .. }) => answering.is_abandoned(),
            Some(Waiter::Race(_)) => false,
        }
    }

    /// Whether the call waits here when nobody takes it: the second never does.
    pub fn waits(&self, may_have_run: bool) -> bool {
        !self.is_second && (may_have_run || matches!(self.race.lock().waiter, Some(Waiter::Client { .. })))
    }
}

impl Flight {
    /// Whether it is the second of a race, which is tried once.
    pub fn is_second(&self) -> bool {
        matches!(&self.waiter, Waiter::Race(runner) if runner.is_second)
    }
}

impl Core {
    /// See *flight* through, with a second call after a while if there is a choice.
    pub fn send_hedged(self: &Arc<Self>, mut flight: Box<Flight>, after: Duration) {
        let in_time = flight.ask.deadline.is_none_or(|deadline| flight.ask.arrived + after < deadline);
        if !in_time || !self.table.load().has_choice(&flight) {
            return self.send(flight);
        }
        let lane = self.lane_of(&flight);
        let second = Some((flight.ask.clone(), flight.attempt + 1));
        let state = State { waiter: Some(flight.waiter), second, open: 1, may_have_run: false, asked: SmallVec::new() };
        let race = Arc::new(Race { registry: self.registry.clone(), state: Mutex::new(state) });
        let later = Arc::downgrade(&race);
        flight.waiter = Waiter::Race(Runner { race, is_second: false });
        let core = self.clone();
        self.reactors.spawn(
            lane,
            Box::pin(async move {
                tokio::time::sleep(after).await;
                if let Some(second) = later.upgrade().and_then(Race::second) {
                    core.send_second(lane, second);
                }
            }),
        );
        self.send(flight);
    }

    /// Give *second* to a peer that the first call has not been given to, if there is one and it can be paid for.
    fn send_second(&self, lane: usize, second: Box<Flight>) {
        let (table, now) = (self.table.load(), Instant::now());
        let Some(peer) = table.pick(&second, now).filter(|_| self.budget.take_spare()) else { return };
        if let Waiter::Race(runner) = &second.waiter {
            runner.enter();
        }
        if debug_enabled() {
            log_hop(&second, &peer.at.name);
        }
        match peer.submit(lane, second, now) {
            Ok(()) => self.registry.links.hedged.add(1),
            Err((second, _busy)) => {
                let error = Error::new(ErrorKind::Unavailable, "the other replica takes no more calls");
                second.fail(Failure { error, not_run: true });
            }
        }
    }
}
