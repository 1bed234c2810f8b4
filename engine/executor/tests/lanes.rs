//! Lanes, batches and the pool, with models written in Rust.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

use bettong_executor::{Config, Executor, ProgramSpec, Source, StepSpec};
use bettong_frame::{
    Answer, BatchMode, DType, Dispatch, Error, ErrorKind, Input, Reply, Request, Result, Shape, Signature, Tensor, TensorSpec,
};
use bettong_runtimes::{Model, ModelInfo, View};
use bettong_telemetry::{PipelineMetrics, Registry};
use bytes::Bytes;
use proptest::prelude::*;
use smallvec::SmallVec;

/// A value that makes the model fail.
const POISON: f32 = -666.0;

fn spec(name: &str) -> TensorSpec {
    TensorSpec { name: name.into(), dtype: DType::Fp32, shape: Shape::from_slice(&[-1, 1]) }
}

/// Doubles each row; fails a batch that holds a poisoned one; can be held at a gate.
struct Doubler {
    info: ModelInfo,
    runs: AtomicUsize,
    gate: Option<Arc<Gate>>,
    /// Told the name of the thread that frees it.
    freed: Option<mpsc::Sender<String>>,
}

impl Drop for Doubler {
    fn drop(&mut self) {
        if let Some(freed) = &self.freed {
            let _ = freed.send(std::thread::current().name().unwrap_or_default().to_owned());
        }
    }
}

/// Holds every run until it is opened, and tells when one has come.
#[derive(Default)]
struct Gate {
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 += 1;
        self.changed.notify_all();
        while !state.1 {
            state = self.changed.wait(state).unwrap();
        }
    }

    fn wait_for_run(&self) {
        self.wait_for_runs(1);
    }

    fn wait_for_runs(&self, count: usize) {
        let mut state = self.state.lock().unwrap();
        while state.0 < count {
            state = self.changed.wait(state).unwrap();
        }
    }

    fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}

impl Model for Doubler {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn run(&self, inputs: &[View<'_>]) -> Result<SmallVec<[Tensor; 2]>> {
        self.runs.fetch_add(1, SeqCst);
        if let Some(gate) = &self.gate {
            gate.pass();
        }
        let values: Vec<f32> = inputs[0].data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        if values.contains(&POISON) {
            return Err(Error::internal("poisoned"));
        }
        let data: Vec<u8> = values.iter().flat_map(|value| (value * 2.0).to_le_bytes()).collect();
        let tensor = Tensor { dtype: DType::Fp32, shape: Shape::from_slice(inputs[0].shape), data: data.into() };
        Ok(smallvec::smallvec![tensor])
    }
}

struct Served {
    target: Arc<dyn Dispatch>,
    model: Arc<Doubler>,
    metrics: Arc<PipelineMetrics>,
    executor: Executor,
}

struct Setup {
    lanes: usize,
    row_time: Option<Duration>,
    gate: Option<Arc<Gate>>,
    mode: BatchMode,
    steps: usize,
    max_queue_rows: usize,
    freed: Option<mpsc::Sender<String>>,
}

impl Default for Setup {
    fn default() -> Self {
        let row_time = Some(Duration::from_micros(1));
        Self { lanes: 2, row_time, gate: None, mode: BatchMode::Rows, steps: 1, max_queue_rows: 1 << 20, freed: None }
    }
}

impl Setup {
    fn serve(self) -> Served {
        let config = Config {
            lanes: self.lanes,
            compute_threads: 2,
            slow_model: Duration::from_millis(1),
            spin: Duration::ZERO,
            max_queue_rows: self.max_queue_rows,
        };
        let executor = Executor::start(&config).unwrap();
        let info =
            ModelInfo { inputs: vec![spec("x")], outputs: vec![spec("y")], batch_mode: self.mode, row_time: self.row_time };
        let model = Arc::new(Doubler { info, runs: AtomicUsize::new(0), gate: self.gate, freed: self.freed });
        let source = |step: usize| if step == 0 { Source::Input(0) } else { Source::Step { step: step - 1, output: 0 } };
        let steps = (0..self.steps).map(|step| StepSpec { model: model.clone(), inputs: vec![source(step)] }).collect();
        let signature = Signature {
            inputs: vec![Input { spec: spec("x"), aliases: vec![], parts: vec![] }],
            outputs: vec![spec("y")],
            batch_mode: self.mode,
        };
        let spec = ProgramSpec {
            signature,
            steps,
            outputs: vec![source(self.steps)],
            max_batch_rows: 256,
            max_batch_delay: Duration::ZERO,
        };
        let metrics = Registry::default().pipeline("p", "1", &[("m".into(), 1)]);
        let target = executor.program(spec, metrics.clone()).unwrap();
        Served { target, model, metrics, executor }
    }
}

/// Sends each outcome with the number of its request.
struct Waiter {
    number: usize,
    outcomes: mpsc::Sender<(usize, Result<Answer>)>,
    left: bool,
}

impl Reply for Waiter {
    fn is_abandoned(&mut self) -> bool {
        self.left
    }

    fn answer(self: Box<Self>, outcome: Result<Answer>) {
        self.outcomes.send((self.number, outcome)).unwrap();
    }
}

struct Client {
    sender: mpsc::Sender<(usize, Result<Answer>)>,
    outcomes: mpsc::Receiver<(usize, Result<Answer>)>,
}

impl Client {
    fn new() -> Self {
        let (sender, outcomes) = mpsc::channel();
        Self { sender, outcomes }
    }

    fn request(&self, number: usize, values: &[f32]) -> Request {
        let data: Bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let tensor = Tensor { dtype: DType::Fp32, shape: Shape::from_slice(&[values.len() as i64, 1]), data };
        Request {
            inputs: smallvec::smallvec![tensor],
            rows: values.len(),
            arrived: Instant::now(),
            deadline: None,
            reply: Box::new(Waiter { number, outcomes: self.sender.clone(), left: false }),
        }
    }

    fn take(&self, count: usize) -> Vec<(usize, Result<Answer>)> {
        (0..count).map(|_| self.outcomes.recv_timeout(Duration::from_secs(20)).expect("every request is answered")).collect()
    }
}

fn values(answer: &Answer) -> Vec<f32> {
    answer.outputs[0].data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

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
