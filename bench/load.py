"""Closed-loop load by h2load: each connection has one request in flight."""

import math
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.calls import Call
from bench.checking import HOST
from bench.processes import pinned

_OK = 200
_WARM_UP_REQUESTS_EACH = 50


class LoadError(Exception):
    """The load generator failed, or not one request succeeded."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one point gave. A request is one message where many go on one call."""

    requests_per_s: float
    cpu_us: float
    """Server CPU of one request."""
    p50_ms: float
    """Of a call."""
    p99_ms: float
    failed: int


class Metered(Protocol):
    """Whose work is counted."""

    def cpu_s(self) -> float:
        """Return the CPU seconds so far."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """Where load goes, and for how long."""

    server: Metered
    port: int
    client_core: int
    seconds: float


def generate(call: Call, target: Target, connections: int) -> Measured:
    """Load the server with *call* over so many connections.

    Raises:
        LoadError: See there.
    """
    with tempfile.TemporaryDirectory(prefix="bench-load-") as name:
        folder = Path(name)
        (folder / "body").write_bytes(call.wire_body())
        command = _command(call, target, connections, folder)
        _run([*command, f"--requests={_WARM_UP_REQUESTS_EACH * connections}"], call, target)
        log = folder / "log"
        before = target.server.cpu_s()
        told = _run([*command, f"--duration={math.ceil(target.seconds * 1000)}ms", f"--log-file={log}"], call, target)
        cpu_s = target.server.cpu_s() - before
        lines = log.read_text().splitlines()
    return summarise(lines, cpu_s=cpu_s, messages=call.messages, told=told)


def summarise(lines: list[str], *, cpu_s: float, messages: int, told: str = "") -> Measured:
    """Read h2load's log: start (µs), status, duration (µs), one line a call."""
    calls = [(int(start), int(status), int(took)) for start, status, took in (line.split("\t")[:3] for line in lines)]
    durations = sorted(took for _, status, took in calls if status == _OK)
    if not durations:
        raise LoadError(f"no request succeeded: {told[-500:]}")
    seconds = (max(start + took for start, _, took in calls) - min(start for start, _, _ in calls)) / 1e6
    requests = len(durations) * messages
    return Measured(
        requests_per_s=requests / seconds,
        cpu_us=cpu_s / requests * 1e6,
        p50_ms=percentile(durations, 0.5) / 1e3,
        p99_ms=percentile(durations, 0.99) / 1e3,
        failed=len(calls) - len(durations),
    )


def percentile(ordered: list[int], share: float) -> int:
    """Return the value that *share* of the values do not exceed."""
    return ordered[min(len(ordered) - 1, max(0, math.ceil(len(ordered) * share) - 1))]


def _command(call: Call, target: Target, connections: int, folder: Path) -> list[str]:
    command = pinned(
        target.client_core, ["h2load", "--threads=1", f"--clients={connections}", "--max-concurrent-streams=1"]
    )
    command += [f"--data={folder / 'body'}"] + ([] if call.is_grpc else ["--h1"])
    for header, value in call.headers.items():
        command += ["--header", f"{header}: {value}"]
    return command


def _run(command: list[str], call: Call, target: Target) -> str:
    done = subprocess.run(
        [*command, f"http://{HOST}:{target.port}{call.path}"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise LoadError(f"h2load failed: {done.stdout[-300:]}{done.stderr[-300:]}")
    return done.stdout
