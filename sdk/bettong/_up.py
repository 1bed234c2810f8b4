import functools
import importlib
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from bettong._client import Client
from bettong._errors import StartError

if TYPE_CHECKING:
    from bettong_gateway.embedded import EmbeddedServer


def up(
    port: int = 0,
    *,
    data: str | Path | None = None,
    host: str = "127.0.0.1",
    log_level: str = "warning",
    request_timeout: float | None = None,
) -> Client:
    """Start a server inside this process and return a client of it.

    The server ends when the client is closed (it is a context manager), at the latest with the program. A second call with the
    same data folder, such as by running a notebook cell again, finds the server that runs and does not start another.

    Args:
        port: Port for events; 0 takes any free one. `client.url()` tells which.
        data: Folder for all state; `BETTONG_DATA` or `.bettong` if it is not given.
        host: Address that is listened on.
        log_level: What the server logs to standard error: debug, info, warning or error.
        request_timeout: As for `Client`.

    Raises:
        StartError: The port is taken, the data folder is unusable, or another process holds it.
    """
    folder = Path(data or os.environ.get("BETTONG_DATA") or ".bettong").resolve()
    _stop_at_exit()
    with _lock:
        server = _servers.get((os.getpid(), folder))
        if server is None:
            server = _Shared(_start(folder, host=host, port=port, log_level=log_level))
            _servers[os.getpid(), folder] = server
        server.users += 1
    client = Client(f"http://{server.embedded.addresses.data}", request_timeout)
    client._on_close.callback(_release, folder, os.getpid())  # noqa: SLF001 - a client that owns its server is made only here
    return client


class _Shared:
    """A server and how many clients of this process keep it."""

    def __init__(self, embedded: "EmbeddedServer") -> None:
        self.embedded = embedded
        self.users = 0


_lock = threading.Lock()
_servers: dict[tuple[int, Path], _Shared] = {}


def _release(folder: Path, pid: int) -> None:
    if pid != os.getpid():
        # A forked child has a copy of the client, not the server's threads.
        return
    with _lock:
        server = _servers[pid, folder]
        server.users -= 1
        if server.users == 0:
            del _servers[pid, folder]
            server.embedded.stop()


@functools.cache
def _stop_at_exit() -> None:
    """See to it that no server outlives the program."""
    # Executors take no more work once the interpreter begins to shut down, which is before `atexit` runs, and a server needs one
    # to drain. What is registered here runs before executors close, as long as their module was loaded first.
    importlib.import_module("concurrent.futures.thread")
    threading._register_atexit(_stop_all)  # type: ignore[attr-defined]  # noqa: SLF001 - atexit is too late


def _stop_all() -> None:
    for (pid, _), server in list(_servers.items()):
        if pid == os.getpid():
            server.embedded.stop()


def _start(folder: Path, *, host: str, port: int, log_level: str) -> "EmbeddedServer":
    # The server is loaded only by those who start one.
    from bettong_gateway.config import load_config  # noqa: PLC0415
    from bettong_gateway.embedded import EmbeddedServer  # noqa: PLC0415
    from bettong_kit import errors as server_errors  # noqa: PLC0415

    try:
        config = load_config({"data": folder, "host": host, "data_port": port, "log_level": log_level})
        return EmbeddedServer(config)
    except server_errors.BettongError as error:
        raise StartError(error.message) from error
