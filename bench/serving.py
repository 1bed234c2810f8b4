"""Measure the contenders, each in turn on the same core."""

import functools
import http.client
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np

from bench import checking, points
from bench.calls import Call
from bench.checking import WrongAnswerError, check
from bench.contenders import Contender, Place
from bench.load import LoadError, Measured, Target, generate
from bench.peer_environments import PeerError
from bench.processes import Cores, ServerError, free_port, pinned, running
from bench.results import Results, Row
from bench.workload import Workload

_NOT_THERE_YET = (OSError, grpc.RpcError, http.client.HTTPException)


@dataclass(frozen=True, slots=True)
class Settings:
    """How everything is measured."""

    cores: Cores
    seconds: float
    """Of load at each point."""


def measure_raw(workload: Workload, settings: Settings, results: Results) -> None:
    """Measure ONNX Runtime by itself."""
    with tempfile.TemporaryDirectory(prefix="bench-raw-") as name:
        rows = Path(name) / "rows.npy"
        np.save(rows, workload.rows)
        command = [
            sys.executable,
            "-m",
            "bench.raw",
            str(workload.path),
            workload.input,
            str(rows),
            str(settings.seconds),
        ]
        done = subprocess.run(pinned(settings.cores.server, command), capture_output=True, text=True, check=True)
    for line in map(json.loads, done.stdout.splitlines()):
        run_ms = 1_000 / line["runs_per_s"]
        measured = Measured(line["runs_per_s"], line["cpu_us"], p50_ms=run_ms, p99_ms=run_ms, failed=0)
        what = f"in process, {line['rows']} row{'s' if line['rows'] > 1 else ''} a run"
        results.add(Row("raw", "ONNX Runtime", f"b{line['rows']}", what, line["rows"], measured))


def measure_all(contenders: Iterable[Contender], workload: Workload, settings: Settings, results: Results) -> None:
    """Measure each contender; one that can't be is noted with the reason."""
    for contender in contenders:
        if contender.name in results.skipped:
            continue
        print(f"bench: {contender.title} ({contender.name})", file=sys.stderr, flush=True)
        try:
            measure(contender, workload, settings, results)
        except (PeerError, ServerError, WrongAnswerError, LoadError, *_NOT_THERE_YET) as error:
            results.skipped[contender.name] = " ".join(str(error).split())


def measure(contender: Contender, workload: Workload, settings: Settings, results: Results) -> None:
    """Start *contender*, check its answers, and load it at each of its points."""
    python = contender.peer.python() if contender.peer else Path(sys.executable)
    with tempfile.TemporaryDirectory(prefix="bench-server-", ignore_cleanup_errors=True) as name:
        place = Place(port=free_port(), folder=Path(name), python=python)
        command = pinned(settings.cores.server, contender.command(place, workload))
        with running(command, log=place.folder / "log", env=contender.env) as server:
            wanted = [points.point(label) for label in contender.points]
            calls = [point.build(workload, point.rows) for point in wanted]
            server.wait_until(functools.partial(_answers, calls[0], place.port), contender.start_timeout_s)
            target = Target(server, place.port, settings.cores.client, settings.seconds)
            for point, call in zip(wanted, calls, strict=True):
                if contender.answers_right:
                    check(call, place.port, workload)
                measured = generate(call, target, point.connections)
                results.add(Row(contender.name, contender.title, point.label, point.title, point.rows, measured))


def _answers(call: Call, port: int) -> bool:
    """Whether a server answers at all by now; what it answers is checked later."""
    try:
        checking.ask(call, port)
    except (WrongAnswerError, *_NOT_THERE_YET):
        return False
    return True
