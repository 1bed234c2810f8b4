"""Real etcd servers, started, paused, killed and ended by a test."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from networks import Network

from bettong._cluster import plan
from bettong_kit.errors import BettongError
from bettong_kit.etcd.client import EtcdClient
from bettong_kit.etcd.pb import rpc_pb2, rpc_pb2_grpc
from bettong_kit.etcd.settings import EtcdSettings

START_TIMEOUT_S = 20.0


def etcd_program() -> str:
    """Return the path of etcd; skip where there is none."""
    found = shutil.which("etcd") or shutil.which("etcd", path="/usr/bin")
    if found is None:
        pytest.skip("etcd is not here (Debian: apt-get install etcd-server)")
    return found


@dataclass
class EtcdServer:
    """One server on ports and in a folder of its own."""

    name: str
    folder: Path
    client_port: int
    peer_port: int
    flags: Sequence[str] = ()
    host: str = "127.0.0.1"
    within: Sequence[str] = ()
    """What its command begins with, where it runs in a network namespace."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"{self.host}:{self.client_port}"

    @property
    def peer(self) -> str:
        return f"{self.name}=http://{self.host}:{self.peer_port}"

    def start(self, peers: str) -> None:
        """Start it with what its folder has."""
        scheme = "https" if any("--cert-file" in flag for flag in self.flags) else "http"
        urls = f"{scheme}://{self.endpoint}", f"http://{self.host}:{self.peer_port}"
        with (self.folder.parent / f"{self.name}.log").open("ab") as log:
            command = [
                *(*self.within, etcd_program()),
                *("--name", self.name, "--data-dir", str(self.folder)),
                *("--listen-client-urls", urls[0], "--advertise-client-urls", urls[0]),
                *("--listen-peer-urls", urls[1], "--initial-advertise-peer-urls", urls[1]),
                *("--initial-cluster", peers, "--initial-cluster-state", "new"),
                # Short, so that an election takes parts of a second.
                *("--heartbeat-interval", "50", "--election-timeout", "500"),
                *self.flags,
            ]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        """End it as a crash does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        """Stop it without ending it: connections stay open and nothing answers."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)


@dataclass
class EtcdCluster:
    """Servers that know each other."""

    servers: list[EtcdServer] = field(default_factory=list)

    @property
    def peers(self) -> str:
        return ",".join(server.peer for server in self.servers)

    def settings(self, **changes: object) -> EtcdSettings:
        """Return how to reach it."""
        return EtcdSettings(tuple(server.endpoint for server in self.servers), **changes)  # type: ignore[arg-type]

    def start(self, *servers: EtcdServer) -> None:
        """Start some of the servers, or all."""
        for server in servers or self.servers:
            server.start(self.peers)

    async def leader(self) -> EtcdServer:
        """Ask each server who leads until one knows."""
        async with asyncio.timeout(START_TIMEOUT_S):
            while True:
                for server in self.servers:
                    status = await _status(server)
                    if status is not None and status.leader and status.leader == status.header.member_id:
                        return server
                await asyncio.sleep(0.05)

    async def until_whole(self) -> None:
        """Wait until every server knows who leads: then a majority is left when one dies."""
        async with asyncio.timeout(START_TIMEOUT_S):
            for server in self.servers:
                while (status := await _status(server)) is None or not status.leader:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.05)


async def _status(server: EtcdServer) -> rpc_pb2.StatusResponse | None:
    from grpc import aio

    async with aio.insecure_channel(server.endpoint) as channel:
        with contextlib.suppress(aio.AioRpcError):
            return await rpc_pb2_grpc.MaintenanceStub(channel).Status(rpc_pb2.StatusRequest(), timeout=0.5)
    return None


@contextlib.contextmanager
def etcd_processes(
    folder: Path, size: int = 1, *, flags: Sequence[str] = (), network: Network | None = None
) -> Iterator[EtcdCluster]:
    """Run some servers, each in a place of its own where there is a network, and end them, however the block ends."""
    etcd_program()
    folder.mkdir(parents=True, exist_ok=True)
    ports = free_ports(2 * size)
    cluster = EtcdCluster(
        [
            EtcdServer(f"n{index}", folder / f"n{index}", ports[2 * index], ports[2 * index + 1], flags)
            for index in range(size)
        ]
    )
    if network is not None:
        for server in cluster.servers:
            place = network.add(f"etcd-{server.name}")
            server.host, server.within = place.address, place.within
    try:
        cluster.start()
        yield cluster
    finally:
        for server in cluster.servers:
            server.kill()


@contextlib.asynccontextmanager
async def etcd_cluster(folder: Path, size: int = 1, *, network: Network | None = None) -> AsyncIterator[EtcdCluster]:
    """Run some servers that answer."""
    with etcd_processes(folder, size, network=network) as cluster:
        await until_ready(cluster.settings())
        yield cluster


async def until_ready(settings: EtcdSettings) -> None:
    """Wait until reads are answered."""
    client = EtcdClient(settings)
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while True:
                with contextlib.suppress(BettongError):
                    await client.get("ready")
                    return
    finally:
        await client.close()


@contextlib.asynccontextmanager
async def emptied_client(settings: EtcdSettings) -> AsyncIterator[EtcdClient]:
    """Open a client and remove every key."""
    client = EtcdClient(settings)
    try:
        await until_ready(settings)
        await client.connection.endpoint.kv.DeleteRange(rpc_pb2.DeleteRangeRequest(key=b"\0", range_end=b"\0"))
        yield client
    finally:
        await client.close()


_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, none of them twice: who has one may not have bound it yet, or be dead for a moment.

    No connection is given one of them meanwhile.
    """
    found: list[int] = []
    while len(found) < count:
        new = [port for port in plan.free_ports("127.0.0.1", count - len(found)) if port not in _given]
        _given.update(new)
        found += new
    return found
