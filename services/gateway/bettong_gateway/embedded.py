"""A whole server inside the caller's process, for notebooks and tests: the same code on a thread of its own."""

import asyncio
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import Future

from bettong_gateway.config import GatewayConfig
from bettong_gateway.serve import ModelFile, serve
from bettong_gateway.server_app import Addresses


class EmbeddedServer:
    """Serves from construction until `stop`, at the latest until the program ends; usable from any thread."""

    def __init__(self, config: GatewayConfig, *, models: Sequence[ModelFile] = ()) -> None:
        """Start the server and return when it is ready.

        Raises:
            StartError: The data folder or a port is taken, or the engine cannot start.
            BettongError: One of *models* cannot be served.
        """
        self._ready: Future[Addresses] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        # A daemon, because an interpreter that ends joins all others before it tells anybody that it ends.
        self._thread = threading.Thread(target=self._run, args=(config, models), name="bettong-server", daemon=True)
        self._thread.start()
        self.addresses = self._ready.result()
        _running.add(self)

    def stop(self) -> None:
        """Drain and end; returns when everything is closed. A second call does nothing."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self, config: GatewayConfig, models: Sequence[ModelFile]) -> None:
        try:
            asyncio.run(self._serve(config, models))
        except BaseException as error:  # the top of the thread: whoever waits for it must hear of everything
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _serve(self, config: GatewayConfig, models: Sequence[ModelFile]) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        await serve(config, self._stop, self._ready.set_result, models=models)


_running: weakref.WeakSet[EmbeddedServer] = weakref.WeakSet()


def _stop_all() -> None:
    for server in list(_running):
        server.stop()


# `atexit` comes too late: worker threads have ended by then and no new ones can be started, so nothing could be drained.
# This is the hook with which `concurrent.futures` ends those workers; the last one registered is called first.
threading._register_atexit(_stop_all)  # type: ignore[attr-defined]  # noqa: SLF001 - there is no public one
