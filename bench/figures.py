"""Figures of one server: the SDK's, start and memory, the cost of many pipelines."""

import contextlib
import http.client
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import bettong
from bench import points
from bench.checking import HOST, check
from bench.contenders import bettong_command, bettong_program
from bench.load import Target, generate
from bench.processes import ServerProcess, free_port, pinned, running
from bench.results import Figure, Results
from bench.serving import Settings
from bench.workload import MODEL_NAME, Workload

PIPELINES = 1_000
_ARROW_ROWS = 1_000_000
_STARTS = 3
_START_TIMEOUT_S = 30.0
_MANY_POINT = "c16"
_MB = 1e6
_OK = 200


def sdk(workload: Workload, settings: Settings, results: Results) -> None:
    """Take the SDK's figures against a server on the other core."""
    with _serving(workload, settings) as (_, port), tempfile.TemporaryDirectory(prefix="bench-sdk-") as name:
        rows = Path(name) / "rows.npy"
        np.save(rows, workload.rows)
        command = [sys.executable, "-m", "bench.sdk_client", _url(port), str(workload.path), workload.input, str(rows)]
        command += [str(settings.seconds), str(_ARROW_ROWS)]
        done = subprocess.run(pinned(settings.cores.client, command), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        results.skipped["sdk"] = done.stderr[-600:]
    results.figures += [Figure(**json.loads(line)) for line in done.stdout.splitlines()]


def start(_workload: Workload, settings: Settings, results: Results) -> None:
    """Measure start to ready, and memory when idle, of a server with an empty data folder; the best of a few."""
    found = [_start_once(settings) for _ in range(_STARTS)]
    results.figures.append(Figure("bettong up, start to ready", min(took for took, _ in found), "s", "<= 0.6"))
    results.figures.append(Figure("memory when idle", min(rss for _, rss in found) / _MB, "MB", "<= 100"))


def _start_once(settings: Settings) -> tuple[float, int]:
    """Start with both cores, as a user does. Return seconds and resident bytes."""
    with tempfile.TemporaryDirectory(prefix="bench-start-", ignore_cleanup_errors=True) as name:
        port = free_port()
        command = [bettong_program(), "up", "--port", str(port), "--control-port", "0", "--metrics-port", "0"]
        cores = f"{settings.cores.server},{settings.cores.client}"
        command = ["taskset", "--cpu-list", cores, *command, "--data", f"{name}/data"]
        began = time.perf_counter()
        with running(command, log=Path(name) / "log") as server:
            server.wait_until(lambda: _is_ready(port), _START_TIMEOUT_S)
            return time.perf_counter() - began, server.rss_bytes()


def pipelines(workload: Workload, settings: Settings, results: Results) -> None:
    """Measure how much a request costs more when there are many pipelines."""
    point = points.point(_MANY_POINT)
    call = point.build(workload, point.rows)
    with _serving(workload, settings) as (server, port):
        target = Target(server, port, settings.cores.client, settings.seconds)
        check(call, port, workload)
        before = generate(call, target, point.connections)
        began = time.perf_counter()
        _deploy_many(port)
        took_s = time.perf_counter() - began
        check(call, port, workload)
        after = generate(call, target, point.connections)
    growth = (after.cpu_us / before.cpu_us - 1) * 100
    results.figures.append(Figure(f"{PIPELINES:,} pipelines, CPU of a request grows", growth, "%", "<= 5"))
    results.figures.append(Figure("one deployment, on average", took_s / PIPELINES * 1e3, "ms"))


def _deploy_many(port: int) -> None:
    with bettong.Client(_url(port)) as client:
        model = client.get_model(MODEL_NAME)
        for number in range(1, PIPELINES):
            client.build_pipeline(f"{MODEL_NAME}-{number}").add_model_step(model).deploy()


@contextlib.contextmanager
def _serving(workload: Workload, settings: Settings) -> Iterator[tuple[ServerProcess, int]]:
    """Serve the workload's model with Bettong on the servers' core."""
    with tempfile.TemporaryDirectory(prefix="bench-bettong-", ignore_cleanup_errors=True) as name:
        port = free_port()
        command = pinned(settings.cores.server, bettong_command(workload, port, Path(name)))
        with running(command, log=Path(name) / "log") as server:
            server.wait_until(lambda: _is_ready(port), _START_TIMEOUT_S)
            yield server, port


def _url(port: int) -> str:
    return f"http://{HOST}:{port}"


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == _OK
    except OSError:
        return False
    finally:
        connection.close()
