//! Compute threads for what would hold a lane up: slow models and large requests.
//!
//! Requests wait in their program's own queue; the pool's list holds programs that have some. A thread that becomes free
//! takes the next program and a batch of what waits by then: batching is natural here too.

use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use bettong_frame::{Error, ErrorKind, Request};

use crate::batch::Runner;
use crate::program::Program;
use crate::queue::Queue;

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
    stopped: bool,
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
                std::thread::Builder::new().name(format!("bettong-compute-{index}")).spawn(move || pool.work())
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
            return fail_all(&mut lock(&program.pooled));
        }
        state.waiting.push_back(program.clone());
        drop(state);
        self.work.notify_one();
    }

    fn next(&self) -> Option<Arc<Program>> {
        let mut state = lock(&self.state);
        loop {
            if state.stopped {
                return None;
            }
            if let Some(program) = state.waiting.pop_front() {
                return Some(program);
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work(&self) {
        let (mut runner, mut batch) = (Runner::default(), Vec::new());
        while let Some(program) = self.next() {
            // Cleared before the queue is read: a request that comes later schedules the program again.
            program.scheduled.store(false, Release);
            let formed = Instant::now();
            let mut queue = lock(&program.pooled);
            queue.take_batch(&program.batch_limits(formed), &mut batch);
            let more = !queue.is_empty();
            drop(queue);
            if more {
                self.schedule(&program);
            }
            if !batch.is_empty() {
                runner.run_batch(&program, &mut batch, formed);
            }
        }
    }

    /// Fail what waits, and let the threads end after what they run.
    pub fn stop(&self) {
        let mut state = lock(&self.state);
        state.stopped = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.work.notify_all();
        for program in waiting {
            fail_all(&mut lock(&program.pooled));
        }
    }
}

fn fail_all(queue: &mut Queue) {
    for request in queue.drain() {
        request.reply.answer(Err(Error::new(ErrorKind::Unavailable, "the server is stopping")));
    }
}
