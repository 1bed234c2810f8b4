"""The generator's clock: when in simulated time each transaction happens."""

import numpy as np
from numpy.typing import NDArray

DAY_S = 86_400.0
DAYS_PER_WEEK = 7
USES_PER_DAY = 60_000
"""Transactions in a simulated day, by all cards together."""

# Relative use in each hour: few at night, most at noon and in the early evening.
_USE_BY_HOUR = np.array(
    [2, 1, 1, 1, 1, 2, 4, 7, 9, 9, 10, 12, 13, 12, 10, 10, 11, 13, 14, 12, 9, 7, 5, 3], dtype=np.float64
)
_SHARE_BEFORE_HOUR = np.concatenate([[0.0], np.cumsum(_USE_BY_HOUR) / _USE_BY_HOUR.sum()])
_HOUR_STARTS_S = np.arange(len(_SHARE_BEFORE_HOUR)) * (DAY_S / len(_USE_BY_HOUR))


def times_s(numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the simulated time, in seconds since a Monday's midnight, of transactions by their number."""
    days, within = np.divmod(numbers, USES_PER_DAY)
    within_s = np.interp(within / USES_PER_DAY, _SHARE_BEFORE_HOUR, _HOUR_STARTS_S)
    return np.asarray(days * DAY_S + within_s, dtype=np.float64)


def numbers_at(moments_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the number of the transaction that happens at each moment; the inverse of `times_s`."""
    days, within_s = np.divmod(moments_s, DAY_S)
    share = np.interp(within_s, _HOUR_STARTS_S, _SHARE_BEFORE_HOUR)
    return np.asarray(days * USES_PER_DAY + share * USES_PER_DAY, dtype=np.int64)


def hours(moments_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the time of day in hours."""
    return moments_s % DAY_S / 3_600.0


def weekdays(moments_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the day of the week, 0 for Monday."""
    return moments_s // DAY_S % DAYS_PER_WEEK
