"""Assembly of a gateway that is a member of a cluster."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from bettong_catalog.blobs import Blobs
from bettong_catalog.etcd_store import EtcdStore
from bettong_catalog.followed_store import FollowedStore, LastKnown
from bettong_catalog.object_stores import open_objects
from bettong_catalog.records import Records
from bettong_catalog.registry import Registry
from bettong_catalog.shared import desired_prefix
from bettong_catalog.shared_blobs import SharedBlobs
from bettong_domain.hosts import GATEWAY
from bettong_gateway.app import App
from bettong_gateway.cluster_reconcile import ClusterReconciler, Myself, Notes
from bettong_gateway.cluster_routes import Routes
from bettong_gateway.cluster_view import SeenCluster
from bettong_gateway.config import GatewayConfig
from bettong_gateway.data_port import DataPortCalls
from bettong_gateway.deployment_app import DeploymentApp
from bettong_gateway.good_versions import GoodVersions
from bettong_gateway.model_app import ModelApp
from bettong_gateway.pipeline_app import PipelineApp
from bettong_gateway.progress import Progress
from bettong_gateway.server_app import Addresses, Place, ServerApp
from bettong_gateway.servicer import registrations
from bettong_gateway.sweeping import Sweeping
from bettong_kit.clock import SystemClock
from bettong_kit.lifecycle import Lifecycle, State
from bettong_kit.logging import configure_logging, get_logger
from bettong_kit.membership.members import Member, cluster_root
from bettong_kit.membership.settings import ClusterSettings
from bettong_kit.rpc import RpcServer, RpcSettings, serving
from bettong_serving.data_folder import locked_data_folder
from bettong_serving.engine import Engine, engine_version, set_engine_log_level
from bettong_serving.forwarding import Forwarding
from bettong_serving.member import Membership, announced, entered, place_of, run_until

_log = get_logger("serve")


async def serve(
    config: GatewayConfig, cluster: ClusterSettings, stop: asyncio.Event, on_ready: Callable[[Addresses], None]
) -> None:
    """Serve until *stop* is set, then drain; resources close in reverse order.

    Args:
        config: Ports and bounds, checked.
        cluster: Which cluster, and who we are in it.
        stop: Ends the process when set.
        on_ready: Called once, when all that is deployed serves, or cannot for the moment.

    Raises:
        StartError: The data folder or a port is taken, the engine cannot start, or etcd does not let us in.
        MemberReplacedError: Another process has our name.
        CoordinationLostError: etcd does not answer at the start.

    Cancellation:
        Ends at once without draining; the state is safe.
    """
    configure_logging(level=config.log_level, style=config.log_style)
    lifecycle = Lifecycle()
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(locked_data_folder(config.data))
        config.check_ports_free()
        client, identity = await stack.enter_async_context(entered(cluster, folder))
        control = RpcServer(RpcSettings(config.host, config.control_port_or_next(), max_calls=config.max_control_calls))
        calls = DataPortCalls(asyncio.get_running_loop())
        engine = await stack.enter_async_context(_open_engine(config, cluster, control.address, calls))
        member = _member(cluster, engine, control.address)
        membership = await stack.enter_async_context(announced(client, cluster.cluster, member, folder=folder))
        app, sweeping = await stack.enter_async_context(
            _opened_app(_Parts(config, cluster, folder, engine, membership, identity))
        )
        view = SeenCluster(membership.sight, engine, name=cluster.cluster, member=member.name)
        place = Place(folder, control.address, view)
        server = ServerApp(engine, app.deployments, place=place, lifecycle=lifecycle, clock=SystemClock())
        await stack.enter_async_context(serving(control, registrations(app, server)))

        async def bring_up() -> None:
            await app.reconciler.restore()
            engine.set_ready(ready=True)
            lifecycle.advance(State.SERVING)
            on_ready(server.addresses())

        async def drain() -> None:
            lifecycle.advance(State.DRAINING)
            calls.close()
            app.deployments.close()
            await _drain(engine, membership, config.drain_timeout_s)

        tasks = [*membership.tasks(), app.reconciler.run(), sweeping.run(), _answer(calls, app)]
        await run_until(stop, tasks, bring_up=bring_up(), drain=drain)
    lifecycle.advance(State.STOPPED)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What an application is made of."""

    config: GatewayConfig
    cluster: ClusterSettings
    folder: Path
    engine: Engine
    membership: Membership
    identity: str
    """Of the cluster."""


@contextlib.asynccontextmanager
async def _open_engine(
    config: GatewayConfig, cluster: ClusterSettings, control_address: str, calls: DataPortCalls
) -> AsyncIterator[Engine]:
    set_engine_log_level(config.log_level)
    engine = Engine(
        config,
        control_address=control_address,
        on_control=calls.on_control,
        place=place_of(cluster, GATEWAY),
    )
    try:
        engine.bind()
        yield engine
    finally:
        await engine.close()


def _member(cluster: ClusterSettings, engine: Engine, control_address: str) -> Member:
    listens = engine.status()
    address = cluster.advertised(listens.data_address)
    host, control_port = address.rpartition(":")[0], control_address.rpartition(":")[2]
    return Member(
        GATEWAY,
        cluster.member_name,
        address,
        engine_version(),
        control_address=f"{host}:{control_port}",
        capacity={"lanes": listens.lanes},
    )


@contextlib.asynccontextmanager
async def _opened_app(parts: _Parts) -> AsyncIterator[tuple[App, Sweeping]]:
    sight, clock = parts.membership.sight, SystemClock()
    store = EtcdStore(parts.membership.client, cluster_root(parts.cluster.cluster))
    try:
        followed = FollowedStore(store, lambda: sight.desired, desired_prefix(parts.cluster.cluster), clock)
        registry = Registry(followed, clock, shown=Records(LastKnown(followed)))
        folder = Blobs(parts.folder / "models", max_bytes=parts.config.max_model_bytes)
        blobs = SharedBlobs(open_objects(parts.cluster.blobs), folder, owner=parts.identity)
        progress = Progress()
        reconciler = _reconciler(parts, registry, progress)
        app = App(
            models=ModelApp(registry, blobs, parts.engine, clock=clock, max_bytes=parts.config.max_model_bytes),
            pipelines=PipelineApp(registry, reconciler, clock=clock),
            deployments=DeploymentApp(registry, reconciler, progress, engine=parts.engine, clock=clock),
            reconciler=reconciler,
        )
        yield app, Sweeping(registry, blobs)
    finally:
        await store.close()


def _reconciler(parts: _Parts, registry: Registry, progress: Progress) -> ClusterReconciler:
    clock, prefix = SystemClock(), desired_prefix(parts.cluster.cluster)
    through_routers = not parts.config.router_inside
    return ClusterReconciler(
        parts.membership.sight,
        Forwarding(parts.engine, prefix=prefix, clock=clock, through_routers=through_routers),
        Routes(parts.engine),
        myself=Myself(parts.cluster.member_name, prefix, through_routers),
        notes=Notes(progress, GoodVersions(registry), parts.membership.reporter),
        clock=clock,
    )


async def _answer(calls: DataPortCalls, app: App) -> None:
    """Answer calls for the control plane that arrive on the data port until cancelled; those under way are cancelled, too."""
    async with asyncio.TaskGroup() as tasks:
        calls.open(app, tasks)
        await asyncio.Event().wait()


async def _drain(engine: Engine, membership: Membership, timeout_s: float) -> None:
    """Say that we leave, then answer what is in flight."""
    engine.set_ready(ready=False)
    await membership.announce_draining()
    if not await engine.drain(timeout_s):
        _log.warning("drain_timed_out", timeout_s=timeout_s)
