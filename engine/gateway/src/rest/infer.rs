//! What the native route does between decoding and encoding: admit, bind, run, wait.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bettong_frame::bind::{Columns, Strictness, bind};
use bettong_frame::{Answer, Error, ErrorKind, Reply, Request, Result, Trace};
use bettong_wire::grpc::{Encoding, decompress};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Asked, Client};
use crate::head::Head;
use crate::routes::Entry;
use crate::shared::Shared;

/// Hands the outcome to the connection's task.
struct RestReply {
    /// Taken by the answer; dropped unanswered, it tells the waiter.
    outcome: Option<oneshot::Sender<Result<Answer>>>,
    trace: Trace,
}

impl Reply for RestReply {
    fn is_abandoned(&mut self) -> bool {
        self.outcome.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    fn answer(mut self: Box<Self>, outcome: Result<Answer>) {
        if let Some(sender) = self.outcome.take() {
            // The client may have left meanwhile.
            let _ = sender.send(outcome);
        }
    }

    fn trace(&self) -> Trace {
        self.trace.clone()
    }
}

/// One infer request of a known pipeline.
pub struct Infer<'a, 'c> {
    pub shared: &'a Arc<Shared>,
    pub entry: &'a Entry,
    pub asked: &'a Asked<'a>,
    /// Bytes of the body, for admission.
    pub bytes: usize,
    pub columns: &'a Columns<'c>,
    pub strictness: Strictness,
    /// A time-out that the body gave.
    pub timeout: Option<Duration>,
}

impl Infer<'_, '_> {
    /// Run it, and wait for the answer or for the client to leave.
    pub async fn run(self, client: &mut impl Client) -> Result<Answer> {
        let _permit = self.shared.admit(self.bytes)?;
        self.entry.metrics.request_bytes.add(self.bytes as u64);
        let route = &self.entry.route;
        let (inputs, rows) = bind(&route.signature, self.columns, self.strictness)?;
        let (sender, receiver) = oneshot::channel();
        let (arrived, deadline) = (self.asked.arrived, self.asked.head.deadline(self.asked.arrived, self.timeout));
        let reply = Box::new(RestReply { outcome: Some(sender), trace: self.asked.head.trace() });
        route.target.submit(Request { inputs, rows, arrived, deadline, reply });
        wait(receiver, client).await?
    }
}

/// Wait for what comes through *receiver*, or for *client* to leave.
pub async fn wait<T>(receiver: oneshot::Receiver<T>, client: &mut impl Client) -> Result<T> {
    let mut receiver = pin!(receiver);
    poll_fn(|context| {
        if let Poll::Ready(outcome) = receiver.as_mut().poll(context) {
            return Poll::Ready(outcome.map_err(|_| Error::internal("the request was lost inside the server")));
        }
        client.poll_left(context).map(|()| Err(Error::new(ErrorKind::Cancelled, "the client left")))
    })
    .await
}

/// *body* as it was before `content-encoding`.
pub fn inflated(head: &Head, body: Bytes, limit: usize) -> Result<Bytes> {
    let Some(name) = &head.content_encoding else { return Ok(body) };
    let encoding = Encoding::from_name(Some(name)).map_err(|error| Error::new(ErrorKind::UnsupportedMediaType, error.message))?;
    if encoding == Encoding::Identity { Ok(body) } else { decompress(encoding, &body, limit) }
}
