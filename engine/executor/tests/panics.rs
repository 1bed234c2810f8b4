//! A thread of the engine that panics ends its process, and says why.
//!
//! Each case runs this file's `child` in a process of its own.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bettong_executor::{Config, Executor, ProgramSpec, Source, StepSpec, crash};
use bettong_frame::{Answer, BatchMode, DType, Input, Reactors, Reply, Request, Result, Shape, Signature, Tensor, TensorSpec};
use bettong_runtimes::{Model, ModelInfo, View};
use bettong_telemetry::Registry;
use smallvec::SmallVec;

const CASE: &str = "BETTONG_TEST_PANIC_CASE";

struct Panicking(ModelInfo);

impl Model for Panicking {
    fn info(&self) -> &ModelInfo {
        &self.0
    }

    fn run(&self, _inputs: &[View<'_>]) -> Result<SmallVec<[Tensor; 2]>> {
        panic!("the model went mad")
    }
}

/// Says when it has been answered or dropped.
struct Waiter(mpsc::Sender<()>);

impl Reply for Waiter {
    fn is_abandoned(&mut self) -> bool {
        false
    }

    fn answer(self: Box<Self>, _outcome: Result<Answer>) {}
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

fn run_a_model(row_time: Duration) {
    let config =
        Config { lanes: 1, compute_threads: 1, slow_model: Duration::from_millis(1), spin: Duration::ZERO, max_queue_rows: 100 };
    let executor = Executor::start(&config).unwrap();
    let spec = |name: &str| TensorSpec { name: name.into(), dtype: DType::Fp32, shape: Shape::from_slice(&[-1, 1]) };
    let (inputs, outputs, batch_mode) = (vec![spec("x")], vec![spec("y")], BatchMode::Rows);
    let info = ModelInfo { inputs: inputs.clone(), outputs: outputs.clone(), batch_mode, row_time: Some(row_time) };
    let program = ProgramSpec {
        signature: Signature {
            inputs: inputs.into_iter().map(|spec| Input { spec, aliases: vec![], parts: vec![] }).collect(),
            outputs,
            batch_mode,
        },
        steps: vec![StepSpec { model: Arc::new(Panicking(info)), inputs: vec![Source::Input(0)] }],
        outputs: vec![Source::Step { step: 0, output: 0 }],
        max_batch_rows: 256,
        max_batch_delay: Duration::ZERO,
    };
    let target = executor.program(program, Registry::default().pipeline("p", "7", &[])).unwrap();
    let (sender, done) = mpsc::channel();
    let data = 1.0_f32.to_le_bytes().to_vec().into();
    let tensor = Tensor { dtype: DType::Fp32, shape: Shape::from_slice(&[1, 1]), data };
    target.submit(Request {
        inputs: smallvec::smallvec![tensor],
        rows: 1,
        arrived: std::time::Instant::now(),
        deadline: None,
        reply: Box::new(Waiter(sender)),
    });
    let _ = done.recv_timeout(Duration::from_secs(20));
}

/// What the processes of the other tests do; nothing when it runs as a test.
#[test]
fn child() {
    let Ok(case) = std::env::var(CASE) else { return };
    crash::abort_on_panic();
    match &*case {
        "lane" => run_a_model(Duration::from_micros(1)),
        "compute" => run_a_model(Duration::from_secs(1)),
        "task" => {
            let executor = Executor::start(&Config {
                lanes: 1,
                compute_threads: 1,
                slow_model: Duration::ZERO,
                spin: Duration::ZERO,
                max_queue_rows: 1,
            });
            let reactors: Arc<dyn Reactors> = executor.as_ref().unwrap().reactors();
            let (sender, done) = mpsc::channel::<()>();
            reactors.spawn(
                0,
                Box::pin(async move {
                    let _sender = sender;
                    panic!("the connection went mad")
                }),
            );
            let _ = done.recv_timeout(Duration::from_secs(20));
        }
        _ => assert!(std::thread::spawn(|| panic!("a thread of the user's")).join().is_err()),
    }
}

fn process(case: &str) -> (Output, Vec<String>) {
    let command = std::env::current_exe().unwrap();
    let done = Command::new(command).args(["child", "--exact", "--nocapture"]).env(CASE, case).output().unwrap();
    let lines = String::from_utf8_lossy(&done.stderr).lines().map(str::to_owned).collect();
    (done, lines)
}

#[test]
fn a_panic_of_a_lane_or_compute_thread_ends_the_process_with_one_line() {
    for (case, thread, reason, running) in [
        ("lane", "bettong-lane-0", "the model went mad", "run p 7"),
        ("compute", "bettong-compute-0", "the model went mad", "run p 7"),
        ("task", "bettong-lane-0", "the connection went mad", ""),
    ] {
        let (done, lines) = process(case);
        assert_eq!(Some(libc::SIGABRT), done.status.signal(), "{case}: {lines:?}");
        let [line] = &lines[..] else { panic!("{case}: {lines:?}") };
        for (name, value) in [("event", "engine_panicked"), ("thread", thread), ("reason", reason), ("running", running)] {
            assert!(line.contains(&format!("\"{name}\":\"{value}\"")), "{name}: {line}");
        }
        assert!(line.contains("\"level\":\"ERROR\"") && line.contains("panics.rs:"), "{line}");
    }
}

#[test]
fn a_panic_of_another_thread_is_left_to_its_owner() {
    let (done, lines) = process("other");
    assert!(done.status.success(), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("a thread of the user's")), "{lines:?}");
}
