//! Writing bundles: what is ready is collected, and leaves together.

use bettong_frame::{ErrorKind, Tensor};
use bytes::{Bytes, BytesMut};

use super::tensors::{put_tensor_head, tensors_len};
use super::{Body, CallHead, Failure, Hello, OutcomeHead};
use crate::grpc::put_frame_head;
use crate::pb::{field_len, put_bytes, put_head, put_len_head, put_varint, varint_len};

/// Data from this size on is sent as it is instead of being copied.
const SENT_AS_IS_BYTES: usize = 8 << 10;

/// A bundle that has reached this size is ended, so that its reader need not wait for all of it.
const LONG_BUNDLE_BYTES: usize = 1 << 20;

/// Bytes before a gRPC message.
const FRAME_HEAD_BYTES: usize = 5;

/// Bundles that are being written.
#[derive(Debug, Default)]
pub struct BundleWriter {
    /// Ended bundles, framed.
    done: Vec<Bytes>,
    /// Parts of the open bundle before `tail`; the first has room for the frame's head.
    parts: Vec<Part>,
    tail: BytesMut,
    /// Bytes in `parts`.
    parts_bytes: usize,
}

#[derive(Debug)]
enum Part {
    Written(BytesMut),
    AsIs(Bytes),
}

impl BundleWriter {
    /// Whether nothing waits to be sent.
    pub fn is_empty(&self) -> bool {
        self.done.is_empty() && self.open_bytes() == 0
    }

    /// Introduce ourselves.
    pub fn put_hello(&mut self, hello: &Hello) {
        let texts: [(u8, &str); 4] = [(2, &hello.cluster), (3, &hello.role), (4, &hello.member), (6, &hello.version)];
        let numbers: [(u8, u64); 5] = [
            (1, u64::from(hello.protocol)),
            (5, hello.epoch),
            (7, hello.round),
            (8, u64::from(hello.window_calls)),
            (9, hello.window_bytes),
        ];
        let len = texts.iter().map(|(_, text)| text_len(text.as_bytes())).sum::<usize>()
            + numbers.iter().map(|&(_, value)| number_len(value)).sum::<usize>();
        let buffer = self.begin(1, len);
        for (field, text) in texts {
            put_text(buffer, field, text.as_bytes());
        }
        for (field, value) in numbers {
            put_number(buffer, field, value);
        }
        self.end_long();
    }

    /// Give a pipeline version its index.
    pub fn put_name(&mut self, index: u32, pipeline: &str, version: &str) {
        let len = number_len(u64::from(index)) + text_len(pipeline.as_bytes()) + text_len(version.as_bytes());
        let buffer = self.begin(2, len);
        put_number(buffer, 1, u64::from(index));
        put_text(buffer, 2, pipeline.as_bytes());
        put_text(buffer, 3, version.as_bytes());
    }

    /// Make a call.
    #[inline]
    pub fn put_call(&mut self, head: &CallHead, inputs: &Body) {
        let timeout_us = head.timeout.map_or(0, |timeout| (timeout.as_micros() as u64).max(1));
        let numbers: [(u8, u64); 5] = [
            (1, head.sequence),
            (2, u64::from(head.name)),
            (3, u64::from(head.rows)),
            (4, timeout_us),
            (5, u64::from(head.attempt)),
        ];
        let body = body_len(inputs);
        let len = numbers.iter().map(|&(_, value)| number_len(value)).sum::<usize>()
            + text_len(&head.request_id)
            + text_len(&head.traceparent)
            + field_len(body);
        let buffer = self.begin(3, len);
        for (field, value) in numbers {
            put_number(buffer, field, value);
        }
        put_text(buffer, 6, &head.request_id);
        put_text(buffer, 7, &head.traceparent);
        self.put_body(inputs, body);
    }

    /// Answer a call; a failed one has no outputs.
    #[inline]
    pub fn put_outcome(&mut self, head: &OutcomeHead, outputs: Option<&Body>) {
        let failure = head.failure.as_ref().map_or(0, |failure| field_len(failure_len(failure)));
        let steps: usize = head.steps_ns.iter().map(|&step| varint_len(step)).sum();
        let steps_len = if steps == 0 { 0 } else { field_len(steps) };
        let numbers: [(u8, u64); 3] = [(3, head.queue_ns), (5, u64::from(head.batch_rows)), (6, u64::from(head.waiting_rows))];
        let body = outputs.map(body_len);
        let len = number_len(head.sequence)
            + failure
            + numbers.iter().map(|&(_, value)| number_len(value)).sum::<usize>()
            + steps_len
            + body.map_or(0, field_len);
        let buffer = self.begin(4, len);
        put_number(buffer, 1, head.sequence);
        if let Some(failure) = &head.failure {
            put_failure(buffer, failure);
        }
        for (field, value) in numbers {
            put_number(buffer, field, value);
        }
        if steps > 0 {
            put_len_head(buffer, 4, steps);
            for &step in &head.steps_ns {
                put_varint(buffer, step);
            }
        }
        match (outputs, body) {
            (Some(outputs), Some(body)) => self.put_body(outputs, body),
            _ => self.end_long(),
        }
    }

    /// Say that the outcome of a call is of no more use.
    pub fn put_cancel(&mut self, sequence: u64) {
        put_number_always(self.open(16), 5, sequence);
    }

    /// Ask for a sign of life.
    pub fn put_ping(&mut self, number: u64) {
        put_number_always(self.open(16), 6, number);
    }

    /// Give a sign of life.
    pub fn put_pong(&mut self, number: u64) {
        put_number_always(self.open(16), 7, number);
    }

    /// Say that no more calls are taken.
    pub fn put_leaving(&mut self) {
        put_number_always(self.open(2), 8, 1);
    }

    /// Take everything, in the pieces in which it is to be sent.
    pub fn take(&mut self) -> Vec<Bytes> {
        self.end();
        std::mem::take(&mut self.done)
    }

    fn open_bytes(&self) -> usize {
        self.parts_bytes + self.tail.len()
    }

    /// The buffer of the open bundle, with room for *len* bytes.
    #[inline]
    fn open(&mut self, len: usize) -> &mut BytesMut {
        if self.open_bytes() == 0 {
            self.tail.reserve(FRAME_HEAD_BYTES + len);
            self.tail.extend_from_slice(&[0; FRAME_HEAD_BYTES]);
        }
        &mut self.tail
    }

    /// Begin *field* of the bundle, a message of *len* bytes.
    #[inline]
    fn begin(&mut self, field: u8, len: usize) -> &mut BytesMut {
        let buffer = self.open(field_len(len));
        put_len_head(buffer, field, len);
        buffer
    }

    /// Append *body* as field 15, which is the last of a message, and end the bundle when it has become long.
    #[inline]
    fn put_body(&mut self, body: &Body, len: usize) {
        put_len_head(&mut self.tail, 15, len);
        match body {
            Body::Raw(raw) => self.put_data(raw),
            Body::Tensors(tensors) => {
                for tensor in tensors {
                    put_tensor_head(&mut self.tail, tensor);
                    self.put_data(&tensor.data);
                }
            }
        }
        self.end_long();
    }

    #[inline]
    fn put_data(&mut self, data: &Bytes) {
        if data.len() < SENT_AS_IS_BYTES {
            self.tail.extend_from_slice(data);
            return;
        }
        let written = self.tail.split();
        self.parts_bytes += written.len() + data.len();
        self.parts.push(Part::Written(written));
        self.parts.push(Part::AsIs(data.clone()));
    }

    #[inline]
    fn end_long(&mut self) {
        if self.open_bytes() >= LONG_BUNDLE_BYTES {
            self.end();
        }
    }

    fn end(&mut self) {
        let len = self.open_bytes();
        if len == 0 {
            return;
        }
        if !self.tail.is_empty() {
            self.parts.push(Part::Written(self.tail.split()));
        }
        let mut head = BytesMut::with_capacity(FRAME_HEAD_BYTES);
        put_frame_head(&mut head, len - FRAME_HEAD_BYTES);
        if let Some(Part::Written(first)) = self.parts.first_mut() {
            first[..FRAME_HEAD_BYTES].copy_from_slice(&head);
        }
        self.done.extend(self.parts.drain(..).map(|part| match part {
            Part::Written(written) => written.freeze(),
            Part::AsIs(data) => data,
        }));
        self.parts_bytes = 0;
    }
}

#[inline]
fn number_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value) }
}

#[inline]
fn put_number(buffer: &mut BytesMut, field: u8, value: u64) {
    if value != 0 {
        put_number_always(buffer, field, value);
    }
}

#[inline]
fn put_number_always(buffer: &mut BytesMut, field: u8, value: u64) {
    put_head(buffer, field, 0);
    put_varint(buffer, value);
}

#[inline]
fn text_len(text: &[u8]) -> usize {
    if text.is_empty() { 0 } else { field_len(text.len()) }
}

#[inline]
fn put_text(buffer: &mut BytesMut, field: u8, text: &[u8]) {
    if !text.is_empty() {
        put_bytes(buffer, field, text);
    }
}

#[inline]
fn body_len(body: &Body) -> usize {
    match body {
        Body::Raw(raw) => raw.len(),
        Body::Tensors(tensors) => tensors_len(tensors as &[Tensor]),
    }
}

/// Numbers of a failure by field.
fn failure_numbers(failure: &Failure) -> [(u8, u64); 4] {
    let retry_after_us = failure.error.retry_after.map_or(0, |after| after.as_micros() as u64);
    let too_large = failure.error.kind == ErrorKind::TooLarge;
    let code = u64::from(failure.error.kind.grpc_code());
    [(1, code), (4, retry_after_us), (5, u64::from(failure.not_run)), (6, u64::from(too_large))]
}

fn failure_texts(failure: &Failure) -> [(u8, &str); 2] {
    [(2, &failure.error.message), (3, failure.error.field.as_deref().unwrap_or_default())]
}

fn failure_len(failure: &Failure) -> usize {
    failure_numbers(failure).iter().map(|&(_, value)| number_len(value)).sum::<usize>()
        + failure_texts(failure).iter().map(|(_, text)| text_len(text.as_bytes())).sum::<usize>()
}

#[cold]
fn put_failure(buffer: &mut BytesMut, failure: &Failure) {
    put_len_head(buffer, 2, failure_len(failure));
    for (field, value) in failure_numbers(failure) {
        put_number(buffer, field, value);
    }
    for (field, text) in failure_texts(failure) {
        put_text(buffer, field, text.as_bytes());
    }
}
