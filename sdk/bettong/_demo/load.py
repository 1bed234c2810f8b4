"""An open loop of events: they come when they are due, whether or not the earlier ones are answered."""

import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bettong._demo.generator import TransactionGenerator
from bettong._demo.tally import Tally
from bettong._demo.transactions import Transactions
from bettong._errors import BettongError

_REQUESTS_PER_S = 200.0
"""Events that are due within 5 ms leave together, as they do behind a till's gateway."""
_MOST_IN_FLIGHT = 32
"""Requests that wait for their answer; at this bound the loop falls behind, and says so."""
_STOP_CHECK_S = 0.1


class Scorer(Protocol):
    """Gives the probability of fraud for each of some events."""

    def __call__(self, columns: Mapping[str, NDArray[np.float32]]) -> NDArray[np.floating]:
        """Return one number for each row.

        Raises:
            BettongError: They could not be scored.
        """


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """How many events, how fast, for how long."""

    rate_per_s: float
    duration_s: float | None = None
    """None goes on until it is told to stop."""
    seed: int = 1

    @property
    def interval_s(self) -> float:
        """Time from one request to the next."""
        return max(1.0 / self.rate_per_s, 1.0 / _REQUESTS_PER_S)

    def events_due(self, elapsed_s: float) -> int:
        """Return how many events are due by then."""
        # The small part keeps a sum of intervals from losing an event to rounding.
        return int(self.rate_per_s * elapsed_s + 1e-6)


class OpenLoop:
    """Sends events of a generator and counts what comes of them."""

    def __init__(self, plan: LoadPlan, score: Scorer, tally: Tally) -> None:
        self._plan = plan
        self._score = score
        self._tally = tally
        self._events = TransactionGenerator(plan.seed)
        self._slots = threading.BoundedSemaphore(_MOST_IN_FLIGHT)
        self._bug: BaseException | None = None

    def run(self, stop: threading.Event) -> None:
        """Send until the plan ends or *stop* is set; return when everything that was sent is answered."""
        self._tally.start()
        with ThreadPoolExecutor(_MOST_IN_FLIGHT, "bettong-demo") as senders:
            self._dispatch(senders, stop)
        self._tally.stop()
        if self._bug is not None:
            raise self._bug

    def _dispatch(self, senders: ThreadPoolExecutor, stop: threading.Event) -> None:
        plan, started_s = self._plan, time.monotonic()
        taken = tick = 0
        while plan.duration_s is None or taken < plan.events_due(plan.duration_s):
            tick += 1
            due_s = started_s + tick * plan.interval_s
            if stop.wait(max(0.0, due_s - time.monotonic())) or not self._take_slot(stop):
                return
            # The last request of a bounded run may be due a little after its end; it takes no more than is left.
            end_s = min(tick * plan.interval_s, plan.duration_s or float("inf"))
            count = plan.events_due(end_s) - taken
            taken += count
            events = self._events.take(count)
            self._tally.add_sent(count, time.monotonic() - due_s)
            senders.submit(self._send, events, due_s).add_done_callback(self._note_bug)
            if self._bug is not None:
                return

    def _take_slot(self, stop: threading.Event) -> bool:
        """Wait for room in flight; return False if told to stop first."""
        while not self._slots.acquire(timeout=_STOP_CHECK_S):
            if stop.is_set():
                return False
        return not stop.is_set()

    def _note_bug(self, sending: Future[None]) -> None:
        """Keep what no server's answer explains, to end the run with it."""
        self._bug = self._bug or sending.exception()

    def _send(self, events: Transactions, due_s: float) -> None:
        try:
            probability = self._score(events.columns)
        except BettongError as error:
            self._tally.add_failed(len(events), str(error))
        else:
            self._tally.add_answered(events, probability, time.monotonic() - due_s)
        finally:
            self._slots.release()
