//! `ModelStreamInfer`: many requests on one call, answered in order, errors a message at a time.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use atomic_waker::AtomicWaker;
use bettong_frame::bind::{Strictness, bind};
use bettong_frame::{Answer, Error, Reply, Request, Result, Trace};
use bettong_wire::grpc::MessageReader;
use bettong_wire::oip_pb;
use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};

use super::infer::{Call, timeout_parameter};
use super::respond;
use crate::account::Account;
use crate::head::Head;
use crate::http2::until_sent;
use crate::shared::{Shared, Unsent};

/// Messages that may be under way on one stream; then it is not read further.
const MAX_IN_FLIGHT: usize = 1024;

/// Bytes of answers that may wait for the client; then it is not read further.
const MAX_UNSENT_BYTES: usize = 4 << 20;

/// The protocol's name in logs.
const STREAM: &str = "grpc-stream";

/// Answers of one stream, put in order.
#[derive(Default)]
struct Answers {
    ordered: Mutex<Ordered>,
    /// Wakes the stream's task when the front of the order is there.
    waker: AtomicWaker,
}

#[derive(Default)]
struct Ordered {
    /// Framed answers, ready to be sent.
    ready: BytesMut,
    /// Answers behind one that is missing; the front is the missing one.
    waiting: VecDeque<Option<BytesMut>>,
    /// Number of the first message that is not in `ready`.
    next: u64,
    /// The client left: nobody waits any more.
    closed: bool,
}

impl Answers {
    fn lock(&self) -> MutexGuard<'_, Ordered> {
        self.ordered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Put the answer to message *number*, written by *encode*, into its place.
    #[inline]
    fn put(&self, number: u64, encode: impl FnOnce(&mut BytesMut)) {
        let mut ordered = self.lock();
        if number != ordered.next {
            let place = (number - ordered.next) as usize;
            if ordered.waiting.len() <= place {
                ordered.waiting.resize_with(place + 1, || None);
            }
            encode(ordered.waiting[place].get_or_insert_default());
            return;
        }
        encode(&mut ordered.ready);
        ordered.next += 1;
        ordered.waiting.pop_front();
        while let Some(Some(answer)) = ordered.waiting.front_mut().map(Option::take) {
            ordered.ready.extend_from_slice(&answer);
            ordered.waiting.pop_front();
            ordered.next += 1;
        }
        drop(ordered);
        self.waker.wake();
    }
}

/// Answers one message of a stream.
struct StreamReply {
    call: Option<Call>,
    answers: Arc<Answers>,
    head: Arc<Head>,
    number: u64,
}

impl Reply for StreamReply {
    fn is_abandoned(&mut self) -> bool {
        self.answers.lock().closed
    }

    fn trace(&self) -> Trace {
        self.head.trace()
    }

    fn answer(mut self: Box<Self>, outcome: Result<Answer>) {
        let Some(call) = self.call.take() else { return };
        match outcome {
            Ok(answer) => self.answers.put(self.number, |buffer| {
                let before = buffer.len();
                call.encode(&answer, buffer, oip_pb::encode_stream_response);
                let account = Account { protocol: STREAM, entry: Some(&call.entry), head: &self.head };
                account.answered(&call.shared, &answer, buffer.len() - before);
            }),
            Err(error) => self.fail(&call, &error),
        }
    }
}

impl StreamReply {
    #[cold]
    fn fail(&self, call: &Call, error: &Error) {
        Account { protocol: STREAM, entry: Some(&call.entry), head: &self.head }.failed(&call.shared, error);
        self.answers.put(self.number, |buffer| oip_pb::encode_stream_error(buffer, call.id(), &error.message));
    }
}

impl Drop for StreamReply {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            self.fail(&call, &Error::internal("the request was lost inside the server"));
        }
    }
}

/// One stream: its task reads, submits and writes.
struct Stream {
    shared: Arc<Shared>,
    head: Arc<Head>,
    body: RecvStream,
    reader: MessageReader,
    /// The client has sent its last message.
    ended: bool,
    outgoing: SendStream<Bytes>,
    unsent: Bytes,
    answers: Arc<Answers>,
    submitted: u64,
    /// There while the client does not take what it has been answered.
    behind: Option<Unsent>,
}

/// Serve one stream to its end.
pub async fn serve(shared: Arc<Shared>, head: Head, body: RecvStream, mut respond: SendResponse<Bytes>) {
    let encoding = match head.encoding() {
        Ok(encoding) => encoding,
        Err(error) => return respond::fail(&mut respond, &head, &error),
    };
    let Some(outgoing) = respond::begin(&mut respond, &head) else { return };
    let reader = MessageReader::new(encoding, shared.max_request_bytes);
    let (answers, head) = (Arc::new(Answers::default()), Arc::new(head));
    let mut stream =
        Stream { shared, head, body, reader, ended: false, outgoing, unsent: Bytes::new(), answers, submitted: 0, behind: None };
    let outcome = poll_fn(|context| stream.poll(context)).await;
    stream.answers.lock().closed = true;
    match outcome {
        Ok(()) => respond::end(&mut stream.outgoing),
        Err(Some(error)) => respond::end_with(&mut stream.outgoing, &error),
        Err(None) => {}
    }
}

/// Why a stream ends early: an error to tell, or a client that left.
type Ended = std::result::Result<(), Option<Error>>;

impl Stream {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Ended> {
        self.answers.waker.register(context.waker());
        loop {
            let wrote = self.write(context)?;
            let read = self.read(context)?;
            let answered = self.answers.lock().next;
            if self.ended && answered == self.submitted && self.unsent.is_empty() && self.answers.lock().ready.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if self.outgoing.poll_reset(context).is_ready() {
                return Poll::Ready(Err(None));
            }
            if !wrote && !read {
                if self.unsent.is_empty() {
                    self.behind = None;
                } else if self.behind.is_none() {
                    self.behind = Some(Unsent::new(&self.shared));
                }
                return Poll::Pending;
            }
        }
    }

    /// Send what is ready, as far as the client takes it. Return whether anything was sent.
    fn write(&mut self, context: &mut Context<'_>) -> std::result::Result<bool, Option<Error>> {
        let mut progress = false;
        loop {
            if self.unsent.is_empty() {
                self.unsent = self.answers.lock().ready.split().freeze();
                if self.unsent.is_empty() {
                    return Ok(progress);
                }
                self.outgoing.reserve_capacity(self.unsent.len());
            }
            let capacity = match self.outgoing.capacity() {
                0 => match self.outgoing.poll_capacity(context) {
                    Poll::Ready(Some(Ok(capacity))) => capacity,
                    Poll::Ready(_) => return Err(None),
                    Poll::Pending => return Ok(progress),
                },
                capacity => capacity,
            };
            let piece = self.unsent.split_to(capacity.min(self.unsent.len()));
            self.outgoing.send_data(until_sent(&self.shared, piece), false).map_err(|_left| None)?;
            progress = true;
        }
    }

    fn has_room(&self) -> bool {
        let ordered = self.answers.lock();
        ((self.submitted - ordered.next) as usize) < MAX_IN_FLIGHT && ordered.ready.len() + self.unsent.len() < MAX_UNSENT_BYTES
    }

    /// Submit what has arrived, as far as there is room. Return whether anything was submitted or the end was seen.
    fn read(&mut self, context: &mut Context<'_>) -> std::result::Result<bool, Option<Error>> {
        let mut progress = false;
        while !self.ended && self.has_room() {
            while let Some(message) = self.reader.next_message().map_err(Some)? {
                self.submit(&message);
                progress = true;
                if !self.has_room() {
                    return Ok(true);
                }
            }
            match self.body.poll_data(context) {
                Poll::Pending => return Ok(progress),
                Poll::Ready(Some(Ok(chunk))) => {
                    let _ = self.body.flow_control().release_capacity(chunk.len());
                    self.reader.push(chunk);
                }
                Poll::Ready(Some(Err(_left))) => return Err(None),
                Poll::Ready(None) if self.reader.is_partial() => {
                    return Err(Some(Error::invalid("the stream ended in the middle of a message")));
                }
                Poll::Ready(None) => (self.ended, progress) = (true, true),
            }
        }
        Ok(progress)
    }

    #[inline]
    fn submit(&mut self, message: &Bytes) {
        let number = self.submitted;
        self.submitted += 1;
        let arrived = Instant::now();
        let mut id = "";
        let mut found = None;
        let prepared = oip_pb::decode(message).and_then(|request| {
            id = request.id;
            let entry = &*found.insert(self.shared.routes.find(request.model_name, request.model_version)?);
            let call = Call::read(&self.shared, entry, message, &request, message.len())?;
            let (inputs, rows) = bind(&entry.route.signature, &request.columns, Strictness::Exact)?;
            Ok((call, inputs, rows, timeout_parameter(&request)?))
        });
        match prepared {
            Ok((call, inputs, rows, timeout)) => {
                let deadline = self.head.deadline(arrived, timeout);
                let target = call.entry.route.target.clone();
                let reply =
                    Box::new(StreamReply { call: Some(call), answers: self.answers.clone(), head: self.head.clone(), number });
                target.submit(Request { inputs, rows, arrived, deadline, reply });
            }
            Err(error) => {
                Account { protocol: STREAM, entry: found.as_deref(), head: &self.head }.failed(&self.shared, &error);
                self.answers.put(number, |buffer| oip_pb::encode_stream_error(buffer, id, &error.message));
            }
        }
    }
}
