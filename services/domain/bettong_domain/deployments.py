"""Deployments: what shall serve, what does, and the states in between.

::

    STARTING ──→ RUNNING ──→ STARTING (another version is asked for)
       any   ──→ ERROR   ──→ STARTING
       any   ──→ STOPPED ──→ STARTING
"""

import enum
from dataclasses import dataclass, field, fields

from bettong_domain.models import ModelKey


class DeploymentState(enum.Enum):
    """Where a deployment stands."""

    STARTING = "starting"
    RUNNING = "running"
    ERROR = "error"
    STOPPED = "stopped"

    @property
    def is_final(self) -> bool:
        """Return whether it stays so until somebody asks for something else."""
        return self is not DeploymentState.STARTING


_ALWAYS = frozenset({DeploymentState.ERROR, DeploymentState.STOPPED})
TRANSITIONS = {
    DeploymentState.STARTING: _ALWAYS | {DeploymentState.RUNNING},
    DeploymentState.RUNNING: _ALWAYS | {DeploymentState.STARTING},
    DeploymentState.ERROR: _ALWAYS | {DeploymentState.STARTING},
    DeploymentState.STOPPED: _ALWAYS | {DeploymentState.STARTING},
}


def may_follow(before: DeploymentState, after: DeploymentState) -> bool:
    """Return whether a deployment can go from one state to another; staying is fine."""
    return before is after or after in TRANSITIONS[before]


_PLACED = ("replicas", "replicas_min", "cpus", "memory_bytes")
"""Settings that placement on the executors of a cluster respects."""


@dataclass(frozen=True, slots=True)
class DeploymentConfig:
    """What a user asks for beyond the version; 0 means not given."""

    replicas: int = 0
    replicas_min: int = 0
    replicas_max: int = 0
    cpus: float = 0.0
    memory_bytes: int = 0
    gpus: float = 0.0
    autoscale_cpu_utilization: int = 0
    scale_up_queue_depth: int = 0
    scale_down_queue_depth: int = 0
    autoscaling_window_s: int = 0
    labels: tuple[tuple[str, str], ...] = ()
    other: tuple[tuple[str, str], ...] = ()

    def without_effect_here(self, *, in_cluster: bool = False) -> list[str]:
        """Return the names of the settings that were given and mean nothing in one process, or in a cluster."""
        plain = {"labels", "other", *(_PLACED if in_cluster else ())}
        given = [spec.name for spec in fields(self) if spec.name not in plain and getattr(self, spec.name)]
        return [*given, *(name for name, _ in self.other)]


@dataclass(frozen=True, slots=True)
class Desired:
    """The wish, as it is stored."""

    pipeline: str
    version: int
    config: DeploymentConfig
    stopped: bool
    last_good_version: int
    """The version that last served; 0 if none. It is brought back when the wish itself cannot be."""
    updated_ms: int
    revision: int = 0
    """Of the store; tells a wish from the ones before it."""
    since: int = 0
    """Revision of the first wish for the pipeline, where the store says it: orders pipelines by age."""

    @property
    def versions(self) -> tuple[int, ...]:
        """Return the versions that shall be kept running: the one asked for, and until it serves the last that did."""
        if self.stopped:
            return ()
        last = self.last_good_version
        return (self.version, last) if last not in {0, self.version} else (self.version,)


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model of a deployment."""

    key: ModelKey
    sha256: str
    state: DeploymentState
    reason: str = ""


class ReplicaState(enum.Enum):
    """Where a version of a pipeline stands on one executor."""

    WAITING = "waiting"
    """Its executor has not said yet that it begins."""
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    LEAVING = "leaving"
    """It still answers, and will not for long."""


@dataclass(frozen=True, slots=True)
class Replica:
    """A version of a pipeline on one executor of a cluster."""

    member: str
    version: int
    state: ReplicaState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A wish and what has become of it."""

    desired: Desired
    state: DeploymentState
    serving_version: int = 0
    reason: str = ""
    models: tuple[ModelStatus, ...] = field(default=())
    replicas: tuple[Replica, ...] | None = None
    """What is where, ordered by version and member; None in one process."""
