"""Cells of a column as an Arrow array and back, without a Python step for each number."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bettong._errors import InvalidInputError, missing_value

Cells = npt.NDArray[Any]

_NESTED = (list, tuple, np.ndarray)


def array_of_cells(name: str, cells: Cells) -> "pa.Array[Any]":
    """Convert a column: an axis beyond the first becomes a list of fixed size.

    Raises:
        InvalidInputError: Rows differ in shape, a value is missing, or values have no common type; names column and row.
    """
    if cells.ndim == 0:
        raise InvalidInputError(f"column '{name}' is a single value; give one value or list a row", field=name)
    block = _stacked(name, cells) if cells.dtype == object and cells.ndim == 1 else cells
    values = _flat_array(name, block)
    for size in reversed(block.shape[1:]):
        if size == 0:
            raise InvalidInputError(f"column '{name}' has no values in its rows (shape {block.shape})", field=name)
        values = pa.FixedSizeListArray.from_arrays(values, size)
    return values


def cells_of_array(column: "pa.Array[Any] | pa.ChunkedArray[Any]") -> Cells:
    """Convert an Arrow column: lists of one length become further axes, others stay cells."""
    array = one_chunk(column)
    if not _is_list(array.type):
        values: Cells = array.to_numpy(zero_copy_only=False)
        return values
    if array.null_count or not _has_one_length(array):
        return object_cells([None if cell is None else np.array(cell) for cell in array.to_pylist()])
    inner = cells_of_array(array.flatten())
    width = len(inner) // len(array) if len(array) else 0
    return inner.reshape(len(array), width, *inner.shape[1:])


def cells_for_frame(column: "pa.Array[Any] | pa.ChunkedArray[Any]") -> Cells:
    """Convert an Arrow column to one cell a row, an array where the row has several values."""
    cells = cells_of_array(column)
    return cells if cells.ndim == 1 else object_cells(cells)


def object_cells(cells: Iterable[object]) -> Cells:
    """Return cells as they are, one a row."""
    rows = list(cells)
    column = np.empty(len(rows), dtype=object)
    for row, cell in enumerate(rows):
        column[row] = cell
    return column


def one_chunk(column: Any) -> Any:  # noqa: ANN401 - each kind of array has a class and methods of its own
    """Return a column as one array, copied only if it has several chunks."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _has_one_length(array: Any) -> bool:  # noqa: ANN401 - each list array has a class of its own
    if pa.types.is_fixed_size_list(array.type) or len(array) == 0:
        return True
    lengths = np.diff(array.offsets.to_numpy())
    return bool((lengths == lengths[0]).all())


def _stacked(name: str, cells: Cells) -> Cells:
    """Join cells that are rows into one block; leave a column of single values as it is."""
    first = cells[0]
    if not isinstance(first, _NESTED):
        return cells
    rows = cells.tolist()
    if isinstance(first, np.ndarray) and first.dtype != object:
        return _stacked_arrays(name, rows, first)
    try:
        block = np.array(rows)
    except (ValueError, OverflowError) as error:
        _refuse_ragged(name, rows, error)
    if block.dtype.kind == "O" or (block.dtype.kind in "US" and not _all_text(rows)):
        _refuse_values(name, rows)
    return block


def _stacked_arrays(name: str, rows: list[Any], first: Cells) -> Cells:
    shape = first.shape
    for row, cell in enumerate(rows):
        if not isinstance(cell, np.ndarray) or cell.shape != shape:
            raise _row_error(name, row, cell, shape)
    joined: Cells = np.concatenate(rows, axis=None) if shape else np.array(rows)
    return joined.reshape(len(rows), *shape)


def _all_text(rows: object) -> bool:
    if isinstance(rows, _NESTED):
        return all(_all_text(cell) for cell in rows)
    return isinstance(rows, (str, bytes))


def _refuse_ragged(name: str, rows: list[Any], cause: Exception) -> NoReturn:
    shape = _shape(rows[0])
    for row, cell in enumerate(rows):
        if _shape(cell) != shape:
            raise _row_error(name, row, cell, shape) from cause
    raise InvalidInputError(f"column '{name}': {cause}", field=name) from cause


def _row_error(name: str, row: int, cell: object, wanted: Sequence[int] | None) -> InvalidInputError:
    """Build the error for a row that is not like those before it."""
    # pandas fills rows of lists that are not there with NaN.
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return missing_value(name, row)
    return InvalidInputError(
        f"column '{name}', row {row}: {_shape_text(_shape(cell))}, but the rows before it have {_shape_text(wanted)}",
        field=name,
        row=row,
    )


def _shape_text(shape: Sequence[int] | None) -> str:
    if shape is None:
        return "lists of unequal length"
    return f"shape {list(shape)}" if shape else "a single value"


def _shape(cell: object) -> tuple[int, ...] | None:
    """Return the shape of nested lists; None if they are ragged themselves."""
    if isinstance(cell, np.ndarray) and cell.dtype != object:
        return tuple(cell.shape)
    if not isinstance(cell, _NESTED):
        return ()
    inner = {_shape(part) for part in cell} or {()}
    shape = inner.pop()
    return None if inner or shape is None else (len(cell), *shape)


def _refuse_values(name: str, rows: list[Any]) -> NoReturn:
    for row, cell in enumerate(rows):
        if _has_missing(cell):
            raise missing_value(name, row)
        if _shape(cell) != _shape(rows[0]):
            raise _row_error(name, row, cell, _shape(rows[0]))
    for row, cell in enumerate(rows):
        values = np.array(cell)
        if values.dtype.kind == "O" or (values.dtype.kind in "US" and not _all_text(cell)):
            message = f"column '{name}', row {row}: values have no common type that a model takes"
            raise InvalidInputError(message, field=name, row=row)
    raise InvalidInputError(f"column '{name}': rows have different types of values", field=name)


def _has_missing(cell: object) -> bool:
    if isinstance(cell, _NESTED):
        return any(_has_missing(part) for part in cell)
    return cell is None


def _flat_array(name: str, block: Cells) -> "pa.Array[Any]":
    flat = block.reshape(math.prod(block.shape))
    if not flat.dtype.isnative:
        flat = flat.astype(flat.dtype.newbyteorder("="))
    try:
        values: pa.Array[Any] = pa.array(flat.tolist() if flat.dtype.kind in "USO" else flat)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise InvalidInputError(f"column '{name}': {_first_line(error)}", field=name) from error
    if values.null_count:
        position = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
        row = position // max(1, math.prod(block.shape[1:]))
        raise missing_value(name, row)
    return values


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
