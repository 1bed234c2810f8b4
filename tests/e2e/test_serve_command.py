"""`bettong serve` and `bettong up` as an operator types them."""

import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import onnx_files
import pytest

pytestmark = pytest.mark.e2e

BETTONG = str(Path(sys.executable).with_name("bettong"))
TIMEOUT_S = 30


@contextmanager
def command(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run a command that serves; yield it with what it printed up to the last line of its welcome."""
    process = subprocess.Popen([BETTONG, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        welcome = []
        for line in process.stdout:
            welcome.append(line.rstrip("\n"))
            if line.startswith("Ctrl-C"):
                break
        yield process, welcome
    finally:
        process.kill()
        process.communicate(timeout=TIMEOUT_S)


def address_of(welcome: list[str]) -> str:
    found = re.search(r"http://[\d.]+:\d+", "\n".join(welcome))
    assert found, welcome
    return found[0]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "doubler.onnx"
    path.write_bytes(onnx_files.identity("FP32"))
    return path


def test_a_file_is_served_and_what_is_printed_works_when_pasted(model: Path, tmp_path: Path) -> None:
    """The curl line and the Python snippet of the welcome run as they are."""
    with command("serve", str(model), "--port", "0", "--data", str(tmp_path / "d")) as (process, welcome):
        (line,) = [line for line in welcome if line.startswith("curl")]
        reply = json.loads(subprocess.run(shlex.split(line), capture_output=True, check=True, timeout=TIMEOUT_S).stdout)
        assert "out" in reply[0]
        start = next(at for at, text in enumerate(welcome) if text.startswith("import bettong"))
        snippet = "\n".join(text for text in welcome[start:] if not text.startswith("Ctrl-C"))
        shown = subprocess.run(
            [sys.executable, "-c", snippet], capture_output=True, text=True, timeout=TIMEOUT_S, check=True
        )
        assert "out" in shown.stdout
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == 0


def test_the_name_is_that_of_the_file_unless_given(model: Path, tmp_path: Path) -> None:
    """Both serve under OIP."""
    for options, name in (([], "doubler"), (["--name", "other"], "other")):
        with command("serve", str(model), "--port", "0", "--data", str(tmp_path / name), *options) as (_, welcome):
            assert httpx.get(f"{address_of(welcome)}/v2/models/{name}").json()["name"] == name


def test_what_was_served_is_back_with_up(model: Path, tmp_path: Path) -> None:
    """The folder holds the model; the file is not needed any more."""
    with command("serve", str(model), "--port", "0", "--data", str(tmp_path / "d")) as (process, _):
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 0
    model.unlink()
    with command("up", "--port", "0", "--data", str(tmp_path / "d")) as (_, welcome):
        assert httpx.get(f"{address_of(welcome)}/v2/models/doubler/ready").status_code == 200


def test_the_same_file_again_makes_no_new_version(model: Path, tmp_path: Path) -> None:
    """A changed one does."""
    for content, versions in ((None, ["1"]), (onnx_files.identity("FP32", width=2), ["1", "2"])):
        if content:
            model.write_bytes(content)
        for _ in range(2):
            with command("serve", str(model), "--port", "0", "--data", str(tmp_path / "d")) as (process, _):
                process.send_signal(signal.SIGTERM)
                process.wait(TIMEOUT_S)
        command_line = [BETTONG, "up", "--port", "0", "--data", str(tmp_path / "d")]
        with command(*command_line[1:]) as (_, welcome):
            listed = subprocess.run(
                [BETTONG, "model", "list", "--url", address_of(welcome), "--output", "json"],
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=True,
            )
            assert [str(found["version"]) for found in json.loads(listed.stdout)] == versions


def test_the_same_file_again_is_logged_as_nothing_new(model: Path, tmp_path: Path) -> None:
    """It is brought back once, and no version is said to be made."""
    arguments = ("serve", str(model), "--port", "0", "--data", str(tmp_path / "d"), "--log-format", "json")
    seen = []
    for _ in range(2):
        with command(*arguments) as (process, _welcome):
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=TIMEOUT_S)
            seen.append([json.loads(line)["event"] for line in log.splitlines()])
    made = {"model_uploaded", "pipeline_version_created", "deployment_running"}
    assert sorted(made.intersection(seen[0])) == sorted(event for event in seen[0] if event in made) == sorted(made)
    assert [event for event in seen[1] if event in made] == ["deployment_running"]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "ONNX"),
        (b"not a model", "ONNX"),
        (onnx_files.identity("FP32")[:60], "ONNX"),
        (None, "no file"),
    ],
    ids=["empty", "text", "truncated", "absent"],
)
def test_a_file_that_is_no_model_is_told_in_one_line(tmp_path: Path, content: bytes | None, match: str) -> None:
    """With its name; the exit code is not 0 and nothing is stored."""
    path = tmp_path / "broken.onnx"
    if content is not None:
        path.write_bytes(content)
    arguments = [BETTONG, "serve", str(path), "--port", "0", "--data", str(tmp_path / "d")]
    ended = subprocess.run(arguments, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert ended.returncode not in {0, -9}
    assert "Traceback" not in ended.stderr
    assert re.search(match, ended.stderr), ended.stderr
    assert "broken" in ended.stderr
    assert list((tmp_path / "d" / "models").glob("*")) == []
