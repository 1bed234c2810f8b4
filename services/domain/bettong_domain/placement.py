"""Which executors run which pipeline: computed by every member from the same facts, with the same result, so that nobody leads.

Each pipeline has an order of its own among the executors, by *weighted rendezvous hashing*: D. G. Thaler and C. V. Ravishankar, "Using
name-based mappings to increase hit rates", IEEE/ACM Transactions on Networking 6(1), 1998; weights as in C. Schindelhauer and G. Schomaker,
"Weighted distributed hash tables", SPAA 2005: an executor's score is `-weight / ln(u)` with `u` in (0, 1) drawn by hashing both names. Its
chance to be first is its part of all lanes, and an executor that joins or leaves changes nothing between the others.

Pipelines are placed one after another, the oldest first, each on the first executors of its order that have room for it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from types import MappingProxyType
from typing import TypeAlias

_DRAWN_BITS = 52
"""One less than a float holds exactly, so that the middle of an interval is neither 0 nor 1, whose logarithms are no scores."""
_EPSILON = 1e-9
"""CPUs are fractions: what is left after taking ten times 0.1 of 1 must count as nothing."""
_ORDERS_KEPT = 4096
"""Orders of pipelines that are kept: wishes change often, and executors seldom."""
_Names: TypeAlias = tuple[tuple[bytes, int], ...]
"""Name and weight of each executor."""
_UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a pipeline asks for, each replica on an executor of its own."""

    pipeline: str
    replicas: int = 1
    """0 means 1."""
    cpus: float = 0.0
    """Lanes that one replica keeps for itself; 0 shares what there is."""
    memory_bytes: int = 0
    """Memory that one replica keeps for itself; 0 asks for none."""
    since: int = 0
    """Orders pipelines by age: an older one is placed first, so that a newer one that asks for too much takes nothing from it."""


@dataclass(frozen=True, slots=True)
class ExecutorRoom:
    """What an executor has."""

    name: str
    lanes: int
    memory_bytes: int = 0
    """0 means that it did not say; then it is not limited."""
    draining: bool = False
    """It will leave, and gets only what fits nowhere else."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Who runs what."""

    assigned: Mapping[str, tuple[str, ...]]
    """Executors of each pipeline, best first; none where nothing has room."""
    short: Mapping[str, str]
    """Of pipelines with fewer replicas than they ask for, what is missing, for people."""


class _Room:
    """What is left of an executor while pipelines are placed."""

    __slots__ = ("cpus", "draining", "memory_bytes", "name", "weight")

    def __init__(self, executor: ExecutorRoom) -> None:
        self.name = executor.name.encode()
        self.weight = max(executor.lanes, 1)
        self.cpus = self.weight + _EPSILON
        self.memory_bytes = executor.memory_bytes or math.inf
        self.draining = executor.draining

    def fits(self, wanted: Wanted) -> bool:
        return wanted.cpus <= self.cpus and wanted.memory_bytes <= self.memory_bytes

    def take(self, wanted: Wanted) -> None:
        self.cpus -= wanted.cpus
        self.memory_bytes -= wanted.memory_bytes


def place(wanted: Iterable[Wanted], executors: Iterable[ExecutorRoom]) -> Placement:
    """Assign executors to pipelines; names are unique in each of both, their order does not matter.

    A pipeline that cannot have all its replicas gets those that fit, and `Placement.short` says what is missing.
    """
    rooms = [_Room(executor) for executor in executors]
    names = tuple((room.name, room.weight) for room in rooms)
    assigned: dict[str, tuple[str, ...]] = {}
    short: dict[str, str] = {}
    for each in sorted(wanted, key=lambda one: (one.since, one.pipeline)):
        replicas = each.replicas or 1
        chosen = _best(each, replicas, rooms, names)
        if len(chosen) < replicas:
            # Counted before anything is taken: the sentence is about what this pipeline found.
            short[each.pipeline] = _shortage(each, replicas, len(chosen), len(rooms))
        for room in chosen:
            room.take(each)
        assigned[each.pipeline] = tuple(room.name.decode() for room in chosen)
    return Placement(MappingProxyType(assigned), MappingProxyType(short))


def _best(wanted: Wanted, replicas: int, rooms: Sequence[_Room], names: _Names) -> list[_Room]:
    """Return the first executors that have room in the pipeline's order, draining ones after all others."""
    ordered = [rooms[at] for at in _order(wanted.pipeline, names)]
    found: list[_Room] = []
    for draining in (False, True):
        for room in ordered:
            if len(found) == replicas:
                return found
            if room.draining is draining and room.fits(wanted):
                found.append(room)
    return found


@lru_cache(maxsize=_ORDERS_KEPT)
def _order(pipeline: str, names: _Names) -> tuple[int, ...]:
    """Return the positions of executors, given by name and weight, in the order of a pipeline, best first."""
    prefix = blake2b(pipeline.encode() + b"\0", digest_size=8)

    def rank(at: int) -> tuple[float, bytes]:
        name, weight = names[at]
        digest = prefix.copy()
        digest.update(name)
        drawn = ((int.from_bytes(digest.digest(), "big") >> 64 - _DRAWN_BITS) + 0.5) / (1 << _DRAWN_BITS)
        return -weight / math.log(drawn), name

    return tuple(sorted(range(len(names)), key=rank, reverse=True))


def _shortage(wanted: Wanted, replicas: int, found: int, there: int) -> str:
    parts = [f"{wanted.cpus:g} CPU{_s(wanted.cpus)}"] if wanted.cpus else []
    parts += [_in_bytes(wanted.memory_bytes)] if wanted.memory_bytes else []
    each = f" of {' and '.join(parts)}" if parts else ""
    asked = f"asks for {replicas} replica{_s(replicas)}{each}"
    if not there:
        return f"{asked}; there is no executor"
    verb = "has" if found == 1 else "have"
    return f"{asked}; {found} executor{_s(found)} of {there} {verb} room"


def _s(count: float) -> str:
    return "" if count == 1 else "s"


def _in_bytes(count: int) -> str:
    for size, unit in _UNITS:
        if count >= size:
            return f"{count / size:.4g} {unit}"
    return f"{count} bytes"
