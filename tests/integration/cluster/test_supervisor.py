"""A local cluster of a real etcd and members that only behave like some."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes.etcd import etcd_program

from bettong._cluster.plan import CLUSTER, ClusterPlan
from bettong._cluster.state import ask_to_start, read_status
from bettong._cluster.supervisor import Supervisor
from bettong_kit.errors import DataFolderError, StartError
from bettong_kit.etcd.client import EtcdClient
from bettong_kit.etcd.settings import EtcdSettings
from bettong_kit.membership.clusters import find_cluster

pytestmark = pytest.mark.slow

MEMBER = Path(__file__).parents[2] / "fakes/member.py"
FEW = {"gateways": 1, "routers": 1, "executors": 2, "port": 0, "drain_timeout_s": 5.0}


@dataclass
class Run:
    """A supervisor under test."""

    supervisor: Supervisor
    stop: asyncio.Event
    lines: list[tuple[str, str]]
    said: asyncio.Event

    async def until_said(self, text: str) -> None:
        """Wait until the supervisor has said something of that kind."""
        while not any(name == "cluster" and text in line for name, line in self.lines):
            self.said.clear()
            await self.said.wait()

    def pids(self) -> dict[str, int | None]:
        return {child.name: child.pid for child in self.supervisor.children}


def _plan(folder: Path, **changes: object) -> ClusterPlan:
    return ClusterPlan(data=folder, **(FEW | changes))  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def cluster(plan: ClusterPlan, *flags: str) -> AsyncIterator[Run]:
    """Run a cluster inside the block, from when it is ready; stop it at the end."""
    lines: list[tuple[str, str]] = []
    said, ready = asyncio.Event(), asyncio.Event()

    def say(name: str, line: str) -> None:
        lines.append((name, line))
        said.set()

    program = [sys.executable, str(MEMBER), *flags]
    supervisor = Supervisor(plan, Path(etcd_program()), say=say, member_program=program)
    run = Run(supervisor, asyncio.Event(), lines, said)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(supervisor.run(run.stop, ready.set))
        await asyncio.wait((running, tasks.create_task(ready.wait())), return_when=asyncio.FIRST_COMPLETED)
        yield run
        run.stop.set()


async def test_everything_is_started_and_ends_in_order(tmp_path: Path) -> None:
    """Gateways drain first, then routers, executors; etcd is the last. No process is left."""
    async with cluster(_plan(tmp_path)) as run:
        found = read_status(tmp_path)
        assert [member.name for member in found.members] == [
            "etcd",
            "executor-1",
            "executor-2",
            "router-1",
            "gateway-1",
        ]
        assert {member.state for member in found.members} == {"ready"}
        assert found.url == run.supervisor.urls[0]
        pids = [pid for pid in run.pids().values() if pid]
        client = EtcdClient(EtcdSettings((found.etcd,)))
        identity = await find_cluster(client, CLUSTER)
        await client.close()
    drained = [name for name, line in run.lines if "drained" in line]
    assert drained[:2] == ["gateway-1", "router-1"]
    assert set(drained[2:]) == {"executor-1", "executor-2"}
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    async with cluster(_plan(tmp_path)) as run:
        client = EtcdClient(EtcdSettings((run.supervisor.etcd,)))
        assert await find_cluster(client, CLUSTER) == identity
        await client.close()


async def test_etcd_and_members_come_back(tmp_path: Path) -> None:
    """Etcd at the address that the members know."""
    async with cluster(_plan(tmp_path)) as run:
        etcd = run.supervisor.etcd
        for name in ("etcd", "executor-2"):
            child = next(child for child in run.supervisor.children if child.name == name)
            before = child.pid
            assert before
            os.kill(before, signal.SIGKILL)
            await run.until_said(f"{name} was ended by SIGKILL")
            await child.ready.wait()
            assert child.pid not in {None, before}
        client = EtcdClient(EtcdSettings((etcd,)))
        await find_cluster(client, CLUSTER)
        await client.close()


async def test_a_folder_in_use_is_refused_in_one_line(tmp_path: Path) -> None:
    """Nothing is started, and the first cluster goes on."""
    async with cluster(_plan(tmp_path)) as run:
        with pytest.raises(DataFolderError, match=f"is used by another server .pid {os.getpid()}"):
            await Supervisor(_plan(tmp_path), Path(etcd_program()), say=lambda *_: None).run(
                asyncio.Event(), lambda: None
            )
        assert None not in run.pids().values()


async def test_a_member_that_cannot_start_ends_the_start(tmp_path: Path) -> None:
    """With its reason, and nothing is left."""
    supervisor = Supervisor(
        _plan(tmp_path),
        Path(etcd_program()),
        say=lambda *_: None,
        member_program=[sys.executable, str(MEMBER), "--fail"],
    )
    with pytest.raises(StartError, match=r"(executor|router|gateway)-\d cannot start: it is made to"):
        await supervisor.run(asyncio.Event(), lambda: None)
    assert {child.pid for child in supervisor.children} == {None}


async def test_a_start_can_be_interrupted(tmp_path: Path) -> None:
    """While members are not ready: everything ends as later."""
    supervisor = Supervisor(
        _plan(tmp_path),
        Path(etcd_program()),
        say=lambda _name, line: stop.set() if "of role gateway" in line else None,
        member_program=[sys.executable, str(MEMBER), "--mute"],
    )
    stop = asyncio.Event()
    await supervisor.run(stop, lambda: pytest.fail("it cannot be ready"))
    assert {child.pid for child in supervisor.children} == {None}


async def test_a_stopped_member_is_started_when_asked(tmp_path: Path) -> None:
    """By another process, through the folder."""
    async with cluster(_plan(tmp_path)) as run:
        child = next(child for child in run.supervisor.children if child.name == "router-1")
        assert child.pid
        os.kill(child.pid, signal.SIGTERM)
        await run.until_said("router-1 has stopped")
        ask_to_start(tmp_path, read_status(tmp_path), "router-1")
        await child.ready.wait()
