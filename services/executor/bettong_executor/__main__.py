"""Run the service by itself: `python -m bettong_executor`, configured by the environment."""

import asyncio
import os
import sys

from bettong_executor.config import ExecutorConfig
from bettong_executor.serve import serve
from bettong_kit.lifecycle import run_service
from bettong_kit.logging import get_logger
from bettong_kit.membership.settings import load_member_settings
from bettong_serving.member import Addresses

_log = get_logger("main")


async def _serve(stop: asyncio.Event) -> None:
    config, cluster = load_member_settings(ExecutorConfig, {}, os.environ)
    await serve(config, cluster, stop, _announce)


def _announce(addresses: Addresses) -> None:
    _log.info("ready", role="executor", data=addresses.data, metrics=addresses.metrics)


if __name__ == "__main__":
    sys.exit(run_service(_serve))
