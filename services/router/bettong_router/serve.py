"""Assembly of one router."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from bettong_catalog.shared import desired_prefix
from bettong_kit.clock import SystemClock
from bettong_kit.lifecycle import Lifecycle, State
from bettong_kit.logging import configure_logging, get_logger
from bettong_kit.membership.members import Member
from bettong_kit.membership.settings import ClusterSettings
from bettong_router.app import RouterApp
from bettong_router.config import RouterConfig
from bettong_serving.data_folder import locked_data_folder
from bettong_serving.engine import Engine, engine_version, set_engine_log_level
from bettong_serving.forwarding import Forwarding
from bettong_serving.member import NOTICE_S, Addresses, Membership, announced, entered, place_of, run_until
from bettong_serving.ports import Links

_log = get_logger("serve")
ROLE = "router"


async def serve(
    config: RouterConfig, cluster: ClusterSettings, stop: asyncio.Event, on_ready: Callable[[Addresses], None]
) -> None:
    """Pass calls on until *stop* is set, then drain; resources close in reverse order.

    Args:
        config: Ports and bounds, checked.
        cluster: Which cluster, and who we are in it.
        stop: Ends the process when set.
        on_ready: Called once, when calls can be passed on.

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
        client, _ = await stack.enter_async_context(entered(cluster, folder))
        engine = await stack.enter_async_context(_open_engine(config, cluster))
        listens = engine.status()
        member = Member(
            ROLE,
            cluster.member_name,
            cluster.advertised(listens.data_address),
            engine_version(),
            capacity={"lanes": listens.lanes},
        )
        membership = await stack.enter_async_context(announced(client, cluster.cluster, member, folder=folder))
        clock = SystemClock()
        forwarding = Forwarding(engine, prefix=desired_prefix(cluster.cluster), clock=clock)
        app = RouterApp(membership.sight, forwarding, membership.reporter, clock)

        async def bring_up() -> None:
            await app.ready()
            engine.set_ready(ready=True)
            lifecycle.advance(State.SERVING)
            on_ready(Addresses(listens.data_address, listens.metrics_address))

        async def drain() -> None:
            lifecycle.advance(State.DRAINING)
            await _drain(engine, membership, config.drain_timeout_s)

        await run_until(stop, [*membership.tasks(), app.run()], bring_up=bring_up(), drain=drain)
    lifecycle.advance(State.STOPPED)


@contextlib.asynccontextmanager
async def _open_engine(config: RouterConfig, cluster: ClusterSettings) -> AsyncIterator[Engine]:
    set_engine_log_level(config.log_level)
    engine = Engine(config, links=Links.ROUTER, place=place_of(cluster, ROLE))
    try:
        engine.bind()
        yield engine
    finally:
        await engine.close()


async def _drain(engine: Engine, membership: Membership, timeout_s: float) -> None:
    """Send gateways elsewhere, then answer what is in flight."""
    engine.set_ready(ready=False)
    await membership.announce_draining()
    await asyncio.sleep(NOTICE_S)
    if not await engine.drain(timeout_s):
        _log.warning("drain_timed_out", timeout_s=timeout_s)
