"""Sending a model file to the server in pieces."""

import contextlib
import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol, runtime_checkable

from bettong._errors import InvalidInputError
from bettong._models import ModelVersion
from bettong._progress import byte_progress
from bettong.v1 import models_pb2

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from bettong._connection import Connection

_CHUNK_BYTES = 1 << 20
_SLOWEST_BYTES_A_S = 1_000_000


@runtime_checkable
class SerializableModel(Protocol):
    """A model in memory that can write itself, such as `onnx.ModelProto`."""

    def SerializeToString(self) -> bytes:  # noqa: N802 - the name that protobuf gives it
        """Return the file's content."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where the bytes of a model come from."""

    file_name: str
    open: Callable[[], BinaryIO]
    size_bytes: int
    sha256: str


def open_source(name: str, given: "str | Path | Buffer | SerializableModel") -> ModelSource:
    """Find out what was given: a path, bytes, or a model that can write itself.

    Raises:
        InvalidInputError: It is none of them, or the file cannot be read.
    """
    if isinstance(given, (str, Path)):
        return _file_source(Path(given).expanduser())
    if isinstance(given, SerializableModel):
        given = given.SerializeToString()
    try:
        content = bytes(memoryview(given))
    except TypeError:
        raise InvalidInputError(
            f"path must be a path, bytes or an ONNX model, not {type(given).__name__}", field="path"
        ) from None
    digest = hashlib.sha256(content).hexdigest()
    return ModelSource(f"{name}.onnx", lambda: io.BytesIO(content), len(content), digest)


def upload(
    connection: "Connection",
    name: str,
    source: ModelSource,
    *,
    framework: "models_pb2.Framework.ValueType",
    config: models_pb2.ModelConfig,
) -> ModelVersion:
    """Send a model and return the version that the server made of it.

    Raises:
        InvalidInputError: The name is wrong, or the bytes are no model that the server can load; says why.
        NoSpaceError: The server has no room for it.
    """
    header = models_pb2.UploadModelHeader(
        name=name,
        framework=framework,
        file_name=source.file_name,
        size_bytes=source.size_bytes,
        sha256=source.sha256,
        config=config,
    )
    timeout_s = connection.request_timeout_s + source.size_bytes / _SLOWEST_BYTES_A_S
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(_opened(source))
        advance = stack.enter_context(byte_progress(f"Uploading '{name}'", source.size_bytes))
        stack.enter_context(connection.translated())
        reply = connection.control().models.UploadModel(_requests(header, file, advance), timeout=timeout_s)
    return ModelVersion(connection, reply.model)


def _requests(
    header: models_pb2.UploadModelHeader, file: BinaryIO, advance: Callable[[int], None]
) -> Iterator[models_pb2.UploadModelRequest]:
    yield models_pb2.UploadModelRequest(header=header)
    while chunk := file.read(_CHUNK_BYTES):
        yield models_pb2.UploadModelRequest(chunk=chunk)
        advance(len(chunk))


def _file_source(path: Path) -> ModelSource:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size_bytes = file.tell()
    except OSError as error:
        raise _unreadable(path.name, error) from error
    return ModelSource(path.name, lambda: path.open("rb"), size_bytes, digest)


def _opened(source: ModelSource) -> BinaryIO:
    try:
        return source.open()
    except OSError as error:
        raise _unreadable(source.file_name, error) from error


def _unreadable(name: str, error: OSError) -> InvalidInputError:
    return InvalidInputError(f"{name} cannot be read: {error.strerror or error}", field="path")
