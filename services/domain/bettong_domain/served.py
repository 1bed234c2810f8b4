"""Which version of a pipeline a gateway serves, and what to say about it: computed from the wish and what is where."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from bettong_domain.deployments import DeploymentState, Desired, Replica, ReplicaState
from bettong_domain.hosts import Host, Running
from bettong_domain.pipelines import PipelineKey

_UNDER_WAY = frozenset({ReplicaState.WAITING, ReplicaState.LOADING})
_WAITING = Running(ReplicaState.WAITING)


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known about a pipeline besides the wish."""

    executors: Mapping[str, Host]
    """Who is there, by name."""
    assigned: Collection[str] = ()
    """Names of those that shall run it."""
    short: str = ""
    """What is missing for all replicas."""
    answered: Collection[PipelineKey] = ()
    """Versions that somebody answers for."""
    unrouted: Mapping[PipelineKey, str] = field(default_factory=dict)
    """Versions that a router on the way does not know yet, with its name."""
    serving: int = 0
    """The version that this gateway serves, 0 for none."""
    held: Collection[tuple[int, str]] = ()
    """Versions of the pipeline with the names of the executors that say anything about them."""


@dataclass(frozen=True, slots=True)
class Served:
    """What a gateway does with requests for a pipeline, and why."""

    version: int
    """0 for none: requests are refused with the reason."""
    state: DeploymentState
    reason: str
    replicas: tuple[Replica, ...]


def held_versions(executors: Iterable[Host]) -> dict[str, set[tuple[int, str]]]:
    """Return what executors say anything about: versions with names of executors, by pipeline."""
    held: dict[str, set[tuple[int, str]]] = {}
    for host in executors:
        for key in host.running:
            held.setdefault(key.name, set()).add((key.version, host.name))
    return held


def decide(wish: Desired, situation: Situation) -> Served:
    """Return what to serve of a pipeline.

    The version that is asked for serves once an executor is ready and no assigned one is still on its way to it; until then the one that
    serves, or the last that did.
    """
    replicas = _replicas(wish, situation)
    if wish.stopped:
        return Served(0, DeploymentState.STOPPED, "", replicas)
    version = _version(wish, situation)
    state, reason = _judged(wish, situation, version)
    return Served(version, state, reason, replicas)


def _version(wish: Desired, situation: Situation) -> int:
    asked = wish.version
    served_before = asked in {situation.serving, wish.last_good_version}
    if _can_serve(wish, situation, asked) and (served_before or _is_settled(wish, situation)):
        return asked
    # A half-loaded version is better than none where one has been serving.
    others = (situation.serving, wish.last_good_version, asked if wish.last_good_version else 0)
    return next((version for version in others if version and _can_serve(wish, situation, version)), 0)


def _can_serve(wish: Desired, situation: Situation, version: int) -> bool:
    key = PipelineKey(wish.pipeline, version)
    # A version that serves goes on while a router that is new learns of it.
    return key in situation.answered and (key not in situation.unrouted or version == situation.serving)


def _is_settled(wish: Desired, situation: Situation) -> bool:
    states = {_on(situation, name, wish, wish.version).state for name in situation.assigned}
    return ReplicaState.READY in states and not states & _UNDER_WAY


def _judged(wish: Desired, situation: Situation, version: int) -> tuple[DeploymentState, str]:
    key = PipelineKey(wish.pipeline, wish.version)
    found = {name: _on(situation, name, wish, wish.version) for name in sorted(situation.assigned)}
    failed = [f"{name}: {how.reason}" for name, how in found.items() if how.state is ReplicaState.FAILED]
    pending = [f"{name} {_described(how)}" for name, how in found.items() if how.state in _UNDER_WAY]
    reason = "; ".join(filter(None, [situation.short, *failed, *pending]))
    if version == wish.version:
        return DeploymentState.RUNNING, reason
    if pending:
        return DeploymentState.STARTING, reason
    if key in situation.answered and key in situation.unrouted:
        return DeploymentState.STARTING, f"{situation.unrouted[key]} does not know it yet"
    if not reason and found:
        # All have it, and the next look will serve it.
        return DeploymentState.STARTING, ""
    return DeploymentState.ERROR, reason or "no executor runs it"


def _described(how: Running) -> str:
    if how.state is ReplicaState.WAITING:
        return "has not begun to load it"
    return f"is loading it{f' ({how.reason})' if how.reason else ''}"


def _on(situation: Situation, name: str, wish: Desired, version: int) -> Running:
    host = situation.executors.get(name)
    found = host.running.get(PipelineKey(wish.pipeline, version), _WAITING) if host else _WAITING
    if host and found.state is ReplicaState.FAILED and host.acted_on < wish.revision:
        # It failed before this was asked for, and will be tried again.
        return _WAITING
    return found


def _replicas(wish: Desired, situation: Situation) -> tuple[Replica, ...]:
    """Return what is where: all that is wanted on those that shall run it, and what is on others."""
    wanted = {(version, name) for version in wish.versions for name in situation.assigned}
    return tuple(
        Replica(name, version, how.state, how.reason)
        for version, name in sorted(wanted.union(situation.held))
        for how in [_on(situation, name, wish, version)]
    )
