"""What a router does: it follows the cluster, keeps its table, and says what it can pass on."""

import asyncio

from bettong_domain.deployments import ReplicaState
from bettong_domain.forwarding import answered
from bettong_domain.hosts import Running
from bettong_kit.clock import Clock
from bettong_kit.errors import BettongError
from bettong_kit.logging import get_logger
from bettong_serving.following import follow
from bettong_serving.forwarding import Forwarding
from bettong_serving.reporting import Reports
from bettong_serving.sight import Sight

_log = get_logger("router")


class RouterApp:
    """Forwards by what is seen. `run` is its one task."""

    def __init__(self, sight: Sight, forwarding: Forwarding, reports: Reports, clock: Clock) -> None:
        self._sight = sight
        self._forwarding = forwarding
        self._reports = reports
        self._clock = clock
        self._looked = asyncio.Event()

    async def run(self) -> None:
        """Look after each change until cancelled.

        Cancellation:
            Calls go on by the last table.
        """
        await follow(self._sight, self._look, pause_s=self._forwarding.pause_s, clock=self._clock)

    async def ready(self) -> None:
        """Wait until there is a table, and it is said what can be passed on."""
        await self._looked.wait()
        await self._reports.told()

    async def _look(self) -> None:
        desired = self._sight.desired
        try:
            await self._forwarding.look(desired, self._sight.members.members, self._sight.hosts())
        except BettongError as error:
            _log.error("table_refused", reason=error.message)
            return
        # Gateways send a version here once all routers say that they can pass it on.
        ready = {key: Running(ReplicaState.READY) for key in answered(self._forwarding.seen)}
        self._reports.publish(desired.revision, ready)
        self._looked.set()
