//! What all connections of a gateway share.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Context;
use std::time::{Duration, Instant};

use atomic_waker::AtomicWaker;
use bettong_frame::{Error, Result};
use bettong_telemetry::Registry;
use tokio::sync::{Semaphore, watch};

use crate::admission::{Limits, Permit};
use crate::control::Control;
use crate::routes::Routes;
use crate::streams::Streams;

/// A body that comes or goes more slowly than this has the read time-out in all, and no more.
pub const LEAST_BYTES_PER_S: f64 = 16_384.0;

/// What a gateway is at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Not ready yet.
    Starting = 0,
    /// Ready.
    Serving = 1,
    /// Finishing what is under way.
    Draining = 2,
}

/// What all connections of a gateway share.
pub struct Shared {
    pub routes: Routes,
    pub registry: Arc<Registry>,
    pub limits: Limits,
    pub max_request_bytes: usize,
    pub read_timeout: Duration,
    pub keep_alive: Duration,
    pub version: String,
    pub control_address: String,
    pub metrics_address: OnceLock<String>,
    pub openapi: OnceLock<bytes::Bytes>,
    pub engine_name: String,
    pub control: Control,
    pub connections: Connections,
    /// Streams of other processes, if they are taken.
    pub streams: Option<Box<dyn Streams>>,
    /// Becomes true when nothing new is taken any more.
    pub stop: watch::Sender<bool>,
    /// Counts changes of readiness and of the table, for health watchers.
    pub changes: watch::Sender<u64>,
    phase: AtomicU8,
    /// Replies that HTTP/2 connections still have to send.
    unsent: AtomicI64,
    /// Frames that may be converted at once beside the lanes.
    conversions: Semaphore,
}

impl Shared {
    pub fn new(settings: Settings, registry: Arc<Registry>, control: Control, streams: Option<Box<dyn Streams>>) -> Self {
        Self {
            routes: Routes::default(),
            registry,
            limits: settings.limits,
            max_request_bytes: settings.max_request_bytes,
            read_timeout: settings.read_timeout,
            keep_alive: settings.keep_alive,
            version: settings.version,
            control_address: settings.control_address,
            metrics_address: OnceLock::new(),
            openapi: OnceLock::new(),
            engine_name: settings.engine_name,
            control,
            connections: Connections::default(),
            streams,
            stop: watch::Sender::new(false),
            changes: watch::Sender::new(0),
            phase: AtomicU8::new(Phase::Starting as u8),
            unsent: AtomicI64::new(0),
            conversions: Semaphore::new(settings.conversions),
        }
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Draining,
        }
    }

    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
        self.announce();
    }

    /// Tell health watchers to look again.
    pub fn announce(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    pub fn is_ready(&self) -> bool {
        self.phase() == Phase::Serving
    }

    /// Take a place for a request of *bytes*.
    #[inline]
    pub fn admit(&self, bytes: usize) -> Result<Permit> {
        Permit::take(&self.registry, self.limits, bytes)
    }

    /// Whether a request is under way, or a reply that was handed over and not sent.
    pub fn is_at_work(&self) -> bool {
        self.registry.gateway.in_flight.get() > 0 || self.unsent.load(Ordering::Acquire) > 0
    }

    /// Do *work* on another thread, so that the caller's lane goes on with others. As much at once as there are lanes; what is
    /// more waits.
    pub async fn apart<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        // The semaphore is never closed.
        let _turn = self.conversions.acquire().await;
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|_panicked| Error::internal("the frame could not be converted"))
    }
}

/// Keeps a drain waiting for a reply that is not sent yet. No permit: how long a client takes is no matter of admission.
pub struct Unsent(Arc<Shared>);

impl Unsent {
    pub fn new(shared: &Arc<Shared>) -> Self {
        shared.unsent.fetch_add(1, Ordering::AcqRel);
        Self(shared.clone())
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        self.0.unsent.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Settings of [`Shared`].
pub struct Settings {
    pub limits: Limits,
    pub max_request_bytes: usize,
    pub read_timeout: Duration,
    pub keep_alive: Duration,
    pub version: String,
    pub control_address: String,
    pub engine_name: String,
    pub conversions: usize,
}

/// Open connections, each of which can be told to finish.
#[derive(Default)]
pub struct Connections {
    signals: Mutex<Vec<Arc<Signal>>>,
    /// Told whenever a connection ends.
    ended: Condvar,
}

/// Tells one connection to finish, and in the end to stop; wakes its task.
#[derive(Default)]
pub struct Signal {
    finish: AtomicBool,
    /// Set when nothing that this connection could still get is under way.
    stop: AtomicBool,
    /// Whether bytes have come or gone since the last look.
    moved: AtomicBool,
    waker: AtomicWaker,
}

impl Signal {
    /// Have the current task woken by [`Self::wake`], and when there is something to finish or to stop.
    #[inline]
    pub fn register(&self, context: &Context<'_>) {
        self.waker.register(context.waker());
    }

    /// Wake the connection's task.
    #[inline]
    pub fn wake(&self) {
        self.waker.wake();
    }

    /// Whether to finish what is under way and then to end.
    #[inline]
    pub fn is_finishing(&self) -> bool {
        self.finish.load(Ordering::Acquire)
    }

    /// Whether the connection is to be dropped: the server drains, and nothing is under way any more.
    #[inline]
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Note that bytes have come or gone.
    #[inline]
    pub fn note_moved(&self) {
        self.moved.store(true, Ordering::Relaxed);
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.waker.wake();
    }

    fn fire(&self) {
        self.finish.store(true, Ordering::Release);
        self.waker.wake();
    }
}

/// A connection's place in the list.
pub struct Registered {
    shared: Arc<Shared>,
    pub signal: Arc<Signal>,
}

impl Registered {
    pub fn new(shared: &Arc<Shared>) -> Self {
        let signal = Arc::new(Signal::default());
        shared.registry.gateway.connections.add(1);
        shared.connections.lock().push(signal.clone());
        if shared.phase() == Phase::Draining {
            signal.fire();
        }
        Self { shared: shared.clone(), signal }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let connections = &self.shared.connections;
        connections.lock().retain(|other| !Arc::ptr_eq(other, &self.signal));
        self.shared.registry.gateway.connections.add(-1);
        connections.ended.notify_all();
    }
}

impl Connections {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Signal>>> {
        self.signals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tell every connection to finish.
    pub fn finish_all(&self) {
        for signal in &*self.lock() {
            signal.fire();
        }
    }

    /// Whether any connection has sent or got something since the last call.
    pub fn have_moved(&self) -> bool {
        // All are asked: each answer is given once.
        self.lock().iter().fold(false, |any, signal| signal.moved.swap(false, Ordering::Relaxed) | any)
    }

    /// Drop every connection.
    pub fn stop_all(&self) {
        for signal in &*self.lock() {
            signal.stop();
        }
    }

    /// Wait until there is no connection, at most until *deadline*. Blocks the thread. Return whether there is none.
    pub fn wait_until_none(&self, deadline: Instant) -> bool {
        let mut open = self.lock();
        while !open.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            open = self.ended.wait_timeout(open, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}
