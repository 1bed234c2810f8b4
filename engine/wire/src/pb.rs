//! Protobuf's wire format: the few readers and writers that the hot path needs.
//!
//! Encoding: <https://protobuf.dev/programming-guides/encoding/>.

use bettong_frame::{Error, Result};
use bytes::BytesMut;

/// Reads fields from a message.
pub struct Reader<'a> {
    data: &'a [u8],
}

#[cold]
fn truncated() -> Error {
    Error::invalid("the protobuf message is truncated or damaged")
}

impl<'a> Reader<'a> {
    /// A reader of *data*.
    pub fn new(data: &'a [u8]) -> Self {
        Self { data }
    }

    /// Whether all has been read.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.data
    }

    /// Number and wire type of the next field; `None` at the end.
    #[inline]
    pub fn tag(&mut self) -> Result<Option<(u32, u8)>> {
        if self.data.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let field = u32::try_from(tag >> 3).map_err(|_| truncated())?;
        if field == 0 { Err(truncated()) } else { Ok(Some((field, (tag & 7) as u8))) }
    }

    /// A base-128 varint.
    #[inline]
    pub fn varint(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for (at, &byte) in self.data.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7F) << (7 * at);
            if byte < 0x80 {
                self.data = &self.data[at + 1..];
                return Ok(value);
            }
        }
        Err(truncated())
    }

    /// A length-delimited field.
    #[inline]
    pub fn slice(&mut self) -> Result<&'a [u8]> {
        let len = usize::try_from(self.varint()?).map_err(|_| truncated())?;
        let (slice, rest) = self.data.split_at_checked(len).ok_or_else(truncated)?;
        self.data = rest;
        Ok(slice)
    }

    /// A UTF-8 string; *field* names it in errors.
    #[inline]
    pub fn string(&mut self, field: &'static str) -> Result<&'a str> {
        std::str::from_utf8(self.slice()?).map_err(|_| Error::invalid_field(field, format!("{field} is not UTF-8")))
    }

    /// Eight bytes, little-endian.
    pub fn fixed64(&mut self) -> Result<u64> {
        let (bytes, rest) = self.data.split_first_chunk::<8>().ok_or_else(truncated)?;
        self.data = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    /// Pass over a field of wire type *wire*. Groups are refused, as every proto3 parser may.
    pub fn skip(&mut self, wire: u8) -> Result<()> {
        match wire {
            0 => {
                self.varint()?;
            }
            1 => {
                self.fixed64()?;
            }
            2 => {
                self.slice()?;
            }
            5 => self.data = self.data.get(4..).ok_or_else(truncated)?,
            _ => return Err(truncated()),
        }
        Ok(())
    }
}

/// Bytes that *value* takes as a varint.
#[inline]
pub const fn varint_len(value: u64) -> usize {
    // 9/64 is just above 1/7: the number of seven-bit groups, without a division.
    (((u64::BITS - (value | 1).leading_zeros()) * 9 + 64) / 64) as usize
}

/// Bytes that a length-delimited field of *len* bytes takes, with a field number below 16.
#[inline]
pub const fn field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

/// Append a varint.
#[inline]
pub fn put_varint(buffer: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        buffer.extend_from_slice(&[value as u8 | 0x80]);
        value >>= 7;
    }
    buffer.extend_from_slice(&[value as u8]);
}

/// Append the tag of *field*, which is below 16, with its wire type.
#[inline]
pub fn put_head(buffer: &mut BytesMut, field: u8, wire: u8) {
    buffer.extend_from_slice(&[field << 3 | wire]);
}

/// Append the tag and the length of a length-delimited field.
#[inline]
pub fn put_len_head(buffer: &mut BytesMut, field: u8, len: usize) {
    put_head(buffer, field, 2);
    put_varint(buffer, len as u64);
}

/// Append a length-delimited field.
#[inline]
pub fn put_bytes(buffer: &mut BytesMut, field: u8, data: &[u8]) {
    put_len_head(buffer, field, data.len());
    buffer.extend_from_slice(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back_and_their_length_is_known() {
        for shift in 0..64 {
            for value in [1_u64 << shift, (1_u64 << shift) - 1, u64::MAX >> shift] {
                let mut buffer = BytesMut::new();
                put_varint(&mut buffer, value);
                assert_eq!(varint_len(value), buffer.len());
                assert_eq!(value, Reader::new(&buffer).varint().unwrap());
            }
        }
    }

    #[test]
    fn truncated_fields_are_errors() {
        assert!(Reader::new(&[0x80]).varint().is_err());
        assert!(Reader::new(&[5, 1]).slice().is_err());
        assert!(Reader::new(&[0]).tag().is_err());
        assert!(Reader::new(&[0xFF; 11]).varint().is_err());
    }
}
