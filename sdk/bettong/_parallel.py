"""A frame as many requests at once, and their replies as one."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from bettong._errors import BettongError

if TYPE_CHECKING:
    import pyarrow as pa


def run_slices(
    run: "Callable[[pa.Table], pa.Table]", slices: "Sequence[pa.Table]", *, num_parallel: int, stop: threading.Event
) -> "list[pa.Table | BettongError]":
    """Run slices on threads; the results are in the order of the slices, errors among them.

    Args:
        run: Runs one slice.
        slices: What to run.
        num_parallel: Slices that run at once.
        stop: When set, slices that have not begun are left out.
    """

    def run_one(part: "pa.Table") -> "pa.Table | BettongError":
        if stop.is_set():
            return BettongError("not sent: the caller left")
        try:
            return run(part)
        except BettongError as error:
            return error

    if len(slices) == 1 or num_parallel == 1:
        return [run_one(part) for part in slices]
    with ThreadPoolExecutor(num_parallel, thread_name_prefix="bettong-infer") as pool:
        return list(pool.map(run_one, slices))


def cut(table: "pa.Table", rows: int) -> "list[pa.Table]":
    """Cut a table into slices of that many rows; the last may be shorter. Nothing is copied."""
    return [table.slice(start, rows) for start in range(0, table.num_rows, rows)]


def cut_to_size(table: "pa.Table", size_bytes: int) -> "list[pa.Table]":
    """Cut a table into slices of about that many bytes, at least one row each."""
    return cut(table, max(1, table.num_rows * size_bytes // max(1, table.nbytes)))


def join_results(results: "Sequence[pa.Table | BettongError]", rows: Sequence[int]) -> "pa.Table":
    """Join replies in order; slices that failed are rows without values, explained in the column `error`.

    Args:
        results: Reply or error of each slice.
        rows: Rows of each slice.

    Raises:
        BettongError: Every slice failed; the first error.
    """
    import pyarrow as pa  # noqa: PLC0415 - loaded when it is used

    failures = [result for result in results if isinstance(result, BettongError)]
    if len(failures) == len(results):
        raise failures[0]
    if not failures:
        return pa.concat_tables([result for result in results if not isinstance(result, BettongError)])
    answered = next(result for result in results if not isinstance(result, BettongError))
    schema = pa.schema(
        [*(field.with_nullable(nullable=True) for field in answered.schema), pa.field("error", pa.string())]
    )
    return pa.concat_tables(_with_error(result, count, schema) for result, count in zip(results, rows, strict=True))


def _with_error(result: "pa.Table | BettongError", rows: int, schema: "pa.Schema") -> "pa.Table":
    import pyarrow as pa  # noqa: PLC0415 - loaded when it is used

    if isinstance(result, BettongError):
        empty = [pa.nulls(rows, field.type) for field in schema][:-1]
        return pa.Table.from_arrays([*empty, pa.array([str(result)] * rows, pa.string())], schema=schema)
    return pa.Table.from_arrays([*result.columns, pa.nulls(rows, pa.string())], schema=schema)
