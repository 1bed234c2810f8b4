"""A server as an operator sees it: signals, locks, ports, and what survives kill -9."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from fakes.models import linear_model
from fakes.processes import ServerProcess, server_process
from grpc import aio

from bettong.v1 import (
    deployments_pb2,
    deployments_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    pipelines_pb2,
    pipelines_pb2_grpc,
)

pytestmark = pytest.mark.slow


async def _requests(
    content: bytes, name: str = "m", *, endless: asyncio.Event | None = None
) -> AsyncIterator[models_pb2.UploadModelRequest]:
    header = models_pb2.UploadModelHeader(name=name, framework=models_pb2.FRAMEWORK_ONNX, file_name=f"{name}.onnx")
    yield models_pb2.UploadModelRequest(header=header)
    yield models_pb2.UploadModelRequest(chunk=content)
    if endless is not None:
        endless.set()
        await asyncio.Event().wait()


async def _deploy(channel: aio.Channel, name: str) -> deployments_pb2.Deployment:
    step = pipelines_pb2.Step(model=pipelines_pb2.ModelStep(model=pipelines_pb2.ModelRef(name=name)))
    create = pipelines_pb2.CreatePipelineVersionRequest(name=name, steps=[step])
    await pipelines_pb2_grpc.PipelineServiceStub(channel).CreatePipelineVersion(create)
    deploy = deployments_pb2_grpc.DeploymentServiceStub(channel).Deploy(deployments_pb2.DeployRequest(pipeline=name))
    return [reply.deployment async for reply in deploy][-1]


async def _upload(channel: aio.Channel, content: bytes, name: str = "m") -> models_pb2.Model:
    return (await models_pb2_grpc.ModelServiceStub(channel).UploadModel(_requests(content, name))).model


async def _ready(server: ServerProcess) -> tuple[str, str]:
    line = await server.until("ready")
    return str(line["control"]), str(line["data"])


async def _infer(data_address: str, name: str) -> float:
    """Ask for the weighted sum of 1, 2, 3 and 4 as another project's client does."""
    from tritonclient.grpc import InferInput
    from tritonclient.grpc.aio import InferenceServerClient

    row = InferInput("x", [1, 4], "FP32")
    row.set_data_from_numpy(np.array([[1, 2, 3, 4]], np.float32))
    async with InferenceServerClient(data_address) as client:
        reply = await client.infer(name, [row])
    return float(reply.as_numpy("y")[0, 0])


async def test_a_server_drains_on_sigterm(tmp_path: Path) -> None:
    """It ends by itself, in order, with exit code 0."""
    async with server_process(tmp_path) as server:
        await _ready(server)
        server.process.send_signal(signal.SIGTERM)
        assert await server.process.wait() == 0
        with pytest.raises(EOFError):
            await server.until("never")
    assert [line["state"] for line in server.lines if line["event"] == "state_changed"] == [
        "SERVING",
        "DRAINING",
        "STOPPED",
    ]


async def test_a_second_server_on_the_same_folder_ends_with_the_pid_of_the_first(tmp_path: Path) -> None:
    """It says who holds the folder and harms nothing."""
    async with server_process(tmp_path) as first:
        await _ready(first)
        async with server_process(tmp_path) as second:
            failed = await second.until("start_failed")
            assert f"(pid {first.process.pid})" in str(failed["reason"])
            assert await second.process.wait() == 1
        assert first.process.returncode is None


@pytest.mark.parametrize("port", ["BETTONG_DATA_PORT", "BETTONG_CONTROL_PORT", "BETTONG_METRICS_PORT"])
async def test_a_taken_port_is_named(tmp_path: Path, port: str) -> None:
    """Whichever of the three it is, nothing is left behind."""
    async with server_process(tmp_path / "a") as first:
        _, data = await _ready(first)
        taken = data.rpartition(":")[2]
        others = {"BETTONG_DATA_PORT": "0", "BETTONG_CONTROL_PORT": "0", "BETTONG_METRICS_PORT": "0"}
        async with server_process(tmp_path / "b", **(others | {port: taken})) as second:
            failed = await second.until("start_failed")
            assert taken in str(failed["reason"])
            assert "in use" in str(failed["reason"])
            assert await second.process.wait() == 1


async def test_a_wrong_setting_is_named_before_anything_starts(tmp_path: Path) -> None:
    """Not even the folder is made."""
    folder = tmp_path / "data"
    async with server_process(folder, BETTONG_LANES="many") as server:
        failed = await server.until("start_failed")
        assert await server.process.wait() == 1
    assert "BETTONG_LANES: expected int, got 'many'" in str(failed["reason"])
    assert not folder.exists()


async def test_everything_is_back_after_kill_9(tmp_path: Path) -> None:
    """Models, pipelines and several deployments answer as before, with nothing asked of the user."""
    async with server_process(tmp_path) as server:
        control, data = await _ready(server)
        async with aio.insecure_channel(control) as channel:
            for name, weight in (("a", 1.0), ("b", 2.0)):
                await _upload(channel, linear_model(4, weight=weight), name)
                assert (await _deploy(channel, name)).serving_version == 1
        assert [await _infer(data, name) for name in ("a", "b")] == [10.0, 20.0]
        server.process.kill()
        await server.process.wait()
    async with server_process(tmp_path) as server:
        _, data = await _ready(server)
        assert [await _infer(data, name) for name in ("a", "b")] == [10.0, 20.0]


async def test_kill_9_in_an_upload_leaves_nothing_half_stored(tmp_path: Path) -> None:
    """The next start finds what was complete and removes what was not."""
    half = asyncio.Event()
    async with server_process(tmp_path) as server:
        control, _ = await _ready(server)
        async with aio.insecure_channel(control) as channel:
            whole = await _upload(channel, linear_model(4))
            call = models_pb2_grpc.ModelServiceStub(channel).UploadModel(
                _requests(linear_model(9), "half", endless=half)
            )
            await half.wait()
            await _until_part_file(tmp_path / "models", channel)
            server.process.kill()
            await server.process.wait()
            with pytest.raises(aio.AioRpcError):
                await call
    assert list((tmp_path / "models").glob("*.part"))
    async with server_process(tmp_path) as server:
        control, _ = await _ready(server)
        async with aio.insecure_channel(control) as channel:
            reply = await models_pb2_grpc.ModelServiceStub(channel).ListModels(models_pb2.ListModelsRequest())
    assert list(reply.models) == [whole]
    assert [path.name for path in (tmp_path / "models").iterdir()] == [whole.sha256]


async def _until_part_file(folder: Path, channel: aio.Channel) -> None:
    """Wait until the server has begun a file; each look is a call, which gives the server its turn."""
    stub = models_pb2_grpc.ModelServiceStub(channel)
    while not list(folder.glob("*.part")):
        await stub.ListModels(models_pb2.ListModelsRequest())


@pytest.mark.parametrize("killed_after_states", [0, 1])
async def test_kill_9_in_a_deploy_is_caught_up_by_the_next_start(tmp_path: Path, killed_after_states: int) -> None:
    """Once the wish is stored, it is fulfilled sooner or later; before, nothing is half-done."""
    async with server_process(tmp_path) as server:
        control, _ = await _ready(server)
        async with aio.insecure_channel(control) as channel:
            await _upload(channel, linear_model(4))
            await _deploy(channel, "m")
            await _upload(channel, linear_model(4, weight=3.0))
            step = pipelines_pb2.Step(model=pipelines_pb2.ModelStep(model=pipelines_pb2.ModelRef(name="m")))
            create = pipelines_pb2.CreatePipelineVersionRequest(name="m", steps=[step])
            await pipelines_pb2_grpc.PipelineServiceStub(channel).CreatePipelineVersion(create)
            call = deployments_pb2_grpc.DeploymentServiceStub(channel).Deploy(
                deployments_pb2.DeployRequest(pipeline="m")
            )
            for _ in range(killed_after_states):
                await call.read()
            server.process.kill()
            await server.process.wait()
            call.cancel()
    async with server_process(tmp_path) as server:
        control, data = await _ready(server)
        async with aio.insecure_channel(control) as channel:
            stub = deployments_pb2_grpc.DeploymentServiceStub(channel)
            found = (await stub.GetDeployment(deployments_pb2.GetDeploymentRequest(pipeline="m"))).deployment
        answer = await _infer(data, "m")
    assert found.state == deployments_pb2.DEPLOYMENT_STATE_RUNNING
    assert found.serving_version == found.version
    assert found.version == 2 or killed_after_states == 0
    assert answer == (30.0 if found.version == 2 else 10.0)
