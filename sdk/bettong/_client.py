import contextlib
import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from bettong import _members, _models, _pipelines
from bettong._connection import Connection
from bettong._deployments import Deployment, deployment_from_pb
from bettong._errors import InvalidInputError
from bettong._http import parse_endpoint
from bettong._model_settings import (
    Acceleration,
    Architecture,
    Framework,
    check_output_schema,
    fields_of_schema,
    framework_of,
    framework_to_pb,
)
from bettong._upload import SerializableModel, open_source, upload
from bettong._warnings import warn_ignored
from bettong.v1 import deployments_pb2, models_pb2

if TYPE_CHECKING:
    import pyarrow as pa
    from typing_extensions import Buffer

URL_VARIABLE = "BETTONG_URL"
TIMEOUT_VARIABLE = "BETTONG_REQUEST_TIMEOUT"
DEFAULT_URL = "http://127.0.0.1:8080"
_DEFAULT_TIMEOUT_S = 45.0


class Client:
    """A connection to one server, for any number of threads.

    Usable as a context manager; `close` ends it, and so does the end of the program.
    """

    def __init__(self, api_endpoint: str | None = None, request_timeout: float | None = None) -> None:
        """Find the server.

        Args:
            api_endpoint: Address of the data port; `BETTONG_URL` or http://127.0.0.1:8080 if it is not given.
            request_timeout: Seconds for a request to the control plane; `BETTONG_REQUEST_TIMEOUT` or 45 if it is not given.

        Raises:
            UnreachableError: Nobody listens there; says how to start a server.
            InvalidInputError: The address or the time is none.
        """
        endpoint = parse_endpoint(api_endpoint or os.environ.get(URL_VARIABLE) or DEFAULT_URL)
        self._connection = Connection(endpoint, _timeout_s(request_timeout))
        self._on_close = contextlib.ExitStack()
        self._connection.server()

    def upload_model(  # noqa: PLR0913 - names and order are those that the platform's notebooks use
        self,
        name: str,
        path: "str | Path | Buffer | SerializableModel",
        framework: Framework | str | None = None,
        *,
        input_schema: "pa.Schema | None" = None,
        output_schema: "pa.Schema | None" = None,
        convert_wait: bool = True,
        arch: Architecture | None = None,
        accel: Acceleration | None = None,
        framework_config: object = None,
    ) -> _models.ModelVersion:
        """Upload a model, showing progress, and return its new version; the same name again makes the next one.

        Args:
            name: Lower-case letters, digits and dashes, at most 63 of them.
            path: A file, its bytes, or a model in memory such as `onnx.ModelProto`.
            framework: Told by the suffix `.onnx` if it is not given.
            input_schema: Its names are the incoming columns, as `tensor_fields` of `configure`.
            output_schema: Checked against the model's outputs.
            convert_wait: Accepted; a version is ready when this returns, since nothing has to be converted.
            arch: Accepted; the server runs what its machine is.
            accel: Accepted; the server runs on the processor.
            framework_config: Accepted; the frameworks that are served need none.

        Raises:
            InvalidInputError: The name is wrong, or the file cannot be read or is no model; nothing was stored.
            NoSpaceError: The server has no room for it; nothing was stored.
        """
        del convert_wait
        _report_ignored(arch, accel, framework_config)
        source = open_source(name, path)
        fields = fields_of_schema(input_schema, None)
        version = upload(
            self._connection,
            name,
            source,
            framework=framework_to_pb(framework_of(framework, source.file_name)),
            config=models_pb2.ModelConfig(tensor_fields=fields or ()),
        )
        try:
            check_output_schema(output_schema, version.signature)
        except InvalidInputError:
            version.delete()
            raise
        return version

    def get_model(self, name: str, version: int | None = None) -> _models.ModelVersion:
        """Return a version of a model, the newest if it is not given.

        Raises:
            NotFoundError: There is no such version.
        """
        return _models.get_model(self._connection, name, version)

    def list_models(self) -> list[_models.Model]:
        """Return all models with their versions, by name."""
        return _models.list_models(self._connection)

    def delete_model(self, name: str, version: int | None = None) -> list[int]:
        """Delete a version of a model, or all of them; return which.

        Raises:
            ConflictError: A pipeline version uses it.
        """
        return _models.delete_model(self._connection, name, version)

    def build_pipeline(self, name: str) -> _pipelines.Pipeline:
        """Begin a pipeline, or a new version of one, without steps.

        It always begins empty, so that a notebook cell can be run again without a step being added twice.
        """
        return _pipelines.build_pipeline(self._connection, name)

    def get_pipeline(self, name: str, version: int | None = None) -> _pipelines.Pipeline:
        """Return a pipeline with the steps of a version, the newest if it is not given.

        Raises:
            NotFoundError: There is no such version.
        """
        return _pipelines.get_pipeline(self._connection, name, version)

    def list_pipelines(self) -> list[_pipelines.Pipeline]:
        """Return all pipelines with the steps of their newest version, by name."""
        return _pipelines.list_pipelines(self._connection)

    def list_deployments(self) -> list[Deployment]:
        """Return what is deployed, by pipeline."""
        request = deployments_pb2.ListDeploymentsRequest()
        reply = self._connection.ask(lambda control: control.deployments.ListDeployments, request)
        return [deployment_from_pb(message) for message in reply.deployments]

    def members(self) -> _members.Members:
        """Return who is in the cluster; a server that is one process is its only member."""
        return _members.members(self._connection)

    def url(self) -> str:
        """Return the address of the data port."""
        return self._connection.endpoint.url

    def close(self) -> None:
        """Close every connection, and the server if `bettong.up` started it; a second call does nothing."""
        self._connection.close()
        self._on_close.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.url()!r})"

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError(
            "a Client holds connections and cannot be pickled; make one in each process, or use pipeline.local()"
        )


def _timeout_s(given: float | None) -> float:
    origin, value = "request_timeout", given
    if value is None and TIMEOUT_VARIABLE in os.environ:
        origin = TIMEOUT_VARIABLE
        try:
            value = float(os.environ[TIMEOUT_VARIABLE])
        except ValueError:
            value = -1
    timeout_s = _DEFAULT_TIMEOUT_S if value is None else value
    if not 0 < timeout_s < float("inf"):
        raise InvalidInputError(f"{origin} must be a positive number of seconds", field=origin)
    return timeout_s


def _report_ignored(arch: Architecture | None, accel: Acceleration | None, framework_config: object) -> None:
    if arch is not None:
        warn_ignored("arch", "the server runs models on its own processor")
    if accel not in {None, Acceleration._None}:  # noqa: SLF001 - the platform's name for "no accelerator"
        warn_ignored("accel", "the server runs models on its processor")
    if framework_config is not None:
        warn_ignored("framework_config", "the frameworks that are served need none")
