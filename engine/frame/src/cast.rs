//! Casts of whole columns that do not change what a value means.
//!
//! Integers become floats only where the float can hold them, floats become integers only where they are whole and in
//! range. A wider float becomes a narrower one by rounding to nearest, as every client library does (a frame's columns are
//! doubles by default), but never by overflow to infinity.

use bytes::Bytes;
use half::{bf16, f16};

use crate::{DType, Error, Result, Tensor};

/// One value on its way between types.
#[derive(Clone, Copy)]
enum Value {
    Int(i128),
    Float(f64),
}

/// The bytes of *tensor* as *wanted*, refusing values that it can't hold by row.
pub fn cast(name: &str, tensor: &Tensor, wanted: DType) -> Result<Bytes> {
    if tensor.dtype == wanted {
        return Ok(tensor.data.clone());
    }
    let (Some(from), Some(to)) = (tensor.dtype.size(), wanted.size()) else {
        return Err(impossible(name, tensor.dtype, wanted));
    };
    if wanted == DType::Bool {
        return Err(impossible(name, tensor.dtype, wanted));
    }
    let mut data = Vec::with_capacity(tensor.data.len() / from * to);
    for (index, element) in tensor.data.chunks_exact(from).enumerate() {
        let value = read(tensor.dtype, element);
        write(wanted, value, &mut data).ok_or_else(|| inexact(name, tensor, index, value, wanted))?;
    }
    Ok(data.into())
}

/// The elements of a tensor of numbers as doubles; 64-bit integers beyond 2^53 are rounded.
pub fn to_f64(tensor: &Tensor) -> impl Iterator<Item = f64> + '_ {
    let size = tensor.dtype.size().unwrap_or(1);
    tensor.data.chunks_exact(size).map(|element| match read(tensor.dtype, element) {
        Value::Int(int) => int as f64,
        Value::Float(float) => float,
    })
}

/// Append *value* as a float of *dtype*; anything else is left out.
pub fn put_f64(dtype: DType, value: f64, data: &mut Vec<u8>) {
    // Fails only for types that are no floats, and for values that no probe uses.
    let _ = write(dtype, Value::Float(value), data);
}

/// Append *value* as *dtype*; `None` when it can't hold it.
fn write(dtype: DType, value: Value, data: &mut Vec<u8>) -> Option<()> {
    macro_rules! int {
        ($type:ty) => {
            data.extend_from_slice(&<$type>::try_from(whole(value)?).ok()?.to_le_bytes())
        };
    }
    match dtype {
        DType::Uint8 => int!(u8),
        DType::Uint16 => int!(u16),
        DType::Uint32 => int!(u32),
        DType::Uint64 => int!(u64),
        DType::Int8 => int!(i8),
        DType::Int16 => int!(i16),
        DType::Int32 => int!(i32),
        DType::Int64 => int!(i64),
        DType::Fp32 => data.extend_from_slice(&(narrow(value, 24, f64::from(f32::MAX))? as f32).to_le_bytes()),
        DType::Fp64 => data.extend_from_slice(&narrow(value, 53, f64::MAX)?.to_le_bytes()),
        DType::Fp16 => data.extend_from_slice(&f16::from_f64(narrow(value, 11, 65_504.0)?).to_le_bytes()),
        DType::Bf16 => data.extend_from_slice(&bf16::from_f64(narrow(value, 8, f64::from(bf16::MAX))?).to_le_bytes()),
        DType::Bool | DType::Bytes => return None,
    }
    Some(())
}

/// Floats that are whole, and integers.
fn whole(value: Value) -> Option<i128> {
    match value {
        Value::Int(int) => Some(int),
        // 2^64 bounds every integer type, and i128 holds it exactly.
        Value::Float(float) => (float.fract() == 0.0 && float.abs() <= 18_446_744_073_709_551_616.0).then_some(float as i128),
    }
}

/// Integers that fit in *bits* of mantissa, floats that are not larger than *max*; infinities and NaN stay.
fn narrow(value: Value, bits: u32, max: f64) -> Option<f64> {
    match value {
        Value::Int(int) => {
            let magnitude = int.unsigned_abs();
            let odd = magnitude.checked_shr(magnitude.trailing_zeros()).unwrap_or(0);
            let float = int as f64;
            (odd < (1 << bits) && float.abs() <= max).then_some(float)
        }
        Value::Float(float) => (!float.is_finite() || float.abs() <= max).then_some(float),
    }
}

fn read(dtype: DType, element: &[u8]) -> Value {
    macro_rules! from {
        ($type:ty, $kind:ident) => {{
            let mut bytes = [0; size_of::<$type>()];
            bytes.copy_from_slice(element);
            Value::$kind(<$type>::from_le_bytes(bytes).into())
        }};
    }
    match dtype {
        DType::Bool | DType::Uint8 | DType::Bytes => Value::Int(i128::from(element[0])),
        DType::Uint16 => from!(u16, Int),
        DType::Uint32 => from!(u32, Int),
        DType::Uint64 => from!(u64, Int),
        DType::Int8 => from!(i8, Int),
        DType::Int16 => from!(i16, Int),
        DType::Int32 => from!(i32, Int),
        DType::Int64 => from!(i64, Int),
        DType::Fp32 => from!(f32, Float),
        DType::Fp64 => from!(f64, Float),
        DType::Fp16 => Value::Float(f16::from_le_bytes([element[0], element[1]]).to_f64()),
        DType::Bf16 => Value::Float(bf16::from_le_bytes([element[0], element[1]]).to_f64()),
    }
}

#[cold]
fn impossible(name: &str, from: DType, to: DType) -> Error {
    Error::invalid_field(name, format!("column '{name}' is {from}, the model takes {to}"))
}

#[cold]
fn inexact(name: &str, tensor: &Tensor, index: usize, value: Value, wanted: DType) -> Error {
    let row = index / tensor.row_elements().max(1);
    let shown = match value {
        Value::Int(int) => int.to_string(),
        Value::Float(float) => float.to_string(),
    };
    Error::invalid_field(name, format!("column '{name}', row {row}: {shown} can't be given as {wanted} without changing it"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;

    fn doubles(values: &[f64]) -> Tensor {
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Tensor::new("x", DType::Fp64, Shape::from_slice(&[values.len() as i64]), data.into()).unwrap()
    }

    #[test]
    fn doubles_round_to_floats_but_do_not_overflow() {
        let data = cast("x", &doubles(&[0.1, f64::NAN, f64::INFINITY]), DType::Fp32).unwrap();
        assert_eq!(0.1_f32.to_le_bytes(), data[..4]);
        let error = cast("x", &doubles(&[1.0, 1e300]), DType::Fp32).unwrap_err();
        assert!(error.message.starts_with("column 'x', row 1: "), "{error}");
    }

    #[test]
    fn floats_become_integers_only_when_whole_and_in_range() {
        assert_eq!(7_i64.to_le_bytes(), cast("x", &doubles(&[7.0]), DType::Int64).unwrap()[..]);
        for value in [7.5, -1.0, 256.0, f64::NAN, f64::INFINITY] {
            assert!(cast("x", &doubles(&[value]), DType::Uint8).is_err(), "{value}");
        }
    }

    #[test]
    fn integers_become_floats_only_when_the_float_holds_them() {
        let ints = |value: i64| {
            Tensor::new("x", DType::Int64, Shape::from_slice(&[1]), Bytes::copy_from_slice(&value.to_le_bytes())).unwrap()
        };
        assert!(cast("x", &ints(1 << 24), DType::Fp32).is_ok());
        assert!(cast("x", &ints((1 << 24) + 1), DType::Fp32).is_err());
        assert!(cast("x", &ints(i64::MIN), DType::Fp64).is_ok());
        assert!(cast("x", &ints(0), DType::Fp16).is_ok());
    }
}
