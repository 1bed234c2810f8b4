"""What a client may cost: sizes, time, connections; and clients that play for time."""
# ruff: noqa: T201 - a seed decides what happens, and a run says what it did

import contextlib
import gzip
import http.client
import json
import os
import resource
import shutil
import socket
import subprocess
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import onnx_files
import pytest
from servers import Server, serving
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

pytestmark = pytest.mark.slow

LIMIT_BYTES = 100_000
READ_TIMEOUT_S = 1
KEEP_ALIVE_S = 2
CONNECTIONS = 40
# Far more than the bounds above take, far less than a hang.
HANG_S = 12


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve with small bounds."""
    folder = tmp_path_factory.mktemp("bounds")
    bounds = {"max_request_bytes": LIMIT_BYTES, "read_timeout_s": READ_TIMEOUT_S, "keep_alive_s": KEEP_ALIVE_S}
    with serving(folder / "data", lanes=1, max_connections=CONNECTIONS, **bounds) as running:
        running.deploy("identity", onnx_files.identity("FP32"), folder)
        yield running


@contextlib.contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection((server.host, server.port), timeout=HANG_S) as connection:
        yield connection


def ended_after(connection: socket.socket, dribble: bytes = b"") -> tuple[float, bytes]:
    """Send a byte of *dribble* every fifth of a second until the server ends the connection.

    Returns:
        Seconds until then, and what it said.
    """
    started = time.monotonic()
    connection.settimeout(0.2)
    said = b""
    left = iter(dribble * 1_000)
    while time.monotonic() < started + HANG_S:
        try:
            piece = connection.recv(65_536)
            if not piece:
                break
            said += piece
        except TimeoutError:
            if dribble:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    connection.send(bytes([next(left)]))
        except ConnectionResetError:
            break
    return time.monotonic() - started, said


HEAD = b"POST /v2/models/identity/infer HTTP/1.1\r\nHost: h\r\n"


@pytest.mark.parametrize(
    ("start", "dribble"),
    [
        pytest.param(b"", b"", id="silent"),
        pytest.param(b"", b"P", id="only a method"),
        pytest.param(b"PR", b"", id="half a preface"),
        pytest.param(b"GET / HTTP/1.1\r\nX: ", b"a", id="endless header"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: h", b"", id="half a head"),
        pytest.param(HEAD + b"Content-Length: 50000\r\n\r\n", b" ", id="endless body"),
        pytest.param(HEAD + b"Content-Length: 50000\r\n\r\nabc", b"", id="half a body"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n", id="endless chunks"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x", id="endless extension"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n", id="endless trailers"),
    ],
)
def test_slow_requests_are_cut_off(bounded: Server, start: bytes, dribble: bytes) -> None:
    """A request must be there within the time to read it, however steadily its bytes drip."""
    with connected(bounded) as connection:
        connection.sendall(start)
        elapsed_s, said = ended_after(connection, dribble)
    assert elapsed_s < HANG_S - 2
    assert b"200 OK" not in said


JSON = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}'
INFER = HEAD + f"Content-Length: {len(JSON)}\r\n\r\n".encode() + JSON
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.mark.parametrize("request_", [HEALTH, INFER], ids=["health", "infer"])
def test_idle_connections_are_closed(bounded: Server, request_: bytes) -> None:
    """After the time that they are kept, without a word; also those whose replies other threads have written."""
    with connected(bounded) as connection:
        connection.sendall(request_)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        elapsed_s, said = ended_after(connection)
    assert KEEP_ALIVE_S / 2 < elapsed_s < HANG_S - 2
    assert said == b""


def test_a_client_that_never_reads_is_let_go(bounded: Server) -> None:
    """Its replies do not pile up for ever: other connections go on, and memory stays."""
    before = bounded.counts().total("process_resident_memory_bytes")
    request = b"GET /v2/models/stats HTTP/1.1\r\nHost: h\r\n\r\n"
    with connected(bounded) as connection:
        connection.settimeout(0.5)
        sent = 0
        with contextlib.suppress(TimeoutError, BrokenPipeError, ConnectionResetError):
            while sent < 100_000:
                connection.sendall(request * 100)
                sent += 100
        assert httpx.get(f"{bounded.url}/readyz").status_code == 200
        after = bounded.counts().total("process_resident_memory_bytes")
    print(f"{sent} pipelined requests, {(after - before) / 1e6:.1f} MB more")
    assert sent > 100
    assert after - before < 50e6


def cpu_s(server: Server) -> float:
    """Return the processor time that the server has taken."""
    with Path(f"/proc/{server.process.pid}/stat").open() as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="tells processor times by /proc, which is not there")
@pytest.mark.parametrize("start", [b"P", b"PR"])
def test_the_start_of_a_preface_alone_takes_no_processor_time(bounded: Server, start: bytes) -> None:
    """A lane waits for the rest of it as it waits for anything: asleep."""
    with connected(bounded) as connection:
        connection.sendall(start)
        before_s = cpu_s(bounded)
        elapsed_s, _ = ended_after(connection)
    assert cpu_s(bounded) - before_s < elapsed_s / 2


@pytest.mark.parametrize("start", [b"", b"P", b"PR"])
def test_a_client_that_ends_within_the_preface_harms_nobody(bounded: Server, start: bytes) -> None:
    """Its connection is closed at once, and every lane goes on."""
    for _ in range(8):
        with connected(bounded) as connection:
            connection.sendall(start)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(HANG_S)
            # A reset, because what it sent is not read.
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(1) == b""
    for _ in range(8):
        assert httpx.get(f"{bounded.url}/healthz", timeout=HANG_S).status_code == 200


def test_a_head_has_its_time_however_long_the_connection_was_idle(bounded: Server) -> None:
    """The time to read a request starts with its first byte."""
    health = HEALTH
    for idle_s in (READ_TIMEOUT_S * 0.9, READ_TIMEOUT_S * 1.4):
        with connected(bounded) as connection:
            connection.sendall(health)
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
            quiet_for(connection, idle_s)
            connection.sendall(health[:20])
            # Over the next look of the server's timer, which comes twice in the time to read.
            quiet_for(connection, READ_TIMEOUT_S * 0.6)
            connection.sendall(health[20:])
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200")


def quiet_for(connection: socket.socket, seconds: float) -> None:
    """Wait for so long that the server says nothing; that is what is looked at."""
    connection.settimeout(seconds)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    connection.settimeout(HANG_S)


def test_a_reply_that_is_not_taken_is_given_up(tmp_path: Path) -> None:
    """Its request keeps its place until its connection is closed, after the time of a request; one that is read comes whole."""
    rows = 500_000
    values = ",".join(["1.25"] * rows * 4)
    body = f'{{"inputs":[{{"name":"x","datatype":"FP32","shape":[{rows},4],"data":[{values}]}}]}}'
    with serving(tmp_path / "data", lanes=1, read_timeout_s=READ_TIMEOUT_S) as server:
        server.deploy("identity", onnx_files.identity("FP32"), tmp_path)
        reply = post(server, body.encode())
        assert reply.json()["outputs"][0]["shape"] == [rows, 4]
        with connected(server) as stalled:
            stalled.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
            assert stalled.recv(12) == b"HTTP/1.1 200"
            assert server.counts().total("bettong_requests_in_flight") == 1
            while server.counts().total("bettong_requests_in_flight"):
                pass
            while server.counts().total("bettong_connections"):
                pass


@pytest.mark.parametrize("path", ["/v2/models/identity/infer", "/v1/pipelines/identity/infer"])
def test_a_body_that_inflates_to_much_does_not_hold_its_lane_up(tmp_path: Path, path: str) -> None:
    """Others on the only lane are answered while it is inflated and read, and it has its place in what is under way by then."""
    bomb = gzip.compress(b'{"inputs":[' + b" " * 400_000_000 + b"]}", 1)
    with serving(tmp_path / "data", lanes=1) as server:
        server.deploy("identity", onnx_files.identity("FP32"), tmp_path)
        with connected(server) as connection, httpx.Client(base_url=server.url) as other:
            head = f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
            connection.sendall(head.encode() + bomb)
            while server.counts().total("bettong_requests_in_flight") == 0:
                pass
            connection.setblocking(False)
            answered = 0
            while True:
                try:
                    assert connection.recv(12) == b"HTTP/1.1 400"
                    break
                except BlockingIOError:
                    assert other.get("/healthz").status_code == 200
                    answered += 1
    print(f"{answered} answered beside it")
    assert answered > 5


def test_refused_heads_are_counted_and_logged(tmp_path: Path) -> None:
    """Under an id that the client is told, though nothing of the request could be trusted; and what is asked for in vain."""
    with serving(tmp_path / "data", lanes=1, log_level="debug") as server:
        before = server.counts().total("bettong_requests_failed_total")
        with connected(server) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            _, said = ended_after(connection)
        found = httpx.get(f"{server.url}/nothing")
        ids = [said.partition(b"x-request-id: ")[2].split(b"\r\n")[0].decode(), found.headers["x-request-id"]]
        for request_id, protocol in zip(ids, ("http", "rest"), strict=True):
            server.until("request", request_id=request_id, protocol=protocol)
        assert server.counts().total("bettong_requests_failed_total") == before + 2


def test_metrics_connections_are_bounded(bounded: Server) -> None:
    """Those over the bound are closed and counted; room is given back."""
    host, _, port = bounded.metrics.rpartition(":")
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(socket.create_connection((host, int(port)), timeout=HANG_S)) for _ in range(80)]
        answers = 0
        for connection in crowd:
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n")
                answers += connection.recv(12) == b"HTTP/1.1 200"
    assert 0 < answers <= 64
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            assert bounded.counts().total("bettong_connections_refused_total") >= 80 - 64
            return


@pytest.mark.skipif(
    not hasattr(resource, "prlimit"), reason="takes file descriptors away by prlimit, which is not there"
)
def test_a_metrics_port_without_file_descriptors_waits(tmp_path: Path) -> None:
    """It says so and tries again after a pause, instead of at once for ever; when there are some again, it answers."""
    with serving(tmp_path / "data", lanes=1) as server:
        pid = server.process.pid
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (0, limits[1]))
        host, _, port = server.metrics.rpartition(":")
        before_s = cpu_s(server)
        with socket.create_connection((host, int(port)), timeout=HANG_S) as waiting:
            server.until("accept_failed", port="metrics")
            waiting.settimeout(1)
            waiting.sendall(b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n")
            with pytest.raises(TimeoutError):
                waiting.recv(1)
            assert cpu_s(server) - before_s < 0.5
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
            waiting.settimeout(HANG_S)
            assert waiting.recv(12) == b"HTTP/1.1 200"


def post(server: Server, body: bytes, **headers: str) -> httpx.Response:
    return httpx.post(f"{server.url}/v2/models/identity/infer", content=body, headers=headers)


def test_bodies_over_the_limit_are_refused(bounded: Server) -> None:
    """By their length, by their chunks, and by what they inflate to."""
    spaces = b" " * (LIMIT_BYTES + 1)
    assert post(bounded, spaces).status_code == 413

    def pieces() -> Iterator[bytes]:
        yield from (b" " * 1_000 for _ in range(LIMIT_BYTES // 1_000 + 1))

    assert httpx.post(f"{bounded.url}/v2/models/identity/infer", content=pieces()).status_code == 413
    bomb = zlib.compress(b" " * 50_000_000)
    assert len(bomb) < LIMIT_BYTES
    assert post(bounded, bomb, **{"content-encoding": "deflate"}).status_code == 413


def test_messages_over_the_limit_are_refused(bounded: Server) -> None:
    """RESOURCE_EXHAUSTED, plain or compressed, alone or in a stream."""

    def request(rows: int) -> Any:
        message = pb.ModelInferRequest(model_name="identity")
        message.inputs.add(name="x", datatype="FP32", shape=[rows, 4])
        message.raw_input_contents.append(bytes(rows * 16))
        return message

    large, small = request(LIMIT_BYTES // 8), request(1)
    with grpc.insecure_channel(bounded.data) as channel:
        stub = GRPCInferenceServiceStub(channel)
        for compression in (None, grpc.Compression.Gzip):
            with pytest.raises(grpc.RpcError) as caught:
                stub.ModelInfer(large, compression=compression)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        replies = stub.ModelStreamInfer(iter([small, large, small]))
        with pytest.raises(grpc.RpcError) as caught:
            list(replies)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert stub.ModelInfer(small).raw_output_contents


def test_connections_over_the_limit_are_closed_and_counted(bounded: Server) -> None:
    """Those that were there first are served; room is given back."""
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(connected(bounded)) for _ in range(CONNECTIONS * 2)]
        answers = 0
        for connection in crowd:
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
                answers += connection.recv(12) == b"HTTP/1.1 200"
        refused = bounded.counts().total("bettong_connections_refused_total")
    assert 0 < answers <= CONNECTIONS
    assert refused >= CONNECTIONS
    while bounded.counts().total("bettong_connections") > 1:
        pass
    assert httpx.get(f"{bounded.url}/readyz").status_code == 200


def curl(*arguments: str) -> str:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed here")
    command = ["curl", "-sS", "--max-time", str(HANG_S), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=HANG_S + 5).stdout


BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}


@pytest.mark.parametrize("options", [[], ["--http2-prior-knowledge"], ["--http1.0"]], ids=["1.1", "2", "1.0"])
def test_curl_infers(server: Server, options: list[str]) -> None:
    """In each version of HTTP, in clear."""
    url = f"{server.url}/v2/models/identity-fp32/infer"
    reply = json.loads(curl(*options, url, "-d", json.dumps(BODY)))
    assert reply["outputs"][0]["data"] == [1, 2, 3, 4]


def test_curl_sends_a_large_body_after_asking(server: Server) -> None:
    """It waits for 100 Continue when a body is over a megabyte."""
    values = np.arange(200_000 * 4, dtype=np.float32)
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [200_000, 4], "data": values.tolist()}]}
    command = ["curl", "-sS", f"{server.url}/v2/models/identity-fp32/infer", "-H", "Expect: 100-continue", "-d", "@-"]
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed here")
    sent = json.dumps(body).encode()
    output = subprocess.run(command, input=sent, capture_output=True, check=True, timeout=HANG_S).stdout
    (answer,) = json.loads(output)["outputs"]
    np.testing.assert_array_equal(values, np.array(answer["data"], np.float32))


def test_curl_pipes_chunks_over_both_versions(server: Server) -> None:
    """A body of unknown length."""
    for options in (["-H", "Transfer-Encoding: chunked"], ["--http2-prior-knowledge"]):
        command = ["curl", "-sS", *options, f"{server.url}/v2/models/identity-fp32/infer", "-T", "-", "-X", "POST"]
        if shutil.which("curl") is None:
            pytest.skip("curl is not installed here")
        sent = json.dumps(BODY).encode()
        output = subprocess.run(command, input=sent, capture_output=True, check=True, timeout=HANG_S).stdout
        assert json.loads(output)["outputs"][0]["data"] == [1, 2, 3, 4]


def test_an_upgrade_to_http2_is_not_needed(server: Server) -> None:
    """Curl offers it over HTTP/1.1; the request is served either way."""
    reply = curl("--http2", f"{server.url}/healthz")
    assert json.loads(reply) == {"live": True}


def test_http2_replies_have_status_and_echo(server: Server) -> None:
    """The same codes and headers as over HTTP/1.1."""
    shown = curl("--http2-prior-knowledge", "-i", "-H", "x-request-id: r-1", f"{server.url}/v2/models/nothing-here")
    assert shown.startswith("HTTP/2 404")
    assert "x-request-id: r-1" in shown
    assert json.loads(shown.splitlines()[-1])["error"]
    head = curl("--http2-prior-knowledge", "-I", f"{server.url}/healthz")
    assert head.startswith("HTTP/2 200")


@pytest.mark.parametrize(("kind", "is_grpc"), [("grpc", True), ("grpc+proto", True), ("grpc-web", False)])
def test_only_grpc_itself_is_taken_as_grpc(server: Server, kind: str, is_grpc: bool) -> None:
    """grpc-web has another framing; its clients must see an HTTP error instead of a status that they can't read."""
    options = ["--http2-prior-knowledge", "-i", "-H", f"content-type: application/{kind}", "-d", "abc"]
    shown = curl(*options, f"{server.url}/inference.GRPCInferenceService/ServerLive")
    assert ("grpc-status" in shown) == is_grpc
    assert shown.startswith("HTTP/2 200") == is_grpc
