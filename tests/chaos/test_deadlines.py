"""Time that is up and clients that left: nothing is run for them, and nobody else notices."""
# ruff: noqa: T201 - a seed decides what happens, and a run says what it did

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import onnx_files
import pytest
from grpc import aio
from loads import UNLIMITED, Load, held_up, one_row, rows_of, until_in_flight, until_none_in_flight, value_of
from servers import Server, serving
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

pytestmark = pytest.mark.slow

# About 40 ms of one core for each row.
TURNS = 2_000
HELD_ROWS = 50
"""Run for as long as all requests of a test need to arrive, and to be abandoned."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve one slow model on one thread, a row at a time."""
    folder: Path = tmp_path_factory.mktemp("deadlines")
    with serving(folder / "data", lanes=1, compute_threads=1, max_batch_rows=1) as running:
        running.deploy("slow", onnx_files.slow(TURNS), folder)
        yield running


def rows_run(server: Server, pipeline: str = "slow") -> float:
    """Return how many rows were begun."""
    return server.counts().total("bettong_batch_rows_sum", pipeline=pipeline)


async def test_requests_whose_time_is_up_are_not_run(server: Server) -> None:
    """Of a hundred that come at once, about as many are run as are answered in time."""
    await idle(server)
    before = rows_run(server)
    async with aio.insecure_channel(server.data, UNLIMITED) as channel:
        load = Load(channel, "slow")
        await asyncio.gather(*(load.send(number, 0.4) for number in range(100)))
        # One more without a deadline comes back only when all before it are done with.
        await load.send(100)
    run = rows_run(server) - before
    codes = load.outcomes.codes
    print(f"{dict(codes)}, rows run {run}")
    assert codes["OK"] >= 2
    assert codes["DEADLINE_EXCEEDED"] + codes["RESOURCE_EXHAUSTED"] >= 50, "too few were late"
    assert run <= codes["OK"] + 3
    assert load.outcomes.wrong == []


async def idle(server: Server) -> None:
    """Wait until what other tests have left behind is done with: an answer says that it was this one's turn."""
    async with aio.insecure_channel(server.data) as channel:
        assert value_of(await GRPCInferenceServiceStub(channel).ModelInfer(one_row("slow", 1))) == 1


@pytest.mark.parametrize("way", ["grpc", "grpc parameter", "rest header", "rest parameter", "native header"])
async def test_a_deadline_can_be_given_in_each_protocol(server: Server, way: str) -> None:
    """5 ms are never enough for this model; the status is the protocol's own."""
    await idle(server)
    if way.startswith("grpc"):
        async with aio.insecure_channel(server.data) as channel:
            request = one_row("slow", 1)
            timeout_s = 0.005 if way == "grpc" else None
            if timeout_s is None:
                request.parameters["timeout"].int64_param = 5_000
            with pytest.raises(aio.AioRpcError) as caught:
                await GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=timeout_s)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        return
    path = "/v1/pipelines/slow/infer" if way == "native header" else "/v2/models/slow/infer"
    body: Any = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}
    headers = {} if way == "rest parameter" else {"x-request-timeout-ms": "5"}
    if way == "rest parameter":
        body["parameters"] = {"timeout": 5_000}
    if way == "native header":
        body = [{"x": 1}]
    async with httpx.AsyncClient(base_url=server.url) as client:
        reply = await client.post(path, json=body, headers=headers)
    assert reply.status_code == 504, reply.text
    assert "deadline" in reply.json()["error"]


@pytest.mark.parametrize("way", ["unary", "stream", "rest"])
async def test_requests_of_clients_that_left_are_not_run(server: Server, way: str) -> None:
    """Thirty are sent and abandoned while one runs; a neighbour that stays is answered right."""
    await idle(server)
    before = rows_run(server)
    async with aio.insecure_channel(server.data) as other:
        async with held_up(server, "slow", HELD_ROWS):
            await abandon(server, way, 30)
        assert value_of(await GRPCInferenceServiceStub(other).ModelInfer(one_row("slow", 2))) == 2
    await until_none_in_flight(server)
    run = rows_run(server) - before
    print(f"abandoned 30 by {way}, rows run {run}")
    assert run == HELD_ROWS + 1


async def abandon(server: Server, way: str, count: int) -> None:
    """Send requests and leave before any can be answered, but after all have arrived behind the one that is under way."""
    if way in {"unary", "stream"}:
        async with aio.insecure_channel(server.data) as channel:
            stub = GRPCInferenceServiceStub(channel)
            if way == "unary":
                calls = [stub.ModelInfer(one_row("slow", number)) for number in range(count)]
            else:
                call = stub.ModelStreamInfer()
                for number in range(count):
                    await call.write(one_row("slow", number))
                calls = [call]
            await until_in_flight(server, 1 + count)
            for call in calls:
                call.cancel()
        return
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}
    limits = httpx.Limits(max_connections=count)
    async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=20) as client:
        tasks = [asyncio.ensure_future(client.post("/v2/models/slow/infer", json=body)) for _ in range(count)]
        await until_in_flight(server, 1 + count)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@pytest.fixture(scope="module")
def chained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve `chain`: two slow models in a row, about 200 ms each."""
    folder = tmp_path_factory.mktemp("chained")
    path = folder / "slow.onnx"
    path.write_bytes(onnx_files.slow(5 * TURNS))
    with serving(folder / "data", lanes=1, compute_threads=1) as running, running.client() as client:
        first = client.upload_model("first", path)
        second = client.upload_model("second", path).configure(tensor_fields=["y"])
        client.build_pipeline("chain").add_model_step(first).add_model_step(second).deploy()
        yield running


def runs(server: Server) -> tuple[float, float]:
    """Return how often the first and the second step of the chain have run, in a chain that has ended."""
    counts = server.counts()
    first, second = (counts.total("bettong_step_run_duration_seconds_count", pipeline="chain", step=at) for at in "01")
    return first, second


async def test_a_chain_is_not_continued_for_a_client_that_left(chained: Server) -> None:
    """The step that runs is finished, the next is not begun."""
    async with aio.insecure_channel(chained.data) as channel:
        stub = GRPCInferenceServiceStub(channel)
        assert value_of(await stub.ModelInfer(one_row("chain", 3))) == 3
        begun, ended = rows_run(chained, "chain"), runs(chained)
        for _ in range(3):
            # About 1 s a step: time enough to leave in the first.
            call = stub.ModelInfer(rows_of("chain", 5))
            await until_in_flight(chained, 1)
            call.cancel()
            await until_none_in_flight(chained)
    print(f"{rows_run(chained, 'chain') - begun} of 15 rows begun, ended: {runs(chained)[1] - ended[1]}")
    assert rows_run(chained, "chain") > begun
    assert runs(chained) == ended


async def test_a_chain_is_not_continued_after_its_deadline(chained: Server) -> None:
    """The time is over in the first step; the second is not begun."""
    async with aio.insecure_channel(chained.data) as channel:
        stub = GRPCInferenceServiceStub(channel)

        async def took_s() -> float:
            began_s = time.monotonic()
            assert value_of(await stub.ModelInfer(one_row("chain", 3))) == 3
            return time.monotonic() - began_s

        # The first one connects, too; of the others the least disturbed counts.
        whole_s = min([await took_s() for _ in range(4)][1:])
        begun, ended = rows_run(chained, "chain"), runs(chained)
        for _ in range(3):
            with pytest.raises(aio.AioRpcError) as caught:
                # The client waits longer, so that the server's own answer is seen.
                request = one_row("chain", 1)
                request.parameters["timeout"].int64_param = int(whole_s * 0.3 * 1e6)
                await stub.ModelInfer(request)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    # Both steps are counted when the last has run.
    assert (rows_run(chained, "chain"), runs(chained)) == (begun + 3, ended)
