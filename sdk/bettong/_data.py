"""Inference requests: Arrow streams over the data port."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bettong._errors import BettongError, DeadlineError, UnreachableError
from bettong._frames.selection import Selection
from bettong._http import HttpPool
from bettong._http_errors import error_of_reply
from bettong._retry import Attempts, with_retries, with_retries_async

if TYPE_CHECKING:
    import httpx
    import pyarrow as pa

_STREAM_TYPE = "application/vnd.apache.arrow.stream"
_HEADERS = f"content-type: {_STREAM_TYPE}\r\naccept: {_STREAM_TYPE}\r\n"
_FIRST_BAD_STATUS = 400


@dataclass(frozen=True, slots=True)
class Target:
    """A pipeline and the columns that are wanted."""

    pipeline: str
    selection: Selection

    @property
    def path(self) -> str:
        """Path and query of the inference route."""
        return f"/v1/pipelines/{self.pipeline}/infer?{self.selection.query()}"


def infer_table(pool: HttpPool, target: Target, table: "pa.Table", attempts: Attempts) -> "pa.Table":
    """Run rows through a pipeline and return the reply without the columns that were given.

    Raises:
        BettongError: Whatever the server refused it for, after retries within the time.
    """
    # pyarrow is loaded when it is used.
    from bettong._frames.arrow_stream import read_stream, stream_pieces  # noqa: PLC0415

    pieces, path = stream_pieces(table), target.path

    def call(left_s: float) -> "pa.Table":
        reply = pool.post(path, _HEADERS, pieces=pieces, timeout_s=left_s)
        if reply.status >= _FIRST_BAD_STATUS:
            raise error_of_reply(reply.status, reply.headers, reply.body)
        return read_stream(reply.body)

    return with_retries(call, attempts)


async def infer_table_async(
    client: "httpx.AsyncClient", url: str, *, target: Target, table: "pa.Table", attempts: Attempts
) -> "pa.Table":
    """Do what `infer_table` does, with a client of the caller.

    Raises:
        BettongError: Whatever the server refused it for, after retries within the time.
    """
    import httpx  # noqa: PLC0415 - only those have it loaded who bring a client

    from bettong._frames.arrow_stream import read_stream, stream_pieces  # noqa: PLC0415

    body = b"".join(stream_pieces(table))

    async def call(left_s: float) -> "pa.Table":
        timeout_ms = max(1, int(left_s * 1000))
        headers = {"content-type": _STREAM_TYPE, "accept": _STREAM_TYPE, "x-request-timeout-ms": str(timeout_ms)}
        try:
            reply = await client.post(f"{url}{target.path}", content=body, headers=headers, timeout=left_s)
        except httpx.TimeoutException as error:
            raise DeadlineError(f"no answer from {url} in time") from error
        except httpx.TransportError as error:
            raise UnreachableError(f"the connection to {url} failed: {error}") from error
        if reply.status_code >= _FIRST_BAD_STATUS:
            raise error_of_reply(reply.status_code, reply.headers, reply.content)
        return read_stream(reply.content)

    return await with_retries_async(call, attempts)


def read_json(pool: HttpPool, path: str, *, timeout_s: float) -> Mapping[str, object]:
    """Return the JSON object at *path*.

    Raises:
        BettongError: The server refused, or answered with something else.
    """
    reply = pool.get(path, timeout_s=timeout_s)
    if reply.status >= _FIRST_BAD_STATUS:
        raise error_of_reply(reply.status, reply.headers, reply.body)
    try:
        found = json.loads(reply.body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BettongError("the answer is no JSON object")
    return found
