import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bettong._model_settings import (
    DynamicBatchingConfig,
    Framework,
    ModelConfig,
    batching_to_pb,
    check_output_schema,
    check_runtime,
    config_from_pb,
    fields_of_schema,
    framework_from_pb,
)
from bettong._pipelines import Pipeline, build_pipeline
from bettong._signature import Signature, TensorSpec, signature_from_pb
from bettong.v1 import models_pb2

if TYPE_CHECKING:
    import pyarrow as pa

    from bettong._connection import Connection
    from bettong._deployment_config import DeploymentConfig


class ModelVersion:
    """One version of a model; its bytes never change."""

    def __init__(self, connection: "Connection", message: models_pb2.Model) -> None:
        self._connection = connection
        self._message = message

    def name(self) -> str:
        """Return the name of the model."""
        return self._message.name

    def version(self) -> int:
        """Return the version within the name: 1, 2, 3 and so on."""
        return self._message.version

    def sha(self) -> str:
        """Return the SHA-256 of the file in lower-case hexadecimal."""
        return self._message.sha256

    def status(self) -> str:
        """Return "ready": a version is stored only after the server has loaded and run it."""
        return "ready"

    def file_name(self) -> str:
        """Return the name of the file that was uploaded."""
        return self._message.file_name

    def framework(self) -> Framework:
        """Return how the bytes are read and run."""
        return framework_from_pb(self._message.framework)

    def config(self) -> ModelConfig:
        """Return how this version is fed."""
        return config_from_pb(self.framework(), self._message.config)

    @property
    def signature(self) -> Signature:
        """Inputs and outputs, as the file declares them."""
        return signature_from_pb(self._message.signature)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Inputs, in the model's order."""
        return self.signature.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Outputs, in the model's order."""
        return self.signature.outputs

    @property
    def size_bytes(self) -> int:
        """Size of the file in bytes."""
        return self._message.size_bytes

    @property
    def created(self) -> dt.datetime:
        """When it was uploaded, in UTC."""
        return dt.datetime.fromtimestamp(self._message.created_ms / 1000, tz=dt.UTC)

    def configure(
        self,
        runtime: str | None = None,
        tensor_fields: Sequence[str] | None = None,
        *,
        batch_config: str | None = None,
        dynamic_batching_config: DynamicBatchingConfig | None = None,
        input_schema: "pa.Schema | None" = None,
        output_schema: "pa.Schema | None" = None,
    ) -> "ModelVersion":
        """Change how this version is fed; what is not given stays. Return the version.

        Pipelines that are deployed keep the config that they were deployed with.

        Args:
            runtime: Checked against the model's own.
            tensor_fields: Incoming columns, in the order of the model's inputs; or, for one input of width k, the k
                columns that make its row.
            batch_config: "single" runs one row at a time, and ends dynamic batching.
            dynamic_batching_config: Lets batches wait for more rows, and ends "single".
            input_schema: Stands for `tensor_fields` with the names of its columns.
            output_schema: Checked against the model's outputs.

        Raises:
            InvalidInputError: The settings do not fit the model.
        """
        check_runtime(runtime, self.framework())
        check_output_schema(output_schema, self.signature)
        config = models_pb2.ModelConfig()
        config.CopyFrom(self._message.config)
        batching_to_pb(config, batch_config, dynamic_batching_config)
        fields = fields_of_schema(input_schema, tensor_fields)
        if fields is not None:
            config.tensor_fields[:] = list(fields)
        request = models_pb2.ConfigureModelRequest(name=self.name(), version=self.version(), config=config)
        self._message = self._connection.ask(lambda control: control.models.ConfigureModel, request).model
        return self

    def deploy(self, pipeline_name: str, deployment_config: "DeploymentConfig | None" = None) -> Pipeline:
        """Deploy a pipeline of this one step and return it."""
        return build_pipeline(self._connection, pipeline_name).add_model_step(self).deploy(deployment_config)

    def versions(self) -> "list[ModelVersion]":
        """Return all versions of this model, oldest first."""
        return list_versions(self._connection, self.name())

    def delete(self) -> None:
        """Delete this version.

        Raises:
            ConflictError: A pipeline version uses it.
        """
        delete_model(self._connection, self.name(), self.version())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ModelVersion) and self._message == other._message

    def __hash__(self) -> int:
        return hash((self.name(), self.version()))

    def __repr__(self) -> str:
        return (
            f"ModelVersion(name={self.name()!r}, version={self.version()}, framework={self.framework().name}, "
            f"sha={self.sha()[:12]!r}, signature='{self.signature}')"
        )


class Model:
    """All versions of one model."""

    def __init__(self, versions: Sequence[ModelVersion]) -> None:
        self._versions = list(versions)

    def name(self) -> str:
        """Return the name."""
        return self._versions[0].name()

    def versions(self) -> list[ModelVersion]:
        """Return the versions, oldest first."""
        return list(self._versions)

    def latest(self) -> ModelVersion:
        """Return the newest version."""
        return self._versions[-1]

    def __repr__(self) -> str:
        return f"Model(name={self.name()!r}, versions={len(self._versions)})"


def get_model(connection: "Connection", name: str, version: int | None) -> ModelVersion:
    """Fetch a version, the newest if *version* is None."""
    request = models_pb2.GetModelRequest(name=name, version=version or 0)
    reply = connection.ask(lambda control: control.models.GetModel, request)
    return ModelVersion(connection, reply.model)


def list_versions(connection: "Connection", name: str = "") -> list[ModelVersion]:
    """Fetch all versions of a model, or of all models, by name and version."""
    reply = connection.ask(lambda control: control.models.ListModels, models_pb2.ListModelsRequest(name=name))
    return [ModelVersion(connection, message) for message in reply.models]


def list_models(connection: "Connection") -> list[Model]:
    """Fetch all models, by name."""
    by_name: dict[str, list[ModelVersion]] = {}
    for version in list_versions(connection):
        by_name.setdefault(version.name(), []).append(version)
    return [Model(versions) for versions in by_name.values()]


def delete_model(connection: "Connection", name: str, version: int | None) -> list[int]:
    """Delete a version, or all of them if *version* is None; return which."""
    request = models_pb2.DeleteModelRequest(name=name, version=version or 0)
    reply = connection.ask(lambda control: control.models.DeleteModel, request)
    return list(reply.versions)
