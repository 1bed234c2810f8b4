"""Dictionaries of numpy arrays, one for each column."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from bettong._errors import InvalidInputError
from bettong._frames.cells import Cells, array_of_cells, cells_of_array, object_cells


def to_table(given: Mapping[str, Any]) -> pa.Table:
    """Return the columns for the wire; the first axis counts rows.

    Raises:
        InvalidInputError: Columns differ in length or cannot be read as arrays.
    """
    arrays = {str(name): array_of_cells(str(name), _cells(values)) for name, values in given.items()}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"'{name}' {count}" for name, count in lengths.items())
        raise InvalidInputError(f"columns differ in rows: {counts}")
    return pa.table(arrays)


def from_reply(reply: pa.Table, given: Mapping[str, Any], inputs: Sequence[tuple[str, str]]) -> dict[str, Cells]:
    """Join the reply with the columns that were given, as arrays that the caller may change."""
    columns: dict[str, Cells] = {}
    if "time" in reply.column_names:
        columns["time"] = cells_of_array(reply.column("time"))
    by_name = {str(name): values for name, values in given.items()}
    for column, name in inputs:
        columns[name] = _cells(by_name[column])
    for name in reply.column_names:
        if name != "time":
            columns[name] = np.array(cells_of_array(reply.column(name)))
    return columns


def _cells(values: Any) -> Cells:  # noqa: ANN401 - whatever the caller has in a dict
    if isinstance(values, np.ndarray):
        return values
    try:
        return np.asarray(values)
    except (ValueError, OverflowError):
        # Ragged; the conversion of cells finds the row and says so.
        return object_cells(values)
