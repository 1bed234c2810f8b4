"""Waiting between attempts, at random, so that many clients do not come back at the same moment."""

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Grows to its longest by doubling; each wait is drawn between nothing and that ("full jitter")."""

    first_s: float = 0.05
    longest_s: float = 1.0
    chance: random.Random = field(default_factory=random.SystemRandom)
    _limit_s: float = 0.0

    def next_s(self) -> float:
        """Return how long to wait now."""
        self._limit_s = min(self.longest_s, self._limit_s * 2 or self.first_s)
        return self.chance.uniform(0, self._limit_s)

    def reset(self) -> None:
        """Begin anew, after something worked."""
        self._limit_s = 0.0
