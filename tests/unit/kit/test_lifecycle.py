"""The life of a process."""

import asyncio
import os
import signal

import pytest

from bettong_kit.lifecycle import Lifecycle, State, stop_on_signals


def test_a_life_goes_forward_only() -> None:
    """A server that drains cannot serve again."""
    life = Lifecycle()
    life.advance(State.SERVING)
    life.advance(State.DRAINING)
    life.advance(State.DRAINING)
    with pytest.raises(ValueError, match="from DRAINING back to SERVING"):
        life.advance(State.SERVING)
    assert life.state is State.DRAINING


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_stops_and_the_second_exits(number: signal.Signals) -> None:
    """Impatience is heard: the second signal does not wait for anything."""
    exits: asyncio.Queue[int] = asyncio.Queue()
    stop = asyncio.Event()
    with stop_on_signals(stop, exits.put_nowait):
        os.kill(os.getpid(), number)
        await stop.wait()
        assert exits.empty()
        os.kill(os.getpid(), number)
        assert await exits.get() == 128 + number


async def test_signals_are_given_back() -> None:
    """After the block the process reacts as before."""
    with stop_on_signals(asyncio.Event()):
        pass
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
