"""The product as a process of its own, for tests that talk to it as strangers do.

A server is started on free ports over a folder of its own; readiness, states and the end are read from its log.
"""

import asyncio
import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fakes.etcd import etcd_processes, until_ready

import bettong

TESTS_A_CLUSTER = os.environ.get("BETTONG_TESTED") == "cluster"
"""Whether the same tests are to be passed by a gateway with a router and an executor behind it: `make test-cluster`."""

START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 30

Line = dict[str, object]

_COUNTS = re.compile(r"^(?P<name>[a-z_]+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$", re.MULTILINE)


@dataclass
class Server:
    """A running server process, its addresses, and what it has logged so far."""

    process: subprocess.Popen[bytes]
    data: str = ""
    control: str = ""
    metrics: str = ""
    lines: list[Line] = field(default_factory=list)
    reader: threading.Thread = field(default_factory=threading.Thread)
    _news: threading.Condition = field(default_factory=threading.Condition)
    _ended: bool = False

    @property
    def url(self) -> str:
        """Address of the data port for HTTP."""
        return f"http://{self.data}"

    @property
    def host(self) -> str:
        """Host of the data port."""
        return self.data.rpartition(":")[0]

    @property
    def port(self) -> int:
        """Number of the data port."""
        return int(self.data.rpartition(":")[2])

    def read_log(self) -> None:
        """Read until the process closes its log; runs on a thread of its own."""
        assert self.process.stderr is not None
        for raw in self.process.stderr:
            line = json.loads(raw) if raw.startswith(b"{") else {"event": "plain", "text": raw.decode(errors="replace")}
            with self._news:
                self.lines.append(line)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def until(self, event: str, **fields: str) -> Line:
        """Wait for a log line of an event, which may have come before.

        Raises:
            AssertionError: The process ended without it, or it took too long.
        """
        wanted = {"event": event, **fields}

        def found() -> Line | None:
            return next((line for line in self.lines if wanted.items() <= line.items()), None)

        with self._news:
            in_time = self._news.wait_for(lambda: found() or self._ended, START_TIMEOUT_S)
            line = found()
        assert in_time, f"no {wanted} in {START_TIMEOUT_S} s: {self.lines[-5:]}"
        assert line, f"the server ended without {wanted}: {self.lines[-5:]}"
        return line

    def client(self) -> bettong.Client:
        """Connect the SDK, which deploys what a test needs."""
        return bettong.Client(self.url)

    def deploy(self, name: str, content: bytes, folder: Path, **options: object) -> None:
        """Serve an ONNX file under a name."""
        path = folder / f"{name}.onnx"
        path.write_bytes(content)
        with self.client() as client:
            model = client.upload_model(name, path, framework=bettong.Framework.ONNX)
            if options:
                model.configure(**options)  # type: ignore[arg-type]  # each test gives what configure takes
            client.build_pipeline(name).add_model_step(model).deploy()

    def counts(self) -> "Counts":
        """Read the metrics page."""
        host, _, port = self.metrics.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=START_TIMEOUT_S)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            return Counts(connection.getresponse().read().decode())

    def stop(self) -> None:
        """Stop as an operator does, and insist on a clean end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(STOP_TIMEOUT_S)
        assert code == 0, f"exit code {code}: {self.lines[-5:]}"

    def kill(self) -> None:
        """End it, if it still runs, with no chance to clean up."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(STOP_TIMEOUT_S)

    def forget(self) -> None:
        """Give everything back that it held in this process, whatever state it is in."""
        self.kill()
        self.reader.join(STOP_TIMEOUT_S)
        assert self.process.stderr is not None
        self.process.stderr.close()


@dataclass(frozen=True)
class Counts:
    """One page of metrics."""

    page: str

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of all series of a name that have the labels."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        series = (match for match in _COUNTS.finditer(self.page) if match["name"] == name)
        return sum(float(match["value"]) for match in series if all(text in (match["labels"] or "") for text in wanted))


def spawn(folder: Path, settings: Mapping[str, str] | None = None, *, module: str = "bettong_gateway") -> Server:
    """Start a process on free ports over *folder* without waiting for anything."""
    defaults = {
        "BETTONG_DATA": str(folder),
        "BETTONG_DATA_PORT": "0",
        "BETTONG_LOG_STYLE": "json",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        env=os.environ | defaults | dict(settings or {}),
        stderr=subprocess.PIPE,
    )
    server = Server(process)
    server.reader = threading.Thread(target=server.read_log, name="server log", daemon=True)
    server.reader.start()
    return server


@contextlib.contextmanager
def serving(folder: Path, **settings: object) -> Iterator[Server]:
    """Serve over *folder* inside the block.

    At its end the server is asked to stop and must exit with 0, unless the test has ended it itself.

    Args:
        folder: Holds the state.
        settings: Fields of the gateway's configuration, by name.
    """
    given = {f"BETTONG_{name.upper()}": str(value) for name, value in settings.items()}
    with contextlib.ExitStack() as others:
        if TESTS_A_CLUSTER:
            given |= others.enter_context(_members_behind(folder, given))
        yield from _serving(folder, given)


def _serving(folder: Path, settings: Mapping[str, str]) -> Iterator[Server]:
    server = spawn(folder, settings)
    try:
        ready = server.until("ready")
        server.data, server.control = str(ready["data"]), str(ready["control"])
        server.metrics = str(ready["metrics"])
        yield server
        if server.process.poll() is None:
            server.stop()
    finally:
        server.forget()


@contextlib.contextmanager
def _members_behind(folder: Path, settings: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Run an etcd, a router and an executor, and yield what makes a gateway one of theirs."""
    with etcd_processes(folder.parent / f"{folder.name}-etcd") as etcd:
        asyncio.run(until_ready(etcd.settings()))
        shared = {
            "BETTONG_ETCD": etcd.servers[0].endpoint,
            "BETTONG_BLOBS": f"file://{folder.parent / f'{folder.name}-blobs'}",
        }
        others = [
            spawn(folder.parent / f"{folder.name}-{module}", {**settings, **shared}, module=module)
            for module in ("bettong_executor", "bettong_router")
        ]
        try:
            for other in others:
                other.until("ready")
            yield {**shared, "BETTONG_ROUTER_INSIDE": "false"}
        finally:
            for other in others:
                other.forget()
