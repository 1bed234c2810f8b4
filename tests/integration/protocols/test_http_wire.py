"""HTTP/1.1 as it is on the wire: what well-behaved clients do, and what others try."""

import contextlib
import gzip
import json
import re
import socket
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from servers import Server

WAIT_S = 10
PATH = "/v2/models/identity-fp32/infer"
TAGGED_RECORDS = b'[{"tag": [1, 0], "x": [1, 2, 3]}]'
BODY = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}'


@dataclass
class Reply:
    """One HTTP/1.1 reply."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.body)
        return found


class Wire:
    """A connection on which a test writes what it likes."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._input = connection.makefile("rb")

    def send(self, *parts: str | bytes) -> None:
        self.connection.sendall(b"".join(part.encode() if isinstance(part, str) else part for part in parts))

    def reply(self, *, head_only: bool = False) -> Reply:
        line = self._input.readline()
        assert line.startswith(b"HTTP/1.1 "), line
        headers = {}
        while (header := self._input.readline().strip()) != b"":
            name, _, value = header.decode().partition(":")
            assert name.lower() not in headers, f"{name} comes twice"
            headers[name.lower()] = value.strip()
        status = int(line.split()[1])
        length = 0 if head_only or status == 100 else int(headers["content-length"])
        return Reply(status, headers, self._input.read(length))

    def is_closed(self) -> bool:
        """Whether the server has ended the connection; waits for it or for more to come."""
        try:
            return self._input.read(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self._input.close()
        self.connection.close()


@contextlib.contextmanager
def connected(address: str) -> Iterator[Wire]:
    host, _, port = address.rpartition(":")
    wire = Wire(socket.create_connection((host, int(port)), timeout=WAIT_S))
    try:
        yield wire
    finally:
        wire.close()


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    with connected(server.data) as opened:
        yield opened


def post(*headers: str, body: bytes = BODY, path: str = PATH) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: h", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def get(path: str, *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: h", *headers, "", ""]).encode()


def answer(reply: Reply) -> list[float]:
    assert reply.status == 200, reply.body
    (output,) = json.loads(reply.body)["outputs"]
    return list(output["data"])


def test_a_connection_serves_many_requests(wire: Wire) -> None:
    """It stays open after success and after an error of the request."""
    for _ in range(3):
        wire.send(post())
        assert answer(wire.reply()) == [1, 2, 3, 4]
        wire.send(post(body=b"{"))
        assert wire.reply().status == 400


def test_pipelined_requests_are_answered_in_order(wire: Wire) -> None:
    """Even if all are sent before the first answer."""
    bodies = [BODY.replace(b"1,2,3,4", f"{number},2,3,4".encode()) for number in range(50)]
    wire.send(*(post(body=body) for body in bodies))
    assert [answer(wire.reply())[0] for _ in bodies] == list(range(50))


def test_a_request_may_come_byte_by_byte(wire: Wire) -> None:
    """No cut confuses the parser."""
    wire.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in post():
        wire.send(bytes([byte]))
    assert answer(wire.reply()) == [1, 2, 3, 4]


def chunked(body: bytes, size: int, *, extension: str = "", trailer: str = "") -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    chunks = b"".join(f"{len(piece):X}{extension}\r\n".encode() + piece + b"\r\n" for piece in pieces)
    return chunks + f"0\r\n{trailer}\r\n".encode()


CHUNKED_HEAD = f"POST {PATH} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_chunked_bodies_are_read(wire: Wire, size: int) -> None:
    """Of any chunk size, with extensions and trailers, and the next request follows."""
    wire.send(CHUNKED_HEAD, chunked(BODY, size, extension=";a=b", trailer="X-Sum: 1\r\n"), post())
    assert answer(wire.reply()) == [1, 2, 3, 4]
    assert answer(wire.reply()) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\nabc\r\n0\r\n\r\n",
        b"-1\r\na\r\n0\r\n\r\n",
        b"3\r\nabcdef\r\n0\r\n\r\n",
        b"FFFFFFFFFFFFFFFFF\r\n",
        b"\r\n\r\n",
        b"3;a=b\nxyz\r\nabc\r\n0\r\n\r\n",
    ],
)
def test_bad_chunks_are_refused_and_the_connection_ends(wire: Wire, body: bytes) -> None:
    """What follows can't be told apart from a body."""
    wire.send(CHUNKED_HEAD, body)
    assert wire.reply().status == 400
    assert wire.is_closed()


def test_expect_continue_is_granted_before_the_body(wire: Wire) -> None:
    """The client sends its body only after it."""
    head, _, body = post("Expect: 100-continue").partition(b"\r\n\r\n")
    wire.send(head, b"\r\n\r\n")
    assert wire.reply().status == 100
    wire.send(body)
    assert answer(wire.reply()) == [1, 2, 3, 4]


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(wire: Wire) -> None:
    """A client that waits for 100 gets 413 instead."""
    wire.send(f"POST {PATH} HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n")
    reply = wire.reply()
    assert reply.status == 413
    assert reply.headers["connection"] == "close"
    assert wire.is_closed()


@pytest.mark.parametrize(
    "path", ["/v2/health/live", "/v2", "/v2/models/tagged", "/healthz", "/readyz", "/openapi.json"]
)
def test_head_is_get_without_the_body(wire: Wire, path: str) -> None:
    """Same status and length, and the connection is in step afterwards."""
    wire.send(get(path), get(path, method="HEAD"), get("/healthz"))
    full, head, after = wire.reply(), wire.reply(head_only=True), wire.reply()
    assert (full.status, full.headers["content-length"]) == (200, head.headers["content-length"])
    assert len(full.body) > 0
    assert after.status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", PATH),
        ("PUT", PATH),
        ("DELETE", "/v2/models/tagged"),
        ("POST", "/v2/health/ready"),
        ("GET", "/v2/repository/index"),
        ("GET", "/v1/pipelines/tagged/infer"),
        ("POST", "/healthz"),
        ("OPTIONS", "/v2"),
    ],
)
def test_a_method_that_is_not_there_is_told_with_those_that_are(wire: Wire, method: str, path: str) -> None:
    """405 must come with `Allow` (RFC 9110, 15.5.6)."""
    wire.send(get(path, method=method))
    reply = wire.reply()
    assert reply.status == 405
    assert "allow" in reply.headers
    assert "error" in reply.json()


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nothing",
        "/v2/nothing",
        "/v2/models",
        "/v2/models/",
        "/v2/models/tagged/nothing",
        "/v2/../v1",
        "//v2",
        "/v1",
        "*",
    ],
)
def test_unknown_paths_are_not_found(wire: Wire, path: str) -> None:
    """With a JSON error."""
    wire.send(get(path))
    reply = wire.reply()
    assert reply.status == 404
    assert "error" in reply.json()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param("Content-Length: 5\r\nContent-Length: 6", 400, id="two lengths"),
        pytest.param("Content-Length: 5, 6", 400, id="list of lengths"),
        pytest.param("Content-Length: +5", 400, id="signed length"),
        pytest.param("Content-Length: 0x5", 400, id="hexadecimal length"),
        pytest.param("Content-Length: 5 5", 400, id="length with a blank"),
        pytest.param("Content-Length: -1", 400, id="negative length"),
        pytest.param("Content-Length: 18446744073709551621", 400, id="length that overflows"),
        pytest.param("Content-Length: 5\r\nTransfer-Encoding: chunked", 400, id="length and chunks"),
        pytest.param("Transfer-Encoding: chunked\r\nContent-Length: 5", 400, id="chunks and length"),
        pytest.param("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400, id="chunks twice"),
        pytest.param("Transfer-Encoding: chunked, identity", 501, id="chunks not last"),
        pytest.param("Transfer-Encoding: xchunked", 501, id="something like chunks"),
        pytest.param("Transfer-Encoding: \x0bchunked", 400, id="vertical tab before chunks"),
        pytest.param("Transfer-Encoding : chunked", 400, id="blank before the colon"),
        pytest.param("Transfer-Encoding:\r\n chunked", 400, id="folded line"),
        pytest.param("Content-Length: 5\r\n X: y", 400, id="folded length"),
        pytest.param("Content-Length: 5\nX: y\x00", 400, id="zero byte"),
        pytest.param("Content-Length\x00: 5", 400, id="zero byte in a name"),
        pytest.param("X: a\rContent-Length: 5", 400, id="bare CR"),
    ],
)
def test_ambiguous_framing_is_refused_and_nothing_behind_it_is_served(wire: Wire, headers: str, status: int) -> None:
    """A proxy may see another end of the body; so the connection ends, and no smuggled request is answered."""
    wire.send(f"POST {PATH} HTTP/1.1\r\nHost: h\r\n{headers}\r\n\r\n", "0\r\n\r\n", get("/healthz"))
    assert wire.reply().status == status
    assert wire.is_closed()


@pytest.mark.parametrize(
    "line",
    [
        "GET /healthz HTTP/1.1",
        "GET  /healthz HTTP/1.1\r\nHost: h",
        "GET /healthz HTTP/9.9\r\nHost: h",
        "GET\r\nHost: h",
    ],
    ids=["no host", "two blanks", "version", "no path"],
)
def test_heads_that_are_no_http_are_refused(wire: Wire, line: str) -> None:
    """With 400 (505 for a version), and the connection ends."""
    wire.send(f"{line}\r\n\r\n")
    assert wire.reply().status in {400, 505}
    assert wire.is_closed()


def test_two_hosts_are_refused(wire: Wire) -> None:
    """RFC 9112, 3.2: a request with more than one Host is answered with 400."""
    wire.send(get("/healthz", "Host: other"))
    assert wire.reply().status == 400


def test_bytes_of_another_protocol_are_refused(wire: Wire) -> None:
    """A TLS hello, for example."""
    wire.send(bytes.fromhex("16030100a5010000a10303") + b"\x00" * 60)
    assert wire.reply().status == 400
    assert wire.is_closed()


@pytest.mark.parametrize("header", ["X-Long: " + "a" * 70_000, "\r\n".join(f"X-{number}: a" for number in range(150))])
def test_a_head_that_is_too_large_is_refused(wire: Wire, header: str) -> None:
    """431 tells that it is the head (RFC 6585), 413 is understood too."""
    wire.send(f"GET /healthz HTTP/1.1\r\nHost: h\r\n{header}\r\n\r\n")
    assert wire.reply().status in {413, 431}
    assert wire.is_closed()


def test_a_connection_ends_when_the_client_asks_for_it(wire: Wire) -> None:
    """After the reply, which says so too."""
    wire.send(post("Connection: close"))
    reply = wire.reply()
    assert answer(reply) == [1, 2, 3, 4]
    assert reply.headers["connection"] == "close"
    assert wire.is_closed()


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("request_", [post(), post(path="/v1/pipelines/tagged/infer", body=TAGGED_RECORDS)])
def test_a_client_that_sends_no_more_still_gets_its_replies(server: Server, request_: bytes, count: int) -> None:
    """Its half of the connection ends right behind its requests; all are answered, then the other half ends, too."""
    for _ in range(20):
        with connected(server.data) as wire:
            wire.send(request_ * count)
            wire.connection.shutdown(socket.SHUT_WR)
            for _ in range(count):
                reply = wire.reply()
                # Asks whether it still reads, which every client reads over.
                assert (reply if reply.status != 100 else wire.reply()).status == 200
            assert wire.is_closed()


def test_a_client_of_http_1_0_is_served(wire: Wire) -> None:
    """Its connection ends unless it asks for more."""
    wire.send(get("/healthz", "Connection: keep-alive", version="1.0"))
    reply = wire.reply()
    assert reply.status == 200
    assert reply.headers.get("connection", "").lower() == "keep-alive"
    wire.send(get("/healthz", version="1.0"))
    assert wire.reply().status == 200
    assert wire.is_closed()


def test_trace_context_and_request_id_come_back(wire: Wire) -> None:
    """With success and with failure."""
    sent = {
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "tracestate": "a=1,b=2",
        "x-request-id": "r-1",
    }
    headers = [f"{name.title()}: {value}" for name, value in sent.items()]
    wire.send(post(*headers), post(*headers, body=b"{"), get("/nothing", *headers))
    for status in (200, 400, 404):
        reply = wire.reply()
        assert reply.status == status
        assert sent.items() <= reply.headers.items()


def test_a_failed_request_without_an_id_is_given_one(wire: Wire) -> None:
    """So that its log line can be found."""
    wire.send(post(body=b"{"), post(body=b"{"))
    first, second = wire.reply(), wire.reply()
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


def test_a_traced_request_without_an_id_is_called_by_its_trace(wire: Wire) -> None:
    """One name in the trace viewer and in the logs."""
    wire.send(post("Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"))
    assert wire.reply().headers["x-request-id"] == "4bf92f3577b34da6a3ce929d0e0e4736"


def test_a_header_can_not_be_split_by_an_echoed_value(wire: Wire) -> None:
    """Control characters in a value that comes back never begin a header of their own."""
    wire.send(get("/healthz", "X-Request-Id: a\rSet-Cookie: b"))
    reply = wire.reply()
    assert "set-cookie" not in reply.headers


def test_an_absolute_target_is_understood(wire: Wire) -> None:
    """As proxies send it."""
    wire.send(get("http://example.org/healthz?a=b"))
    assert wire.reply().status == 200


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)],
)
def test_encoded_bodies_are_read(wire: Wire, encoding: str, pack: "type[bytes]") -> None:
    """In the encodings that clients use."""
    wire.send(post(f"Content-Encoding: {encoding}", body=pack(BODY)))
    assert answer(wire.reply()) == [1, 2, 3, 4]


def test_encodings_that_are_not_read_are_refused(wire: Wire) -> None:
    """415 says that the encoding is at fault."""
    wire.send(post("Content-Encoding: br"), post("Content-Encoding: gzip"))
    assert wire.reply().status == 415
    assert wire.reply().status == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"inputs":{}}',
        b'{"inputs":[]}',
        b'{"inputs":[{}]}',
        b'{"inputs":[{"name":"x"}]}',
        BODY[:-1],
        BODY + b"x",
        BODY + BODY,
        BODY.replace(b"[1,4]", b"[1.5,4]"),
        BODY.replace(b"[1,4]", b'["1","4"]'),
        BODY.replace(b"[1,4]", b"[-1,4]"),
        BODY.replace(b"[1,4]", b"[4294967296,4294967296]"),
        BODY.replace(b"[1,2,3,4]", b"[[1,2],[3,4]]").replace(b"[1,4]", b"[2,2]"),
        BODY.replace(b"[1,2,3,4]", b"[[1,2,3],[4]]"),
        BODY.replace(b"[1,2,3,4]", b"[[1,2,3,4]"),
        BODY.replace(b"[1,2,3,4]", b"1"),
        BODY.replace(b"[1,2,3,4]", b"null"),
        BODY.replace(b"[1,2,3,4]", b"[01,2,3,4]"),
        BODY.replace(b"[1,2,3,4]", b"[1.,2,3,4]"),
        BODY.replace(b"[1,2,3,4]", b"[1e999,2,3,4]"),
        BODY.replace(b"[1,2,3,4]", b"[1,2,3,4,]"),
        BODY.replace(b'"FP32"', b'"FP33"'),
        BODY.replace(b'"x"', b'"\xff"'),
        BODY.replace(b'"x"', b'"\\ud800"'),
        b"[" * 100_000,
        b'{"inputs":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        BODY.replace(b"[1,2,3,4]", b"[" * 5_000 + b"1" + b"]" * 5_000),
    ],
    ids=lambda body: body[:40].decode(errors="replace") + f"…{len(body)}",
)
def test_bodies_that_are_wrong_are_refused(wire: Wire, body: bytes) -> None:
    """With 400 and a reason, whatever is wrong; the connection goes on."""
    wire.send(post(body=body), get("/healthz"))
    reply = wire.reply()
    assert reply.status == 400, reply.body
    assert len(str(reply.json()["error"])) > 5
    assert wire.reply().status == 200


@pytest.mark.parametrize("length", ["-1", "abc", "99999", str(len(BODY) + 1), "0", "10"])
def test_a_wrong_length_of_the_json_part_is_refused(wire: Wire, length: str) -> None:
    """It must be a number and within the body, and the part before it must be JSON."""
    wire.send(post(f"Inference-Header-Content-Length: {length}"))
    assert wire.reply().status == 400


@pytest.mark.parametrize("size", [0, 15, 17, 1 << 40, -16, "16", 16.5])
def test_a_wrong_size_of_a_binary_tensor_is_refused(wire: Wire, size: object) -> None:
    """By name; it must fit the shape and the body."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": size}}
    text = json.dumps({"inputs": [tensor]}).encode()
    wire.send(post(f"Inference-Header-Content-Length: {len(text)}", body=text + bytes(16)))
    reply = wire.reply()
    assert reply.status == 400
    assert re.search("x|binary_data_size", str(reply.json()["error"]))


def test_binary_data_that_nobody_claims_is_refused(wire: Wire) -> None:
    """Something was sent that would be lost."""
    wire.send(post(f"Inference-Header-Content-Length: {len(BODY)}", body=BODY + b"rest"))
    assert wire.reply().status == 400


@pytest.mark.parametrize("timeout", ["-1", "abc", "1.5", ""])
def test_a_wrong_time_out_is_refused(wire: Wire, timeout: str) -> None:
    """It names the header."""
    wire.send(post(f"X-Request-Timeout-Ms: {timeout}"))
    reply = wire.reply()
    assert reply.status == 400
    assert "x-request-timeout-ms" in str(reply.json()["error"]).lower()


def test_the_metrics_port_speaks_the_same_http(server: Server) -> None:
    """HEAD is GET without the body, however long the page is; other paths are not there."""
    with connected(server.metrics) as wire:
        wire.send(get("/metrics", method="HEAD"), get("/metrics"), get("/nothing"))
        head, page, other = wire.reply(head_only=True), wire.reply(), wire.reply()
    assert (head.status, page.status, other.status) == (200, 200, 404)
    assert int(head.headers["content-length"]) > 16_384
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert b"# TYPE bettong_requests_total counter" in page.body
