"""Commands against a real server."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fakes.models import linear_model

import bettong
from bettong._cli import main
from bettong_kit.logging import set_log_level

ROWS = [{"tensor": [1.0, 2.0, 3.0, 4.0]}, {"tensor": [0.1, 0.0, 0.0, 0.0]}]

Run = Callable[..., str]


@pytest.fixture
def run(client: bettong.Client, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs a command and returns what it prints."""
    # The server is in this process, whose log level is one for all tests.
    set_log_level("warning")

    def command(*arguments: str | Path, code: int = 0) -> str:
        assert main(["--url", client.url(), *map(str, arguments)]) == code
        out, err = capsys.readouterr()
        return out if code == 0 else err

    return command


@pytest.fixture
def pipeline(run: Run, name: str, tmp_path: Path) -> str:
    """Return a pipeline that was made and deployed by commands."""
    path = tmp_path / "sums.onnx"
    path.write_bytes(linear_model(4))
    run("model", "upload", name, path, "--tensor-field", "tensor")
    run("pipeline", "create", name, name)
    run("pipeline", "deploy", name)
    return name


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Return a file of records."""
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(ROWS))
    return path


def test_model_life(run: Run, name: str, tmp_path: Path) -> None:
    """A model is uploaded, listed, shown, configured and deleted."""
    path = tmp_path / "sums.onnx"
    path.write_bytes(linear_model(4))
    assert run("model", "upload", name, path) == f"{name} version 1: (x: FP32[?,4]) → (y: FP32[?,1])\n"
    listed = json.loads(run("model", "list", name, "--output", "json"))
    assert [(entry["name"], entry["version"]) for entry in listed] == [(name, 1)]
    run("model", "configure", name, "--tensor-field", "tensor", "--max-delay-ms", "2", "--max-rows", "8")
    shown = json.loads(run("model", "show", name, "--output", "json"))
    assert shown["tensor_fields"] == ["tensor"]
    assert shown["batch"] == {"max_delay_ms": 2, "max_rows": 8}
    assert "up to 8 rows, waiting for them for up to 2 ms" in run("model", "show", name)
    assert run("model", "delete", name) == f"deleted {name}: version 1\n"
    assert name in run("model", "show", name, code=1)


def test_settings_that_are_not_given_stay(run: Run, name: str, tmp_path: Path) -> None:
    """Each option replaces its own value; one row at a time and waiting for rows end each other."""
    path = tmp_path / "sums.onnx"
    path.write_bytes(linear_model(4))
    run("model", "upload", name, path, "--tensor-field", "tensor")

    def configured(*options: str) -> Any:
        run("model", "configure", name, *options)
        shown = json.loads(run("model", "show", name, "--output", "json"))
        assert shown["tensor_fields"] == ["tensor"]
        return shown["batch"]

    assert configured("--max-rows", "8") == {"max_delay_ms": 0, "max_rows": 8}
    assert configured("--max-delay-ms", "2") == {"max_delay_ms": 2, "max_rows": 8}
    assert configured("--max-rows", "16") == {"max_delay_ms": 2, "max_rows": 16}
    assert configured() == {"max_delay_ms": 2, "max_rows": 16}
    assert configured("--single") == configured() == "single"
    assert configured("--max-delay-ms", "0") == {"max_delay_ms": 0, "max_rows": 256}


def test_pipeline_life(run: Run, pipeline: str, client: bettong.Client) -> None:
    """A pipeline is listed with what serves, shown, undeployed and deleted."""
    listed = json.loads(run("pipeline", "list", "--output", "json"))
    entry = next(entry for entry in listed if entry["name"] == pipeline)
    assert entry == {"name": pipeline, "newest": 1, "serving": 1, "state": "Running", "steps": f"{pipeline}:1"}
    assert client.url() in run("pipeline", "show", pipeline)
    assert run("pipeline", "undeploy", pipeline) == f"{pipeline} is stopped\n"
    assert run("pipeline", "delete", pipeline) == f"deleted {pipeline}\n"


def test_infer_prints_json(run: Run, pipeline: str, rows: Path) -> None:
    """Without a terminal the reply is JSON; floats have the digits of their type."""
    reply = json.loads(run("infer", pipeline, rows))
    assert [record["out.y"] for record in reply] == [[10.0], [0.1]]
    assert list(reply[0]) == ["time", "in.tensor", "out.y", "anomaly.count"]


def test_infer_reads_standard_input(run: Run, pipeline: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` reads records from standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(ROWS).encode())))
    assert json.loads(run("infer", pipeline, "-", "--dataset", "out"))[0] == {"out.y": [10.0]}


@pytest.mark.slow
def test_infer_prints_arrow_and_tables(client: bettong.Client, pipeline: str, rows: Path, run: Run) -> None:
    """The reply can be had as an Arrow stream or as a table for people."""
    program = Path(sys.executable).with_name("bettong")
    command: list[str | Path] = [program, "--url", client.url(), "infer", pipeline, rows, "--output", "arrow"]
    reply = pa.ipc.open_stream(subprocess.run(command, check=True, capture_output=True).stdout).read_all()
    assert reply.column("out.y").to_pylist()[0] == [10.0]
    lines = run("infer", pipeline, rows, "--output", "table").splitlines()
    assert lines[0].split() == ["TIME", "IN.TENSOR", "OUT.Y", "ANOMALY.COUNT"]
    assert "[10.0]" in lines[1]


def test_failures_are_one_line(run: Run, pipeline: str, tmp_path: Path) -> None:
    """What the server refuses is one line, with exit code 1."""
    bad = tmp_path / "bad.json"
    bad.write_text('[{"tensor": [1.0]}]')
    for arguments in (
        ("infer", pipeline, bad),
        ("infer", "nobody-made-this", bad),
        ("pipeline", "deploy", "nobody-made-this"),
        ("model", "upload", pipeline, bad, "--framework", "onnx"),
    ):
        message = run(*arguments, code=1)
        assert message.startswith("bettong: ")
        assert message.count("\n") == 1


def test_status_and_log_level(run: Run, pipeline: str) -> None:
    """The status names addresses, counters and deployments; the log level is changed at run time."""
    details = json.loads(run("status", "--output", "json"))
    assert details["state"] == "SERVING"
    assert details["runtimes"].keys() == {"onnxruntime"}
    assert pipeline in {deployment["pipeline"] for deployment in details["deployments"]}
    assert pipeline in run("status")
    run("logs-level", "warning")
    assert json.loads(run("logs-level", "error", "--output", "json")) == {"level": "error", "previous": "warning"}
    assert json.loads(run("logs-level", "warning", "--output", "json")) == {"level": "warning", "previous": "error"}


def test_names_are_completed(client: bettong.Client, pipeline: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """TAB asks the server for the names of pipelines and models; without a server it completes nothing."""
    program = Path(sys.executable).with_name("bettong")

    def completed(line: str) -> list[str]:
        asked = {"_BETTONG_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        done = subprocess.run([program], env=os.environ | asked, capture_output=True, text=True, check=False)
        assert done.stderr == ""
        return done.stdout.split()

    monkeypatch.setenv("BETTONG_URL", client.url())
    for command in ("pipeline deploy", "model show", "infer"):
        assert completed(f"bettong {command} {pipeline[:-1]}") == [f"plain,{pipeline}"]
    monkeypatch.setenv("BETTONG_URL", "http://127.0.0.1:9")
    assert completed(f"bettong pipeline deploy {pipeline[:-1]}") == []
    assert completed(f"bettong --url {client.url()} pipeline deploy {pipeline[:-1]}") == [f"plain,{pipeline}"]
