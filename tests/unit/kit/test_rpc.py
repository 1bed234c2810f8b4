"""The edge of a control-plane server, over a real channel."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc
import pytest
from google.rpc import status_pb2
from grpc import aio

from bettong.v1 import deployments_pb2, deployments_pb2_grpc, models_pb2, models_pb2_grpc
from bettong_kit.errors import AddressInUseError, BettongError, NotFoundError
from bettong_kit.logging import configure_logging
from bettong_kit.rpc import Context, RpcServer, RpcSettings, serving

GetModel = Callable[[models_pb2.GetModelRequest], models_pb2.GetModelResponse]


class _Models(models_pb2_grpc.ModelServiceServicer):
    """Does what the test says."""

    def __init__(self, behave: GetModel) -> None:
        self._behave = behave

    async def GetModel(self, request: models_pb2.GetModelRequest, _context: Context) -> models_pb2.GetModelResponse:
        return self._behave(request)

    async def UploadModel(
        self, request_iterator: AsyncIterator[models_pb2.UploadModelRequest], _context: Context
    ) -> models_pb2.UploadModelResponse:
        parts = [request async for request in request_iterator]
        return models_pb2.UploadModelResponse(model=models_pb2.Model(size_bytes=len(parts)))

    async def DownloadModel(
        self, request: models_pb2.DownloadModelRequest, _context: Context
    ) -> AsyncIterator[models_pb2.DownloadModelResponse]:
        yield models_pb2.DownloadModelResponse(chunk=b"first")
        self._behave(models_pb2.GetModelRequest(name=request.name))


def _registration(kind: object, *arguments: object) -> Callable[[aio.Server], None]:
    """Add a servicer that has only the methods which its test calls."""
    servicer = cast("Any", kind)(*arguments)
    return lambda server: models_pb2_grpc.add_ModelServiceServicer_to_server(servicer, server)


@asynccontextmanager
async def _stub(behave: GetModel) -> AsyncIterator["models_pb2_grpc.ModelServiceAsyncStub"]:
    server = RpcServer(RpcSettings("127.0.0.1", 0))
    async with (
        serving(server, [_registration(_Models, behave)]),
        aio.insecure_channel(server.address) as channel,
    ):
        yield models_pb2_grpc.ModelServiceStub(channel)


def _refuse(_request: models_pb2.GetModelRequest) -> models_pb2.GetModelResponse:
    raise NotFoundError("no model 'm'")


def _break(_request: models_pb2.GetModelRequest) -> models_pb2.GetModelResponse:
    raise ZeroDivisionError("secret")


def _answer(request: models_pb2.GetModelRequest) -> models_pb2.GetModelResponse:
    return models_pb2.GetModelResponse(model=models_pb2.Model(name=request.name))


async def test_an_answer_comes_with_the_callers_request_id_and_trace() -> None:
    """Both sides can find the call in their logs."""
    async with _stub(_answer) as stub:
        call = stub.GetModel(
            models_pb2.GetModelRequest(name="m"), metadata=(("x-request-id", "r-1"), ("traceparent", "00-a-b-01"))
        )
        assert (await call).model.name == "m"
        trailing = dict(await call.trailing_metadata() or ())
    assert (trailing["x-request-id"], trailing["traceparent"]) == ("r-1", "00-a-b-01")


async def test_a_caller_without_a_request_id_gets_one() -> None:
    """Every call can be named in a question to the operator."""
    async with _stub(_answer) as stub:
        call = stub.GetModel(models_pb2.GetModelRequest(name="m"))
        await call
        trailing = dict(await call.trailing_metadata() or ())
    assert len(str(trailing["x-request-id"])) == 32


async def test_an_error_becomes_its_status_with_details() -> None:
    """The client sees the code, the text and what a program can act on."""
    async with _stub(_refuse) as stub:
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.GetModel(models_pb2.GetModelRequest())
    trailing = dict(caught.value.trailing_metadata() or ())
    details = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.NOT_FOUND, "no model 'm'")
    assert (details.code, details.message) == (5, "no model 'm'")


async def test_an_unknown_error_shows_an_id_and_nothing_else() -> None:
    """What broke is in the log under that id, not on the wire."""
    log = io.StringIO()
    configure_logging(style="json", stream=log)
    try:
        async with _stub(_break) as stub:
            with pytest.raises(aio.AioRpcError) as caught:
                await stub.GetModel(models_pb2.GetModelRequest())
    finally:
        configure_logging()
    text = str(caught.value.details())
    failed = [line for line in map(json.loads, log.getvalue().splitlines()) if line["event"] == "call_failed"]
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in text
    assert [f"internal error {line['error_id']}" for line in failed] == [text]
    assert "ZeroDivisionError: secret" in failed[0]["exception"]


async def test_a_stream_can_fail_after_its_first_message() -> None:
    """What was sent stays sent; the status says why there is no more."""
    async with _stub(_refuse) as stub:
        call = stub.DownloadModel(models_pb2.DownloadModelRequest(name="m"))
        chunks = []
        with pytest.raises(aio.AioRpcError, match="no model 'm'"):
            async for reply in call:
                chunks.append(reply.chunk)  # noqa: PERF401 - what came before the error counts
    assert chunks == [b"first"]


async def test_a_stream_of_requests_is_read_to_its_end() -> None:
    """The interceptor passes request streams through."""
    async with _stub(_answer) as stub:
        requests = [models_pb2.UploadModelRequest(chunk=b"x")] * 3
        reply = await stub.UploadModel(iter(requests))
    assert reply.model.size_bytes == 3


async def test_an_unknown_method_is_unimplemented() -> None:
    """A newer client learns that the server is older."""
    server = RpcServer(RpcSettings("127.0.0.1", 0))
    async with serving(server, []), aio.insecure_channel(server.address) as channel:
        stub = deployments_pb2_grpc.DeploymentServiceStub(channel)
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.ListDeployments(deployments_pb2.ListDeploymentsRequest())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_taken_port_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    """The message says which address and what to do, and gRPC adds no lines of its own."""
    server = RpcServer(RpcSettings("127.0.0.1", 0))
    async with serving(server, []):
        port = int(server.address.rpartition(":")[2])
        with pytest.raises(AddressInUseError, match=rf"cannot listen on 127\.0\.0\.1:{port}.*choose another port"):
            RpcServer(RpcSettings("127.0.0.1", port))
    assert capfd.readouterr().err == ""


async def test_a_call_in_flight_is_answered_while_stopping() -> None:
    """Draining waits for calls that were accepted."""
    entered, go_on = asyncio.Event(), asyncio.Event()

    class Slow(models_pb2_grpc.ModelServiceServicer):
        async def GetModel(
            self, _request: models_pb2.GetModelRequest, _context: Context
        ) -> models_pb2.GetModelResponse:
            entered.set()
            await go_on.wait()
            return models_pb2.GetModelResponse(model=models_pb2.Model(name="late"))

    server = RpcServer(RpcSettings("127.0.0.1", 0))
    server.register(_registration(Slow))
    await server.start()
    async with aio.insecure_channel(server.address) as channel, asyncio.TaskGroup() as tasks:
        call = models_pb2_grpc.ModelServiceStub(channel).GetModel(models_pb2.GetModelRequest())
        await entered.wait()
        stopping = tasks.create_task(server.stop())
        go_on.set()
        reply = await call
        await stopping
    assert reply.model.name == "late"


def test_the_base_error_is_internal() -> None:
    """An error without a kind does not blame the client."""
    assert BettongError("x").code.value == "internal"
