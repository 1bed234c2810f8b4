"""Load for fault tests: closed and open loops over gRPC, with what became of each request."""

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc import aio
from servers import Server
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


EXACT = 1_024
"""Below this a model that sums thousands of times the same number in 32 bits gives back exactly that."""


def one_row(model: str, value: float, dtype: str = "FP32") -> pb.ModelInferRequest:
    """Return a request of one row of one column."""
    raw = np.array([value], {"FP32": np.float32, "INT64": np.int64}[dtype]).tobytes()
    request = pb.ModelInferRequest(model_name=model, id=str(value))
    request.inputs.add(name="x", datatype=dtype, shape=[1, 1])
    request.raw_input_contents.append(raw)
    return request


def rows_of(model: str, count: int) -> pb.ModelInferRequest:
    """Return a request of so many rows of one column of zeros."""
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.add(name="x", datatype="FP32", shape=[count, 1])
    request.raw_input_contents.append(np.zeros([count, 1], np.float32).tobytes())
    return request


@contextlib.asynccontextmanager
async def held_up(server: Server, model: str, rows: int) -> AsyncIterator[None]:
    """Have the one compute thread of a server run so many rows in one go: what is sent inside the block waits behind them.

    So all of that can be under way at once, however slowly it arrives. Whatever the block does, the rows are answered at its end.
    """
    async with aio.insecure_channel(server.data, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = GRPCInferenceServiceStub(channel).ModelInfer(rows_of(model, rows))
        await until_in_flight(server, 1)
        yield
        await call


async def until_in_flight(server: Server, count: int) -> None:
    """Wait until so many requests are under way; each look is a call, which gives the server its turn."""
    while await in_flight(server) < count:
        pass


async def until_none_in_flight(server: Server) -> None:
    """Wait until every place is given back, which is beside the answer; one that is lost for good runs into the test's time-out."""
    for gauge in ("bettong_requests_in_flight", "bettong_requests_in_flight_bytes"):
        while (await asyncio.to_thread(server.counts)).total(gauge) > 0:
            pass


async def in_flight(server: Server) -> float:
    return (await asyncio.to_thread(server.counts)).total("bettong_requests_in_flight")


def value_of(reply: pb.ModelInferResponse) -> float:
    """Return the one value of a reply."""
    return float(np.frombuffer(reply.raw_output_contents[0], np.float32)[0])


@dataclass
class Outcomes:
    """What became of the requests of a run."""

    sent: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    ok_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    retry_hints_s: list[float | None] = field(default_factory=list)

    def failed(self, error: aio.AioRpcError, elapsed_s: float) -> None:
        self.codes[error.code().name] += 1
        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            self.refused_s.append(elapsed_s)
            self.retry_hints_s.append(retry_hint_s(error))


def retry_hint_s(error: aio.AioRpcError) -> float | None:
    """Return the seconds of RetryInfo, if a status has one."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in Status.FromString(value).details:
                info = RetryInfo()
                if detail.Unpack(info):
                    return float(info.retry_delay.ToTimedelta().total_seconds())
    return None


class Load:
    """Sends requests to one model and keeps what comes back."""

    def __init__(self, channel: aio.Channel, model: str) -> None:
        self._stub: Any = GRPCInferenceServiceStub(channel)
        self._model = model
        self.outcomes = Outcomes()

    async def send(self, number: int, timeout_s: float | None = None) -> bool:
        """Send one request whose answer must be its number; return whether it was answered."""
        started = time.monotonic()
        self.outcomes.sent += 1
        try:
            reply = await self._stub.ModelInfer(one_row(self._model, number), timeout=timeout_s)
        except aio.AioRpcError as error:
            self.outcomes.failed(error, time.monotonic() - started)
            return False
        self.outcomes.codes["OK"] += 1
        self.outcomes.ok_s.append(time.monotonic() - started)
        if value_of(reply) != number or reply.id != str(number):
            self.outcomes.wrong.append(f"{number}: {reply.id} {value_of(reply)}")
        return True

    async def closed(self, concurrency: int, seconds: float) -> float:
        """Keep *concurrency* requests in flight; return answers a second."""
        started = time.monotonic()
        numbers = itertools.cycle(range(EXACT))

        async def turn() -> int:
            answered = 0
            while time.monotonic() < started + seconds:
                answered += await self.send(next(numbers))
            return answered

        answered = sum(await asyncio.gather(*(turn() for _ in range(concurrency))))
        return answered / (time.monotonic() - started)

    async def opened(self, rate: float, seconds: float, timeout_s: float | None) -> float:
        """Send at a rate whatever comes back; return answers a second of sending."""
        started = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            sent = 0
            while (elapsed := time.monotonic() - started) < seconds:
                while sent < elapsed * rate:
                    tasks.create_task(self.send(sent % EXACT, timeout_s))
                    sent += 1
                # The schedule is absolute: what this wait is late by is caught up in the next turn.
                await asyncio.sleep(0.001)
        return self.outcomes.codes["OK"] / seconds
