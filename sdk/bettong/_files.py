"""Frames in files, by suffix or by a format that is named."""

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from bettong._csv import read_csv
from bettong._errors import InvalidInputError, missing_value

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_ARROW_FILE_MAGIC = b"ARROW1"

_FORMAT_BY_NAME = {
    "json": "json",
    "pandas-records": "json",
    "arrow": "arrow",
    "feather": "arrow",
    "ipc": "arrow",
    "csv": "csv",
    "parquet": "parquet",
}


def read_frame(path: Path, data_format: str | None = None) -> Any:  # noqa: ANN401 - a data frame or a table
    """Read records in JSON or CSV as a pandas data frame, Arrow and Parquet as a pyarrow table.

    Raises:
        InvalidInputError: The file cannot be read or is not what its name says.
    """
    try:
        with path.open("rb") as file:
            return parse_frame(file, data_format or path.suffix.lstrip("."), str(path))
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror or error}") from error


def parse_frame(file: BinaryIO, data_format: str, origin: str) -> Any:  # noqa: ANN401 - a data frame or a table
    """Read a frame of a format from an open file; *origin* names it in messages.

    Raises:
        InvalidInputError: The format is unknown or the content is something else.
    """
    kind = _FORMAT_BY_NAME.get(data_format.lower())
    if kind is None:
        known = ", ".join(sorted(set(_FORMAT_BY_NAME)))
        raise InvalidInputError(f"{origin}: format '{data_format}' is unknown; known: {known}", field="data_format")
    readers = {"json": _read_json, "arrow": _read_arrow, "csv": read_csv, "parquet": _read_parquet}
    try:
        return readers[kind](file)
    except InvalidInputError as error:
        raise InvalidInputError(f"{origin}: {error}", field=error.field, row=error.row) from None
    except ValueError as error:
        # What the JSON, CSV and Arrow readers raise for content that they do not understand.
        raise InvalidInputError(f"{origin} is no {kind} file of rows: {str(error).partition(chr(10))[0]}") from error


def _read_json(file: BinaryIO) -> "pd.DataFrame":
    import pandas as pd  # noqa: PLC0415 - loaded when it is used

    records = json.load(file)
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise ValueError('expected a list of records, such as [{"column": [1.0, 2.0]}]')
    _check_records(records)
    return pd.DataFrame.from_records(records)


def _check_records(records: list[dict[str, Any]]) -> None:
    """Refuse what a data frame would fill with NaN, which a model takes for a number."""
    names = records[0].keys() if records else ()
    for row, record in enumerate(records):
        if record.keys() != names:
            name = next(iter(record.keys() ^ names))
            raise InvalidInputError(f"column '{name}' is not in every row; row {row} differs", field=name, row=row)
        for name, value in record.items():
            if value is None:
                raise missing_value(name, row)


def _read_arrow(file: BinaryIO) -> "pa.Table":
    import pyarrow as pa  # noqa: PLC0415 - loaded when it is used

    content = file.read()
    if content.startswith(_ARROW_FILE_MAGIC):
        return pa.ipc.open_file(pa.py_buffer(content)).read_all()
    return pa.ipc.open_stream(pa.py_buffer(content)).read_all()


def _read_parquet(file: BinaryIO) -> "pa.Table":
    import pyarrow.parquet as pq  # noqa: PLC0415 - loaded when it is used

    return pq.read_table(io.BytesIO(file.read()))
