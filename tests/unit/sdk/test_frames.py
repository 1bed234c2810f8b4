"""Frames of every kind, to Arrow and back."""

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import bettong
from bettong._frames.arrow_stream import read_stream, stream_pieces
from bettong._frames.kinds import open_frame
from bettong._frames.selection import EVERYTHING, selection_of

ROWS = 3
VECTORS = np.arange(12, dtype=np.float32).reshape(ROWS, 4)
REPLY = pa.table(
    {
        "time": pa.array([1, 2, 3], pa.timestamp("ms")),
        "out.score": pa.array([[0.5], [0.25], [1.0]], pa.list_(pa.float32())),
        "anomaly.count": pa.array([0, 0, 1], pa.uint32()),
    }
)
NAMES = ["time", "in.tensor", "in.amount", "out.score", "anomaly.count"]


def _pandas() -> pd.DataFrame:
    return pd.DataFrame({"tensor": list(VECTORS.tolist()), "amount": [1.5, 2.5, 3.5]})


def _polars() -> pl.DataFrame:
    return pl.DataFrame({"tensor": VECTORS.tolist(), "amount": [1.5, 2.5, 3.5]})


def _arrow() -> pa.Table:
    return pa.table({"tensor": pa.array(VECTORS.tolist(), pa.list_(pa.float32(), 4)), "amount": [1.5, 2.5, 3.5]})


def _arrays() -> dict[str, Any]:
    return {"tensor": VECTORS, "amount": np.array([1.5, 2.5, 3.5])}


def _records() -> list[dict[str, Any]]:
    return [{"tensor": row.tolist(), "amount": amount} for row, amount in zip(VECTORS, (1.5, 2.5, 3.5), strict=True)]


KINDS = [_pandas, _polars, _arrow, _arrays, _records]


@pytest.mark.parametrize("make", KINDS)
def test_each_kind_gives_the_same_columns(make: Any) -> None:
    """Vectors become lists and single values stay single, whatever the kind."""
    table = open_frame(make()).table
    assert table.column_names == ["tensor", "amount"]
    assert table.column("tensor").to_pylist() == VECTORS.tolist()
    assert table.column("amount").to_pylist() == [1.5, 2.5, 3.5]


@pytest.mark.parametrize("make", KINDS)
def test_reply_comes_back_in_the_kind_that_was_given(make: Any) -> None:
    """The reply has the kind of the request, with the columns in the order of the platform."""
    given_frame = make()
    reply = open_frame(given_frame).restore(REPLY, EVERYTHING)
    assert type(reply) is type(given_frame)
    assert _names(reply) == NAMES


def _names(reply: Any) -> list[str]:
    if isinstance(reply, (pl.DataFrame, pd.DataFrame)):
        return list(reply.columns)
    if isinstance(reply, pa.Table):
        return reply.column_names
    return list(reply[0] if isinstance(reply, list) else reply)


def test_pandas_reply_has_cells_as_they_were_given_and_arrays_for_outputs() -> None:
    """Given cells are the very same objects; outputs of several values are arrays; rows are counted from 0."""
    frame = _pandas().set_index(pd.Index([7, 8, 9]))
    reply = open_frame(frame).restore(REPLY, EVERYTHING)
    assert reply["in.tensor"][0] is frame["tensor"][7]
    assert reply["out.score"][1][0] == np.float32(0.25)
    assert list(reply.index) == [0, 1, 2]
    assert reply["time"].dtype == np.dtype("datetime64[ms]")


def test_reply_arrays_can_be_written() -> None:
    """Arrays of a reply belong to the caller."""
    reply = open_frame(_arrays()).restore(REPLY, EVERYTHING)
    reply["out.score"] += 1
    assert reply["out.score"].tolist() == [[1.5], [1.25], [2.0]]
    assert reply["out.score"].shape == (ROWS, 1)


def test_records_come_back_as_plain_values() -> None:
    """A record has what JSON has: numbers, lists, milliseconds."""
    reply = open_frame(_records()).restore(REPLY, EVERYTHING)
    assert reply[1] == {
        "time": 2,
        "in.tensor": VECTORS[1].tolist(),
        "in.amount": 2.5,
        "out.score": [0.25],
        "anomaly.count": 0,
    }


def test_arrow_buffers_are_not_copied() -> None:
    """The pieces that go to the socket are the table's own memory."""
    table = _arrow()
    vectors: Any = table.column("tensor").chunk(0)
    amounts: Any = table.column("amount").chunk(0)
    addresses = {vectors.flatten().buffers()[1].address, amounts.buffers()[1].address}
    sent = {pa.py_buffer(piece).address for piece in stream_pieces(open_frame(table).table)}
    assert addresses <= sent


def test_numpy_memory_is_not_copied() -> None:
    """A contiguous block of numbers goes to the socket from where it lies."""
    pieces = stream_pieces(open_frame({"tensor": VECTORS}).table)
    assert VECTORS.ctypes.data in {pa.py_buffer(piece).address for piece in pieces}


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_a_library_that_is_being_imported_elsewhere_is_no_trouble(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread that imports pandas for its first call has left a module without content so far."""
    monkeypatch.setitem(sys.modules, library, ModuleType(library))
    assert open_frame(_records()).table.column("amount").to_pylist() == [1.5, 2.5, 3.5]


@given(
    npst.arrays(
        dtype=st.sampled_from(["f4", "f8", "f2", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", ">f4", ">i8"]),
        shape=npst.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4),
        elements=st.just(0) | st.just(1),
    )
)
def test_any_array_survives_the_way(block: Any) -> None:
    """Every dtype and shape arrives as it was, through the wire format and back."""
    table = open_frame({"x": block}).table
    reply = read_stream(b"".join(stream_pieces(table))).rename_columns(["out.x"])
    back = open_frame({"x": block}).restore(reply, selection_of("out", None, "."))
    assert back["out.x"].shape == block.shape
    assert back["out.x"].dtype == block.dtype.newbyteorder("=")
    assert (back["out.x"] == block).all()


@given(st.lists(st.lists(st.floats(allow_nan=False), min_size=3, max_size=3), min_size=1, max_size=5))
def test_pandas_and_records_agree(rows: list[list[float]]) -> None:
    """Lists of Python floats are the same columns in both, at full precision."""
    frame, records = pd.DataFrame({"x": rows}), [{"x": row} for row in rows]
    assert open_frame(frame).table.column("x").to_pylist() == rows
    assert open_frame(records).table.column("x").to_pylist() == rows


@pytest.mark.parametrize(
    ("cells", "row", "message"),
    [
        ([[1.0, 2.0], [3.0]], 1, r"column 'x', row 1: shape \[1\], but the rows before it have shape \[2\]"),
        ([[1.0, 2.0], [3.0, None]], 1, r"column 'x', row 1: a value is missing"),
        ([[1.0, 2.0], None], 1, r"column 'x', row 1: a value is missing"),
        ([[1.0, 2.0], float("nan")], 1, r"column 'x', row 1: a value is missing"),
        ([[1.0, 2.0], 3.0], 1, r"column 'x', row 1: a single value, but the rows before it have shape \[2\]"),
        ([[1.0, 2.0], [3.0, "a"]], 1, r"column 'x', row 1: values have no common type"),
        ([1.0, None], 1, r"column 'x', row 1: a value is missing"),
        ([None, "a"], 0, r"column 'x', row 0: a value is missing"),
        ([np.zeros(2), np.zeros(2), np.zeros(3)], 2, r"column 'x', row 2: shape \[3\]"),
        ([np.zeros((2, 2)), np.zeros(4)], 1, r"column 'x', row 1: shape \[4\]"),
        ([np.zeros(2), None], 1, r"column 'x', row 1: a value is missing"),
        ([[[1.0], [2.0, 3.0]], [[1.0], [2.0, 3.0]]], None, r"column 'x'"),
        ([[2**70], [1]], 0, r"column 'x', row 0: values have no common type"),
    ],
)
def test_cells_that_do_not_fit_are_refused_with_column_and_row(cells: list[Any], row: int | None, message: str) -> None:
    """What no model takes is refused before it is sent, naming column and row."""
    for frame in (pd.DataFrame({"x": pd.Series(cells, dtype=object)}), [{"x": cell} for cell in cells]):
        with pytest.raises(bettong.InvalidInputError, match=message) as caught:
            open_frame(frame)
        assert caught.value.field == "x"
        assert caught.value.row == row


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.zeros(3), "a ndarray is no frame; give a pandas or polars DataFrame"),
        ("text", "a str is no frame"),
        ([1, 2], "row 0 is of type int, not a record"),
        ({}, "no columns"),
        ([], "no rows"),
        ([{}], "no columns"),
        (pd.DataFrame(), "no rows"),
        (pl.DataFrame(), "no rows"),
        (pa.table({"x": pa.array([], pa.float32())}), "no rows"),
        (pd.DataFrame([[1, 2]], columns=["x", "x"]), "column 'x' occurs twice"),
        ({"x": np.zeros(2), "y": np.zeros(3)}, "columns differ in rows: 'x' 2, 'y' 3"),
        ({"x": 1.0}, "column 'x' is a single value"),
        ({"x": np.zeros((2, 0))}, "column 'x' has no values in its rows"),
        ([{"x": 1}, {"y": 1}], "row 1: 'x' is missing"),
        ([{"x": 1}, {"x": 1, "y": 1}], "row 1: 'y' is not in the records before it"),
    ],
)
def test_what_is_no_frame_is_refused(frame: Any, message: str) -> None:
    """Whatever cannot be sent is refused in one line."""
    with pytest.raises(bettong.InvalidInputError, match=message):
        open_frame(frame)


def test_text_and_nullable_columns_are_taken() -> None:
    """Text, bytes and pandas' own dtypes are columns like any other; a missing value in them is refused."""
    frame = pd.DataFrame({"text": ["a", "b"], "raw": [b"1", b"2"], "whole": pd.array([1, 2], dtype="Int64")})
    table = open_frame(frame).table
    assert table.column("text").to_pylist() == ["a", "b"]
    assert table.column("raw").to_pylist() == [b"1", b"2"]
    assert table.column("whole").to_pylist() == [1, 2]
    with pytest.raises(bettong.InvalidInputError, match="column 'whole', row 1: a value is missing"):
        open_frame(pd.DataFrame({"whole": pd.array([1, None], dtype="Int64")}))


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"merchant": pd.Categorical(["a", "b", "a"])}),
        pl.DataFrame({"merchant": pl.Series(["a", "b", "a"], dtype=pl.Categorical)}),
        pa.table({"merchant": pa.array(["a", "b", "a"]).dictionary_encode()}),
    ],
    ids=["pandas", "polars", "pyarrow"],
)
def test_categories_are_sent_as_their_values(frame: Any) -> None:
    """A model takes the text, not the code that a library keeps for it."""
    column = open_frame(frame).table.column("merchant")
    assert not isinstance(column.type, pa.DictionaryType)
    assert column.to_pylist() == ["a", "b", "a"]


def test_nan_is_a_number() -> None:
    """NaN is sent as it is; whether a model may see it is not the client's to say."""
    table = open_frame(pd.DataFrame({"x": [1.0, np.nan]})).table
    assert table.column("x").null_count == 0


def test_ragged_outputs_stay_cells() -> None:
    """Outputs whose rows differ in length come as one array a row."""
    reply = pa.table({"out.x": pa.array([[1.0], [1.0, 2.0], None])})
    frame = open_frame(pd.DataFrame({"a": [1, 2, 3]})).restore(reply, selection_of("out", None, "."))
    assert [None if cell is None else cell.tolist() for cell in frame["out.x"]] == [[1.0], [1.0, 2.0], None]


def test_record_batch_comes_back_as_record_batch() -> None:
    """A batch in, a batch out, and not a table."""
    batch = _arrow().to_batches()[0]
    reply = open_frame(batch).restore(REPLY, EVERYTHING)
    assert isinstance(reply, pa.RecordBatch)
    assert reply.schema.names == NAMES


def test_reply_that_is_no_arrow_stream_is_the_servers_fault() -> None:
    """A proxy that answers with a page is named as what it is."""
    with pytest.raises(bettong.ServerError, match="no Arrow stream"):
        read_stream(b"<html>")
