"""The model repository of other people's clients (load, unload, index), in terms of our use cases."""

from bettong.internal.v1 import snapshot_pb2
from bettong_domain.deployments import Deployment, DeploymentConfig, DeploymentState
from bettong_domain.models import ModelKey
from bettong_domain.pipelines import PipelineKey
from bettong_gateway.app import App
from bettong_kit.errors import InvalidArgumentError, NotFoundError, UnavailableError

_STATES = {
    DeploymentState.STARTING: "LOADING",
    DeploymentState.RUNNING: "READY",
    DeploymentState.ERROR: "UNAVAILABLE",
    DeploymentState.STOPPED: "UNAVAILABLE",
}


async def answer(app: App, method: str, name: str) -> bytes:
    """Answer one request that came in on the data port.

    Raises:
        BettongError: As the use case says.
    """
    match method:
        case "load":
            await load(app, name)
            return b""
        case "unload":
            await app.deployments.undeploy(name)
            return b""
        case "repository_index":
            return (await index(app)).SerializeToString()
    raise InvalidArgumentError(f"method '{method}' is unknown")


async def load(app: App, name: str) -> None:
    """Deploy the newest version of a pipeline; a model without a pipeline of its name becomes one of one step.

    Raises:
        NotFoundError: There is neither.
        UnavailableError: It cannot be brought up; says why.
    """
    if not await app.pipelines.list_pipelines(name):
        try:
            await app.pipelines.create_version(name, [ModelKey(name, 0)])
        except NotFoundError as error:
            raise NotFoundError(f"there is no pipeline and no model '{name[:100]}'") from error
    state = await deploy_to_end(app, PipelineKey(name, 0))
    if state.state is not DeploymentState.RUNNING:
        raise UnavailableError(f"'{name}' cannot be loaded: {state.reason or state.state.value}")


async def deploy_to_end(app: App, key: PipelineKey) -> Deployment:
    """Deploy a version and return the state in which it stays.

    Raises:
        NotFoundError: There is no such version.
    """
    states = [state async for state in app.deployments.deploy(key, DeploymentConfig())]
    return states[-1]


async def index(app: App) -> snapshot_pb2.RepositoryIndex:
    """List every name that could be asked for: deployments, pipelines, and models that could be loaded."""
    entries = {model.key.name: _entry(model.key.name, 0, "not loaded") for model in await app.models.list_models()}
    for pipeline in await app.pipelines.list_pipelines():
        entries[pipeline.key.name] = _entry(pipeline.key.name, pipeline.key.version, "not deployed")
    for deployment in await app.deployments.list_deployments():
        entries[deployment.desired.pipeline] = _deployed_entry(deployment)
    return snapshot_pb2.RepositoryIndex(entries=[entries[name] for name in sorted(entries)])


def _entry(name: str, version: int, reason: str) -> snapshot_pb2.RepositoryEntry:
    return snapshot_pb2.RepositoryEntry(name=name, version=version, state="UNAVAILABLE", reason=reason)


def _deployed_entry(deployment: Deployment) -> snapshot_pb2.RepositoryEntry:
    """Return the entry of a deployment; an older version that still serves is ready."""
    serves = deployment.serving_version > 0
    reason = "not deployed" if deployment.state is DeploymentState.STOPPED else deployment.reason
    return snapshot_pb2.RepositoryEntry(
        name=deployment.desired.pipeline,
        version=deployment.serving_version or deployment.desired.version,
        state="READY" if serves else _STATES[deployment.state],
        reason=reason,
    )
