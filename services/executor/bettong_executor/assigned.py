"""What this executor shall run, and what it must go on running for others who are not there yet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bettong_catalog.shared import Placer, read_wishes
from bettong_domain.deployments import Desired, ReplicaState
from bettong_domain.hosts import EXECUTOR, Host
from bettong_domain.pipelines import PipelineKey
from bettong_kit.etcd.client import KeyValue
from bettong_kit.etcd.mirror import Snapshot
from bettong_kit.membership.members import Member


@dataclass(frozen=True, slots=True)
class Assigned:
    """Which executors shall run which pipeline versions, as of one revision of desired state."""

    me: str
    revision: int = 0
    executors: Mapping[PipelineKey, frozenset[str]] = field(default_factory=dict)
    """Of every version that shall be answered; none where nothing has room."""
    asked: Mapping[str, int] = field(default_factory=dict)
    """Revision of the wish for each pipeline."""
    joined: bool = True
    """Everybody who knows what we know sees us."""
    draining: bool = False
    """They have heard that we leave."""

    def mine(self) -> list[PipelineKey]:
        """Return what this executor shall run, ordered."""
        return sorted(key for key, names in self.executors.items() if self.me in names)

    def is_needed(self, key: PipelineKey, hosts: Mapping[str, Host]) -> bool:
        """Return whether this executor must answer for a version: it shall, or nobody does who shall."""
        names = self.executors.get(key)
        if names is None:
            return False
        if self.me in names or not names:
            return True
        return not all(_is_ready(hosts.get(name), key) for name in names)


def _is_ready(host: Host | None, key: PipelineKey) -> bool:
    found = host.running.get(key) if host else None
    return found is not None and found.state is ReplicaState.READY


class Assigner:
    """Computes what is assigned; what is wanted is read again only when it is new, for reports come more often."""

    def __init__(self, me: str, prefix: str) -> None:
        """Compute for the executor *me*, from the keys of desired state below *prefix*."""
        self._me = me
        self._prefix = prefix
        self._placer = Placer()
        self._read: tuple[Mapping[str, KeyValue], list[Desired]] = {}, []

    def assign(self, desired: Snapshot, members: Sequence[Member]) -> Assigned:
        """Return what is assigned by what is wanted and who is there."""
        if self._read[0] is not desired.entries:
            self._read = desired.entries, read_wishes(desired.entries, self._prefix)
        wishes = self._read[1]
        assigned = self._placer.place(wishes, members).assigned
        executors = {
            PipelineKey(wish.pipeline, version): frozenset(assigned.get(wish.pipeline, ()))
            for wish in wishes
            for version in wish.versions
        }
        ourselves = next((one for one in members if (one.role, one.name) == (EXECUTOR, self._me)), None)
        return Assigned(
            self._me,
            desired.revision,
            executors,
            asked={wish.pipeline: wish.revision for wish in wishes},
            joined=ourselves is not None,
            draining=ourselves is not None and ourselves.draining,
        )
