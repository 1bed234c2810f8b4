"""`bettong model …`: the registry of models."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bettong._cli.names import model_names
from bettong._cli.session import Session, pass_global_options

if TYPE_CHECKING:
    from bettong._model_settings import DynamicBatchingConfig
    from bettong._models import ModelVersion

_VERSION_HELP = "Version; the newest if it is not given."
_DEFAULT_ROWS = 256


@click.group()
def model() -> None:
    """Upload, list, show, configure and delete models."""


@model.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--framework", help="How to run the file.  [default: told by its suffix]")
@click.option("--tensor-field", "tensor_fields", multiple=True, help="Incoming column; once for each input, in order.")
@pass_global_options
def upload(session: Session, name: str, file: Path, *, framework: str | None, tensor_fields: tuple[str, ...]) -> None:
    """Upload FILE as the next version of model NAME."""
    with session.connect() as client:
        version = client.upload_model(name, file, framework)
        if tensor_fields:
            version.configure(tensor_fields=tensor_fields)
        session.show(_details(version), f"{name} version {version.version()}: {version.signature}")


@model.command("list")
@click.argument("name", required=False)
@pass_global_options
def list_models(session: Session, name: str | None) -> None:
    """List all models, or the versions of NAME."""
    with session.connect() as client:
        found = [version for entry in client.list_models() for version in entry.versions()]
        rows = [
            (
                version.name(),
                version.version(),
                version.sha()[:12],
                version.size_bytes,
                _moment(version),
                str(version.signature),
            )
            for version in found
            if name in {None, version.name()}
        ]
        session.show_rows(("name", "version", "sha256", "bytes", "created", "signature"), rows)


@model.command()
@click.argument("name", shell_complete=model_names)
@click.option("--version", type=click.IntRange(1), help=_VERSION_HELP)
@pass_global_options
def show(session: Session, name: str, version: int | None) -> None:
    """Show a version of model NAME."""
    with session.connect() as client:
        _show(session, client.get_model(name, version))


@model.command()
@click.argument("name", shell_complete=model_names)
@click.option("--version", type=click.IntRange(1), help=_VERSION_HELP)
@click.option("--tensor-field", "tensor_fields", multiple=True, help="Incoming column; once for each input, in order.")
@click.option("--single", is_flag=True, help="Run one row at a time; ends --max-delay-ms and --max-rows.")
@click.option(
    "--max-delay-ms",
    type=click.FloatRange(0),
    help="Milliseconds that a batch may wait for more rows; ends --single.  [default at first: 0]",
)
@click.option(
    "--max-rows", type=click.IntRange(1), help="Longest batch in rows; ends --single.  [default at first: 256]"
)
@pass_global_options
def configure(session: Session, /, name: str, version: int | None, **settings: Any) -> None:  # noqa: ANN401 - settings by name
    """Change how a version of model NAME is fed; what is not given stays."""
    delay_ms, rows = settings["max_delay_ms"], settings["max_rows"]
    if settings["single"] and (delay_ms, rows) != (None, None):
        raise click.UsageError("--single goes neither with --max-delay-ms nor with --max-rows")
    with session.connect() as client:
        found = client.get_model(name, version)
        found.configure(
            tensor_fields=settings["tensor_fields"] or None,
            batch_config="single" if settings["single"] else None,
            dynamic_batching_config=_batching(found.config().dynamic_batching_config(), delay_ms, rows),
        )
        _show(session, found)


def _batching(
    stored: "DynamicBatchingConfig | None", delay_ms: float | None, rows: int | None
) -> "DynamicBatchingConfig | None":
    """Return what is to be stored: of two numbers, the one that is not given stays."""
    from bettong._model_settings import DynamicBatchingConfig

    if delay_ms is None and rows is None:
        return None
    before = stored or DynamicBatchingConfig(0, _DEFAULT_ROWS)
    return DynamicBatchingConfig(
        before.max_batch_delay_ms if delay_ms is None else delay_ms, before.max_batch_rows if rows is None else rows
    )


@model.command()
@click.argument("name", shell_complete=model_names)
@click.option("--version", type=click.IntRange(1), help="Version; all if it is not given.")
@pass_global_options
def delete(session: Session, name: str, version: int | None) -> None:
    """Delete model NAME, or one version of it."""
    with session.connect() as client:
        versions = client.delete_model(name, version)
        session.show({"name": name, "versions": versions}, f"deleted {name}: version {', '.join(map(str, versions))}")


def _show(session: Session, version: "ModelVersion") -> None:
    details = _details(version)
    lines = details | {"batch": _batch_text(details["batch"])}
    session.show(details, "\n".join(f"{name:<14}{value}" for name, value in lines.items()))


def _batch_text(batch: str | dict[str, Any]) -> str:
    """Return how rows are joined for people."""
    if isinstance(batch, str):
        return batch
    return f"up to {batch['max_rows']} rows, waiting for them for up to {batch['max_delay_ms']:g} ms"


def _details(version: "ModelVersion") -> dict[str, Any]:
    batching = version.config().dynamic_batching_config()
    return {
        "name": version.name(),
        "version": version.version(),
        "status": version.status(),
        "framework": version.framework().value,
        "sha256": version.sha(),
        "bytes": version.size_bytes,
        "file": version.file_name(),
        "created": _moment(version),
        "inputs": [str(spec) for spec in version.inputs],
        "outputs": [str(spec) for spec in version.outputs],
        "tensor_fields": version.config().tensor_fields(),
        "batch": version.config().batch_config() or _batch(batching),
    }


def _batch(batching: "DynamicBatchingConfig | None") -> str | dict[str, Any]:
    """Return how rows are joined, by the names of the options that set it."""
    if batching is None:
        return "natural"
    return {"max_delay_ms": batching.max_batch_delay_ms, "max_rows": batching.max_batch_rows}


def _moment(version: "ModelVersion") -> str:
    return version.created.isoformat(timespec="seconds")
