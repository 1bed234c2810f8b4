"""Who sees which state of a deployment."""

import asyncio

import pytest

from bettong_domain.deployments import Deployment, DeploymentConfig, DeploymentState, Desired
from bettong_gateway.progress import Progress
from bettong_kit.errors import NotFoundError, UnavailableError

STARTING, RUNNING, STOPPED = DeploymentState.STARTING, DeploymentState.RUNNING, DeploymentState.STOPPED


def _deployment(state: DeploymentState, *, revision: int = 1, serving: int = 0) -> Deployment:
    desired = Desired("p", 1, DeploymentConfig(), stopped=False, last_good_version=0, updated_ms=0, revision=revision)
    return Deployment(desired, state, serving)


async def _watch(progress: Progress, revision: int) -> list[tuple[int, DeploymentState]]:
    return [(seen.desired.revision, seen.state) async for seen in progress.watch("p", revision)]


async def test_a_watcher_sees_states_until_one_stays() -> None:
    """It is told of each change and ends by itself."""
    progress = Progress()
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(_watch(progress, 1))
        for state in (STARTING, RUNNING):
            await asyncio.sleep(0)
            progress.report(_deployment(state))
            await asyncio.sleep(0)
    assert watching.result() == [(1, STARTING), (1, RUNNING)]


async def test_a_watcher_that_comes_late_sees_the_end() -> None:
    """Nothing has to happen after it came."""
    progress = Progress()
    progress.report(_deployment(RUNNING))
    assert await _watch(progress, 1) == [(1, RUNNING)]


async def test_states_of_an_older_wish_do_not_count() -> None:
    """That the version before runs is no answer; a wish after ours is."""
    progress = Progress()
    progress.report(_deployment(RUNNING, revision=1))
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(_watch(progress, 2))
        await asyncio.sleep(0)
        progress.report(_deployment(STARTING, revision=1))
        await asyncio.sleep(0)
        progress.report(_deployment(STOPPED, revision=3))
    assert watching.result() == [(3, STOPPED)]


async def test_a_slow_watcher_skips_states_but_not_the_last() -> None:
    """It costs one slot, whatever it misses."""
    progress = Progress()
    progress.report(_deployment(STARTING))
    watching = progress.watch("p", 1)
    first = await anext(aiter(watching))
    for serving in range(5):
        progress.report(_deployment(STARTING, serving=serving))
    progress.report(_deployment(RUNNING))
    assert first.state is STARTING
    assert [seen.state async for seen in watching] == [RUNNING]


def test_a_jump_that_cannot_be_is_a_bug() -> None:
    """What is stopped does not run without being started."""
    progress = Progress()
    progress.report(_deployment(STOPPED))
    with pytest.raises(ValueError, match="from stopped to running"):
        progress.report(_deployment(RUNNING))


def test_what_serves_is_known_until_it_stops() -> None:
    """Also while another version starts."""
    progress = Progress()
    assert progress.serving_version("p") == 0
    progress.report(_deployment(STARTING, serving=3))
    assert progress.serving_version("p") == 3
    progress.forget("p")
    assert (progress.serving_version("p"), progress.get("p")) == (0, None)


async def test_watchers_are_sent_away_when_the_server_stops() -> None:
    """Nobody waits for a state that will not come; one that is there already is still told."""
    progress = Progress()
    progress.report(_deployment(STARTING))
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(_sent_away(progress))
        await asyncio.sleep(0)
        progress.close()
    assert await watching == [STARTING]
    progress.report(_deployment(RUNNING))
    assert await _watch(progress, 1) == [(1, RUNNING)]


async def test_watchers_of_a_pipeline_that_is_deleted_hear_so() -> None:
    """Also one whose wish was never seen, as when a stop and a deletion come in one batch, and one that comes after it."""
    progress = Progress()
    progress.report(_deployment(STARTING))
    async with asyncio.TaskGroup() as tasks:
        for revision in (1, 2):
            tasks.create_task(_deleted(progress, revision))
        await asyncio.sleep(0)
        progress.keep_only((), 3)
    await _deleted(progress, 2)


async def test_a_wish_that_is_yet_to_be_seen_is_not_deleted() -> None:
    """The pipeline was deleted elsewhere and made again: the copy has the deletion, and not yet what was wished since."""
    progress = Progress()
    progress.report(_deployment(RUNNING))
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(_watch(progress, 5))
        await asyncio.sleep(0)
        progress.keep_only((), 3)
        await asyncio.sleep(0)
        progress.report(_deployment(RUNNING, revision=5))
        progress.keep_only({"p"}, 5)
    assert watching.result() == [(5, RUNNING)]


async def test_in_one_process_what_is_forgotten_was_deleted() -> None:
    """Nothing lags there."""
    progress = Progress()
    progress.report(_deployment(STARTING))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_deleted(progress, 2))
        await asyncio.sleep(0)
        progress.forget("p")


async def _deleted(progress: Progress, revision: int) -> None:
    with pytest.raises(NotFoundError, match="'p' was deleted"):
        await _watch(progress, revision)


async def _sent_away(progress: Progress) -> list[DeploymentState]:
    seen = []
    with pytest.raises(UnavailableError, match="goes on where one runs"):
        async for deployment in progress.watch("p", 1):
            seen.append(deployment.state)  # noqa: PERF401 - what came before the error counts
    return seen
