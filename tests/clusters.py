"""A cluster of real processes, each of which a test can kill, pause, stop and start again."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fakes.etcd import EtcdCluster, etcd_cluster, free_ports
from networks import Network
from servers import Counts

import bettong

CLUSTER = "default"
_READY_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 40.0
"""A drain may take 30 s."""


@dataclass
class Role:
    """One member, whose process may come and go."""

    role: str
    name: str
    port: int
    metrics_port: int
    command: list[str]
    log: Path
    host: str = "127.0.0.1"
    process: asyncio.subprocess.Process | None = None
    lines: list[dict[str, Any]] = field(default_factory=list)
    """What the present process has logged."""
    last: str = ""
    """The last line, whatever it is."""
    _reading: asyncio.Task[None] | None = None
    _heard: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def counts(self) -> Counts:
        """Read its metrics page."""
        with contextlib.closing(http.client.HTTPConnection(self.host, self.metrics_port, timeout=10)) as connection:
            connection.request("GET", "/metrics")
            return Counts(connection.getresponse().read().decode())

    async def start(self) -> "Role":
        """Start the process and wait until it says that it is ready."""
        self.lines.clear()
        self.process = await asyncio.create_subprocess_exec(
            *self.command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, limit=1 << 20
        )
        self._reading = asyncio.create_task(self._read(self.process))
        async with asyncio.timeout(_READY_TIMEOUT_S):
            while not any(line.get("event") == "ready" for line in self.lines):
                if self.process.returncode is not None:
                    raise EOFError(f"{self.role} {self.name} ended with {self.process.returncode}: {self.last!r}")
                self._heard.clear()
                await self._heard.wait()
        return self

    async def kill(self) -> None:
        """End it as a crash does."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """Ask it to end and return its exit code."""
        return await self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Stop it without ending it."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    async def _end(self, how: signal.Signals) -> int:
        if self.process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(how)
        async with asyncio.timeout(_STOP_TIMEOUT_S):
            code = await self.process.wait()
        if self._reading is not None:
            await self._reading
        self.process = None
        return code

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        with self.log.open("ab") as log:
            while raw := await process.stdout.readline():
                log.write(raw)
                log.flush()
                self.last = raw.decode(errors="replace").rstrip()
                with contextlib.suppress(ValueError):
                    line = json.loads(raw)
                    if isinstance(line, dict):
                        self.lines.append(line)
                self._heard.set()
        await process.wait()
        self._heard.set()


@dataclass
class TestedCluster:
    """Members by name, and the etcd that they share."""

    folder: Path
    etcd: EtcdCluster
    network: Network | None = None
    """Where each member has a place of its own, named as it is."""
    blobs: str = ""
    """Place of the model files where it is no folder of the test."""
    members: dict[str, Role] = field(default_factory=dict)
    _clients: dict[str, bettong.Client] = field(default_factory=dict)

    __test__ = False

    def of_role(self, role: str) -> list[Role]:
        return [member for member in self.members.values() if member.role == role]

    @property
    def gateways(self) -> list[tuple[str, int]]:
        return [member.address for member in self.of_role("gateway")]

    async def add(self, role: str, name: str, *options: str) -> Role:
        """Start one more member."""
        member = self._member(role, name, *options)
        self.members[name] = member
        return await member.start()

    async def restart(self, member: Role) -> Role:
        """Start a member that has ended."""
        return await member.start()

    async def until_seen(self, *, within_s: float = 20.0) -> None:
        """Wait until every gateway sees all members: for what is deployed before it does, some are not there."""
        for gateway in self.of_role("gateway"):
            await self.until(lambda gateway=gateway: self.sees_all(gateway), within_s=within_s)  # type: ignore[misc]

    def sees_all(self, gateway: Role) -> bool:
        """Return whether a gateway sees all members, and etcd."""
        found = self.client(gateway).members()
        return found.etcd_lost_since is None and {each.name for each in found.members} == set(self.members)

    def client(self, gateway: Role | None = None) -> bettong.Client:
        """Return the one client of a gateway, the first unless it is given."""
        host, port = gateway.address if gateway else self.gateways[0]
        url = f"http://{host}:{port}"
        if url not in self._clients:
            self._clients[url] = bettong.Client(url)
        return self._clients[url]

    def upload(self, name: str, model: bytes) -> bettong.Pipeline:
        """Upload a model and make it the next version of a pipeline, which is not deployed."""
        file = self.folder / f"{name}.onnx"
        file.write_bytes(model)
        uploaded = self.client().upload_model(name, file, framework=bettong.Framework.ONNX)
        pipeline = self.client().build_pipeline(name).add_model_step(uploaded)
        pipeline.create_version()
        return pipeline

    def deploy(self, name: str, model: bytes, *, replicas: int) -> bettong.Pipeline:
        """Upload a model and serve it; returns when it serves."""
        return self.upload(name, model).deploy(deployment_config=_replicas(replicas))

    def swap(self, name: str, version: int, *, replicas: int) -> bettong.Pipeline:
        """Serve a version that is there, on so many replicas; returns when it serves."""
        return self.client().get_pipeline(name, version).deploy(deployment_config=_replicas(replicas))

    def deployment(self, name: str) -> bettong.Deployment:
        """Return how a deployment stands."""
        return next(each for each in self.client().list_deployments() if each.pipeline == name)

    def ready(self, name: str) -> int:
        """Return how many replicas of a deployment are ready."""
        return sum(replica.state == "Ready" for replica in self.deployment(name).replicas)

    async def remove(self, member: Role) -> int:
        """Ask a member to end for good and return its exit code."""
        code = await member.stop()
        del self.members[member.name]
        return code

    async def until(self, holds: Callable[[], bool], *, within_s: float) -> None:
        """Wait until something about the cluster holds."""
        async with asyncio.timeout(within_s):
            while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - other processes cannot set an event
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        """End what is left, those that accept requests first."""
        for client in self._clients.values():
            client.close()
        order = {"gateway": 0, "router": 1, "executor": 2}
        for member in sorted(self.members.values(), key=lambda one: order[one.role]):
            if member.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    member.resume()
                await member.kill()

    def _member(self, role: str, name: str, *options: str) -> Role:
        port, control, metrics = free_ports(3)
        endpoints = ",".join(server.endpoint for server in self.etcd.servers)
        folder = self.folder / name
        place = self.network.add(name) if self.network else None
        command = [
            *(place.within if place else ()),
            *(sys.executable, "-m", "bettong", role),
            *("--etcd", endpoints, "--cluster", CLUSTER, "--name", name),
            *("--port", str(port), "--metrics-port", str(metrics), "--data", str(folder)),
            *("--lanes", "1", "--log-format", "json", *options),
        ]
        if role == "gateway":
            command += ["--control-port", str(control)]
        if role != "router":
            command += ["--blobs", self.blobs or f"file://{self.folder / 'blobs'}"]
        if place is None:
            return Role(role, name, port, metrics, command, self.folder / f"{name}.log")
        # Listening everywhere and saying where, as members on hosts of their own do.
        command += ["--host", "0.0.0.0", "--advertise", place.address]
        return Role(role, name, port, metrics, command, self.folder / f"{name}.log", place.address)


def _replicas(count: int) -> bettong.DeploymentConfig:
    return bettong.DeploymentConfigBuilder().replica_count(count).build()


@contextlib.asynccontextmanager
async def cluster(
    folder: Path,
    *,
    gateways: int = 1,
    routers: int = 2,
    executors: int = 3,
    etcd_size: int = 1,
    network: Network | None = None,
) -> AsyncIterator[TestedCluster]:
    """Run a cluster of real processes; whatever is left at the end of the block is ended."""
    (folder / "blobs").mkdir(parents=True)
    async with etcd_cluster(folder / "etcd", etcd_size, network=network) as etcd:
        tested = TestedCluster(folder, etcd, network)
        try:
            async with asyncio.TaskGroup() as tasks:
                counts = {"gateway": gateways, "router": routers, "executor": executors}
                for role, count in counts.items():
                    options = ["--no-router-inside"] if role == "gateway" and routers else []
                    for index in range(1, count + 1):
                        tasks.create_task(tested.add(role, f"{role}-{index}", *options))
            await tested.until_seen()
            yield tested
        finally:
            await tested.close()
