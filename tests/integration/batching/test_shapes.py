"""Models that cannot be batched just so: their answers are those of each request alone, too."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_files
import onnxruntime
import pytest
from grpc import aio
from loads import UNLIMITED
from servers import Server, serving
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve models of unusual shapes on one lane."""
    folder: Path = tmp_path_factory.mktemp("shapes")
    with serving(folder / "data", lanes=1) as running:
        running.deploy("entangled", onnx_files.entangled(), folder)
        running.deploy("ragged", onnx_files.ragged(), folder)
        running.deploy("ragged-texts", onnx_files.ragged("BYTES"), folder)
        running.deploy("one-row", onnx_files.fixed_rows(1), folder)
        running.deploy("three-rows", onnx_files.fixed_rows(3), folder)
        yield running


async def infer(stub: Any, model: str, x: np.ndarray) -> dict[str, np.ndarray]:
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.add(name="x", datatype="FP32", shape=x.shape)
    request.raw_input_contents.append(x.astype(np.float32).tobytes())
    reply = await stub.ModelInfer(request)
    types = {"FP32": np.float32, "INT64": np.int64}
    raw = zip(reply.outputs, reply.raw_output_contents, strict=True)
    return {out.name: np.frombuffer(data, types[out.datatype]).reshape(out.shape) for out, data in raw}


async def at_once(server: Server, model: str, inputs: list[np.ndarray]) -> list[dict[str, np.ndarray]]:
    async with aio.insecure_channel(server.data, UNLIMITED) as channel:
        stub = GRPCInferenceServiceStub(channel)
        return list(await asyncio.gather(*(infer(stub, model, x) for x in inputs)))


async def test_rows_that_depend_on_each_other_are_not_mixed_with_strangers(server: Server) -> None:
    """A row alone is its own mean, whoever else asks at the same time."""
    inputs = [np.array([[number]]) for number in range(200)]
    answers = await at_once(server, "entangled", inputs)
    assert [float(answer["y"][0, 0]) for answer in answers] == [0.0] * 200


async def test_a_long_request_of_rows_that_depend_on_each_other_is_not_cut(server: Server) -> None:
    """The mean is that of all rows, as ONNX Runtime itself computes it."""
    x = np.arange(10_000, dtype=np.float32)[:, None]
    (answer,) = await at_once(server, "entangled", [x])
    (expected,) = onnxruntime.InferenceSession(onnx_files.entangled()).run(["y"], {"x": x})
    np.testing.assert_allclose(answer["y"], expected, rtol=1e-5, atol=0.5)


async def test_rows_of_different_lengths_come_back_with_theirs(server: Server) -> None:
    """Requests of the same shape may be joined, others not."""
    inputs = [np.full([1 + number % 3, 1 + number % 7], number) for number in range(300)]
    answers = await at_once(server, "ragged", inputs)
    for given, answer in zip(inputs, answers, strict=True):
        np.testing.assert_array_equal(given, answer["y"])
        assert answer["length"].tolist() == [given.shape[1]] * given.shape[0]


async def test_texts_are_split_right(server: Server) -> None:
    """Rows of texts have no fixed size in bytes."""

    def texts(number: int) -> list[bytes]:
        return [b"a" * ((number + element) % 50) for element in range((1 + number % 3) * 2)]

    async def one(stub: Any, number: int) -> bytes:
        request = pb.ModelInferRequest(model_name="ragged-texts")
        tensor = request.inputs.add(name="x", datatype="BYTES", shape=[1 + number % 3, 2])
        tensor.contents.bytes_contents.extend(texts(number))
        request.outputs.add(name="y")
        reply = await stub.ModelInfer(request)
        return bytes(reply.raw_output_contents[0])

    async with aio.insecure_channel(server.data) as channel:
        stub = GRPCInferenceServiceStub(channel)
        raw = await asyncio.gather(*(one(stub, number) for number in range(200)))
    for number, data in enumerate(raw):
        assert data == b"".join(len(text).to_bytes(4, "little") + text for text in texts(number))


async def test_a_model_of_one_row_takes_any_number(server: Server) -> None:
    """It is run once for each, and the answers are joined."""
    inputs = [np.arange(count * 2).reshape(count, 2) for count in (1, 2, 7)] * 10
    answers = await at_once(server, "one-row", inputs)
    for given, answer in zip(inputs, answers, strict=True):
        np.testing.assert_array_equal(given, answer["y"])


async def test_a_model_of_three_rows_takes_three(server: Server) -> None:
    """Requests are not joined, and any other number is refused by name."""
    inputs = [np.full([3, 2], number) for number in range(50)]
    answers = await at_once(server, "three-rows", inputs)
    for given, answer in zip(inputs, answers, strict=True):
        np.testing.assert_array_equal(given, answer["y"])
    with pytest.raises(aio.AioRpcError, match="'x'"):
        await at_once(server, "three-rows", [np.zeros([2, 2])])
