"""Where a run is shown: a live view on a terminal, lines everywhere else."""

import contextlib
from collections.abc import Iterator
from typing import Protocol

import click
from rich.console import Console
from rich.live import Live

from bettong._demo.report import line
from bettong._demo.tally import Snapshot
from bettong._demo.view import render


class Screen(Protocol):
    """Shows how a run goes."""

    period_s: float
    """Time from one update to the next."""

    def show(self, counts: Snapshot, mean_batch_rows: float) -> None:
        """Show the newest figures."""


class Lines:
    """A line now and then, for logs and pipes."""

    period_s = 2.0

    def show(self, counts: Snapshot, mean_batch_rows: float) -> None:
        """Print a line."""
        click.echo(line(counts, mean_batch_rows))


class LiveScreen:
    """A view that is drawn again in place."""

    period_s = 0.5

    def __init__(self, live: Live, rate_per_s: float, addresses: str) -> None:
        self._live = live
        self._rate_per_s = rate_per_s
        self._addresses = addresses

    def show(self, counts: Snapshot, mean_batch_rows: float) -> None:
        """Draw the view."""
        view = render(counts, mean_batch_rows=mean_batch_rows, rate_per_s=self._rate_per_s, addresses=self._addresses)
        self._live.update(view, refresh=True)


@contextlib.contextmanager
def opened(console: Console, *, rate_per_s: float, addresses: str, is_live: bool) -> Iterator[Screen]:
    """Choose the screen; a live one needs a terminal."""
    if not (is_live and console.is_terminal):
        yield Lines()
        return
    # Figures change when `show` says so, so the library need not draw by a clock of its own.
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        yield LiveScreen(live, rate_per_s, addresses)
