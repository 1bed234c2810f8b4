"""Server processes: started on their core, watched through /proc, ended with all their children."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.checking import HOST

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_POLL_S = 0.005
_STOP_S = 15.0
_LOG_TAIL = 1_500


class ServerError(Exception):
    """A server does not start; the message says what it wrote last."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Where servers and load generators run."""

    server: int
    client: int

    @classmethod
    def choose(cls) -> "Cores":
        """Take the first two cores that this process may use."""
        allowed = sorted(os.sched_getaffinity(0))
        return cls(server=allowed[0], client=allowed[min(1, len(allowed) - 1)])


def pinned(core: int, command: Sequence[str]) -> list[str]:
    """Return *command* bound to one core."""
    return ["taskset", "--cpu-list", str(core), *command]


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class ServerProcess:
    """A server with its children."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self._process = process
        self._log = log

    def wait_until(self, is_ready: Callable[[], bool], timeout_s: float) -> None:
        """Return when *is_ready* does not fail and says yes.

        Raises:
            ServerError: The process ended, or it takes too long.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise ServerError(f"it ended with code {self._process.returncode}: {self.last_words()}")
            if is_ready():
                return
            # Other people's servers give no signal: asking is all that can be done.
            time.sleep(_POLL_S)
        raise ServerError(f"it is not ready after {timeout_s:g} s: {self.last_words()}")

    def last_words(self) -> str:
        """Return the end of what the server wrote."""
        return self._log.read_text(errors="replace")[-_LOG_TAIL:].strip()

    def cpu_s(self) -> float:
        """Return the CPU seconds, user and system, of the process and all its descendants, dead ones included."""
        return cpu_of(self._pids())

    def rss_bytes(self) -> int:
        """Return the resident memory of the process and its descendants."""
        return sum(_rss_pages(pid) for pid in self._pids()) * _PAGE_BYTES

    def stop(self) -> None:
        """End the server and whatever it started."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_S)
        # It is the leader of a group of its own, so nothing else is hit.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _pids(self) -> list[int]:
        found = [self._process.pid]
        for pid in found:
            found.extend(_children(pid))
        return found


@contextlib.contextmanager
def running(command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> Iterator[ServerProcess]:
    """Run *command* while the block runs; it writes to *log*."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    server = ServerProcess(process, log)
    try:
        yield server
    finally:
        server.stop()


def cpu_of(pids: Iterable[int]) -> float:
    """Return the CPU seconds, user and system, of processes and of their children that were waited for."""
    return sum(map(_cpu_ticks, pids)) / _TICKS_PER_S


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found.extend(int(child) for child in (task / "children").read_text().split())
    return found


def _cpu_ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    # utime, stime, and those of children that were waited for (proc(5), fields 14 to 17).
    return sum(int(field) for field in fields[11:15])


def _rss_pages(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
