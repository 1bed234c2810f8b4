"""What every way of asking a pipeline shares: the columns that are wanted, and the checks of what a user gives."""

import difflib
import inspect
from collections.abc import Callable, Sequence
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


def columns_selection(columns: Columns, of: Callable[..., object]) -> Selection:
    """Return the selection that a user's keywords stand for.

    Args:
        columns: The keywords.
        of: The function that they were given to, for messages.

    Raises:
        TypeError: One of them is none that the function has.
        InvalidInputError: They choose nothing that a reply has.
    """
    # Any keyword is collected; a misspelled one would have no effect without a word.
    for name in columns:
        if name not in Columns.__annotations__:
            raise _unexpected(name, of)
    return selection_of(columns.get("dataset"), columns.get("dataset_exclude"), columns.get("dataset_separator", "."))


def columns_target(name: str, columns: Columns, of: Callable[..., object]) -> Target:
    """Return the pipeline of a name with the columns that are wanted; raises what `columns_selection` does."""
    return Target(name, columns_selection(columns, of))


def seconds(timeout: float) -> float:
    """Return a time-out that makes sense.

    Raises:
        InvalidInputError: It does not.
    """
    if not _is_number(timeout) or not 0 < timeout < float("inf"):
        raise InvalidInputError(f"timeout must be a positive number of seconds, got {timeout!r}", field="timeout")
    return timeout


def bounded(name: str, value: int, most: int) -> int:
    """Return a count, cut at *most*.

    Raises:
        InvalidInputError: It is less than 1.
    """
    return min(_count(name, value, 1), most)


def tries(retries: int | None) -> int | None:
    """Return how often to try again; None is as often as the time allows.

    Raises:
        InvalidInputError: It is less than 0.
    """
    return None if retries is None else _count("retries", retries, 0)


def _count(name: str, value: int, least: int) -> int:
    if not hasattr(value, "__index__") or value < least:
        raise InvalidInputError(f"{name} must be a whole number, at least {least}, got {value!r}", field=name)
    return value


def _is_number(value: object) -> bool:
    # numpy's numbers count, texts and None do not.
    return isinstance(value, (int, float)) or (hasattr(value, "__float__") and not hasattr(value, "__len__"))


def _unexpected(name: str, of: Callable[..., object]) -> TypeError:
    parameters = inspect.signature(of).parameters.values()
    named = [each.name for each in parameters if each.kind is not each.VAR_KEYWORD and each.name != "self"]
    known = [*named, *Columns.__annotations__]
    nearest = difflib.get_close_matches(name, known, n=1)
    advice = f"did you mean '{nearest[0]}'?" if nearest else f"there are {', '.join(known)}"
    return TypeError(f"{of.__name__}() got an unexpected keyword argument '{name}'; {advice}")
