//! What the head of a request says that every protocol shares: time, trace, identity.

use std::time::{Duration, Instant};

use bettong_frame::Result;
use bettong_wire::grpc::{Encoding, parse_timeout};
use http::{HeaderMap, HeaderValue};

/// The headers of a request that matter to the gateway.
#[derive(Default)]
pub struct Head {
    /// `grpc-timeout`, or `timeout-ms` of the native routes.
    pub timeout: Option<Duration>,
    /// `grpc-encoding`.
    pub encoding: Option<HeaderValue>,
    /// W3C trace context, returned as it came.
    pub traceparent: Option<HeaderValue>,
    /// W3C trace state.
    pub tracestate: Option<HeaderValue>,
    /// `x-request-id`, returned as it came.
    pub request_id: Option<HeaderValue>,
}

impl Head {
    /// Read *headers* in one pass.
    #[inline]
    pub fn read(headers: &HeaderMap) -> Result<Self> {
        let mut head = Self::default();
        for (name, value) in headers {
            match name.as_str() {
                "grpc-timeout" => head.timeout = Some(parse_timeout(value.as_bytes())?),
                "x-request-timeout-ms" => head.timeout = Some(parse_milliseconds(value)?),
                "grpc-encoding" => head.encoding = Some(value.clone()),
                "traceparent" => head.traceparent = Some(value.clone()).filter(is_traceparent),
                "tracestate" => head.tracestate = Some(value.clone()),
                "x-request-id" => head.request_id = Some(value.clone()),
                _ => {}
            }
        }
        Ok(head)
    }

    /// The compression of gRPC messages.
    #[inline]
    pub fn encoding(&self) -> Result<Encoding> {
        match &self.encoding {
            None => Ok(Encoding::Identity),
            Some(name) => Encoding::from_name(Some(name.as_bytes())),
        }
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

    /// Put what is returned into *headers*.
    #[inline]
    pub fn echo(&self, headers: &mut HeaderMap) {
        if let Some(value) = &self.traceparent {
            headers.insert("traceparent", value.clone());
        }
        if let Some(value) = &self.tracestate {
            headers.insert("tracestate", value.clone());
        }
        if let Some(value) = &self.request_id {
            headers.insert("x-request-id", value.clone());
        }
    }
}

/// `00-<32 hex>-<16 hex>-<2 hex>`, with neither id all zeros; anything else is ignored, as the specification says
/// (<https://www.w3.org/TR/trace-context/#traceparent-header>).
fn is_traceparent(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
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

fn parse_milliseconds(value: &HeaderValue) -> Result<Duration> {
    let digits = value.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok());
    digits.map(Duration::from_millis).ok_or_else(|| {
        bettong_frame::Error::invalid_field("x-request-timeout-ms", "x-request-timeout-ms must be a number of milliseconds")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_valid_trace_parents_are_kept() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(is_traceparent(&HeaderValue::from_static(good)));
        for bad in [
            "",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
        ] {
            assert!(!is_traceparent(&HeaderValue::from_static(bad)), "{bad}");
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
