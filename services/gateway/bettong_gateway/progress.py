"""What has become of each wish, for those who ask and those who wait."""

import asyncio
from collections.abc import AsyncIterator, Collection

from bettong_domain.deployments import Deployment, DeploymentState, may_follow
from bettong_kit.errors import NotFoundError, UnavailableError


class Progress:
    """The newest state of each deployment. Owned by the reconciler; read by anybody on the same event loop.

    A watcher sees the newest state when it looks, so a slow one skips states but never the last, and costs one slot.
    """

    def __init__(self) -> None:
        self._latest: dict[str, Deployment] = {}
        self._held: set[str] = set()
        self._changed = asyncio.Event()
        self._is_closed = False
        self._copied: tuple[int, Collection[str]] | None = None
        """Up to which revision wishes were read, and of which pipelines there are some; None where nothing lags."""

    def close(self) -> None:
        """Send watchers away: nobody makes wishes come true any more."""
        self._is_closed = True
        self._wake_watchers()

    def report(self, deployment: Deployment) -> None:
        """Replace the state of a deployment and tell its watchers.

        Raises:
            ValueError: The state machine has no such transition.
        """
        before = self.get(deployment.desired.pipeline)
        if before is not None and not may_follow(before.state, deployment.state):
            raise ValueError(f"a deployment cannot go from {before.state.value} to {deployment.state.value}")
        self._latest[deployment.desired.pipeline] = deployment
        self._wake_watchers()

    def forget(self, pipeline: str) -> None:
        """Drop what is known of a pipeline that was deleted."""
        self._latest.pop(pipeline, None)
        self._held.discard(pipeline)
        self._wake_watchers()

    def hold(self, pipeline: str, *, held: bool) -> None:
        """Note whether all is done here for a wish, and only the word of others is missing that they have followed, too."""
        if held:
            self._held.add(pipeline)
        else:
            self._held.discard(pipeline)

    def is_held(self, pipeline: str) -> bool:
        """Return whether only the word of others is missing."""
        return pipeline in self._held

    async def changed(self) -> None:
        """Wait until something is reported."""
        await self._changed.wait()

    def keep_only(self, pipelines: Collection[str], revision: int) -> None:
        """Drop what is known of all pipelines but those that a copy of all wishes up to a revision has, and say that it has these."""
        for pipeline in self._latest.keys() - set(pipelines):
            self.forget(pipeline)
        self._copied = revision, pipelines
        self._wake_watchers()

    def get(self, pipeline: str) -> Deployment | None:
        """Return the newest state, or None if nothing was reported."""
        return self._latest.get(pipeline)

    async def watch(self, pipeline: str, revision: int) -> AsyncIterator[Deployment]:
        """Yield the states of a wish, ending with one that stays.

        Args:
            pipeline: Whose wish.
            revision: The wish's; states of wishes before it are left out, one that came after it counts.

        Raises:
            NotFoundError: The pipeline was deleted meanwhile.
            UnavailableError: The server stops before the wish has come to an end.

        Cancellation:
            Leaves nothing behind; the wish stays.
        """
        seen: Deployment | None = None
        was_known = False
        while True:
            changed, latest = self._changed, self._latest.get(pipeline)
            if latest is None and self._is_deleted(pipeline, revision, was_known=was_known):
                raise NotFoundError(f"pipeline '{pipeline}' was deleted")
            was_known = latest is not None
            if latest is not None and latest is not seen and latest.desired.revision >= revision:
                seen = latest
                yield latest
                if latest.state.is_final:
                    return
            if self._is_closed:
                raise UnavailableError("this server is stopping; ask again: the deployment goes on where one runs")
            if changed is self._changed:
                await changed.wait()

    def serving_version(self, pipeline: str) -> int:
        """Return the version that answers now, 0 if none."""
        latest = self._latest.get(pipeline)
        return latest.serving_version if latest and latest.state is not DeploymentState.STOPPED else 0

    def _is_deleted(self, pipeline: str, revision: int, *, was_known: bool) -> bool:
        """Return whether nothing is known of a wish because its pipeline is gone, and not because it is yet to come."""
        if self._copied is None:
            return was_known
        copied_revision, pipelines = self._copied
        return revision <= copied_revision and pipeline not in pipelines

    def _wake_watchers(self) -> None:
        # Each event is set once and replaced, so that a watcher which looked before cannot miss it.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
