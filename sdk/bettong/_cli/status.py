"""`bettong status` and `bettong logs-level`: how a server does, and how much it says."""

import sys
import threading
from typing import TYPE_CHECKING, Any

import click

from bettong._cli.session import Session, pass_global_options, table

if TYPE_CHECKING:
    from bettong._client import Client


@click.command()
@click.option("--watch", is_flag=True, help="Show it again and again until Ctrl-C.")
@click.option("--interval", type=click.FloatRange(0.1), default=1.0, help="Seconds between two looks, with --watch.")
@pass_global_options
def status(session: Session, *, watch: bool, interval: float) -> None:
    """Show where the server listens, what it serves and how much it has done."""
    with session.connect() as client:
        details = _details(client)
        session.show(details, _text(details))
        pause = threading.Event()
        while watch and not pause.wait(interval):
            details = _details(client)
            if sys.stdout.isatty() and not session.is_json:
                click.clear()
            session.show(details, _text(details))


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
    from bettong._deployments import state_name
    from bettong.v1 import server_pb2

    request = server_pb2.GetStatusRequest()
    reply = client._connection.ask(lambda control: control.server.GetStatus, request)  # noqa: SLF001 - same package
    plain = ("version", "state", "data_address", "control_address", "metrics_address", "data_path", "pid", "lanes")
    details: dict[str, Any] = {name: getattr(reply, name) for name in plain}
    details["uptime_s"] = round(reply.uptime_s, 1)
    details |= {name: getattr(reply, name) for name in ("answered", "refused", "failed", "in_flight")}
    details["runtimes"] = dict(reply.runtimes)
    details["deployments"] = [
        {
            "pipeline": deployment.pipeline,
            "version": deployment.version,
            "serving": deployment.serving_version or None,
            "state": state_name(deployment.state),
            "reason": deployment.reason,
        }
        for deployment in reply.deployments
    ]
    return details


def _text(details: dict[str, Any]) -> str:
    runtimes = ", ".join(f"{name} {version}" for name, version in details["runtimes"].items())
    lines = [
        f"Bettong {details['version']} is {details['state'].lower()} for {details['uptime_s']:g} s",
        f"process {details['pid']}, {details['lanes']} lanes, {runtimes}, state in {details['data_path']}",
        f"data http://{details['data_address']}, control {details['control_address']}, metrics {details['metrics_address']}",
        ", ".join(
            f"{name.replace('_', ' ')} {details[name]}" for name in ("answered", "refused", "failed", "in_flight")
        ),
    ]
    rows = [list(deployment.values()) for deployment in details["deployments"]]
    return "\n".join([*lines, *([table(list(details["deployments"][0]), rows)] if rows else ["nothing is deployed"])])
