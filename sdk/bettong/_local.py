"""A pipeline inside the caller's process: the engine without a server."""

import contextlib
import hashlib
import importlib.util
import os
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast

from bettong._asking import columns_selection
from bettong._engine_errors import error_of_code, translated
from bettong._errors import NotFoundError
from bettong._frames.kinds import open_frame
from bettong._frames.selection import Selection
from bettong.internal.v1 import snapshot_pb2
from bettong_engine import EngineError, Local

if TYPE_CHECKING:
    from bettong._asking import Columns

FrameT = TypeVar("FrameT")


class LocalPipeline:
    """One version of a pipeline, run by the engine in this process; made by `Pipeline.local`.

    Holds the compiled steps and the files of the models, so that it can be pickled and used where no server is. The models are
    loaded on first use, once in each process.
    """

    def __init__(self, name: str, version: int, *, program: bytes, models: Mapping[str, bytes]) -> None:
        """Keep what is needed to run.

        Args:
            name: Name of the pipeline.
            version: Its version.
            program: The compiled pipeline.
            models: The file of each model, by its SHA-256.
        """
        self._name = name
        self._version = version
        self._program = program
        self._models = dict(models)
        self._forget_process()

    def name(self) -> str:
        """Return the name of the pipeline."""
        return self._name

    def version(self) -> int:
        """Return the version of the pipeline."""
        return self._version

    def infer(self, tensor: FrameT, **columns: "Unpack[Columns]") -> FrameT:
        """Run rows; a frame of any kind goes in, and the same kind comes back, as from `Pipeline.infer`.

        Raises:
            InvalidInputError: The rows do not fit the pipeline; names the column, and the row if one is to blame.
        """
        engine = self._loaded()
        if isinstance(tensor, dict) and not columns:
            # A small model takes a few microseconds; for plain arrays the engine does everything in one step.
            try:
                reply = engine.infer_arrays(tensor)
            except EngineError as error:
                raise error_of_code(error.code, str(error)) from error
            if reply is not None:
                return cast("FrameT", reply)
        return cast("FrameT", _infer_frame(engine, tensor, columns_selection(columns, self.infer)))

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self._name, "version": self._version, "program": self._program, "models": self._models}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._name, self._version = state["name"], state["version"]
        self._program, self._models = state["program"], state["models"]
        self._forget_process()

    def __repr__(self) -> str:
        return f"LocalPipeline(name={self._name!r}, version={self._version})"

    def _forget_process(self) -> None:
        self._engine: Local | None = None
        self._pid = 0
        self._lock = threading.Lock()

    def _loaded(self) -> Local:
        pid = os.getpid()
        if self._pid == pid and self._engine is not None:
            return self._engine
        if self._pid not in {0, pid}:
            # A fork copies neither the engine's threads nor a lock that is sure to be free.
            self._forget_process()
        with self._lock:
            if self._engine is None:
                self._engine = _load(self._program, self._models)
                self._pid = pid
            return self._engine


def _infer_frame(engine: Local, tensor: object, selection: Selection) -> object:
    from bettong._frames.arrow_stream import read_stream, stream_pieces  # noqa: PLC0415 - pyarrow is loaded when it is used

    frame = open_frame(tensor)
    asked = selection.for_server()
    with translated():
        reply = engine.infer_arrow(b"".join(stream_pieces(frame.table)), asked.dataset, asked.exclude, asked.separator)
    return frame.restore(read_stream(reply), selection)


def _load(program: bytes, models: Mapping[str, bytes]) -> Local:
    paths = {
        step.model_id: str(cached_file(step.model_sha256, models[step.model_sha256]))
        for step in snapshot_pb2.Program.FromString(program).steps
    }
    with translated():
        return Local(program, paths, str(onnxruntime_library()))


def cached_file(sha256: str, content: bytes) -> Path:
    """Return a file with this content in the user's cache, writing it if it is not there or damaged."""
    path = cache_folder() / sha256
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
            return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as part:
        part.write(content)
    # Other processes see the old file or the whole new one.
    Path(part.name).replace(path)
    return path


def cache_folder() -> Path:
    """Return the folder where models are kept between processes."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "bettong" / "models"


def onnxruntime_library() -> Path:
    """Return the shared library inside the installed ONNX Runtime, without importing it.

    Raises:
        NotFoundError: It is not installed.
    """
    spec = importlib.util.find_spec("onnxruntime")
    pattern = "libonnxruntime*.dylib" if sys.platform == "darwin" else "libonnxruntime.so*"
    folders = list(spec.submodule_search_locations or ()) if spec else []
    found = sorted(library for folder in folders for library in (Path(folder) / "capi").glob(pattern))
    if not found:
        raise NotFoundError("ONNX Runtime is not installed here; install it with `pip install onnxruntime`")
    return found[0]
