//! Strings and tensors as JSON text.
//!
//! Floats are written with the fewest digits that read back as the same value of their own type. JSON knows no NaN and no
//! infinity: they are written as null, which numpy and pandas read as NaN.

use bettong_frame::tensor::byte_elements;
use bettong_frame::{DType, Error, Result};
use half::{bf16, f16};

/// Append *text* as a JSON string.
pub fn put_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut from = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[from..at]);
        put_escape(out, byte);
        from = at + 1;
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
}

#[cold]
fn put_escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

/// Append an integer.
#[inline]
pub fn put_integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Append a single.
#[inline]
pub fn put_single(out: &mut Vec<u8>, value: f32) {
    if value.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}

/// Append a double.
#[inline]
pub fn put_double(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}

/// Append the elements of *data*, with commas between them.
///
/// `name` is what errors call it: bytes that are not UTF-8 can't be written.
pub fn put_elements(out: &mut Vec<u8>, name: &str, dtype: DType, data: &[u8]) -> Result<()> {
    macro_rules! elements {
        ($type:ty, $put:expr) => {
            put_each::<{ size_of::<$type>() }>(out, data, |out, bytes| $put(out, <$type>::from_le_bytes(bytes)))
        };
    }
    match dtype {
        DType::Bool => put_each::<1>(out, data, |out, [byte]| put_bool(out, byte != 0)),
        DType::Uint8 => elements!(u8, put_integer),
        DType::Uint16 => elements!(u16, put_integer),
        DType::Uint32 => elements!(u32, put_integer),
        DType::Uint64 => elements!(u64, put_integer),
        DType::Int8 => elements!(i8, put_integer),
        DType::Int16 => elements!(i16, put_integer),
        DType::Int32 => elements!(i32, put_integer),
        DType::Int64 => elements!(i64, put_integer),
        DType::Fp16 => elements!(f16, |out: &mut Vec<u8>, value: f16| put_single(out, value.to_f32())),
        DType::Bf16 => elements!(bf16, |out: &mut Vec<u8>, value: bf16| put_single(out, value.to_f32())),
        DType::Fp32 => elements!(f32, put_single),
        DType::Fp64 => elements!(f64, put_double),
        DType::Bytes => return put_texts(out, name, data),
    }
    Ok(())
}

/// Append true or false.
pub fn put_bool(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

#[inline]
fn put_each<const N: usize>(out: &mut Vec<u8>, data: &[u8], put: impl Fn(&mut Vec<u8>, [u8; N])) {
    let mut comma = false;
    for element in data.chunks_exact(N) {
        if std::mem::replace(&mut comma, true) {
            out.push(b',');
        }
        let mut bytes = [0; N];
        bytes.copy_from_slice(element);
        put(out, bytes);
    }
}

fn put_texts(out: &mut Vec<u8>, name: &str, data: &[u8]) -> Result<()> {
    for (at, element) in byte_elements(data).enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let text = std::str::from_utf8(element).map_err(|_| not_text(name, at))?;
        put_string(out, text);
    }
    Ok(())
}

#[cold]
fn not_text(name: &str, element: usize) -> Error {
    Error::invalid_field(
        name,
        format!("'{name}': element {element} is not UTF-8, so JSON can't hold it; ask for binary data or Arrow"),
    )
}
