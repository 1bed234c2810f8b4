"""The control plane over its port, with the real engine behind it."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from fakes.models import linear_model
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from bettong.v1 import (
    deployments_pb2,
    deployments_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    pipelines_pb2,
    pipelines_pb2_grpc,
    server_pb2,
    server_pb2_grpc,
)
from bettong_gateway.config import GatewayConfig
from bettong_gateway.embedded import EmbeddedServer
from bettong_gateway.serve import ModelFile, serve
from bettong_gateway.server_app import Addresses
from bettong_kit.errors import BettongError, DataFolderError, InvalidArgumentError, InvalidModelError


@dataclass
class Client:
    """Stubs of all services."""

    channel: aio.Channel

    def __post_init__(self) -> None:
        """Make the stubs."""
        self.models = models_pb2_grpc.ModelServiceStub(self.channel)
        self.pipelines = pipelines_pb2_grpc.PipelineServiceStub(self.channel)
        self.deployments = deployments_pb2_grpc.DeploymentServiceStub(self.channel)
        self.server = server_pb2_grpc.ServerServiceStub(self.channel)

    async def upload(self, content: bytes, **header: object) -> models_pb2.Model:
        """Upload a file in small pieces."""
        settings = {"name": "m", "framework": models_pb2.FRAMEWORK_ONNX} | header
        parts = [models_pb2.UploadModelRequest(header=models_pb2.UploadModelHeader(**settings))]  # type: ignore[arg-type]
        parts += [models_pb2.UploadModelRequest(chunk=content[at : at + 64]) for at in range(0, len(content), 64)]
        return (await self.models.UploadModel(iter(parts))).model

    async def pipeline(self, name: str, *models: models_pb2.Model) -> pipelines_pb2.Pipeline:
        """Make a version of a chain."""
        refs = [pipelines_pb2.ModelRef(name=model.name, version=model.version) for model in models]
        steps = [pipelines_pb2.Step(model=pipelines_pb2.ModelStep(model=ref)) for ref in refs]
        request = pipelines_pb2.CreatePipelineVersionRequest(name=name, steps=steps)
        return (await self.pipelines.CreatePipelineVersion(request)).pipeline

    async def deploy(self, name: str) -> list[deployments_pb2.Deployment]:
        """Deploy the newest version and return all states."""
        call = self.deployments.Deploy(deployments_pb2.DeployRequest(pipeline=name))
        return [reply.deployment async for reply in call]


def _config(folder: Path) -> GatewayConfig:
    return GatewayConfig(data=folder, data_port=0, lanes=1, log_level="error", drain_timeout_s=5.0)


@asynccontextmanager
async def _serving(folder: Path, models: Sequence[ModelFile] = ()) -> AsyncIterator[Addresses]:
    stop, ready = asyncio.Event(), asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve(_config(folder), stop, ready.set_result, models=models))
        yield await ready
        stop.set()


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    """Start a server and connect to it."""
    async with _serving(tmp_path) as addresses, aio.insecure_channel(addresses.control) as channel:
        yield Client(channel)


async def test_a_chain_is_uploaded_built_and_deployed(client: Client) -> None:
    """What a notebook does, call by call."""
    first = await client.upload(linear_model(4, name_out="z"), name="first")
    second = await client.upload(linear_model(1, name_in="z"), name="second")
    pipeline = await client.pipeline("p", first, second)
    states = await client.deploy("p")
    assert [spec.name for spec in (*pipeline.signature.inputs, *pipeline.signature.outputs)] == ["x", "y"]
    assert states[-1].state == deployments_pb2.DEPLOYMENT_STATE_RUNNING
    assert [model.name for model in states[-1].models] == ["first", "second"]
    assert (await client.pipelines.GetPipeline(pipelines_pb2.GetPipelineRequest(name="p"))).pipeline == pipeline
    listed = await client.pipelines.ListPipelines(pipelines_pb2.ListPipelinesRequest())
    assert list(listed.pipelines) == [pipeline]


async def test_a_program_can_be_taken_elsewhere(client: Client) -> None:
    """It comes with its models, and the files can be downloaded."""
    content = linear_model(4)
    model = await client.upload(content, config=models_pb2.ModelConfig(tensor_fields=["t"]))
    await client.pipeline("p", model)
    reply = await client.pipelines.GetProgram(pipelines_pb2.GetProgramRequest(name="p"))
    download = client.models.DownloadModel(models_pb2.DownloadModelRequest(name="m", version=1))
    assert [step.model_sha256 for step in reply.program.steps] == [model.sha256]
    assert list(reply.program.inputs[0].aliases) == ["t"]
    assert list(reply.models) == [model]
    assert b"".join([piece.chunk async for piece in download]) == content


async def test_models_are_read_configured_and_deleted(client: Client) -> None:
    """The rest of the model registry."""
    model = await client.upload(linear_model(4))
    config = models_pb2.ModelConfig(tensor_fields=["t"], batch_mode=models_pb2.BATCH_MODE_SINGLE, max_batch_rows=8)
    request = models_pb2.ConfigureModelRequest(name="m", version=1, config=config)
    changed = (await client.models.ConfigureModel(request)).model
    assert changed.config == config
    assert (await client.models.GetModel(models_pb2.GetModelRequest(name="m"))).model == changed
    assert list((await client.models.ListModels(models_pb2.ListModelsRequest())).models) == [changed]
    deleted = await client.models.DeleteModel(models_pb2.DeleteModelRequest(name="m"))
    assert list(deleted.versions) == [model.version]


async def test_deployments_are_listed_stopped_and_their_pipeline_deleted(client: Client) -> None:
    """The rest of the deployment and pipeline registries."""
    await client.pipeline("p", await client.upload(linear_model(4)))
    running = (await client.deploy("p"))[-1]
    listed = await client.deployments.ListDeployments(deployments_pb2.ListDeploymentsRequest())
    assert list(listed.deployments) == [running]
    stopped = await client.deployments.Undeploy(deployments_pb2.UndeployRequest(pipeline="p"))
    assert stopped.deployment.state == deployments_pb2.DEPLOYMENT_STATE_STOPPED
    found = await client.deployments.GetDeployment(deployments_pb2.GetDeploymentRequest(pipeline="p"))
    assert found.deployment == stopped.deployment
    deleted = await client.pipelines.DeletePipeline(pipelines_pb2.DeletePipelineRequest(name="p"))
    assert list(deleted.versions) == [1]


async def test_a_refusal_names_the_field(client: Client) -> None:
    """The status has the code, the text, and the field in a form for programs."""
    with pytest.raises(aio.AioRpcError) as caught:
        await client.upload(linear_model(4), name="No Name")
    packed = dict(caught.value.trailing_metadata() or ())["grpc-status-details-bin"]
    violations = error_details_pb2.BadRequest()
    assert status_pb2.Status.FromString(packed).details[1].Unpack(violations)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in violations.field_violations] == ["name"]


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [models_pb2.UploadModelRequest(chunk=b"x")],
        [models_pb2.UploadModelRequest(header=models_pb2.UploadModelHeader(name="m"))],
        [
            models_pb2.UploadModelRequest(
                header=models_pb2.UploadModelHeader(name="m", framework=models_pb2.FRAMEWORK_ONNX)
            )
        ]
        * 2,
    ],
    ids=["nothing", "no header", "no framework", "two headers"],
)
async def test_an_upload_in_the_wrong_order_is_refused(
    client: Client, parts: list[models_pb2.UploadModelRequest]
) -> None:
    """The contract of the stream is checked."""
    with pytest.raises(aio.AioRpcError) as caught:
        await client.models.UploadModel(iter(parts))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_step_without_a_model_is_refused(client: Client) -> None:
    """A client that is newer than the server is told so."""
    request = pipelines_pb2.CreatePipelineVersionRequest(name="p", steps=[pipelines_pb2.Step()])
    with pytest.raises(aio.AioRpcError, match="a step without a model"):
        await client.pipelines.CreatePipelineVersion(request)


async def test_the_server_tells_how_it_is(client: Client) -> None:
    """State, addresses, runtimes and deployments in one answer."""
    status = await client.server.GetStatus(server_pb2.GetStatusRequest())
    assert (status.state, status.lanes, status.in_flight) == ("SERVING", 1, 0)
    assert all(address.startswith("127.0.0.1:") for address in (status.data_address, status.metrics_address))
    assert status.runtimes["onnxruntime"].startswith("1.")


async def test_the_log_level_is_changed_while_running(client: Client) -> None:
    """The answer has the level before; an unknown one is refused."""
    before = await client.server.SetLogLevel(server_pb2.SetLogLevelRequest(level="warning"))
    after = await client.server.SetLogLevel(server_pb2.SetLogLevelRequest(level="error"))
    assert (before.previous, after.previous) == ("error", "warning")
    with pytest.raises(aio.AioRpcError, match="log level 'loud' is unknown"):
        await client.server.SetLogLevel(server_pb2.SetLogLevelRequest(level="loud"))


async def test_a_file_serves_from_the_start_and_again(tmp_path: Path) -> None:
    """Serving the same file twice makes no second version; another file does."""
    file = ModelFile("m", tmp_path / "m.onnx", ("t",))
    versions = []
    for content in (linear_model(4), linear_model(4), linear_model(5)):
        file.path.write_bytes(content)
        async with (
            _serving(tmp_path / "data", [file]) as addresses,
            aio.insecure_channel(addresses.control) as channel,
        ):
            reply = await Client(channel).server.GetStatus(server_pb2.GetStatusRequest())
            versions.append([deployment.serving_version for deployment in reply.deployments])
    assert versions == [[1], [1], [2]]


@pytest.mark.parametrize(
    ("content", "error"),
    [(None, InvalidArgumentError), (b"not a model", InvalidModelError)],
    ids=["missing", "damaged"],
)
async def test_a_file_that_cannot_serve_ends_the_server_with_the_reason(
    tmp_path: Path, content: bytes | None, error: type[BettongError]
) -> None:
    """One plain error, not a group of them."""
    path = tmp_path / "m.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error):
        await serve(_config(tmp_path / "data"), asyncio.Event(), print, models=[ModelFile("m", path)])


def test_a_server_inside_this_process_starts_and_stops(tmp_path: Path) -> None:
    """No event loop of the caller's is needed; stopping twice is fine; the folder is free afterwards."""
    for _ in range(2):
        server = EmbeddedServer(_config(tmp_path))
        with grpc.insecure_channel(server.addresses.control) as channel:
            status = server_pb2_grpc.ServerServiceStub(channel).GetStatus(server_pb2.GetStatusRequest())
        server.stop()
        server.stop()
        assert status.state == "SERVING"


def test_a_server_inside_this_process_that_cannot_start_raises(tmp_path: Path) -> None:
    """The caller sees the same error as an operator."""
    server = EmbeddedServer(_config(tmp_path))
    with pytest.raises(DataFolderError, match="used by another server"):
        EmbeddedServer(_config(tmp_path))
    server.stop()


@pytest.mark.slow
def test_a_program_that_forgets_its_server_ends_cleanly(tmp_path: Path) -> None:
    """The server is drained before the interpreter takes its threads away."""
    code = (
        "import sys, pathlib; from bettong_gateway.config import GatewayConfig; "
        "from bettong_gateway.embedded import EmbeddedServer; "
        "server = EmbeddedServer(GatewayConfig(data=pathlib.Path(sys.argv[1]), data_port=0, log_style='json'))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    states = [line["state"] for line in map(json.loads, done.stderr.splitlines()) if "state" in line]
    assert states == ["SERVING", "DRAINING", "STOPPED"]
