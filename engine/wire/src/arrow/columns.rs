//! Arrow arrays as tensors.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{Array, ArrayRef, OffsetSizeTrait};
use arrow_schema::DataType;
use bettong_frame::tensor::push_byte_element;
use bettong_frame::{DType, Error, ErrorKind, Result, Shape, Tensor};
use bytes::Bytes;

/// Views and dictionaries name one text many times; a small body could claim terabytes.
pub const MAX_TEXT_BYTES: usize = 1 << 28;

/// A column without its lists: the values one after another, and how many make a row.
pub struct Flat {
    /// The innermost values of each chunk.
    pub leaves: Vec<ArrayRef>,
    /// Rows, and lengths of the lists from the outermost on.
    pub shape: Shape,
}

/// Take the lists off *chunks* of the column called *name*, refusing nulls and lists of different length by row.
pub fn flatten(name: &str, chunks: &[ArrayRef]) -> Result<Flat> {
    let rows: usize = chunks.iter().map(Array::len).sum();
    let mut flat = Flat { leaves: chunks.to_vec(), shape: Shape::from_slice(&[rows as i64]) };
    // Values of one row at this level.
    let mut width = 1;
    loop {
        let (mut seen, mut len) = (0, None);
        let mut inner = Vec::with_capacity(flat.leaves.len());
        for chunk in &flat.leaves {
            refuse_null(name, chunk, seen, width)?;
            if let Some(values) = unlist(name, chunk, &mut len, (seen, width))? {
                inner.push(values);
            }
            seen += chunk.len();
        }
        if inner.is_empty() {
            return Ok(flat);
        }
        let len = len.unwrap_or(0);
        flat.shape.push(len as i64);
        width *= len;
        flat.leaves = inner;
    }
}

/// Refuse a null in *chunk*, which comes after *seen* values of this level, *width* a row.
fn refuse_null(name: &str, chunk: &ArrayRef, seen: usize, width: usize) -> Result<()> {
    let Some(nulls) = chunk.logical_nulls().filter(|nulls| nulls.null_count() > 0) else { return Ok(()) };
    let at = nulls.iter().position(|is_valid| !is_valid).unwrap_or(0);
    let row = (seen + at) / width.max(1);
    Err(Error::invalid_field(name, format!("column '{name}', row {row}: null is not allowed")))
}

/// The values within the lists of *chunk*, if it has lists, all of which must have *len* values.
fn unlist(name: &str, chunk: &ArrayRef, len: &mut Option<usize>, place: (usize, usize)) -> Result<Option<ArrayRef>> {
    Ok(Some(match chunk.data_type() {
        DataType::List(_) => unlist_offsets::<i32>(name, chunk, len, place)?,
        DataType::LargeList(_) => unlist_offsets::<i64>(name, chunk, len, place)?,
        DataType::FixedSizeList(_, size) => {
            *len = Some(*size as usize);
            let list = chunk.as_fixed_size_list();
            list.values().slice(list.value_offset_at(0), chunk.len() * *size as usize)
        }
        _ => return Ok(None),
    }))
}

fn unlist_offsets<O: OffsetSizeTrait>(
    name: &str,
    chunk: &ArrayRef,
    len: &mut Option<usize>,
    place: (usize, usize),
) -> Result<ArrayRef> {
    let list = chunk.as_list::<O>();
    let offsets = list.value_offsets();
    let (Some(start), Some(end)) = (offsets.first(), offsets.last()) else { return Ok(list.values().slice(0, 0)) };
    let (start, end) = (start.as_usize(), end.as_usize());
    if offsets.len() > 1 {
        let wanted = *len.get_or_insert(offsets[1].as_usize() - start);
        // Branch-free, so that it costs next to nothing; which one differs is asked only if any does.
        let differing = offsets.windows(2).fold(0, |sum, pair| sum | ((pair[1] - pair[0]).as_usize() ^ wanted));
        if differing != 0 {
            return Err(ragged(name, offsets, wanted, place));
        }
    }
    Ok(list.values().slice(start, end - start))
}

#[cold]
fn ragged<O: OffsetSizeTrait>(name: &str, offsets: &[O], wanted: usize, (seen, width): (usize, usize)) -> Error {
    let length = |pair: &[O]| (pair[1] - pair[0]).as_usize();
    let at = offsets.windows(2).position(|pair| length(pair) != wanted).unwrap_or(0);
    let (row, found) = ((seen + at) / width.max(1), length(&offsets[at..at + 2]));
    Error::invalid_field(name, format!("column '{name}', row {row}: it is a list of {found}, others have {wanted} values"))
}

/// The element type that an Arrow type is read as; `None` if it is no tensor's.
pub fn dtype(data_type: &DataType) -> Option<DType> {
    Some(match data_type {
        DataType::Boolean => DType::Bool,
        DataType::UInt8 => DType::Uint8,
        DataType::UInt16 => DType::Uint16,
        DataType::UInt32 => DType::Uint32,
        DataType::UInt64 => DType::Uint64,
        DataType::Int8 => DType::Int8,
        DataType::Int16 => DType::Int16,
        DataType::Int32 => DType::Int32,
        DataType::Int64 => DType::Int64,
        DataType::Float16 => DType::Fp16,
        DataType::Float32 => DType::Fp32,
        DataType::Float64 => DType::Fp64,
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => DType::Bytes,
        _ => return None,
    })
}

/// *flat* as a tensor; without a copy if it is of one chunk and its type has tensors' layout.
pub fn tensor(name: &str, flat: Flat) -> Result<Tensor> {
    let Some(data_type) = flat.leaves.first().map(|leaf| leaf.data_type().clone()) else {
        return Err(Error::internal(format!("column '{name}' has no values")));
    };
    let dtype = dtype(&data_type).ok_or_else(|| {
        Error::invalid_field(name, format!("column '{name}': the Arrow type {data_type} can't be the input of a model"))
    })?;
    let data = match &flat.leaves[..] {
        [leaf] => leaf_bytes(name, leaf)?,
        leaves => {
            let parts: Result<Vec<Bytes>> = leaves.iter().map(|leaf| leaf_bytes(name, leaf)).collect();
            parts?.concat().into()
        }
    };
    Tensor::new(name, dtype, flat.shape, data)
}

/// The values of *leaf*, whose type [`dtype`] knows, as a tensor's bytes.
fn leaf_bytes(name: &str, leaf: &ArrayRef) -> Result<Bytes> {
    macro_rules! primitive {
        ($type:ty) => {
            Bytes::from_owner(leaf.as_primitive::<$type>().values().inner().clone())
        };
    }
    Ok(match leaf.data_type() {
        DataType::UInt8 => primitive!(UInt8Type),
        DataType::UInt16 => primitive!(UInt16Type),
        DataType::UInt32 => primitive!(UInt32Type),
        DataType::UInt64 => primitive!(UInt64Type),
        DataType::Int8 => primitive!(Int8Type),
        DataType::Int16 => primitive!(Int16Type),
        DataType::Int32 => primitive!(Int32Type),
        DataType::Int64 => primitive!(Int64Type),
        DataType::Float16 => primitive!(Float16Type),
        DataType::Float32 => primitive!(Float32Type),
        DataType::Float64 => primitive!(Float64Type),
        DataType::Boolean => leaf.as_boolean().values().iter().map(u8::from).collect::<Vec<u8>>().into(),
        DataType::Utf8 => prefixed(leaf.as_string::<i32>().iter().flatten().map(str::as_bytes)),
        DataType::LargeUtf8 => prefixed(leaf.as_string::<i64>().iter().flatten().map(str::as_bytes)),
        DataType::Utf8View => return expanded(name, leaf.as_string_view().iter().flatten().map(str::as_bytes)),
        DataType::Binary => prefixed(leaf.as_binary::<i32>().iter().flatten()),
        DataType::LargeBinary => prefixed(leaf.as_binary::<i64>().iter().flatten()),
        DataType::BinaryView => return expanded(name, leaf.as_binary_view().iter().flatten()),
        _ => prefixed(leaf.as_fixed_size_binary_opt().into_iter().flatten().flatten()),
    })
}

/// Length-prefixed *elements*.
fn prefixed<'e>(elements: impl Iterator<Item = &'e [u8]> + Clone) -> Bytes {
    let mut data = Vec::with_capacity(prefixed_len(elements.clone()));
    elements.for_each(|element| push_byte_element(&mut data, element));
    data.into()
}

/// Length-prefixed *elements* that may be parts of each other.
fn expanded<'e>(name: &str, elements: impl Iterator<Item = &'e [u8]> + Clone) -> Result<Bytes> {
    refuse_expansion(name, prefixed_len(elements.clone()))?;
    Ok(prefixed(elements))
}

fn prefixed_len<'e>(elements: impl Iterator<Item = &'e [u8]>) -> usize {
    elements.fold(0, |sum: usize, element| sum.saturating_add(4 + element.len()))
}

/// Refuse texts that take more than [`MAX_TEXT_BYTES`].
pub fn refuse_expansion(name: &str, bytes: usize) -> Result<()> {
    if bytes <= MAX_TEXT_BYTES {
        return Ok(());
    }
    let message = format!("column '{name}': its texts take more than {MAX_TEXT_BYTES} bytes when they are written out");
    Err(Error { field: Some(name.into()), ..Error::new(ErrorKind::TooLarge, message) })
}
