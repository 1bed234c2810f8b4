"""Use cases of deployments: ask for a version to serve, follow it, stop it."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Sequence

from bettong_catalog.registry import Registry
from bettong_domain.deployments import Deployment, DeploymentConfig, DeploymentState, Desired
from bettong_domain.pipelines import PipelineKey
from bettong_gateway.progress import Progress
from bettong_gateway.reconciles import Reconciles
from bettong_kit.clock import Clock
from bettong_kit.errors import NotFoundError
from bettong_serving.ports import ModelEngine

_LONGEST_WAIT_S = 30.0
"""How long an undeploy waits for requests in flight; they are answered even if it takes longer."""
_SETTLE_S = 0.5
"""How long who asks how a deployment stands waits for what comes by way of etcd; more than that takes only with a member in trouble."""


class DeploymentApp:
    """Writes wishes, wakes the reconciler, tells what has become of them."""

    def __init__(
        self, registry: Registry, reconciler: Reconciles, progress: Progress, *, engine: ModelEngine, clock: Clock
    ) -> None:
        self._registry = registry
        self._engine = engine
        self._reconciler = reconciler
        self._progress = progress
        self._clock = clock

    async def deploy(self, key: PipelineKey, config: DeploymentConfig) -> AsyncIterator[Deployment]:
        """Ask for a version (0 is the newest) and yield its states until it serves or cannot; what serves already stays.

        Raises:
            NotFoundError: There is no such version.

        Cancellation:
            The wish stays and is fulfilled without a watcher.
        """
        running = await self._running_as_wished(key, config)
        if running is not None:
            yield running
            return
        desired = await self._registry.wish(key, config)
        self._reconciler.wake(key.name)
        async for deployment in self._progress.watch(key.name, desired.revision):
            yield deployment

    async def undeploy(self, pipeline: str) -> Deployment:
        """Stop a pipeline, wait until its requests in flight are answered, and return its state.

        Raises:
            NotFoundError: It was never deployed.
        """
        now_ms = self._clock.epoch_ms()

        def stop(desired: Desired) -> Desired:
            if desired.stopped:
                return desired
            return dataclasses.replace(desired, stopped=True, last_good_version=0, updated_ms=now_ms)

        desired = await self._registry.change_wish(pipeline, stop)
        self._reconciler.wake(pipeline)
        states = [state async for state in self._progress.watch(pipeline, desired.revision)]
        await self._engine.wait_answered(pipeline, _LONGEST_WAIT_S)
        return states[-1]

    async def get(self, pipeline: str) -> Deployment:
        """Return a deployment as it is now.

        Raises:
            NotFoundError: It was never deployed.
        """
        desired = await self._registry.shown.wish_for(pipeline)
        if desired is None:
            raise NotFoundError(f"pipeline '{pipeline[:100]}' was never deployed")
        return (await self._settled([desired]))[0]

    async def list_deployments(self) -> list[Deployment]:
        """Return all deployments as they are now, ordered by pipeline."""
        return await self._settled(await self._registry.shown.wishes())

    def close(self) -> None:
        """Send those away who wait for a state that will not come; wishes stay."""
        self._progress.close()

    async def _running_as_wished(self, key: PipelineKey, config: DeploymentConfig) -> Deployment | None:
        """Return the deployment if there is nothing to do: the version serves already, with the same settings."""
        wished = (await self._registry.pipeline(key)).key
        desired = await self._registry.wish_for(key.name)
        if desired is None or desired.stopped or (desired.version, desired.config) != (wished.version, config):
            return None
        deployment = self._observed(desired)
        return deployment if deployment.state is DeploymentState.RUNNING else None

    async def _settled(self, wishes: Sequence[Desired]) -> list[Deployment]:
        """Return how wishes stand, after a moment for what another gateway may have told already."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_S):
                while any(map(self._may_lag, wishes)):
                    await self._progress.changed()
        return [self._observed(desired) for desired in wishes]

    def _may_lag(self, desired: Desired) -> bool:
        """Return whether others may know already what we shall say of a wish in a moment."""
        return self._progress.is_held(desired.pipeline) or self._known(desired) is None

    def _known(self, desired: Desired) -> Deployment | None:
        """Return the state of a wish, None if the reconciler has not seen it."""
        latest = self._progress.get(desired.pipeline)
        if latest is None or latest.desired.revision >= desired.revision or _asks_the_same(latest.desired, desired):
            return latest
        return None

    def _observed(self, desired: Desired) -> Deployment:
        known, latest = self._known(desired), self._progress.get(desired.pipeline)
        if known is not None:
            return known
        # The wish is newer than what the reconciler has seen.
        serving = self._progress.serving_version(desired.pipeline)
        return Deployment(
            desired, DeploymentState.STARTING, serving, replicas=latest.replicas if latest is not None else None
        )


def _asks_the_same(one: Desired, other: Desired) -> bool:
    """Return whether two wishes differ only by notes about what became of them."""
    as_other = dataclasses.replace(
        one, last_good_version=other.last_good_version, revision=other.revision, since=other.since
    )
    return as_other == other
