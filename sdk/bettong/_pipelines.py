import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from bettong._api_spec import api_spec
from bettong._deployment_config import DeploymentConfig
from bettong._deployments import deploy, status_of
from bettong._errors import InvalidInputError, NotFoundError
from bettong._inference import Inference
from bettong._signature import Signature, signature_from_pb
from bettong._steps import ModelStep, StepsDraft, steps_from_pb, steps_to_pb
from bettong.v1 import deployments_pb2, pipelines_pb2

if TYPE_CHECKING:
    from bettong._connection import Connection


class PipelineVersion:
    """One version of a pipeline; it never changes."""

    def __init__(self, message: pipelines_pb2.Pipeline) -> None:
        self._message = message

    def name(self) -> str:
        """Return the name of the pipeline."""
        return self._message.name

    def version(self) -> int:
        """Return the version within the name: 1, 2, 3 and so on."""
        return self._message.version

    def steps(self) -> list[ModelStep]:
        """Return the steps in order."""
        return steps_from_pb(self._message)

    @property
    def signature(self) -> Signature:
        """What the chain takes and gives."""
        return signature_from_pb(self._message.signature)

    @property
    def created(self) -> dt.datetime:
        """When it was made, in UTC."""
        return dt.datetime.fromtimestamp(self._message.created_ms / 1000, tz=dt.UTC)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PipelineVersion) and self._message == other._message

    def __hash__(self) -> int:
        return hash((self.name(), self.version()))

    def __repr__(self) -> str:
        return f"PipelineVersion(name={self.name()!r}, version={self.version()}, steps={self.steps()})"


class Pipeline(StepsDraft, Inference):
    """A chain of steps under a name: edited here, frozen as a version when it is deployed, asked for answers when it serves."""

    def __init__(
        self, connection: "Connection", name: str, steps: list[ModelStep] | None = None, version: int | None = None
    ) -> None:
        StepsDraft.__init__(self, steps or [], version)
        Inference.__init__(self, connection, name)

    def name(self) -> str:
        """Return the name."""
        return self._name

    def versions(self) -> list[PipelineVersion]:
        """Return all versions that the server has, oldest first."""
        return [PipelineVersion(message) for message in list_messages(self._connection, self._name)]

    def create_version(self) -> PipelineVersion:
        """Freeze the steps as a version; the same steps with the same model configs give the same version again.

        Raises:
            InvalidInputError: There is no step, or the columns of two steps do not fit.
            NotFoundError: A model is gone.
        """
        if not self._steps:
            raise InvalidInputError(f"pipeline '{self._name}' has no steps; use add_model_step first", field="steps")
        request = pipelines_pb2.CreatePipelineVersionRequest(name=self._name, steps=steps_to_pb(self._steps))
        reply = self._connection.ask(lambda control: control.pipelines.CreatePipelineVersion, request)
        return PipelineVersion(reply.pipeline)

    def deploy(
        self,
        deployment_config: DeploymentConfig | None = None,
        *,
        wait_for_status: bool = True,
        timeout: float | None = None,
    ) -> Self:
        """Let the server serve these steps, showing progress; return the pipeline when they do.

        A version that serves already goes on until the new one is ready.

        Args:
            deployment_config: What to ask for beyond the version.
            wait_for_status: Return at once if False.
            timeout: Seconds to wait; the client's `request_timeout` if it is not given.

        Raises:
            InvalidInputError: There is no step, or the columns of two steps do not fit.
            NotReadyError: A model cannot be loaded; says which and why.
            DeadlineError: It does not serve in time; the server goes on trying.
        """
        version = self._fetched_version or self.create_version().version()
        deploy(
            self._connection,
            self._name,
            version,
            config=deployment_config,
            timeout_s=timeout or self._connection.request_timeout_s,
            wait=wait_for_status,
        )
        return self

    def undeploy(self) -> Self:
        """Stop serving; returns when requests in flight are answered.

        Raises:
            NotFoundError: It was never deployed.
        """
        request = deployments_pb2.UndeployRequest(pipeline=self._name)
        self._connection.ask(lambda control: control.deployments.Undeploy, request)
        return self

    def status(self) -> dict[str, Any]:
        """Return whether it serves, and which model is loading or failed and why.

        The word under "status" is Starting, Running, Error or Stopped.
        """
        request = deployments_pb2.GetDeploymentRequest(pipeline=self._name)
        try:
            reply = self._connection.ask(lambda control: control.deployments.GetDeployment, request)
        except NotFoundError:
            return status_of(None)
        return status_of(reply.deployment)

    def url(self) -> str:
        """Return the address that takes rows by POST: JSON records, or an Arrow file or stream."""
        return f"{self._connection.endpoint.url}/v1/pipelines/{self._name}/infer"

    def generate_api_spec(self, path: str | Path | None = None) -> dict[str, Any]:
        """Return the OpenAPI 3.1 description of this pipeline, and write it to *path* if given (JSON, which is YAML too)."""
        newest = get_message(self._connection, self._name, self._fetched_version)
        return api_spec(self._name, signature_from_pb(newest.signature), self._connection.endpoint.url, path)

    def delete(self, version: int | None = None) -> None:
        """Delete a version, or all of them.

        Raises:
            ConflictError: It is deployed.
        """
        request = pipelines_pb2.DeletePipelineRequest(name=self._name, version=version or 0)
        self._connection.ask(lambda control: control.pipelines.DeletePipeline, request)

    def __repr__(self) -> str:
        return f"Pipeline(name={self._name!r}, steps={self._steps})"


def build_pipeline(connection: "Connection", name: str) -> Pipeline:
    """Begin an empty draft."""
    return Pipeline(connection, name)


def get_pipeline(connection: "Connection", name: str, version: int | None) -> Pipeline:
    """Fetch a version to deploy, edit or ask."""
    message = get_message(connection, name, version)
    return Pipeline(connection, name, steps_from_pb(message), message.version)


def get_message(connection: "Connection", name: str, version: int | None) -> pipelines_pb2.Pipeline:
    """Fetch a version, the newest if *version* is None."""
    request = pipelines_pb2.GetPipelineRequest(name=name, version=version or 0)
    return connection.ask(lambda control: control.pipelines.GetPipeline, request).pipeline


def list_messages(connection: "Connection", name: str = "") -> list[pipelines_pb2.Pipeline]:
    """Fetch all versions of one pipeline or of all."""
    request = pipelines_pb2.ListPipelinesRequest(name=name)
    return list(connection.ask(lambda control: control.pipelines.ListPipelines, request).pipelines)


def list_pipelines(connection: "Connection") -> list[Pipeline]:
    """Fetch the newest version of each pipeline, by name."""
    newest = {message.name: message for message in list_messages(connection)}
    return [Pipeline(connection, name, steps_from_pb(message), message.version) for name, message in newest.items()]
