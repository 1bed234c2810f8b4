"""Joining requests into batches never changes an answer: random mixes over every protocol at once.

Each row says which request and row it is, so that an answer that is lost, doubled, swapped or cut shows by itself.
"""
# ruff: noqa: S311, T201 - a seed decides what happens, and a run says what it did

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import numpy as np
import onnx_files
import onnxruntime
import pytest
from grpc import aio
from servers import Server, serving
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

pytestmark = pytest.mark.slow

OUTPUTS = ("echo", "y", "sum")
TYPES = {"INT64": np.int64, "FP32": np.float32}
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@dataclass(frozen=True)
class Ask:
    """One request of a mix."""

    number: int
    rows: int
    outputs: tuple[str, ...]
    faulty: bool
    seed: int

    @property
    def id(self) -> str:
        """What comes back with the answer."""
        return f"request-{self.number}"

    def columns(self) -> dict[str, np.ndarray]:
        """Return the inputs; a faulty request has one column too few."""
        generator = np.random.default_rng([self.seed, self.number])
        tags = np.array([[self.number, row] for row in range(self.rows)], np.int64)
        width = 2 if self.faulty else 3
        return {"tag": tags, "x": generator.normal(size=(self.rows, width)).astype(np.float32)}


@dataclass
class Answer:
    """What came back for a request."""

    id: str
    outputs: dict[str, np.ndarray]
    error: str = ""


class Reference:
    """Runs a file row by row with ONNX Runtime itself."""

    def __init__(self) -> None:
        self._session = onnxruntime.InferenceSession(onnx_files.tagged())

    def run(self, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        rows = range(len(columns["tag"]))
        each = [self._session.run(OUTPUTS, {name: values[[row]] for name, values in columns.items()}) for row in rows]
        return {name: np.concatenate([outputs[at] for outputs in each]) for at, name in enumerate(OUTPUTS)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve the model that tags its rows, on two lanes."""
    folder = tmp_path_factory.mktemp("batching")
    with serving(folder / "data", lanes=2) as running:
        running.deploy("tagged", onnx_files.tagged(), folder)
        yield running


def mix(seed: int, count: int) -> list[Ask]:
    """Draw requests: most small, some large, some beyond the longest batch, a few wrong."""
    choose = random.Random(seed)
    asks = []
    for number in range(count):
        rows = choose.choices([choose.randint(1, 4), choose.randint(5, 300), choose.randint(4_000, 9_000)], [90, 9, 1])
        outputs = tuple(choose.sample(OUTPUTS, choose.randint(1, len(OUTPUTS)))) if choose.random() < 0.5 else ()
        asks.append(Ask(number, rows[0], outputs, choose.random() < 0.05, seed))
    return asks


def to_message(ask: Ask) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name="tagged", id=ask.id)
    for name, values in ask.columns().items():
        dtype = "INT64" if values.dtype == np.int64 else "FP32"
        message.inputs.add(name=name, datatype=dtype, shape=values.shape)
        message.raw_input_contents.append(values.tobytes())
    for name in ask.outputs:
        message.outputs.add(name=name)
    return message


def from_message(reply: pb.ModelInferResponse) -> Answer:
    outputs = {}
    for output, raw in zip(reply.outputs, reply.raw_output_contents, strict=True):
        outputs[output.name] = np.frombuffer(raw, TYPES[output.datatype]).reshape(output.shape)
    return Answer(reply.id, outputs)


async def over_unary(server: Server, asks: Sequence[Ask]) -> list[Answer]:
    """Send all at once on one connection."""

    async def one(stub: Any, ask: Ask) -> Answer:
        try:
            return from_message(await stub.ModelInfer(to_message(ask)))
        except aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                raise
            return Answer(ask.id, {}, error.details() or "")

    async with aio.insecure_channel(server.data, UNLIMITED) as channel:
        stub = GRPCInferenceServiceStub(channel)
        return list(await asyncio.gather(*(one(stub, ask) for ask in asks)))


async def over_stream(server: Server, asks: Sequence[Ask]) -> list[Answer]:
    """Send all on one stream; answers must come in order."""

    async def messages() -> AsyncIterator[pb.ModelInferRequest]:
        for ask in asks:
            yield to_message(ask)

    async with aio.insecure_channel(server.data, UNLIMITED) as channel:
        replies = [reply async for reply in GRPCInferenceServiceStub(channel).ModelStreamInfer(messages())]
    answers = [from_message(reply.infer_response) for reply in replies]
    for answer, reply in zip(answers, replies, strict=True):
        answer.error = reply.error_message
    assert [answer.id for answer in answers] == [ask.id for ask in asks], "the stream is out of order"
    return answers


async def over_rest(server: Server, asks: Sequence[Ask]) -> list[Answer]:
    """Send all at once on several HTTP/1.1 connections, in JSON."""

    async def one(client: httpx.AsyncClient, ask: Ask) -> Answer:
        inputs = [
            {
                "name": name,
                "datatype": "INT64" if values.dtype == np.int64 else "FP32",
                "shape": values.shape,
                "data": values.tolist(),
            }
            for name, values in ask.columns().items()
        ]
        body: dict[str, object] = {"id": ask.id, "inputs": inputs}
        if ask.outputs:
            body["outputs"] = [{"name": name} for name in ask.outputs]
        reply = await client.post("/v2/models/tagged/infer", content=json.dumps(body))
        found = reply.json()
        if reply.status_code != 200:
            assert reply.status_code == 400, reply.text
            return Answer(ask.id, {}, found["error"])
        outputs = {
            out["name"]: np.array(out["data"], TYPES[out["datatype"]]).reshape(out["shape"]) for out in found["outputs"]
        }
        return Answer(found["id"], outputs)

    limits = httpx.Limits(max_connections=16)
    async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=60) as client:
        return list(await asyncio.gather(*(one(client, ask) for ask in asks)))


def check(asks: Sequence[Ask], answers: Sequence[Answer], reference: Reference) -> None:
    assert len(asks) == len(answers)
    for ask, answer in zip(asks, answers, strict=True):
        assert answer.id == ask.id
        if ask.faulty:
            assert "'x'" in answer.error
            continue
        assert answer.error == ""
        assert tuple(answer.outputs) == (ask.outputs or OUTPUTS)
        expected = reference.run(ask.columns())
        for name, values in answer.outputs.items():
            np.testing.assert_allclose(values, expected[name], rtol=1e-5, atol=1e-6, err_msg=f"{ask.id} {name}")


@pytest.mark.parametrize("seed", range(4))
async def test_every_answer_is_that_of_its_rows_run_alone(server: Server, seed: int) -> None:
    """Two streams, two unary connections and REST at once; wrong requests among them fail alone."""
    asks = mix(seed, 600)
    faults = sum(ask.faulty for ask in asks)
    print(f"seed {seed}: {len(asks)} requests, {sum(ask.rows for ask in asks)} rows, {faults} of them wrong")
    assert faults > 10
    shares = [asks[start::5] for start in range(5)]
    ways = [over_unary, over_stream, over_rest, over_unary, over_stream]
    before = server.counts()
    every = await asyncio.gather(*(way(server, share) for way, share in zip(ways, shares, strict=True)))
    after = server.counts()
    reference = Reference()
    for share, answers in zip(shares, every, strict=True):
        check(share, answers, reference)
    good_rows = sum(ask.rows for ask in asks if not ask.faulty)
    assert after.total("bettong_rows_total", pipeline="tagged") - before.total("bettong_rows_total") == good_rows
    runs = after.total("bettong_batch_rows_count") - before.total("bettong_batch_rows_count")
    assert 0 < runs < len(asks) - faults, "nothing was joined"
