//! The gRPC layer above HTTP/2: message framing, time-outs, statuses.
//!
//! Protocol: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

use std::io::Read;
use std::time::Duration;

use bettong_frame::{Error, ErrorKind, Result};
use bytes::{Buf, Bytes, BytesMut};
use prost::Message;

use crate::proto::google::rpc;

/// Compression of messages, by the name in `grpc-encoding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As they are.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 1950 (zlib), which gRPC calls deflate.
    Deflate,
}

impl Encoding {
    /// The encoding that *name* means; none given is identity.
    pub fn from_name(name: Option<&[u8]>) -> Result<Self> {
        match name {
            None | Some(b"identity") => Ok(Self::Identity),
            Some(b"gzip") => Ok(Self::Gzip),
            Some(b"deflate") => Ok(Self::Deflate),
            Some(other) => Err(Error::new(
                ErrorKind::Unimplemented,
                format!("compression '{}' is not supported; use identity, gzip or deflate", String::from_utf8_lossy(other)),
            )),
        }
    }
}

/// Inflate *data*, refusing more than *limit* bytes.
pub fn decompress(encoding: Encoding, data: &[u8], limit: usize) -> Result<Bytes> {
    let mut inflated = Vec::new();
    let bound = limit as u64 + 1;
    let read = match encoding {
        Encoding::Identity => return Ok(Bytes::copy_from_slice(data)),
        Encoding::Gzip => flate2::read::MultiGzDecoder::new(data).take(bound).read_to_end(&mut inflated),
        Encoding::Deflate => flate2::read::ZlibDecoder::new(data).take(bound).read_to_end(&mut inflated),
    };
    read.map_err(|error| Error::invalid(format!("the compressed data can't be read: {error}")))?;
    if inflated.len() > limit {
        return Err(too_large(limit));
    }
    Ok(inflated.into())
}

/// The refusal of a message that is larger than *limit* bytes.
#[cold]
pub fn too_large(limit: usize) -> Error {
    Error::new(ErrorKind::TooLarge, format!("the request is larger than the limit of {limit} bytes (--max-request-bytes)"))
}

/// Splits a byte stream into messages. Pieces are joined only when a message spans several.
#[derive(Debug)]
pub struct MessageReader {
    encoding: Encoding,
    limit: usize,
    chunk: Bytes,
    spanning: BytesMut,
}

impl MessageReader {
    /// A reader of messages of at most *limit* bytes each.
    pub fn new(encoding: Encoding, limit: usize) -> Self {
        Self { encoding, limit, chunk: Bytes::new(), spanning: BytesMut::new() }
    }

    /// Add the next piece of the stream. Call [`Self::next_message`] until it gives `None` before adding another.
    #[inline]
    pub fn push(&mut self, chunk: Bytes) {
        if self.spanning.is_empty() && self.chunk.is_empty() {
            self.chunk = chunk;
            return;
        }
        if !self.chunk.is_empty() {
            let wanted = frame_len(&self.chunk).unwrap_or(0).min(self.limit + 5);
            self.spanning.reserve(wanted.max(self.chunk.len() + chunk.len()));
            self.spanning.extend_from_slice(&self.chunk);
            self.chunk = Bytes::new();
        }
        self.spanning.extend_from_slice(&chunk);
    }

    /// Whether a message has begun that is not complete.
    pub fn is_partial(&self) -> bool {
        !self.chunk.is_empty() || !self.spanning.is_empty()
    }

    /// The next whole message, if there is one.
    #[inline]
    pub fn next_message(&mut self) -> Result<Option<Bytes>> {
        if !self.spanning.is_empty() {
            let Some(len) = self.ready(&self.spanning)? else { return Ok(None) };
            self.chunk = std::mem::take(&mut self.spanning).freeze();
            debug_assert!(self.chunk.len() >= len);
        }
        let Some(len) = self.ready(&self.chunk)? else { return Ok(None) };
        let compressed = self.chunk[0] == 1;
        let mut message = self.chunk.split_to(len);
        message.advance(5);
        if compressed {
            return self.inflate(&message).map(Some);
        }
        Ok(Some(message))
    }

    /// Length of the frame at the start of *data*, if all of it is there.
    #[inline]
    fn ready(&self, data: &[u8]) -> Result<Option<usize>> {
        let Some(len) = frame_len(data) else { return Ok(None) };
        if len - 5 > self.limit {
            return Err(too_large(self.limit));
        }
        Ok((data.len() >= len).then_some(len))
    }

    fn inflate(&self, message: &[u8]) -> Result<Bytes> {
        if self.encoding == Encoding::Identity {
            return Err(Error::invalid("a message is flagged as compressed, but grpc-encoding is not given"));
        }
        decompress(self.encoding, message, self.limit)
    }
}

#[inline]
fn frame_len(data: &[u8]) -> Option<usize> {
    (data.len() >= 5).then(|| 5 + u32::from_be_bytes([data[1], data[2], data[3], data[4]]) as usize)
}

/// One framed message.
pub fn framed(message: &impl Message) -> Bytes {
    let encoded = message.encode_to_vec();
    let mut data = BytesMut::with_capacity(5 + encoded.len());
    put_frame_head(&mut data, encoded.len());
    data.extend_from_slice(&encoded);
    data.freeze()
}

/// Append the five bytes before a message of *len* bytes.
#[inline]
pub fn put_frame_head(data: &mut BytesMut, len: usize) {
    let [a, b, c, d] = (len as u32).to_be_bytes();
    data.extend_from_slice(&[0, a, b, c, d]);
}

/// The time that `grpc-timeout` grants.
pub fn parse_timeout(value: &[u8]) -> Result<Duration> {
    let bad = || Error::invalid_field("grpc-timeout", "grpc-timeout must be 1 to 8 digits and one of H, M, S, m, u, n");
    let (unit, digits) = value.split_last().ok_or_else(bad)?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(bad());
    }
    let count = digits.iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Ok(Duration::from_secs(count * 3600)),
        b'M' => Ok(Duration::from_secs(count * 60)),
        b'S' => Ok(Duration::from_secs(count)),
        b'm' => Ok(Duration::from_millis(count)),
        b'u' => Ok(Duration::from_micros(count)),
        b'n' => Ok(Duration::from_nanos(count)),
        _ => Err(bad()),
    }
}

/// `grpc-message`: percent-encoded UTF-8.
pub fn encode_message(message: &str) -> String {
    use std::fmt::Write;
    let mut encoded = String::with_capacity(message.len());
    for &byte in message.as_bytes() {
        if (0x20..=0x7E).contains(&byte) && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// `grpc-status-details-bin`: a `google.rpc.Status` with what is known beyond the message, if anything is.
pub fn status_details(error: &Error) -> Option<String> {
    let mut details = Vec::new();
    if let Some(field) = &error.field {
        let violation = rpc::bad_request::FieldViolation { field: field.to_string(), description: error.message.to_string() };
        details.push(any("google.rpc.BadRequest", &rpc::BadRequest { field_violations: vec![violation] }));
    }
    if let Some(delay) = error.retry_after {
        let retry_delay = prost_types::Duration { seconds: delay.as_secs() as i64, nanos: delay.subsec_nanos() as i32 };
        details.push(any("google.rpc.RetryInfo", &rpc::RetryInfo { retry_delay: Some(retry_delay) }));
    }
    if details.is_empty() {
        return None;
    }
    let status = rpc::Status { code: i32::from(error.kind.grpc_code()), message: error.message.to_string(), details };
    Some(base64(&status.encode_to_vec()))
}

fn any(name: &str, message: &impl Message) -> prost_types::Any {
    prost_types::Any { type_url: format!("type.googleapis.com/{name}"), value: message.encode_to_vec() }
}

/// Base64 with the standard alphabet, unpadded, as gRPC writes binary metadata.
fn base64(data: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let mut data = BytesMut::new();
        put_frame_head(&mut data, payload.len());
        data.extend_from_slice(payload);
        data.to_vec()
    }

    #[test]
    fn messages_come_out_however_the_stream_is_cut() {
        let stream = [frame(b"first"), frame(b""), frame(b"third message")].concat();
        for cut in 0..stream.len() {
            for second in cut..stream.len() {
                let mut reader = MessageReader::new(Encoding::Identity, 100);
                let mut seen = Vec::new();
                for piece in [&stream[..cut], &stream[cut..second], &stream[second..]] {
                    reader.push(Bytes::copy_from_slice(piece));
                    while let Some(message) = reader.next_message().unwrap() {
                        seen.push(message.to_vec());
                    }
                }
                assert_eq!(vec![b"first".to_vec(), b"".to_vec(), b"third message".to_vec()], seen);
                assert!(!reader.is_partial());
            }
        }
    }

    #[test]
    fn a_message_over_the_limit_is_refused_before_it_is_read() {
        let mut reader = MessageReader::new(Encoding::Identity, 10);
        reader.push(Bytes::from_static(&[0, 0, 0, 0, 11]));
        assert_eq!(ErrorKind::TooLarge, reader.next_message().unwrap_err().kind);
    }

    #[test]
    fn a_small_message_that_inflates_over_the_limit_is_refused() {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&[0; 10_000]).unwrap();
        let mut data = frame(&encoder.finish().unwrap());
        data[0] = 1;
        let mut reader = MessageReader::new(Encoding::Gzip, 1_000);
        reader.push(data.into());
        assert_eq!(ErrorKind::TooLarge, reader.next_message().unwrap_err().kind);
    }

    #[test]
    fn time_outs_have_a_unit() {
        assert_eq!(Duration::from_millis(250), parse_timeout(b"250m").unwrap());
        assert_eq!(Duration::from_secs(7200), parse_timeout(b"2H").unwrap());
        for bad in [&b""[..], b"5", b"m", b"123456789S", b"-1S", b"1x"] {
            assert!(parse_timeout(bad).is_err());
        }
    }

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!("50%25 caf%C3%A9%0A", encode_message("50% café\n"));
    }
}
