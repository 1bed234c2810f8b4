"""Trying again while the server says that later may be better, within the caller's time."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from bettong._errors import BettongError, DeadlineError, NotReadyError, OverloadedError

ResultT = TypeVar("ResultT")

_FIRST_DELAY_S = 0.02
_LONGEST_DELAY_S = 2.0
_MOST_RETRIES = 10


class Clock:
    """Time as the retries see it."""

    def monotonic_s(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        """Wait that long."""
        time.sleep(seconds)


class Attempts:
    """How much time and how many tries are left for one request.

    Waits as long as the server asked, else up to twice as long each time with full jitter, so that clients that were refused
    together do not come back together.
    """

    def __init__(self, timeout_s: float, retries: int | None = None, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self._timeout_s = timeout_s
        self._refusal: BettongError | None = None
        self._deadline_s = self.clock.monotonic_s() + timeout_s
        self._retries = _MOST_RETRIES if retries is None else retries
        self._delay_s = _FIRST_DELAY_S

    def left_s(self) -> float:
        """Return the time that is left."""
        return self._deadline_s - self.clock.monotonic_s()

    def wait_after_s(self, error: BettongError) -> float | None:
        """Return the seconds to wait before the next try; None if there is none."""
        self._refusal = error
        asked_s = error.retry_after_s if isinstance(error, OverloadedError) else None
        jitter = random.random()  # noqa: S311 - spreads load, hides nothing
        wait_s = self._delay_s * jitter if asked_s is None else asked_s + _FIRST_DELAY_S * jitter
        self._delay_s = min(2 * self._delay_s, _LONGEST_DELAY_S)
        self._retries -= 1
        return None if self._retries < 0 or wait_s >= self.left_s() else wait_s

    def out_of_time(self) -> DeadlineError | None:
        """Return the error of all tries together, with why the last was refused; None if none was."""
        if self._refusal is None:
            return None
        return DeadlineError(f"no answer within {self._timeout_s:g} s; before, it was refused: {self._refusal}")


def with_retries(call: Callable[[float], ResultT], attempts: Attempts) -> ResultT:
    """Call with the time that is left until it succeeds, fails for good, or has no time or tries left.

    Raises:
        BettongError: The last failure.
    """
    while True:
        try:
            return call(attempts.left_s())
        except DeadlineError as error:
            if (of_all := attempts.out_of_time()) is not None:
                raise of_all from error
            raise
        except (NotReadyError, OverloadedError) as error:
            wait_s = attempts.wait_after_s(error)
            if wait_s is None:
                raise
        attempts.clock.wait(wait_s)


async def with_retries_async(call: Callable[[float], Awaitable[ResultT]], attempts: Attempts) -> ResultT:
    """Do what `with_retries` does, on an event loop.

    Raises:
        BettongError: The last failure.
    """
    while True:
        try:
            return await call(attempts.left_s())
        except DeadlineError as error:
            if (of_all := attempts.out_of_time()) is not None:
                raise of_all from error
            raise
        except (NotReadyError, OverloadedError) as error:
            wait_s = attempts.wait_after_s(error)
            if wait_s is None:
                raise
        await asyncio.sleep(wait_s)
