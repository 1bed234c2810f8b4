"""From desired to served in a cluster: executors run what is wanted, and this gateway forwards to them."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bettong_catalog.records import Records
from bettong_catalog.shared import SnapshotReader
from bettong_domain.deployments import Deployment, DeploymentState, Desired, ModelStatus, ReplicaState, may_follow
from bettong_domain.forwarding import answered
from bettong_domain.hosts import EXECUTOR, GATEWAY, ROUTER, Host, Running
from bettong_domain.pipelines import PipelineKey
from bettong_domain.served import Served, Situation, decide, held_versions
from bettong_gateway.cluster_routes import Route, Routes
from bettong_gateway.good_versions import GoodVersions
from bettong_gateway.progress import Progress
from bettong_kit.clock import Clock
from bettong_kit.errors import BettongError, NotFoundError
from bettong_kit.logging import get_logger
from bettong_serving.following import follow
from bettong_serving.forwarding import Forwarding
from bettong_serving.reporting import Reports
from bettong_serving.sight import Sight

_log = get_logger("reconcile")
_RESTORE_S = 10.0
"""How long a gateway that starts waits for executors that are loading before it says that it is ready."""
_RUNNING, _STOPPED = DeploymentState.RUNNING, DeploymentState.STOPPED


@dataclass(frozen=True, slots=True)
class Myself:
    """Which gateway this is."""

    name: str
    prefix: str
    """Of the keys of desired state."""
    through_routers: bool
    """It leaves the choice of an executor to routers."""


class ClusterReconciler:
    """Makes this gateway serve what the cluster can, and tells what has become of each wish. `run` is its one task."""

    def __init__(
        self,
        sight: Sight,
        forwarding: Forwarding,
        routes: Routes,
        *,
        myself: Myself,
        notes: "Notes",
        clock: Clock,
    ) -> None:
        self._sight = sight
        self._forwarding = forwarding
        self._routes = routes
        self._myself = myself
        self._progress = notes.progress
        self._good_versions = notes.good_versions
        self._reports = notes.reports
        self._clock = clock
        self._looked = asyncio.Event()

    def wake(self, pipeline: str) -> None:
        """Look soon; the change of the wish itself comes through etcd, as for every other gateway."""
        _log.debug("woken", pipeline=pipeline)
        self._sight.nudge()

    async def run(self) -> None:
        """Look after each change until cancelled.

        Cancellation:
            What serves goes on.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._good_versions.run(), name="note good versions")
            await follow(self._sight, self._look, pause_s=self._forwarding.pause_s, clock=self._clock)

    async def restore(self) -> None:
        """Wait until everything that is wished for serves, or cannot for the moment; `run` does the work meanwhile.

        Also until the other gateways can know what is served here: a change waits only for those that have said so.
        """
        await self._looked.wait()
        await self._reports.told()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_RESTORE_S):
                for wish in list(self._forwarding.wishes):
                    # One that is deleted meanwhile needs nothing.
                    with contextlib.suppress(NotFoundError):
                        async for _ in self._progress.watch(wish.pipeline, wish.revision):
                            pass

    async def _look(self) -> None:
        """Make one pass: first where calls go, then what is served, then what is said about it."""
        desired = self._sight.desired
        try:
            await self._forwarding.look(desired, self._sight.members.members, self._sight.hosts())
        except BettongError as error:
            _log.error("table_refused", reason=error.message)
        wishes = self._forwarding.wishes
        decisions = self._decisions(wishes)
        wanted = {
            wish.pipeline: Route(served.version, "" if served.version else served.reason or "starting")
            for wish, served in zip(wishes, decisions, strict=True)
            if not wish.stopped
        }
        records = Records(SnapshotReader(desired, self._myself.prefix))
        failures = await self._routes.apply(wanted, records)
        self._reports.publish(desired.revision, dict.fromkeys(self._routes.served(), Running(ReplicaState.READY)))
        for wish, served in zip(wishes, decisions, strict=True):
            self._tell(wish, _failed(served, failures[wish.pipeline]) if wish.pipeline in failures else served)
        self._progress.keep_only({wish.pipeline for wish in wishes}, desired.revision)
        self._looked.set()

    def _decisions(self, wishes: Sequence[Desired]) -> list[Served]:
        seen, placement = self._forwarding.seen, self._forwarding.placement
        executors = {host.name: host for host in seen.of_role(EXECUTOR)}
        answers, held = answered(seen), held_versions(executors.values())
        unrouted = self._unrouted(answers)
        return [
            decide(
                wish,
                Situation(
                    executors,
                    placement.assigned.get(wish.pipeline, ()),
                    placement.short.get(wish.pipeline, ""),
                    answered=answers,
                    unrouted=unrouted,
                    serving=self._routes.version(wish.pipeline),
                    held=held.get(wish.pipeline, ()),
                ),
            )
            for wish in wishes
        ]

    def _unrouted(self, keys: frozenset[PipelineKey]) -> Mapping[PipelineKey, str]:
        """Return the versions that a router which we may send to does not know yet."""
        if not self._myself.through_routers:
            return {}
        routers = [host for host in self._forwarding.seen.of_role(ROUTER) if host.reported and not host.draining]
        return {key: router.id for router in routers for key in keys if not router.answers(key)}

    def _tell(self, wish: Desired, served: Served) -> None:
        """Report the state of a deployment, if it changed."""
        before = self._progress.get(wish.pipeline)
        version = self._routes.version(wish.pipeline)
        state, reason = served.state, served.reason
        begins = before is None or before.state is not state or before.desired.version != wish.version
        behind = self._behind(wish, state) if begins else None
        self._progress.hold(wish.pipeline, held=behind is not None)
        if behind is not None:
            if state is _STOPPED:
                return
            state, reason = DeploymentState.STARTING, f"{behind.id} does not serve it yet"
        if state is _RUNNING:
            self._good_versions.note(wish)
        deployment = Deployment(wish, state, version, reason, self._models(wish, state), served.replicas)
        if deployment == before:
            return
        if before is not None and not may_follow(before.state, state):
            self._progress.report(replace(deployment, state=DeploymentState.STARTING))
        self._progress.report(deployment)
        if before is None or before.state is not state:
            _log.info(
                "deployment_changed", pipeline=wish.pipeline, version=wish.version, state=state.value, reason=reason
            )

    def _behind(self, wish: Desired, state: DeploymentState) -> Host | None:
        """Return another gateway that has not followed a wish yet: then it would answer otherwise than we do."""
        others = [
            host
            for host in self._forwarding.seen.of_role(GATEWAY)
            if host.name != self._myself.name and host.reported and not host.draining
        ]
        if state is _RUNNING:
            key = PipelineKey(wish.pipeline, wish.version)
            return next((host for host in others if not host.answers(key)), None)
        if state is _STOPPED:
            return next((host for host in others if any(key.name == wish.pipeline for key in host.running)), None)
        return None

    def _models(self, wish: Desired, state: DeploymentState) -> tuple[ModelStatus, ...]:
        program = self._routes.program(wish.pipeline)
        if program is None or program.key.version != wish.version:
            return ()
        return tuple(ModelStatus(step.model.key, step.model.sha256, state) for step in program.steps)


@dataclass(frozen=True, slots=True)
class Notes:
    """Who is told what has become of wishes."""

    progress: Progress
    good_versions: GoodVersions
    reports: Reports


def _failed(served: Served, reason: str) -> Served:
    return replace(served, version=0, state=DeploymentState.ERROR, reason=reason)
