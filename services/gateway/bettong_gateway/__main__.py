"""Run the service by itself: `python -m bettong_gateway`, configured by the environment."""

import asyncio
import sys

from bettong_gateway.config import load_config
from bettong_gateway.serve import serve
from bettong_gateway.server_app import Addresses
from bettong_kit.errors import BettongError
from bettong_kit.lifecycle import stop_on_signals
from bettong_kit.logging import get_logger

_log = get_logger("main")


async def run() -> None:
    """Serve until a signal comes."""
    stop = asyncio.Event()
    with stop_on_signals(stop):
        await serve(load_config({}), stop, _announce)


def _announce(addresses: Addresses) -> None:
    _log.info("ready", data=addresses.data, control=addresses.control, metrics=addresses.metrics)


def main() -> int:
    """Return the exit code: 1 when it could not start."""
    try:
        asyncio.run(run())
    except BettongError as error:
        _log.error("start_failed", reason=error.message)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
