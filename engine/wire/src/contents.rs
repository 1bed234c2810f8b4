//! `InferTensorContents`: typed values instead of raw bytes.

use bettong_frame::tensor::push_byte_element;
use bettong_frame::{DType, Error, Result};
use bytes::Bytes;

use crate::pb::Reader;

/// Values as they came, by the field that they came in.
#[derive(Default)]
pub struct Contents {
    /// `bool_contents`, `int_contents`, `int64_contents`, `uint_contents`, `uint64_contents` as 64-bit patterns.
    varints: Vec<u64>,
    /// `fp32_contents` or `fp64_contents`: already little-endian.
    floats: Floats,
    /// `bytes_contents`, length-prefixed.
    strings: Vec<u8>,
    /// Numbers of the fields that were used, one bit each.
    used: u16,
}

/// Packed floats stay slices of the message; only unpacked or split ones are gathered.
#[derive(Default)]
enum Floats {
    #[default]
    None,
    Packed(Bytes),
    Gathered(Vec<u8>),
}

/// Add the fields of an `InferTensorContents` in *data*, which is a part of *message*, to *contents*.
pub fn read_contents(message: &Bytes, data: &[u8], contents: &mut Contents) -> Result<()> {
    let mut reader = Reader::new(data);
    while let Some((field, wire)) = reader.tag()? {
        if field <= 8 {
            contents.used |= 1 << field;
        }
        match (field, wire) {
            (1..=5, 2) => {
                let mut packed = Reader::new(reader.slice()?);
                while !packed.is_empty() {
                    contents.varints.push(packed.varint()?);
                }
            }
            (1..=5, 0) => contents.varints.push(reader.varint()?),
            (6 | 7, 2) => contents.add_floats(message.slice_ref(reader.slice()?)),
            (6, 5) => {
                let before = reader.rest();
                reader.skip(5)?;
                contents.add_floats(message.slice_ref(&before[..4]));
            }
            (7, 1) => {
                let before = reader.rest();
                reader.skip(1)?;
                contents.add_floats(message.slice_ref(&before[..8]));
            }
            (8, 2) => push_byte_element(&mut contents.strings, reader.slice()?),
            _ => reader.skip(wire)?,
        }
    }
    Ok(())
}

impl Contents {
    fn add_floats(&mut self, bytes: Bytes) {
        self.floats = match std::mem::take(&mut self.floats) {
            Floats::None => Floats::Packed(bytes),
            Floats::Packed(first) => Floats::Gathered([&first[..], &bytes[..]].concat()),
            Floats::Gathered(mut all) => {
                all.extend_from_slice(&bytes);
                Floats::Gathered(all)
            }
        };
    }

    /// The values as the raw bytes of *dtype*, which must be the type that their field is for.
    pub fn into_bytes(self, name: &str, dtype: DType) -> Result<Bytes> {
        let field = contents_field(name, dtype)?;
        if self.used & !(1 << field) != 0 {
            let wanted = FIELD_NAMES[field as usize];
            return Err(Error::invalid_field(name, format!("input '{name}': {dtype} values belong in contents.{wanted}")));
        }
        match dtype {
            DType::Bytes => Ok(self.strings.into()),
            DType::Fp32 | DType::Fp64 => Ok(match self.floats {
                Floats::None => Bytes::new(),
                Floats::Packed(bytes) => bytes,
                Floats::Gathered(bytes) => bytes.into(),
            }),
            _ => integers(name, dtype, &self.varints),
        }
    }
}

const FIELD_NAMES: [&str; 9] = [
    "",
    "bool_contents",
    "int_contents",
    "int64_contents",
    "uint_contents",
    "uint64_contents",
    "fp32_contents",
    "fp64_contents",
    "bytes_contents",
];

fn contents_field(name: &str, dtype: DType) -> Result<u8> {
    match dtype {
        DType::Bool => Ok(1),
        DType::Int8 | DType::Int16 | DType::Int32 => Ok(2),
        DType::Int64 => Ok(3),
        DType::Uint8 | DType::Uint16 | DType::Uint32 => Ok(4),
        DType::Uint64 => Ok(5),
        DType::Fp32 => Ok(6),
        DType::Fp64 => Ok(7),
        DType::Bytes => Ok(8),
        DType::Fp16 | DType::Bf16 => {
            Err(Error::invalid_field(name, format!("input '{name}': {dtype} can only be sent in raw_input_contents")))
        }
    }
}

fn integers(name: &str, dtype: DType, values: &[u64]) -> Result<Bytes> {
    let mut data = Vec::with_capacity(values.len() * dtype.size().unwrap_or(8));
    for (element, &value) in values.iter().enumerate() {
        let (signed, small) = (value as i64, value as i32);
        let fits = match dtype {
            DType::Bool => push(&mut data, u8::try_from(value).ok().filter(|&bit| bit <= 1).map(u8::to_le_bytes)),
            DType::Int8 => push(&mut data, i8::try_from(small).ok().map(i8::to_le_bytes)),
            DType::Int16 => push(&mut data, i16::try_from(small).ok().map(i16::to_le_bytes)),
            DType::Int32 => push(&mut data, Some(small.to_le_bytes())),
            DType::Int64 => push(&mut data, Some(signed.to_le_bytes())),
            DType::Uint8 => push(&mut data, u8::try_from(value as u32).ok().map(u8::to_le_bytes)),
            DType::Uint16 => push(&mut data, u16::try_from(value as u32).ok().map(u16::to_le_bytes)),
            DType::Uint32 => push(&mut data, Some((value as u32).to_le_bytes())),
            _ => push(&mut data, Some(value.to_le_bytes())),
        };
        if !fits {
            let shown = if matches!(dtype, DType::Int8 | DType::Int16) { i64::from(small) } else { signed };
            return Err(Error::invalid_field(
                name,
                format!("input '{name}': element {element} is {shown}, which {dtype} can't hold"),
            ));
        }
    }
    Ok(data.into())
}

fn push<const N: usize>(data: &mut Vec<u8>, bytes: Option<[u8; N]>) -> bool {
    bytes.inspect(|bytes| data.extend_from_slice(bytes)).is_some()
}
