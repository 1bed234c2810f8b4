"""Starts a whole cluster, keeps it going, and ends it in the right order."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path

from bettong._cluster.child import Child, ChildPlan, Say
from bettong._cluster.etcd import etcd_command
from bettong._cluster.plan import CLUSTER, LOOPBACK, PROGRAM, ClusterPlan, free_ports
from bettong._cluster.state import ChildStatus, ClusterStatus, take_wanted, write_status
from bettong_kit.errors import BettongError, CoordinationLostError, StartError
from bettong_kit.etcd.client import EtcdClient
from bettong_kit.etcd.settings import EtcdSettings
from bettong_kit.membership.clusters import create_cluster
from bettong_serving.data_folder import locked_data_folder

_ETCD_START_S = 60.0
_ETCD_STOP_S = 5.0
_BESIDE_DRAINING_S = 2.0
"""What a member may take to end besides the requests that it answers."""
_PROBE_S = 0.05
_PROBE_TIMEOUT_S = 2.0
_PATIENCE_S = 15.0
"""After this it is said who is not ready, and again after as long."""


class Supervisor:
    """All processes of a local cluster. `run` is its only owner."""

    def __init__(
        self, plan: ClusterPlan, etcd_program: Path, *, say: Say, member_program: Sequence[str] = PROGRAM
    ) -> None:
        """Prepare to run.

        Args:
            plan: What to run.
            etcd_program: Path of etcd.
            say: Takes each line of each member.
            member_program: What the command of each member begins with.
        """
        self._plan = plan
        self._etcd_program = etcd_program
        self._member_program = member_program
        self._say = say
        self._folder = plan.data
        self._ports: list[tuple[int, ...]] = []
        self.children: list[Child] = []
        """All that were started; etcd is the first."""
        self.etcd = ""
        """Address of etcd."""

    @property
    def urls(self) -> list[str]:
        """Return where the gateways take requests."""
        return [f"http://{self._plan.host}:{data}" for data, *_ in self._ports]

    async def run(self, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
        """Start everything, serve until *stop* is set, and end gateways, routers, executors, etcd in this order.

        Raises:
            StartError: The folder or a port is taken, or a member cannot start.

        Cancellation:
            Ends everything in the same order.
        """
        try:
            async with contextlib.AsyncExitStack() as stack:
                self._folder = stack.enter_context(locked_data_folder(self._plan.data))
                self._ports = self._plan.gateway_ports()
                asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._start_wanted)
                await self._start(stack, stop, on_ready)
        except* BettongError as group:
            raise _first(group) from None

    def kill(self) -> None:
        """End all processes at once."""
        for child in self.children:
            child.kill()

    async def _start(self, stack: contextlib.AsyncExitStack, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
        client_port, peer_port = free_ports(LOOPBACK, 2)
        self.etcd = f"{LOOPBACK}:{client_port}"
        client = EtcdClient(EtcdSettings((self.etcd,)))
        stack.push_async_callback(client.close)
        etcd = Child(self._etcd_plan(client, client_port, peer_port), say=self._say, on_change=self._write)
        await self._run_children(stack, [etcd], _ETCD_STOP_S)
        if not await _unless(stop, etcd.ready.wait()):
            return
        for role, plans in self._plan.members(self.etcd, self._ports, program=self._member_program).items():
            members = [Child(plan, say=self._say, on_change=self._write) for plan in plans]
            self._say("cluster", f"starting {len(members)} of role {role}")
            await self._run_children(stack, members, self._plan.drain_timeout_s + _BESIDE_DRAINING_S)
        if await _unless(stop, self._until_ready()):
            on_ready()
            await stop.wait()
        self._say("cluster", "stopping: gateways, routers, executors, etcd")

    async def _run_children(
        self, stack: contextlib.AsyncExitStack, children: Sequence[Child], stop_timeout_s: float
    ) -> None:
        self.children += children
        await stack.enter_async_context(running(children, stop_timeout_s=stop_timeout_s))

    def _etcd_plan(self, client: EtcdClient, client_port: int, peer_port: int) -> ChildPlan:
        folder = self._folder.absolute() / "etcd"
        command = etcd_command(self._etcd_program, folder, host=LOOPBACK, client_port=client_port, peer_port=peer_port)
        # etcd takes every flag as a variable, too, and those of the user's environment mean another one.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
        return ChildPlan(
            "etcd", "etcd", command, self._plan.log("etcd"), environment, probe=lambda: self._until_etcd(client)
        )

    async def _until_etcd(self, client: EtcdClient) -> dict[str, str]:
        try:
            async with asyncio.timeout(_ETCD_START_S):
                while True:
                    with contextlib.suppress(CoordinationLostError):
                        await create_cluster(client, CLUSTER)
                        return {"address": self.etcd}
        except TimeoutError as error:
            raise StartError(
                f"etcd has not answered within {_ETCD_START_S:g} s; see {self._plan.log('etcd')}"
            ) from error

    async def _until_ready(self) -> None:
        """Wait until every member is ready, and the gateways say that the cluster is."""
        while True:
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    for child in self.children:
                        await child.ready.wait()
                    for data, *_ in self._ports:
                        await _until_ready_at(self._plan.host, data)
                    return
            except TimeoutError:
                waited = [f"{child.name} ({child.state.value})" for child in self.children if not child.ready.is_set()]
                self._say("cluster", f"waiting for {', '.join(waited) or 'the gateways to be ready'}")

    def _start_wanted(self) -> None:
        name = take_wanted(self._folder)
        for child in self.children:
            if child.name == name:
                child.start()

    def _write(self) -> None:
        members = tuple(
            ChildStatus(
                child.name,
                child.role,
                child.state.value,
                child.pid,
                child.addresses.get("data") or child.addresses.get("address", ""),
                child.restarts,
            )
            for child in self.children
        )
        url = self.urls[0] if self._ports else ""
        # A full disk must not end what serves; the next change is written again.
        with contextlib.suppress(OSError):
            write_status(self._folder, ClusterStatus(os.getpid(), url, self.etcd, members))


@contextlib.asynccontextmanager
async def running(children: Sequence[Child], *, stop_timeout_s: float) -> AsyncIterator[None]:
    """Run children inside the block; stop all of them at once on leaving it."""
    async with asyncio.TaskGroup() as tasks:
        for child in children:
            tasks.create_task(child.run(), name=child.name)
        try:
            yield
        finally:
            await asyncio.gather(*(child.stop(stop_timeout_s) for child in children))


async def _unless(stop: asyncio.Event, work: Coroutine[None, None, object]) -> bool:
    """Do *work* until it is done or *stop* is set; return whether it is done."""
    doing, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((doing, stopping), return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            await doing
        return doing.done()
    finally:
        stopping.cancel()
        doing.cancel()
        await asyncio.wait((doing, stopping))


async def _until_ready_at(host: str, port: int) -> None:
    while True:
        if await _is_ready_at(host, port):
            return
        await asyncio.sleep(_PROBE_S)


async def _is_ready_at(host: str, port: int) -> bool:
    """Ask a gateway whether it is ready."""
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"GET /readyz HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n\r\n".encode())
                status = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return False
    return b" 200 " in status


def _first(group: BaseExceptionGroup[BettongError]) -> BettongError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
