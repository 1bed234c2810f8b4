"""Finding the kind of a frame without loading a library that the caller does not use."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from bettong._errors import InvalidInputError
from bettong._frames.selection import TIME, Selection, nothing_left

if TYPE_CHECKING:
    import pyarrow as pa

ToTable: TypeAlias = "Callable[[Any], pa.Table]"
FromReply: TypeAlias = "Callable[[pa.Table, Any, Sequence[tuple[str, str]]], object]"

_EXPECTED = (
    "a pandas or polars DataFrame, a pyarrow Table, a dict of numpy arrays (one for each column) or a list of records"
)
_LIBRARIES = ("pandas", "pyarrow", "polars")


@dataclass(frozen=True, slots=True)
class Frame:
    """What a user gave, ready for the wire, and the way back to its kind."""

    given: object
    table: "pa.Table"
    from_reply: FromReply

    def restore(self, reply: "pa.Table", selection: Selection) -> Any:  # noqa: ANN401 - the kind that was given
        """Join a reply with the columns that were given, in the kind that was given.

        Raises:
            InvalidInputError: The selection leaves no column.
        """
        inputs = selection.input_names(self.table.column_names)
        if TIME in reply.column_names and not selection.takes(TIME):
            reply = reply.drop_columns([TIME])
        if not inputs and not reply.num_columns:
            raise nothing_left()
        return self.from_reply(reply, self.given, inputs)


def open_frame(given: object) -> Frame:
    """Read a frame of any kind.

    Raises:
        InvalidInputError: It is not a frame, has no rows or no columns, or its cells do not fit together.
    """
    to_table, from_reply = _kind_of(given)
    table = _with_values(to_table(given))
    if table.num_columns == 0:
        raise InvalidInputError("the frame has no columns")
    return Frame(given, table, from_reply)


def _with_values(table: "pa.Table") -> "pa.Table":
    """Return the table with the values of dictionary columns (categories) in place of their codes, which no model takes."""
    for at, spec in enumerate(table.schema):
        # Asked of the type itself, because the module may be half-made while another thread imports it.
        if hasattr(spec.type, "index_type"):
            table = table.set_column(at, spec.name, table.column(at).cast(spec.type.value_type))
    return table


def _kind_of(given: object) -> tuple[ToTable, FromReply]:
    kind = _library_kind(given)
    if kind is not None:
        return kind
    if isinstance(given, Mapping):
        from bettong._frames import columns_kind  # noqa: PLC0415 - a kind is loaded when it is used

        if not given:
            raise InvalidInputError("the frame has no columns")
        return columns_kind.to_table, columns_kind.from_reply
    if isinstance(given, Sequence) and not isinstance(given, (str, bytes)):
        from bettong._frames import records_kind  # noqa: PLC0415 - a kind is loaded when it is used

        if not given:
            raise InvalidInputError("the frame has no rows")
        if all(isinstance(record, Mapping) for record in given):
            return records_kind.to_table, records_kind.from_reply
        raise _not_records(given)
    raise InvalidInputError(f"a {type(given).__name__} is no frame; give {_EXPECTED}")


def _not_records(given: Sequence[object]) -> InvalidInputError:
    row, found = next((row, each) for row, each in enumerate(given) if not isinstance(each, Mapping))
    return InvalidInputError(
        f"row {row} is of type {type(found).__name__}, not a record; a list holds one dict a row, such as "
        f'[{{"column": [1.0, 2.0]}}]; rows without names of columns are given as {{"column": rows}}',
        row=row,
    )


def is_frame_of_library(given: object) -> bool:
    """Return whether it is a frame of pandas, polars or pyarrow; their readers, which yield frames, are none."""
    return any(
        base.__name__ in {"DataFrame", "Table", "RecordBatch"} and base.__module__.partition(".")[0] in _LIBRARIES
        for base in type(given).__mro__
    )


def _library_kind(given: object) -> tuple[ToTable, FromReply] | None:
    # The classes of the frame tell its library. Looking for the library in `sys.modules` would find it half-made while
    # another thread imports it.
    libraries = {base.__module__.partition(".")[0] for base in type(given).__mro__}
    for library, kind_for in (("pandas", _pandas), ("pyarrow", _arrow), ("polars", _polars)):
        if library in libraries and (kind := kind_for(given)):
            return kind
    return None


def _pandas(given: object) -> tuple[ToTable, FromReply] | None:
    from pandas import DataFrame  # noqa: PLC0415 - the caller has loaded it

    if not isinstance(given, DataFrame):
        return None
    from bettong._frames import pandas_kind  # noqa: PLC0415 - a kind is loaded when it is used

    _refuse_empty(len(given))
    return pandas_kind.to_table, pandas_kind.from_reply


def _arrow(given: object) -> tuple[ToTable, FromReply] | None:
    from pyarrow import RecordBatch, Table  # noqa: PLC0415 - the caller has loaded it

    if not isinstance(given, (Table, RecordBatch)):
        return None
    from bettong._frames import arrow_kind  # noqa: PLC0415 - a kind is loaded when it is used

    _refuse_empty(given.num_rows)
    return arrow_kind.to_table, arrow_kind.from_reply


def _polars(given: object) -> tuple[ToTable, FromReply] | None:
    from polars import DataFrame  # noqa: PLC0415 - the caller has loaded it

    if not isinstance(given, DataFrame):
        return None
    from bettong._frames import polars_kind  # noqa: PLC0415 - a kind is loaded when it is used

    _refuse_empty(given.height)
    return polars_kind.to_table, polars_kind.from_reply


def _refuse_empty(rows: int) -> None:
    if rows == 0:
        raise InvalidInputError("the frame has no rows")
