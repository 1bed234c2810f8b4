"""Saying what a member runs: as often as others need it, and no oftener."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
from fakes.clock import ManualClock

from bettong.internal.v1 import cluster_pb2
from bettong_domain.deployments import ReplicaState
from bettong_domain.hosts import Running
from bettong_domain.pipelines import PipelineKey
from bettong_kit.errors import CoordinationLostError
from bettong_kit.etcd.client import Guarded
from bettong_kit.membership.members import Member
from bettong_serving import reporting
from bettong_serving.reporting import Reporter
from bettong_serving.sight import host_of

P1 = PipelineKey("p", 1)
READY = {P1: Running(ReplicaState.READY)}
FAILED = {P1: Running(ReplicaState.FAILED, "damaged")}


@dataclass
class Etcd:
    """Remembers what is written, and under which lease."""

    clock: ManualClock = field(default_factory=ManualClock)
    written: list[tuple[int, cluster_pb2.MemberReport]] = field(default_factory=list)
    away: bool = False
    refused: int = 0

    @property
    def connection(self) -> Any:
        return SimpleNamespace(clock=self.clock)

    async def commit(self, change: Guarded) -> None:
        if self.away:
            self.refused += 1
            raise CoordinationLostError("etcd did not answer")
        ((key, value),) = change.leased.items()
        assert key == "/bettong/c/running/executor/e1"
        self.written.append((change.lease, cluster_pb2.MemberReport.FromString(value)))


@dataclass
class Reporting:
    """A reporter under test."""

    etcd: Etcd
    announcement: SimpleNamespace
    reporter: Reporter

    async def when(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not holds():  # noqa: ASYNC110 - the reporter looks by time
                await asyncio.sleep(0.001)

    async def say(self, revision: int, running: dict[PipelineKey, Running], *, writes: int) -> cluster_pb2.MemberReport:
        """Publish, and wait until so many reports were written in all, and no more."""
        self.reporter.publish(revision, running)
        await self.when(lambda: not self.reporter._wake.is_set() and len(self.etcd.written) >= writes)
        assert len(self.etcd.written) == writes
        return self.etcd.written[-1][1]


@pytest.fixture
async def reports(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Reporting]:
    """Run a reporter that looks often."""
    monkeypatch.setattr(reporting, "_LOOK_S", 0.005)
    etcd = Etcd()
    announcement = SimpleNamespace(lease=7, member=Member("executor", "e1", "h:1", "1", epoch=3))
    reporter = Reporter(etcd, "c", announcement)  # type: ignore[arg-type]  # what it uses of them
    running = asyncio.create_task(reporter.run())
    yield Reporting(etcd, announcement, reporter)
    assert not running.done()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_a_report_is_read_as_it_was_said(reports: Reporting) -> None:
    """States and reasons, for as long as the process is the one that said it."""
    said = await reports.say(5, FAILED, writes=1)
    host = host_of(reports.announcement.member, said)
    assert (host.reported, host.acted_on, dict(host.running)) == (True, 5, FAILED)
    later = host_of(replace(reports.announcement.member, epoch=4), said)
    assert (later.reported, dict(later.running)) == (False, {})


async def test_a_revision_alone_is_no_news(reports: Reporting) -> None:
    """Hundreds of members do not write at each change of anything; what failed is told at once, and all of it sometime."""
    await reports.say(1, READY, writes=1)
    await reports.say(2, READY, writes=1)
    reports.etcd.clock.advance(10)
    assert (await reports.say(3, READY, writes=2)).desired_revision == 3
    await reports.say(4, FAILED, writes=3)
    assert (await reports.say(5, FAILED, writes=4)).desired_revision == 5


async def test_a_new_lease_gets_the_report_again(reports: Reporting) -> None:
    """Whoever lost its lease says at once what it runs, in its new epoch, also when that is known later than the lease."""
    await reports.say(1, READY, writes=1)
    reports.announcement.lease = 8
    await reports.when(lambda: len(reports.etcd.written) == 2)
    reports.announcement.member = replace(reports.announcement.member, epoch=9)
    await reports.when(lambda: len(reports.etcd.written) == 3)
    assert [(lease, report.epoch) for lease, report in reports.etcd.written] == [(7, 3), (8, 3), (8, 9)]


async def test_what_could_not_be_written_is_written_later(reports: Reporting) -> None:
    """While etcd is away the newest waits."""
    reports.etcd.away = True
    reports.reporter.publish(1, READY)
    told = asyncio.create_task(reports.reporter.told())
    await reports.when(lambda: reports.etcd.refused > 1)
    assert not told.done()
    reports.etcd.away = False
    await reports.when(lambda: bool(reports.etcd.written))
    assert reports.etcd.written[0][1].desired_revision == 1
    await asyncio.wait_for(told, 5)
