"""Deploying, replacing and undeploying while requests come: each is answered by one version, or told why not."""
# ruff: noqa: T201 - a run says what it did

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import onnx_files
import pytest
from grpc import aio
from loads import UNLIMITED, held_up, in_flight, one_row, until_in_flight, value_of
from servers import Server, serving
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

CHANGES = 12
ANSWERS_A_CHANGE = 50
IN_FLIGHT = 30
HELD_ROWS = 50
"""Run, at 40 ms each, for as long as all these requests need to arrive."""


@asynccontextmanager
async def asking(server: Server, model: str, judge: Callable[[Any], str]) -> AsyncIterator[Counter[str]]:
    """Send requests on several connections inside the block; yield what the judge says of each outcome."""
    seen: Counter[str] = Counter()
    stop = asyncio.Event()

    async def client() -> None:
        async with aio.insecure_channel(server.data, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = GRPCInferenceServiceStub(channel)
            while not stop.is_set():
                try:
                    reply = await stub.ModelInfer(one_row(model, 1))
                except aio.AioRpcError as error:
                    seen[judge(error)] += 1
                else:
                    seen[judge(reply)] += 1

    async def over_http() -> None:
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}
        async with httpx.AsyncClient(base_url=server.url, timeout=20) as client:
            while not stop.is_set():
                seen[judge(await client.post(f"/v2/models/{model}/infer", json=body))] += 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(client())
        tasks.create_task(over_http())
        yield seen
        stop.set()


def version_and_value(outcome: Any) -> str:
    """Tell whether an answer is that of the version that it names, which multiplies by its number."""
    if isinstance(outcome, aio.AioRpcError):
        return outcome.code().name
    if isinstance(outcome, httpx.Response):
        if outcome.status_code != 200:
            return str(outcome.status_code)
        found = outcome.json()
        return "right" if found["outputs"][0]["data"] == [float(found["model_version"])] else f"wrong: {found}"
    return "right" if value_of(outcome) == float(outcome.model_version) else f"wrong: {outcome}"


async def test_replacing_a_version_fails_no_request(tmp_path: Path) -> None:
    """Every answer is wholly that of one version, and the last one serves in the end."""
    with serving(tmp_path / "data", lanes=2) as server:
        server.deploy("scaled", onnx_files.scaled(1), tmp_path)
        async with asking(server, "scaled", version_and_value) as seen:
            for version in range(2, 2 + CHANGES):
                await asyncio.to_thread(server.deploy, "scaled", onnx_files.scaled(version), tmp_path)
                while seen["right"] < ANSWERS_A_CHANGE * (version - 1) and set(seen) <= {"right"}:  # noqa: ASYNC110 - a counter tells nobody
                    await asyncio.sleep(0.005)
        async with aio.insecure_channel(server.data, UNLIMITED) as channel:
            last = await GRPCInferenceServiceStub(channel).ModelInfer(one_row("scaled", 1))
    print(f"{CHANGES} versions, {dict(seen)}")
    assert set(seen) == {"right"}
    assert seen["right"] >= ANSWERS_A_CHANGE * CHANGES
    assert value_of(last) == 1 + CHANGES


async def test_unloading_is_told_plainly_and_loading_brings_it_back(tmp_path: Path) -> None:
    """Requests are answered, or refused as not found or not available; never lost or broken."""
    with serving(tmp_path / "data", lanes=2) as server:
        server.deploy("scaled", onnx_files.scaled(1), tmp_path)
        async with (
            aio.insecure_channel(server.data) as channel,
            asking(server, "scaled", version_and_value) as seen,
        ):
            stub = GRPCInferenceServiceStub(channel)
            for _ in range(CHANGES):
                await stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="scaled"))
                await stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="scaled"))
            before = seen["right"]
            while seen["right"] < before + 20:
                await stub.ServerReady(pb.ServerReadyRequest())
    print(f"{CHANGES} times unloaded and loaded, {dict(seen)}")
    assert set(seen) <= {"right", "NOT_FOUND", "UNAVAILABLE", "404", "503"}
    assert set(seen) - {"right"}, "no request met an unloaded model"


async def test_a_replaced_slow_model_finishes_what_it_has(tmp_path: Path) -> None:
    """Requests that wait for the old version are answered by it, though it no longer serves."""
    async with thirty_in_flight(tmp_path) as (server, stub, calls):
        await asyncio.to_thread(server.deploy, "slow", onnx_files.scaled(100), tmp_path)
        after = await stub.ModelInfer(one_row("slow", 1))
        replies = await asyncio.gather(*calls)
    assert value_of(after) == 100
    assert [(reply.model_version, value_of(reply)) for reply in replies] == [("1", n) for n in range(IN_FLIGHT)]


@asynccontextmanager
async def thirty_in_flight(folder: Path) -> AsyncIterator[tuple[Server, Any, list[Any]]]:
    """Serve a slow model on one thread and yield a stub and calls that have been admitted and wait for their turn."""
    with serving(folder / "data", lanes=1, compute_threads=1, max_batch_rows=1) as server:
        server.deploy("slow", onnx_files.slow(2_000), folder)
        async with aio.insecure_channel(server.data, UNLIMITED) as channel, held_up(server, "slow", HELD_ROWS):
            stub = GRPCInferenceServiceStub(channel)
            calls = [stub.ModelInfer(one_row("slow", number)) for number in range(IN_FLIGHT)]
            await until_in_flight(server, IN_FLIGHT + 1)
            yield server, stub, calls


async def undeploy(server: Server, pipeline: str) -> None:
    def ask() -> None:
        with server.client() as client:
            client.build_pipeline(pipeline).undeploy()

    await asyncio.to_thread(ask)


async def test_requests_in_flight_outlive_their_pipeline(tmp_path: Path) -> None:
    """What was admitted before an undeploy is answered right, what comes after is told that there is no pipeline."""
    async with thirty_in_flight(tmp_path) as (server, stub, calls):
        await undeploy(server, "slow")
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.ModelInfer(one_row("slow", 1))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        missing = await asyncio.to_thread(httpx.post, f"{server.url}/v1/pipelines/slow/infer", json=[{"x": 1}])
        assert missing.status_code == 404
        await stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="slow"))
        again = await stub.ModelInfer(one_row("slow", 7))
        assert value_of(again) == 7
        assert [value_of(reply) for reply in await asyncio.gather(*calls)] == list(range(IN_FLIGHT))


async def test_an_undeploy_returns_when_requests_in_flight_are_answered(tmp_path: Path) -> None:
    """Whoever stops what a pipeline depends on after that harms nobody."""
    async with thirty_in_flight(tmp_path) as (server, _stub, calls):
        await undeploy(server, "slow")
        left = await in_flight(server)
        await asyncio.gather(*calls)
    # The place of the last one is given back beside its answer.
    assert left <= 1


async def test_a_reader_that_stops_does_not_fill_the_server(tmp_path: Path) -> None:
    """A stream whose answers nobody takes is not read further; others go on, and it resumes where it stopped."""
    rows, messages = 50_000, 400
    with serving(tmp_path / "data", lanes=1) as server:
        server.deploy("identity", onnx_files.identity("FP32"), tmp_path)
        request = pb.ModelInferRequest(model_name="identity")
        request.inputs.add(name="x", datatype="FP32", shape=[rows, 4])
        request.raw_input_contents.append(bytes(rows * 16))
        written = 0
        async with (
            aio.insecure_channel(server.data, [*UNLIMITED, ("grpc.use_local_subchannel_pool", 1)]) as channel,
            aio.insecure_channel(server.data, [*UNLIMITED, ("grpc.use_local_subchannel_pool", 1)]) as other,
        ):
            before = server.counts().total("process_resident_memory_bytes")
            call: Any = GRPCInferenceServiceStub(channel).ModelStreamInfer()

            async def write() -> None:
                nonlocal written
                for number in range(messages):
                    request.id = str(number)
                    await call.write(request)
                    written += 1
                await call.done_writing()

            writing = asyncio.ensure_future(write())
            stub = GRPCInferenceServiceStub(other)
            seen = -1
            while written != seen:
                # As long as it still takes more: another client's calls are the pause.
                seen = written
                for _ in range(200):
                    await stub.ServerLive(pb.ServerLiveRequest())
            held = server.counts().total("process_resident_memory_bytes") - before
            print(f"{written} of {messages} messages of {rows * 16} bytes taken, {held / 1e6:.0f} MB more")
            assert written < messages, "the stream was read to its end"
            assert held < 150e6
            ids = [reply.infer_response.id async for reply in call]
            await writing
    assert ids == [str(number) for number in range(messages)]
