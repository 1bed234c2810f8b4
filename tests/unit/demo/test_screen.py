"""Where a run is shown."""

import io
import time

import pytest
from rich.console import Console

from bettong._demo.screen import opened
from bettong._demo.tally import Snapshot, Tally

NOTHING = float("nan")


def counts() -> Snapshot:
    tally = Tally(time.monotonic)
    tally.add_sent(7, 0.0)
    tally.add_failed(7, "too slow")
    return tally.snapshot()


def test_a_terminal_is_drawn_in_place() -> None:
    """Two updates draw the view over itself."""
    page = io.StringIO()
    console = Console(file=page, force_terminal=True, width=100, height=40)
    with opened(console, rate_per_s=2_000, addresses="data http://127.0.0.1:8080", is_live=True) as screen:
        screen.show(counts(), NOTHING)
        screen.show(counts(), 9.5)
    assert "7 failed: too slow" in page.getvalue()
    assert "9.5 rows" in page.getvalue()
    cursor_up = "\x1b[1A"
    assert cursor_up in page.getvalue()


@pytest.mark.parametrize(("is_terminal", "is_live"), [(False, True), (True, False)])
def test_lines_are_printed_without_a_terminal_or_if_asked_for(
    is_terminal: bool,
    is_live: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A line is plain text."""
    page = io.StringIO()
    console = Console(file=page, force_terminal=is_terminal)
    with opened(console, rate_per_s=2_000, addresses="", is_live=is_live) as screen:
        screen.show(counts(), NOTHING)
    assert page.getvalue() == ""
    printed = capsys.readouterr().out
    assert printed.endswith("failed 7\n")
    assert "\x1b" not in printed
