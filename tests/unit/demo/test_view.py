"""The live view."""

import io
from dataclasses import replace

from rich.console import Console

from bettong._demo.tally import Latencies, Prediction, Snapshot
from bettong._demo.view import render

COUNTS = Snapshot(
    elapsed_s=12.3,
    sent=24_600,
    answered=24_590,
    failed=0,
    flagged=300,
    fraud=400,
    caught=270,
    total=Latencies(0.001, 0.004),
    recent=Latencies(0.000_93, 0.003_7),
    recent_per_s=1_999.6,
    newest=(Prediction(17, 12.5, 0.0123, is_fraud=False),),
    newest_flagged=(Prediction(4_711, 1_250.0, 0.9876, is_fraud=True),),
    last_error="",
    largest_lag_s=0.0,
)
ADDRESSES = "data http://127.0.0.1:8080 · control 127.0.0.1:8081 · metrics http://127.0.0.1:8082/metrics"


def shown(counts: Snapshot, *, width: int = 120) -> str:
    page = io.StringIO()
    Console(file=page, width=width).print(render(counts, mean_batch_rows=9.9, rate_per_s=2_000, addresses=ADDRESSES))
    return page.getvalue()


def test_all_figures_are_on_the_screen() -> None:
    """Rate, quantiles, batch size, totals, quality and addresses are seen."""
    screen = shown(COUNTS)
    for expected in ("2,000", "0.93 ms", "3.70 ms", "9.9 rows", "24,590", "precision 90.0%", "recall 67.5%", ADDRESSES):
        assert expected in screen


def test_predictions_have_their_flags() -> None:
    """What is above the threshold is flagged, the rest passes."""
    rows = [row for row in shown(COUNTS).splitlines() if "4711" in row]
    assert len(rows) == 1
    assert "0.0123  pass" in rows[0]
    assert "1,250.00    0.9876  ⚑ flag" in rows[0]


def test_failures_are_seen() -> None:
    """The reason of the last failure is on the screen, and nothing about failures if there are none."""
    assert "3 failed: server is full" in shown(replace(COUNTS, failed=3, last_error="server is full"))
    assert "failed" not in shown(COUNTS)


def test_it_fits_a_plain_terminal() -> None:
    """At 80 columns and 24 lines, filled with as much as there can be, nothing is cut off."""
    full = replace(COUNTS, failed=1, newest=COUNTS.newest * 8, newest_flagged=COUNTS.newest_flagged * 8)
    rows = shown(full, width=80).splitlines()
    assert len(rows) <= 24
    assert all(len(row) <= 80 for row in rows)
    assert not any("…" in row for row in rows)


def test_a_narrow_terminal_shows_one_table_below_the_other() -> None:
    """At 60 columns the tables are whole."""
    screen = shown(COUNTS, width=60)
    assert "4711" in screen
    assert "0.9876  ⚑ flag" in screen
