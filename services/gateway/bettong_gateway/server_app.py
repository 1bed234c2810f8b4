"""Use cases of the process itself: what it is, how it does, how much it says."""

import os
from dataclasses import dataclass
from pathlib import Path

from bettong.v1 import server_pb2
from bettong_catalog import converters
from bettong_gateway.deployment_app import DeploymentApp
from bettong_gateway.engine import Engine, engine_version, set_engine_log_level
from bettong_kit.clock import Clock
from bettong_kit.lifecycle import Lifecycle
from bettong_kit.logging import get_logger, set_log_level

_log = get_logger("server")


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a server listens, each as `host:port`."""

    data: str
    control: str
    metrics: str


class ServerApp:
    """The process."""

    def __init__(
        self,
        engine: Engine,
        deployments: DeploymentApp,
        *,
        lifecycle: Lifecycle,
        folder: Path,
        control_address: str,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._deployments = deployments
        self._lifecycle = lifecycle
        self._folder = folder
        self._control_address = control_address
        self._clock = clock
        self._started_s = clock.monotonic_s()

    async def status(self) -> server_pb2.GetStatusResponse:
        """Return what the process is and how it does."""
        counters = self._engine.status()
        deployments = await self._deployments.list_deployments()
        return server_pb2.GetStatusResponse(
            version=engine_version(),
            state=self._lifecycle.state.name,
            data_address=counters.data_address,
            control_address=self._control_address,
            metrics_address=counters.metrics_address,
            data_path=str(self._folder.resolve()),
            pid=os.getpid(),
            lanes=counters.lanes,
            uptime_s=self._clock.monotonic_s() - self._started_s,
            deployments=map(converters.deployment_to_pb, deployments),
            answered=counters.answered,
            refused=counters.refused,
            failed=counters.failed,
            in_flight=counters.in_flight,
            runtimes=self._engine.runtimes(),
        )

    def addresses(self) -> Addresses:
        """Return where the process listens."""
        counters = self._engine.status()
        return Addresses(counters.data_address, self._control_address, counters.metrics_address)

    def set_log_level(self, level: str) -> str:
        """Change the level of every log line of the process and return the one before.

        Raises:
            InvalidArgumentError: The level is unknown.
        """
        previous = set_log_level(level)
        set_engine_log_level(level)
        _log.info("log_level_changed", level=level, previous=previous)
        return previous
