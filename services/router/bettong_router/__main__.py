"""Run the service by itself: `python -m bettong_router`, configured by the environment."""

import asyncio
import os
import sys

from bettong_kit.lifecycle import run_service
from bettong_kit.logging import get_logger
from bettong_kit.membership.settings import load_member_settings
from bettong_router.config import RouterConfig
from bettong_router.serve import serve
from bettong_serving.member import Addresses

_log = get_logger("main")


async def _serve(stop: asyncio.Event) -> None:
    config, cluster = load_member_settings(RouterConfig, {}, os.environ, needs_blobs=False)
    await serve(config, cluster, stop, _announce)


def _announce(addresses: Addresses) -> None:
    _log.info("ready", role="router", data=addresses.data, metrics=addresses.metrics)


if __name__ == "__main__":
    sys.exit(run_service(_serve))
