//! Tensors in their shortest form.

use bettong_frame::{DType, Error, Result, Shape, Tensor};
use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use crate::pb::{Reader, field_len, put_head, put_len_head, put_varint, varint_len};

/// As many as most models have inputs or outputs.
pub type Tensors = SmallVec<[Tensor; 2]>;

/// Number of *dtype* on the wire; never changed, because other versions read it.
const fn number(dtype: DType) -> u64 {
    match dtype {
        DType::Bool => 1,
        DType::Uint8 => 2,
        DType::Uint16 => 3,
        DType::Uint32 => 4,
        DType::Uint64 => 5,
        DType::Int8 => 6,
        DType::Int16 => 7,
        DType::Int32 => 8,
        DType::Int64 => 9,
        DType::Fp16 => 10,
        DType::Fp32 => 11,
        DType::Fp64 => 12,
        DType::Bytes => 13,
        DType::Bf16 => 14,
    }
}

fn dtype(wanted: u64) -> Result<DType> {
    let found = DType::ALL.into_iter().find(|&dtype| number(dtype) == wanted);
    found.ok_or_else(|| Error::invalid(format!("a tensor has the unknown datatype {wanted}")))
}

/// The tensors in the content of a `Tensors` message, as slices of it.
///
/// # Errors
/// It is damaged, or the bytes of a tensor are not those that its shape promises.
pub fn decode_tensors(raw: &Bytes) -> Result<Tensors> {
    let mut tensors = Tensors::new();
    let mut reader = Reader::new(raw);
    while let Some((field, wire)) = reader.tag()? {
        match (field, wire) {
            (1, 2) => tensors.push(decode_tensor(raw, reader.slice()?)?),
            _ => reader.skip(wire)?,
        }
    }
    Ok(tensors)
}

fn decode_tensor(whole: &Bytes, message: &[u8]) -> Result<Tensor> {
    let (mut datatype, mut shape, mut data) = (0, Shape::new(), Bytes::new());
    let mut reader = Reader::new(message);
    while let Some((field, wire)) = reader.tag()? {
        match (field, wire) {
            (1, 0) => datatype = reader.varint()?,
            (2, 2) => {
                let mut dims = Reader::new(reader.slice()?);
                while !dims.is_empty() {
                    shape.push(dims.varint()? as i64);
                }
            }
            (3, 2) => data = whole.slice_ref(reader.slice()?),
            _ => reader.skip(wire)?,
        }
    }
    Tensor::new("of a call", dtype(datatype)?, shape, data)
}

fn shape_len(tensor: &Tensor) -> usize {
    tensor.shape.iter().map(|&dim| varint_len(dim as u64)).sum()
}

/// Bytes of *tensor* as a message, without its data.
fn head_len(tensor: &Tensor) -> usize {
    let shape = shape_len(tensor);
    1 + varint_len(number(tensor.dtype)) + if shape == 0 { 0 } else { field_len(shape) }
}

fn tensor_len(tensor: &Tensor) -> usize {
    head_len(tensor) + field_len(tensor.data.len())
}

/// Bytes of the content of a `Tensors` message.
pub fn tensors_len(tensors: &[Tensor]) -> usize {
    tensors.iter().map(|tensor| field_len(tensor_len(tensor))).sum()
}

/// Append everything of *tensor* but its data, which must follow.
pub fn put_tensor_head(buffer: &mut BytesMut, tensor: &Tensor) {
    put_len_head(buffer, 1, tensor_len(tensor));
    put_head(buffer, 1, 0);
    put_varint(buffer, number(tensor.dtype));
    let shape = shape_len(tensor);
    if shape > 0 {
        put_len_head(buffer, 2, shape);
        for &dim in &tensor.shape {
            put_varint(buffer, dim as u64);
        }
    }
    put_len_head(buffer, 3, tensor.data.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_datatype_has_a_number_of_its_own_that_leads_back() {
        let mut numbers: Vec<u64> = DType::ALL.into_iter().map(number).collect();
        assert!(DType::ALL.into_iter().all(|known| dtype(number(known)) == Ok(known)));
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(DType::ALL.len(), numbers.len());
        assert!(dtype(0).is_err() && dtype(15).is_err());
    }
}
