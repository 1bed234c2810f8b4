"""Calls of other people's clients that the data port forwards to the control plane."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fakes.models import linear_model
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from bettong_gateway.config import GatewayConfig
from bettong_gateway.data_port import DataPortCalls
from bettong_gateway.serve import ModelFile, serve
from bettong_gateway.server_app import Addresses


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[InferenceServerClient]:
    """Serve one model and connect as a client of another server does."""
    (tmp_path / "m.onnx").write_bytes(linear_model(4))
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    config = GatewayConfig(data=tmp_path / "data", data_port=0, lanes=1, log_level="error")
    async with asyncio.TaskGroup() as tasks:
        models = [ModelFile("m", tmp_path / "m.onnx")]
        tasks.create_task(serve(config, stop, ready.set_result, models=models))
        addresses: Addresses = await ready
        async with InferenceServerClient(addresses.data) as connected:
            yield connected
        stop.set()


async def _states(client: InferenceServerClient) -> dict[str, tuple[str, str]]:
    index = await client.get_model_repository_index()
    return {model.name: (model.state, model.version) for model in index.models}


async def test_a_model_is_unloaded_and_loaded_again(client: InferenceServerClient) -> None:
    """The three repository calls work on deployments."""
    assert await _states(client) == {"m": ("READY", "1")}
    await client.unload_model("m")
    assert (await _states(client))["m"][0] == "UNAVAILABLE"
    await client.load_model("m")
    assert await client.is_model_ready("m")
    assert await _states(client) == {"m": ("READY", "1")}


async def test_loading_what_is_not_there_is_refused(client: InferenceServerClient) -> None:
    """The reason comes through two languages unharmed."""
    with pytest.raises(InferenceServerException, match="there is no pipeline and no model 'none'") as caught:
        await client.load_model("none")
    assert caught.value.status() == "StatusCode.NOT_FOUND"


class _Reply:
    """Stands where the engine's reply would be."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[tuple[int, str, bytes]] = asyncio.Queue()

    def send(self, code: int, message: str, payload: bytes) -> None:
        self.sent.put_nowait((code, message, payload))


async def test_a_call_before_the_server_is_up_is_told_so() -> None:
    """It is answered, not dropped."""
    reply = _Reply()
    calls = DataPortCalls(asyncio.get_running_loop())
    await asyncio.to_thread(calls.on_control, "load", "m", reply)  # type: ignore[arg-type]
    assert await reply.sent.get() == (14, "the server is starting or stopping", b"")


async def test_a_call_that_breaks_is_answered_with_an_id() -> None:
    """What broke is in the log, not on the wire, and other calls go on."""
    reply = _Reply()
    calls = DataPortCalls(asyncio.get_running_loop())
    async with asyncio.TaskGroup() as tasks:
        calls.open(object(), tasks)  # type: ignore[arg-type]
        await asyncio.to_thread(calls.on_control, "load", "m", reply)  # type: ignore[arg-type]
        code, message, _ = await reply.sent.get()
    calls.close()
    assert code == 13
    assert message.startswith("internal error ")
    assert "attribute" not in message
