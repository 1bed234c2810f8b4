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

use super::infer::{admitted, is_heavy, wait};
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
#[inline]
pub fn submit<A: Answering>(shared: &Arc<Shared>, incoming: Incoming<'_>, answering: A) {
    let (head, arrived) = (incoming.head, incoming.arrived);
    let mut found = None;
    match Question::admit(shared, &incoming, &mut found) {
        Ok(question) => {
            let reply = Box::new(OipReply { waiting: Some((question, answering)) });
            if is_heavy(head, text_bytes(head, &incoming.body)) {
                return read_apart(shared.clone(), reply, incoming.body, arrived);
            }
            read_and_run(reply, incoming.body, arrived);
        }
        Err(error) => {
            let account = Account { protocol: "rest", entry: found.as_deref(), head };
            answering.send(failure(shared, &account, &error, PATH), head);
        }
    }
}

/// How much of *body* is JSON: tensors behind it are taken as they are.
#[inline]
fn text_bytes(head: &Head, body: &Bytes) -> usize {
    head.json_len.map_or(body.len(), |json_len| json_len.min(body.len()))
}

/// Read *body* and have it run.
#[inline]
fn read_and_run<A: Answering>(mut reply: Box<OipReply<A>>, body: Bytes, arrived: Instant) {
    match reply.read(body) {
        Ok(input) => run(reply, input, arrived),
        Err(error) => reply.answer(Err(error)),
    }
}

/// [`read_and_run`] of a body that takes a while to read.
#[cold]
fn read_apart<A: Answering>(shared: Arc<Shared>, mut reply: Box<OipReply<A>>, body: Bytes, arrived: Instant) {
    tokio::spawn(async move {
        let read = move || {
            let input = reply.read(body);
            (reply, input)
        };
        match shared.apart(read).await {
            Ok((reply, Ok(input))) => run(reply, input, arrived),
            Ok((reply, Err(error))) => reply.answer(Err(error)),
            // The reply was dropped, which answers it.
            Err(_lost) => {}
        }
    });
}

/// Have *input* run by the pipeline of *reply*.
#[inline]
fn run<A: Answering>(reply: Box<OipReply<A>>, input: Input, arrived: Instant) {
    let Some((question, _)) = &reply.waiting else { return };
    let deadline = question.head.deadline(arrived, input.timeout);
    let target = question.entry.route.target.clone();
    target.submit(Request { inputs: input.tensors, rows: input.rows, arrived, deadline, reply });
}

/// What a request gives its pipeline.
struct Input {
    tensors: SmallVec<[Tensor; 2]>,
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
    permit: Permit,
}

impl Question {
    /// Admit a request; *found* is the entry as soon as it is known.
    #[inline]
    fn admit(shared: &Arc<Shared>, incoming: &Incoming<'_>, found: &mut Option<Arc<Entry>>) -> Result<Self> {
        let entry = found.insert(shared.routes.find(&incoming.target.name, &incoming.target.version)?);
        let permit = shared.admit(incoming.body.len())?;
        let (entry, head, shared) = (entry.clone(), incoming.head.clone(), shared.clone());
        Ok(Self { entry, head, id: None, wanted: SmallVec::new(), shared, permit })
    }

    /// Decode and bind *body*.
    #[inline]
    fn read(&mut self, body: Bytes) -> Result<Input> {
        let signature = &self.entry.route.signature;
        let body = admitted(&self.shared, &self.head, body, &mut self.permit)?;
        self.entry.metrics.request_bytes.add(body.len() as u64);
        let request = oip_json::decode(&body, self.head.json_len)?;
        self.wanted = oip_json::wanted_outputs(&request, &signature.outputs)?;
        let timeout = request.timeout()?;
        let (tensors, rows) = bind(signature, &request.columns, Strictness::Exact)?;
        self.id = request.id.map(Into::into);
        Ok(Input { tensors, rows, timeout })
    }

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

impl<A: Answering> OipReply<A> {
    /// Read the body of the request that waits.
    #[inline]
    fn read(&mut self, body: Bytes) -> Result<Input> {
        let (question, _) = self.waiting.as_mut().ok_or_else(|| Error::internal("the request was answered already"))?;
        question.read(body)
    }
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
        let mut reply = match replied {
            Ok((reply, answer)) => {
                question.account().answered(shared, &answer, reply.body.len());
                reply
            }
            Err(error) => failure(shared, &question.account(), &error, PATH),
        };
        reply.permit = Some(question.permit);
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
