"""The control plane over gRPC: convert, delegate, convert. Errors become statuses in `bettong_kit.rpc`."""

from collections.abc import AsyncIterator, Callable
from functools import partial

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
from bettong_catalog import converters
from bettong_domain.models import ModelKey
from bettong_domain.pipelines import PipelineKey
from bettong_gateway.app import App
from bettong_gateway.deployment_app import DeploymentApp
from bettong_gateway.model_app import ModelApp, ModelDraft
from bettong_gateway.pipeline_app import PipelineApp
from bettong_gateway.server_app import ServerApp
from bettong_kit.errors import InvalidArgumentError
from bettong_kit.rpc import Context


class ModelServicer(models_pb2_grpc.ModelServiceServicer):
    """`bettong.v1.ModelService`."""

    def __init__(self, app: ModelApp) -> None:
        self._app = app

    async def UploadModel(
        self, request_iterator: AsyncIterator[models_pb2.UploadModelRequest], _context: Context
    ) -> models_pb2.UploadModelResponse:
        """Store a file as the next version of a model."""
        draft = await _read_header(request_iterator)
        model = await self._app.upload(draft, _chunks(request_iterator))
        return models_pb2.UploadModelResponse(model=converters.model_to_pb(model))

    async def GetModel(self, request: models_pb2.GetModelRequest, _context: Context) -> models_pb2.GetModelResponse:
        """Return one version."""
        model = await self._app.get(ModelKey(request.name, request.version))
        return models_pb2.GetModelResponse(model=converters.model_to_pb(model))

    async def ListModels(
        self, request: models_pb2.ListModelsRequest, _context: Context
    ) -> models_pb2.ListModelsResponse:
        """Return all versions of all models, or of one."""
        models = await self._app.list_models(request.name)
        return models_pb2.ListModelsResponse(models=map(converters.model_to_pb, models))

    async def ConfigureModel(
        self, request: models_pb2.ConfigureModelRequest, _context: Context
    ) -> models_pb2.ConfigureModelResponse:
        """Replace the config of a version."""
        config = converters.model_config_from_pb(request.config)
        model = await self._app.configure(ModelKey(request.name, request.version), config)
        return models_pb2.ConfigureModelResponse(model=converters.model_to_pb(model))

    async def DeleteModel(
        self, request: models_pb2.DeleteModelRequest, _context: Context
    ) -> models_pb2.DeleteModelResponse:
        """Delete versions."""
        versions = await self._app.delete(ModelKey(request.name, request.version))
        return models_pb2.DeleteModelResponse(versions=versions)

    async def DownloadModel(
        self, request: models_pb2.DownloadModelRequest, _context: Context
    ) -> AsyncIterator[models_pb2.DownloadModelResponse]:
        """Stream the file of a version back."""
        async for chunk in self._app.download(ModelKey(request.name, request.version)):
            yield models_pb2.DownloadModelResponse(chunk=chunk)


class PipelineServicer(pipelines_pb2_grpc.PipelineServiceServicer):
    """`bettong.v1.PipelineService`."""

    def __init__(self, app: PipelineApp) -> None:
        self._app = app

    async def CreatePipelineVersion(
        self, request: pipelines_pb2.CreatePipelineVersionRequest, _context: Context
    ) -> pipelines_pb2.CreatePipelineVersionResponse:
        """Check a chain of steps and freeze it as a version."""
        models = [converters.step_to_key(step) for step in request.steps]
        pipeline = await self._app.create_version(request.name, models)
        return pipelines_pb2.CreatePipelineVersionResponse(pipeline=converters.pipeline_to_pb(pipeline))

    async def GetPipeline(
        self, request: pipelines_pb2.GetPipelineRequest, _context: Context
    ) -> pipelines_pb2.GetPipelineResponse:
        """Return one version."""
        pipeline = await self._app.get(PipelineKey(request.name, request.version))
        return pipelines_pb2.GetPipelineResponse(pipeline=converters.pipeline_to_pb(pipeline))

    async def ListPipelines(
        self, request: pipelines_pb2.ListPipelinesRequest, _context: Context
    ) -> pipelines_pb2.ListPipelinesResponse:
        """Return all versions of all pipelines, or of one."""
        pipelines = await self._app.list_pipelines(request.name)
        return pipelines_pb2.ListPipelinesResponse(pipelines=map(converters.pipeline_to_pb, pipelines))

    async def DeletePipeline(
        self, request: pipelines_pb2.DeletePipelineRequest, _context: Context
    ) -> pipelines_pb2.DeletePipelineResponse:
        """Delete versions."""
        versions = await self._app.delete(PipelineKey(request.name, request.version))
        return pipelines_pb2.DeletePipelineResponse(versions=versions)

    async def GetProgram(
        self, request: pipelines_pb2.GetProgramRequest, _context: Context
    ) -> pipelines_pb2.GetProgramResponse:
        """Return what is needed to run a version in another process."""
        program, models = await self._app.program(PipelineKey(request.name, request.version))
        return pipelines_pb2.GetProgramResponse(
            program=converters.program_to_pb(program), models=map(converters.model_to_pb, models)
        )


class DeploymentServicer(deployments_pb2_grpc.DeploymentServiceServicer):
    """`bettong.v1.DeploymentService`."""

    def __init__(self, app: DeploymentApp) -> None:
        self._app = app

    async def Deploy(
        self, request: deployments_pb2.DeployRequest, _context: Context
    ) -> AsyncIterator[deployments_pb2.DeployResponse]:
        """Ask for a version to serve and follow it until it does or can't."""
        config = converters.deployment_config_from_pb(request.config)
        async for deployment in self._app.deploy(PipelineKey(request.pipeline, request.version), config):
            yield deployments_pb2.DeployResponse(deployment=converters.deployment_to_pb(deployment))

    async def Undeploy(
        self, request: deployments_pb2.UndeployRequest, _context: Context
    ) -> deployments_pb2.UndeployResponse:
        """Stop serving."""
        deployment = await self._app.undeploy(request.pipeline)
        return deployments_pb2.UndeployResponse(deployment=converters.deployment_to_pb(deployment))

    async def GetDeployment(
        self, request: deployments_pb2.GetDeploymentRequest, _context: Context
    ) -> deployments_pb2.GetDeploymentResponse:
        """Return one deployment."""
        deployment = await self._app.get(request.pipeline)
        return deployments_pb2.GetDeploymentResponse(deployment=converters.deployment_to_pb(deployment))

    async def ListDeployments(
        self, _request: deployments_pb2.ListDeploymentsRequest, _context: Context
    ) -> deployments_pb2.ListDeploymentsResponse:
        """Return all deployments."""
        deployments = await self._app.list_deployments()
        return deployments_pb2.ListDeploymentsResponse(deployments=map(converters.deployment_to_pb, deployments))


class ServerServicer(server_pb2_grpc.ServerServiceServicer):
    """`bettong.v1.ServerService`."""

    def __init__(self, app: ServerApp) -> None:
        self._app = app

    async def GetStatus(self, _request: server_pb2.GetStatusRequest, _context: Context) -> server_pb2.GetStatusResponse:
        """Return what the process is and how it does."""
        return await self._app.status()

    async def SetLogLevel(
        self, request: server_pb2.SetLogLevelRequest, _context: Context
    ) -> server_pb2.SetLogLevelResponse:
        """Change the log level at run time."""
        return server_pb2.SetLogLevelResponse(previous=self._app.set_log_level(request.level))

    async def ListMembers(
        self, _request: server_pb2.ListMembersRequest, _context: Context
    ) -> server_pb2.ListMembersResponse:
        """Return who is in the cluster."""
        return await self._app.members()


def registrations(app: App, server: ServerApp) -> list[Callable[[aio.Server], None]]:
    """Return what adds each service to a server."""
    return [
        partial(models_pb2_grpc.add_ModelServiceServicer_to_server, ModelServicer(app.models)),
        partial(pipelines_pb2_grpc.add_PipelineServiceServicer_to_server, PipelineServicer(app.pipelines)),
        partial(deployments_pb2_grpc.add_DeploymentServiceServicer_to_server, DeploymentServicer(app.deployments)),
        partial(server_pb2_grpc.add_ServerServiceServicer_to_server, ServerServicer(server)),
    ]


async def _read_header(requests: AsyncIterator[models_pb2.UploadModelRequest]) -> ModelDraft:
    first = await anext(aiter(requests), None)
    if first is None or first.WhichOneof("part") != "header":
        raise InvalidArgumentError("the first message of an upload must be its header", fields={"header": "missing"})
    header = first.header
    return ModelDraft(
        name=header.name,
        framework=converters.framework_from_pb(header.framework),
        file_name=header.file_name,
        size_bytes=header.size_bytes,
        sha256=header.sha256,
        config=converters.model_config_from_pb(header.config),
    )


async def _chunks(requests: AsyncIterator[models_pb2.UploadModelRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        if request.WhichOneof("part") != "chunk":
            raise InvalidArgumentError("only the first message of an upload is a header", fields={"header": "repeated"})
        yield request.chunk
