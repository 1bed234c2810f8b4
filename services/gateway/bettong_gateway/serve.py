"""Assembly of one process that serves; entered from the command line and from `embedded.py`."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path

from bettong_catalog.files import CHUNK_BYTES
from bettong_domain.deployments import DeploymentState
from bettong_domain.models import Framework, Model, ModelConfig, ModelKey
from bettong_domain.pipelines import PipelineKey
from bettong_gateway import repository
from bettong_gateway.app import App, open_app
from bettong_gateway.config import GatewayConfig
from bettong_gateway.data_port import DataPortCalls
from bettong_gateway.model_app import ModelDraft
from bettong_gateway.server_app import Addresses, Place, ServerApp
from bettong_gateway.servicer import registrations
from bettong_kit.clock import SystemClock
from bettong_kit.errors import BettongError, InvalidArgumentError, NotFoundError, UnavailableError
from bettong_kit.lifecycle import Lifecycle, State
from bettong_kit.logging import configure_logging, get_logger
from bettong_kit.rpc import RpcServer, RpcSettings, serving
from bettong_serving.data_folder import locked_data_folder
from bettong_serving.engine import Engine, set_engine_log_level

_log = get_logger("serve")


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model that serves from the start, as a pipeline of one step and of the same name."""

    name: str
    path: Path
    tensor_fields: tuple[str, ...] = ()


async def serve(
    config: GatewayConfig,
    stop: asyncio.Event,
    on_ready: Callable[[Addresses], None],
    *,
    models: Sequence[ModelFile] = (),
) -> None:
    """Serve until *stop* is set, then drain; resources close in reverse order.

    Args:
        config: All settings, checked.
        stop: Ends the process when set.
        on_ready: Called once, when everything that was deployed before and all of *models* serve.
        models: Files to serve besides.

    Raises:
        StartError: The data folder or a port is taken, or the engine cannot start.
        BettongError: One of *models* cannot be served.

    Cancellation:
        Ends at once without draining; the state is safe.
    """
    configure_logging(level=config.log_level, style=config.log_style)
    lifecycle = Lifecycle()
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(locked_data_folder(config.data))
        config.check_ports_free()
        control = RpcServer(RpcSettings(config.host, config.control_port_or_next(), max_calls=config.max_control_calls))
        calls = DataPortCalls(asyncio.get_running_loop())
        engine = await stack.enter_async_context(_open_engine(config, control.address, calls))
        app = await stack.enter_async_context(_open_app(config, folder, engine))
        server = ServerApp(
            engine,
            app.deployments,
            place=Place(folder, control.address),
            lifecycle=lifecycle,
            clock=SystemClock(),
        )
        await stack.enter_async_context(serving(control, registrations(app, server)))
        await stack.enter_async_context(_draining(engine, lifecycle, config.drain_timeout_s))

        async def bring_up() -> None:
            await app.reconciler.restore()
            for file in models:
                await _serve_file(app, file)
            engine.set_ready(ready=True)
            lifecycle.advance(State.SERVING)
            on_ready(server.addresses())

        await _run_until(stop, app, calls, bring_up())
    lifecycle.advance(State.STOPPED)


async def _run_until(
    stop: asyncio.Event, app: App, calls: DataPortCalls, bring_up: Coroutine[None, None, None]
) -> None:
    """Bring the server up and keep it going; an error of any part ends all and is raised as itself."""
    try:
        async with asyncio.TaskGroup() as tasks:
            calls.open(app, tasks)
            reconciling = tasks.create_task(app.reconciler.run(), name="reconcile")
            starting = tasks.create_task(bring_up, name="bring up")
            await stop.wait()
            calls.close()
            app.deployments.close()
            starting.cancel()
            reconciling.cancel()
    except* BettongError as group:
        raise _first(group) from None


def _first(group: BaseExceptionGroup[BettongError]) -> BettongError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


@contextlib.asynccontextmanager
async def _open_engine(config: GatewayConfig, control_address: str, calls: DataPortCalls) -> AsyncIterator[Engine]:
    set_engine_log_level(config.log_level)
    engine = Engine(config, control_address=control_address, on_control=calls.on_control)
    try:
        engine.bind()
        yield engine
    finally:
        await engine.close()


def _open_app(config: GatewayConfig, folder: Path, engine: Engine) -> contextlib.AbstractAsyncContextManager[App]:
    return open_app(
        folder,
        engine,
        clock=SystemClock(),
        max_model_bytes=config.max_model_bytes,
        load_parallelism=config.load_parallelism,
    )


@contextlib.asynccontextmanager
async def _draining(engine: Engine, lifecycle: Lifecycle, timeout_s: float) -> AsyncIterator[None]:
    """Answer what is in flight before anything behind it closes."""
    has_failed = False
    try:
        yield
    except BettongError:
        # A server that has never served does not announce how it ends: the error is all that there is to say.
        has_failed = lifecycle.state is State.STARTING
        raise
    finally:
        if not has_failed:
            lifecycle.advance(State.DRAINING)
        engine.set_ready(ready=False)
        if not await engine.drain(timeout_s):
            _log.warning("drain_timed_out", timeout_s=timeout_s)


async def _serve_file(app: App, file: ModelFile) -> None:
    """Store a file unless it is the newest version already, and deploy it."""
    sha256 = await asyncio.to_thread(_digest, file.path)
    config = ModelConfig(tensor_fields=file.tensor_fields)
    newest = await _newest(app, file.name)
    if newest is None or newest.sha256 != sha256:
        draft = ModelDraft(file.name, Framework.ONNX, file.path.name, sha256=sha256, config=config)
        newest = await app.models.upload(draft, _read(file.path))
    elif newest.config.tensor_fields != file.tensor_fields and file.tensor_fields:
        newest = await app.models.configure(newest.key, config)
    pipeline = await app.pipelines.create_version(file.name, [newest.key])
    state = await repository.deploy_to_end(app, PipelineKey(file.name, pipeline.key.version))
    if state.state is not DeploymentState.RUNNING:
        raise UnavailableError(f"'{file.name}' cannot be served: {state.reason}")


async def _newest(app: App, name: str) -> Model | None:
    try:
        return await app.models.get(ModelKey(name, 0))
    except NotFoundError:
        return None


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidArgumentError(f"{path} cannot be read: {error.strerror}") from error


async def _read(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
