"""Being a member of a cluster: entering it, announcing oneself, following it, and leaving in good order."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from bettong_kit.errors import BettongError, DataFolderError
from bettong_kit.etcd.client import EtcdClient
from bettong_kit.logging import get_logger
from bettong_kit.membership.announcing import Announcement
from bettong_kit.membership.clusters import create_cluster, find_cluster
from bettong_kit.membership.members import Member
from bettong_kit.membership.settings import ClusterSettings
from bettong_serving.ports import Place, Proof
from bettong_serving.reporting import Reporter
from bettong_serving.sight import ClusterSight

_log = get_logger("cluster")
_IDENTITY = "cluster"
"""File of the data folder that says which cluster it belongs to."""
_LEASE = "lease"
"""File of the data folder that says under which lease this process is announced."""
_DEFAULT = ClusterSettings.__dataclass_fields__["cluster"].default
_NOTICE_TIMEOUT_S = 2.0
NOTICE_S = 1.0
"""How long the others have to learn that a member drains before it takes nothing more."""


def place_of(settings: ClusterSettings, role: str) -> Place:
    """Return who a process is to the others of its cluster."""
    ca, cert, key = settings.link_ca, settings.link_cert, settings.link_key
    proof = Proof(ca, cert, key) if ca and cert and key else None
    return Place(settings.cluster, role, settings.member_name, proof)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a member without a control plane listens, each as `host:port`."""

    data: str
    metrics: str


@dataclass(frozen=True, slots=True)
class Membership:
    """A process in its cluster."""

    client: EtcdClient
    announcement: Announcement
    sight: ClusterSight
    reporter: Reporter

    def tasks(self) -> list[Coroutine[Any, Any, None]]:
        """Return what must run for as long as the process is a member."""
        return [self.announcement.run(), self.sight.run(), self.reporter.run()]

    async def announce_draining(self) -> None:
        """Tell the others to send nothing new; when etcd is away, they learn it from the links."""
        draining = replace(self.announcement.member, draining=True)
        with contextlib.suppress(BettongError, TimeoutError):
            async with asyncio.timeout(_NOTICE_TIMEOUT_S):
                await self.announcement.change(draining)


@contextlib.asynccontextmanager
async def entered(settings: ClusterSettings, folder: Path) -> AsyncIterator[tuple[EtcdClient, str]]:
    """Connect to the etcd of a cluster and make sure that it is the one that a data folder belongs to; yield its identity, too.

    A cluster of the default name is made when it is not there; one of another name must be, so that a typo makes no second cluster.

    Raises:
        CoordinationRefusedError: There is no such cluster, or it is another one.
        CoordinationLostError: etcd does not answer.
        DataFolderError: The folder cannot be read or written.
    """
    client = EtcdClient(settings.etcd_settings())
    try:
        if settings.cluster == _DEFAULT:
            await create_cluster(client, settings.cluster)
        identity = await find_cluster(client, settings.cluster, expected=_read(folder / _IDENTITY))
        _write(folder / _IDENTITY, identity)
        yield client, identity
    finally:
        await client.close()


@contextlib.asynccontextmanager
async def announced(
    client: EtcdClient, cluster: str, member: Member, *, folder: Path | None = None
) -> AsyncIterator[Membership]:
    """Join, and leave at the end. What a dead process of the same data folder has left in etcd is removed first.

    Args:
        client: Whose etcd to join in.
        cluster: Name of the cluster.
        member: What to say.
        folder: Data folder that this process holds the lock of, which proves that whoever had it before is dead.

    Raises:
        DataFolderError: The folder cannot be read.
        MemberReplacedError: A live member has the name; names its address.
        CoordinationLostError: etcd does not answer.
    """
    if folder is not None:
        await _end_predecessor(client, folder / _LEASE)
    on_lease = partial(_remember, folder / _LEASE) if folder is not None else None
    announcement = Announcement(client, cluster, member, on_lease=on_lease)
    await announcement.join()
    try:
        yield Membership(client, announcement, ClusterSight(client, cluster), Reporter(client, cluster, announcement))
    finally:
        await announcement.leave()


async def run_until(
    stop: asyncio.Event,
    tasks: Sequence[Coroutine[Any, Any, None]],
    *,
    bring_up: Coroutine[Any, Any, None],
    drain: Callable[[], Awaitable[None]],
) -> None:
    """Run a member's tasks, also while it drains; an error of any ends all and is raised as itself.

    Args:
        stop: Begins the end.
        tasks: What runs from the beginning to the end.
        bring_up: What makes it ready; given up when *stop* comes first.
        drain: Answers what is in flight.

    Raises:
        BettongError: What a task ended with.
    """
    try:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(each) for each in tasks]
            starting = group.create_task(bring_up)
            await stop.wait()
            starting.cancel()
            await drain()
            for task in running:
                task.cancel()
    except* BettongError as error:
        raise first_of(error) from None


def first_of(group: BaseExceptionGroup[BettongError]) -> BettongError:
    """Return the first error of a group that may have groups in it."""
    error = group.exceptions[0]
    return first_of(error) if isinstance(error, BaseExceptionGroup) else error


async def _end_predecessor(client: EtcdClient, file: Path) -> None:
    """Take a dead process out of the cluster without waiting for the end of its lease."""
    lease = _read(file)
    # The lease may have ended by itself, or belong to another life of etcd.
    with contextlib.suppress(BettongError, ValueError):
        await client.revoke(int(lease, 16))


def _remember(file: Path, lease: int) -> None:
    """Note a lease for whoever comes after us; without the note, that one waits."""
    try:
        _write(file, f"{lease:x}")
    except DataFolderError as error:
        _log.warning("lease_not_noted", reason=error.message)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise DataFolderError(f"data folder {file.parent} cannot be read: {error}") from error


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(f"{text}\n", encoding="ascii")
    except OSError as error:
        raise DataFolderError(f"data folder {file.parent} cannot be written: {error.strerror}") from error
