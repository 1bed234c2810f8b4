"""Assembly of one executor."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from bettong_catalog.blobs import Blobs
from bettong_catalog.object_stores import open_objects
from bettong_catalog.programs import compile_stored
from bettong_catalog.records import Records
from bettong_catalog.shared import SnapshotReader, desired_prefix
from bettong_catalog.shared_blobs import SharedBlobs
from bettong_domain.hosts import EXECUTOR
from bettong_executor.app import ExecutorApp
from bettong_executor.assigned import Assigner
from bettong_executor.bringing_up import BringUp
from bettong_executor.config import ExecutorConfig
from bettong_executor.hosting import LEAVE_S, Hosting
from bettong_executor.memory import memory_bytes
from bettong_executor.quarantine import Quarantine
from bettong_kit.clock import SystemClock
from bettong_kit.errors import BettongError
from bettong_kit.lifecycle import Lifecycle, State
from bettong_kit.logging import configure_logging, get_logger
from bettong_kit.membership.members import Member
from bettong_kit.membership.settings import ClusterSettings
from bettong_serving.data_folder import locked_data_folder
from bettong_serving.engine import Engine, engine_version, record_crashes, set_engine_log_level
from bettong_serving.loaded_models import LoadedModels
from bettong_serving.member import Addresses, Membership, announced, entered, place_of, run_until
from bettong_serving.ports import Links

_log = get_logger("serve")
_MAX_FILE_BYTES = 1 << 62
"""Whoever stores a file decides how long it may be."""


async def serve(
    config: ExecutorConfig, cluster: ClusterSettings, stop: asyncio.Event, on_ready: Callable[[Addresses], None]
) -> None:
    """Run models until *stop* is set, then drain; resources close in reverse order.

    Args:
        config: Ports and bounds, checked.
        cluster: Which cluster, and who we are in it.
        stop: Ends the process when set.
        on_ready: Called once, when it is known and said what runs here.

    Raises:
        StartError: The data folder or a port is taken, the engine cannot start, or etcd does not let us in.
        MemberReplacedError: Another process has our name.
        CoordinationLostError: etcd does not answer at the start.

    Cancellation:
        Ends at once without draining.
    """
    configure_logging(level=config.log_level, style=config.log_style)
    lifecycle = Lifecycle()
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(locked_data_folder(config.data))
        quarantine = Quarantine(folder, SystemClock())
        client, identity = await stack.enter_async_context(entered(cluster, folder))
        engine = await stack.enter_async_context(_open_engine(config, cluster, quarantine.record))
        member = _member(config, cluster, engine)
        membership = await stack.enter_async_context(announced(client, cluster.cluster, member, folder=folder))
        files = Blobs(config.cache_folder(), max_bytes=_MAX_FILE_BYTES)
        blobs = SharedBlobs(open_objects(cluster.blobs), files, owner=identity)
        app = _open_app(config, cluster, engine, membership=membership, blobs=blobs, quarantine=quarantine)
        listens = engine.status()

        async def bring_up() -> None:
            await app.ready()
            engine.set_ready(ready=True)
            lifecycle.advance(State.SERVING)
            on_ready(Addresses(listens.data_address, listens.metrics_address))

        async def drain() -> None:
            lifecycle.advance(State.DRAINING)
            await _drain(app, engine, membership, config.drain_timeout_s)

        await run_until(stop, [*membership.tasks(), app.run()], bring_up=bring_up(), drain=drain)
    lifecycle.advance(State.STOPPED)


@contextlib.asynccontextmanager
async def _open_engine(config: ExecutorConfig, cluster: ClusterSettings, crashes: Path) -> AsyncIterator[Engine]:
    set_engine_log_level(config.log_level)
    record_crashes(crashes)
    engine = Engine(config, links=Links.EXECUTOR, place=place_of(cluster, EXECUTOR))
    try:
        engine.bind()
        yield engine
    finally:
        await engine.close()


def _member(config: ExecutorConfig, cluster: ClusterSettings, engine: Engine) -> Member:
    listens = engine.status()
    return Member(
        EXECUTOR,
        cluster.member_name,
        cluster.advertised(listens.data_address),
        engine_version(),
        capacity={"lanes": listens.lanes, "memory_bytes": config.memory_bytes or memory_bytes()},
    )


def _open_app(
    config: ExecutorConfig,
    cluster: ClusterSettings,
    engine: Engine,
    *,
    membership: Membership,
    blobs: SharedBlobs,
    quarantine: Quarantine,
) -> ExecutorApp:
    sight, clock, prefix = membership.sight, SystemClock(), desired_prefix(cluster.cluster)

    def records() -> Records:
        return Records(SnapshotReader(sight.desired, prefix))

    async def sweep() -> None:
        try:
            await blobs.sweep_host(frozenset(model.sha256 for model in await records().models()))
        except BettongError as error:
            # An entry that cannot be read may name any of the files.
            _log.warning("cache_not_swept", reason=error.message)
        except OSError as error:
            _log.warning("cache_not_swept", reason=error.strerror)

    hosting = Hosting(
        BringUp(engine, LoadedModels(engine, blobs), lambda key: compile_stored(records(), key), quarantine),
        clock=clock,
        parallelism=config.load_parallelism,
        on_change=sight.nudge,
        chance=random.SystemRandom(),
    )
    assigner = Assigner(cluster.member_name, prefix)
    return ExecutorApp(sight, hosting, membership.reporter, assigner=assigner, sweep=sweep, clock=clock)


async def _drain(app: ExecutorApp, engine: Engine, membership: Membership, timeout_s: float) -> None:
    """Have others take over, say that we go, then answer what is in flight; all of that within the time, or nearly."""
    engine.set_ready(ready=False)
    clock = SystemClock()
    end_s = clock.monotonic_s() + timeout_s
    await membership.announce_draining()
    # When etcd is away nobody can take over; peers learn from the links that we leave.
    if membership.sight.members.lost_since_ms is None:
        try:
            async with asyncio.timeout(timeout_s):
                await app.dispensable()
        except TimeoutError:
            _log.warning("others_not_ready", timeout_s=timeout_s)
    app.leave()
    await asyncio.sleep(LEAVE_S)
    if not await engine.drain(max(LEAVE_S, end_s - clock.monotonic_s())):
        _log.warning("drain_timed_out", timeout_s=timeout_s)
