"""What a notebook user sees: figures of the SDK, taken in a process of its own on the client's core.

`python -m bench.sdk_client URL MODEL INPUT ROWS.npy SECONDS ARROW_ROWS` prints one line of JSON for each figure. The server must
serve MODEL as the pipeline that the other points use.
"""

import asyncio
import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.compute as pc

import bettong
from bench.results import Figure
from bench.workload import MODEL_NAME, Array, open_session

_PARALLEL_ROWS = 1_000
_PARALLEL = 4
_ARROW_TRIES = 3
_WARM_UP = 20
_LOCAL_SIZES = (1, 128)
_CHECKED_ROWS = 10_000
_TOLERANCE = 1e-4


def main() -> None:
    """Take each figure and print it."""
    url, model, name, rows_file, seconds, arrow_rows = sys.argv[1:]
    rows: Array = np.load(rows_file)
    session = open_session(Path(model))
    with bettong.Client(url) as client:
        pipeline = client.get_pipeline(MODEL_NAME)
        _check(pipeline, session, _table(name, rows, _CHECKED_ROWS))
        figures = [
            _one_row(pipeline, {name: rows[:1]}, float(seconds)),
            _parallel(pipeline, _table(name, rows, _PARALLEL_ROWS)),
            _arrow(pipeline, _table(name, rows, int(arrow_rows))),
            *_local(pipeline, session, {name: rows}, float(seconds)),
        ]
    for figure in figures:
        print(json.dumps(dataclasses.asdict(figure)), flush=True)


def _check(pipeline: bettong.Pipeline, session: onnxruntime.InferenceSession, table: pa.Table) -> None:
    """Refuse to time answers that are not the model's."""
    (given,) = session.get_inputs()
    rows = _array(table.column(given.name)).reshape(-1, *(dim for dim in given.shape[1:] if isinstance(dim, int)))
    replies = (pipeline.infer(table), asyncio.run(pipeline.parallel_infer(table, 100, num_parallel=_PARALLEL)))
    local = pipeline.local().infer({given.name: rows})
    for spec, expected in zip(session.get_outputs(), session.run(None, {given.name: rows}), strict=True):
        name = f"out.{spec.name}"
        found = [_array(reply.column(name)) for reply in replies]
        for values in (*found, local[name].ravel()):
            np.testing.assert_allclose(values, expected.ravel(), atol=_TOLERANCE, err_msg=name)


def _array(column: "pa.ChunkedArray[Any]") -> Array:
    """Return all values of a column of numbers or of lists of numbers."""
    array = pa.concat_arrays(column.chunks)
    while pa.types.is_nested(array.type):
        array = pc.list_flatten(array)
    return np.asarray(array)


def _table(name: str, rows: Array, count: int) -> pa.Table:
    """Return a table of one fixed-size list column."""
    batch = np.resize(rows, (count, *rows.shape[1:])).reshape(count, -1)
    column = pa.FixedSizeListArray.from_arrays(pa.array(batch.ravel()), batch.shape[1])
    return pa.table({name: column})


def _timed(call: Callable[[], object], seconds: float) -> list[float]:
    """Call again and again, and return how long each took, shortest first."""
    for _ in range(_WARM_UP):
        call()
    times: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return sorted(times)


def _one_row(pipeline: bettong.Pipeline, row: dict[str, Array], seconds: float) -> Figure:
    times = _timed(lambda: pipeline.infer(row), seconds)
    return Figure("infer, one row, p50", times[len(times) // 2] * 1e3, "ms", "<= 0.6")


def _parallel(pipeline: bettong.Pipeline, table: pa.Table) -> Figure:
    asyncio.run(pipeline.parallel_infer(table, num_parallel=_PARALLEL))
    start = time.perf_counter()
    asyncio.run(pipeline.parallel_infer(table, num_parallel=_PARALLEL))
    return Figure(f"parallel_infer, {_PARALLEL_ROWS} rows one by one", time.perf_counter() - start, "s", "<= 0.5")


def _arrow(pipeline: bettong.Pipeline, table: pa.Table) -> Figure:
    best_s = min(_timed_once(lambda: pipeline.infer(table)) for _ in range(_ARROW_TRIES))
    return Figure(f"infer, {table.num_rows:,} rows of Arrow", table.num_rows / best_s / 1e6, "M/s", ">= 1")


def _timed_once(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _local(
    pipeline: bettong.Pipeline, session: onnxruntime.InferenceSession, arrays: dict[str, Array], seconds: float
) -> list[Figure]:
    """Compare the pipeline in this process with ONNX Runtime's own call, in turn."""
    local = pipeline.local()
    figures: list[Figure] = []
    for size in _LOCAL_SIZES:
        given = {name: np.resize(array, (size, *array.shape[1:])) for name, array in arrays.items()}
        theirs = _timed(lambda given=given: session.run(None, given), seconds)  # type: ignore[misc]
        ours = _timed(lambda given=given: local.infer(given), seconds)  # type: ignore[misc]
        ratio = ours[len(ours) // 2] / theirs[len(theirs) // 2]
        rows = f"{size} row{'s' if size > 1 else ''}"
        figures.append(Figure(f"local().infer / ONNX Runtime's run, {rows}, p50", ratio, "times", "<= 1.2"))
    return figures


if __name__ == "__main__":
    main()
