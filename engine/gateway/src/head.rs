//! What the head of a request says that every protocol shares: time, trace, identity.

use std::time::{Duration, Instant};

use bettong_frame::{Error, Result, Trace};
use bettong_wire::grpc::{Encoding, parse_timeout};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The headers of a request that matter here. Values are slices of the head wherever the protocol allows it.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// `grpc-timeout`, or `x-request-timeout-ms` over HTTP.
    pub timeout: Option<Duration>,
    /// `grpc-encoding`.
    pub encoding: Option<Bytes>,
    /// W3C trace context, returned as it came.
    pub traceparent: Option<Bytes>,
    /// W3C trace state.
    pub tracestate: Option<Bytes>,
    /// `x-request-id`, returned as it came.
    pub request_id: Option<Bytes>,
    /// Media type of the body.
    pub content_type: Option<Bytes>,
    /// `content-encoding` of the body.
    pub content_encoding: Option<Bytes>,
    /// Media types that the client takes.
    pub accept: Option<Bytes>,
    /// `inference-header-content-length`: bytes of JSON before binary tensors.
    pub json_len: Option<usize>,
}

impl Head {
    /// Read the headers of an HTTP/2 request in one pass.
    #[inline]
    pub fn read(headers: &HeaderMap) -> Result<Self> {
        let mut head = Self::default();
        for (name, value) in headers {
            head.add(name.as_str().as_bytes(), value.as_bytes(), Bytes::copy_from_slice)?;
        }
        Ok(head)
    }

    /// Note one header, whose name may be in any case; *own* keeps its value.
    #[inline]
    pub fn add<'a>(&mut self, name: &[u8], value: &'a [u8], own: impl FnOnce(&'a [u8]) -> Bytes) -> Result<()> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            6 if is("accept") => self.accept = Some(own(value)),
            10 if is("tracestate") => self.tracestate = Some(own(value)),
            11 if is("traceparent") && is_traceparent(value) => self.traceparent = Some(own(value)),
            12 if is("content-type") => self.content_type = Some(own(value)),
            12 if is("grpc-timeout") => self.timeout = Some(parse_timeout(value)?),
            12 if is("x-request-id") => self.request_id = Some(own(value)),
            13 if is("grpc-encoding") => self.encoding = Some(own(value)),
            16 if is("content-encoding") => self.content_encoding = Some(own(value)),
            20 if is("x-request-timeout-ms") => {
                self.timeout = Some(Duration::from_millis(number("x-request-timeout-ms", value)?));
            }
            31 if is("inference-header-content-length") => {
                self.json_len = Some(number("inference-header-content-length", value)? as usize);
            }
            _ => {}
        }
        Ok(())
    }

    /// The compression of gRPC messages.
    #[inline]
    pub fn encoding(&self) -> Result<Encoding> {
        Encoding::from_name(self.encoding.as_deref())
    }

    /// When the answer is of no more use, with a second time-out that the body may have given.
    #[inline]
    pub fn deadline(&self, arrived: Instant, from_body: Option<Duration>) -> Option<Instant> {
        let timeout = match (self.timeout, from_body) {
            (Some(one), Some(other)) => one.min(other),
            (one, other) => one.or(other)?,
        };
        arrived.checked_add(timeout)
    }

    /// What the request is called in logs and replies: its own id, or that of its trace.
    #[inline]
    pub fn request_id(&self) -> Option<Bytes> {
        // In `00-<trace id>-…`, which was checked when it was read.
        self.request_id.clone().or_else(|| self.traceparent.as_ref().map(|parent| parent.slice(3..35)))
    }

    /// What those that the request is passed on to call it.
    #[inline]
    pub fn trace(&self) -> Trace {
        Trace { request_id: self.request_id().unwrap_or_default(), traceparent: self.traceparent.clone().unwrap_or_default() }
    }

    /// Give the request an id, so that its error can be found in the logs.
    #[cold]
    pub fn ensure_request_id(&mut self) {
        if self.request_id().is_none() {
            self.request_id = Some(crate::account::new_request_id());
        }
    }

    /// Names and values that go back with the answer.
    #[inline]
    pub fn echoed(&self) -> impl Iterator<Item = (&'static str, Bytes)> {
        let (parent, state) = (self.traceparent.clone(), self.tracestate.clone());
        let values = [("traceparent", parent), ("tracestate", state), ("x-request-id", self.request_id())];
        values.into_iter().filter_map(|(name, value)| value.map(|value| (name, value)))
    }

    /// Put what goes back with the answer into *headers*.
    #[inline]
    pub fn echo(&self, headers: &mut HeaderMap) {
        for (name, value) in self.echoed() {
            if let Ok(value) = HeaderValue::from_maybe_shared(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
}

fn number(name: &str, value: &[u8]) -> Result<u64> {
    let digits = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
    digits.ok_or_else(|| Error::invalid_field(name, format!("header '{name}' must be a number that is not negative")))
}

/// `00-<32 hex>-<16 hex>-<2 hex>`, with neither id all zeros; anything else is ignored, as the specification says
/// (<https://www.w3.org/TR/trace-context/#traceparent-header>).
fn is_traceparent(bytes: &[u8]) -> bool {
    let hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    bytes.len() >= 55
        && (bytes.len() == 55 || (&bytes[..2] != b"00" && bytes[55] == b'-'))
        && [2, 35, 52].iter().all(|&at| bytes[at] == b'-')
        && hex(&bytes[..2])
        && &bytes[..2] != b"ff"
        && hex(&bytes[3..35])
        && hex(&bytes[36..52])
        && hex(&bytes[53..55])
        && bytes[3..35].iter().any(|&byte| byte != b'0')
        && bytes[36..52].iter().any(|&byte| byte != b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_trace_parents_are_kept() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(is_traceparent(good.as_bytes()));
        for bad in [
            "",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
        ] {
            assert!(!is_traceparent(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn the_shorter_of_two_time_outs_counts() {
        let now = Instant::now();
        let head = Head { timeout: Some(Duration::from_secs(2)), ..Head::default() };
        assert_eq!(Some(now + Duration::from_secs(1)), head.deadline(now, Some(Duration::from_secs(1))));
        assert_eq!(Some(now + Duration::from_secs(2)), head.deadline(now, None));
        assert_eq!(None, Head::default().deadline(now, None));
    }
}
