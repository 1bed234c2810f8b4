//! Runs the calls that are taken, on this process's own lanes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use bettong_frame::bind::shape_fits;
use bettong_frame::{Answer, BatchMode, Dispatch, Error, ErrorKind, Reply, Request, Result, Signature, Tensor, Trace};
use bettong_telemetry::log::debug_enabled;
use bettong_telemetry::{PipelineMetrics, Registry};
use bettong_wire::link::{Body, OutcomeHead, Tensors, decode_tensors};

use crate::names::{Names, ProgramName};
use crate::outbox::Answering;
use crate::service::{Calls, Inbound};

/// A pipeline version that is run for others.
pub struct Hosted {
    /// What it takes and gives.
    pub signature: Signature,
    /// Who runs it.
    pub target: Arc<dyn Dispatch>,
    /// What is counted of it.
    pub metrics: Arc<PipelineMetrics>,
}

type Table = HashMap<u32, (Arc<ProgramName>, Arc<Hosted>), foldhash::fast::FixedState>;

/// The pipeline versions that calls may name.
pub struct Host {
    hosted: ArcSwap<Table>,
    changing: Mutex<()>,
    names: Arc<Names>,
    registry: Arc<Registry>,
    /// Calls under way at most.
    max_calls: i64,
    /// Rows of all calls under way: told to those who choose among replicas.
    rows: Arc<AtomicUsize>,
}

impl Host {
    /// A host of nothing, which takes at most *`max_calls`* at once.
    pub fn new(names: Arc<Names>, registry: Arc<Registry>, max_calls: i64) -> Self {
        Self { hosted: ArcSwap::default(), changing: Mutex::default(), names, registry, max_calls, rows: Arc::default() }
    }

    /// Run *serve* from now on, and *stop*, by pipeline and version, no more. Calls see the state before or after it, and what
    /// is counted follows, however many changes come at once.
    pub fn change(&self, serve: Vec<(String, String, Hosted)>, stop: &[(String, String)]) {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table::clone(&self.hosted.load());
        table.retain(|_, (name, _)| {
            !stop.iter().any(|(pipeline, version)| **pipeline == *name.pipeline && **version == *name.version)
        });
        for (pipeline, version) in stop {
            self.registry.forget_version(pipeline, version);
        }
        for (pipeline, version, hosted) in serve {
            self.registry.keep(&hosted.metrics);
            let name = self.names.intern(&pipeline, &version);
            table.insert(name.index, (name, Arc::new(hosted)));
        }
        self.hosted.store(Arc::new(table));
    }

    #[inline]
    fn find(&self, name: &ProgramName) -> Result<Arc<Hosted>> {
        if self.registry.gateway.in_flight.get() >= self.max_calls {
            return Err(Error::new(ErrorKind::ResourceExhausted, "the executor is at its limit of calls"));
        }
        let table = self.hosted.load();
        table.get(&name.index).map(|(_, hosted)| hosted.clone()).ok_or_else(|| {
            let (pipeline, version) = (&name.pipeline, &name.version);
            Error::new(ErrorKind::Unavailable, format!("pipeline '{pipeline}' in version '{version}' is not on this executor"))
        })
    }
}

/// The inputs of a call, which the gateway has bound; checked again because its program may not be ours.
#[inline]
fn inputs(signature: &Signature, call: &Inbound) -> Result<Tensors> {
    let unread = |error: Error| Error::internal(format!("the inputs of a call can't be read: {error}"));
    let inputs = decode_tensors(&call.inputs).map_err(unread)?;
    let (mode, rows) = (signature.batch_mode, call.head.rows as usize);
    let fits = |tensor: &Tensor, spec: &bettong_frame::TensorSpec| {
        let all_rows = mode == BatchMode::Whole || (rows > 0 && rows == tensor.rows());
        tensor.dtype == spec.dtype && shape_fits(mode, &spec.shape, &tensor.shape) && all_rows
    };
    let same = inputs.len() == signature.inputs.len()
        && inputs.iter().zip(&signature.inputs).all(|(tensor, input)| fits(tensor, &input.spec));
    if same { Ok(inputs) } else { Err(Error::internal("the inputs of a call are not those of its pipeline version")) }
}

impl Calls for Host {
    fn waiting_rows(&self) -> u32 {
        self.rows.load(Relaxed) as u32
    }

    #[inline]
    fn take(&self, call: Inbound) {
        let hosted = match self.find(&call.name) {
            Ok(hosted) => hosted,
            Err(error) => return call.answering.fail(error, true, self.waiting_rows()),
        };
        let inputs = match inputs(&hosted.signature, &call) {
            Ok(inputs) => inputs,
            Err(error) => return call.answering.fail(error, true, self.waiting_rows()),
        };
        let Inbound { name, head, arrived, answering, .. } = call;
        let rows = head.rows as usize;
        self.registry.gateway.in_flight.add(1);
        self.rows.fetch_add(rows, Relaxed);
        let trace = Trace { request_id: head.request_id, traceparent: head.traceparent };
        let reply = HostReply {
            answering: Some(answering),
            trace,
            name,
            metrics: hosted.metrics.clone(),
            registry: self.registry.clone(),
            rows_under_way: self.rows.clone(),
            rows,
        };
        let deadline = head.timeout.and_then(|timeout| arrived.checked_add(timeout));
        hosted.target.submit(Request { inputs, rows, arrived, deadline, reply: Box::new(reply) });
    }
}

/// Answers a call from wherever its batch ran.
struct HostReply {
    /// Taken by the answer; dropped, it says that the call was lost.
    answering: Option<Answering>,
    trace: Trace,
    name: Arc<ProgramName>,
    metrics: Arc<PipelineMetrics>,
    registry: Arc<Registry>,
    rows_under_way: Arc<AtomicUsize>,
    rows: usize,
}

impl Reply for HostReply {
    fn is_abandoned(&mut self) -> bool {
        self.answering.as_ref().is_none_or(Answering::is_abandoned)
    }

    fn answer(mut self: Box<Self>, outcome: Result<Answer>) {
        let Some(answering) = self.answering.take() else { return };
        if debug_enabled() {
            self.log(outcome.as_ref().err());
        }
        match outcome {
            Ok(answer) => {
                self.registry.gateway.answered.add(1);
                self.metrics.ok.add(1);
                let head = OutcomeHead {
                    queue_ns: answer.timing.queue_ns,
                    steps_ns: answer.timing.steps_ns,
                    batch_rows: answer.timing.batch_rows as u32,
                    waiting_rows: self.rows_under_way.load(Relaxed) as u32,
                    ..OutcomeHead::default()
                };
                answering.answer(head, Some(&Body::Tensors(answer.outputs)));
            }
            Err(error) => {
                self.registry.gateway.failed.add(1);
                self.metrics.count_failure(error.kind);
                // Refused by a queue, or by lanes that are stopping: neither has begun to run it.
                let not_run = matches!(error.kind, ErrorKind::ResourceExhausted | ErrorKind::Unavailable);
                answering.fail(error, not_run, self.rows_under_way.load(Relaxed) as u32);
            }
        }
    }

    fn trace(&self) -> Trace {
        self.trace.clone()
    }
}

impl HostReply {
    #[cold]
    fn log(&self, error: Option<&Error>) {
        let request_id = String::from_utf8_lossy(&self.trace.request_id);
        let (pipeline, version) = (&*self.name.pipeline, &*self.name.version);
        let code = error.map_or("OK", |error| error.kind.name());
        tracing::debug!(event = "call", pipeline, version, request_id = &*request_id, code, rows = self.rows);
    }
}

impl Drop for HostReply {
    fn drop(&mut self) {
        self.registry.gateway.in_flight.add(-1);
        self.rows_under_way.fetch_sub(self.rows, Relaxed);
    }
}
