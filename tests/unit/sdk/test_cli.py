"""The command line, without a server."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from google.protobuf.runtime_version import VersionError

from bettong._cli import main
from bettong._cli.commands import cli
from bettong._cli.session import table
from bettong._cli.welcome import _curl, _snippet

NOBODY = "http://127.0.0.1:9"


def _commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path} {name}")


COMMANDS = dict(_commands(cli, "bettong"))
EXPECTED = {
    *("completion", "demo", "infer", "logs-level", "members", "serve", "status", "up", "version"),
    *("executor", "gateway", "router"),
    *(f"cluster {name}" for name in ("create", "kill", "pause", "resume", "start", "status", "stop", "up")),
    *("model upload", "model list", "model show", "model configure", "model delete"),
    *("pipeline create", "pipeline list", "pipeline show", "pipeline deploy", "pipeline undeploy", "pipeline delete"),
}


def test_every_command_is_there() -> None:
    """What the documentation promises can be called."""
    assert {f"bettong {name}" for name in EXPECTED} | {
        "bettong cluster",
        "bettong model",
        "bettong pipeline",
    } == COMMANDS.keys()


@pytest.mark.parametrize("name", [name for name in COMMANDS if "demo" not in name])
def test_every_command_and_option_has_help(name: str) -> None:
    """Each command says what it does; each option, too, with its default if it has one."""
    command = COMMANDS[name]
    assert command.help
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, f"{name} {option.name}"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_exits_well(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` works for each command and is no error."""
    assert main([*name.split()[1:], "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: {name}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "No such command 'nothing'"),
        (["infer"], "Missing argument 'PIPELINE'"),
        (["up", "--port", "99999"], "99999 is not in the range"),
        (["logs-level", "loud"], "'loud' is not one of"),
        (["serve", "none.onnx"], "none.onnx is no file"),
        (["cluster", "up", "--executors", "0"], "0 is not in the range"),
        (["cluster", "kill"], "Missing argument 'NAME'"),
        (["model", "configure", "m", "--max-rows", "4", "--single"], "--single goes neither with --max-delay-ms"),
        (["model", "configure", "m", "--max-delay-ms", "4", "--single"], "--single goes neither with --max-delay-ms"),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong call says what is wrong and where help is, on one line of standard error."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert "--help'" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["", "model", "pipeline", "cluster"])
def test_a_group_without_a_command_shows_its_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As it is read by people, line by line, on standard error."""
    assert main([name] if name else []) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"Usage: {f'bettong {name}'.strip()} [OPTIONS] COMMAND")
    assert "\nCommands:\n" in err


def test_an_old_protobuf_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Another package may have brought one that cannot read our messages; a traceback would not say so."""

    @click.command()
    def broken() -> None:
        raise VersionError("gencode 7.36 runtime 6.30")

    monkeypatch.setattr(cli, "get_command", lambda *_: broken)
    assert main(["status"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("bettong: protobuf ")
    assert "is too old for Bettong" in err
    assert "gencode 7.36 runtime 6.30" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--output", "json", "status"], ["status", "--output=json"]])
def test_errors_for_programs_are_json(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Who reads JSON reads errors as JSON, too; standard output stays empty."""
    assert main(["--url", NOBODY, *arguments]) == 1
    out, err = capsys.readouterr()
    found = json.loads(err)
    assert (out, found["kind"]) == ("", "UnreachableError")
    assert "nobody listens" in found["error"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["members", "--watch"],
        ["model", "list"],
        ["model", "upload", "m", "f.onnx"],
        ["pipeline", "list"],
        ["pipeline", "deploy", "p"],
        ["logs-level", "debug"],
    ],
)
def test_no_server_is_one_line_and_exit_code_1(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Without a server each command says how to start one."""
    assert main(["--url", NOBODY, *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "bettong up" in err
    assert err.count("\n") == 1


def test_url_may_stand_after_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Options that all commands have may stand on either side of the name; the variable comes last."""
    monkeypatch.setenv("BETTONG_URL", "http://127.0.0.1:7")
    assert main(["model", "list", "--url", NOBODY]) == 1
    assert NOBODY in capsys.readouterr().err
    assert main(["model", "list"]) == 1
    assert "http://127.0.0.1:7" in capsys.readouterr().err


def test_version_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """`version` names what is installed."""
    assert main(["--output", "json", "version"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"bettong", "bettong-engine", "bettong-services", "onnxruntime", "python"} == found.keys()


@pytest.mark.parametrize("shell", ["bash", "fish", "zsh"])
def test_completion_script_names_the_program(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The script is for this program and this shell."""
    if shell == "bash":
        assert Path("/bin/bash").exists()
    assert main(["completion", shell]) == 0
    assert "_BETTONG_COMPLETE" in capsys.readouterr().out


def test_completion_completes() -> None:
    """What a shell asks while the user types is answered."""
    program = Path(sys.executable).with_name("bettong")
    asked = {"_BETTONG_COMPLETE": "bash_complete", "COMP_WORDS": "bettong mod", "COMP_CWORD": "1"}
    done = subprocess.run([program], env=os.environ | asked, capture_output=True, text=True, check=False)
    assert "plain,model" in done.stdout.split()


def test_table_is_aligned() -> None:
    """Columns begin below each other; what is missing is a dash."""
    assert table(["name", "n"], [["long name", 1], ["x", None]]) == "NAME       N\nlong name  1\nx          -"


def test_greeting_shows_a_row_that_fits() -> None:
    """The curl line and the snippet hold one row of zeros of the pipeline's inputs."""
    inputs = [
        {"name": "x", "datatype": "FP32", "shape": [-1, 2, 3]},
        {"name": "word", "datatype": "BYTES", "shape": [-1]},
        {"name": "count", "datatype": "INT64", "shape": [-1, -1]},
    ]
    line = _curl("http://h:1", "p", inputs)
    body = line.split("-d '")[1].rstrip("'")
    assert json.loads(body) == [{"x": [[0.0] * 3] * 2, "word": "text", "count": [0]}]
    snippet = _snippet("http://h:1", "p", inputs)
    assert len(snippet) == 5
    compile("\n".join(snippet), "snippet", "exec")
    assert '"x": [[0.0] * 3] * 2, "word": \'text\', "count": [0] * 1' in snippet[3]


def test_greeting_of_a_wide_pipeline_stays_short() -> None:
    """A row that nobody would paste is not shown."""
    inputs = [{"name": "image", "datatype": "FP32", "shape": [-1, 3, 224, 224]}]
    assert len(_curl("http://h:1", "p", inputs)) < 100


def test_imports_of_serve_are_few() -> None:
    """The server starts without the libraries of the client."""
    code = "import sys; from bettong._cli.commands import cli; import bettong._cli.serve; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not [name for name in ("grpc", "numpy", "pandas", "pyarrow", "rich", "httpx") if name in loaded]
