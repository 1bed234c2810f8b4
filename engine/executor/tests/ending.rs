//! Failures, the end of an executor, and what is let go.

mod support;

use std::collections::HashSet;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bettong_frame::{Answer, Dispatch, ErrorKind, Reply, Request, Result};

use support::{Client, Gate, Served, Setup, Waiter};

#[test]
fn closing_answers_everything_that_waits() {
    let gate = Arc::new(Gate::default());
    for row_time in [Some(Duration::from_micros(1)), None] {
        let served = Setup { lanes: 1, row_time, gate: Some(gate.clone()), ..Setup::default() }.serve();
        let client = Client::new();
        for number in 0..20 {
            served.target.submit(client.request(number, &[1.0]));
        }
        gate.wait_for_run();
        gate.open();
        drop(served);
        let kinds: HashSet<Option<ErrorKind>> =
            client.take(20).into_iter().map(|(_, outcome)| outcome.err().map(|error| error.kind)).collect();
        assert!(kinds.is_subset(&HashSet::from([None, Some(ErrorKind::Unavailable)])), "{kinds:?}");
    }
}

#[test]
fn models_are_freed_once_their_program_is_dropped_and_its_requests_are_answered() {
    for waiting in [0, 40] {
        let gate = Arc::new(Gate::default());
        let served = Setup { gate: Some(gate.clone()), ..Setup::default() }.serve();
        let client = Client::new();
        served.target.submit(client.request(0, &[1.0]));
        gate.wait_for_run();
        for number in 0..waiting {
            served.target.submit(client.request(number, &[1.0]));
        }
        let Served { target, model, metrics: _, executor: _executor } = served;
        if waiting == 0 {
            gate.open();
            client.take(1);
        }
        drop(target);
        gate.open();
        client.take(if waiting == 0 { 0 } else { waiting + 1 });
        let end = Instant::now() + Duration::from_secs(20);
        while Arc::strong_count(&model) > 1 {
            assert!(Instant::now() < end, "the model is still held with {waiting} requests waiting");
            std::thread::yield_now();
        }
    }
}

/// Asks again when its request fails, as something between a client and a queue may.
struct Persistent {
    target: Arc<dyn Dispatch>,
    next: Option<Request>,
    first: Waiter,
}

impl Reply for Persistent {
    fn is_abandoned(&mut self) -> bool {
        self.first.left
    }

    fn answer(mut self: Box<Self>, outcome: Result<Answer>) {
        if let Some(next) = self.next.take() {
            self.target.submit(next);
        }
        Box::new(self.first).answer(outcome);
    }
}

/// A request that has left its queue for good, and whose failure brings request *number* into it.
fn persistent(served: &Served, client: &Client, number: usize) -> Request {
    let first = Waiter { number: 1_000 + number, outcomes: client.sender.clone(), left: true };
    let next = Some(client.request(number, &[1.0]));
    let reply = Box::new(Persistent { target: served.target.clone(), next, first });
    Request { reply, ..client.request(0, &[1.0]) }
}

#[test]
fn a_failure_may_lead_to_the_next_request_of_the_same_program() {
    // On a lane and on compute threads: neither may hold its queue while it answers.
    for row_time in [Duration::from_micros(1), Duration::from_millis(2)] {
        let gate = Arc::new(Gate::default());
        let served = Setup { lanes: 1, row_time: Some(row_time), gate: Some(gate.clone()), ..Setup::default() }.serve();
        let client = Client::new();
        served.target.submit(client.request(0, &[0.0]));
        gate.wait_for_run();
        served.target.submit(persistent(&served, &client, 1));
        gate.open();
        let kinds: Vec<_> =
            sorted(client.take(3)).into_iter().map(|(_, outcome)| outcome.err().map(|error| error.kind)).collect();
        assert_eq!(vec![None, None, Some(ErrorKind::Cancelled)], kinds);
    }
}

fn sorted(mut outcomes: Vec<(usize, Result<Answer>)>) -> Vec<(usize, Result<Answer>)> {
    outcomes.sort_by_key(|(number, _)| *number);
    outcomes
}

/// Two compute threads at the gate, and a request that waits, and fails when the executor is closed.
fn closed_with_compute_threads_at_the_gate(check: impl FnOnce(&Served, &Client)) {
    let gate = Arc::new(Gate::default());
    let served = Setup { row_time: Some(Duration::from_millis(2)), gate: Some(gate.clone()), ..Setup::default() }.serve();
    let client = Client::new();
    for number in 0..2 {
        served.target.submit(client.request(number, &[0.0]));
        gate.wait_for_runs(number + 1);
    }
    served.target.submit(persistent(&served, &client, 2));
    std::thread::scope(|scope| {
        scope.spawn(|| served.executor.close());
        // What waits fails while the threads are still at the gate.
        let failed = sorted(client.take(2));
        assert_eq!(vec![2, 1_002], failed.iter().map(|(number, _)| *number).collect::<Vec<_>>());
        assert!(failed.iter().all(|(_, outcome)| outcome.as_ref().is_err_and(|error| error.kind == ErrorKind::Unavailable)));
        check(&served, &client);
        gate.open();
    });
    assert!(client.take(2).iter().all(|(_, outcome)| outcome.is_ok()));
}

#[test]
fn a_failure_at_the_end_may_lead_to_the_next_request() {
    closed_with_compute_threads_at_the_gate(|_, _| ());
}

#[test]
fn requests_that_come_after_the_end_are_answered() {
    closed_with_compute_threads_at_the_gate(|served, client| {
        for number in 10..13 {
            served.target.submit(client.request(number, &[1.0]));
            let (_, outcome) = client.take(1).remove(0);
            assert_eq!(ErrorKind::Unavailable, outcome.unwrap_err().kind);
        }
    });
}

#[test]
fn models_are_never_freed_on_a_lane() {
    for row_time in [Duration::from_micros(1), Duration::from_millis(2)] {
        let (sender, freed) = mpsc::channel();
        let served = Setup { lanes: 1, row_time: Some(row_time), freed: Some(sender), ..Setup::default() }.serve();
        let client = Client::new();
        served.target.submit(client.request(0, &[0.0]));
        client.take(1);
        // As when the last request of a version that was replaced is answered.
        let Served { target, model, executor, .. } = served;
        drop(model);
        executor.reactors().spawn(0, Box::pin(async move { drop(target) }));
        let thread = freed.recv_timeout(Duration::from_secs(20)).expect("the model is freed");
        assert!(thread.starts_with("bettong-compute"), "freed on {thread}");
    }
}
