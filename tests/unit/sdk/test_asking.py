"""What a user gives besides the rows."""

from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import bettong
from bettong._asking import Columns, bounded, columns_selection, seconds, tries
from bettong._events import EventStreams
from bettong._frames.kinds import open_frame


def _ask(tensor: object, timeout: float = 1.0, **columns: object) -> None:
    columns_selection(cast("Columns", columns), _ask)
    del tensor, timeout


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"datasets": ["out"]}, r"_ask\(\) got an unexpected keyword argument 'datasets'; did you mean 'dataset'"),
        ({"timout": 1.0}, "did you mean 'timeout'"),
        ({"rows": 1}, "there are tensor, timeout, dataset, dataset_exclude, dataset_separator"),
    ],
)
def test_a_misspelled_keyword_is_refused(given: dict[str, object], message: str) -> None:
    """A keyword that a function does not have has no silent effect; the nearest one that it has is named."""
    with pytest.raises(TypeError, match=message):
        _ask([], **cast("dict[str, Any]", given))


@pytest.mark.parametrize("given", ["5", None, [1.0], 0, -1, float("inf"), float("nan")])
def test_a_timeout_is_a_number_of_seconds(given: object) -> None:
    """Anything else is refused in one line."""
    with pytest.raises(bettong.InvalidInputError, match="timeout must be a positive number of seconds"):
        seconds(cast("float", given))


def test_numbers_of_numpy_are_numbers() -> None:
    """A time-out or a count may come out of an array."""
    second: Any = np.float32(2)
    three: Any = np.int64(3)
    assert (seconds(second), bounded("n", three, 9), tries(three)) == (2, 3, 3)


def test_counts_have_bounds() -> None:
    """Less than the least is refused, more than the most is the most."""
    assert (bounded("n", 99, 9), tries(None)) == (9, None)
    for count in (0, -1, cast("int", 1.5), cast("int", "2")):
        with pytest.raises(bettong.InvalidInputError, match="n must be a whole number, at least 1, got"):
            bounded("n", count, 9)
    with pytest.raises(bettong.InvalidInputError, match="retries must be a whole number, at least 0, got -1"):
        tries(-1)


FRAME = pd.DataFrame({"x": [1.0]})


@pytest.mark.parametrize("events", [FRAME, pa.table({"x": [1.0]}), {"x": 1.0}, "x", 5])
def test_one_frame_is_no_source_of_events(events: object) -> None:
    """A frame would be read column by column; the message says what to give."""
    with pytest.raises(bettong.InvalidInputError, match="must be a source of events.*infer or parallel_infer"):
        EventStreams.stream(_unconnected(), cast("Iterable[object]", events))


def _unconnected() -> EventStreams:
    class Unconnected(EventStreams):
        def _event_runner(self, *_arguments: object) -> Any:
            return None

    return Unconnected()


def test_rows_without_names_are_explained() -> None:
    """A list of lists is the first thing that many try."""
    with pytest.raises(
        bettong.InvalidInputError, match="row 0 is of type list, not a record; a list holds one dict a row"
    ):
        open_frame([[1.0, 2.0], [3.0, 4.0]])
