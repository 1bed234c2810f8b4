"""Being a member: a key under a lease that is kept alive, made anew when it was lost, and removed on leaving."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import Callable
from dataclasses import replace

from bettong_kit.errors import (
    BettongError,
    CoordinationLostError,
    CoordinationRefusedError,
    MemberReplacedError,
    NotFoundError,
)
from bettong_kit.etcd.client import ABSENT, EtcdClient, Guarded, KeyValue
from bettong_kit.logging import get_logger
from bettong_kit.membership.members import Member, from_entry, member_key, to_json

_log = get_logger("membership")
_POLL_S = 0.5
"""How often the lease of a predecessor is looked at."""
_LATE_S = 1.5
"""How much later than it should a lease may end: etcd tells whole seconds, and looks for ended leases twice a second."""
_LEAVE_TIMEOUT_S = 2.0
"""What leaving may take of the time of a process that ends; its lease ends by itself."""
_BEATS = 3
"""Beats in the life of a lease: two may be lost."""


class Announcement:
    """Keeps one member announced. `join`, then `run` until cancelled, then `leave`."""

    def __init__(
        self,
        client: EtcdClient,
        cluster: str,
        member: Member,
        *,
        ttl_s: int = 5,
        on_lease: Callable[[int], None] | None = None,
    ) -> None:
        """Prepare to announce.

        Args:
            client: Whose etcd to announce in.
            cluster: Name of the cluster.
            member: What to say.
            ttl_s: How long after its death the member is gone for the others.
            on_lease: Told each lease before anything is written under it.
        """
        self._client = client
        self._clock = client.connection.clock
        self._key = member_key(cluster, member)
        self._ttl_s = ttl_s
        self._on_lease = on_lease
        self._lease = 0
        self._revision = ABSENT
        self._held_until_s = 0.0
        self._changing = asyncio.Lock()
        self._jitter = random.SystemRandom()
        self.member = member
        self.lost_since_ms: int | None = None
        """Wall-clock time since which etcd does not answer, for people."""
        self.joins = 0
        """How often it was announced; more than once means that a lease was lost."""

    @property
    def held(self) -> bool:
        """Whether the lease certainly lives, by our own clock."""
        return self._clock.monotonic_s() < self._held_until_s

    @property
    def lease(self) -> int:
        """Return the lease that everything ends with that this member says about itself; 0 for none."""
        return self._lease

    async def join(self) -> Member:
        """Announce the member and return it with its epoch. A predecessor that died is waited for.

        Raises:
            MemberReplacedError: A live member has the name; names its address.
            CoordinationLostError: etcd does not answer.
        """
        async with self._changing:
            self._lease = await self._client.grant(self._ttl_s)
            try:
                if self._on_lease is not None:
                    self._on_lease(self._lease)
                await self._take_name()
            except BaseException:
                # Cancelled or refused: the lease would end by itself; sooner is nicer.
                with contextlib.suppress(BettongError):
                    await self._client.revoke(self._lease)
                raise
            await self._beat()
            self.joins += 1
        _log.info("member_joined", role=self.member.role, member=self.member.name, epoch=self.member.epoch)
        return self.member

    async def run(self) -> None:
        """Keep the member announced until cancelled, whatever becomes of etcd.

        Raises:
            MemberReplacedError: Another process has the name now; this one must stop.
        """
        while True:
            await asyncio.sleep(self._ttl_s / _BEATS)
            try:
                if not await self._beat():
                    _log.warning("lease_lost", role=self.member.role, member=self.member.name)
                    # All members may have lost theirs at once.
                    await asyncio.sleep(self._jitter.uniform(0, min(1.0, self._ttl_s / _BEATS)))
                    await self.join()
                elif await self._is_to_be_written():
                    _log.warning("member_key_lost", role=self.member.role, member=self.member.name)
                    await self._rejoin()
                self.lost_since_ms = None
            except TimeoutError:
                self._lose(CoordinationLostError("etcd answers beats, but no reads"))
            except (CoordinationLostError, CoordinationRefusedError, NotFoundError) as error:
                # Also when we are not let in any more: what serves goes on, and the lease ends by itself.
                self._lose(error)

    async def change(self, member: Member) -> None:
        """Announce other facts about the same member, such as that it drains.

        Raises:
            MemberReplacedError: The name is not ours any more.
            CoordinationLostError: etcd does not answer; the next beat says it.

        Cancellation:
            The next beat says it.
        """
        self.member = replace(member, started=self.member.started, epoch=self.member.epoch)
        async with self._changing:
            await self._write(self._revision)

    async def leave(self) -> None:
        """Tell the others at once; when etcd is away, they see it when the lease has ended."""
        lease, self._lease, self._held_until_s = self._lease, 0, 0.0
        if lease:
            with contextlib.suppress(NotFoundError, CoordinationLostError, CoordinationRefusedError, TimeoutError):
                async with asyncio.timeout(_LEAVE_TIMEOUT_S):
                    await self._client.revoke(lease)
        _log.info("member_left", role=self.member.role, member=self.member.name)

    async def _is_to_be_written(self) -> bool:
        """Return whether our key is not what it should be although our lease lives.

        Somebody removed it or has our name instead, or a change of ours did not get there.

        Raises:
            TimeoutError: There is no time to wait for that before the next beat.
        """
        async with asyncio.timeout(self._ttl_s / _BEATS), self._changing:
            found = await self._client.get(self._key)
        return found is None or found.lease != self._lease or found.value != to_json(self.member)

    async def _rejoin(self) -> None:
        """Write the key again under the lease that there is."""
        async with self._changing:
            await self._take_name()
            self.joins += 1

    async def _beat(self) -> bool:
        """Begin the lease's time anew; return False when it is gone."""
        sent_s = self._clock.monotonic_s()
        left_s = await self._client.keep_alive(self._lease, timeout_s=self._ttl_s)
        if left_s <= 0:
            self._held_until_s = 0.0
            return False
        # From when it was sent: etcd counts from later on.
        self._held_until_s = sent_s + left_s
        return True

    async def _take_name(self) -> None:
        """Write the key once nobody else has it."""
        looks: list[tuple[float, int]] = []
        other = await self._write(ABSENT)
        while other is not None:
            if from_entry(other).started == self.member.started:
                # Ours, under a lease that we gave up, as after a restore from a backup.
                self.member = replace(self.member, epoch=other.created)
                other = await self._write(other.revision)
                continue
            looks.append((self._clock.monotonic_s(), await self._client.time_left(other.lease)))
            if not other.lease or _is_renewed(looks):
                raise self._taken(other)
            await self._client.keep_alive(self._lease)
            await asyncio.sleep(_POLL_S)
            other = await self._write(ABSENT)

    async def _write(self, revision: int) -> KeyValue | None:
        """Write the key if it has this revision, or return what is there."""
        change = Guarded(
            guards={self._key: revision}, leased={self._key: to_json(self.member)}, lease=self._lease, reads=[self._key]
        )
        outcome = await self._client.commit(change)
        found = outcome.found.get(self._key)
        if not outcome.applied and found and found.lease == self._lease and found.value == to_json(self.member):
            # An earlier attempt of ours whose answer was lost.
            self._note(created=found.created, revision=found.revision)
            return None
        if outcome.applied:
            self._note(created=outcome.revision if revision == ABSENT else 0, revision=outcome.revision)
            return None
        if revision != ABSENT:
            raise self._taken(found)
        return found

    def _note(self, *, created: int, revision: int) -> None:
        self._revision = revision
        self.member = replace(self.member, epoch=created or self.member.epoch)

    def _taken(self, other: KeyValue | None) -> MemberReplacedError:
        name = f"{self.member.role} '{self.member.name}'"
        if other is None:
            return MemberReplacedError(f"{name} is not in the cluster any more")
        holder = from_entry(other)
        return MemberReplacedError(
            f"{name} is in the cluster already, at {holder.address}; "
            "stop that one, or give this one a name of its own (--name; else it has the host's)"
        )

    def _lose(self, error: BettongError) -> None:
        if self.lost_since_ms is None:
            self.lost_since_ms = self._clock.epoch_ms()
            _log.warning("coordination_lost", member=self.member.name, reason=error.message)


def _is_renewed(looks: list[tuple[float, int]]) -> bool:
    """Return whether a lease, looked at as (now, whole seconds left), began its time anew in between.

    It has more left than before, or is there after the time that it had left. A change of etcd's leader looks the same: then the
    name is refused once too often, and is free at the next start.
    """
    (first_s, left_s), (now_s, _) = looks[0], looks[-1]
    grew = any(after > before for (_, before), (_, after) in itertools.pairwise(looks))
    return grew or now_s - first_s > left_s + _LATE_S
