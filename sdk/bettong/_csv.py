"""Rows in CSV files, in which a missing value is never turned into a number."""

import io
import json
from typing import TYPE_CHECKING, Any, BinaryIO

from bettong._errors import InvalidInputError, missing_value

if TYPE_CHECKING:
    import pandas as pd

_MISSING_WORDS = frozenset({"na", "n/a", "#n/a", "<na>", "nan", "-nan", "null", "none", "-"})
"""How programs write that there is no number; in a column of texts they are texts."""


def read_csv(file: BinaryIO) -> "pd.DataFrame":
    """Read rows under a line of names; a cell that holds a JSON list becomes that list.

    Raises:
        InvalidInputError: A cell is empty or says that its value is missing; names column and row.
        ValueError: It is no CSV.
    """
    import pandas as pd  # noqa: PLC0415 - loaded when it is used

    # Lines without anything are missing values of the only column; at the end of a file they are nothing.
    content = io.BytesIO(file.read().strip(b"\r\n"))
    frame = pd.read_csv(content, keep_default_na=False, na_values=[""], skip_blank_lines=False)
    if not isinstance(frame.index, pd.RangeIndex):
        raise InvalidInputError("rows have more cells than there are names in the first line")
    for name in frame.columns:
        _check_column(name, frame[name])
        cells = _lists(frame[name])
        if cells is not None:
            frame[name] = pd.Series(cells, dtype=object)
    return frame


def _check_column(name: str, column: "pd.Series[Any]") -> None:
    import pandas as pd  # noqa: PLC0415 - loaded when it is used

    empty = column.isna().to_numpy()
    if empty.any():
        raise missing_value(name, int(empty.argmax()), "an empty cell")
    if pd.api.types.is_numeric_dtype(column.dtype):
        return
    words = column.astype(str).str.strip().str.lower().isin(_MISSING_WORDS).to_numpy()
    if words.any() and not words.all() and pd.to_numeric(column[~words], errors="coerce").notna().all():
        row = int(words.argmax())
        raise missing_value(name, row, f"'{column[row]}'")


def _lists(column: "pd.Series[Any]") -> list[list[Any]] | None:
    """Return a column as lists if each of its cells is one."""
    if not isinstance(column.iloc[0] if len(column) else None, str) or not column.str.startswith("[").all():
        return None
    try:
        cells = [json.loads(cell) for cell in column]
    except ValueError:
        return None
    return cells if all(isinstance(cell, list) for cell in cells) else None
