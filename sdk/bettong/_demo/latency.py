"""How long answers take, counted in buckets whose width grows with the value."""

from typing import Self

import numpy as np

_SHORTEST_S = 1e-6
_PER_OCTAVE = 64
"""Buckets from one power of two to the next: a quantile is at most 1.1 % too high."""
_BUCKETS = 30 * _PER_OCTAVE
"""Up to 18 minutes; what takes longer counts as that."""


class LatencyHistogram:
    """Counts of latencies; adding one costs the same however many there are."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BUCKETS, dtype=np.int64)

    def add(self, latency_s: float, count: int = 1) -> None:
        """Count a latency, *count* times."""
        octaves = np.log2(max(latency_s, _SHORTEST_S) / _SHORTEST_S)
        self._counts[min(int(octaves * _PER_OCTAVE), _BUCKETS - 1)] += count

    def merge(self, other: Self) -> None:
        """Add all counts of *other*."""
        self._counts += other._counts

    @property
    def count(self) -> int:
        """How many latencies were counted."""
        return int(self._counts.sum())

    def quantile_s(self, share: float) -> float:
        """Return a latency that *share* of all do not exceed; NaN if there are none."""
        if not self.count:
            return float("nan")
        wanted = max(1, int(np.ceil(share * self.count)))
        bucket = int(np.searchsorted(np.cumsum(self._counts), wanted))
        return float(_SHORTEST_S * 2 ** ((bucket + 1) / _PER_OCTAVE))
