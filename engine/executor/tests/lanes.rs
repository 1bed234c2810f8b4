//! Lanes, batches and compute threads, with models written in Rust.

mod support;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bettong_executor::{Config, Executor, ProgramSpec, Source, StepSpec};
use bettong_frame::{Answer, BatchMode, Error, ErrorKind, Input, Request, Result, Signature};
use bettong_runtimes::ModelInfo;
use bettong_telemetry::Registry;
use proptest::prelude::*;

use support::{Client, Doubler, Gate, POISON, Served, Setup, Waiter, spec, values};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_request_gets_its_own_rows_whatever_batch_it_rode_in(
        sizes in proptest::collection::vec(1_usize..400, 1..60), slow: bool, single: bool, steps in 1_usize..3,
    ) {
        let row_time = Some(if slow { Duration::from_millis(5) } else { Duration::from_micros(1) });
        let mode = if single { BatchMode::Single } else { BatchMode::Rows };
        let served = Setup { row_time, mode, steps, ..Setup::default() }.serve();
        let client = Client::new();
        let sent: Vec<Vec<f32>> = sizes
            .iter()
            .enumerate()
            .map(|(number, &rows)| (0..rows).map(|row| (number * 1_000 + row) as f32).collect())
            .collect();
        for (number, rows) in sent.iter().enumerate() {
            served.target.submit(client.request(number, rows));
        }
        let mut seen = HashSet::new();
        for (number, outcome) in client.take(sent.len()) {
            prop_assert!(seen.insert(number));
            let factor = if steps == 1 { 2.0 } else { 4.0 };
            let expected: Vec<f32> = sent[number].iter().map(|value| value * factor).collect();
            prop_assert_eq!(expected, values(&outcome.unwrap()));
        }
    }
}

/// Hold the lanes at a gate so that what is sent meanwhile waits together, then open it.
fn batched_behind_a_gate(requests: impl FnOnce(&Client) -> Vec<Request>) -> (Served, Vec<(usize, Result<Answer>)>) {
    let gate = Arc::new(Gate::default());
    let served = Setup { lanes: 1, gate: Some(gate.clone()), ..Setup::default() }.serve();
    let client = Client::new();
    served.target.submit(client.request(usize::MAX, &[0.0]));
    gate.wait_for_run();
    let requests = requests(&client);
    let count = requests.len() + 1;
    for request in requests {
        served.target.submit(request);
    }
    gate.open();
    let outcomes = client.take(count).into_iter().filter(|(number, _)| *number != usize::MAX).collect();
    (served, outcomes)
}

#[test]
fn what_waits_while_a_batch_runs_becomes_one_batch() {
    let (served, outcomes) =
        batched_behind_a_gate(|client| (0..50).map(|number| client.request(number, &[number as f32])).collect());
    assert_eq!(50, outcomes.len());
    assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()));
    // Messages of other threads reach a lane one by one, so that the first may ride alone.
    assert!(served.model.runs.load(SeqCst) <= 4, "{} runs", served.model.runs.load(SeqCst));
    assert_eq!(51, served.metrics.rows.get());
}

#[test]
fn a_poisoned_row_fails_alone_and_is_named() {
    let (_served, outcomes) = batched_behind_a_gate(|client| {
        (0..40).map(|number| client.request(number, &[1.0, if number == 17 { POISON } else { 2.0 }, 3.0])).collect()
    });
    for (number, outcome) in outcomes {
        match outcome {
            Ok(answer) => assert_eq!(vec![2.0, 4.0, 6.0], values(&answer)),
            Err(error) => assert_eq!((17, "row 1: poisoned"), (number, &*error.message)),
        }
    }
}

#[test]
fn passed_deadlines_and_clients_that_left_are_not_run() {
    let (served, outcomes) = batched_behind_a_gate(|client| {
        (0..30)
            .map(|number| {
                let mut request = client.request(number, &[1.0]);
                match number % 3 {
                    0 => request.deadline = Some(Instant::now()),
                    1 => request.reply = Box::new(Waiter { number, outcomes: client.sender.clone(), left: true }),
                    _ => {}
                }
                request
            })
            .collect()
    });
    for (number, outcome) in outcomes {
        let kind = outcome.err().map(|error| error.kind);
        let expected = [Some(ErrorKind::DeadlineExceeded), Some(ErrorKind::Cancelled), None][number % 3];
        // A deadline that would pass while waiting is refused at once, which is as good.
        let refused = kind == Some(ErrorKind::ResourceExhausted) && number % 3 == 0;
        assert!(kind == expected || refused, "{number}: {kind:?}");
    }
    assert_eq!(11, served.metrics.rows.get());
}

#[test]
fn later_steps_are_not_run_when_every_deadline_has_passed() {
    let gate = Arc::new(Gate::default());
    let served = Setup { lanes: 1, steps: 2, gate: Some(gate.clone()), ..Setup::default() }.serve();
    let client = Client::new();
    let mut request = client.request(0, &[1.0]);
    let deadline = Instant::now() + Duration::from_millis(50);
    request.deadline = Some(deadline);
    served.target.submit(request);
    gate.wait_for_run();
    // The first step is held until the deadline has passed; there is no other way to be sure of it than the clock.
    while Instant::now() < deadline {
        std::thread::yield_now();
    }
    gate.open();
    let (_, outcome) = client.take(1).remove(0);
    assert_eq!(ErrorKind::DeadlineExceeded, outcome.unwrap_err().kind);
    assert_eq!(1, served.model.runs.load(SeqCst));
}

#[test]
fn a_full_queue_refuses_with_a_time_to_try_again() {
    let gate = Arc::new(Gate::default());
    let served = Setup { lanes: 1, gate: Some(gate.clone()), max_queue_rows: 10, ..Setup::default() }.serve();
    let client = Client::new();
    served.target.submit(client.request(0, &[0.0]));
    gate.wait_for_run();
    for number in 1..=20 {
        served.target.submit(client.request(number, &[1.0]));
    }
    gate.open();
    let refused: Vec<Error> = client.take(21).into_iter().filter_map(|(_, outcome)| outcome.err()).collect();
    assert!(refused.len() >= 10, "{} refused", refused.len());
    for error in refused {
        assert_eq!(ErrorKind::ResourceExhausted, error.kind);
        assert!(error.retry_after.is_some_and(|after| after >= Duration::from_millis(1)));
    }
}

#[test]
fn slow_models_run_on_compute_threads_and_large_requests_too() {
    for row_time in [None, Some(Duration::from_millis(2)), Some(Duration::from_micros(100))] {
        let served = Setup { row_time, ..Setup::default() }.serve();
        let client = Client::new();
        let rows: Vec<f32> = (0..10_000).map(|row| row as f32).collect();
        served.target.submit(client.request(0, &rows));
        let (_, outcome) = client.take(1).remove(0);
        let expected: Vec<f32> = rows.iter().map(|row| row * 2.0).collect();
        assert_eq!(expected, values(&outcome.unwrap()));
    }
}

#[test]
fn programs_whose_sources_do_not_exist_are_refused() {
    let executor = Executor::start(&Config {
        lanes: 1,
        compute_threads: 1,
        slow_model: Duration::from_millis(1),
        spin: Duration::ZERO,
        max_queue_rows: 10,
    })
    .unwrap();
    let info = ModelInfo { inputs: vec![spec("x")], outputs: vec![spec("y")], batch_mode: BatchMode::Rows, row_time: None };
    let model = Arc::new(Doubler { info, runs: AtomicUsize::new(0), gate: None, freed: None });
    for (input, output) in
        [(Source::Input(1), Source::Step { step: 0, output: 0 }), (Source::Input(0), Source::Step { step: 1, output: 0 })]
    {
        let signature = Signature {
            inputs: vec![Input { spec: spec("x"), aliases: vec![], parts: vec![] }],
            outputs: vec![spec("y")],
            batch_mode: BatchMode::Rows,
        };
        let steps = vec![StepSpec { model: model.clone(), inputs: vec![input] }];
        let spec = ProgramSpec { signature, steps, outputs: vec![output], max_batch_rows: 1, max_batch_delay: Duration::ZERO };
        assert!(executor.program(spec, Registry::default().pipeline("p", "1", &[])).is_err());
    }
}
