"""Ask a server once and compare its answer with ONNX Runtime's."""

import http.client

import grpc
import numpy as np

from bench.calls import Call, Reply
from bench.workload import Array, Workload

HOST = "127.0.0.1"
_OK = 200
_TOLERANCE = 1e-4
_TIMEOUT_S = 30.0


class WrongAnswerError(Exception):
    """A server answers something else than the model does."""


def check(call: Call, port: int, workload: Workload) -> None:
    """Make *call* once and compare all outputs of every message.

    Raises:
        WrongAnswerError: A value is missing or differs.
        OSError: The server does not answer.
        grpc.RpcError: It refuses.
    """
    expected = _flat(workload.expected(call.rows))
    for reply in ask(call, port):
        found = _flat(call.read(reply))
        if expected.size != found.size or not np.allclose(expected, found, atol=_TOLERANCE):
            raise WrongAnswerError(f"{call.path} gave {found[:4]}…, the model gives {expected[:4]}…")


def _flat(outputs: list[Array]) -> Array:
    """Return all values in one row: some frameworks give several outputs as one."""
    return np.concatenate([output.ravel().astype(np.float64) for output in outputs])


def ask(call: Call, port: int) -> list[Reply]:
    """Make *call* once and return a reply for each of its messages."""
    return _ask_grpc(call, port) if call.is_grpc else [_ask_http(call, port)]


def _ask_grpc(call: Call, port: int) -> list[Reply]:
    with grpc.insecure_channel(f"{HOST}:{port}") as channel:
        if call.messages == 1:
            unary: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(call.path)
            return [Reply(unary(call.body, timeout=_TIMEOUT_S), {})]
        stream: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(call.path)
        bodies = list(stream(iter([call.body] * call.messages), timeout=_TIMEOUT_S))
    if len(bodies) != call.messages:
        raise WrongAnswerError(f"{call.path} answered {len(bodies)} of {call.messages} messages")
    return [Reply(body, {}) for body in bodies]


def _ask_http(call: Call, port: int) -> Reply:
    connection = http.client.HTTPConnection(HOST, port, timeout=_TIMEOUT_S)
    try:
        connection.request("POST", call.path, call.wire_body(), call.headers)
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    if response.status != _OK:
        raise WrongAnswerError(f"{call.path} answered {response.status}: {body[:300]!r}")
    return Reply(body, {name.lower(): value for name, value in response.getheaders()})
