"""What came of the events: counts, latencies, and how the flags compare with the truth."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bettong._demo.latency import LatencyHistogram
from bettong._demo.transactions import FLAG_THRESHOLD, Transactions

_RECENT_S = 5
"""Whole seconds that the live figures cover."""
_NEWEST = 8


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answered event."""

    card: int
    amount_eur: float
    probability: float
    is_fraud: bool

    @property
    def is_flagged(self) -> bool:
        """Whether it would be held back."""
        return self.probability > FLAG_THRESHOLD


@dataclass(frozen=True, slots=True)
class Latencies:
    """Quantiles in seconds; NaN if nothing was answered."""

    p50_s: float
    p99_s: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that is shown, at one moment."""

    elapsed_s: float
    sent: int
    answered: int
    failed: int
    flagged: int
    fraud: int
    """Answered events that are fraud in truth."""
    caught: int
    """Fraud that was flagged."""
    total: Latencies
    recent: Latencies
    recent_per_s: float
    newest: tuple[Prediction, ...]
    newest_flagged: tuple[Prediction, ...]
    last_error: str
    largest_lag_s: float
    """How late a request left at worst, compared with when its events were due."""

    @property
    def per_s(self) -> float:
        """Events answered in a second, over all the time."""
        return self.answered / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def precision(self) -> float:
        """Share of the flagged that is fraud; NaN if nothing was flagged."""
        return self.caught / self.flagged if self.flagged else float("nan")

    @property
    def recall(self) -> float:
        """Share of the fraud that was flagged; NaN if there was none."""
        return self.caught / self.fraud if self.fraud else float("nan")


@dataclass(slots=True)
class _Second:
    """What was answered within one second."""

    number: int
    latencies: LatencyHistogram = field(default_factory=LatencyHistogram)


class Tally:
    """Counts events from many threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._started_s = clock()
        self._ended_s: float | None = None
        self._counts = dict.fromkeys(("sent", "answered", "failed", "flagged", "fraud", "caught"), 0)
        self._latencies = LatencyHistogram()
        self._seconds: deque[_Second] = deque(maxlen=_RECENT_S + 1)
        self._newest: deque[Prediction] = deque(maxlen=_NEWEST)
        self._newest_flagged: deque[Prediction] = deque(maxlen=_NEWEST)
        self._last_error = ""
        self._largest_lag_s = 0.0

    def start(self) -> None:
        """Begin to count the time now."""
        self._started_s = self._clock()

    def stop(self) -> None:
        """End the time now: everything is answered."""
        self._ended_s = self._clock()

    def add_sent(self, count: int, lag_s: float) -> None:
        """Count events that leave now, *lag_s* after they were due."""
        with self._lock:
            self._counts["sent"] += count
            self._largest_lag_s = max(self._largest_lag_s, lag_s)

    def add_failed(self, count: int, reason: str) -> None:
        """Count events that were not answered, or not rightly."""
        with self._lock:
            self._counts["failed"] += count
            self._last_error = reason

    def add_answered(self, events: Transactions, probability: NDArray[np.floating], latency_s: float) -> None:
        """Count events that were answered together, *latency_s* after they were due."""
        flagged = probability > FLAG_THRESHOLD
        with self._lock:
            self._counts["answered"] += len(events)
            self._counts["flagged"] += int(flagged.sum())
            self._counts["fraud"] += int(events.is_fraud.sum())
            self._counts["caught"] += int((flagged & events.is_fraud).sum())
            self._latencies.add(latency_s, len(events))
            self._second().latencies.add(latency_s, len(events))
            self._newest.extend(_prediction(events, probability, row) for row in range(len(events))[-_NEWEST:])
            rows = np.flatnonzero(flagged)[-_NEWEST:]
            self._newest_flagged.extend(_prediction(events, probability, int(row)) for row in rows)

    def snapshot(self) -> Snapshot:
        """Return everything that is counted so far."""
        with self._lock:
            now_s = self._clock() if self._ended_s is None else self._ended_s
            recent, recent_s = self._recent(now_s)
            return Snapshot(
                elapsed_s=now_s - self._started_s,
                total=_quantiles(self._latencies),
                recent=_quantiles(recent),
                recent_per_s=recent.count / recent_s if recent_s > 0 else 0.0,
                newest=tuple(self._newest)[::-1],
                newest_flagged=tuple(self._newest_flagged)[::-1],
                last_error=self._last_error,
                largest_lag_s=self._largest_lag_s,
                **self._counts,
            )

    def _second(self) -> _Second:
        number = int(self._clock() - self._started_s)
        if not self._seconds or self._seconds[-1].number != number:
            self._seconds.append(_Second(number))
        return self._seconds[-1]

    def _recent(self, now_s: float) -> tuple[LatencyHistogram, float]:
        """Return the latencies of the last seconds, and how much time that is."""
        elapsed_s = now_s - self._started_s
        first = max(0, int(elapsed_s) - _RECENT_S)
        merged = LatencyHistogram()
        for second in self._seconds:
            if second.number >= first:
                merged.merge(second.latencies)
        return merged, elapsed_s - first


def _prediction(events: Transactions, probability: NDArray[np.floating], row: int) -> Prediction:
    return Prediction(
        int(events.card[row]),
        float(events.columns["amount_eur"][row]),
        float(probability[row]),
        bool(events.is_fraud[row]),
    )


def _quantiles(latencies: LatencyHistogram) -> Latencies:
    return Latencies(latencies.quantile_s(0.5), latencies.quantile_s(0.99))
