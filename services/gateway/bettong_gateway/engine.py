"""The engine as the control plane sees it. The only file that imports `bettong_engine`."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import bettong_engine
from bettong.internal.v1 import snapshot_pb2
from bettong.v1 import models_pb2
from bettong_catalog import converters
from bettong_domain.models import BatchMode, Framework, ModelId, Signature
from bettong_domain.plans import Program
from bettong_gateway.config import GatewayConfig
from bettong_kit.errors import (
    AddressInUseError,
    BettongError,
    InvalidArgumentError,
    InvalidModelError,
    StartError,
    UnavailableError,
)

OnControl = Callable[[str, str, bettong_engine.ControlReply], None]
ControlReply = bettong_engine.ControlReply


def engine_version() -> str:
    """Return the version of the engine."""
    return bettong_engine.build_version()


def set_engine_log_level(level: str) -> None:
    """Set the level of the engine's own log lines."""
    bettong_engine.set_log_level(level)


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


class Engine:
    """Owns the executor and the gateway of this process; blocking calls run on threads."""

    def __init__(self, config: GatewayConfig, *, control_address: str, version: str, on_control: OnControl) -> None:
        """Start the lanes; nothing listens yet.

        Raises:
            StartError: ONNX Runtime cannot be opened.
        """
        try:
            self._executor = bettong_engine.Executor(_executor_config(config).SerializeToString())
            message = _gateway_config(config, control_address, version)
            self._gateway = bettong_engine.Gateway(self._executor, message.SerializeToString(), on_control)
        except bettong_engine.EngineError as error:
            raise StartError(f"the engine cannot start: {error}") from error
        self._revisions = itertools.count(1)
        self._routing = asyncio.Lock()

    def bind(self) -> None:
        """Bind the data and metrics ports.

        Raises:
            AddressInUseError: A port is taken; names it.
        """
        try:
            self._gateway.bind()
        except bettong_engine.EngineError as error:
            raise AddressInUseError(f"{error}; choose another port with --port") from error

    async def load_model(self, model_id: str, path: Path, framework: Framework, mode: BatchMode | None) -> Signature:
        """Load a file; see `ModelEngine.load_model`."""
        spec = snapshot_pb2.ModelSpec(
            id=model_id,
            path=str(path),
            framework=converters.FRAMEWORKS[framework],
            batch_mode=converters.BATCH_MODES[mode] if mode else models_pb2.BATCH_MODE_UNSPECIFIED,
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
        stop: Sequence[str] = (),
        unavailable: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Change what is served, as a whole; see `ModelEngine.route`."""
        # The engine refuses a revision that is not newer, so updates go out one after another.
        async with self._routing:
            update = converters.routing_update_to_pb(
                next(self._revisions), serve=serve, stop=stop, unavailable=unavailable
            )
            try:
                await asyncio.to_thread(self._gateway.apply, update.SerializeToString())
            except bettong_engine.EngineError as error:
                raise _translated(error) from error

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


def _executor_config(config: GatewayConfig) -> snapshot_pb2.ExecutorConfig:
    return snapshot_pb2.ExecutorConfig(
        onnxruntime_library=str(onnxruntime_library()),
        lanes=config.lanes,
        compute_threads=config.compute_threads,
        slow_model_us=config.slow_model_us,
        spin_us=config.spin_us,
        max_batch_rows=config.max_batch_rows,
        max_queue_rows=config.max_queue_rows,
    )


def _gateway_config(config: GatewayConfig, control_address: str, version: str) -> snapshot_pb2.GatewayConfig:
    return snapshot_pb2.GatewayConfig(
        data_host=config.host,
        data_port=config.data_port,
        metrics_host=config.host,
        metrics_port=config.metrics_port_or_next(),
        control_address=control_address,
        version=version,
        max_request_bytes=config.max_request_bytes,
        max_in_flight_bytes=config.max_in_flight_bytes,
        max_in_flight=config.max_in_flight,
        max_connections=config.max_connections,
        keep_alive_s=config.keep_alive_s,
        read_timeout_s=config.read_timeout_s,
    )


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
