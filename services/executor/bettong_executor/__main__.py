"""Run the service by itself: `python -m bettong_executor`, configured by the environment."""

import asyncio
import os
import sys

from bettong_executor.config import ExecutorConfig
from bettong_executor.serve import Addresses, serve
from bettong_kit.errors import BettongError
from bettong_kit.lifecycle import stop_on_signals
from bettong_kit.logging import get_logger
from bettong_kit.membership.settings import load_member_settings

_log = get_logger("main")


async def run() -> None:
    """Serve until a signal comes."""
    stop = asyncio.Event()
    config, cluster = load_member_settings(ExecutorConfig, {}, os.environ)
    with stop_on_signals(stop):
        await serve(config, cluster, stop, _announce)


def _announce(addresses: Addresses) -> None:
    _log.info("ready", role="executor", data=addresses.data, metrics=addresses.metrics)


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
