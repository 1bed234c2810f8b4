"""Counting what comes of the events."""

import math

import numpy as np
import pytest

from bettong._demo.tally import Tally
from bettong._demo.transactions import COLUMNS, Transactions


class Clock:
    """Time that a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def events(*is_fraud: bool) -> Transactions:
    count = len(is_fraud)
    columns = {column.name: np.arange(count, dtype=np.float32) for column in COLUMNS}
    return Transactions(columns, np.arange(count), np.array(is_fraud))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tally(clock: Clock) -> Tally:
    return Tally(clock)


def test_flags_are_compared_with_the_truth(tally: Tally) -> None:
    """Two of three flagged are fraud, and two of four frauds are flagged."""
    probability = np.array([0.9, 0.8, 0.7, 0.1, 0.2, 0.5])
    tally.add_answered(events(True, True, False, True, True, False), probability, 0.001)
    found = tally.snapshot()
    assert (found.flagged, found.fraud, found.caught) == (3, 4, 2)
    assert found.precision == 2 / 3
    assert found.recall == 0.5


def test_nothing_answered_has_no_quality(tally: Tally) -> None:
    """A share of nothing is not a number."""
    found = tally.snapshot()
    assert math.isnan(found.precision)
    assert math.isnan(found.recall)
    assert math.isnan(found.total.p50_s)
    assert 0.0 == found.per_s == found.recent_per_s


def test_recent_figures_forget(tally: Tally, clock: Clock) -> None:
    """The live figures cover the last seconds, the totals everything."""
    tally.add_answered(events(False, False), np.array([0.1, 0.1]), 1.0)
    clock.now_s += 20.0
    tally.add_answered(events(False), np.array([0.1]), 0.001)
    found = tally.snapshot()
    assert found.answered == 3
    assert found.recent.p99_s < 0.0011
    assert found.total.p99_s > 0.99
    assert pytest.approx(found.recent_per_s) == 1 / 5


def test_recent_rate_is_right_from_the_start(tally: Tally, clock: Clock) -> None:
    """A run that has just begun does not divide by seconds that have not passed."""
    clock.now_s += 0.5
    tally.add_answered(events(False, False), np.array([0.1, 0.1]), 0.001)
    assert pytest.approx(tally.snapshot().recent_per_s) == 4.0


def test_time_ends_with_the_run(tally: Tally, clock: Clock) -> None:
    """A summary that is shown later has the same rate."""
    tally.add_answered(events(False, False), np.array([0.1, 0.1]), 0.001)
    clock.now_s += 2.0
    tally.stop()
    clock.now_s += 10.0
    assert tally.snapshot().per_s == 1.0


def test_newest_come_first(tally: Tally) -> None:
    """Lists for the view hold the latest events, flagged ones apart, newest on top."""
    flagged = [index % 4 == 0 for index in range(100)]
    tally.add_answered(events(*flagged), np.where(flagged, 0.9, 0.1), 0.001)
    found = tally.snapshot()
    assert [prediction.card for prediction in found.newest] == [99, 98, 97, 96, 95, 94, 93, 92]
    assert [prediction.card for prediction in found.newest_flagged] == [96, 92, 88, 84, 80, 76, 72, 68]
    assert all(prediction.is_flagged for prediction in found.newest_flagged)
    assert not found.newest[0].is_flagged


def test_failures_keep_their_reason(tally: Tally) -> None:
    """Failed events are counted and the last reason is kept."""
    tally.add_sent(5, 0.25)
    tally.add_failed(3, "first")
    tally.add_failed(2, "second")
    found = tally.snapshot()
    assert (found.sent, found.failed, found.last_error, found.largest_lag_s) == (5, 5, "second", 0.25)
