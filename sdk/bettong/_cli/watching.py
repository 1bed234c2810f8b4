"""Showing something again and again, for `--watch`."""

import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import click

from bettong._cli.session import Session
from bettong._errors import BettongError

CommandT = TypeVar("CommandT", bound=Callable[..., object])


def watch_options(command: CommandT) -> CommandT:
    """Give a command `--watch` and `--interval`."""
    command = click.option(
        "--interval", type=click.FloatRange(0.1), default=1.0, help="Seconds between two looks, with --watch."
    )(command)
    return click.option("--watch", is_flag=True, help="Show it again and again until Ctrl-C.")(command)


def show_watched(session: Session, look: Callable[[], tuple[Any, str]], *, watch: bool, interval: float) -> None:
    """Show what *look* returns, as JSON and as text; with *watch* again and again, errors included.

    Raises:
        BettongError: The first look failed.
    """
    session.show(*look())
    pause = threading.Event()
    while watch and not pause.wait(interval):
        try:
            found = look()
        except BettongError as error:
            # It may come back; whoever watches wants to see when.
            found = ({"error": str(error)}, f"bettong: {error}")
        if sys.stdout.isatty() and not session.is_json:
            click.clear()
        session.show(*found)
