//! A model written in Rust, an executor that serves it, and a client: what several tests use.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

use bettong_executor::{Config, Executor, ProgramSpec, Source, StepSpec};
use bettong_frame::{
    Answer, BatchMode, DType, Dispatch, Error, Input, Reply, Request, Result, Shape, Signature, Tensor, TensorSpec,
};
use bettong_runtimes::{Model, ModelInfo, View};
use bettong_telemetry::{PipelineMetrics, Registry};
use bytes::Bytes;
use smallvec::SmallVec;

/// A value that makes the model fail.
pub const POISON: f32 = -666.0;

/// A value that makes it panic.
pub const MADNESS: f32 = -13.0;

pub fn spec(name: &str) -> TensorSpec {
    TensorSpec { name: name.into(), dtype: DType::Fp32, shape: Shape::from_slice(&[-1, 1]) }
}

/// Doubles each row; fails a batch that holds a poisoned one; can be held at a gate.
pub struct Doubler {
    pub info: ModelInfo,
    pub runs: AtomicUsize,
    pub gate: Option<Arc<Gate>>,
    /// Told the name of the thread that frees it.
    pub freed: Option<mpsc::Sender<String>>,
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
pub struct Gate {
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

    pub fn wait_for_run(&self) {
        self.wait_for_runs(1);
    }

    pub fn wait_for_runs(&self, count: usize) {
        let mut state = self.state.lock().unwrap();
        while state.0 < count {
            state = self.changed.wait(state).unwrap();
        }
    }

    pub fn open(&self) {
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
        assert!(!values.contains(&MADNESS), "the model went mad");
        if values.contains(&POISON) {
            return Err(Error::internal("poisoned"));
        }
        let data: Vec<u8> = values.iter().flat_map(|value| (value * 2.0).to_le_bytes()).collect();
        let tensor = Tensor { dtype: DType::Fp32, shape: Shape::from_slice(inputs[0].shape), data: data.into() };
        Ok(smallvec::smallvec![tensor])
    }
}

pub struct Served {
    pub target: Arc<dyn Dispatch>,
    pub model: Arc<Doubler>,
    pub metrics: Arc<PipelineMetrics>,
    pub executor: Executor,
}

pub struct Setup {
    pub lanes: usize,
    pub row_time: Option<Duration>,
    pub gate: Option<Arc<Gate>>,
    pub mode: BatchMode,
    pub steps: usize,
    pub max_queue_rows: usize,
    pub freed: Option<mpsc::Sender<String>>,
}

impl Default for Setup {
    fn default() -> Self {
        let row_time = Some(Duration::from_micros(1));
        Self { lanes: 2, row_time, gate: None, mode: BatchMode::Rows, steps: 1, max_queue_rows: 1 << 20, freed: None }
    }
}

impl Setup {
    pub fn serve(self) -> Served {
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
pub struct Waiter {
    pub number: usize,
    pub outcomes: mpsc::Sender<(usize, Result<Answer>)>,
    pub left: bool,
}

impl Reply for Waiter {
    fn is_abandoned(&mut self) -> bool {
        self.left
    }

    fn answer(self: Box<Self>, outcome: Result<Answer>) {
        self.outcomes.send((self.number, outcome)).unwrap();
    }
}

pub struct Client {
    pub sender: mpsc::Sender<(usize, Result<Answer>)>,
    pub outcomes: mpsc::Receiver<(usize, Result<Answer>)>,
}

impl Client {
    pub fn new() -> Self {
        let (sender, outcomes) = mpsc::channel();
        Self { sender, outcomes }
    }

    pub fn request(&self, number: usize, values: &[f32]) -> Request {
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

    pub fn take(&self, count: usize) -> Vec<(usize, Result<Answer>)> {
        (0..count).map(|_| self.outcomes.recv_timeout(Duration::from_secs(20)).expect("every request is answered")).collect()
    }
}

pub fn values(answer: &Answer) -> Vec<f32> {
    answer.outputs[0].data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}
