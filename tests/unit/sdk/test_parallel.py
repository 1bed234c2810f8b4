"""Slices of a frame and their replies."""

import threading

import pyarrow as pa
import pytest

import bettong
from bettong._parallel import cut, cut_to_size, join_results, run_slices

TABLE = pa.table({"x": [1, 2, 3, 4, 5]})


def test_slices_cover_the_table_in_order() -> None:
    """Each row is in one slice; the last may be shorter."""
    assert [part.column("x").to_pylist() for part in cut(TABLE, 2)] == [[1, 2], [3, 4], [5]]


def test_slices_have_about_the_size_that_is_asked() -> None:
    """Slices are cut by bytes, cover every row, and have at least one."""
    table = pa.table({"x": pa.array(range(1_000), pa.int64())})
    slices = cut_to_size(table, 2_000)
    assert [part.num_rows for part in slices] == [250] * 4
    assert pa.concat_tables(slices) == table
    assert len(cut_to_size(table, 1)) == 1_000


def test_results_are_in_the_order_of_the_slices() -> None:
    """A slice that is done early does not overtake."""
    second_done = threading.Event()

    def run(part: pa.Table) -> pa.Table:
        if part.column("x")[0].as_py() == 1:
            assert second_done.wait(10)
        second_done.set()
        return part

    results = run_slices(run, cut(TABLE, 3), num_parallel=2, stop=threading.Event())
    assert results == [TABLE.slice(0, 3), TABLE.slice(3)]


def test_no_more_run_at_once_than_allowed() -> None:
    """`num_parallel` bounds what runs at once."""
    running, most, lock = 0, 0, threading.Lock()
    both = threading.Barrier(2, timeout=10)

    def run(part: pa.Table) -> pa.Table:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        both.wait()
        with lock:
            running -= 1
        return part

    run_slices(run, cut(pa.table({"x": [1, 2, 3, 4]}), 1), num_parallel=2, stop=threading.Event())
    assert most == 2


def test_nothing_is_sent_after_the_caller_left() -> None:
    """Slices that have not begun when the caller leaves are left out."""
    stop = threading.Event()

    def run(part: pa.Table) -> pa.Table:
        stop.set()
        return part

    results = run_slices(run, cut(TABLE, 1), num_parallel=1, stop=stop)
    assert [isinstance(result, bettong.BettongError) for result in results] == [False, True, True, True, True]


def test_partial_failure_is_a_column() -> None:
    """Rows of a failed request have no values and say why; the others are answered."""
    type_ = pa.list_(pa.field("inner", pa.float32(), nullable=False))
    field = pa.field("out", type_, nullable=False)
    reply = pa.Table.from_arrays([pa.array([[1.0], [2.0]], type_)], schema=pa.schema([field]))
    joined = join_results([reply, bettong.ServerError("it broke")], [2, 3])
    assert joined.column("out").to_pylist() == [[1.0], [2.0], None, None, None]
    assert joined.column("error").to_pylist() == [None, None, *["it broke"] * 3]


def test_success_has_no_error_column() -> None:
    """When all is well nothing is added."""
    assert join_results([TABLE, TABLE], [5, 5]).column_names == ["x"]


def test_total_failure_is_raised() -> None:
    """When every request fails, the first error is the answer."""
    with pytest.raises(bettong.NotFoundError, match="first"):
        join_results([bettong.NotFoundError("first"), bettong.ServerError("second")], [1, 1])
