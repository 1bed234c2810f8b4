"""pandas data frames."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from bettong._errors import InvalidInputError, missing_value
from bettong._frames.cells import array_of_cells, cells_for_frame, one_chunk


def to_table(given: pd.DataFrame) -> pa.Table:
    """Return the columns for the wire.

    Raises:
        InvalidInputError: A column occurs twice or its cells do not fit together.
    """
    if not given.columns.is_unique:
        twice = given.columns[given.columns.duplicated()][0]
        raise InvalidInputError(f"column '{twice}' occurs twice", field=str(twice))
    return pa.table({str(name): _array(str(name), series) for name, series in given.items()})


def from_reply(reply: pa.Table, given: pd.DataFrame, inputs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Join the reply with the columns that were given; rows are counted from 0, as in every reply."""
    by_name = {str(label): label for label in given.columns}
    columns: dict[str, Any] = {}
    if "time" in reply.column_names:
        columns["time"] = np.array(cells_for_frame(reply.column("time")))
    for column, name in inputs:
        # Cells are shared with the frame that was given, the column is not.
        columns[name] = given[by_name[column]].array.copy()
    for name in reply.column_names:
        if name != "time":
            columns[name] = np.array(cells_for_frame(reply.column(name)))
    return pd.DataFrame(columns, index=pd.RangeIndex(len(given)), copy=False)


def _array(name: str, series: "pd.Series[Any]") -> "pa.Array[Any]":
    if isinstance(series.dtype, np.dtype):
        return array_of_cells(name, series.to_numpy())
    array: pa.Array[Any] = one_chunk(pa.Array.from_pandas(series))
    if array.null_count:
        row = int(np.argmax(series.isna().to_numpy()))
        raise missing_value(name, row)
    return array
