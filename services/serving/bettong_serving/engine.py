"""The engine as services see it. The only file that imports `bettong_engine`."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import bettong_engine
from bettong.internal.v1 import snapshot_pb2
from bettong.v1 import models_pb2
from bettong_catalog import converters
from bettong_domain.forwarding import ForwardingTable
from bettong_domain.models import BatchMode, Framework, ModelId, Signature
from bettong_domain.pipelines import PipelineKey
from bettong_domain.plans import Program
from bettong_kit.errors import (
    AddressInUseError,
    BettongError,
    InvalidArgumentError,
    InvalidModelError,
    StartError,
    UnavailableError,
)
from bettong_serving import messages
from bettong_serving.config import ForwardingConfig, ServingConfig
from bettong_serving.ports import Links, Place

OnControl = Callable[[str, str, bettong_engine.ControlReply], None]
ControlReply = bettong_engine.ControlReply
_UNIMPLEMENTED = 12
"""Of `google.rpc.Code`."""


def engine_version() -> str:
    """Return the version of the engine."""
    return bettong_engine.build_version()


def set_engine_log_level(level: str) -> None:
    """Set the level of the engine's own log lines."""
    bettong_engine.set_log_level(level)


def record_crashes(file: Path) -> None:
    """Have this process note in a file what a thread was running that brings it down.

    Raises:
        StartError: The file cannot be written.
    """
    try:
        bettong_engine.record_crashes(str(file))
    except bettong_engine.EngineError as error:
        raise StartError(f"crashes cannot be recorded: {error}") from error


def onnxruntime_library() -> Path:
    """Find ONNX Runtime's shared library inside its wheel, without importing the package.

    Importing it would cost 0.3 s and 40 MB for a library that the engine opens by itself.

    Raises:
        StartError: The wheel is not installed, or has no such library.
    """
    found = find_spec("onnxruntime")
    for folder in (found.submodule_search_locations or ()) if found else ():
        for library in sorted(Path(folder, "capi").glob("libonnxruntime*.*")):
            if library.name.startswith(("libonnxruntime.so", "libonnxruntime.")) and "providers" not in library.name:
                return library
    raise StartError("ONNX Runtime is not installed; run `pip install onnxruntime`")


def refuse_control(_method: str, _name: str, reply: ControlReply) -> None:
    """Answer for a role that decides nothing."""
    reply.send(_UNIMPLEMENTED, "this process has no control plane; ask a gateway", b"")


class Engine:
    """Owns the executor, the gateway and the forwarder of this process; blocking calls run on threads."""

    def __init__(
        self,
        config: ServingConfig,
        *,
        control_address: str = "",
        on_control: OnControl = refuse_control,
        links: Links = Links.NONE,
        place: Place | None = None,
    ) -> None:
        """Start the lanes; nothing listens yet.

        Args:
            config: Ports and bounds; of a role that forwards, requests can be forwarded to other processes of its cluster.
            control_address: `host:port` of the control plane, which clients are told.
            on_control: Takes requests for the control plane that arrive on the data port.
            links: Which calls of other processes are taken.
            place: Who we are in a cluster; None for one process.

        Raises:
            StartError: ONNX Runtime cannot be opened.
        """
        try:
            library = str(onnxruntime_library())
            self._executor = bettong_engine.Executor(messages.executor_config(config, library).SerializeToString())
            self._forwarder = None
            if place and isinstance(config, ForwardingConfig):
                self._forwarder = _forwarder(self._executor, config, place)
            gateway = messages.gateway_config(
                config, control_address=control_address, version=engine_version(), links=links, place=place
            )
            self._gateway = bettong_engine.Gateway(
                self._executor, gateway.SerializeToString(), on_control, self._forwarder
            )
        except bettong_engine.EngineError as error:
            raise StartError(f"the engine cannot start: {error}") from error
        self._revisions = itertools.count(1)
        self._tables = itertools.count(1)
        self._routing = asyncio.Lock()
        self._forwarding = asyncio.Lock()

    def bind(self) -> None:
        """Bind the data and metrics ports.

        Raises:
            AddressInUseError: A port is taken; names it.
        """
        try:
            self._gateway.bind()
        except bettong_engine.EngineError as error:
            raise AddressInUseError(f"{error}; choose another port with --port") from error

    async def load_model(
        self, model_id: str, path: Path, framework: Framework, mode: BatchMode | None, *, checked: bool = False
    ) -> Signature:
        """Load a file; see `ModelEngine.load_model`."""
        spec = snapshot_pb2.ModelSpec(
            id=model_id,
            path=str(path),
            framework=converters.FRAMEWORKS[framework],
            batch_mode=converters.BATCH_MODES[mode] if mode else models_pb2.BATCH_MODE_UNSPECIFIED,
            checked=checked,
        )
        try:
            signature = await asyncio.to_thread(self._executor.load_model, spec.SerializeToString())
        except bettong_engine.EngineError as error:
            raise _translated(error) from error
        return converters.signature_from_pb(models_pb2.Signature.FromString(signature))

    def unload_model(self, model_id: ModelId) -> None:
        """Forget a model; programs that use it keep it alive."""
        self._executor.unload_model(model_id)

    async def route(
        self,
        *,
        serve: Sequence[Program] = (),
        forward: Sequence[Program] = (),
        stop: Sequence[str] = (),
        unavailable: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Change what is served, as a whole; see `ModelEngine.route`."""
        # The engine refuses a revision that is not newer, so updates go out one after another.
        async with self._routing:
            revision = next(self._revisions)
            update = converters.routing_update_to_pb(revision, serve=serve, stop=stop, unavailable=unavailable)
            update.forward.extend(map(converters.program_to_pb, forward))
            try:
                await asyncio.to_thread(self._gateway.apply, update.SerializeToString())
            except bettong_engine.EngineError as error:
                raise _translated(error) from error

    async def host(self, *, serve: Sequence[Program] = (), stop: Sequence[PipelineKey] = ()) -> None:
        """Change which programs calls of other processes may name; see `HostingEngine.host`."""
        update = messages.host_update(serve, stop)
        try:
            await asyncio.to_thread(self._executor.host, update.SerializeToString())
        except bettong_engine.EngineError as error:
            raise _translated(error) from error

    async def forward_to(self, table: ForwardingTable) -> None:
        """Replace what the forwarder knows; see `ForwardingEngine.forward_to`."""
        # The engine refuses a revision that is not newer, so tables go out one after another.
        async with self._forwarding:
            message = messages.forwarding_table(next(self._tables), table)
            try:
                await asyncio.to_thread(self._known_forwarder().apply, message.SerializeToString())
            except bettong_engine.EngineError as error:
                raise _translated(error) from error

    def forwarder_status(self) -> snapshot_pb2.ForwarderStatus:
        """Return how the forwarder and its peers do; empty without a forwarder."""
        if self._forwarder is None:
            return snapshot_pb2.ForwarderStatus()
        return snapshot_pb2.ForwarderStatus.FromString(self._forwarder.status())

    async def wait_answered(self, pipeline: str, timeout_s: float) -> bool:
        """Wait for the requests of versions that no longer serve; return whether all were answered in time."""
        return await asyncio.to_thread(self._gateway.wait_answered, pipeline, timeout_s)

    def runtimes(self) -> dict[str, str]:
        """Return the names and versions of the runtimes."""
        return self._executor.runtimes()

    def set_ready(self, *, ready: bool) -> None:
        """Set what readiness and health requests answer."""
        self._gateway.set_ready(ready)

    def status(self) -> snapshot_pb2.GatewayStatus:
        """Return the counters since the start."""
        return snapshot_pb2.GatewayStatus.FromString(self._gateway.status())

    async def drain(self, timeout_s: float) -> bool:
        """Stop accepting and finish what is in flight; return whether all was answered in time."""
        return await asyncio.to_thread(self._gateway.drain, timeout_s)

    async def close(self) -> None:
        """Close every connection and stop the lanes."""
        await asyncio.to_thread(self._gateway.close)
        await asyncio.to_thread(self._executor.close)

    def _known_forwarder(self) -> bettong_engine.Forwarder:
        if self._forwarder is None:
            raise TypeError("this engine was made without a forwarder")
        return self._forwarder


def _forwarder(executor: bettong_engine.Executor, config: ForwardingConfig, place: Place) -> bettong_engine.Forwarder:
    message = messages.forwarder_config(config, place, engine_version())
    return bettong_engine.Forwarder(executor, message.SerializeToString())


def _translated(error: bettong_engine.EngineError) -> BettongError:
    """Give an engine's error our name."""
    message = str(error)
    if isinstance(error, bettong_engine.InvalidModelError):
        return InvalidModelError(message, fields={"model": message})
    kinds: dict[str, type[BettongError]] = {
        "INVALID_ARGUMENT": InvalidArgumentError,
        "UNAVAILABLE": UnavailableError,
    }
    return kinds.get(error.code, BettongError)(message)
