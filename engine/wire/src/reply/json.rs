//! Replies as JSON records.

use std::borrow::Cow;

use bettong_frame::tensor::byte_elements;
use bettong_frame::{Result, Tensor};
use bytes::Bytes;

use super::{Column, MAX_REPLY_BYTES, ReplyFrame, Source, too_large};
use crate::arrow::texts::shown;
use crate::frames::Given;
use crate::json::write::{put_elements, put_integer, put_string};

/// The first record says little of others whose texts differ, so it is not trusted beyond this.
const MAX_RESERVED_BYTES: usize = 1 << 26;

/// A part of every record.
enum Piece<'a> {
    /// The same in each.
    Text(Vec<u8>),
    /// One row of a tensor.
    Cells(Cells<'a>),
    /// One count of each row.
    Counts(&'a [u32]),
}

/// A column whose rows are written one by one.
struct Cells<'a> {
    name: &'a str,
    tensor: Cow<'a, Tensor>,
    /// Where each row begins, and the end.
    starts: Starts,
}

enum Starts {
    /// Rows of equal size.
    Every(usize),
    /// Rows of strings.
    At(Vec<usize>),
}

/// Write *columns* of *reply*: flat with *separator*, else nested.
pub fn write(reply: &ReplyFrame<'_>, columns: &[Column], separator: Option<&str>) -> Result<Bytes> {
    let pieces = pieces(reply, columns, separator)?;
    let texts: usize = pieces.iter().map(|piece| if let Piece::Text(text) = piece { text.len() } else { 0 }).sum();
    if texts.saturating_mul(reply.frame.rows) > MAX_REPLY_BYTES {
        return Err(too_large());
    }
    let mut out = vec![b'['];
    for row in 0..reply.frame.rows {
        if row > 0 {
            out.push(b',');
        }
        for piece in &pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Cells(cells) => cells.put_row(&mut out, row)?,
                Piece::Counts(counts) => put_integer(&mut out, counts[row]),
            }
        }
        if row == 0 {
            let others = out.len().saturating_mul(reply.frame.rows - 1);
            out.reserve(others.min(MAX_RESERVED_BYTES));
        }
        if out.len() > MAX_REPLY_BYTES {
            return Err(too_large());
        }
    }
    out.push(b']');
    Ok(out.into())
}

/// Cut records into what is the same in each and what is not.
fn pieces<'a>(reply: &'a ReplyFrame<'a>, columns: &'a [Column], separator: Option<&str>) -> Result<Vec<Piece<'a>>> {
    let mut pieces = Vec::new();
    let mut text = vec![b'{'];
    let mut open_group = None;
    for (at, column) in columns.iter().enumerate() {
        let group = if separator.is_none() && column.name.is_some() { Some(column.group) } else { None };
        if open_group.is_some() && open_group != group {
            text.push(b'}');
        }
        if at > 0 {
            text.push(b',');
        }
        put_key(&mut text, column, separator, group.is_some() && open_group != group);
        open_group = group;
        if let Some(piece) = value(reply, column, &mut text)? {
            pieces.push(Piece::Text(std::mem::take(&mut text)));
            pieces.push(piece);
        }
    }
    text.extend_from_slice(if open_group.is_some() { b"}}" } else { b"}" });
    pieces.push(Piece::Text(text));
    Ok(pieces)
}

fn put_key(text: &mut Vec<u8>, column: &Column, separator: Option<&str>, opens_group: bool) {
    if opens_group {
        put_string(text, column.group);
        text.extend_from_slice(b":{");
    }
    match (separator, &column.name) {
        (None, Some(name)) => put_string(text, name),
        (separator, _) => put_string(text, &column.flat_name(separator.unwrap_or(""))),
    }
    text.push(b':');
}

/// Append the value of *column* to *text* if it is the same in each record, else give what writes it.
fn value<'a>(reply: &'a ReplyFrame<'a>, column: &'a Column, text: &mut Vec<u8>) -> Result<Option<Piece<'a>>> {
    let (metadata, name) = (&reply.metadata, column.name.as_deref().unwrap_or(column.group));
    match column.source {
        Source::In(at) => return Ok(Some(Piece::Cells(Cells::new(name, given(reply, at, name)?)))),
        Source::Out(at) => return Ok(Some(Piece::Cells(Cells::new(name, Cow::Borrowed(&reply.outputs[at]))))),
        Source::AnomalyCount if !reply.anomaly_counts.is_empty() => return Ok(Some(Piece::Counts(reply.anomaly_counts))),
        Source::AnomalyCount => text.push(b'0'),
        Source::Time => put_integer(text, reply.time_ms),
        Source::LastModel => put_string(text, metadata.last_model),
        Source::PipelineVersion => put_string(text, metadata.pipeline_version),
        Source::Elapsed => put_list(text, metadata.elapsed_ns, |text, &ns| put_integer(text, ns)),
        Source::Dropped => put_list(text, metadata.dropped, |text, name| put_string(text, name)),
        Source::Partition => put_string(text, metadata.partition),
    }
    Ok(None)
}

fn put_list<T>(text: &mut Vec<u8>, values: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    text.push(b'[');
    for (at, value) in values.iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        put(text, value);
    }
    text.push(b']');
}

fn given<'a>(reply: &'a ReplyFrame<'a>, at: usize, name: &str) -> Result<Cow<'a, Tensor>> {
    match &reply.frame.given {
        Given::Tensors => Ok(Cow::Borrowed(&reply.frame.columns[at].1)),
        Given::Arrow(batches) => {
            let chunks: Vec<_> = batches.iter().map(|batch| batch.column(at).clone()).filter(|chunk| !chunk.is_empty()).collect();
            shown(name, &chunks).map(Cow::Owned)
        }
    }
}

impl<'a> Cells<'a> {
    fn new(name: &'a str, tensor: Cow<'a, Tensor>) -> Self {
        let per_row = tensor.row_elements();
        let starts = match tensor.dtype.size() {
            Some(size) => Starts::Every(per_row * size),
            None => Starts::At(string_starts(&tensor, per_row)),
        };
        Self { name, tensor, starts }
    }

    fn put_row(&self, out: &mut Vec<u8>, row: usize) -> Result<()> {
        let (from, to) = match &self.starts {
            Starts::Every(size) => (row * size, (row + 1) * size),
            Starts::At(starts) => (starts[row], starts[row + 1]),
        };
        self.put_nested(out, &self.tensor.shape[1..], &self.tensor.data[from..to])
    }

    /// Append *data* as lists of *dims*. Recursion ends with the dimensions.
    fn put_nested(&self, out: &mut Vec<u8>, dims: &[i64], data: &[u8]) -> Result<()> {
        let [dim, inner @ ..] = dims else { return put_elements(out, self.name, self.tensor.dtype, data) };
        out.push(b'[');
        if inner.is_empty() {
            put_elements(out, self.name, self.tensor.dtype, data)?;
        } else {
            let per_item: usize = inner.iter().map(|&dim| dim as usize).product();
            let mut rest = data;
            for item in 0..*dim {
                if item > 0 {
                    out.push(b',');
                }
                let (head, tail) = rest.split_at(self.bytes_of(rest, per_item));
                self.put_nested(out, inner, head)?;
                rest = tail;
            }
        }
        out.push(b']');
        Ok(())
    }

    /// Length of the first *count* elements of *data*.
    fn bytes_of(&self, data: &[u8], count: usize) -> usize {
        self.tensor
            .dtype
            .size()
            .map_or_else(|| byte_elements(data).take(count).map(|element| 4 + element.len()).sum(), |size| size * count)
    }
}

fn string_starts(tensor: &Tensor, per_row: usize) -> Vec<usize> {
    let mut starts = Vec::with_capacity(tensor.rows() + 1);
    let mut at = 0;
    starts.push(0);
    let mut elements = byte_elements(&tensor.data);
    for _ in 0..tensor.rows() {
        at += elements.by_ref().take(per_row).map(|element| 4 + element.len()).sum::<usize>();
        starts.push(at);
    }
    starts
}
