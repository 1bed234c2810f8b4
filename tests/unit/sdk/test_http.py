"""Connections to the data port, against a real socket."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import bettong
from bettong._http import HttpPool, parse_endpoint

Handler = Callable[[socket.socket, int], None]
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nX-Kind: a\r\n\r\nok"


class Listener:
    """A server that does with each connection what the test says."""

    def __init__(self, handler: Handler) -> None:
        self.requests: list[bytes] = []
        self._handler = handler
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        for number in range(1_000):
            connection, _ = self._socket.accept()
            with connection:
                if connection.recv(1, socket.MSG_PEEK) == b"\x00":
                    return
                self._handler(connection, number)

    def stop(self) -> None:
        """End the thread; a connection that begins with a null byte says so."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(b"\x00")
            self._thread.join()
        self._socket.close()

    def read(self, connection: socket.socket) -> bytes:
        """Read one request and keep it."""
        received = b""
        while b"\r\n\r\n" not in received:
            part = connection.recv(65_536)
            if not part:
                return b""
            received += part
        head, _, body = received.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        length = int(lengths[0].split(b":")[1]) if lengths else 0
        while len(body) < length:
            body += connection.recv(1 << 20)
        self.requests.append(head + b"\r\n\r\n" + body)
        return body


@contextmanager
def listening(handler: Callable[[Listener, socket.socket, int], None]) -> Iterator[tuple[Listener, HttpPool]]:
    """Listen, with a pool of connections to it."""
    listener = Listener(lambda connection, number: handler(listener, connection, number))
    pool = HttpPool(parse_endpoint(f"http://127.0.0.1:{listener.port}"))
    try:
        yield listener, pool
    finally:
        pool.close()
        listener.stop()


def answer_all(listener: Listener, connection: socket.socket, number: int) -> None:
    """Answer every request of a connection."""
    del number
    while listener.read(connection) or listener.requests[-1:]:
        try:
            connection.sendall(ANSWER)
            if not connection.recv(1, socket.MSG_PEEK):
                return
        except OSError:
            return


def test_connection_is_kept_for_the_next_request() -> None:
    """Two requests share one connection."""
    numbers: list[int] = []

    def handler(listener: Listener, connection: socket.socket, number: int) -> None:
        numbers.append(number)
        answer_all(listener, connection, number)

    with listening(handler) as (_, pool):
        for _ in range(2):
            reply = pool.post("/x", "", pieces=[b"body"], timeout_s=5)
            assert (reply.status, reply.body, reply.headers["x-kind"]) == (200, b"ok", "a")
    assert numbers == [0]


def test_request_says_what_it_must() -> None:
    """Path, host, length and the caller's time are in the head."""
    with listening(answer_all) as (listener, pool):
        pool.post("/v1/x?y=z", "accept: a/b\r\n", pieces=[b"one", b"two"], timeout_s=5)
        head, _, body = listener.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v1/x?y=z HTTP/1.1"
    assert f"host: 127.0.0.1:{listener.port}" in lines
    assert "content-length: 6" in lines
    assert "accept: a/b" in lines
    assert 4_000 < int(next(line for line in lines if line.startswith("x-request-timeout-ms")).split()[1]) <= 5_000
    assert body == b"onetwo"


def test_big_body_of_many_pieces_arrives_whole() -> None:
    """More pieces than the kernel takes at once, of all sizes, arrive in order."""
    pieces = [bytes([number % 256]) * (number * 37 % 5_000) for number in range(3_000)]
    with listening(answer_all) as (listener, pool):
        pool.post("/x", "", pieces=pieces, timeout_s=20)
        assert listener.requests[0].partition(b"\r\n\r\n")[2] == b"".join(pieces)


def test_connection_that_the_server_closed_meanwhile_is_replaced() -> None:
    """A kept connection that turns out to be closed costs the caller nothing."""

    def answer_one(listener: Listener, connection: socket.socket, number: int) -> None:
        del number
        listener.read(connection)
        connection.sendall(ANSWER)

    with listening(answer_one) as (listener, pool):
        for _ in range(3):
            assert pool.post("/x", "", pieces=[b"body"], timeout_s=5).body == b"ok"
        assert len(listener.requests) == 3


def test_fresh_connection_that_breaks_is_not_tried_again() -> None:
    """A server that hangs up on a new connection is reported, not asked twice."""
    numbers: list[int] = []

    def hang_up(listener: Listener, connection: socket.socket, number: int) -> None:
        numbers.append(number)
        listener.read(connection)

    with listening(hang_up) as (_, pool), pytest.raises(bettong.UnreachableError, match="connection to .* failed"):
        pool.post("/x", "", pieces=[b"body"], timeout_s=5)
    assert numbers == [0]


def test_silence_ends_at_the_deadline() -> None:
    """A server that does not answer costs the time that was given, and the error says which."""
    released = threading.Event()

    def wait(listener: Listener, connection: socket.socket, number: int) -> None:
        del number
        listener.read(connection)
        released.wait(10)

    with listening(wait) as (_, pool):
        with pytest.raises(bettong.DeadlineError, match=r"within 0\.05 s") as caught:
            pool.post("/x", "", pieces=[b"body"], timeout_s=0.05)
        released.set()
    assert isinstance(caught.value, TimeoutError)


def test_nobody_listens_names_the_way_out() -> None:
    """The error is one line that says how to start a server."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(bettong.UnreachableError) as caught:
        HttpPool(parse_endpoint(f"127.0.0.1:{port}")).get("/", timeout_s=5)
    assert "bettong up" in str(caught.value)
    assert f"http://127.0.0.1:{port}" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://10.0.0.5:8080", "http://10.0.0.5:8080"),
        ("10.0.0.5:9", "http://10.0.0.5:9"),
        ("localhost", "http://localhost:80"),
        ("https://host/base/", "https://host:443/base"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_addresses_are_read(text: str, url: str) -> None:
    """Addresses may be written in short."""
    assert parse_endpoint(text).url == url


@pytest.mark.parametrize("text", ["", "ftp://host", "http://", "http://host:99999", "http://host:port"])
def test_what_is_no_address_is_refused(text: str) -> None:
    """A wrong address is refused with what was expected."""
    with pytest.raises(bettong.InvalidInputError, match="expected http://HOST:PORT"):
        parse_endpoint(text)


def test_an_answer_in_another_protocol_is_not_shown() -> None:
    """A control port answers in HTTP/2, bytes that no terminal should get."""

    def answer(listener: Listener, connection: socket.socket, _number: int) -> None:
        listener.read(connection)
        connection.sendall(b"\x00\x00\x18\x04\x00\x1b\x07")

    with listening(answer) as (_, pool), pytest.raises(bettong.UnreachableError, match="the answer is not HTTP/1.1$"):
        pool.get("/", timeout_s=10)


def test_a_pool_that_is_shut_asks_nothing() -> None:
    """A closed client does not answer from connections that it opens again."""
    with listening(answer_all) as (listener, pool):
        pool.get("/", timeout_s=10)
        pool.shut()
        with pytest.raises(bettong.UnreachableError, match="this client is closed"):
            pool.get("/", timeout_s=10)
        assert len(listener.requests) == 1


def test_tls_to_a_plain_port_says_so() -> None:
    """The message names the address that was meant."""

    def answer(_listener: Listener, connection: socket.socket, _number: int) -> None:
        connection.recv(65_536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    with listening(answer) as (listener, _):
        pool = HttpPool(parse_endpoint(f"https://127.0.0.1:{listener.port}"))
        with pytest.raises(
            bettong.UnreachableError, match=f"does not speak TLS; did you mean http://127.0.0.1:{listener.port}"
        ):
            pool.get("/", timeout_s=10)


def test_an_address_is_a_text() -> None:
    """A port alone is no address."""
    with pytest.raises(bettong.InvalidInputError, match="such as http://127.0.0.1:8080, got 8080"):
        parse_endpoint(8080)  # type: ignore[arg-type]
