import asyncio
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast

from bettong._asking import (
    DEFAULT_PARALLEL,
    DEFAULT_TIMEOUT_S,
    MOST_PARALLEL,
    Columns,
    bounded,
    columns_target,
    seconds,
    tries,
)
from bettong._data import Target, infer_table, infer_table_async
from bettong._errors import NotFoundError
from bettong._events import EventStreams
from bettong._files import read_frame
from bettong._frames.kinds import open_frame
from bettong._missing import explained
from bettong._parallel import cut, cut_to_size, join_results, run_slices
from bettong._retry import Attempts
from bettong.v1 import models_pb2, pipelines_pb2

if TYPE_CHECKING:
    import httpx
    import pyarrow as pa

    from bettong._connection import Connection
    from bettong._local import LocalPipeline

FrameT = TypeVar("FrameT")

_LONGEST_REQUEST_BYTES = 400 << 20
"""Servers take 512 MiB unless they are told otherwise; what is longer is sent in parts."""
_PART_BYTES = 64 << 20


class Inference(EventStreams):
    """How a deployed pipeline is asked; frames of any kind go in, and the same kind comes back.

    A frame is a pandas or polars DataFrame, a pyarrow Table or RecordBatch, a dict of numpy arrays (one for each column), or
    a list of records. A reply has the columns `time`, `in.*`, `out.*` and `anomaly.count`, and `metadata.*` if they are
    named in `dataset`.
    """

    def __init__(self, connection: "Connection", name: str) -> None:
        self._connection = connection
        self._name = name

    def infer(self, tensor: FrameT, timeout: float = DEFAULT_TIMEOUT_S, **columns: Unpack[Columns]) -> FrameT:
        """Run rows through the pipeline.

        Args:
            tensor: A frame of any kind.
            timeout: Seconds for everything, tries after a refusal included. The server is told and drops what is late.
            **columns: `dataset`, `dataset_exclude` and `dataset_separator` choose the columns of the reply.

        Raises:
            InvalidInputError: The rows do not fit the pipeline; names the column, and the row if one is to blame.
            NotFoundError: There is no such pipeline.
            NotReadyError: The pipeline does not serve.
            OverloadedError: The server has more to do than it takes, for longer than *timeout*.
            DeadlineError: No answer in time.
            UnreachableError: Nobody listens.
        """
        frame, target = open_frame(tensor), columns_target(self._name, columns, self.infer)
        is_long = frame.table.nbytes > _LONGEST_REQUEST_BYTES
        ask = self._infer_in_parts if is_long else self._infer_table
        try:
            reply = ask(target, frame.table, seconds(timeout))
        except NotFoundError as error:
            raise explained(self._connection, self._name, error) from error
        return cast("FrameT", frame.restore(reply, target.selection))

    def _infer_table(self, target: Target, table: "pa.Table", timeout_s: float) -> "pa.Table":
        return infer_table(self._connection.pool, target, table, Attempts(timeout_s))

    def _infer_in_parts(self, target: Target, table: "pa.Table", timeout_s: float) -> "pa.Table":
        """Ask for one part after the other, within the time for all of them."""
        pipeline = self._connection.ask(
            lambda control: control.pipelines.GetPipeline, pipelines_pb2.GetPipelineRequest(name=self._name)
        ).pipeline
        if pipeline.signature.batch_mode == models_pb2.BATCH_MODE_WHOLE:
            # Its answer depends on all rows together; the server says what it makes of so many.
            return self._infer_table(target, table, timeout_s)
        deadline_s = time.monotonic() + timeout_s
        parts = [
            self._infer_table(target, part, max(0.001, deadline_s - time.monotonic()))
            for part in cut_to_size(table, _PART_BYTES)
        ]
        return join_results(parts, [part.num_rows for part in parts])

    def infer_from_file(
        self,
        path: str | Path,
        data_format: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        **columns: Unpack[Columns],
    ) -> "Any":  # noqa: ANN401 - a pandas data frame or a pyarrow table
        """Run the rows of a file: `.json` (records) and `.csv` give a pandas data frame, `.arrow` and `.parquet` a table.

        Args:
            path: The file.
            data_format: "pandas-records", "csv", "arrow" or "parquet", if the suffix does not tell.
            timeout: As for `infer`.
            **columns: As for `infer`.

        Raises:
            InvalidInputError: The file cannot be read, is not what its name says, or does not fit the pipeline.
        """
        columns_target(self._name, columns, self.infer_from_file)
        return self.infer(read_frame(Path(path), data_format), timeout, **columns)

    async def async_infer(
        self,
        tensor: FrameT,
        async_client: "httpx.AsyncClient | None" = None,
        *,
        retries: int = 1,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109 - the server is told the time, which a scope cannot do
        **columns: Unpack[Columns],
    ) -> FrameT:
        """Run rows without blocking the event loop.

        Args:
            tensor: A frame of any kind.
            async_client: Sends the request; without it the client's own connections do, on a thread.
            retries: Tries after a refusal that may pass.
            timeout: As for `infer`.
            **columns: As for `infer`.

        Raises:
            BettongError: As for `infer`.

        Cancellation:
            The request ends with `async_client`; on a thread it runs to its end and the reply is dropped.
        """
        frame, target = open_frame(tensor), columns_target(self._name, columns, self.async_infer)
        attempts = Attempts(seconds(timeout), tries(retries))
        try:
            reply = await self._infer_table_async(async_client, target, frame.table, attempts)
        except NotFoundError as error:
            raise await asyncio.to_thread(explained, self._connection, self._name, error) from error
        return cast("FrameT", frame.restore(reply, target.selection))

    async def parallel_infer(
        self,
        tensor: FrameT,
        batch_size: int = 1,
        *,
        num_parallel: int | None = None,
        retries: int | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109 - the server is told the time, which a scope cannot do
        **columns: Unpack[Columns],
    ) -> FrameT:
        """Cut a frame into requests, run several at once, and return one reply in the order of the rows.

        When some requests fail, their rows have no values and a column `error` says why; when all fail, the first error is
        raised.

        Args:
            tensor: A frame of any kind.
            batch_size: Rows of one request.
            num_parallel: Requests in flight at once; 4 if it is not given.
            retries: Tries of each request after a refusal that may pass; as many as the time allows if it is not given.
            timeout: Seconds for each request.
            **columns: As for `infer`.

        Raises:
            BettongError: As for `infer`.

        Cancellation:
            Requests in flight run to their end; no other is sent.
        """
        frame, target = open_frame(tensor), columns_target(self._name, columns, self.parallel_infer)
        wanted = DEFAULT_PARALLEL if num_parallel is None else num_parallel
        parallel = bounded("num_parallel", wanted, MOST_PARALLEL)
        timeout_s, retries = seconds(timeout), tries(retries)
        slices = cut(frame.table, bounded("batch_size", batch_size, frame.table.num_rows))
        stop = threading.Event()

        def run(part: "pa.Table") -> "pa.Table":
            return infer_table(self._connection.pool, target, part, Attempts(timeout_s, retries))

        try:
            results = await asyncio.to_thread(run_slices, run, slices, num_parallel=parallel, stop=stop)
        finally:
            stop.set()
        try:
            reply = join_results(results, [part.num_rows for part in slices])
        except NotFoundError as error:
            raise await asyncio.to_thread(explained, self._connection, self._name, error) from error
        return cast("FrameT", frame.restore(reply, target.selection))

    async def _infer_table_async(
        self, client: "httpx.AsyncClient | None", target: Target, table: "pa.Table", attempts: Attempts
    ) -> "pa.Table":
        self._connection.check_open()
        if client is None:
            return await asyncio.to_thread(infer_table, self._connection.pool, target, table, attempts)
        url = self._connection.endpoint.url
        return await infer_table_async(client, url, target=target, table=table, attempts=attempts)

    def local(self, version: int | None = None) -> "LocalPipeline":
        """Return the pipeline for use in this process, without the server: its program and models are fetched now.

        The result can be pickled, for workers of Ray, Spark or Dask.

        Args:
            version: The newest if it is not given.

        Raises:
            NotFoundError: There is no such version.
        """
        from bettong._local_fetch import fetch_local  # noqa: PLC0415 - needed by few

        return fetch_local(self._connection, self._name, version)
