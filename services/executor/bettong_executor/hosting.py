"""Which pipeline versions are here: begun when they are assigned, tried again when they failed, let go when others have them."""

import asyncio
import math
import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bettong_domain.deployments import ReplicaState
from bettong_domain.hosts import Host, Running
from bettong_domain.pipelines import PipelineKey
from bettong_domain.plans import Program
from bettong_executor.assigned import Assigned
from bettong_executor.bringing_up import BringUp
from bettong_kit.clock import Clock
from bettong_kit.errors import BettongError, InvalidArgumentError, InvalidModelError
from bettong_kit.etcd.backoff import Backoff
from bettong_kit.logging import get_logger
from bettong_kit.tasks import finished

_log = get_logger("executor")
KEEP_S = 2.0
"""How long a version is kept after all who shall run it are ready, for those who have not heard of that yet."""
LEAVE_S = 1.0
"""How long it is said that a version will go before it goes."""
_FIRST_RETRY_S, _LONGEST_RETRY_S = 2.0, 30.0
_TELL_EVERY_S = 1.0
"""How often it is told how far a fetch has come."""


@dataclass(slots=True)
class _Version:
    """A pipeline version that is here or on its way."""

    retries: Backoff
    state: ReplicaState = ReplicaState.LOADING
    reason: str = ""
    asked: int = 0
    """Revision of the wish when it was last begun."""
    retry_at_s: float = math.inf
    unneeded_since_s: float | None = None
    told_s: float = -math.inf
    loading: asyncio.Task[None] | None = None
    before: asyncio.Task[None] | None = None
    """A load of the same version that was given up and may not have ended yet."""
    program: Program | None = None
    """Set while the engine answers for it."""


class Hosting:
    """The versions of this executor. Owned by one task, which calls `look` after every change and every `pause_s`."""

    def __init__(
        self, bring_up: BringUp, *, clock: Clock, parallelism: int, on_change: Callable[[], None], chance: random.Random
    ) -> None:
        """Prepare.

        Args:
            bring_up: Does the work.
            clock: For waits.
            parallelism: Versions that are brought up at once.
            on_change: Called when a version has come further by itself, so that somebody looks.
            chance: Spreads attempts.
        """
        self._bring_up = bring_up
        self._clock = clock
        self._parallelism = asyncio.Semaphore(parallelism)
        self._on_change = on_change
        self._chance = chance
        self._versions: dict[PipelineKey, _Version] = {}
        self._ending: dict[PipelineKey, asyncio.Task[None]] = {}

    def running(self) -> dict[PipelineKey, Running]:
        """Return where every version stands."""
        return {key: Running(version.state, version.reason) for key, version in self._versions.items()}

    def pause_s(self) -> float:
        """Return how long nothing has to be looked at, unless something changes; infinite if that is all."""
        due_s = min(map(_due_s, self._versions.values()), default=math.inf)
        return max(0.0, due_s - self._clock.monotonic_s())

    async def look(self, assigned: Assigned, hosts: Mapping[str, Host], tasks: asyncio.TaskGroup) -> bool:
        """Act on what is assigned; return whether a version was let go.

        Args:
            assigned: Who shall run what.
            hosts: What the executors say that they run, by name.
            tasks: Loads run there.
        """
        mine = frozenset(assigned.mine())
        # Who leaves begins nothing, also where nobody else has room.
        for key in sorted(mine if not assigned.draining else mine & self._versions.keys()):
            self._want(key, assigned.asked[key.name], tasks)
        gone = [
            key
            for key, version in self._versions.items()
            if key not in mine and self._is_over(key, version, needed=assigned.is_needed(key, hosts))
        ]
        for key in gone:
            await self._drop(key)
        return bool(gone)

    def is_dispensable(self, assigned: Assigned, hosts: Mapping[str, Host]) -> bool:
        """Return whether nothing here is waited for by others; what fits nowhere else cannot be helped."""
        mine = frozenset(assigned.mine())
        return all(
            version.program is None or key in mine or not assigned.is_needed(key, hosts)
            for key, version in self._versions.items()
        )

    def leave(self) -> None:
        """Say of everything that it will go; loads are given up."""
        for key, version in list(self._versions.items()):
            if version.program is None:
                self._give_up(key)
            else:
                version.state = ReplicaState.LEAVING

    def _want(self, key: PipelineKey, asked: int, tasks: asyncio.TaskGroup) -> None:
        """Have a version here: begin it, try it again when that is due, or keep it although it was to go."""
        version = self._versions.get(key)
        if version is None:
            retries = Backoff(_FIRST_RETRY_S, _LONGEST_RETRY_S, self._chance)
            version = self._versions[key] = _Version(retries, before=self._ending.pop(key, None))
        elif version.program is not None:
            version.state, version.unneeded_since_s = ReplicaState.READY, None
            return
        elif version.state is not ReplicaState.FAILED or (
            version.asked == asked and self._clock.monotonic_s() < version.retry_at_s
        ):
            return
        version.state, version.reason, version.asked, version.retry_at_s = ReplicaState.LOADING, "", asked, math.inf
        version.loading = tasks.create_task(self._load(key, version), name=f"load {key}")

    def _is_over(self, key: PipelineKey, version: _Version, *, needed: bool) -> bool:
        """Return whether a version that shall not be here can go now, saying before that it will."""
        if version.program is None:
            return True
        if needed:
            version.state, version.unneeded_since_s = ReplicaState.READY, None
            return False
        now_s = self._clock.monotonic_s()
        if version.unneeded_since_s is None:
            version.unneeded_since_s = now_s
        if now_s >= version.unneeded_since_s + KEEP_S and version.state is not ReplicaState.LEAVING:
            version.state = ReplicaState.LEAVING
            # From now on: the time to say so must pass however late we looked.
            version.unneeded_since_s = now_s - KEEP_S
            _log.info("version_leaving", pipeline=key.name, version=key.version)
        return now_s >= version.unneeded_since_s + KEEP_S + LEAVE_S

    async def _drop(self, key: PipelineKey) -> None:
        version = self._versions.get(key)
        if version is None:
            # Given up by `leave` meanwhile.
            return
        self._give_up(key)
        if version.program is not None:
            await self._bring_up.down(version.program)
            _log.info("version_stopped", pipeline=key.name, version=key.version)

    def _give_up(self, key: PipelineKey) -> None:
        version = self._versions.pop(key)
        if version.loading is not None:
            version.loading.cancel()
            self._ending[key] = version.loading
            version.loading.add_done_callback(lambda task: self._forget(key, task))

    def _forget(self, key: PipelineKey, task: asyncio.Task[None]) -> None:
        if self._ending.get(key) is task:
            del self._ending[key]

    async def _load(self, key: PipelineKey, version: _Version) -> None:
        """Bring a version up and note what became of it."""

        def tell(how_far: str) -> None:
            version.reason = how_far
            if self._clock.monotonic_s() >= version.told_s + _TELL_EVERY_S:
                version.told_s = self._clock.monotonic_s()
                self._on_change()

        try:
            if version.before is not None:
                # Waited for also when this one is given up: what comes next waits for this one only.
                await finished(_ended(version.before))
            async with self._parallelism:
                version.program = await self._bring_up.up(key, tell)
        except BettongError as error:
            self._fail(key, version, error.message, wait_s=_wait_s(error, version.retries))
        except Exception:  # noqa: BLE001 - top loop of a load: one that breaks must not stop the others
            error_id = uuid.uuid4().hex[:12]
            _log.exception("load_broke", pipeline=key.name, version=key.version, error_id=error_id)
            self._fail(key, version, f"internal error {error_id}", wait_s=version.retries.next_s())
        else:
            version.state, version.reason = ReplicaState.READY, ""
            version.retries.reset()
            _log.info("version_ready", pipeline=key.name, version=key.version)
        version.loading = None
        self._on_change()

    def _fail(self, key: PipelineKey, version: _Version, reason: str, *, wait_s: float) -> None:
        _log.error("version_failed", pipeline=key.name, version=key.version, reason=reason)
        version.state, version.reason = ReplicaState.FAILED, reason
        version.retry_at_s = self._clock.monotonic_s() + wait_s


async def _ended(load: asyncio.Task[None]) -> None:
    await asyncio.wait([load])


def _wait_s(error: BettongError, retries: Backoff) -> float:
    """Return how long to wait until a load is tried again."""
    if isinstance(error, InvalidModelError):
        # It could be loaded at its upload: memory, descriptors or the file itself may be what is missing here.
        return _LONGEST_RETRY_S
    # What is wrong with a chain stays wrong until somebody asks for it again.
    return math.inf if isinstance(error, InvalidArgumentError) else max(retries.next_s(), error.retry_after_s or 0.0)


def _due_s(version: _Version) -> float:
    """Return when a version has to be looked at again."""
    if version.unneeded_since_s is None:
        return version.retry_at_s
    return version.unneeded_since_s + KEEP_S + (LEAVE_S if version.state is ReplicaState.LEAVING else 0.0)
