"""The open loop of events."""

import threading
import time
from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from bettong._demo.load import LoadPlan, OpenLoop
from bettong._demo.tally import Snapshot, Tally
from bettong._errors import ServerError


def run(plan: LoadPlan, score: "Score", stop: threading.Event | None = None) -> Snapshot:
    tally = Tally(time.monotonic)
    OpenLoop(plan, score, tally).run(stop or threading.Event())
    return tally.snapshot()


class Score:
    """Answers at once and remembers what it was asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests: list[int] = []

    def __call__(self, columns: Mapping[str, NDArray[np.float32]]) -> NDArray[np.floating]:
        rows = len(columns["amount_eur"])
        with self._lock:
            self.requests.append(rows)
        return np.full(rows, 0.1)


class Refusing(Score):
    """Refuses everything."""

    def __call__(self, columns: Mapping[str, NDArray[np.float32]]) -> NDArray[np.floating]:
        super().__call__(columns)
        raise ServerError("no")


class Broken(Score):
    """Has a bug."""

    def __call__(self, columns: Mapping[str, NDArray[np.float32]]) -> NDArray[np.floating]:
        super().__call__(columns)
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("rate_per_s", "duration_s", "expected"), [(10_000, 0.1, 1_000), (333, 0.1, 33), (20, 0.1, 2), (7_777, 0.013, 101)]
)
def test_a_bounded_run_sends_the_events_of_its_time(rate_per_s: float, duration_s: float, expected: int) -> None:
    """Rate times duration, whatever part of it leaves in one request."""
    score = Score()
    found = run(LoadPlan(rate_per_s, duration_s), score)
    assert (expected, expected, 0) == (found.sent, found.answered, found.failed)
    assert expected == sum(score.requests)


def test_slow_events_leave_one_by_one() -> None:
    """Below the rate of requests each event is a request of its own."""
    score = Score()
    run(LoadPlan(100, 0.05), score)
    assert score.requests == [1, 1, 1, 1, 1]


def test_refused_events_are_counted() -> None:
    """An error of the server is no end of the run."""
    found = run(LoadPlan(1_000, 0.05), Refusing())
    assert (found.sent, found.answered, found.failed, found.last_error) == (50, 0, 50, "no")


def test_a_bug_ends_the_run() -> None:
    """What no answer of a server explains is raised, not counted."""
    with pytest.raises(ZeroDivisionError):
        run(LoadPlan(1_000), Broken())


def test_nothing_leaves_after_the_stop() -> None:
    """A run that is told to stop at the start sends nothing and returns."""
    stop = threading.Event()
    stop.set()
    assert run(LoadPlan(1_000), Score(), stop).sent == 0


def test_what_is_in_flight_is_answered_after_the_stop() -> None:
    """A stop drains: the request that is under way is counted as answered."""
    stop = threading.Event()

    class StopsInside(Score):
        """Tells the loop to stop while it answers."""

        def __call__(self, columns: Mapping[str, NDArray[np.float32]]) -> NDArray[np.floating]:
            stop.set()
            return super().__call__(columns)

    found = run(LoadPlan(1_000), StopsInside(), stop)
    assert found.sent == found.answered > 0


def test_a_server_that_does_not_answer_stops_the_source() -> None:
    """At most 32 requests are in flight; a stop gets through, and nothing more leaves after it."""
    release, full, stop = threading.Event(), threading.Semaphore(0), threading.Event()

    class Blocks(Score):
        """Answers when the test allows it."""

        def __call__(self, columns: Mapping[str, NDArray[np.float32]]) -> NDArray[np.floating]:
            answer = super().__call__(columns)
            full.release()
            release.wait()
            return answer

    score, tally = Blocks(), Tally(time.monotonic)
    loop = threading.Thread(target=OpenLoop(LoadPlan(1_000), score, tally).run, args=(stop,))
    loop.start()
    for _ in range(32):
        assert full.acquire(timeout=10)
    stop.set()
    release.set()
    loop.join()
    assert len(score.requests) == 32
    assert tally.snapshot().sent == tally.snapshot().answered == sum(score.requests)
