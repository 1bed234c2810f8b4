"""Batch sizes, read from the server's own metrics."""

import re
from dataclasses import dataclass

from bettong._errors import BettongError
from bettong._http import HttpPool, parse_endpoint

_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class BatchTotals:
    """Batches that a pipeline ran since the server started."""

    rows: float = 0.0
    batches: float = 0.0

    def mean_rows_since(self, earlier: "BatchTotals") -> float:
        """Return the mean rows of the batches after *earlier*; NaN if there are none."""
        batches = self.batches - earlier.batches
        return (self.rows - earlier.rows) / batches if batches > 0 else float("nan")


def totals_in(page: str, pipeline: str) -> BatchTotals:
    """Find a pipeline's batches, of all its versions, in a page of metrics."""
    label = re.escape(f'pipeline="{pipeline}"')
    pattern = re.compile(rf"^bettong_batch_rows_(sum|count)\{{[^}}]*{label}[^}}]*\}} (\S+)$", re.MULTILINE)
    samples = [(kind, float(value)) for kind, value in pattern.findall(page)]
    rows, batches = (sum(value for found, value in samples if found == kind) for kind in ("sum", "count"))
    return BatchTotals(rows, batches)


class BatchMetrics:
    """Asks the metrics port of a server about one pipeline; remembers what it was told."""

    def __init__(self, address: str, pipeline: str) -> None:
        self._pool = HttpPool(parse_endpoint(address))
        self._pipeline = pipeline
        self._first = self._last = self._read() or BatchTotals()

    def recent_mean_rows(self) -> float:
        """Return the mean rows of the batches since the last call; NaN if there are none or nobody answers."""
        now = self._read()
        if now is None:
            return float("nan")
        mean = now.mean_rows_since(self._last)
        self._last = now
        return mean

    def mean_rows(self) -> float:
        """Return the mean rows of the batches since this object was made; NaN if there are none or nobody answers."""
        now = self._read()
        return float("nan") if now is None else now.mean_rows_since(self._first)

    def _read(self) -> BatchTotals | None:
        try:
            reply = self._pool.get("/metrics", timeout_s=_TIMEOUT_S)
        except BettongError:
            return None
        return totals_in(reply.body.decode(), self._pipeline)
