"""`bettong serve` and `bettong up`: the server in the foreground."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bettong._cli.session import server_errors

if TYPE_CHECKING:
    from bettong_gateway.config import GatewayConfig
    from bettong_gateway.serve import ModelFile

CommandT = TypeVar("CommandT", bound=Callable[..., object])

_LONGEST_NAME = 63

_SERVER_OPTIONS = (
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
    click.option(
        "--control-port",
        type=click.IntRange(0, 65_535),
        help="Port of the control plane, for SDK and CLI.  [default: the one after --port]",
    ),
    click.option(
        "--metrics-port",
        type=click.IntRange(0, 65_535),
        help="Port of the Prometheus metrics.  [default: the one after --control-port]",
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


def _server_options(command: CommandT) -> CommandT:
    for option in reversed(_SERVER_OPTIONS):
        command = option(command)
    return command


@click.command()
@_server_options
def up(**flags: Any) -> None:  # noqa: ANN401 - settings by name
    """Run the server with all that was deployed before.

    Every setting can also be given as BETTONG_<NAME> or in the file that BETTONG_CONFIG names.
    """
    _run(flags, ())


@click.command()
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL.onnx")
@click.option("--name", help="Name to serve under.  [default: the name of the file]")
@click.option("--tensor-field", "tensor_fields", multiple=True, help="Incoming column; once for each input, in order.")
@_server_options
def serve(model: Path, name: str | None, tensor_fields: tuple[str, ...], **flags: Any) -> None:  # noqa: ANN401 - settings by name
    """Serve an ONNX file, at once, on every protocol."""
    from bettong_gateway.serve import ModelFile

    if not model.is_file():
        raise click.UsageError(f"{model} is no file")
    _run(flags, (ModelFile(name or _name_of(model), model, tensor_fields),))


def _name_of(path: Path) -> str:
    """Make a name that is allowed out of the name of a file."""
    name = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:_LONGEST_NAME].strip("-")
    if not name:
        raise click.UsageError(f"no name can be made of '{path.name}'; give one with --name")
    return name


def _run(flags: dict[str, Any], models: "Sequence[ModelFile]") -> None:
    import asyncio

    from bettong_gateway.config import load_config

    with server_errors():
        asyncio.run(_serve(load_config(flags), models))


async def _serve(config: "GatewayConfig", models: "Sequence[ModelFile]") -> None:
    import asyncio

    from bettong._cli.welcome import welcome
    from bettong_gateway import serve as gateway
    from bettong_kit.lifecycle import stop_on_signals

    stop = asyncio.Event()
    with stop_on_signals(stop):
        await gateway.serve(
            config,
            stop,
            lambda at: click.echo(welcome(at.data, at.control, at.metrics, models[0].name if models else None)),
            models=models,
        )
