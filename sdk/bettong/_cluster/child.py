"""A process that is started again when it dies."""

import asyncio
import contextlib
import enum
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from bettong._cluster.screen import parsed
from bettong_kit.errors import StartError

_LONGEST_LINE = 1 << 20
_TIED = str(Path(__file__).with_name("tied.py"))
_QUICK_S = 5.0
"""A process that dies sooner after it was ready has died quickly."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.25, 10.0
_MOST_FAILED_STARTS = 3
"""So often may a process end that was never ready, before the whole start is given up."""
_LARGEST_LOG_BYTES = 64 << 20
_ADDRESSES = frozenset({"data", "control", "metrics", "address"})
"""What a member may say in its line "ready"."""


class ChildState(enum.Enum):
    """What a child does at the moment."""

    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting to be started again"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ChildPlan:
    """What is started, and where its output goes."""

    name: str
    role: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    probe: Callable[[], Awaitable[Mapping[str, str]]] | None = None
    """Returns the addresses of a process that has no line to say that it is ready, when it is."""


Say = Callable[[str, str], None]
"""Shows a line of somebody."""


class Child:
    """Runs one plan until `stop`; `run` must be awaited by its owner."""

    def __init__(self, plan: ChildPlan, *, say: Say, on_change: Callable[[], None]) -> None:
        """Prepare to run.

        Args:
            plan: What to run.
            say: Takes each line of output, and what becomes of the process.
            on_change: Called whenever one of the attributes has changed.
        """
        self._plan = plan
        self._say = say
        self._on_change = on_change
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._wanted = asyncio.Event()
        self._was_ready = False
        self._quick_deaths = 0
        self._ready_at_s: float | None = None
        self._last_line = ""
        self.name = plan.name
        self.role = plan.role
        self.state = ChildState.STARTING
        self.restarts = 0
        self.addresses: Mapping[str, str] = {}
        """What it said when it was ready."""
        self.ready = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Return the id of the process, if there is one."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def run(self) -> None:
        """Run the process, and run it again, until `stop`.

        Raises:
            StartError: It ended again and again and was never ready; has its last line.
        """
        with _opened_log(self._plan.log) as log:
            while not self._stopping.is_set():
                code = await self._run_once(log)
                if self._stopping.is_set():
                    break
                if code == 0:
                    # Asked to, by somebody else.
                    await self._rest()
                    continue
                await self._die(code)
        self._become(ChildState.STOPPED)

    def start(self) -> None:
        """Start it again after it has ended by itself."""
        self._wanted.set()

    def _mark_ready(self, addresses: Mapping[str, str]) -> None:
        """Note that it answers."""
        self.addresses = addresses
        self._was_ready = True
        self._ready_at_s = time.monotonic()
        self._become(ChildState.READY)

    async def stop(self, timeout_s: float) -> None:
        """Ask it to end, and end it when it has not within the time."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
            # One that is paused would never hear it.
            process.send_signal(signal.SIGCONT)
        try:
            await asyncio.wait_for(process.wait(), timeout_s)
        except TimeoutError:
            self._say("cluster", f"{self.name} has not ended within {timeout_s:g} s and is killed")
            self.kill()
            await process.wait()

    def kill(self) -> None:
        """End it at once."""
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def _run_once(self, log: BinaryIO) -> int:
        process = await self._spawn()
        async with asyncio.TaskGroup() as tasks:
            probing = tasks.create_task(self._probe())
            try:
                async for line in _lines(cast("asyncio.StreamReader", process.stdout)):
                    log.write(line)
                    self._hear(line.decode(errors="replace").rstrip("\r\n"))
                return await process.wait()
            finally:
                probing.cancel()
                if process.returncode is None:
                    self.kill()
                    await process.wait()

    async def _spawn(self) -> asyncio.subprocess.Process:
        self._ready_at_s = None
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", _TIED, str(os.getpid()), *self._plan.command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self._plan.environment,
            # Ctrl-C of the terminal is for us alone, or they would all end at once.
            start_new_session=True,
            limit=_LONGEST_LINE,
        )
        self._become(ChildState.STARTING)
        if self._stopping.is_set():
            # `stop` came while there was no process yet.
            self.kill()
        return self._process

    async def _probe(self) -> None:
        if self._plan.probe is not None:
            self._mark_ready(await self._plan.probe())

    def _hear(self, line: str) -> None:
        self._last_line = line or self._last_line
        self._say(self.name, line)
        if line.startswith("{") and (entry := parsed(line)).get("event") == "ready":
            self._mark_ready({key: str(value) for key, value in entry.items() if key in _ADDRESSES})

    async def _rest(self) -> None:
        self._say("cluster", f"{self.name} has stopped")
        self._become(ChildState.STOPPED)
        self._wanted.clear()
        await _first_of(self._wanted, self._stopping)

    async def _die(self, code: int) -> None:
        lived_s = time.monotonic() - self._ready_at_s if self._ready_at_s is not None else 0.0
        self._quick_deaths = 0 if lived_s >= _QUICK_S else self._quick_deaths + 1
        if not self._was_ready and self._quick_deaths >= _MOST_FAILED_STARTS:
            raise StartError(f"{self.name} cannot start: {reason_of(self._last_line) or how_it_ended(code)}")
        wait_s = restart_wait_s(self._quick_deaths)
        again = f"again in {wait_s:g} s" if wait_s else "again"
        self._say("cluster", f"{self.name} {how_it_ended(code)}; it is started {again}")
        self.restarts += 1
        self._become(ChildState.WAITING)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), wait_s)

    def _become(self, state: ChildState) -> None:
        self.state = state
        if state is ChildState.READY:
            self.ready.set()
        else:
            self.ready.clear()
        self._on_change()


def restart_wait_s(quick_deaths: int) -> float:
    """Return how long to wait before the next start: not at all after the first quick death, then twice as long each time."""
    return min(_FIRST_WAIT_S * 2 ** min(quick_deaths - 2, 10), _LONGEST_WAIT_S) if quick_deaths > 1 else 0.0


def how_it_ended(code: int) -> str:
    """Return what an exit code says, for people."""
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def reason_of(line: str) -> str:
    """Return what the last line of a process gives as its reason."""
    entry = parsed(line)
    return str(entry.get("reason") or entry.get("event") or "") if entry else line.removeprefix("bettong: ")


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        try:
            line = await stream.readline()
        except ValueError:
            # Longer than the limit: what was read of it is gone.
            continue
        if not line:
            return
        yield line


async def _first_of(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _opened_log(file: Path) -> BinaryIO:
    """Open a log to append to; one that has grown large is kept beside it."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists() and file.stat().st_size > _LARGEST_LOG_BYTES:
            file.replace(file.with_suffix(".old.log"))
        return file.open("ab", buffering=0)
    except OSError as error:
        raise StartError(f"{file} cannot be written: {error.strerror}") from error
