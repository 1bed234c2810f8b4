//! How much may be tried again: a share of what is forwarded, so that retries never multiply an overload.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// Retries that each forwarded call pays for, in thousandths.
const SHARE: i64 = 200;

/// Retries that may be saved up, in thousandths: all calls that one process can have open on a few links.
const MOST: i64 = 10_000_000;

/// What there is at first, in thousandths.
const FIRST: i64 = 1_000_000;

/// What hedged calls leave to retries, in thousandths.
const RESERVED: i64 = 900_000;

/// A token bucket that is filled by calls, not by time.
pub struct Budget(AtomicI64);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicI64::new(FIRST))
    }
}

impl Budget {
    /// Note a call that is forwarded for the first time.
    #[inline]
    pub fn pay_in(&self) {
        // Two threads may both pass the bound by a little, which does no harm.
        if self.0.load(Relaxed) < MOST {
            self.0.fetch_add(SHARE, Relaxed);
        }
    }

    /// Take one retry, if there is one.
    pub fn take(&self) -> bool {
        self.take_above(0)
    }

    /// Take one retry for a call that has not failed, if enough are left for those that do.
    pub fn take_spare(&self) -> bool {
        self.take_above(RESERVED)
    }

    fn take_above(&self, least: i64) -> bool {
        self.0.fetch_update(Relaxed, Relaxed, |left| (left >= least + 1000).then_some(left - 1000)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_the_calls_may_be_tried_again_once_the_start_is_used_up() {
        let budget = Budget::default();
        assert_eq!(1000, std::iter::from_fn(|| budget.take().then_some(())).count());
        for _ in 0..100 {
            budget.pay_in();
        }
        assert_eq!(20, std::iter::from_fn(|| budget.take().then_some(())).count());
    }

    #[test]
    fn what_is_spare_leaves_retries_for_calls_that_fail() {
        let budget = Budget::default();
        assert_eq!(100, std::iter::from_fn(|| budget.take_spare().then_some(())).count());
        assert_eq!(900, std::iter::from_fn(|| budget.take().then_some(())).count());
    }
}
