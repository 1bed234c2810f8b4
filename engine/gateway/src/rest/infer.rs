//! What the native route does between decoding and encoding: bind, run, wait. What both routes do with large bodies.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bettong_frame::bind::{Columns, Strictness, bind};
use bettong_frame::{Answer, Error, ErrorKind, Reply, Request, Result, Trace};
use bettong_wire::grpc::{Encoding, decompress};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Asked, Client};
use crate::admission::Permit;
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
    pub entry: &'a Entry,
    pub asked: &'a Asked<'a>,
    pub columns: &'a Columns<'c>,
    pub strictness: Strictness,
    /// A time-out that the body gave.
    pub timeout: Option<Duration>,
}

impl Infer<'_, '_> {
    /// Run it, and wait for the answer or for the client to leave.
    pub async fn run(self, client: &mut impl Client) -> Result<Answer> {
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

/// Bodies of at least this many bytes are decoded and encoded off the reactor, which answers others meanwhile.
pub const LARGE_BYTES: usize = 1 << 20;

/// Whether a body is to be decoded off the reactor. What a compressed one becomes is not known before.
#[inline]
pub fn is_heavy(head: &Head, text_bytes: usize) -> bool {
    text_bytes >= LARGE_BYTES || head.content_encoding.is_some()
}

/// *body* as it was before `content-encoding`, which *permit* then holds.
#[inline]
pub fn admitted(shared: &Shared, head: &Head, body: Bytes, permit: &mut Permit) -> Result<Bytes> {
    if head.content_encoding.is_none() {
        return Ok(body);
    }
    let body = inflated(head, body, shared.max_request_bytes)?;
    permit.resize(shared.limits, body.len())?;
    Ok(body)
}

/// *body* as it was before `content-encoding`.
#[cold]
fn inflated(head: &Head, body: Bytes, limit: usize) -> Result<Bytes> {
    let Some(name) = &head.content_encoding else { return Ok(body) };
    let encoding = Encoding::from_name(Some(name)).map_err(|error| Error::new(ErrorKind::UnsupportedMediaType, error.message))?;
    if encoding == Encoding::Identity { Ok(body) } else { decompress(encoding, &body, limit) }
}
