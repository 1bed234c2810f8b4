"""Time as a parameter, so that tests can own it."""

import time
from typing import Protocol


class Clock(Protocol):
    """Two kinds of time: one for durations, one for people."""

    def monotonic_s(self) -> float:
        """Return seconds that never go back."""

    def epoch_ms(self) -> int:
        """Return milliseconds since the Unix epoch."""


class SystemClock:
    """The machine's clocks."""

    def monotonic_s(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

    def epoch_ms(self) -> int:
        """Return milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000
