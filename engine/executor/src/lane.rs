//! One thread: its connections, its queues, its batches.
//!
//! A lane's state is in its thread's local storage, so that nothing on the way of a request is locked. Its task is woken by
//! the first request of a turn and runs after every connection that was ready has been read: the batch is what waits then.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::hash_map::Entry as MapEntry;
use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bettong_frame::{Request, Task};
use tokio::sync::mpsc;

use crate::batch::Runner;
use crate::program::Program;
use crate::queue::{Queue, Taken, fail_stopping};

/// A lane hands requests to an idle one when what waits would take longer than this.
const HAND_OVER_NS: u64 = 1_000_000;

/// What other threads ask of a lane.
pub enum Message {
    /// Run a connection.
    Spawn(Task),
    /// Run a request that another lane handed over.
    Submit(Arc<Program>, Box<Request>),
    /// Let a program go as soon as none of its requests waits: no more will come.
    Forget(u64),
    /// Fail what waits, and end.
    Stop,
}

/// What the lanes know of each other.
pub struct Lanes {
    handles: Vec<Handle>,
}

struct Handle {
    inbox: mpsc::UnboundedSender<Message>,
    /// Rows that wait there or run.
    load: AtomicUsize,
}

impl Lanes {
    /// Handles for as many lanes as there are *inboxes*.
    pub fn new(inboxes: Vec<mpsc::UnboundedSender<Message>>) -> Self {
        Self { handles: inboxes.into_iter().map(|inbox| Handle { inbox, load: AtomicUsize::new(0) }).collect() }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.handles.len()
    }

    /// Give *message* to lane *index*. After the end it is dropped, which answers what it holds.
    pub fn send(&self, index: usize, message: Message) {
        let _ = self.handles[index].inbox.send(message);
    }

    /// Let program *id* go. Comes behind every request of it that was handed over.
    pub fn forget(&self, id: u64) {
        for index in 0..self.count() {
            self.send(index, Message::Forget(id));
        }
    }

    fn idle_other_than(&self, index: usize) -> Option<usize> {
        self.handles.iter().enumerate().find(|(at, handle)| *at != index && handle.load.load(Relaxed) == 0).map(|(at, _)| at)
    }

    fn least_loaded(&self) -> usize {
        let loads = self.handles.iter().map(|handle| handle.load.load(Relaxed));
        loads.enumerate().min_by_key(|&(_, load)| load).map_or(0, |(at, _)| at)
    }

    fn hand_over(&self, to: usize, program: &Arc<Program>, request: Request) {
        self.handles[to].load.fetch_add(request.rows, Relaxed);
        self.send(to, Message::Submit(program.clone(), Box::new(request)));
    }
}

/// The state of the lane whose thread this is.
struct Lane {
    index: usize,
    lanes: Arc<Lanes>,
    queues: RefCell<Queues>,
    runner: RefCell<Runner>,
    taken: RefCell<Taken>,
    /// Wakes the lane's task; taken by the first request of a turn.
    waker: Cell<Option<Waker>>,
}

#[derive(Default)]
struct Queues {
    by_program: HashMap<u64, Entry, foldhash::fast::FixedState>,
    /// Programs with a batch to run, in turn.
    ready: VecDeque<u64>,
}

struct Entry {
    program: Arc<Program>,
    queue: Queue,
    /// Whether it is in `ready`, so that it is there once.
    listed: bool,
    /// Whether no more requests will come.
    forgotten: bool,
}

thread_local! {
    static LANE: OnceCell<Lane> = const { OnceCell::new() };
}

/// Queue *request* on this thread's lane, or from any other thread on the least loaded one.
pub fn submit(program: &Arc<Program>, request: Request) {
    LANE.with(|lane| match lane.get() {
        Some(lane) => lane.accept(program, request),
        None => program.lanes.hand_over(program.lanes.least_loaded(), program, request),
    });
}

/// Index of this thread's lane, if it is one of *lanes*.
#[inline]
pub fn current(lanes: &Lanes) -> Option<usize> {
    LANE.with(|lane| lane.get().filter(|lane| std::ptr::eq(&raw const *lane.lanes, lanes)).map(|lane| lane.index))
}

/// Whether this thread is a lane.
pub fn is_here() -> bool {
    // Not while the thread's own storage is taken down: it is no lane any more by then.
    LANE.try_with(|lane| lane.get().is_some()).unwrap_or(false)
}

impl Lane {
    #[inline]
    fn accept(&self, program: &Arc<Program>, request: Request) {
        let load = &self.lanes.handles[self.index].load;
        let waiting_ns = (load.load(Relaxed) as u64).saturating_mul(program.row_ns());
        if waiting_ns > HAND_OVER_NS
            && let Some(other) = self.lanes.idle_other_than(self.index)
        {
            program.metrics.handed_over.add(1);
            return self.lanes.hand_over(other, program, request);
        }
        load.fetch_add(request.rows, Relaxed);
        self.enqueue(program, request);
    }

    /// Queue *request*, whose rows are counted in the load already.
    #[inline]
    fn enqueue(&self, program: &Arc<Program>, request: Request) {
        let mut queues = self.queues.borrow_mut();
        let Queues { by_program, ready } = &mut *queues;
        let entry = by_program.entry(program.id).or_insert_with(|| Entry {
            program: program.clone(),
            queue: Queue::default(),
            listed: false,
            forgotten: false,
        });
        if let Some(refusal) = program.refusal(entry.queue.rows(), &request, 1) {
            self.unload(request.rows);
            drop(queues);
            return request.reply.answer(Err(refusal));
        }
        let first = entry.queue.is_empty();
        entry.queue.push(request);
        let delay = program.spec.max_batch_delay;
        let full = entry.queue.rows() >= program.spec.max_batch_rows;
        if delay.is_zero() || full {
            if !std::mem::replace(&mut entry.listed, true) {
                ready.push_back(program.id);
            }
            drop(queues);
            self.wake();
        } else if first {
            drop(queues);
            list_later(program.id, delay);
        }
    }

    fn unload(&self, rows: usize) {
        self.lanes.handles[self.index].load.fetch_sub(rows, Relaxed);
    }

    #[inline]
    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Run one batch of the program whose turn it is. Return whether more wait.
    fn run_one(&self) -> bool {
        // Nobody else borrows it: an answer may queue a request here, and runs nothing.
        let mut taken = self.taken.borrow_mut();
        let taken = &mut *taken;
        let formed = Instant::now();
        let Some((program, rows)) = self.take_batch(formed, taken) else { return false };
        taken.answer_dropped();
        if !taken.batch.is_empty() {
            self.runner.borrow_mut().run_batch(&program, &mut taken.batch, formed);
        }
        self.unload(rows);
        let mut queues = self.queues.borrow_mut();
        if queues.by_program.get(&program.id).is_some_and(|entry| entry.forgotten) {
            let_go(&mut queues, program.id);
        }
        !queues.ready.is_empty()
    }

    /// The batch whose turn it is, with the rows that it took from the queue (some of which may have been dropped).
    fn take_batch(&self, now: Instant, taken: &mut Taken) -> Option<(Arc<Program>, usize)> {
        let mut queues = self.queues.borrow_mut();
        let Queues { by_program, ready } = &mut *queues;
        let id = ready.pop_front()?;
        let entry = by_program.get_mut(&id)?;
        let program = entry.program.clone();
        let before = entry.queue.rows();
        entry.queue.take_batch(&program.batch_limits(now), taken);
        let rows = before - entry.queue.rows();
        if entry.queue.is_empty() {
            entry.listed = false;
        } else {
            ready.push_back(id);
        }
        Some((program, rows))
    }

    fn receive(&self, message: Message) -> Poll<()> {
        match message {
            Message::Spawn(task) => {
                tokio::spawn(task);
            }
            Message::Submit(program, request) => self.enqueue(&program, *request),
            Message::Forget(id) => let_go(&mut self.queues.borrow_mut(), id),
            Message::Stop => {
                let waiting: Vec<_> =
                    self.queues.borrow_mut().by_program.values_mut().map(|entry| entry.queue.take_all()).collect();
                waiting.into_iter().for_each(fail_stopping);
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

/// Let program *id* go if none of its requests waits, else after the last of them.
#[cold]
fn let_go(queues: &mut Queues, id: u64) {
    let MapEntry::Occupied(mut found) = queues.by_program.entry(id) else { return };
    found.get_mut().forgotten = true;
    if found.get().queue.is_empty() {
        found.remove();
    }
}

/// List program *id* as ready after *delay*: its batch has waited long enough for more rows.
fn list_later(id: u64, delay: Duration) {
    tokio::spawn(async move {
        tokio::time::sleep(delay).await;
        LANE.with(|lane| {
            let Some(lane) = lane.get() else { return };
            let mut queues = lane.queues.borrow_mut();
            let Queues { by_program, ready } = &mut *queues;
            let Some(entry) = by_program.get_mut(&id) else { return };
            if !entry.queue.is_empty() && !std::mem::replace(&mut entry.listed, true) {
                ready.push_back(id);
                drop(queues);
                lane.wake();
            }
        });
    });
}

/// The task that runs a lane's batches, between the turns of its connections.
pub struct LaneTask {
    inbox: mpsc::UnboundedReceiver<Message>,
    spin: Duration,
    idle_since: Option<Instant>,
}

impl LaneTask {
    /// Make this thread lane *index*. Its task must be spawned on this thread's runtime.
    pub fn install(index: usize, lanes: Arc<Lanes>, inbox: mpsc::UnboundedReceiver<Message>, spin: Duration) -> Self {
        LANE.with(|lane| {
            lane.get_or_init(|| Lane {
                index,
                lanes,
                queues: RefCell::default(),
                runner: RefCell::default(),
                taken: RefCell::default(),
                waker: Cell::default(),
            });
        });
        Self { inbox, spin, idle_since: None }
    }

    fn turn(&mut self, lane: &Lane, context: &mut Context<'_>) -> Poll<()> {
        while let Poll::Ready(message) = self.inbox.poll_recv(context) {
            if lane.receive(message.unwrap_or(Message::Stop)).is_ready() {
                return Poll::Ready(());
            }
        }
        let busy = !lane.queues.borrow().ready.is_empty();
        if busy {
            self.idle_since = None;
            if lane.run_one() {
                // Behind every connection that is ready now, so that answers leave and new requests join.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        lane.waker.set(Some(context.waker().clone()));
        self.keep_spinning(context);
        Poll::Pending
    }

    /// Look for work again at once while the lane has been idle for less than the spin time.
    fn keep_spinning(&mut self, context: &mut Context<'_>) {
        if self.spin.is_zero() {
            return;
        }
        let since = *self.idle_since.get_or_insert_with(Instant::now);
        if since.elapsed() < self.spin {
            context.waker().wake_by_ref();
        }
    }
}

impl Future for LaneTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        LANE.with(|lane| lane.get().map_or(Poll::Ready(()), |lane| self.turn(lane, context)))
    }
}
