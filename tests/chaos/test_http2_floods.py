"""HTTP/2 clients that flood: whatever they send, memory stays and others are served."""
# ruff: noqa: T201 - a run says what it did

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import onnx_files
import pytest
from http2_frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    HEADERS,
    INFER,
    PING,
    PREFACE,
    RESET,
    REST,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    literal,
)
from servers import Server, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

GROWTH_BYTES = 30e6
BURST = 500


def rapid_resets(number: int) -> bytes:
    stream = 2 * number + 1
    return frame(HEADERS, END_HEADERS, stream, INFER if number % 2 else REST) + frame(RESET, 0, stream, bytes(4))


def open_streams(number: int) -> bytes:
    return frame(HEADERS, END_HEADERS, 2 * number + 1, REST)


def pings(number: int) -> bytes:
    return frame(PING, 0, 0, struct.pack(">Q", number))


def settings(number: int) -> bytes:
    return frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65_535 + number % 2))


def continuations(number: int) -> bytes:
    if number == 0:
        return frame(HEADERS, 0, 1, INFER)
    return frame(CONTINUATION, 0, 1, literal(b"x", b"a" * 100))


def empty_data(number: int) -> bytes:
    return frame(HEADERS, END_HEADERS, 1, INFER) if number == 0 else frame(DATA, 0, 1)


def tiny_windows(number: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 + number % 2))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve one model."""
    folder: Path = tmp_path_factory.mktemp("floods")
    with serving(folder / "data", lanes=1) as running:
        running.deploy("identity", onnx_files.identity("FP32"), folder)
        yield running


@pytest.mark.parametrize(
    "flood",
    [rapid_resets, open_streams, pings, settings, continuations, empty_data, tiny_windows],
    ids=lambda flood: flood.__name__,
)
def test_a_flood_harms_nobody_else(server: Server, flood: Callable[[int], bytes]) -> None:
    """Fifty thousand frames that are never read back; the server may end that connection, and goes on."""
    before = server.counts().total("process_resident_memory_bytes")
    sent = 0
    with socket.create_connection((server.host, server.port), timeout=2) as connection:
        connection.sendall(PREFACE + frame(SETTINGS, 0, 0))
        with contextlib.suppress(ConnectionError, TimeoutError):
            while sent < 50_000:
                connection.sendall(b"".join(flood(number) for number in range(sent, sent + BURST)))
                sent += BURST
        assert httpx.get(f"{server.url}/readyz", timeout=10).status_code == 200
        during = server.counts().total("process_resident_memory_bytes")
    print(f"{flood.__name__}: {sent} frames, {(during - before) / 1e6:.1f} MB more")
    assert sent > 0
    assert during - before < GROWTH_BYTES
    # One that is lost for good runs into the test's time-out.
    while (counts := server.counts()).total("bettong_connections") > 1 or counts.total(
        "bettong_requests_in_flight"
    ) > 0:
        pass
