"""`bettong cluster`: making one, a whole one on this machine, and playing with its members."""

import signal
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bettong._cli.server_options import etcd_options
from bettong._cli.session import Session, pass_global_options, server_errors, table

if TYPE_CHECKING:
    from bettong._cluster.plan import ClusterPlan
    from bettong._cluster.supervisor import Supervisor
    from bettong_kit.membership.settings import ClusterSettings

_VARIABLES = "BETTONG_CLUSTER_"
_FOLDER = Path(".bettong-cluster")

_data_option = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    envvar=f"{_VARIABLES}DATA",
    default=_FOLDER,
    help="Folder that holds everything of the cluster.  [env: BETTONG_CLUSTER_DATA]",
)


@click.group()
def cluster() -> None:
    """Make a cluster in etcd, or run a whole one on this machine, for development."""


@cluster.command()
@click.option("--gateways", type=click.IntRange(1), help="Processes that accept requests.  [default: 1]")
@click.option(
    "--routers",
    type=click.IntRange(0),
    help="Processes that choose executors; with 0 the gateways do it themselves.  [default: 2]",
)
@click.option("--executors", type=click.IntRange(1), help="Processes that run models.  [default: 3]")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help="Port of the first gateway, whose control port and metrics port are the two after it; each further gateway has "
    "them 10 higher. 0 takes free ones.  [default: 8080]",
)
@click.option("--host", help="Address that the gateways listen on.  [default: 127.0.0.1]")
@_data_option
@click.option("--lanes", type=click.IntRange(1), help="Reactor threads of each member.  [default: 1]")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="What to log.  [default: info]"
)
@click.option(
    "--drain-timeout-s",
    type=click.FloatRange(0, min_open=True),
    help="Seconds for the members of each role to answer what they have, after the first Ctrl-C or SIGTERM.  [default: 10]",
)
@click.option("--build-etcd", is_flag=True, help="Build a current etcd with Go, once, instead of using this machine's.")
def up(*, build_etcd: bool, **flags: Any) -> None:  # noqa: ANN401 - settings by name
    """Run etcd, executors, routers and gateways; a member that dies is started again.

    Every setting can also be given as BETTONG_CLUSTER_<NAME>; other BETTONG_ variables reach all members. The second Ctrl-C
    kills.
    """
    import asyncio
    import os

    from bettong._cluster import etcd
    from bettong._cluster.plan import ClusterPlan
    from bettong_kit.config import load_settings

    with server_errors():
        plan = load_settings(ClusterPlan, prefix=_VARIABLES, flags=flags, environment=os.environ)
        program = etcd.build_etcd(click.echo) if build_etcd else etcd.find_etcd()
        if etcd.may_lose_data(etcd.version_of(program)):
            click.echo(f"{program} may lose data when it is killed (etcd-io/etcd#13766); --build-etcd has a newer one")
        asyncio.run(_up(plan, program))


async def _up(plan: "ClusterPlan", program: Path) -> None:
    import asyncio
    import os
    import sys

    from bettong._cluster.screen import showing
    from bettong._cluster.supervisor import Supervisor
    from bettong_kit.lifecycle import stop_on_signals
    from bettong_kit.logging import configure_logging

    # What we have to say ourselves has its place among the lines of the members.
    configure_logging(level="error")
    stop = asyncio.Event()
    with showing(sys.stderr, width=len("executor-99")) as screen:
        supervisor = Supervisor(plan, program, say=screen.show)

        def exit_now(code: int) -> None:
            supervisor.kill()
            os._exit(code)

        with stop_on_signals(stop, exit_now):
            await supervisor.run(stop, lambda: click.echo(_greeting(plan, supervisor)))


def _greeting(plan: "ClusterPlan", supervisor: "Supervisor") -> str:
    from bettong._cli.welcome import welcome

    gateways = [child.addresses for child in supervisor.children if child.role == "gateway"]
    counts = ", ".join(
        f"{count} {role}{'' if count == 1 else 's'}"
        for role, count in (("gateway", plan.gateways), ("router", plan.routers), ("executor", plan.executors))
    )
    first = {name: gateways[0].get(name, "-") for name in ("data", "control", "metrics")}
    lines = [
        f"Cluster of {counts} in {plan.data}, etcd at {supervisor.etcd}, logs in {plan.log('*')}",
        *(f"gateway-{number}: {url}" for number, url in enumerate(supervisor.urls[1:], start=2)),
        f"bettong cluster kill|pause|resume|stop executor-1 --data {plan.data}",
        "",
        welcome(first["data"], first["control"], first["metrics"], None),
    ]
    return "\n".join(lines)


@cluster.command()
@click.argument("name")
@etcd_options
def create(name: str, **flags: Any) -> None:  # noqa: ANN401 - settings by name
    """Make a cluster in etcd, so that members can join it; the one called "default" needs no making."""
    import asyncio
    import os

    from bettong_gateway.config import GatewayConfig
    from bettong_kit.membership.settings import load_member_settings

    with server_errors():
        # The settings file may also hold those of the members of this host.
        _, settings = load_member_settings(GatewayConfig, flags | {"cluster": name}, os.environ, needs_blobs=False)
        identity = asyncio.run(_create(settings))
    click.echo(f"cluster {name} is {identity[:8]} in etcd at {', '.join(settings.endpoints)}")


async def _create(settings: "ClusterSettings") -> str:
    from bettong_kit.etcd.client import EtcdClient
    from bettong_kit.membership.clusters import create_cluster

    client = EtcdClient(settings.etcd_settings())
    try:
        return await create_cluster(client, settings.cluster)
    finally:
        await client.close()


def _send(data: Path, name: str, number: signal.Signals, *, done: str) -> int:
    from bettong._cluster.state import read_status, signal_member

    with server_errors():
        pid = signal_member(read_status(data), name, number)
    click.echo(f"{name} (process {pid}) {done}")
    return pid


@cluster.command()
@click.argument("name")
@_data_option
def kill(name: str, data: Path) -> None:
    """Kill a member or etcd with SIGKILL; it is started again."""
    _send(data, name, signal.SIGKILL, done="is killed")


@cluster.command()
@click.argument("name")
@_data_option
def pause(name: str, data: Path) -> None:
    """Pause a member or etcd with SIGSTOP: its connections stay open and nothing answers."""
    _send(data, name, signal.SIGSTOP, done="is paused")


@cluster.command()
@click.argument("name")
@_data_option
def resume(name: str, data: Path) -> None:
    """Let a paused member go on."""
    _send(data, name, signal.SIGCONT, done="goes on")


@cluster.command()
@click.argument("name")
@_data_option
def stop(name: str, data: Path) -> None:
    """Let a member drain and end, and wait for it; `bettong cluster start` starts it again."""
    from bettong._cluster.state import until_ended

    pid = _send(data, name, signal.SIGTERM, done="drains")
    with server_errors():
        until_ended(data, name, pid)
    click.echo(f"{name} has ended")


@cluster.command()
@click.argument("name")
@_data_option
def start(name: str, data: Path) -> None:
    """Start a member that was stopped."""
    from bettong._cluster.state import ask_to_start, read_status

    with server_errors():
        ask_to_start(data, read_status(data), name)
    click.echo(f"{name} is started")


@cluster.command()
@_data_option
@pass_global_options
def status(session: Session, data: Path) -> None:
    """Show the processes of the cluster."""
    from bettong._cluster.state import read_status

    with server_errors():
        found = read_status(data)
    columns = ("name", "state", "pid", "address", "restarts")
    rows = [[getattr(member, name) for name in columns] for member in found.members]
    title = f"cluster in {data}, process {found.pid}, {found.url}"
    session.show(asdict(found), f"{title}\n{table(columns, rows)}")
