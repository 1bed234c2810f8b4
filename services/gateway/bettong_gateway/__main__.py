"""Run the service by itself: `python -m bettong_gateway`, configured by the environment; a member of a cluster if that names an etcd."""

import asyncio
import os
import sys

from bettong_gateway.config import GatewayConfig, load_config
from bettong_gateway.serve import serve
from bettong_gateway.server_app import Addresses
from bettong_kit.lifecycle import run_service
from bettong_kit.logging import get_logger

_log = get_logger("main")
_ETCD_VARIABLE = "BETTONG_ETCD"


async def _serve(stop: asyncio.Event) -> None:
    await (_serve_member(stop) if os.environ.get(_ETCD_VARIABLE) else serve(load_config({}), stop, _announce))


async def _serve_member(stop: asyncio.Event) -> None:
    # One process needs nothing of this.
    from bettong_gateway import cluster  # noqa: PLC0415 - see above
    from bettong_kit.membership.settings import load_member_settings  # noqa: PLC0415 - see above

    config, settings = load_member_settings(GatewayConfig, {}, os.environ)
    await cluster.serve(config, settings, stop, _announce)


def _announce(addresses: Addresses) -> None:
    _log.info("ready", data=addresses.data, control=addresses.control, metrics=addresses.metrics)


if __name__ == "__main__":
    sys.exit(run_service(_serve))
