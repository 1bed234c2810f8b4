//! A batch of rows on its way through the engine, and who waits for it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::{Result, Signature, Tensor};

/// Where requests for one pipeline version go, and what they must look like.
pub struct Route {
    /// Name of the pipeline.
    pub pipeline: Arc<str>,
    /// Version, as clients spell it.
    pub version: Arc<str>,
    /// What it takes and gives.
    pub signature: Signature,
    /// Name and SHA-256 of the last step's model, as JSON text (`metadata.last_model`).
    pub last_model: Arc<str>,
    /// Who runs it.
    pub target: Arc<dyn Dispatch>,
}

/// Rows to be run, with their waiter.
pub struct Request {
    /// One tensor for each input of the signature, in its order, checked against it.
    pub inputs: SmallVec<[Tensor; 2]>,
    /// Rows of every input.
    pub rows: usize,
    /// When it was read from its connection.
    pub arrived: Instant,
    /// When its answer is of no more use.
    pub deadline: Option<Instant>,
    /// Who waits.
    pub reply: Box<dyn Reply>,
}

/// The waiter of one request. It is answered exactly once; one that is dropped unanswered answers an internal error.
pub trait Reply: Send {
    /// Whether the client has left, so that the work is of no more use.
    fn is_abandoned(&mut self) -> bool;

    /// Hand over the outcome.
    fn answer(self: Box<Self>, outcome: Result<Answer>);

    /// What the request is called, for those that it is passed on to.
    fn trace(&self) -> Trace {
        Trace::default()
    }
}

/// What a request is called in the logs of every process that it passes.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The client's id for it; empty if there is none.
    pub request_id: Bytes,
    /// W3C trace context; empty if there is none.
    pub traceparent: Bytes,
}

/// What a pipeline gave for the rows of one request.
#[derive(Debug, Clone)]
pub struct Answer {
    /// One tensor for each output of the signature, in its order.
    pub outputs: SmallVec<[Tensor; 2]>,
    /// Where the time went.
    pub timing: Timing,
}

/// Where the time of one request went, in nanoseconds.
#[derive(Debug, Clone, Default)]
pub struct Timing {
    /// From arrival until its batch was formed.
    pub queue_ns: u64,
    /// Each step's run of the whole batch.
    pub steps_ns: SmallVec<[u64; 4]>,
    /// Rows of the batch that it rode in.
    pub batch_rows: usize,
}

/// Takes requests of one pipeline version.
pub trait Dispatch: Send + Sync {
    /// Take a request, or answer it with the reason why not. Never blocks.
    fn submit(&self, request: Request);
}

/// A future to be run on a reactor's own thread.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The threads that own connections.
pub trait Reactors: Send + Sync {
    /// How many there are.
    fn count(&self) -> usize;

    /// Run *task* on reactor *index*. Tasks that come after the end are dropped.
    fn spawn(&self, index: usize, task: Task);

    /// Which of them the caller is on, if any.
    fn current(&self) -> Option<usize>;
}
