"""What an executor does: it follows the cluster, runs what is assigned to it, and says so."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from bettong_domain.hosts import EXECUTOR
from bettong_executor.assigned import Assigner
from bettong_executor.hosting import Hosting
from bettong_kit.clock import Clock
from bettong_serving.following import follow
from bettong_serving.reporting import Reports
from bettong_serving.sight import Sight


class ExecutorApp:
    """Runs what is assigned. `run` is its one task."""

    def __init__(
        self,
        sight: Sight,
        hosting: Hosting,
        reports: Reports,
        *,
        assigner: Assigner,
        sweep: Callable[[], Awaitable[None]],
        clock: Clock,
    ) -> None:
        """Prepare.

        Args:
            sight: What is known of the cluster.
            hosting: What is here.
            reports: Whom it is said to.
            assigner: Computes what is assigned.
            sweep: Removes files that nothing needs any more.
            clock: Measures looks.
        """
        self._clock = clock
        self._sight = sight
        self._hosting = hosting
        self._reports = reports
        self._assigner = assigner
        self._sweep = sweep
        self._left = asyncio.Event()
        self._looked = asyncio.Event()
        self._dispensable = asyncio.Event()

    async def run(self) -> None:
        """Look after each change until cancelled.

        Cancellation:
            Loads are given up; what is hosted is hosted on.
        """
        async with asyncio.TaskGroup() as tasks:
            await follow(self._sight, partial(self._look, tasks), pause_s=self._hosting.pause_s, clock=self._clock)

    async def ready(self) -> None:
        """Wait until it is known what is assigned, and said that it is being brought up."""
        await self._looked.wait()
        await self._reports.told()

    async def dispensable(self) -> None:
        """Wait until everybody knows that we leave, and others are ready for all that they shall run instead."""
        # Set, too, before we had joined.
        self._dispensable.clear()
        self._sight.nudge()
        await self._dispensable.wait()

    def leave(self) -> None:
        """Say that everything here will go; nothing new is begun."""
        self._left.set()
        self._hosting.leave()
        self._reports.publish(self._sight.desired.revision, self._hosting.running())

    async def _look(self, tasks: asyncio.TaskGroup) -> None:
        if self._left.is_set():
            return
        assigned = self._assigner.assign(self._sight.desired, self._sight.members.members)
        hosts = {host.name: host for host in self._sight.hosts() if host.role == EXECUTOR}
        let_go = await self._hosting.look(assigned, hosts, tasks)
        if self._left.is_set():
            return
        self._reports.publish(assigned.revision, self._hosting.running())
        if (assigned.draining or not assigned.joined) and self._hosting.is_dispensable(assigned, hosts):
            self._dispensable.set()
        if let_go or not self._looked.is_set():
            await self._sweep()
        if assigned.joined:
            self._looked.set()
