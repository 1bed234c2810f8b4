//! Compute threads for what would hold a lane up: slow models and large requests.
//!
//! Requests wait in their program's own queue; the pool's list holds programs that have some. A thread that becomes free
//! takes the next program and a batch of what waits by then: batching is natural here too. What takes long to free is freed
//! here as well.

use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use bettong_frame::Request;

use crate::batch::Runner;
use crate::crash;
use crate::program::{Program, StepSpec};
use crate::queue::{Taken, fail_stopping};

/// Threads that run batches, and the programs that wait for one.
#[derive(Default)]
pub struct Pool {
    state: Mutex<State>,
    work: Condvar,
    threads: AtomicUsize,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Arc<Program>>,
    /// Models that nobody runs any more.
    unused: Vec<Vec<StepSpec>>,
    stopped: bool,
}

/// What a thread does next.
enum Work {
    Run(Arc<Program>),
    Free(Vec<StepSpec>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// Start *threads* threads.
    pub fn start(self: &Arc<Self>, threads: usize) -> std::io::Result<Vec<JoinHandle<()>>> {
        self.threads.store(threads, Relaxed);
        (0..threads)
            .map(|index| {
                let pool = self.clone();
                std::thread::Builder::new().name(format!("bettong-compute-{index}")).spawn(move || {
                    crash::note_engine_thread();
                    pool.work();
                })
            })
            .collect()
    }

    /// Queue *request* of *program*.
    pub fn submit(&self, program: &Arc<Program>, request: Request) {
        let mut queue = lock(&program.pooled);
        if let Some(refusal) = program.refusal(queue.rows(), &request, self.threads.load(Relaxed)) {
            drop(queue);
            return request.reply.answer(Err(refusal));
        }
        queue.push(request);
        drop(queue);
        self.schedule(program);
    }

    fn schedule(&self, program: &Arc<Program>) {
        if program.scheduled.swap(true, AcqRel) {
            return;
        }
        let mut state = lock(&self.state);
        if state.stopped {
            drop(state);
            return fail_all(program);
        }
        state.waiting.push_back(program.clone());
        drop(state);
        self.work.notify_one();
    }

    /// Free the models of *steps* on one of the threads, or here when there are none any more.
    pub fn free(&self, steps: Vec<StepSpec>) {
        let mut state = lock(&self.state);
        if !state.stopped {
            state.unused.push(steps);
            drop(state);
            self.work.notify_one();
        }
    }

    fn next(&self) -> Option<Work> {
        let mut state = lock(&self.state);
        loop {
            if state.stopped {
                return None;
            }
            // First, because their memory may be what the next model is short of.
            if let Some(steps) = state.unused.pop() {
                return Some(Work::Free(steps));
            }
            if let Some(program) = state.waiting.pop_front() {
                return Some(Work::Run(program));
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work(&self) {
        let (mut runner, mut taken) = (Runner::default(), Taken::default());
        while let Some(work) = self.next() {
            let program = match work {
                Work::Run(program) => program,
                Work::Free(steps) => {
                    drop(steps);
                    continue;
                }
            };
            // Cleared before the queue is read: a request that comes later schedules the program again.
            program.scheduled.store(false, Release);
            let formed = Instant::now();
            let mut queue = lock(&program.pooled);
            queue.take_batch(&program.batch_limits(formed), &mut taken);
            let more = !queue.is_empty();
            drop(queue);
            if more {
                self.schedule(&program);
            }
            taken.answer_dropped();
            if !taken.batch.is_empty() {
                runner.run_batch(&program, &mut taken.batch, formed);
            }
        }
    }

    /// Fail what waits, and let the threads end after what they run.
    pub fn stop(&self) {
        let mut state = lock(&self.state);
        state.stopped = true;
        let (waiting, unused) = (std::mem::take(&mut state.waiting), std::mem::take(&mut state.unused));
        drop(state);
        drop(unused);
        self.work.notify_all();
        for program in waiting {
            fail_all(&program);
        }
    }
}

/// Fail what waits for *program*, which was scheduled and is run no more.
#[cold]
fn fail_all(program: &Program) {
    // Cleared first, as before a batch is taken: a request that comes later is scheduled again, and fails like these.
    program.scheduled.store(false, Release);
    let waiting = lock(&program.pooled).take_all();
    fail_stopping(waiting);
}
