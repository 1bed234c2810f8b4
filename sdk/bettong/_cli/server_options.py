"""Settings as flags; each has its unit and its default, and can also be given as BETTONG_<NAME> or in the settings file."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

CommandT = TypeVar("CommandT", bound=Callable[..., object])
Option = Callable[[Any], Any]


def _file(name: str, help_text: str) -> Option:
    return click.option(name, type=click.Path(dir_okay=False, path_type=Path), help=help_text)


_ETCD_OPTIONS: tuple[Option, ...] = (
    click.option(
        "--etcd",
        metavar="HOSTS",
        help="Servers of etcd, host[:port] with commas.  [env: BETTONG_ETCD; default port: 2379; required]",
    ),
    click.option("--etcd-user", help="User of etcd; a client certificate needs none."),
    _file("--etcd-password-file", "File with the password of --etcd-user."),
    _file("--etcd-ca", "PEM file of the authorities that etcd's certificates are checked against; turns TLS on."),
    _file("--etcd-cert", "PEM file of our certificate, where etcd asks for one."),
    _file("--etcd-key", "PEM file of the key of --etcd-cert."),
    click.option("--etcd-server-name", help="Name to expect in etcd's certificates.  [default: the host]"),
)

_MEMBER_OPTIONS: tuple[Option, ...] = (
    click.option(
        "--cluster",
        help="Name of the cluster; one of another name than the default is made by `bettong cluster create`.  "
        "[default: default]",
    ),
    click.option("--name", help="Name of this member, unique in its role.  [default: name of the host]"),
    click.option(
        "--advertise",
        metavar="HOST[:PORT]",
        help="Where the other members reach this one.  [default: the address that it listens on]",
    ),
    click.option(
        "--blobs",
        metavar="URL",
        help="Where model files are kept for all members: file:///folder or s3://bucket/prefix; routers need none.  "
        "[env: BETTONG_BLOBS; required]",
    ),
    _file("--link-ca", "PEM file of the authorities of members' certificates; then only proven members are talked to."),
    _file("--link-cert", "PEM file of this member's certificate, for the host that others reach it at."),
    _file("--link-key", "PEM file of the key of --link-cert."),
)

_CONTROL_PORT: Option = click.option(
    "--control-port",
    type=click.IntRange(0, 65_535),
    help="Port of the control plane, for SDK and CLI.  [default: the one after --port]",
)

_OF_ROUTERS: tuple[Option, ...] = (
    click.option(
        "--hedge-after-ms",
        type=click.IntRange(0, 60_000),
        help="Milliseconds after which a request that is not answered is sent to another replica too; the first answer "
        "counts; 0 is never.  [default: 0]",
    ),
)

_OF_GATEWAYS: tuple[Option, ...] = (
    *_OF_ROUTERS,
    click.option(
        "--router-inside/--no-router-inside",
        default=None,
        help="Choose executors in the gateway itself, which saves a hop, or leave that to routers.  [default: inside]",
    ),
)

_OF_EXECUTORS: tuple[Option, ...] = (
    click.option(
        "--memory-bytes",
        type=click.IntRange(1),
        help="Bytes of memory that pipelines may ask for here.  [default: what the machine or the container has]",
    ),
    click.option(
        "--cache",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder for fetched model files, which executors of one host may share.  [default: one in --data]",
    ),
)

_OPTIONS: tuple[Option, ...] = (
    click.option(
        "--port",
        "data_port",
        type=click.IntRange(0, 65_535),
        help="Port for events; 0 takes any free one.  [default: 8080]",
    ),
    click.option("--host", help="Address that all ports listen on.  [default: 127.0.0.1]"),
    click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder that holds all state.  [env: BETTONG_DATA; default: .bettong]",
    ),
    _CONTROL_PORT,
    click.option(
        "--metrics-port",
        type=click.IntRange(0, 65_535),
        help="Port of the Prometheus metrics.  [default: the one after the others]",
    ),
    click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        help="What to log; `bettong logs-level` changes it later.  [default: info]",
    ),
    click.option(
        "--log-format",
        "log_style",
        type=click.Choice(["auto", "console", "json"]),
        help="How to log; auto is console on a terminal, else json.  [default: auto]",
    ),
    click.option("--lanes", type=click.IntRange(1), help="Reactor threads.  [default: one for each core]"),
    click.option(
        "--spin-us",
        type=click.IntRange(0),
        help="Microseconds that an idle reactor looks for work before it sleeps; lowers latency, burns a core.  [default: 0]",
    ),
    click.option(
        "--max-batch-rows",
        type=click.IntRange(1),
        help="Longest batch in rows, for pipelines that do not say.  [default: 256]",
    ),
    click.option("--max-request-bytes", type=click.IntRange(1), help="Longest request in bytes.  [default: 512 MiB]"),
    click.option(
        "--max-in-flight",
        type=click.IntRange(1),
        help="Requests that may be admitted and not yet answered; more are refused.  [default: 65536]",
    ),
    click.option(
        "--drain-timeout-s",
        type=click.FloatRange(0, min_open=True),
        help="Seconds for requests in flight to be answered after the first Ctrl-C or SIGTERM.  [default: 30]",
    ),
)


def server_options(command: CommandT) -> CommandT:
    """Give a command the settings of a process that takes requests and has a control plane."""
    return _with(command, _OPTIONS)


def etcd_options(command: CommandT) -> CommandT:
    """Give a command what is needed to reach etcd."""
    return _with(command, _ETCD_OPTIONS)


def role_options(role: str) -> Callable[[CommandT], CommandT]:
    """Return what gives a command the settings of a member of a cluster; only gateways have a control plane."""
    own = {"gateway": _OF_GATEWAYS, "router": _OF_ROUTERS, "executor": _OF_EXECUTORS}[role]
    shared = [option for option in _OPTIONS if role == "gateway" or option is not _CONTROL_PORT]

    def give(command: CommandT) -> CommandT:
        return _with(command, [*_MEMBER_OPTIONS, *_ETCD_OPTIONS, *own, *shared])

    return give


def _with(command: CommandT, options: Sequence[Option]) -> CommandT:
    for option in reversed(options):
        command = option(command)
    return command
