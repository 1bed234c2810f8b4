"""The machine's clocks."""

import time

from bettong_kit.clock import SystemClock


def test_durations_never_go_back() -> None:
    """Two looks in order are in order."""
    clock = SystemClock()
    assert clock.monotonic_s() <= clock.monotonic_s()


def test_time_for_people_is_milliseconds_since_the_epoch() -> None:
    """It agrees with the wall clock."""
    before_ms = time.time() * 1000
    assert before_ms - 1 <= SystemClock().epoch_ms() <= time.time() * 1000
