"""Progress for people."""

import io
import sys

import pytest

from bettong._progress import byte_progress, is_watched, state_progress


class Terminal(io.StringIO):
    """A standard error that somebody watches."""

    def isatty(self) -> bool:
        """Return that it is a terminal."""
        return True


def watch(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make standard error a terminal; not a fixture, since pytest sets its own between set-up and test."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    return terminal


def test_bar_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload shows its label and how much is done."""
    terminal = watch(monkeypatch)
    with byte_progress("Uploading 'm'", 2_000) as advance:
        advance(2_000)
    assert "Uploading 'm'" in terminal.getvalue()
    assert "2.0/2.0 kB" in terminal.getvalue()


def test_state_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment shows its label."""
    terminal = watch(monkeypatch)
    with state_progress("Deploying 'p'") as show:
        show("starting")
    assert "Deploying 'p'" in terminal.getvalue()


def test_nothing_is_shown_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    """In a script or a test nothing is printed."""
    assert not is_watched()
    with byte_progress("x", 1) as advance, state_progress("y") as show:
        advance(1)
        show("z")
    assert capsys.readouterr() == ("", "")
