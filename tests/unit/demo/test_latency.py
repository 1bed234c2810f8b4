"""Counting latencies."""

import math

import numpy as np
import pytest

from bettong._demo import text
from bettong._demo.latency import LatencyHistogram


def test_quantiles_are_close_to_the_exact_ones() -> None:
    """They are never too low, and at most 1.1 % too high."""
    latencies_s = np.random.default_rng(1).lognormal(-6.5, 1.0, 5_000)
    histogram = LatencyHistogram()
    for latency_s in latencies_s:
        histogram.add(float(latency_s))
    for share in (0.01, 0.5, 0.9, 0.99, 1.0):
        exact = float(np.quantile(latencies_s, share, method="inverted_cdf"))
        assert exact <= histogram.quantile_s(share) * (1 + 1e-9)
        assert histogram.quantile_s(share) <= exact * 1.0115


def test_nothing_has_no_quantile() -> None:
    """An empty histogram does not claim a latency of zero."""
    assert math.isnan(LatencyHistogram().quantile_s(0.5))


@pytest.mark.parametrize(("latency_s", "low_s", "high_s"), [(0.0, 0.0, 2e-6), (-1.0, 0.0, 2e-6), (1e9, 1_000, 1_100)])
def test_extremes_are_counted_at_the_ends(latency_s: float, low_s: float, high_s: float) -> None:
    """Whatever a clock gives is counted somewhere."""
    histogram = LatencyHistogram()
    histogram.add(latency_s, 3)
    assert histogram.count == 3
    assert low_s < histogram.quantile_s(0.5) < high_s


def test_merged_counts_add_up() -> None:
    """Two halves are as good as the whole."""
    whole, first, second = LatencyHistogram(), LatencyHistogram(), LatencyHistogram()
    for part, latency_s, count in ((first, 0.001, 98), (second, 0.1, 2)):
        part.add(latency_s, count)
        whole.add(latency_s, count)
    first.merge(second)
    assert whole.count == first.count == 100
    assert whole.quantile_s(0.98) == first.quantile_s(0.98) < 0.0011
    assert whole.quantile_s(0.99) == first.quantile_s(0.99) > 0.1


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(float("nan"), "–"), (0.000_412, "0.41 ms"), (0.012_34, "12.3 ms"), (1.234_5, "1234 ms")],
)
def test_latencies_are_shown_with_three_digits(seconds: float, shown: str) -> None:
    """The eye needs no more."""
    assert shown == text.latency(seconds)
