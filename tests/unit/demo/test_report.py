"""Lines, summary and exit code."""

from dataclasses import replace

import pytest

from bettong._demo.report import Outcome, line, summary
from bettong._demo.tally import Latencies, Snapshot

RUN = Snapshot(
    elapsed_s=10.0,
    sent=20_000,
    answered=20_000,
    failed=0,
    flagged=250,
    fraud=320,
    caught=240,
    total=Latencies(0.000_91, 0.003_2),
    recent=Latencies(0.000_88, 0.002_9),
    recent_per_s=1_998.0,
    newest=(),
    newest_flagged=(),
    last_error="",
    largest_lag_s=0.004,
)


def outcome(counts: Snapshot, *, is_interrupted: bool = False) -> Outcome:
    return Outcome(counts, 2_000.0, 9.8, is_interrupted)


def test_the_summary_has_all_figures() -> None:
    """Counts, rate, latency, batches, flags and quality are there, and no complaint."""
    assert summary(outcome(RUN)) == (
        "events      sent 20,000, answered 20,000, failed 0\n"
        "rate        2,000 events/s over 10.0 s (asked for 2,000)\n"
        "latency     p50 0.91 ms, p99 3.20 ms\n"
        "batches     9.8 rows on average\n"
        "flagged     250 above 0.5; 320 were fraud\n"
        "quality     precision 96.0%, recall 75.0%"
    )


def test_a_run_that_could_not_keep_up_says_so() -> None:
    """Fewer answers than were due are not hidden."""
    slow = replace(RUN, answered=15_000, sent=15_000, largest_lag_s=2.5)
    assert "kept up     no: requests left up to 2500 ms late" in summary(outcome(slow))


def test_the_last_error_is_shown() -> None:
    """A reader of a log sees why events failed."""
    assert "last error  nobody listens" in summary(outcome(replace(RUN, failed=1, last_error="nobody listens")))


@pytest.mark.parametrize(
    ("counts", "is_interrupted", "expected"),
    [
        (RUN, False, 0),
        (replace(RUN, answered=19_999, failed=1), False, 1),
        (replace(RUN, answered=19_999), False, 1),
        (replace(RUN, sent=0, answered=0), False, 1),
        (replace(RUN, sent=0, answered=0), True, 0),
        (replace(RUN, answered=19_999, failed=1), True, 1),
    ],
)
def test_exit_code(counts: Snapshot, is_interrupted: bool, expected: int) -> None:
    """0 only if all that was sent was answered, and something was unless a person stopped it before."""
    assert expected == outcome(counts, is_interrupted=is_interrupted).exit_code


def test_a_line_has_the_live_figures() -> None:
    """A log without a terminal shows rate, latency, batch and flags."""
    assert line(RUN, 10.0) == (
        "  10.0 s     1,998 events/s  p50 0.88 ms  p99 2.90 ms  batch 10.0 rows  flagged 250 (fraud 320)  failed 0"
    )


def test_a_line_without_answers_has_no_figures() -> None:
    """Unknown is shown as a dash."""
    nothing = float("nan")
    empty = replace(RUN, recent=Latencies(nothing, nothing))
    assert "p50 –  p99 –  batch –" in line(empty, nothing)
