"""A row that breaks its batch fails alone."""
# ruff: noqa: S311, T201 - a seed decides what happens, and a run says what it did

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import onnx_files
import pytest
from grpc import aio
from loads import UNLIMITED
from onnx_files import TABLE_ROWS
from servers import Server, serving
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Ask:
    """Some rows; those outside the table are poison."""

    number: int
    values: tuple[int, ...]

    @property
    def poisoned(self) -> list[int]:
        return [row for row, value in enumerate(self.values) if value >= TABLE_ROWS]

    def message(self) -> pb.ModelInferRequest:
        request = pb.ModelInferRequest(model_name="poisonable", id=str(self.number))
        request.inputs.add(name="x", datatype="INT64", shape=[len(self.values), 1])
        request.raw_input_contents.append(np.array(self.values, np.int64).tobytes())
        return request


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve a model that fails for some values."""
    folder = tmp_path_factory.mktemp("poison")
    with serving(folder / "data", lanes=2) as running:
        running.deploy("poisonable", onnx_files.poisonable(), folder)
        yield running


def mix(seed: int, count: int, share: float) -> list[Ask]:
    """Draw requests of which a share has one poisonous row."""
    choose = random.Random(seed)
    asks = []
    for number in range(count):
        values = [choose.randrange(TABLE_ROWS) for _ in range(choose.choice([1, 1, 1, 2, 5, 40]))]
        if choose.random() < share:
            values[choose.randrange(len(values))] = TABLE_ROWS + choose.randrange(5)
        asks.append(Ask(number, tuple(values)))
    return asks


def check(ask: Ask, reply: pb.ModelInferResponse | None, error: str) -> None:
    if ask.poisoned:
        assert reply is None, f"request {ask.number} has a poisonous row and was answered"
        if len(ask.values) > 1:
            assert f"row {ask.poisoned[0]}" in error
        return
    assert reply is not None, f"request {ask.number} is harmless and failed: {error}"
    assert reply.id == str(ask.number)
    np.testing.assert_array_equal(
        np.frombuffer(reply.raw_output_contents[0], np.float32), np.array(ask.values, np.float32) / 2
    )


@pytest.mark.parametrize("share", [0.02, 0.3])
@pytest.mark.parametrize("seed", range(3))
async def test_only_poisonous_requests_fail(server: Server, seed: int, share: float) -> None:
    """Their neighbours in the same batches are answered right, over unary calls and streams at once."""
    asks = mix(seed, 800, share)
    poison = sum(bool(ask.poisoned) for ask in asks)
    print(f"seed {seed}: {len(asks)} requests, {poison} poisonous")
    assert poison >= 8

    async def unary(stub: Any, ask: Ask) -> None:
        try:
            reply = await stub.ModelInfer(ask.message())
        except aio.AioRpcError as error:
            if error.code() not in {grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT}:
                raise
            return check(ask, None, error.details() or "")
        return check(ask, reply, "")

    async def stream(stub: Any, share: list[Ask]) -> None:
        async def messages() -> AsyncIterator[pb.ModelInferRequest]:
            for ask in share:
                yield ask.message()

        replies = [reply async for reply in stub.ModelStreamInfer(messages())]
        for ask, reply in zip(share, replies, strict=True):
            check(ask, None if reply.error_message else reply.infer_response, reply.error_message)

    before = server.counts()
    async with aio.insecure_channel(server.data, UNLIMITED) as channel:
        stub = GRPCInferenceServiceStub(channel)
        await asyncio.gather(
            *(unary(stub, ask) for ask in asks[::2]), stream(stub, asks[1::4]), stream(stub, asks[3::4])
        )
    after = server.counts()
    good = after.total("bettong_requests_total", code="OK") - before.total("bettong_requests_total", code="OK")
    assert good == len(asks) - poison


async def test_a_poisonous_row_is_named(server: Server) -> None:
    """So that the sender can find it among many."""
    values = list(range(500))
    values[321] = TABLE_ROWS
    async with aio.insecure_channel(server.data) as channel:
        with pytest.raises(aio.AioRpcError, match="row 321"):
            await GRPCInferenceServiceStub(channel).ModelInfer(Ask(1, tuple(values)).message())
