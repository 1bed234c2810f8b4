"""A server inside this process."""

import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from fakes.models import linear_model

import bettong

ROW = {"x": [1.0, 2.0, 3.0, 4.0]}


def test_state_survives_in_the_data_folder(tmp_path: Path) -> None:
    """What was deployed serves again when a server is started with the same folder."""
    with bettong.up(data=tmp_path) as client:
        client.upload_model("sums", linear_model(4)).deploy("sums")
    with bettong.up(data=tmp_path) as client:
        assert client.get_pipeline("sums").infer([ROW])[0]["out.y"] == [10.0]


def test_second_call_finds_the_running_server(tmp_path: Path) -> None:
    """A notebook cell that is run again gets the same server, which lives until the last client is closed."""
    first = bettong.up(data=tmp_path)
    second = bettong.up(data=tmp_path)
    assert first.url() == second.url()
    first.close()
    assert second.list_models() == []
    second.close()
    with pytest.raises(bettong.UnreachableError):
        bettong.Client(second.url())


def test_closed_client_says_so(tmp_path: Path) -> None:
    """A client that was closed refuses to work; closing again does nothing."""
    client = bettong.up(data=tmp_path)
    client.close()
    client.close()
    with pytest.raises(bettong.UnreachableError, match="closed"):
        client.list_models()


@pytest.mark.slow
def test_taken_port_and_locked_folder_are_start_errors(tmp_path: Path) -> None:
    """The errors name the port (its own or one of the two beside it), and the folder that another process holds."""
    with bettong.up(data=tmp_path / "a") as client:
        port = int(client.url().rpartition(":")[2])
        with pytest.raises(bettong.StartError, match=rf"{port}|{port + 1}|{port + 2}"):
            bettong.up(port, data=tmp_path / "b")
        code = f"import bettong; bettong.up(data={str(tmp_path / 'a')!r})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "StartError" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_program_that_does_not_close_still_ends(tmp_path: Path) -> None:
    """A script that forgets to close ends by itself, with exit code 0 and nothing on standard error."""
    code = f"import bettong; client = bettong.up(data={str(tmp_path)!r}); print(client.url())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(done.stdout.strip(), timeout=5)  # noqa: S310 - our own address


@pytest.mark.slow
def test_forked_child_uses_connections_of_its_own(tmp_path: Path) -> None:
    """A process that was forked from one with a client can ask, and does not disturb its parent."""
    code = f"""
import os, bettong
client = bettong.up(data={str(tmp_path)!r})
other = bettong.Client(client.url())
pipeline = client.upload_model("sums", {linear_model(4)!r}).deploy("sums")
pipeline = other.get_pipeline("sums")
row = [{ROW!r}]
assert pipeline.infer(row)[0]["out.y"] == [10.0]
child = os.fork()
if child == 0:
    answered = pipeline.infer(row)[0]["out.y"] == [10.0]
    os._exit(0 if answered else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert pipeline.infer(row)[0]["out.y"] == [10.0]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 0, done.stderr


def test_control_port_and_ended_servers_are_named(tmp_path: Path) -> None:
    """The address of the control port leads to that of the data port; a server that has ended is told as one that never was."""
    server = bettong.up(data=tmp_path)
    other = bettong.Client(server.url())
    assert other.list_models() == []
    control = other._connection.server()["control_address"]
    with pytest.raises(
        bettong.UnreachableError, match=f"http://{control} is the control port.*data port is {other.url()}"
    ):
        bettong.Client(control)
    server.close()
    with pytest.raises(bettong.UnreachableError, match=f"nobody listens at {other.url()}; start a server"):
        other.list_models()
    other.close()
