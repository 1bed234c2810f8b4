"""Lists of records, as JSON has them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from bettong._errors import InvalidInputError
from bettong._frames.cells import array_of_cells, cells_of_array, object_cells


def to_table(given: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return the columns for the wire.

    Raises:
        InvalidInputError: Records have different names or their values do not fit together; names the row.
    """
    names = list(given[0])
    for row, record in enumerate(given):
        if record.keys() != given[0].keys():
            raise _different_names(row, record, given[0])
    return pa.table({str(name): _array(str(name), [record[name] for record in given]) for name in names})


def from_reply(
    reply: pa.Table, given: Sequence[Mapping[str, Any]], inputs: Sequence[tuple[str, str]]
) -> list[dict[str, Any]]:
    """Join the reply with the records that were given, in plain Python values; `time` counts milliseconds."""
    columns: dict[str, list[Any]] = {}
    if "time" in reply.column_names:
        columns["time"] = reply.column("time").cast(pa.int64()).to_pylist()
    by_name = {str(name): name for name in given[0]}
    for column, name in inputs:
        columns[name] = [record[by_name[column]] for record in given]
    for name in reply.column_names:
        if name != "time":
            columns[name] = _values(reply.column(name))
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _values(column: "pa.ChunkedArray[Any]") -> list[Any]:
    if column.null_count or pa.types.is_nested(column.type) is False:
        return column.to_pylist()
    cells = cells_of_array(column)
    return column.to_pylist() if cells.dtype == object else list(cells.tolist())


def _array(name: str, values: list[Any]) -> "pa.Array[Any]":
    return array_of_cells(name, object_cells(values))


def _different_names(row: int, record: Mapping[str, Any], first: Mapping[str, Any]) -> InvalidInputError:
    missing = [str(name) for name in first if name not in record]
    extra = [str(name) for name in record if name not in first]
    name = (missing or extra)[0]
    what = "is missing" if missing else "is not in the records before it"
    return InvalidInputError(f"row {row}: '{name}' {what}", field=name, row=row)
