"""`bettong status` and `bettong logs-level`: how a server does, and how much it says."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from bettong._cli.members import lost_line
from bettong._cli.session import Session, pass_global_options, table
from bettong._cli.watching import show_watched, watch_options

if TYPE_CHECKING:
    from bettong._client import Client
    from bettong.v1 import deployments_pb2


@click.command()
@watch_options
@pass_global_options
def status(session: Session, *, watch: bool, interval: float) -> None:
    """Show where the server listens, what it serves and how much it has done; in a cluster, what is ready where."""
    with session.connect() as client:

        def look() -> tuple[Any, str]:
            details = _details(client)
            return details, _text(details)

        show_watched(session, look, watch=watch, interval=interval)


@click.command("logs-level")
@click.argument("level", type=click.Choice(["debug", "info", "warning", "error"]))
@pass_global_options
def logs_level(session: Session, level: str) -> None:
    """Change what the running server logs."""
    from bettong.v1 import server_pb2

    with session.connect() as client:
        request = server_pb2.SetLogLevelRequest(level=level)
        previous = client._connection.ask(lambda control: control.server.SetLogLevel, request).previous  # noqa: SLF001 - same package
        session.show({"level": level, "previous": previous}, f"log level is {level}, was {previous}")


def _details(client: "Client") -> dict[str, Any]:
    from bettong.v1 import server_pb2

    request = server_pb2.GetStatusRequest()
    reply = client._connection.ask(lambda control: control.server.GetStatus, request)  # noqa: SLF001 - same package
    plain = ("version", "state", "data_address", "control_address", "metrics_address", "data_path", "pid", "lanes")
    details: dict[str, Any] = {name: getattr(reply, name) for name in plain}
    details["uptime_s"] = round(reply.uptime_s, 1)
    details |= {name: getattr(reply, name) for name in ("answered", "refused", "failed", "in_flight")}
    details["runtimes"] = dict(reply.runtimes)
    details |= {"cluster": reply.cluster, "member": reply.member}
    lost_ms = reply.coordination.lost_since_ms
    lost_since = dt.datetime.fromtimestamp(lost_ms / 1000, tz=dt.UTC).isoformat(timespec="seconds")
    details["etcd_lost_since"] = lost_since if lost_ms else None
    details["etcd_lost_reason"] = reply.coordination.lost_reason
    details["deployments"] = [_deployment(deployment) for deployment in reply.deployments]
    return details


def _deployment(message: "deployments_pb2.Deployment") -> dict[str, Any]:
    from bettong._deployments import deployment_from_pb

    found = deployment_from_pb(message)
    return {
        "pipeline": found.pipeline,
        "version": found.version,
        "serving": found.serving_version,
        "state": found.state,
        "reason": found.reason,
        "replicas": [asdict(replica) for replica in found.replicas],
    }


def _text(details: dict[str, Any]) -> str:
    runtimes = ", ".join(f"{name} {version}" for name, version in details["runtimes"].items())
    lines = [
        f"Bettong {details['version']} is {details['state'].lower()} for {details['uptime_s']:g} s",
        f"process {details['pid']}, {details['lanes']} lanes, {runtimes}, state in {details['data_path']}",
        *([f"gateway {details['member']} of cluster {details['cluster']}"] if details["cluster"] else []),
        *lost_line(details["etcd_lost_since"], details["etcd_lost_reason"]),
        f"data http://{details['data_address']}, control {details['control_address']}, metrics {details['metrics_address']}",
        ", ".join(
            f"{name.replace('_', ' ')} {details[name]}" for name in ("answered", "refused", "failed", "in_flight")
        ),
    ]
    return "\n".join([*lines, *_deployments_text(details["deployments"])])


def _deployments_text(deployments: Sequence[dict[str, Any]]) -> list[str]:
    """Return a table of what is deployed, and in a cluster one of what is where."""
    if not deployments:
        return ["nothing is deployed"]
    columns = [name for name in deployments[0] if name != "replicas"]
    tables = [table(columns, [[found[name] for name in columns] for found in deployments])]
    replicas = [{"pipeline": found["pipeline"]} | replica for found in deployments for replica in found["replicas"]]
    if replicas:
        tables += ["", table(list(replicas[0]), [list(replica.values()) for replica in replicas])]
    return tables
