"""Requests for the control plane that arrive on the data port, brought from the engine's threads to the event loop."""

import asyncio
import uuid

from bettong_gateway import repository
from bettong_gateway.app import App
from bettong_kit.errors import BettongError, ErrorCode
from bettong_kit.logging import get_logger
from bettong_kit.rpc import STATUS_BY_CODE, status_of
from bettong_serving.engine import ControlReply

_log = get_logger("data_port")


class DataPortCalls:
    """Answers them once there is an application; until then they are told that the server starts."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._app: App | None = None
        self._tasks: asyncio.TaskGroup | None = None

    def open(self, app: App, tasks: asyncio.TaskGroup) -> None:
        """Answer from now on, with tasks of that group."""
        self._app, self._tasks = app, tasks

    def close(self) -> None:
        """Take no more calls; those that run belong to their group."""
        self._app = self._tasks = None

    def on_control(self, method: str, name: str, reply: ControlReply) -> None:
        """Take a call over from a thread of the engine; returns at once."""
        self._loop.call_soon_threadsafe(self._spawn, method, name, reply)

    def _spawn(self, method: str, name: str, reply: ControlReply) -> None:
        if self._app is None or self._tasks is None:
            code = STATUS_BY_CODE[ErrorCode.UNAVAILABLE].value[0]
            reply.send(code, "the server is starting or stopping", b"")
            return
        self._tasks.create_task(self._answer(self._app, method, name, reply), name=f"{method} {name}")

    @staticmethod
    async def _answer(app: App, method: str, name: str, reply: ControlReply) -> None:
        try:
            reply.send(0, "", await repository.answer(app, method, name))
        except BettongError as error:
            reply.send(status_of(error).value[0], error.message, b"")
        except Exception:  # noqa: BLE001 - top loop of a call: the client gets an id, the log the rest
            error_id = uuid.uuid4().hex[:12]
            _log.exception("call_failed", method=method, error_id=error_id)
            reply.send(STATUS_BY_CODE[ErrorCode.INTERNAL].value[0], f"internal error {error_id}", b"")
