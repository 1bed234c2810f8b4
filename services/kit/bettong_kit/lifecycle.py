"""The life of a server process: STARTING → SERVING → DRAINING → STOPPED, never back."""

import asyncio
import contextlib
import enum
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from bettong_kit.errors import BettongError
from bettong_kit.logging import get_logger

_log = get_logger("lifecycle")
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class State(enum.IntEnum):
    """Where a process is in its life; the order is the only way through it."""

    STARTING = 1
    SERVING = 2
    DRAINING = 3
    STOPPED = 4


class Lifecycle:
    """Holds the state and refuses to go back."""

    def __init__(self) -> None:
        self._state = State.STARTING

    @property
    def state(self) -> State:
        """Return where the process is."""
        return self._state

    def advance(self, state: State) -> None:
        """Go on to a later state; being there already is fine.

        Raises:
            ValueError: The state lies behind.
        """
        if state < self._state:
            raise ValueError(f"life cycle cannot go from {self._state.name} back to {state.name}")
        if state != self._state:
            self._state = state
            _log.info("state_changed", state=state.name)


@contextlib.contextmanager
def stop_on_signals(stop: asyncio.Event, exit_now: Callable[[int], object] = os._exit) -> Iterator[None]:
    """Set *stop* on the first SIGTERM or SIGINT; exit at once on the second.

    Must be entered on the thread that runs the event loop. Handlers only set a flag: draining is done by whoever waits.
    """
    loop = asyncio.get_running_loop()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            exit_now(128 + number)
        _log.info("stop_requested", signal=number.name)
        stop.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


def run_service(serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> int:
    """Run a service in this process until a signal comes; return its exit code, which is 1 when it could not start.

    Args:
        serve: Serves until its event is set.
    """
    try:
        asyncio.run(_until_signal(serve))
    except BettongError as error:
        _log.error("start_failed", reason=error.message)
        return 1
    return 0


async def _until_signal(serve: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    stop = asyncio.Event()
    with stop_on_signals(stop):
        await serve(stop)
