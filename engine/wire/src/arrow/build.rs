//! Tensors as Arrow arrays, without a look at single values where their layout allows it.

use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{ArrayRef, BinaryArray, BooleanArray, ListArray, PrimitiveArray, StringArray};
use arrow_buffer::{ArrowNativeType, BooleanBuffer, Buffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::Field;
use bettong_frame::tensor::byte_elements;
use bettong_frame::{DType, Error, Result, Tensor};
use bytes::Bytes;

/// What the elements of lists are called, and whether they may be null.
#[derive(Clone, Copy, Debug)]
pub struct Items {
    name: &'static str,
    nullable: bool,
}

/// Lists of what clients give.
pub const GIVEN: Items = Items { name: "item", nullable: true };
/// Lists of what pipelines give.
pub const INNER: Items = Items { name: "inner", nullable: false };

/// *tensor* as a column: a vector as values, everything of more dimensions as lists within lists.
pub fn array(name: &str, tensor: &Tensor, items: Items) -> Result<ArrayRef> {
    if tensor.dtype == DType::Bytes && i32::try_from(tensor.data.len()).is_err() {
        return Err(too_large(name));
    }
    let mut array = values(tensor);
    for level in (1..tensor.shape.len()).rev() {
        let dim = tensor.shape[level] as usize;
        let outer: i64 = tensor.shape[..level].iter().product();
        if i32::try_from(outer as usize * dim).is_err() {
            return Err(too_large(name));
        }
        let field = Arc::new(Field::new(items.name, array.data_type().clone(), items.nullable));
        let offsets = OffsetBuffer::from_repeated_length(dim, outer as usize);
        let list = ListArray::try_new(field, offsets, array, None);
        array = Arc::new(list.map_err(|error| Error::internal(format!("column '{name}': {error}")))?);
    }
    Ok(array)
}

#[cold]
fn too_large(name: &str) -> Error {
    Error::invalid_field(name, format!("column '{name}' has too many values for one Arrow batch"))
}

fn values(tensor: &Tensor) -> ArrayRef {
    let data = &tensor.data;
    match tensor.dtype {
        DType::Bool => Arc::new(BooleanArray::new(BooleanBuffer::collect_bool(data.len(), |at| data[at] != 0), None)),
        DType::Uint8 => primitive::<UInt8Type>(data),
        DType::Uint16 => primitive::<UInt16Type>(data),
        DType::Uint32 => primitive::<UInt32Type>(data),
        DType::Uint64 => primitive::<UInt64Type>(data),
        DType::Int8 => primitive::<Int8Type>(data),
        DType::Int16 => primitive::<Int16Type>(data),
        DType::Int32 => primitive::<Int32Type>(data),
        DType::Int64 => primitive::<Int64Type>(data),
        DType::Fp16 => primitive::<Float16Type>(data),
        DType::Bf16 => widened(data),
        DType::Fp32 => primitive::<Float32Type>(data),
        DType::Fp64 => primitive::<Float64Type>(data),
        DType::Bytes => strings(data),
    }
}

fn primitive<T: ArrowPrimitiveType>(data: &Bytes) -> ArrayRef {
    let is_aligned = data.as_ptr().align_offset(align_of::<T::Native>()) == 0;
    let buffer = if is_aligned { Buffer::from(data.clone()) } else { Buffer::from_slice_ref(&data[..]) };
    let values = ScalarBuffer::<T::Native>::new(buffer, 0, data.len() / T::Native::get_byte_width());
    Arc::new(PrimitiveArray::<T>::new(values, None))
}

/// Brain floats, which Arrow does not know, as singles: the upper halves of their bits.
fn widened(data: &[u8]) -> ArrayRef {
    let singles = data.chunks_exact(2).map(|half| f32::from_bits(u32::from(u16::from_le_bytes([half[0], half[1]])) << 16));
    Arc::new(PrimitiveArray::<Float32Type>::from_iter_values(singles))
}

/// Text if all of it is UTF-8, else bytes.
fn strings(data: &[u8]) -> ArrayRef {
    let texts: Option<Vec<&str>> = byte_elements(data).map(|element| std::str::from_utf8(element).ok()).collect();
    match texts {
        Some(texts) => Arc::new(StringArray::from(texts)),
        None => Arc::new(BinaryArray::from_iter_values(byte_elements(data))),
    }
}
