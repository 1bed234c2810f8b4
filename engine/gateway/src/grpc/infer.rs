//! `ModelInfer`: the hot path.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bettong_frame::bind::{Strictness, bind};
use bettong_frame::{Answer, Error, Reply, Request, Result, Tensor, TensorSpec, Trace};
use bettong_wire::grpc::MessageReader;
use bettong_wire::oip_pb::{self, InferRequest, Parameter, ResponseHead};
use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use h2::server::SendResponse;
use smallvec::SmallVec;

use super::respond;
use crate::account::Account;
use crate::admission::Permit;
use crate::head::Head;
use crate::http2::{BodyReader, until_sent};
use crate::routes::Entry;
use crate::shared::Shared;

/// Take a call. Its message has nearly always arrived with its head; only otherwise does it cost a task.
#[inline]
pub fn accept(shared: &Arc<Shared>, head: Head, body: RecvStream, respond: SendResponse<Bytes>) {
    let arrived = Instant::now();
    let mut reader = BodyReader::new(body, shared.max_request_bytes.saturating_add(5));
    match reader.read_now() {
        Poll::Ready(Ok(body)) => run(shared, head, arrived, body, respond),
        Poll::Ready(Err(_left)) => {}
        Poll::Pending => {
            tokio::spawn(wait_and_run(shared.clone(), head, arrived, reader, respond));
        }
    }
}

async fn wait_and_run(
    shared: Arc<Shared>,
    mut head: Head,
    arrived: Instant,
    mut reader: BodyReader,
    mut respond: SendResponse<Bytes>,
) {
    let limit = head.timeout.map_or(shared.read_timeout, |timeout| timeout.min(shared.read_timeout));
    let body = tokio::time::timeout(limit, poll_fn(|context| reader.poll_read(context))).await;
    match body {
        Ok(Ok(body)) => run(&shared, head, arrived, body, respond),
        Ok(Err(_left)) => {}
        Err(_elapsed) => {
            let error = Error::new(bettong_frame::ErrorKind::DeadlineExceeded, "the request did not arrive in time");
            fail(&shared, None, &mut head, &mut respond, &error);
        }
    }
}

#[inline]
fn run(shared: &Arc<Shared>, mut head: Head, arrived: Instant, body: Result<Bytes>, mut respond: SendResponse<Bytes>) {
    let mut found = None;
    let prepared = body.and_then(|body| {
        let message = single_message(shared, &head, body)?;
        let bytes = message.len();
        let request = oip_pb::decode(&message)?;
        let entry = &*found.insert(shared.routes.find(request.model_name, request.model_version)?);
        let call = Call::read(shared, entry, &message, &request, bytes)?;
        let (inputs, rows) = bind(&entry.route.signature, &request.columns, Strictness::Exact)?;
        Ok((call, inputs, rows, timeout_parameter(&request)?))
    });
    match prepared {
        Ok((call, inputs, rows, timeout)) => {
            let deadline = head.deadline(arrived, timeout);
            let target = call.entry.route.target.clone();
            let reply = Box::new(UnaryReply { call: Some(call), head, respond });
            target.submit(Request { inputs, rows, arrived, deadline, reply });
        }
        Err(error) => fail(shared, found.as_deref(), &mut head, &mut respond, &error),
    }
}

/// Count a failure and answer with it.
#[cold]
fn fail(shared: &Shared, entry: Option<&Entry>, head: &mut Head, respond: &mut SendResponse<Bytes>, error: &Error) {
    head.ensure_request_id();
    Account { protocol: "grpc", entry, head }.failed(shared, error);
    respond::fail(respond, head, error);
}

/// The one message of a unary call.
#[inline]
fn single_message(shared: &Shared, head: &Head, body: Bytes) -> Result<Bytes> {
    let mut reader = MessageReader::new(head.encoding()?, shared.max_request_bytes);
    reader.push(body);
    let message = reader.next_message()?.ok_or_else(|| Error::invalid("the call ended before its message was complete"))?;
    if reader.is_partial() {
        return Err(Error::invalid("a unary call takes one message, more were sent"));
    }
    Ok(message)
}

/// The time-out that Triton's clients send as a parameter, in microseconds.
#[inline]
pub fn timeout_parameter(request: &InferRequest<'_>) -> Result<Option<Duration>> {
    if request.parameters.is_empty() {
        return Ok(None);
    }
    match request.parameter("timeout") {
        None | Some(Parameter::Int(0) | Parameter::Uint(0)) => Ok(None),
        Some(Parameter::Int(micros)) if micros > 0 => Ok(Some(Duration::from_micros(micros as u64))),
        Some(Parameter::Uint(micros)) => Ok(Some(Duration::from_micros(micros))),
        Some(_) => Err(Error::invalid_field("timeout", "parameter 'timeout' must be a positive number of microseconds")),
    }
}

/// What is needed to answer one request of this protocol.
pub struct Call {
    pub entry: Arc<Entry>,
    pub shared: Arc<Shared>,
    /// The request's id, a slice of its message.
    id: Bytes,
    /// Positions of the outputs that are wanted; empty for all.
    outputs: SmallVec<[u16; 4]>,
    final_response: bool,
    _permit: Permit,
}

impl Call {
    /// Admit *request* and keep what its answer needs.
    #[inline]
    pub fn read(
        shared: &Arc<Shared>,
        entry: &Arc<Entry>,
        message: &Bytes,
        request: &InferRequest<'_>,
        bytes: usize,
    ) -> Result<Self> {
        let permit = shared.admit(bytes)?;
        entry.metrics.request_bytes.add(bytes as u64);
        let outputs = wanted_outputs(entry, &request.outputs)?;
        let final_response = !request.parameters.is_empty()
            && request.parameter("triton_enable_empty_final_response") == Some(Parameter::Bool(true));
        let id = if request.id.is_empty() { Bytes::new() } else { message.slice_ref(request.id.as_bytes()) };
        Ok(Self { entry: entry.clone(), shared: shared.clone(), id, outputs, final_response, _permit: permit })
    }

    /// The request's id.
    pub fn id(&self) -> &str {
        // It was checked when the request was decoded.
        std::str::from_utf8(&self.id).unwrap_or_default()
    }

    /// Append the framed response to *buffer* by *encode*.
    #[inline]
    pub fn encode(&self, answer: &Answer, buffer: &mut BytesMut, encode: Encode) {
        let route = &self.entry.route;
        let head = ResponseHead {
            model_name: &route.pipeline,
            model_version: &route.version,
            id: self.id(),
            final_response: self.final_response,
        };
        let specs = &route.signature.outputs;
        let outputs: SmallVec<[(&TensorSpec, &Tensor); 4]> = if self.outputs.is_empty() {
            specs.iter().zip(&answer.outputs).collect()
        } else {
            self.outputs.iter().map(|&at| (&specs[at as usize], &answer.outputs[at as usize])).collect()
        };
        encode(buffer, &head, &outputs);
    }
}

/// Writes one framed response.
pub type Encode = fn(&mut BytesMut, &ResponseHead<'_>, &[(&TensorSpec, &Tensor)]);

#[inline]
fn wanted_outputs(entry: &Entry, names: &[&str]) -> Result<SmallVec<[u16; 4]>> {
    let outputs = &entry.route.signature.outputs;
    names
        .iter()
        .map(|&name| {
            outputs.iter().position(|spec| *spec.name == *name).map(|at| at as u16).ok_or_else(|| {
                let known: Vec<&str> = outputs.iter().map(|spec| spec.name.as_ref()).collect();
                Error::invalid_field(name, format!("output '{name}' is not one of this pipeline's outputs: {known:?}"))
            })
        })
        .collect()
}

/// Answers a unary call from wherever its batch ran.
struct UnaryReply {
    /// Taken by the answer.
    call: Option<Call>,
    head: Head,
    respond: SendResponse<Bytes>,
}

impl Reply for UnaryReply {
    fn is_abandoned(&mut self) -> bool {
        self.respond.poll_reset(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn trace(&self) -> Trace {
        self.head.trace()
    }

    fn answer(mut self: Box<Self>, outcome: Result<Answer>) {
        let Some(call) = self.call.take() else { return };
        match outcome {
            Ok(answer) => {
                let mut buffer = BytesMut::new();
                call.encode(&answer, &mut buffer, oip_pb::encode_response);
                let account = Account { protocol: "grpc", entry: Some(&call.entry), head: &self.head };
                account.answered(&call.shared, &answer, buffer.len());
                respond::message(&mut self.respond, &self.head, until_sent(&call.shared, buffer.freeze()));
            }
            Err(error) => self.fail(&call, &error),
        }
    }
}

impl UnaryReply {
    #[cold]
    fn fail(&mut self, call: &Call, error: &Error) {
        fail(&call.shared, Some(&call.entry), &mut self.head, &mut self.respond, error);
    }
}

impl Drop for UnaryReply {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            self.fail(&call, &Error::internal("the request was lost inside the server"));
        }
    }
}
