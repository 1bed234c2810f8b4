"""`bettong serve` and `bettong up`: the server in the foreground."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bettong._cli.server_options import server_options
from bettong._cli.session import server_errors

if TYPE_CHECKING:
    from bettong_gateway.config import GatewayConfig
    from bettong_gateway.serve import ModelFile

_LONGEST_NAME = 63


@click.command()
@server_options
def up(**flags: Any) -> None:  # noqa: ANN401 - settings by name
    """Run the server with all that was deployed before.

    Every setting can also be given as BETTONG_<NAME> or in the file that BETTONG_CONFIG names.
    """
    _run(flags, ())


@click.command()
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL.onnx")
@click.option("--name", help="Name to serve under.  [default: the name of the file]")
@click.option("--tensor-field", "tensor_fields", multiple=True, help="Incoming column; once for each input, in order.")
@server_options
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
    import os

    from bettong._cli.variables import warn_misspelled
    from bettong_gateway.config import load_config

    warn_misspelled(os.environ)
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
