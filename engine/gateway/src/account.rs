//! What is counted and logged of each request, once it is answered.

use std::sync::atomic::{AtomicU64, Ordering};

use bettong_frame::{Answer, Error, ErrorKind};
use bettong_telemetry::log::debug_enabled;
use bytes::Bytes;

use crate::head::Head;
use crate::routes::Entry;
use crate::shared::Shared;

/// A request that is being answered.
#[derive(Clone, Copy)]
pub struct Account<'a> {
    /// `grpc`, `grpc-stream`, `rest` or `native`; `http` when it was not understood that far.
    pub protocol: &'static str,
    /// Its pipeline, if that was found.
    pub entry: Option<&'a Entry>,
    /// Its headers.
    pub head: &'a Head,
}

impl Account<'_> {
    /// Count an answer of *bytes*.
    #[inline]
    pub fn answered(&self, shared: &Shared, answer: &Answer, bytes: usize) {
        shared.registry.gateway.answered.add(1);
        if let Some(entry) = self.entry {
            entry.metrics.ok.add(1);
            entry.metrics.reply_bytes.add(bytes as u64);
        }
        if debug_enabled() {
            self.log_answer(answer);
        }
    }

    /// Count a failure; an internal one is logged as such, because somebody must look at it.
    #[cold]
    pub fn failed(&self, shared: &Shared, error: &Error) {
        let gateway = &shared.registry.gateway;
        if error.kind == ErrorKind::ResourceExhausted {
            gateway.refused.add(1);
        } else {
            gateway.failed.add(1);
        }
        if let Some(entry) = self.entry {
            entry.metrics.count_failure(error.kind);
        }
        let (pipeline, version, request_id) = self.names();
        let (protocol, code, message) = (self.protocol, error.kind.name(), &*error.message);
        if error.kind == ErrorKind::Internal {
            tracing::error!(event = "request_failed", protocol, pipeline, version, request_id, code, error = message);
        } else if debug_enabled() {
            tracing::debug!(event = "request", protocol, pipeline, version, request_id, code, error = message);
        }
    }

    #[cold]
    fn log_answer(&self, answer: &Answer) {
        let (pipeline, version, request_id) = self.names();
        let (protocol, timing) = (self.protocol, &answer.timing);
        let rows = answer.outputs.first().map_or(0, bettong_frame::Tensor::rows);
        let run_ns: u64 = timing.steps_ns.iter().sum();
        let (queue_ns, batch_rows) = (timing.queue_ns, timing.batch_rows);
        tracing::debug!(
            event = "request",
            protocol,
            pipeline,
            version,
            request_id,
            code = "OK",
            rows,
            batch_rows,
            queue_ns,
            run_ns
        );
    }

    fn names(&self) -> (&str, &str, String) {
        let (pipeline, version) = self.entry.map_or(("", ""), |entry| (&*entry.route.pipeline, &*entry.route.version));
        let id = self.head.request_id().map(|id| String::from_utf8_lossy(&id).into_owned());
        (pipeline, version, id.unwrap_or_default())
    }
}

/// An id for a request that came without one: unique in this process, and unlikely to meet another process's.
pub fn new_request_id() -> Bytes {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    static PROCESS: std::sync::LazyLock<u64> = std::sync::LazyLock::new(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        (now.as_nanos() as u64).rotate_left(20) ^ u64::from(std::process::id())
    });
    Bytes::from(format!("{:016x}{:08x}", *PROCESS, NEXT.fetch_add(1, Ordering::Relaxed)))
}
