//! Reading bundles.

use std::time::Duration;

use bettong_frame::{Error, ErrorKind, Result};
use bytes::Bytes;

use super::{CallHead, Failure, Hello, OutcomeHead, kind_of};
use crate::pb::Reader;

/// One thing that the other side said.
#[derive(Debug)]
pub enum Item {
    /// Who it is.
    Hello(Box<Hello>),
    /// An index for a pipeline version.
    Name {
        /// Used by calls.
        index: u32,
        /// Name of the pipeline.
        pipeline: String,
        /// Its version.
        version: String,
    },
    /// A request, with the content of its `Tensors`.
    Call(CallHead, Bytes),
    /// What became of a call, with the content of its `Tensors`.
    Outcome(OutcomeHead, Bytes),
    /// The outcome of the call of this sequence is of no more use.
    Cancel(u64),
    /// Send this back.
    Ping(u64),
    /// What was sent by a ping.
    Pong(u64),
    /// No more calls are taken.
    Leaving,
}

/// Read *bundle* and hand over what is in it, in order.
///
/// # Errors
/// It is damaged; what came before the damage has been handed over.
pub fn decode(bundle: &Bytes, mut take: impl FnMut(Item)) -> Result<()> {
    let mut reader = Reader::new(bundle);
    while let Some((field, wire)) = reader.tag()? {
        match (field, wire) {
            (1, 2) => take(Item::Hello(Box::new(read_hello(reader.slice()?)?))),
            (2, 2) => take(read_name(reader.slice()?)?),
            (3, 2) => take(read_call(bundle, reader.slice()?)?),
            (4, 2) => take(read_outcome(bundle, reader.slice()?)?),
            (5, 0) => take(Item::Cancel(reader.varint()?)),
            // Repeated numbers may come packed.
            (5, 2) => {
                let mut sequences = Reader::new(reader.slice()?);
                while !sequences.is_empty() {
                    take(Item::Cancel(sequences.varint()?));
                }
            }
            (6, 0) => take(Item::Ping(reader.varint()?)),
            (7, 0) => take(Item::Pong(reader.varint()?)),
            (8, 0) if reader.varint()? != 0 => take(Item::Leaving),
            (8, 0) => {}
            _ => reader.skip(wire)?,
        }
    }
    Ok(())
}

fn narrow(value: u64) -> Result<u32> {
    u32::try_from(value).map_err(|_| Error::invalid("a number of a bundle is too large"))
}

fn read_hello(message: &[u8]) -> Result<Hello> {
    let mut hello = Hello::default();
    let mut reader = Reader::new(message);
    while let Some((field, wire)) = reader.tag()? {
        match (field, wire) {
            (1, 0) => hello.protocol = narrow(reader.varint()?)?,
            (2, 2) => reader.string("cluster")?.clone_into(&mut hello.cluster),
            (3, 2) => reader.string("role")?.clone_into(&mut hello.role),
            (4, 2) => reader.string("member")?.clone_into(&mut hello.member),
            (5, 0) => hello.epoch = reader.varint()?,
            (6, 2) => reader.string("version")?.clone_into(&mut hello.version),
            (7, 0) => hello.round = reader.varint()?,
            (8, 0) => hello.window_calls = narrow(reader.varint()?)?,
            (9, 0) => hello.window_bytes = reader.varint()?,
            _ => reader.skip(wire)?,
        }
    }
    Ok(hello)
}

fn read_name(message: &[u8]) -> Result<Item> {
    let (mut index, mut pipeline, mut version) = (0, "", "");
    let mut reader = Reader::new(message);
    while let Some((field, wire)) = reader.tag()? {
        match (field, wire) {
            (1, 0) => index = narrow(reader.varint()?)?,
            (2, 2) => pipeline = reader.string("pipeline")?,
            (3, 2) => version = reader.string("version")?,
            _ => reader.skip(wire)?,
        }
    }
    Ok(Item::Name { index, pipeline: pipeline.to_owned(), version: version.to_owned() })
}

#[inline]
fn read_call(bundle: &Bytes, message: &[u8]) -> Result<Item> {
    let (mut head, mut inputs) = (CallHead::default(), Bytes::new());
    let mut reader = Reader::new(message);
    while let Some((field, wire)) = reader.tag()? {
        match (field, wire) {
            (1, 0) => head.sequence = reader.varint()?,
            (2, 0) => head.name = narrow(reader.varint()?)?,
            (3, 0) => head.rows = narrow(reader.varint()?)?,
            (4, 0) => head.timeout = Some(Duration::from_micros(reader.varint()?)),
            (5, 0) => head.attempt = narrow(reader.varint()?)?,
            (6, 2) => head.request_id = bundle.slice_ref(reader.slice()?),
            (7, 2) => head.traceparent = bundle.slice_ref(reader.slice()?),
            (15, 2) => inputs = bundle.slice_ref(reader.slice()?),
            _ => reader.skip(wire)?,
        }
    }
    Ok(Item::Call(head, inputs))
}

#[inline]
fn read_outcome(bundle: &Bytes, message: &[u8]) -> Result<Item> {
    let (mut head, mut outputs) = (OutcomeHead::default(), Bytes::new());
    let mut reader = Reader::new(message);
    while let Some((field, wire)) = reader.tag()? {
        match (field, wire) {
            (1, 0) => head.sequence = reader.varint()?,
            (2, 2) => head.failure = Some(read_failure(reader.slice()?)?),
            (3, 0) => head.queue_ns = reader.varint()?,
            (4, 0) => head.steps_ns.push(reader.varint()?),
            (4, 2) => {
                let mut steps = Reader::new(reader.slice()?);
                while !steps.is_empty() {
                    head.steps_ns.push(steps.varint()?);
                }
            }
            (5, 0) => head.batch_rows = narrow(reader.varint()?)?,
            (6, 0) => head.waiting_rows = narrow(reader.varint()?)?,
            (15, 2) => outputs = bundle.slice_ref(reader.slice()?),
            _ => reader.skip(wire)?,
        }
    }
    Ok(Item::Outcome(head, outputs))
}

#[cold]
fn read_failure(message: &[u8]) -> Result<Failure> {
    let (mut code, mut text, mut field_name, mut retry_after_us, mut not_run, mut too_large) = (13, "", "", 0, false, false);
    let mut reader = Reader::new(message);
    while let Some((field, wire)) = reader.tag()? {
        match (field, wire) {
            (1, 0) => code = reader.varint()?,
            (2, 2) => text = reader.string("message")?,
            (3, 2) => field_name = reader.string("field")?,
            (4, 0) => retry_after_us = reader.varint()?,
            (5, 0) => not_run = reader.varint()? != 0,
            (6, 0) => too_large = reader.varint()? != 0,
            _ => reader.skip(wire)?,
        }
    }
    let kind: ErrorKind = kind_of(code, too_large);
    let error = Error {
        field: (!field_name.is_empty()).then(|| field_name.into()),
        retry_after: (retry_after_us > 0).then(|| Duration::from_micros(retry_after_us)),
        ..Error::new(kind, text.to_owned())
    };
    Ok(Failure { error, not_run })
}
