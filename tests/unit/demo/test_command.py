"""The options of `bettong demo`, and its signals."""

import os
import signal

import pytest
from click.testing import CliRunner

from bettong._demo.command import demo
from bettong._demo.stopping import stop_on_signals


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--rate", "0"], "--rate"),
        (["--rate", "-5"], "--rate"),
        (["--rate", "nan"], "--rate"),
        (["--rate", "2000000"], "--rate"),
        (["--duration", "0"], "--duration"),
        (["--duration", "inf"], "--duration"),
        (["--seed", "-1"], "--seed"),
        (["--port", "65536"], "--port"),
        (["--data", __file__], "--data"),
        (["extra"], "extra"),
    ],
)
def test_wrong_options_are_refused_before_anything_starts(arguments: list[str], reason: str) -> None:
    """The message names the option; the code is that of wrong usage."""
    result = CliRunner().invoke(demo, arguments)
    assert result.exit_code == 2
    assert reason in result.output


def test_help_explains_the_options() -> None:
    """Every option is described."""
    result = CliRunner().invoke(demo, ["--help"])
    assert result.exit_code == 0
    for option in ("--rate", "--duration", "--seed", "--port", "--data", "--view / --no-view"):
        assert option in result.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_to_stop(number: signal.Signals) -> None:
    """The event is set, the next signal does what it does by default, and the old handlers come back at the end."""
    before = signal.getsignal(number)
    with stop_on_signals() as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        assert stop.wait(timeout=5)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(number) is before
