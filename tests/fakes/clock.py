"""Time that a test owns."""


class ManualClock:
    """Stands still until it is moved."""

    def __init__(self, *, epoch_ms: int = 1_700_000_000_000) -> None:
        self._now_s = 0.0
        self._epoch_ms = epoch_ms

    def monotonic_s(self) -> float:
        """Return seconds since the clock was made."""
        return self._now_s

    def epoch_ms(self) -> int:
        """Return milliseconds since the Unix epoch."""
        return self._epoch_ms + round(self._now_s * 1000)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now_s += seconds
