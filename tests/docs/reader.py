"""Somebody who follows a page: types its commands in order, runs its Python in one session, and compares what is printed.

Pages name the default ports. Servers are started on free ones, and addresses are exchanged on the way in and out.
"""

import ast
import contextlib
import inspect
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import types
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path

from docs.pages import ROOT, Block

import bettong
from bettong_gateway.config import load_config

BASH = shutil.which("bash") or "/bin/bash"
END_OF_WELCOME = "Ctrl-C drains and stops."
STOP_TIMEOUT_S = 20
COMMAND_TIMEOUT_S = 25

_DOCUMENTED = {"data": "127.0.0.1:8080", "control": "127.0.0.1:8081", "metrics": "127.0.0.1:8082"}
_WELCOME = re.compile(r"http://(?P<data>\S+)  \(control (?P<control>\S+), metrics http://(?P<metrics>[^/]+)/")
# A page may show `make`, but a test must not set the checkout up under its own feet.
_PRELUDE = f'make() {{ command make --directory "{ROOT}" --dry-run "$@" >/dev/null; }}\n'


class Reader:
    """Follows one page in a folder of its own, in which parts of the checkout can be seen."""

    def __init__(self, folder: Path, environment: MutableMapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._names: dict[str, object] = {"__name__": "__main__"}
        self._server: subprocess.Popen[str] | None = None
        self._addresses: dict[str, str] = {}
        self._printed = ""
        self.left_out: list[str] = []
        for part in ("sdk", "examples", "protos"):
            (folder / part).symlink_to(ROOT / part)
        (folder / ".venv").symlink_to(sys.prefix)

    async def follow(self, block: Block) -> None:
        """Do what a block says.

        Raises:
            AssertionError: It does not work as the page says; names the line of the page.
        """
        match block.language, block.tag:
            case "python", "":
                await self._run_python(block)
            case "sh", "server":
                self._start(block)
            case "sh", "":
                self._run_shell(block)
            case "sh", "ends-server":
                self._run_shell(block)
                self._wait_for_end(block.place)
            case "text", "output":
                self._compare(block)
            case "toml", "settings":
                self._check_settings(block)

    def finish(self) -> None:
        """Leave nothing behind: clients are closed, the server is stopped as by Ctrl-C."""
        for value in self._names.values():
            if isinstance(value, bettong.Client):
                value.close()
        self._stop()

    async def _run_python(self, block: Block) -> None:
        code = compile(self._actual(block.text), block.place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            # Not `eval`: a block is a piece of a module, in whose names it leaves what it defines.
            running = types.FunctionType(code, self._names)()
            if inspect.isawaitable(running):
                await running
        self._printed = printed.getvalue()

    def _run_shell(self, block: Block) -> None:
        if "curl " in block.text and shutil.which("curl") is None:
            self.left_out.append(f"{block.place} needs curl")
            return
        done = subprocess.run(
            [BASH, "-euo", "pipefail", "-c", _PRELUDE + self._actual(block.text)],
            cwd=self._folder,
            env=self._shell_environment(),
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"{block.place} ended with {done.returncode}: {done.stdout}{done.stderr}"
        self._printed = done.stdout

    def _start(self, block: Block) -> None:
        self._stop()
        self._server = subprocess.Popen(
            [BASH, "-euo", "pipefail", "-c", f"exec {block.text}"],
            cwd=self._folder,
            env=self._shell_environment() | {"BETTONG_DATA_PORT": "0", "BETTONG_LOG_LEVEL": "error"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._server.stdout is not None
        welcome = ""
        while END_OF_WELCOME not in welcome:
            line = self._server.stdout.readline()
            assert line, f"{block.place} ended before it was ready: {welcome}"
            welcome += line
        found = _WELCOME.search(welcome)
        assert found, welcome
        self._addresses = found.groupdict()
        self._environment["BETTONG_URL"] = f"http://{self._addresses['data']}"
        self._printed = welcome

    def _stop(self) -> None:
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            self._wait_for_end("Ctrl-C")

    def _wait_for_end(self, what: str) -> None:
        server, self._server = self._server, None
        assert server is not None, f"{what}: no server runs"
        try:
            code = server.wait(STOP_TIMEOUT_S)
        finally:
            server.kill()
            server.wait()
            assert server.stdout is not None
            server.stdout.close()
        assert code == 0, f"{what}: the server ended with {code}"

    def _compare(self, block: Block) -> None:
        if self.left_out:
            return
        pattern = ".*?".join(re.escape(part.strip()) for part in block.text.strip().split("…"))
        printed = self._documented(self._printed).strip()
        assert re.fullmatch(pattern, printed, re.DOTALL), f"{block.place}: printed was\n{printed}"

    def _check_settings(self, block: Block) -> None:
        file = self._folder / "settings.toml"
        file.write_text(block.text, encoding="utf-8")
        load_config({}, {"BETTONG_CONFIG": str(file)})

    def _shell_environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{self._environment['PATH']}"
        return {**self._environment, "PATH": path, "PYTHONUNBUFFERED": "1"}

    def _actual(self, text: str) -> str:
        for name, documented in _DOCUMENTED.items():
            text = text.replace(documented, self._addresses.get(name, documented))
        return text

    def _documented(self, text: str) -> str:
        for name, actual in self._addresses.items():
            text = text.replace(actual, _DOCUMENTED[name])
        return text


@contextlib.asynccontextmanager
async def reading(folder: Path, environment: MutableMapping[str, str]) -> AsyncIterator[Reader]:
    """Give a reader, and see to it that it leaves nothing behind."""
    reader = Reader(folder, environment)
    try:
        yield reader
    finally:
        reader.finish()
