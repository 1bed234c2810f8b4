"""The client, without a server."""

import pickle
import socket
import subprocess
import sys

import pytest

import bettong
from bettong._client import _timeout_s


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address comes from the argument or the variable, and the error says how to start a server."""
    port = _free_port()
    monkeypatch.setenv("BETTONG_URL", f"http://127.0.0.1:{port}")
    with pytest.raises(bettong.UnreachableError, match=f"127.0.0.1:{port}.*bettong up"):
        bettong.Client()
    other = _free_port()
    with pytest.raises(ConnectionError, match=f"127.0.0.1:{other}"):
        bettong.Client(f"http://127.0.0.1:{other}")


def test_error_is_the_last_line_of_a_program() -> None:
    """A notebook or script ends with one line that says what to do."""
    code = f"import bettong; bettong.Client('http://127.0.0.1:{_free_port()}')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "UnreachableError: nobody listens at http://127.0.0.1" in done.stderr.splitlines()[-1]
    assert "bettong up" in done.stderr.splitlines()[-1]


def test_timeout_comes_from_argument_then_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument goes before the variable, the variable before 45 seconds."""
    assert _timeout_s(None) == 45.0
    monkeypatch.setenv("BETTONG_REQUEST_TIMEOUT", "7.5")
    assert _timeout_s(None) == 7.5
    assert _timeout_s(3) == 3


@pytest.mark.parametrize("value", ["0", "-1", "soon", "inf", "nan"])
def test_timeout_without_sense_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names where the value came from."""
    monkeypatch.setenv("BETTONG_REQUEST_TIMEOUT", value)
    with pytest.raises(bettong.InvalidInputError, match="BETTONG_REQUEST_TIMEOUT"):
        _timeout_s(None)


def test_client_cannot_be_pickled() -> None:
    """A client says what to use in another process instead."""
    client = bettong.Client.__new__(bettong.Client)
    with pytest.raises(TypeError, match=r"pipeline\.local"):
        pickle.dumps(client)
