"""A run with its screen, without a server."""

import threading
from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from bettong._demo.batches import BatchMetrics
from bettong._demo.load import LoadPlan
from bettong._demo.session import run_load
from bettong._demo.tally import Snapshot

NOBODY = "127.0.0.1:9"


def score(columns: Mapping[str, NDArray[np.float32]]) -> NDArray[np.floating]:
    return np.full(len(columns["amount_eur"]), 0.75)


class Frames:
    """Keeps what it is shown, and may act on it."""

    period_s = 0.01

    def __init__(self, stop: threading.Event | None = None) -> None:
        self.shown: list[Snapshot] = []
        self._stop = stop

    def show(self, counts: Snapshot, mean_batch_rows: float) -> None:
        assert np.isnan(mean_batch_rows)
        self.shown.append(counts)
        if self._stop is not None and counts.answered:
            self._stop.set()


class FailingScreen:
    """Cannot draw."""

    period_s = 0.01

    def show(self, counts: Snapshot, mean_batch_rows: float) -> None:
        raise BrokenPipeError(counts, mean_batch_rows)


def test_a_bounded_run_is_shown_and_counted() -> None:
    """The screen sees it grow; the outcome has all of it, though nobody answers for the metrics."""
    screen = Frames()
    outcome = run_load(
        LoadPlan(2_000, 0.1), score, BatchMetrics(NOBODY, "fraud"), screen=screen, stop=threading.Event()
    )
    assert (outcome.counts.answered, outcome.counts.flagged) == (200, 200)
    assert outcome.exit_code == 0
    assert not outcome.is_interrupted
    assert [counts.answered for counts in screen.shown] == sorted(counts.answered for counts in screen.shown)


def test_an_endless_run_ends_when_told() -> None:
    """A signal ends it, with everything answered and code 0."""
    stop = threading.Event()
    outcome = run_load(LoadPlan(2_000), score, BatchMetrics(NOBODY, "fraud"), screen=Frames(stop), stop=stop)
    assert outcome.is_interrupted
    assert outcome.counts.answered == outcome.counts.sent > 0
    assert outcome.exit_code == 0


def test_a_screen_that_fails_ends_the_load() -> None:
    """The error comes out at once; no thread goes on sending."""
    stop = threading.Event()
    with pytest.raises(BrokenPipeError):
        run_load(LoadPlan(2_000), score, BatchMetrics(NOBODY, "fraud"), screen=FailingScreen(), stop=stop)
    assert stop.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("bettong-demo")]
