"""The engine: everything that an event passes through, in Rust.

Snapshots and settings go in as protobuf messages of `bettong.internal.v1`, counters come out. Every method is
thread-safe and releases the GIL while it works. Only one file of each service imports this module.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from typing_extensions import Buffer

__all__ = [
    "AddressInUseError",
    "ControlReply",
    "EngineError",
    "Executor",
    "Forwarder",
    "Gateway",
    "InvalidModelError",
    "Local",
    "build_version",
    "record_crashes",
    "set_log_level",
]

class EngineError(Exception):
    """Base of everything that the engine raises on purpose.

    Attributes:
        code: gRPC status name, for example ``"INVALID_ARGUMENT"``.
    """

    code: str

class InvalidModelError(EngineError):
    """The file is not a model that the runtime can load; the message says why."""

class AddressInUseError(EngineError):
    """Another process listens on the address; the message names it."""

@final
class ControlReply:
    """Answers one request that the data port forwarded to the control plane. Dropping it answers INTERNAL."""

    def send(self, code: int, message: str, payload: bytes) -> None:
        """Answer with a gRPC status *code*, a *message* for people and a protobuf *payload* (for code 0)."""

@final
class Executor:
    """Loaded models and the lanes that run them."""

    def __init__(self, config: bytes) -> None:
        """Start the lanes of an ``ExecutorConfig``.

        Raises:
            EngineError: ONNX Runtime's library can't be opened.
        """

    def load_model(self, spec: bytes) -> bytes:
        """Load a ``ModelSpec``, run it once, and return its ``bettong.v1.Signature``.

        Loading an id again returns the signature of the one that is loaded.

        Raises:
            InvalidModelError: The file is damaged, not a model, or needs a newer runtime.
        """

    def unload_model(self, model_id: str) -> bool:
        """Forget a model; programs that use it keep it alive. Return whether it was loaded."""

    def host(self, update: bytes) -> None:
        """Apply a ``HostUpdate``: programs that calls of other processes may name, besides those of a gateway.

        A program that stops answers the calls that it has; models of programs that have stopped are kept until then.

        Raises:
            EngineError: A program names a model that is not loaded; nothing is changed.
        """

    def runtimes(self) -> dict[str, str]:
        """Return runtime names and versions, for example ``{"onnxruntime": "1.31.1"}``."""

    def close(self) -> None:
        """Stop the lanes. Requests that are still queued fail with UNAVAILABLE."""

@final
class Forwarder:
    """Sends calls to other processes, chooses among their replicas, and tries again where that is safe."""

    def __init__(self, executor: Executor, config: bytes) -> None:
        """Prepare a ``ForwarderConfig`` on the lanes of *executor*; links are opened when a table names their peers."""

    def apply(self, table: bytes) -> None:
        """Apply a ``ForwardingTable``. Links to peers that it does not name end when their calls are answered.

        Raises:
            EngineError: The table's revision is not newer, or an address can't be read.
        """

    def status(self) -> bytes:
        """Return a ``ForwarderStatus``."""

@final
class Gateway:
    """The data and metrics ports of one process."""

    def __init__(
        self,
        executor: Executor,
        config: bytes,
        on_control: Callable[[str, str, ControlReply], None],
        forwarder: Forwarder | None = None,
    ) -> None:
        """Prepare a ``GatewayConfig``; nothing listens yet.

        Args:
            executor: Runs what arrives, and owns the threads.
            config: ``GatewayConfig``.
            on_control: Called on an engine thread with a method (``"load"``, ``"unload"``, ``"repository_index"``),
                a model name (or ``""``) and the reply to answer with. It must not block.
            forwarder: Takes the programs of an update's ``forward``, and the calls of other processes where
                ``links`` is ``LINK_SERVICE_ROUTER``.
        """

    def bind(self) -> None:
        """Bind both ports and answer health requests with "not ready".

        Raises:
            AddressInUseError: A port is taken.
        """

    def apply(self, update: bytes) -> None:
        """Apply a ``RoutingUpdate`` at once, or not at all.

        Raises:
            EngineError: A program names a model that is not loaded, or the revision is not newer.
        """

    def set_ready(self, ready: bool) -> None:
        """Set what readiness and health requests answer."""

    def wait_answered(self, pipeline: str, timeout_s: float) -> bool:
        """Wait for the requests of versions of a pipeline that no longer serve; return whether all were answered in time."""

    def drain(self, timeout_s: float) -> bool:
        """Stop accepting, send GOAWAY, finish what is in flight; return whether all was answered in time."""

    def close(self) -> None:
        """Close every connection."""

    def status(self) -> bytes:
        """Return a ``GatewayStatus``."""

    def metrics(self) -> str:
        """Return all metrics in the Prometheus text format."""

@final
class Local:
    """One program in the caller's process, without a server."""

    def __init__(self, program: bytes, models: Mapping[str, str], onnxruntime_library: str) -> None:
        """Load a ``Program``; *models* gives the path of the file of each model id that it names."""

    def infer_arrays(self, given: dict[str, Any]) -> dict[str, Any] | None:
        """Run C-contiguous numpy arrays of numbers, whose first dimension is rows, without a copy of anything else.

        Columns are matched by name, then by alias. Return ``time`` (datetime64[ms]), ``in.*`` (the arrays given),
        ``out.*`` and ``anomaly.count`` (uint32); None if an array or an output is of another kind, for which
        `infer_arrow` is the way.

        Raises:
            EngineError: A column is missing, or has a wrong dtype or shape.
        """

    def infer_arrow(self, stream: Buffer, dataset: Sequence[str], exclude: Sequence[str], separator: str) -> bytes:
        """Run an Arrow IPC stream or file of rows and return the reply as an Arrow IPC stream."""

def build_version() -> str:
    """Return the version of the engine."""

def set_log_level(level: str) -> None:
    """Set the level of the engine's own log lines: debug, info, warning or error."""

def record_crashes(path: str) -> None:
    """Have this process append a line to a file when a thread of it brings it down.

    ``run <pipeline> <version>`` if it was running a program, ``load <model id>`` if it was loading a model. A process that
    is killed from outside writes nothing. A second call changes nothing.

    Raises:
        EngineError: The file can't be opened.
    """
