"""`bettong infer`: rows from a file through a pipeline."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bettong._cli.names import pipeline_names
from bettong._cli.session import Session, table

if TYPE_CHECKING:
    import pyarrow as pa

_WIDEST_CELL = 40


@click.command()
@click.argument("pipeline", shell_complete=pipeline_names)
@click.argument("file", type=click.Path(allow_dash=True, path_type=Path))
@click.option("--url", metavar="URL", help="Address of the server.  [env: BETTONG_URL; default: http://127.0.0.1:8080]")
@click.option(
    "--output",
    type=click.Choice(["json", "arrow", "table"]),
    help="How to print; arrow is an Arrow stream.  [default: table on a terminal, else json]",
)
@click.option("--input-format", help="json, csv, arrow or parquet.  [default: told by the suffix; json for -]")
@click.option(
    "--dataset", multiple=True, help="Column or group to return; may be repeated.  [default: all but metadata]"
)
@click.option("--dataset-exclude", multiple=True, help="Column or group to leave out; may be repeated.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=15.0, help="Seconds for the reply.")
@click.pass_context
def infer(context: click.Context, /, pipeline: str, file: Path, **options: Any) -> None:  # noqa: ANN401 - options by name
    """Run the rows of FILE (or - for standard input) through PIPELINE.

    JSON and CSV hold records, one a row; Arrow is a file or a stream.
    """
    before = context.find_object(Session) or Session()
    session = Session(options["url"] or before.url)
    rows = _read(file, options["input_format"])
    with session.connect() as client:
        reply = client.build_pipeline(pipeline).infer(
            rows,
            options["timeout"],
            dataset=options["dataset"] or None,
            dataset_exclude=options["dataset_exclude"] or None,
        )
    how = options["output"] or ("json" if before.is_json or not sys.stdout.isatty() else "table")
    {"json": _print_json, "arrow": _print_arrow, "table": _print_table}[how](reply)


def _read(file: Path, input_format: str | None) -> "pa.Table":
    from bettong._files import parse_frame, read_frame
    from bettong._frames.kinds import open_frame

    if str(file) == "-":
        given = parse_frame(sys.stdin.buffer, input_format or "json", "standard input")
    else:
        given = read_frame(file, input_format)
    return open_frame(given).table


def _print_arrow(reply: "pa.Table") -> None:
    from bettong._frames.arrow_stream import stream_pieces

    for piece in stream_pieces(reply):
        sys.stdout.buffer.write(piece)


def _print_json(reply: "pa.Table") -> None:
    columns = [_plain(column) for column in reply.columns]
    records = [dict(zip(reply.column_names, row, strict=True)) for row in zip(*columns, strict=True)]
    click.echo(json.dumps(records, ensure_ascii=False))


def _print_table(reply: "pa.Table") -> None:
    columns = [[_short(value) for value in _plain(column)] for column in reply.columns]
    click.echo(table(reply.column_names, list(zip(*columns, strict=True))))


def _plain(column: "pa.ChunkedArray[Any]") -> list[Any]:
    """Return values as JSON has them: a float with the digits that its type has, a time in milliseconds."""
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):
        return column.cast(pa.int64()).to_pylist()
    return [_shortest(value) for value in column.to_pylist()] if _has_float32(column.type) else column.to_pylist()


def _has_float32(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    while pa.types.is_nested(kind) and kind.num_fields == 1:
        kind = kind.field(0).type
    return bool(pa.types.is_float32(kind))


def _shortest(value: Any) -> Any:  # noqa: ANN401 - nested lists of floats
    import numpy as np

    if isinstance(value, list):
        return [_shortest(part) for part in value]
    return value if value is None else float(str(np.float32(value)))


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)
    return text if len(text) <= _WIDEST_CELL else f"{text[: _WIDEST_CELL - 1]}…"
