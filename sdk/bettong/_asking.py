"""What every way of asking a pipeline shares: the columns that are wanted, and the checks of what a user gives."""

from collections.abc import Sequence
from typing import TypedDict

from bettong._data import Target
from bettong._errors import InvalidInputError
from bettong._frames.selection import Selection, selection_of

DEFAULT_TIMEOUT_S = 15.0
DEFAULT_PARALLEL = 4
MOST_PARALLEL = 256
"""Requests in flight at once; more threads would only wait for each other."""


class Columns(TypedDict, total=False):
    """Which columns a reply has.

    Attributes:
        dataset: Columns or groups of columns ("time", "in", "out.variable", "metadata", …); everything but the metadata
            if it is not given.
        dataset_exclude: Columns or groups to leave out.
        dataset_separator: What stands between the parts of a name; a dot if it is not given.
    """

    dataset: Sequence[str] | str | None
    dataset_exclude: Sequence[str] | str | None
    dataset_separator: str | None


def columns_selection(columns: Columns) -> Selection:
    """Return the selection that a user's keywords stand for."""
    return selection_of(columns.get("dataset"), columns.get("dataset_exclude"), columns.get("dataset_separator", "."))


def columns_target(name: str, columns: Columns) -> Target:
    """Return the pipeline of a name with the columns that are wanted."""
    return Target(name, columns_selection(columns))


def seconds(timeout: float) -> float:
    """Return a time-out that makes sense.

    Raises:
        InvalidInputError: It does not.
    """
    if not 0 < timeout < float("inf"):
        raise InvalidInputError(f"timeout must be a positive number of seconds, got {timeout}", field="timeout")
    return timeout


def bounded(name: str, value: int, most: int) -> int:
    """Return a count, cut at *most*.

    Raises:
        InvalidInputError: It is less than 1.
    """
    if value < 1:
        raise InvalidInputError(f"{name} must be at least 1, got {value}", field=name)
    return min(value, most)
