"""`bettong serve` and `bettong up` as processes."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes.models import linear_model

import bettong

pytestmark = pytest.mark.e2e

PROGRAM = Path(sys.executable).with_name("bettong")


@contextmanager
def running(*arguments: str | Path, folder: Path) -> Iterator[tuple["subprocess.Popen[str]", list[str]]]:
    """Run a server until the end of the block; yields the process and what it said when it was ready."""
    process = subprocess.Popen(
        [PROGRAM, *map(str, arguments), "--port", "0", "--data", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"BETTONG_LOG_LEVEL": "error"},
    )
    assert process.stdout is not None
    lines = []
    try:
        for line in process.stdout:
            lines.append(line.rstrip("\n"))
            if "Ctrl-C" in line:
                break
        else:
            raise AssertionError(process.communicate()[1])
        yield process, lines
    finally:
        process.kill()
        process.communicate()


def url_of(lines: list[str]) -> str:
    """Return the address in the greeting."""
    return lines[0].split("ready: ")[1].split()[0]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a file whose name has to be changed to be a name."""
    path = tmp_path / "Sum of_Four.onnx"
    path.write_bytes(linear_model(4))
    return path


def test_serve_greets_with_lines_that_work(model: Path, tmp_path: Path) -> None:
    """The curl line and the Python snippet of the greeting work when they are pasted."""
    with running("serve", model, folder=tmp_path / "data") as (_, lines):
        curl = next(line for line in lines if line.startswith("curl"))
        reply = json.loads(subprocess.run(shlex.split(curl), check=True, capture_output=True, text=True).stdout)
        assert reply[0]["out"] == {"y": [0.0]}
        start = lines.index("import bettong")
        snippet = "\n".join(lines[start : start + 5])
        done = subprocess.run([sys.executable, "-c", snippet], check=True, capture_output=True, text=True)
        assert "'out.y': [0.0]" in done.stdout
        assert bettong.Client(url_of(lines)).get_pipeline("sum-of-four").status()["status"] == "Running"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_drains_and_exits_well(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end the server with exit code 0."""
    with running("up", folder=tmp_path) as (process, _):
        process.send_signal(number)
        assert process.wait(20) == 0


def test_up_says_how_to_begin(tmp_path: Path) -> None:
    """An empty server shows where it listens and how a model gets in."""
    with running("up", folder=tmp_path) as (_, lines):
        curl = next(line for line in lines if line.startswith("curl"))
        reply = json.loads(subprocess.run(shlex.split(curl), check=True, capture_output=True, text=True).stdout)
        assert reply["name"] == "bettong"
        assert any("upload_model" in line for line in lines)


@pytest.mark.parametrize("content", [b"no model", b""])
def test_file_that_cannot_be_served_ends_with_one_line(tmp_path: Path, content: bytes) -> None:
    """A bad file ends the server with exit code 1 and one line: the file and what is wrong with it."""
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    done = subprocess.run(
        [PROGRAM, "serve", path, "--port", "0", "--data", tmp_path / "data"],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("bettong: bad.onnx is ")
    assert done.stderr.count("\n") == 1


def test_taken_port_is_one_line(tmp_path: Path) -> None:
    """A port that another server has is named, with exit code 1."""
    with running("up", folder=tmp_path / "a") as (_, lines):
        port = url_of(lines).rpartition(":")[2]
        done = subprocess.run(
            [PROGRAM, "up", "--port", port, "--data", tmp_path / "b", "--log-level", "error"],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
    assert done.returncode == 1
    assert port in done.stderr.splitlines()[-1]
