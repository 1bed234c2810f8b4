"""Use cases of the process itself: what it is, how it does, how much it says."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bettong.v1 import server_pb2
from bettong_catalog import converters
from bettong_domain.deployments import DeploymentState
from bettong_gateway.deployment_app import DeploymentApp
from bettong_kit.clock import Clock
from bettong_kit.lifecycle import Lifecycle, State
from bettong_kit.logging import get_logger, set_log_level
from bettong_serving.engine import Engine, engine_version, set_engine_log_level

_log = get_logger("server")


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a server listens, each as `host:port`."""

    data: str
    control: str
    metrics: str


class ClusterView(Protocol):
    """What a process that belongs to a cluster knows about it."""

    @property
    def name(self) -> str:
        """Return the name of the cluster."""

    @property
    def member(self) -> str:
        """Return the name of this process among the gateways."""

    def coordination(self) -> server_pb2.Coordination:
        """Return whether etcd answers."""

    def members(self) -> list[server_pb2.Member]:
        """Return who is in the cluster, ordered by role and name."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the process is."""

    folder: Path
    control_address: str
    cluster: ClusterView | None = None


class ServerApp:
    """The process."""

    def __init__(
        self,
        engine: Engine,
        deployments: DeploymentApp,
        *,
        place: Place,
        lifecycle: Lifecycle,
        clock: Clock,
    ) -> None:
        self._engine = engine
        self._deployments = deployments
        self._lifecycle = lifecycle
        self._folder = place.folder
        self._control_address = place.control_address
        self._clock = clock
        self._cluster = place.cluster
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
            cluster=self._cluster.name if self._cluster else "",
            member=self._cluster.member if self._cluster else "",
            coordination=self._cluster.coordination() if self._cluster else None,
        )

    async def members(self) -> server_pb2.ListMembersResponse:
        """Return who is in the cluster; a process by itself is its only member."""
        if self._cluster is not None:
            return server_pb2.ListMembersResponse(
                cluster=self._cluster.name,
                members=self._cluster.members(),
                coordination=self._cluster.coordination(),
            )
        return server_pb2.ListMembersResponse(members=[await self._alone()])

    async def _alone(self) -> server_pb2.Member:
        counters = self._engine.status()
        states = Counter(deployment.state for deployment in await self._deployments.list_deployments())
        return server_pb2.Member(
            role="server",
            name="local",
            address=counters.data_address,
            control_address=self._control_address,
            version=engine_version(),
            draining=self._lifecycle.state >= State.DRAINING,
            lanes=counters.lanes,
            programs_ready=states[DeploymentState.RUNNING],
            programs_loading=states[DeploymentState.STARTING],
            programs_failed=states[DeploymentState.ERROR],
            outstanding=counters.in_flight,
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
