"""Memory stays flat over many requests, good and bad."""
# ruff: noqa: T201 - a seed decides what happens, and a run says what it did

import asyncio
from pathlib import Path
from typing import Any

import grpc
import httpx
import onnx_files
import pytest
from grpc import aio
from loads import UNLIMITED, one_row
from servers import Server, serving
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

GROWTH_BYTES = 20e6
STREAMED = 90_000
UNARY = 10_000


def resident_bytes(server: Server) -> float:
    return server.counts().total("process_resident_memory_bytes")


async def over_streams(server: Server, count: int, streams: int = 4) -> int:
    """Send requests, one in fifty of them wrong, and return how many came back right."""

    async def one(share: int) -> int:
        async with aio.insecure_channel(server.data, UNLIMITED) as channel:
            call: Any = GRPCInferenceServiceStub(channel).ModelStreamInfer()
            good, bad = one_row("identity", 1), one_row("identity", 1)
            bad.inputs[0].shape[0] = 2

            async def write() -> None:
                for number in range(share):
                    await call.write(bad if number % 50 == 0 else good)
                await call.done_writing()

            writing = asyncio.ensure_future(write())
            right = sum([not reply.error_message async for reply in call])
            await writing
            return right

    return sum(await asyncio.gather(*(one(count // streams) for _ in range(streams))))


async def over_unary(server: Server, count: int) -> int:
    """Send requests with eight in flight, a tenth of which is cancelled at once."""
    right = 0

    async def turn(stub: Any) -> None:
        nonlocal right
        for number in range(count // 8):
            call = stub.ModelInfer(one_row("identity", number))
            if number % 10 == 0:
                call.cancel()
                continue
            reply = await call
            right += bool(reply.raw_output_contents)

    async with aio.insecure_channel(server.data) as channel:
        stub = GRPCInferenceServiceStub(channel)
        await asyncio.gather(*(turn(stub) for _ in range(8)))
    return right


async def test_a_hundred_thousand_requests_leave_nothing_behind(tmp_path: Path) -> None:
    """Neither those that were answered, nor those that were refused or given up."""
    with serving(tmp_path / "data", lanes=1) as server:
        server.deploy("identity", onnx_files.identity("FP32", width=1), tmp_path)
        await over_streams(server, 4_000)
        await over_unary(server, 2_000)
        before = resident_bytes(server)
        right = await over_streams(server, STREAMED) + await over_unary(server, UNARY)
        after = resident_bytes(server)
    print(f"{right} right, {before / 1e6:.1f} MB before, {after / 1e6:.1f} MB after")
    assert right == STREAMED * 49 / 50 + UNARY * 9 / 10
    assert after - before <= GROWTH_BYTES


async def test_many_short_connections_leave_nothing_behind(tmp_path: Path) -> None:
    """Some of them left in the middle of a request."""
    with serving(tmp_path / "data", lanes=1) as server:
        server.deploy("identity", onnx_files.identity("FP32", width=1), tmp_path)

        async def short(number: int) -> None:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: h\r\n" + (b"" if number % 3 == 0 else b"\r\n"))
            if number % 3 == 1:
                assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            writer.close()
            await writer.wait_closed()

        async def many(count: int) -> None:
            for start in range(0, count, 50):
                await asyncio.gather(*(short(number) for number in range(start, start + 50)))

        await many(500)
        before = resident_bytes(server)
        await many(5_000)
        while server.counts().total("bettong_connections") > 0:
            pass
        after = resident_bytes(server)
    print(f"{before / 1e6:.1f} MB before, {after / 1e6:.1f} MB after")
    assert after - before <= GROWTH_BYTES


async def test_large_requests_give_their_memory_back(tmp_path: Path) -> None:
    """Tens of megabytes each, over gRPC and JSON; what stays is far less than one."""
    rows = 1_000_000
    with serving(tmp_path / "data", lanes=1) as server:
        server.deploy("identity", onnx_files.identity("FP32"), tmp_path)
        request = pb.ModelInferRequest(model_name="identity")
        request.inputs.add(name="x", datatype="FP32", shape=[rows, 4])
        request.raw_input_contents.append(bytes(rows * 16))
        text = (
            b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1000000,4],"data":[' + b"0," * (4 * rows - 1) + b"0]}]}"
        )

        async def both() -> None:
            async with aio.insecure_channel(server.data, UNLIMITED) as channel:
                reply = await GRPCInferenceServiceStub(channel).ModelInfer(request)
                assert len(reply.raw_output_contents[0]) == rows * 16
            async with httpx.AsyncClient(timeout=60) as client:
                found = await client.post(f"{server.url}/v2/models/identity/infer", content=text)
                assert found.status_code == 200

        async def rounds(count: int) -> list[float]:
            """Return the memory after each; allocators keep some of a large request's, now more, now less."""
            held = []
            for _ in range(count):
                await both()
                held.append(resident_bytes(server))
            return held

        await both()
        early, _, late = await rounds(4), await rounds(6), await rounds(4)
    print(f"{max(early) / 1e6:.1f} MB at most before, {min(late) / 1e6:.1f} MB at least after")
    assert min(late) - max(early) <= GROWTH_BYTES


async def test_deploying_again_and_again_gives_memory_and_files_back(tmp_path: Path) -> None:
    """A thousand unloads and loads of the same model."""
    with serving(tmp_path / "data", lanes=1) as server:
        server.deploy("identity", onnx_files.identity("FP32"), tmp_path)
        async with aio.insecure_channel(server.data) as channel:
            stub = GRPCInferenceServiceStub(channel)

            async def cycle(count: int) -> None:
                for _ in range(count):
                    await stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="identity"))
                    await stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="identity"))

            await cycle(20)
            before = resident_bytes(server)
            await cycle(1_000)
            after = resident_bytes(server)
            with pytest.raises(aio.AioRpcError) as caught:
                await stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="nothing"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    print(f"{before / 1e6:.1f} MB before, {after / 1e6:.1f} MB after")
    assert after - before <= GROWTH_BYTES


def test_a_thousand_different_pipelines_one_after_another_leave_nothing_behind(tmp_path: Path) -> None:
    """Each with a model of its own, deployed, asked and undeployed; the records of them are on the disk."""
    with serving(tmp_path / "data", lanes=1) as server, server.client() as client:
        row: list[dict[str, Any]] = [{"x": 1.0}]

        def cycle(numbers: range) -> float:
            for number in numbers:
                model = client.upload_model(f"m{number}", onnx_files.scaled(number))
                pipeline = client.build_pipeline(f"p{number}").add_model_step(model).deploy()
                assert pipeline.infer(row)[0]["out.y"] == [number]
                pipeline.undeploy()
            return resident_bytes(server)

        early = cycle(range(300))
        late = cycle(range(300, 1_000))
        series = server.counts().page.count("\n")
        listed = len(client.list_pipelines())
    print(f"{early / 1e6:.1f} MB after 300, {late / 1e6:.1f} MB after 1,000; {series} lines of metrics")
    assert listed == 1_000
    assert series < 1_000, "metrics of pipelines that are gone"
    assert late - early <= GROWTH_BYTES
