//! Messages of Arrow IPC, from bytes that nobody has checked.
//!
//! The library verifies the metadata's own structure and the contents of arrays, but slices bodies by the offsets that the
//! metadata names, and panics when they lie outside. So they are all checked here first.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_buffer::Buffer;
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::{read_dictionary, read_record_batch};
use arrow_ipc::{Block, Message, MessageHeader, MetadataVersion, root_as_footer, root_as_message};
use arrow_schema::{ArrowError, DataType, SchemaRef};
use bettong_frame::{Error, Result};
use bytes::Bytes;

use super::ArrowKind;

const MAGIC: &[u8] = b"ARROW1";
const CONTINUATION: u32 = u32::MAX;

/// The batches of *body*, all of one schema.
pub fn read(body: &Bytes, kind: ArrowKind) -> Result<Vec<RecordBatch>> {
    let is_file = body.starts_with(MAGIC);
    let mut reader = Reader { body: Buffer::from(body.clone()), schema: None, dictionaries: HashMap::new(), batches: Vec::new() };
    match (kind, is_file) {
        (ArrowKind::File, true) => reader.read_file()?,
        (ArrowKind::Stream, false) => reader.read_stream()?,
        (ArrowKind::File, false) => return Err(mistaken(kind, "it does not begin with ARROW1", ArrowKind::Stream)),
        (ArrowKind::Stream, true) => return Err(mistaken(kind, "it is an Arrow file", ArrowKind::File)),
    }
    Ok(reader.batches)
}

#[cold]
fn mistaken(kind: ArrowKind, why: &str, other: ArrowKind) -> Error {
    let (kind, other) = (kind.media_type(), other.media_type());
    Error::invalid(format!("the body is not {kind}: {why}; if it was meant to be {other}, say so in Content-Type"))
}

#[cold]
fn bad(what: &str) -> Error {
    Error::invalid(format!("the Arrow data is not valid: {what}"))
}

#[cold]
fn refused(error: &ArrowError) -> Error {
    let text: String = error.to_string().chars().take(300).collect();
    bad(&text)
}

/// Where a message is, and where the next one begins.
struct Place {
    metadata: std::ops::Range<usize>,
    body: usize,
}

struct Reader {
    body: Buffer,
    schema: Option<SchemaRef>,
    dictionaries: HashMap<i64, ArrayRef>,
    batches: Vec<RecordBatch>,
}

impl Reader {
    fn read_stream(&mut self) -> Result<()> {
        let body = self.body.clone();
        let mut at = 0;
        while let Some(place) = message_place(&body, at)? {
            let metadata = &body[place.metadata];
            let message = root_as_message(metadata).map_err(|error| bad(&error.to_string()))?;
            let data = self.message_body(&message, place.body)?;
            at = place.body + data.len();
            match self.schema.clone() {
                Some(schema) => self.read_message(&message, &data, &schema)?,
                None => self.schema = Some(stream_schema(&message)?),
            }
        }
        if self.schema.is_none() { Err(bad("there is no schema")) } else { Ok(()) }
    }

    fn read_file(&mut self) -> Result<()> {
        let body = self.body.clone();
        let end = footer_end(&body)?;
        let len = u32_at(&body, end).and_then(|len| usize::try_from(len).ok()).filter(|&len| len <= end);
        let start = end - len.ok_or_else(|| bad("the footer's length is wrong"))?;
        let footer = root_as_footer(&body[start..end]).map_err(|error| bad(&error.to_string()))?;
        let schema = footer.schema().ok_or_else(|| bad("there is no schema"))?;
        let schema = checked_schema(schema)?;
        let blocks = footer.dictionaries().into_iter().flatten().chain(footer.recordBatches().into_iter().flatten());
        // Blocks that overlap could make much of little.
        let mut left = start;
        for block in blocks {
            let (place, size) = block_place(&body, block, start)?;
            left = left.checked_sub(size).ok_or_else(|| bad("the footer's blocks overlap"))?;
            let message = root_as_message(&body[place.metadata.clone()]).map_err(|error| bad(&error.to_string()))?;
            let data = self.message_body(&message, place.body)?;
            self.read_message(&message, &data, &schema)?;
        }
        Ok(())
    }

    /// The body of *message*, which begins at *start*.
    fn message_body(&self, message: &Message<'_>, start: usize) -> Result<Buffer> {
        let len = usize::try_from(message.bodyLength()).map_err(|_| bad("a message's length is negative"))?;
        if start.checked_add(len).is_none_or(|end| end > self.body.len()) {
            return Err(bad("a message's body is cut off"));
        }
        Ok(self.body.slice_with_length(start, len))
    }

    fn read_message(&mut self, message: &Message<'_>, data: &Buffer, schema: &SchemaRef) -> Result<()> {
        let version = message.version();
        match message.header_type() {
            MessageHeader::RecordBatch => {
                let batch = message.header_as_record_batch().ok_or_else(|| bad("a batch has no header"))?;
                check_batch(&batch, schema.fields().iter().map(|field| field.data_type()), data.len())?;
                let batch = read_record_batch(data, batch, schema.clone(), &self.dictionaries, None, &version);
                self.batches.push(batch.map_err(|error| refused(&error))?);
                Ok(())
            }
            MessageHeader::DictionaryBatch => self.read_dictionary(message, data, schema, version),
            MessageHeader::NONE => Ok(()),
            _ => Err(bad("a message is neither a batch nor a dictionary")),
        }
    }

    fn read_dictionary(
        &mut self,
        message: &Message<'_>,
        data: &Buffer,
        schema: &SchemaRef,
        version: MetadataVersion,
    ) -> Result<()> {
        let dictionary = message.header_as_dictionary_batch().ok_or_else(|| bad("a dictionary has no header"))?;
        if dictionary.isDelta() {
            // Each one is a copy of all before it.
            return Err(bad("dictionaries in pieces (deltas) are not supported"));
        }
        let values = dictionary.data().ok_or_else(|| bad("a dictionary has no values"))?;
        check_batch(&values, std::iter::once(dictionary_type(schema, dictionary.id())?), data.len())?;
        read_dictionary(data, dictionary, schema, &mut self.dictionaries, &version).map_err(|error| refused(&error))
    }
}

fn stream_schema(message: &Message<'_>) -> Result<SchemaRef> {
    let schema = message.header_as_schema().ok_or_else(|| bad("the first message is not a schema"))?;
    checked_schema(schema)
}

fn checked_schema(schema: arrow_ipc::Schema<'_>) -> Result<SchemaRef> {
    if !schema.endianness().equals_to_target_endianness() {
        return Err(bad("its byte order is not little-endian"));
    }
    let schema = try_fb_to_schema(schema).map_err(|error| refused(&error))?;
    if schema.fields().is_empty() {
        return Err(bad("there are no columns"));
    }
    for field in schema.fields() {
        check_type(field.name(), field.data_type())?;
    }
    Ok(Arc::new(schema))
}

/// Refuse types that no frame can have.
fn check_type(column: &str, data_type: &DataType) -> Result<()> {
    let mut inner = data_type;
    while let DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) = inner {
        let has_size = !matches!(inner, DataType::FixedSizeList(_, size) if *size < 0);
        if !has_size {
            return Err(bad("a list's size is negative"));
        }
        inner = field.data_type();
    }
    let is_known = match inner {
        DataType::FixedSizeBinary(size) => *size >= 0,
        DataType::Dictionary(key, values) => key.is_dictionary_key_type() && is_value(values),
        other => is_value(other),
    };
    if is_known {
        return Ok(());
    }
    Err(Error::invalid_field(column, format!("column '{column}': the Arrow type {data_type} is not supported")))
}

fn is_value(data_type: &DataType) -> bool {
    use DataType::{Binary, BinaryView, Boolean, LargeBinary, LargeUtf8, Utf8, Utf8View};
    data_type.is_primitive() || matches!(data_type, Boolean | Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView)
}

/// Refuse a batch of columns of *types* whose metadata names what a body of *len* bytes can't hold.
fn check_batch<'t>(batch: &arrow_ipc::RecordBatch<'_>, types: impl Iterator<Item = &'t DataType>, len: usize) -> Result<()> {
    if batch.compression().is_some() {
        return Err(bad("compressed batches are not supported; write them without compression"));
    }
    for buffer in batch.buffers().into_iter().flatten() {
        let end = buffer.offset().checked_add(buffer.length());
        let fits = buffer.offset() >= 0 && buffer.length() >= 0 && end.is_some_and(|end| end as u64 <= len as u64);
        if !fits {
            return Err(bad("a buffer lies outside of its message"));
        }
    }
    // One bit is the least for a value.
    let most = (len as u64).saturating_mul(8);
    for node in batch.nodes().into_iter().flatten() {
        let fits = node.length() >= 0 && node.length() as u64 <= most && (0..=node.length()).contains(&node.null_count());
        if !fits {
            return Err(bad("a column claims more values than its message holds"));
        }
    }
    if batch.length() < 0 || batch.length() as u64 > most {
        return Err(bad("a batch claims more rows than its message holds"));
    }
    check_widths(batch, types)
}

/// Refuse buffers of fixed-width values that end within one. Which buffer is which follows from the columns' types.
fn check_widths<'t>(batch: &arrow_ipc::RecordBatch<'_>, types: impl Iterator<Item = &'t DataType>) -> Result<()> {
    let mut lengths = batch.buffers().into_iter().flatten().map(arrow_ipc::Buffer::length);
    let mut variadic = batch.variadicBufferCounts().into_iter().flatten();
    for data_type in types {
        let mut inner = Some(data_type);
        while let Some(data_type) = inner {
            // The bitmap of nulls.
            let _ = lengths.next();
            let width = buffer_width(data_type);
            let fits = width.is_none_or(|width| lengths.next().is_none_or(|length| length % width == 0));
            if !fits {
                return Err(bad("a buffer ends within a value"));
            }
            let bytes = match data_type {
                DataType::Utf8View | DataType::BinaryView => usize::try_from(variadic.next().unwrap_or(0)).unwrap_or(0),
                DataType::Utf8 | DataType::Binary | DataType::LargeUtf8 | DataType::LargeBinary => 1,
                _ => 0,
            };
            if bytes > 0 {
                let _ = lengths.nth(bytes - 1);
            }
            inner = match data_type {
                DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => Some(field.data_type()),
                _ => None,
            };
        }
    }
    Ok(())
}

/// Bytes of each value in the buffer that follows the bitmap; `None` if there is no such buffer.
fn buffer_width(data_type: &DataType) -> Option<i64> {
    match data_type {
        DataType::FixedSizeList(..) => None,
        DataType::Utf8 | DataType::Binary | DataType::List(_) => Some(4),
        DataType::LargeUtf8 | DataType::LargeBinary | DataType::LargeList(_) => Some(8),
        DataType::Utf8View | DataType::BinaryView => Some(16),
        DataType::Dictionary(key, _) => Some(key.primitive_width().unwrap_or(1) as i64),
        other => Some(other.primitive_width().unwrap_or(1) as i64),
    }
}

/// The type of the values of the dictionary called *id*.
fn dictionary_type(schema: &SchemaRef, id: i64) -> Result<&DataType> {
    // There is no other way to learn the id than the one that the library itself uses.
    #[expect(deprecated)]
    let fields = schema.fields_with_dict_id(id);
    match fields.first().map(|field| field.data_type()) {
        Some(DataType::Dictionary(_, values)) => Ok(values),
        _ => Err(bad("a dictionary belongs to no column")),
    }
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// The message at *at* of a stream; `None` at its end.
fn message_place(data: &[u8], at: usize) -> Result<Option<Place>> {
    if at == data.len() {
        return Ok(None);
    }
    let cut = || bad("the stream is cut off");
    let word = u32_at(data, at).ok_or_else(cut)?;
    // Before version 0.15 the length came first.
    let (len, start) = if word == CONTINUATION { (u32_at(data, at + 4).ok_or_else(cut)?, at + 8) } else { (word, at + 4) };
    if len == 0 {
        return if start == data.len() { Ok(None) } else { Err(bad("bytes follow the end of the stream")) };
    }
    let end = start + len as usize;
    if end > data.len() {
        return Err(cut());
    }
    Ok(Some(Place { metadata: start..end, body: end }))
}

/// Where the footer of a file ends.
fn footer_end(data: &[u8]) -> Result<usize> {
    let trailer = 4 + MAGIC.len();
    if data.len() < 8 + trailer || !data.ends_with(MAGIC) {
        return Err(bad("the file is cut off: it does not end with ARROW1"));
    }
    Ok(data.len() - trailer)
}

/// The message of *block* and its size; everything lies before *limit*.
fn block_place(data: &[u8], block: &Block, limit: usize) -> Result<(Place, usize)> {
    let number = |value: i64| usize::try_from(value).map_err(|_| bad("a block's place is negative"));
    let (at, metadata, body) = (number(block.offset())?, number(block.metaDataLength().into())?, number(block.bodyLength())?);
    let start = at.checked_add(metadata);
    let fits = start.and_then(|start| start.checked_add(body)).is_some_and(|end| end <= limit);
    let (Some(start), true) = (start, fits) else { return Err(bad("a block lies outside of the file")) };
    let prefix = if u32_at(data, at) == Some(CONTINUATION) { 8 } else { 4 };
    if metadata < prefix {
        return Err(bad("a block has no message"));
    }
    Ok((Place { metadata: at + prefix..start, body: start }, metadata + body))
}
