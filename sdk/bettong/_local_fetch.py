"""Fetching what `pipeline.local()` needs."""

import hashlib
from typing import TYPE_CHECKING

from bettong._errors import ServerError
from bettong._local import LocalPipeline
from bettong.v1 import models_pb2, pipelines_pb2

if TYPE_CHECKING:
    from bettong._connection import Connection

_SLOWEST_BYTES_A_S = 1_000_000


def fetch_local(connection: "Connection", name: str, version: int | None) -> LocalPipeline:
    """Fetch the program of a version and the files of its models.

    Raises:
        NotFoundError: There is no such version.
    """
    request = pipelines_pb2.GetProgramRequest(name=name, version=version or 0)
    reply = connection.ask(lambda control: control.pipelines.GetProgram, request)
    files = {model.sha256: download(connection, model) for model in reply.models}
    return LocalPipeline(name, reply.program.version, program=reply.program.SerializeToString(), models=files)


def download(connection: "Connection", model: models_pb2.Model) -> bytes:
    """Return the file of a model version.

    Raises:
        ServerError: What came is not what the digest says.
    """
    request = models_pb2.DownloadModelRequest(name=model.name, version=model.version)
    timeout_s = connection.request_timeout_s + model.size_bytes / _SLOWEST_BYTES_A_S
    content = bytearray()
    with connection.translated():
        for reply in connection.control().models.DownloadModel(request, timeout=timeout_s):
            content += reply.chunk
    if hashlib.sha256(content).hexdigest() != model.sha256:
        raise ServerError(f"model '{model.name}' version {model.version} was damaged on its way")
    return bytes(content)
