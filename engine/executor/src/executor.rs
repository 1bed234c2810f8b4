//! Starts and stops the threads.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bettong_frame::{Dispatch, Reactors, Result, Task};
use bettong_telemetry::PipelineMetrics;
use tokio::sync::mpsc;

use crate::crash;
use crate::lane::{LaneTask, Lanes, Message};
use crate::pool::Pool;
use crate::program::{Program, ProgramSpec, ProgramTarget, Surroundings};

/// How many threads, and how long what may wait.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Reactor threads.
    pub lanes: usize,
    /// Threads for slow models and large requests.
    pub compute_threads: usize,
    /// A model whose row takes longer runs on compute threads.
    pub slow_model: Duration,
    /// How long an idle lane looks for work before it sleeps.
    pub spin: Duration,
    /// Rows that may wait for one program on one lane.
    pub max_queue_rows: usize,
}

/// The lanes and compute threads of one process.
pub struct Executor {
    around: Surroundings,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Executor {
    /// Start the threads.
    ///
    /// # Errors
    /// The system can't start a thread or make an event queue.
    pub fn start(config: &Config) -> std::io::Result<Self> {
        let (inboxes, receivers): (Vec<_>, Vec<_>) = (0..config.lanes).map(|_| mpsc::unbounded_channel()).unzip();
        let lanes = Arc::new(Lanes::new(inboxes));
        let pool = Arc::new(Pool::default());
        let mut threads = pool.start(config.compute_threads)?;
        for (index, inbox) in receivers.into_iter().enumerate() {
            threads.push(start_lane(index, lanes.clone(), inbox, config.spin)?);
        }
        let around = Surroundings { pool, lanes, slow_model: config.slow_model, max_queue_rows: config.max_queue_rows };
        Ok(Self { around, threads: Mutex::new(threads) })
    }

    /// A target that runs *spec*.
    pub fn program(&self, spec: ProgramSpec, metrics: Arc<PipelineMetrics>) -> Result<Arc<dyn Dispatch>> {
        spec.check()?;
        Ok(Arc::new(ProgramTarget(Program::new(spec, metrics, &self.around))))
    }

    /// The threads that own connections.
    pub fn reactors(&self) -> Arc<dyn Reactors> {
        self.around.lanes.clone()
    }

    /// Fail what waits, end every thread, and wait for them.
    pub fn close(&self) {
        self.around.pool.stop();
        for index in 0..self.around.lanes.count() {
            self.around.lanes.send(index, Message::Stop);
        }
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A thread that panicked has printed why; there is nothing left to do for it.
            let _ = thread.join();
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.close();
    }
}

impl Reactors for Lanes {
    fn count(&self) -> usize {
        Lanes::count(self)
    }

    fn spawn(&self, index: usize, task: Task) {
        self.send(index, Message::Spawn(task));
    }

    fn current(&self) -> Option<usize> {
        crate::lane::current(self)
    }
}

fn start_lane(
    index: usize,
    lanes: Arc<Lanes>,
    inbox: mpsc::UnboundedReceiver<Message>,
    spin: Duration,
) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    std::thread::Builder::new().name(format!("bettong-lane-{index}")).spawn(move || {
        crash::note_engine_thread();
        runtime.block_on(async move {
            // The lane is a task like its connections, so that the scheduler runs it after those that were ready first.
            let _ = tokio::spawn(LaneTask::install(index, lanes, inbox, spin)).await;
        });
    })
}
