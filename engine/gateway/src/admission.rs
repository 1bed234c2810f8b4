//! How much may be under way at once.

use std::sync::Arc;
use std::time::Duration;

use bettong_frame::{Error, Result};
use bettong_telemetry::Registry;

/// Limits of what is admitted and not yet answered.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests.
    pub requests: i64,
    /// Bytes of their bodies.
    pub bytes: i64,
}

/// The place that an admitted request takes, given back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    registry: Arc<Registry>,
    bytes: i64,
}

/// A refused client may try again when a request has been answered on average: by then its place is free. Assumed when
/// nothing has been answered yet.
const UNKNOWN_REQUEST_TIME: Duration = Duration::from_millis(100);

const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(30);

impl Permit {
    /// Take a place for a body of *bytes*, or refuse at once.
    #[inline]
    pub fn take(registry: &Arc<Registry>, limits: Limits, bytes: usize) -> Result<Self> {
        let (gateway, bytes) = (&registry.gateway, bytes as i64);
        let requests = gateway.in_flight.add(1);
        let held = gateway.in_flight_bytes.add(bytes);
        // A request alone is always admitted: its size has been checked against the limit of one request.
        let fits = requests < limits.requests && (held + bytes <= limits.bytes || requests == 0);
        let permit = Self { registry: registry.clone(), bytes };
        if fits { Ok(permit) } else { Err(refusal(registry, requests, held)) }
    }

    /// Hold *bytes* from now on, those of a body that was inflated, or refuse.
    pub fn resize(&mut self, limits: Limits, bytes: usize) -> Result<()> {
        let (gateway, more) = (&self.registry.gateway, bytes as i64 - self.bytes);
        let held = gateway.in_flight_bytes.add(more);
        self.bytes += more;
        let requests = gateway.in_flight.get();
        if held + more <= limits.bytes || requests == 1 { Ok(()) } else { Err(refusal(&self.registry, requests, held)) }
    }
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        self.registry.gateway.in_flight.add(-1);
        self.registry.gateway.in_flight_bytes.add(-self.bytes);
    }
}

#[cold]
fn refusal(registry: &Registry, requests: i64, bytes: i64) -> Error {
    let mean = registry.mean_request_ns().map_or(UNKNOWN_REQUEST_TIME, Duration::from_nanos);
    // Spread over half as much again by where the caller stands in line, so that the refused do not come back together.
    let spread = mean.mul_f64((requests % 64) as f64 / 128.0);
    let after = (mean + spread).clamp(SHORTEST, LONGEST);
    Error::overloaded(format!("the server is at its limit: {requests} requests with {bytes} bytes are under way"), after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bettong_frame::ErrorKind;

    #[test]
    fn places_are_bounded_in_number_and_bytes_and_given_back() {
        let registry = Arc::new(Registry::default());
        let limits = Limits { requests: 2, bytes: 100 };
        let first = Permit::take(&registry, limits, 60).unwrap();
        assert_eq!(ErrorKind::ResourceExhausted, Permit::take(&registry, limits, 60).err().unwrap().kind);
        let second = Permit::take(&registry, limits, 40).unwrap();
        assert!(Permit::take(&registry, limits, 0).is_err());
        drop((first, second));
        assert_eq!((0, 0), (registry.gateway.in_flight.get(), registry.gateway.in_flight_bytes.get()));
    }

    #[test]
    fn a_body_that_was_inflated_counts_as_what_it_has_become() {
        let registry = Arc::new(Registry::default());
        let limits = Limits { requests: 3, bytes: 100 };
        let mut first = Permit::take(&registry, limits, 1).unwrap();
        first.resize(limits, 1_000).unwrap();
        assert!(Permit::take(&registry, limits, 1).is_err());
        first.resize(limits, 90).unwrap();
        let mut second = Permit::take(&registry, limits, 1).unwrap();
        assert_eq!(ErrorKind::ResourceExhausted, second.resize(limits, 11).unwrap_err().kind);
        drop((first, second));
        assert_eq!((0, 0), (registry.gateway.in_flight.get(), registry.gateway.in_flight_bytes.get()));
    }

    #[test]
    fn one_request_larger_than_the_byte_limit_is_admitted_alone() {
        let registry = Arc::new(Registry::default());
        let _large = Permit::take(&registry, Limits { requests: 2, bytes: 100 }, 1_000).unwrap();
        assert!(Permit::take(&registry, Limits { requests: 2, bytes: 100 }, 1).is_err());
    }
}
