"""Saying what this member runs: a report under the lease of its announcement, written when it changes."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Protocol

from bettong.internal.v1 import cluster_pb2
from bettong_domain.deployments import ReplicaState
from bettong_domain.hosts import Running
from bettong_domain.pipelines import PipelineKey
from bettong_kit.errors import BettongError
from bettong_kit.etcd.client import EtcdClient, Guarded
from bettong_kit.logging import get_logger
from bettong_kit.membership.announcing import Announcement
from bettong_serving.sight import running_prefix

_log = get_logger("cluster")
_LOOK_S = 0.5
"""How often it is looked whether the lease was made anew, and how long is waited after a failure."""
_QUIET_S = 5.0
"""How long a report may wait that differs only in the revision: hundreds of members must not write at each change of anything."""
_STATES = {
    ReplicaState.LOADING: cluster_pb2.ProgramReport.LOADING,
    ReplicaState.READY: cluster_pb2.ProgramReport.READY,
    ReplicaState.FAILED: cluster_pb2.ProgramReport.FAILED,
    ReplicaState.LEAVING: cluster_pb2.ProgramReport.LEAVING,
}


class Reports(Protocol):
    """Whom a member tells what it runs."""

    def publish(self, revision: int, running: Mapping[PipelineKey, Running]) -> None:
        """Have this told soon, unless it is what was told last.

        Args:
            revision: Of desired state, that was acted on.
            running: What is run.
        """

    async def told(self) -> None:
        """Wait until something was told, so that everybody can know what this member runs."""


class Reporter:
    """Writes the newest report, and again when the lease was made anew. One task runs it."""

    def __init__(self, client: EtcdClient, cluster: str, announcement: Announcement) -> None:
        """Prepare to report about a member that is announced."""
        self._client = client
        self._announcement = announcement
        self._prefix = running_prefix(cluster)
        self._newest: cluster_pb2.MemberReport | None = None
        self._clock = client.connection.clock
        self._written: tuple[int, cluster_pb2.MemberReport] | None = None
        self._written_s = 0.0
        self._wake = asyncio.Event()
        self._told = asyncio.Event()

    def publish(self, revision: int, running: Mapping[PipelineKey, Running]) -> None:
        """Have this written soon; see `Reports.publish`."""
        programs = (
            cluster_pb2.ProgramReport(
                pipeline=key.name, version=key.version, state=_STATES[running[key].state], reason=running[key].reason
            )
            for key in sorted(running)
        )
        self._newest = cluster_pb2.MemberReport(desired_revision=revision, programs=programs)
        self._wake.set()

    async def told(self) -> None:
        """Wait until a report was written; see `Reports.told`."""
        await self._told.wait()

    async def run(self) -> None:
        """Write until cancelled; when etcd is away, the newest is written when it is back.

        Cancellation:
            The report ends with the lease.
        """
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._write()
            except BettongError as error:
                _log.warning("report_not_written", reason=error.message)
                await asyncio.sleep(_LOOK_S)

    async def _write(self) -> None:
        member, lease = self._announcement.member, self._announcement.lease
        if self._newest is None or not lease:
            return
        report = cluster_pb2.MemberReport()
        report.CopyFrom(self._newest)
        report.epoch = member.epoch
        if self._is_news(report, lease):
            key = f"{self._prefix}{member.role}/{member.name}"
            await self._client.commit(Guarded(leased={key: report.SerializeToString()}, lease=lease))
            self._written, self._written_s = (lease, report), self._clock.monotonic_s()
            self._told.set()

    def _is_news(self, report: cluster_pb2.MemberReport, lease: int) -> bool:
        """Return whether a report must be written now."""
        if self._written is None or self._written[0] != lease:
            return True
        written = self._written[1]
        if (report.epoch, list(report.programs)) != (written.epoch, list(written.programs)):
            return True
        if report.desired_revision == written.desired_revision:
            return False
        # By the revision others tell an old failure from one of what is asked for now.
        failed = any(program.state == cluster_pb2.ProgramReport.FAILED for program in report.programs)
        return failed or self._clock.monotonic_s() - self._written_s >= _QUIET_S
