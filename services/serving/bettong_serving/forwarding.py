"""Keeping a forwarder's table as what is seen of the cluster asks for; what routers and gateways have in common."""

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from bettong.internal.v1 import snapshot_pb2
from bettong_catalog.shared import Placer, read_wishes
from bettong_domain.deployments import Desired
from bettong_domain.forwarding import ForwardingTable, to_executors, to_routers
from bettong_domain.hosts import Host, Seen, look
from bettong_domain.placement import Placement
from bettong_kit.clock import Clock
from bettong_kit.etcd.mirror import Snapshot
from bettong_kit.membership.members import Member
from bettong_serving.ports import ForwardingEngine

_LOOK_EVERY_S = 1.0
"""How often is looked while those that are gone are kept."""


class LinkedEngine(ForwardingEngine, Protocol):
    """A forwarder that says how its peers do."""

    def forwarder_status(self) -> snapshot_pb2.ForwarderStatus:
        """Return how the forwarder and its peers do."""
        ...


class Forwarding:
    """Who is there, what runs where by everybody's reckoning, and the table that follows from it. Owned by one task."""

    def __init__(self, engine: LinkedEngine, *, prefix: str, clock: Clock, through_routers: bool = False) -> None:
        """Prepare; nothing is forwarded before the first look.

        Args:
            engine: Whose forwarder it is.
            prefix: Of the keys of desired state.
            clock: For how long those that are gone are kept.
            through_routers: Leave the choice of an executor to routers.
        """
        self._engine = engine
        self._prefix = prefix
        self._clock = clock
        self._through_routers = through_routers
        self._table: ForwardingTable | None = None
        self._placer = Placer()
        self.seen = Seen()
        self.wishes: list[Desired] = []
        self.placement = Placement({}, {})

    def pause_s(self) -> float:
        """Return how long nothing has to be looked at, unless something changes; infinite if that is all."""
        return _LOOK_EVERY_S if self.seen.gone else math.inf

    async def look(self, desired: Snapshot, members: Sequence[Member], hosts: Iterable[Host]) -> bool:
        """Look at the cluster and give the forwarder what follows, if that is news; return whether it was.

        Raises:
            BettongError: A member has an address that cannot be read; the table stays as it was.
        """
        self.wishes = read_wishes(desired.entries, self._prefix)
        self.placement = self._placer.place(self.wishes, members)
        self.seen = look(
            self.seen,
            hosts,
            now_s=self._clock.monotonic_s(),
            linked=self._linked(),
            through_routers=self._through_routers,
        )
        table = to_routers(self.seen) if self._through_routers else to_executors(self.seen, self.placement.assigned)
        if table == self._table:
            return False
        await self._engine.forward_to(table)
        self._table = table
        return True

    def _linked(self) -> Collection[str]:
        return {peer.name for peer in self._engine.forwarder_status().peers if peer.links}
