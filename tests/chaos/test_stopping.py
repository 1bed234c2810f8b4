"""The end of a server, wanted or not: no accepted request is lost, and everything is back afterwards."""
# ruff: noqa: S311, T201 - a seed decides what happens, and a run says what it did

import asyncio
import json
import signal
import socket
import struct
from collections import Counter
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any, BinaryIO

import grpc
import httpx
import numpy as np
import onnx_files
import pytest
from grpc import aio
from http2_frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INFER,
    PING,
    PREFACE,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)
from loads import UNLIMITED, held_up, one_row, until_in_flight, value_of
from servers import STOP_TIMEOUT_S, Server, serving, spawn
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

pytestmark = pytest.mark.slow

# About 80 ms of one core for each row.
TURNS = 4_000
HELD_ROWS = 25
"""Run for as long as all requests of a test need to arrive."""


async def stopped(server: Server) -> int:
    return await asyncio.to_thread(server.process.wait, STOP_TIMEOUT_S)


async def unary(server: Server, number: int) -> str:
    async with aio.insecure_channel(server.data, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        reply = await GRPCInferenceServiceStub(channel).ModelInfer(one_row("slow", number))
    return "right" if value_of(reply) == number else "wrong"


async def rest(client: httpx.AsyncClient, number: int) -> str:
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [number]}]}
    reply = await client.post("/v2/models/slow/infer", json=body)
    assert reply.status_code == 200, reply.text
    return "right" if reply.json()["outputs"][0]["data"] == [number] else "wrong"


async def stream(server: Server, numbers: range) -> list[str]:
    async with aio.insecure_channel(server.data, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        call: Any = GRPCInferenceServiceStub(channel).ModelStreamInfer()
        for number in numbers:
            await call.write(one_row("slow", number))
        await call.done_writing()
        replies = [reply async for reply in call]
    seen = [value_of(reply.infer_response) for reply in replies if not reply.error_message]
    return ["right" if value == number else "wrong" for value, number in zip(seen, numbers, strict=True)]


async def test_sigterm_under_load_loses_no_accepted_request(tmp_path: Path) -> None:
    """Unary, streamed and REST requests that are under way are answered right; then it exits with 0."""
    with serving(tmp_path / "data", lanes=1, compute_threads=1) as server:
        server.deploy("slow", onnx_files.slow(TURNS), tmp_path)
        async with (
            httpx.AsyncClient(base_url=server.url, timeout=30, limits=httpx.Limits(max_connections=20)) as client,
            held_up(server, "slow", HELD_ROWS),
            asyncio.TaskGroup() as tasks,
        ):
            singles = [tasks.create_task(unary(server, number)) for number in range(20)]
            singles += [tasks.create_task(rest(client, number)) for number in range(20)]
            streamed = tasks.create_task(stream(server, range(20)))
            await until_in_flight(server, 61)
            server.process.send_signal(signal.SIGTERM)
        assert await stopped(server) == 0
    outcomes = Counter([task.result() for task in singles] + streamed.result())
    print(f"60 requests at SIGTERM: {dict(outcomes)}")
    assert outcomes == {"right": 60}


async def test_new_connections_are_refused_while_it_drains(tmp_path: Path) -> None:
    """Whoever comes then is turned away, and what is under way is finished."""
    with serving(tmp_path / "data", lanes=1, compute_threads=1) as server:
        server.deploy("slow", onnx_files.slow(TURNS), tmp_path)
        async with held_up(server, "slow", HELD_ROWS), asyncio.TaskGroup() as tasks:
            under_way = [tasks.create_task(unary(server, number)) for number in range(20)]
            await until_in_flight(server, 21)
            server.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(server.until, "state_changed", state="DRAINING")
            while await asyncio.to_thread(is_listening, server):
                pass
        assert [task.result() for task in under_way] == ["right"] * 20
        assert await stopped(server) == 0


async def test_a_second_sigterm_ends_it_at_once(tmp_path: Path) -> None:
    """The first would wait for a minute of work."""
    with serving(tmp_path / "data", lanes=1, compute_threads=1, max_batch_rows=1) as server:
        server.deploy("slow", onnx_files.slow(TURNS), tmp_path)
        async with aio.insecure_channel(server.data, UNLIMITED) as channel:
            stub = GRPCInferenceServiceStub(channel)
            calls = [stub.ModelInfer(one_row("slow", number)) for number in range(1_000)]
            await until_in_flight(server, 900)
            server.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(server.until, "state_changed", state="DRAINING")
            server.process.send_signal(signal.SIGTERM)
            code = await asyncio.wait_for(stopped(server), 5)
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
    lost = sum(isinstance(outcome, aio.AioRpcError) for outcome in outcomes)
    print(f"exit code {code}, {lost} of 1000 requests dropped")
    assert lost > 500
    assert code != 0


async def test_a_drain_that_takes_too_long_is_cut_off(tmp_path: Path) -> None:
    """After the configured time, whatever is still under way."""
    with serving(tmp_path / "data", lanes=1, compute_threads=1, max_batch_rows=1, drain_timeout_s=0.5) as server:
        server.deploy("slow", onnx_files.slow(TURNS), tmp_path)
        async with aio.insecure_channel(server.data, UNLIMITED) as channel:
            stub = GRPCInferenceServiceStub(channel)
            calls = [stub.ModelInfer(one_row("slow", number)) for number in range(500)]
            await until_in_flight(server, 400)
            server.process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(stopped(server), 10)
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
        server.until("drain_timed_out")
    codes = Counter(outcome.code() for outcome in outcomes if isinstance(outcome, aio.AioRpcError))
    assert sum(codes.values()) > 300
    assert set(codes) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


HALF_A_BODY = b"POST /v2/models/x/infer HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc"
HTTP2_START = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
HALF_A_HTTP2_HEAD = b"\0\0\x01\1\4\0\0\0\1\x83"


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n", b"HTTP/1.1 200", id="keep-alive"),
        pytest.param(b"", b"", id="silent"),
        pytest.param(b"GET /healthz HT", b"", id="half a head"),
        pytest.param(HALF_A_BODY, b"", id="half a body"),
        pytest.param(HTTP2_START, b"\0", id="HTTP/2 that answers no ping"),
        pytest.param(HTTP2_START + HALF_A_HTTP2_HEAD, b"\0", id="half an HTTP/2 request"),
    ],
)
def test_idle_connections_do_not_hold_it_up(tmp_path: Path, sent: bytes, answered: bytes) -> None:
    """No request of theirs is under way, so it ends long before its time for draining is over."""
    with (
        serving(tmp_path / "data", lanes=1, drain_timeout_s=25) as server,
        socket.create_connection((server.host, server.port), timeout=5) as idle,
    ):
        idle.sendall(sent)
        if answered:
            assert idle.recv(len(answered)).startswith(answered[:12])
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0


def grpc_infer(values: "np.ndarray[Any, Any]") -> bytes:
    """Write a unary call of `identity` as HTTP/2 frames, whose client lets no more than `WINDOW_BYTES` of the reply come."""
    request = pb.ModelInferRequest(model_name="identity")
    request.inputs.add(name="x", datatype="FP32", shape=list(values.shape))
    request.raw_input_contents.append(values.tobytes())
    message = request.SerializeToString()
    body = b"\0" + struct.pack(">I", len(message)) + message
    pieces = [body[start : start + 16_384] for start in range(0, len(body), 16_384)]
    frames = [frame(DATA, END_STREAM if piece is pieces[-1] else 0, 1, piece) for piece in pieces]
    settings = frame(SETTINGS, 0, 0, struct.pack(">HI", 4, WINDOW_BYTES))
    return PREFACE + settings + frame(HEADERS, END_HEADERS, 1, INFER) + b"".join(frames)


def http_infer(values: "np.ndarray[Any, Any]", path: str) -> bytes:
    """Write a request of `identity` over HTTP/1.1, in and out as JSON."""
    rows = values.tolist()
    if path.startswith("/v1"):
        body = json.dumps([{"x": row} for row in rows])
    else:
        body = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": list(values.shape), "data": rows}]})
    return f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def left_of(reply: BinaryIO) -> int:
    """Read the rest of an HTTP/1.1 reply to its end and return how much of its body is missing."""
    length = 0
    while (line := reply.readline().strip().lower()) != b"":
        length = int(line.removeprefix(b"content-length:")) if line.startswith(b"content-length:") else length
    return length - len(reply.read())


VALUES = np.full((500_000, 4), 1.25, np.float32)
FEW_VALUES = VALUES[:3_000]
"""No more than a client may send over HTTP/2 before the server says more."""


@pytest.mark.parametrize("way", ["/v2/models/identity/infer", "/v1/pipelines/identity/infer", "grpc"])
def test_a_large_reply_is_sent_to_its_end(tmp_path: Path, way: str) -> None:
    """Its client reads slowly, or not at all for a while; nothing else is under way."""
    sent = grpc_infer(FEW_VALUES) if way == "grpc" else http_infer(VALUES, way)
    with serving(tmp_path / "data", lanes=1, drain_timeout_s=25) as server:
        server.deploy("identity", onnx_files.identity("FP32"), tmp_path)
        with socket.create_connection((server.host, server.port), timeout=20) as client, client.makefile("rb") as reply:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            client.sendall(sent)
            # It has begun, and more is to come than connections hold.
            if way == "grpc":
                received = until_held_back(reply)
            else:
                assert reply.readline().startswith(b"HTTP/1.1 200")
            server.process.send_signal(signal.SIGTERM)
            with pytest.raises(TimeoutExpired):
                server.process.wait(3)
            if way == "grpc":
                client.sendall(frame(WINDOW_UPDATE, 0, 0, ROOM) + frame(WINDOW_UPDATE, 0, 1, ROOM))
                assert received + rest_of_stream(client, reply) > FEW_VALUES.nbytes
            else:
                assert left_of(reply) == 0
        assert server.process.wait(10) == 0


ROOM = struct.pack(">I", 1 << 30)
WINDOW_BYTES = 4_096
"""What the client lets the server send of a reply at first."""


def next_frame(reply: BinaryIO) -> tuple[int, int, int, bytes]:
    """Read a frame: its length, kind and flags, and what is in it."""
    head = reply.read(9)
    assert len(head) == 9, "the connection has ended before the reply"
    length = int.from_bytes(head[:3], "big")
    return length, head[3], head[4], reply.read(length)


def until_held_back(reply: BinaryIO) -> int:
    """Read what comes before the client has given more room, and return how much that is."""
    received = 0
    while received < WINDOW_BYTES:
        length, kind, _, _ = next_frame(reply)
        received += length if kind == DATA else 0
    return received


def rest_of_stream(client: socket.socket, reply: BinaryIO) -> int:
    """Read to the end of the stream, answer pings on the way, and return how much came."""
    received = 0
    while True:
        length, kind, flags, payload = next_frame(reply)
        if kind == PING and not flags & ACK:
            client.sendall(frame(PING, ACK, 0, payload))
        received += length if kind == DATA else 0
        if kind == HEADERS and flags & END_STREAM:
            return received


def test_an_upload_that_goes_on_is_taken_to_its_end(tmp_path: Path) -> None:
    """It is slow, and longer than idle clients are waited for; nothing else is under way."""
    sent = http_infer(VALUES[:4], "/v2/models/identity/infer")
    with serving(tmp_path / "data", lanes=1, drain_timeout_s=25) as server:
        server.deploy("identity", onnx_files.identity("FP32"), tmp_path)
        with socket.create_connection((server.host, server.port), timeout=20) as client:
            client.sendall(sent[:-20])
            server.process.send_signal(signal.SIGTERM)
            server.until("state_changed", state="DRAINING")
            for at in range(len(sent) - 20, len(sent) - 1):
                client.sendall(sent[at : at + 1])
                client.settimeout(0.15)
                with pytest.raises(TimeoutError):
                    client.recv(1)
            client.settimeout(20)
            client.sendall(sent[-1:])
            reply = client.makefile("rb")
            with reply:
                assert reply.readline().startswith(b"HTTP/1.1 200")
                assert left_of(reply) == 0
        assert server.process.wait(10) == 0


@pytest.mark.parametrize("before", [0, 1, 5], ids=["new", "kept", "often used"])
def test_an_idle_connection_gets_one_more_answer_that_says_it_is_the_last(tmp_path: Path, before: int) -> None:
    """So that a client whose next request is on its way loses nothing and goes elsewhere; readiness says no at once."""
    request = b"GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n"
    with (
        serving(tmp_path / "data", lanes=1, drain_timeout_s=25) as server,
        socket.create_connection((server.host, server.port), timeout=5) as client,
        client.makefile("rb") as reply,
    ):
        for _ in range(before):
            client.sendall(request)
            assert b"\r\nconnection: close" not in client.recv(65_536)
        server.process.send_signal(signal.SIGTERM)
        server.until("state_changed", state="DRAINING")
        while is_listening(server):
            pass
        client.sendall(request)
        assert reply.readline().startswith(b"HTTP/1.1 503")
        assert b"connection: close\r\n" in list(reply)
        assert server.process.wait(10) == 0


def is_listening(server: Server) -> bool:
    try:
        socket.create_connection((server.host, server.port), timeout=5).close()
    except (ConnectionRefusedError, ConnectionResetError):
        return False
    return True


async def test_an_idle_grpc_channel_does_not_hold_it_up(tmp_path: Path) -> None:
    """It is told to go, and goes."""
    with serving(tmp_path / "data", lanes=1, drain_timeout_s=25) as server:
        async with aio.insecure_channel(server.data) as channel:
            assert (await GRPCInferenceServiceStub(channel).ServerReady(pb.ServerReadyRequest())).ready
            server.process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(stopped(server), 10) == 0


@pytest.mark.timeout(60)
async def test_everything_is_back_after_kill_9_under_load(tmp_path: Path) -> None:
    """Models, versions and deployments, and their answers; what was undeployed stays away."""
    with serving(tmp_path / "data", lanes=1) as server:
        server.deploy("kept", onnx_files.identity("FP32"), tmp_path)
        server.deploy("kept", onnx_files.identity("FP32", width=1), tmp_path)
        server.deploy("tagged", onnx_files.tagged(), tmp_path)
        server.deploy("gone", onnx_files.identity("FP32"), tmp_path)
        with server.client() as client:
            client.get_pipeline("gone").undeploy()
        async with aio.insecure_channel(server.data) as channel:
            stub = GRPCInferenceServiceStub(channel)
            calls = [stub.ModelInfer(one_row("kept", number)) for number in range(200)]
            server.kill()
            await asyncio.gather(*calls, return_exceptions=True)
    with serving(tmp_path / "data", lanes=1) as server, server.client() as client:
        async with aio.insecure_channel(server.data) as channel:
            stub = GRPCInferenceServiceStub(channel)
            reply = await stub.ModelInfer(one_row("kept", 7))
            index = await stub.RepositoryIndex(pb.RepositoryIndexRequest())
        versions = [model.version() for model in client.get_model("kept").versions()]
    assert (value_of(reply), reply.model_version) == (7.0, "2")
    assert sorted(str(version) for version in versions) == ["1", "2"]
    assert {(model.name, model.state) for model in index.models} == {
        ("kept", "READY"),
        ("tagged", "READY"),
        ("gone", "UNAVAILABLE"),
    }


def test_a_taken_port_is_told_in_one_line(tmp_path: Path) -> None:
    """With its number and what to do; the exit code is not 0."""
    import subprocess
    import sys

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        others = ["--control-port", "0", "--metrics-port", "0", "--data", str(tmp_path / "d")]
        command = [str(Path(sys.executable).with_name("bettong")), "up", "--port", str(port), *others]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode != 0
    assert "in use" in ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if str(port) in line]
    assert line.count("choose another port") == 1
    assert "Traceback" not in ended.stderr


def test_a_locked_data_folder_is_told_in_one_line(tmp_path: Path) -> None:
    """With the process that holds it; the one that runs is not harmed."""
    import subprocess
    import sys

    with serving(tmp_path / "data", lanes=1) as server:
        command = [
            str(Path(sys.executable).with_name("bettong")),
            "up",
            "--port",
            "0",
            "--data",
            str(tmp_path / "data"),
        ]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        assert ended.returncode != 0
        (line,) = ended.stderr.strip().splitlines()
        assert str(server.process.pid) in line
        assert httpx.get(f"{server.url}/readyz").status_code == 200


@pytest.mark.timeout(120)
def test_starts_and_kills_in_a_row_leave_a_working_folder(tmp_path: Path) -> None:
    """Killed at random moments of its start, with changes in between."""
    import random

    seed = 5
    choose = random.Random(seed)
    with serving(tmp_path / "data", lanes=1) as server:
        for number in range(5):
            server.deploy(f"model-{number}", onnx_files.identity("FP32", width=1), tmp_path)
        server.kill()
    kills = 0
    for _ in range(8):
        server = spawn(tmp_path / "data")
        try:
            server.process.wait(choose.uniform(0.1, 0.7))
        except TimeoutExpired:
            kills += 1
        server.forget()
    print(f"seed {seed}: {kills} kills in the start")
    assert kills == 8
    with serving(tmp_path / "data", lanes=1) as server:
        for number in range(5):
            reply = httpx.post(
                f"{server.url}/v2/models/model-{number}/infer",
                json={"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [number]}]},
            )
            assert np.array(reply.json()["outputs"][0]["data"]).tolist() == [number]
