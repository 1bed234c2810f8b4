//! Replies as Arrow IPC.

use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::types::UInt64Type;
use arrow_array::{Array, ArrayRef, ListArray, PrimitiveArray, RecordBatch, StringArray, TimestampMillisecondArray, UInt32Array};
use arrow_buffer::OffsetBuffer;
use arrow_ipc::writer::{FileWriter, StreamWriter};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use bettong_frame::{Error, Result, Tensor};
use bytes::Bytes;

use super::{Column, MAX_REPLY_BYTES, Metadata, ReplyFrame, Source, too_large};
use crate::arrow::ArrowKind;
use crate::arrow::build::{GIVEN, INNER, array};
use crate::frames::Given;

/// Texts that are the same in each row are repeated, and offsets into them have 31 bits.
const MAX_BATCH_ROWS: usize = 1 << 20;

/// Write *columns* of *reply* with flat names.
pub fn write(reply: &ReplyFrame<'_>, columns: &[Column], separator: &str, kind: ArrowKind) -> Result<Bytes> {
    if columns.is_empty() {
        return Err(Error::invalid_field("dataset", "no column of the reply is left"));
    }
    let per_row: usize = columns.iter().map(|column| constant_bytes(&reply.metadata, column.source)).sum();
    if per_row.saturating_mul(reply.frame.rows) > MAX_REPLY_BYTES {
        return Err(too_large());
    }
    let spans = spans(reply, columns);
    let most = spans.iter().map(|span| span.rows).max().unwrap_or(0);
    let constants: Result<Vec<Option<ArrayRef>>> = columns.iter().map(|column| constant(reply, column.source, most)).collect();
    let constants = constants?;
    let mut batches = Vec::with_capacity(spans.len());
    let mut schema: Option<SchemaRef> = None;
    for span in &spans {
        let mut arrays = Vec::with_capacity(columns.len());
        for (column, constant) in columns.iter().zip(&constants) {
            arrays.push(match constant {
                Some(constant) => constant.slice(0, span.rows),
                None => varying(reply, column, span)?,
            });
        }
        let schema = schema.get_or_insert_with(|| Arc::new(schema_of(reply, columns, separator, &arrays)));
        batches.push(RecordBatch::try_new(schema.clone(), arrays).map_err(|error| failed(&error))?);
    }
    let schema = schema.ok_or_else(|| Error::internal("a reply has no rows"))?;
    let arrays = batches.iter().flat_map(RecordBatch::columns);
    let size: usize = arrays.map(|array| array.to_data().get_slice_memory_size().unwrap_or(0) + 128).sum();
    if size > MAX_REPLY_BYTES {
        return Err(too_large());
    }
    encode(&schema, &batches, kind, size).map(Bytes::from).map_err(|error| failed(&error))
}

#[cold]
fn failed(error: &ArrowError) -> Error {
    Error::internal(format!("the reply can't be written as Arrow: {error}"))
}

fn encode(schema: &Schema, batches: &[RecordBatch], kind: ArrowKind, size: usize) -> std::result::Result<Vec<u8>, ArrowError> {
    let mut out = Vec::with_capacity(4096 + size);
    match kind {
        ArrowKind::File => {
            let mut writer = FileWriter::try_new(&mut out, schema)?;
            batches.iter().try_for_each(|batch| writer.write(batch))?;
            writer.finish()?;
        }
        ArrowKind::Stream => {
            let mut writer = StreamWriter::try_new(&mut out, schema)?;
            batches.iter().try_for_each(|batch| writer.write(batch))?;
            writer.finish()?;
        }
    }
    Ok(out)
}

/// Bytes that metadata of *source* takes in each row.
fn constant_bytes(metadata: &Metadata<'_>, source: Source) -> usize {
    match source {
        Source::LastModel => metadata.last_model.len(),
        Source::PipelineVersion => metadata.pipeline_version.len(),
        Source::Partition => metadata.partition.len(),
        Source::Elapsed => size_of_val(metadata.elapsed_ns),
        Source::Dropped => metadata.dropped.iter().map(|name| 4 + name.len()).sum(),
        _ => 0,
    }
}

/// Rows that make one batch of the reply.
struct Span {
    /// First row, over all.
    start: usize,
    rows: usize,
    /// The batch given, and the first row within it.
    given: (usize, usize),
}

/// Batches as they were given, cut where Arrow's 32-bit offsets could not reach.
fn spans(reply: &ReplyFrame<'_>, columns: &[Column]) -> Vec<Span> {
    let wide = columns.iter().map(|column| match column.source {
        Source::Out(at) => reply.outputs[at].row_elements(),
        Source::In(at) if matches!(reply.frame.given, Given::Tensors) => reply.frame.columns[at].1.row_elements(),
        source => constant_bytes(&reply.metadata, source),
    });
    let most = (i32::MAX as usize / wide.max().unwrap_or(1).max(1)).clamp(1, MAX_BATCH_ROWS);
    let batches: Vec<usize> = match &reply.frame.given {
        Given::Tensors => vec![reply.frame.rows],
        Given::Arrow(batches) => batches.iter().map(RecordBatch::num_rows).collect(),
    };
    let (mut spans, mut start) = (Vec::new(), 0);
    for (batch, rows) in batches.into_iter().enumerate() {
        for within in (0..rows).step_by(most) {
            let rows = most.min(rows - within);
            spans.push(Span { start, rows, given: (batch, within) });
            start += rows;
        }
    }
    spans
}

/// The values of a column whose rows differ.
fn varying(reply: &ReplyFrame<'_>, column: &Column, span: &Span) -> Result<ArrayRef> {
    let name = column.name.as_deref().unwrap_or(column.group);
    let rows =
        |tensor: &Tensor| if span.rows == tensor.rows() { tensor.clone() } else { tensor.slice_rows(span.start, span.rows) };
    match (column.source, &reply.frame.given) {
        (Source::Out(at), _) => array(name, &rows(&reply.outputs[at]), INNER),
        (Source::In(at), Given::Tensors) => array(name, &rows(&reply.frame.columns[at].1), GIVEN),
        (Source::In(at), Given::Arrow(batches)) => Ok(batches[span.given.0].column(at).slice(span.given.1, span.rows)),
        _ => Ok(Arc::new(UInt32Array::from(reply.anomaly_counts[span.start..span.start + span.rows].to_vec()))),
    }
}

/// *rows* times the value of a column that is the same in each row.
fn constant(reply: &ReplyFrame<'_>, source: Source, rows: usize) -> Result<Option<ArrayRef>> {
    let metadata = &reply.metadata;
    Ok(Some(match source {
        Source::In(_) | Source::Out(_) => return Ok(None),
        Source::AnomalyCount if !reply.anomaly_counts.is_empty() => return Ok(None),
        Source::AnomalyCount => Arc::new(UInt32Array::from(vec![0; rows])),
        Source::Time => Arc::new(TimestampMillisecondArray::from(vec![reply.time_ms; rows])),
        Source::LastModel => texts(metadata.last_model, rows)?,
        Source::PipelineVersion => texts(metadata.pipeline_version, rows)?,
        Source::Partition => texts(metadata.partition, rows)?,
        Source::Elapsed => {
            let values = PrimitiveArray::<UInt64Type>::from_iter_values(metadata.elapsed_ns.repeat(rows));
            let offsets = OffsetBuffer::from_repeated_length(metadata.elapsed_ns.len(), rows);
            let field = Arc::new(Field::new("item", DataType::UInt64, true));
            Arc::new(ListArray::try_new(field, offsets, Arc::new(values), None).map_err(|error| failed(&error))?)
        }
        Source::Dropped => {
            let mut lists = ListBuilder::new(StringBuilder::new());
            for _ in 0..rows {
                metadata.dropped.iter().for_each(|name| lists.values().append_value(name));
                lists.append(true);
            }
            Arc::new(lists.finish())
        }
    }))
}

fn texts(text: &str, rows: usize) -> Result<ArrayRef> {
    let offsets = OffsetBuffer::<i32>::from_repeated_length(text.len(), rows);
    let values = text.repeat(rows).into_bytes();
    Ok(Arc::new(StringArray::try_new(offsets, values.into(), None).map_err(|error| failed(&error))?))
}

/// Fields of *arrays*; what was given as Arrow keeps its own.
fn schema_of(reply: &ReplyFrame<'_>, columns: &[Column], separator: &str, arrays: &[ArrayRef]) -> Schema {
    let fields = columns.iter().zip(arrays).map(|(column, array)| {
        let name = column.flat_name(separator);
        match (column.source, &reply.frame.given) {
            (Source::In(at), Given::Arrow(batches)) => batches[0].schema_ref().field(at).clone().with_name(name),
            (source, _) => {
                let nullable = !matches!(source, Source::Out(_) | Source::AnomalyCount);
                Field::new(name, array.data_type().clone(), nullable)
            }
        }
    });
    Schema::new(fields.collect::<Vec<_>>())
}
