"""What a request costs when its cluster has grown: many members, many pipelines."""

import asyncio
import contextlib
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bettong
from bench import points
from bench.checking import HOST, check
from bench.load import Target, generate
from bench.processes import ServerError, cpu_of, free_port, pinned, running
from bench.results import Figure, Results
from bench.serving import Settings
from bench.workload import MODEL_NAME, Workload
from bettong_kit.etcd.client import EtcdClient
from bettong_kit.etcd.settings import EtcdSettings
from bettong_kit.logging import configure_logging
from bettong_kit.membership.announcing import Announcement
from bettong_kit.membership.members import Member

MEMBERS = 200
PIPELINES = 1_000
_CLUSTER = "local"
_POINT = "c16"
_START_TIMEOUT_S = 60.0
_LEASE_S = 60
_DEPLOYERS = 8
_QUIET_SHARE = 0.02
"""Of a core: beats, looks and reports of three members at rest take 1.5 %."""
_ROLES = frozenset({"gateway", "router", "executor"})


@dataclass(frozen=True, slots=True)
class _Members:
    """The gateway, the router and the executor of a cluster."""

    folder: Path

    def cpu_s(self) -> float:
        """Return their CPU seconds; etcd and the supervisor are left out."""
        return cpu_of(member["pid"] for member in self._status()["members"] if member["role"] in _ROLES)

    def etcd(self) -> str:
        """Return the address of etcd."""
        return str(self._status()["etcd"])

    def _status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads((self.folder / "cluster.json").read_text())
        return status


def grown(workload: Workload, settings: Settings, results: Results) -> None:
    """Measure a cluster of three, one of many members, and one of many pipelines besides."""
    point = points.point(_POINT)
    call = point.build(workload, point.rows)
    with _cluster(workload, settings) as (members, port):
        target = Target(members, port, settings.cores.client, settings.seconds)

        def cost() -> float:
            check(call, port, workload)
            # The least of three: noise only adds.
            return min(generate(call, target, point.connections).cpu_us for _ in range(3))

        small = cost()
        with _announced(members.etcd(), MEMBERS - 3):
            large = cost()
            began = time.perf_counter()
            _deploy_many(port)
            took_s = time.perf_counter() - began
            _wait_until_quiet(members)
            full = cost()
    results.figures += [
        Figure(f"{MEMBERS} members, CPU of a request grows", (large / small - 1) * 100, "%", "<= 5"),
        Figure(f"and {PIPELINES:,} pipelines in the cluster", (full / small - 1) * 100, "%", "<= 5"),
        Figure("one deployment in the cluster, on average", took_s / PIPELINES * 1e3, "ms"),
    ]


@contextlib.contextmanager
def _cluster(workload: Workload, settings: Settings) -> Iterator[tuple[_Members, int]]:
    with tempfile.TemporaryDirectory(prefix="bench-cluster-", ignore_cleanup_errors=True) as name:
        port, folder = free_port(), Path(name)
        command = [sys.executable, "-m", "bench.chain", str(workload.path), str(port), str(folder), "1"]
        with running(pinned(settings.cores.server, command), log=folder / "log") as server:
            server.wait_until(lambda: _serves(port), _START_TIMEOUT_S)
            yield _Members(folder / "cluster"), port


def _serves(port: int) -> bool:
    try:
        with bettong.Client(f"http://{HOST}:{port}") as client:
            return bool(client.get_pipeline(MODEL_NAME).status()["status"] == "Running")
    except bettong.BettongError:
        return False


@contextlib.contextmanager
def _announced(etcd: str, count: int) -> Iterator[None]:
    """Announce executors that drain, so that nothing is given to them: members for everybody to know of."""
    stop, ready = threading.Event(), threading.Event()

    configure_logging(level="warning", style="auto")

    async def announce() -> None:
        client = EtcdClient(EtcdSettings((etcd,)))
        made = [
            Member("executor", f"simulated-{number}", f"{HOST}:1", "0.1.0", {"lanes": 1}, draining=True)
            for number in range(count)
        ]
        announcements = [Announcement(client, _CLUSTER, member, ttl_s=_LEASE_S) for member in made]
        for announcement in announcements:
            await announcement.join()
        keeping = [asyncio.create_task(announcement.run()) for announcement in announcements]
        ready.set()
        await asyncio.to_thread(stop.wait)
        for task in keeping:
            task.cancel()
        await client.close()

    thread = threading.Thread(target=lambda: asyncio.run(announce()))
    thread.start()
    ready.wait(_START_TIMEOUT_S)
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _wait_until_quiet(members: _Members) -> None:
    """Return when the members have nothing left to do about what was deployed."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    before = members.cpu_s()
    while time.monotonic() < deadline:
        time.sleep(1)
        now = members.cpu_s()
        if now - before < _QUIET_SHARE:
            return
        before = now
    raise ServerError("the members do not come to rest after many deployments")


def _deploy_many(port: int) -> None:
    with bettong.Client(f"http://{HOST}:{port}") as client:
        model = client.get_model(MODEL_NAME)

        def deploy(number: int) -> None:
            client.build_pipeline(f"{MODEL_NAME}-{number}").add_model_step(model).deploy()

        with ThreadPoolExecutor(_DEPLOYERS) as threads:
            list(threads.map(deploy, range(1, PIPELINES)))
