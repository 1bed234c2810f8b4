//! `POST /v2/models/{name}/infer`: the hot path of REST.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bettong_frame::bind::{Strictness, bind};
use bettong_frame::{Answer, Error, Reply as _, Request, Result, Tensor, Trace};
use bettong_wire::oip_json::{self, ReplyHead, Wanted};
use bytes::Bytes;
use http::Method;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::infer::{inflated, wait};
use super::reply::{JSON, failure};
use super::routes::infer_target;
use super::{Asked, Client, Reply};
use crate::account::Account;
use crate::admission::Permit;
use crate::head::Head;
use crate::routes::Entry;
use crate::shared::Shared;

/// Bytes of JSON before binary tensors, in replies as in requests.
const JSON_LENGTH: &str = "inference-header-content-length";

/// For errors, whose form depends on it.
const PATH: &str = "/v2";

/// The model that a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferTarget {
    name: Box<str>,
    /// Empty for any.
    version: Box<str>,
}

impl InferTarget {
    /// What a request wants inferred, if it is one of this kind.
    pub fn of(method: &Method, path: &str) -> Option<Self> {
        let (name, version) = infer_target(path).filter(|_| *method == Method::POST)?;
        Some(Self { name: name.into(), version: version.into() })
    }
}

/// Who gets the reply to an infer request, from whichever thread has it.
pub trait Answering: Send + 'static {
    /// Whether nobody waits for it any more.
    fn has_left(&self) -> bool;

    /// Send it; *head* is that of the request.
    fn send(self, reply: Reply, head: &Head);
}

impl Answering for oneshot::Sender<Reply> {
    fn has_left(&self) -> bool {
        self.is_closed()
    }

    fn send(self, reply: Reply, _head: &Head) {
        // The client may have left meanwhile.
        let _ = self.send(reply);
    }
}

/// An infer request with everything that it says.
pub struct Incoming<'a> {
    pub target: &'a InferTarget,
    pub head: &'a Arc<Head>,
    pub body: Bytes,
    /// When the head had been read.
    pub arrived: Instant,
}

/// Run one request, and wait for its reply or for the client to leave.
pub async fn infer(shared: &Arc<Shared>, asked: &Asked<'_>, body: Bytes, client: &mut impl Client) -> Result<Reply> {
    let target = InferTarget::of(asked.method, asked.path).ok_or_else(|| Error::internal("the path is not one of infer's"))?;
    let (sender, receiver) = oneshot::channel();
    let incoming = Incoming { target: &target, head: asked.head, body, arrived: asked.arrived };
    submit(shared, incoming, sender);
    wait(receiver, client).await
}

/// Run one request. *answering* gets the reply, now or later.
pub fn submit<A: Answering>(shared: &Arc<Shared>, incoming: Incoming<'_>, answering: A) {
    let (head, arrived) = (incoming.head, incoming.arrived);
    let mut found = None;
    match prepare(shared, incoming, &mut found) {
        Ok(Prepared { question, inputs, rows, timeout }) => {
            let deadline = head.deadline(arrived, timeout);
            let target = question.entry.route.target.clone();
            let reply = Box::new(OipReply { waiting: Some((question, answering)) });
            target.submit(Request { inputs, rows, arrived, deadline, reply });
        }
        Err(error) => {
            let account = Account { protocol: "rest", entry: found.as_deref(), head };
            answering.send(failure(shared, &account, &error, PATH), head);
        }
    }
}

/// A request that may be run.
struct Prepared {
    question: Question,
    inputs: SmallVec<[Tensor; 2]>,
    rows: usize,
    timeout: Option<Duration>,
}

/// What is needed to answer one request.
struct Question {
    entry: Arc<Entry>,
    head: Arc<Head>,
    /// The request's id.
    id: Option<Box<str>>,
    wanted: SmallVec<[Wanted; 4]>,
    shared: Arc<Shared>,
    _permit: Permit,
}

/// Decode, admit and bind; *found* is the entry as soon as it is known.
#[inline]
fn prepare(shared: &Arc<Shared>, incoming: Incoming<'_>, found: &mut Option<Arc<Entry>>) -> Result<Prepared> {
    let entry = found.insert(shared.routes.find(&incoming.target.name, &incoming.target.version)?);
    let signature = &entry.route.signature;
    let body = inflated(incoming.head, incoming.body, shared.max_request_bytes)?;
    let request = oip_json::decode(&body, incoming.head.json_len)?;
    let wanted = oip_json::wanted_outputs(&request, &signature.outputs)?;
    let timeout = request.timeout()?;
    let permit = shared.admit(body.len())?;
    entry.metrics.request_bytes.add(body.len() as u64);
    let (inputs, rows) = bind(signature, &request.columns, Strictness::Exact)?;
    let (entry, head, id) = (entry.clone(), incoming.head.clone(), request.id.map(Into::into));
    let question = Question { entry, head, id, wanted, shared: shared.clone(), _permit: permit };
    Ok(Prepared { question, inputs, rows, timeout })
}

impl Question {
    #[inline]
    fn reply(&self, answer: &Answer) -> Result<Reply> {
        let route = &self.entry.route;
        let head =
            ReplyHead { model_name: &route.pipeline, model_version: &route.version, id: self.id.as_deref(), parameters: &[] };
        let (body, json_len) = oip_json::encode(&head, &route.signature.outputs, &answer.outputs, &self.wanted)?;
        let mut reply = Reply { content_type: JSON, body, ..Reply::default() };
        if let Some(json_len) = json_len {
            reply.content_type = "application/octet-stream";
            reply.headers.push((JSON_LENGTH, json_len.to_string()));
        }
        Ok(reply)
    }

    fn account(&self) -> Account<'_> {
        Account { protocol: "rest", entry: Some(&self.entry), head: &self.head }
    }
}

/// Answers a request from wherever its batch ran.
struct OipReply<A: Answering> {
    /// Taken by the answer.
    waiting: Option<(Question, A)>,
}

impl<A: Answering> bettong_frame::Reply for OipReply<A> {
    fn is_abandoned(&mut self) -> bool {
        self.waiting.as_ref().is_none_or(|(_, answering)| answering.has_left())
    }

    fn trace(&self) -> Trace {
        self.waiting.as_ref().map(|(question, _)| question.head.trace()).unwrap_or_default()
    }

    fn answer(mut self: Box<Self>, outcome: Result<Answer>) {
        let Some((question, answering)) = self.waiting.take() else { return };
        let replied = outcome.and_then(|answer| question.reply(&answer).map(|reply| (reply, answer)));
        let shared = &question.shared;
        let reply = match replied {
            Ok((reply, answer)) => {
                question.account().answered(shared, &answer, reply.body.len());
                reply
            }
            Err(error) => failure(shared, &question.account(), &error, PATH),
        };
        answering.send(reply, &question.head);
    }
}

impl<A: Answering> Drop for OipReply<A> {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            let lost = Box::new(Self { waiting: Some(waiting) });
            lost.answer(Err(Error::internal("the request was lost inside the server")));
        }
    }
}
