"""What fault tests have in common: how long a run is, what decides its chances, and what it must have done to prove anything.

`BETTONG_CHAOS_S` makes each run longer, `BETTONG_SEED` repeats one.
"""
# ruff: noqa: T201 - a run says what it did

import os
import random

from detector import Findings

SECONDS = float(os.environ.get("BETTONG_CHAOS_S", "15"))
IS_LONG = SECONDS >= 60
"""Whether a run shall do all of what it can do, and not only as much as shows that it works."""
LEAST_OPERATIONS = 1_000


def seed() -> int:
    # Not of the generator that is seeded before each test: each shall have its own.
    return int(os.environ.get("BETTONG_SEED") or random.SystemRandom().randrange(1 << 30))


def report(name: str, number: int, faults: int, found: Findings, *, least: int = LEAST_OPERATIONS) -> None:
    """Print what a run did, and fail one that proves nothing."""
    print(f"{name}: seed {number}, {faults} faults, {found.summary()}")
    assert faults > 0, "nothing happened"
    assert found.answered >= least, "too few operations"
