"""HTTP/1.1 to the data port: kept connections, bodies in pieces that are never joined."""

import contextlib
import http.client
import os
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from bettong._errors import DeadlineError, InvalidInputError, UnreachableError

if TYPE_CHECKING:
    from typing_extensions import Buffer

CLOSED = "this client is closed; make another with bettong.Client()"

_MOST_IDLE = 64
"""Connections kept open for the next request; more are closed after use."""

_PIECES_A_CALL = 512
"""Buffers handed to the kernel at once; Linux takes 1,024."""

_JOIN_BELOW_BYTES = 64 * 1024
"""A request that is smaller leaves in one packet; joining costs less than the kernel's look at each piece."""


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A whole reply; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the server listens."""

    host: str
    port: int
    is_tls: bool = False
    path: str = ""
    """Prefix of every path, without a slash at its end."""

    @property
    def url(self) -> str:
        """The address as a user writes it."""
        return f"{'https' if self.is_tls else 'http'}://{self.authority}{self.path}"

    @property
    def authority(self) -> str:
        """Host and port."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def parse_endpoint(url: str) -> Endpoint:
    """Read an address such as `http://127.0.0.1:8080` or `10.0.0.5:8080`.

    Raises:
        InvalidInputError: It is no such address.
    """
    if not isinstance(url, str):
        raise InvalidInputError(
            f"api_endpoint must be the address of a server, such as http://127.0.0.1:8080, got {url!r}",
            field="api_endpoint",
        )
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == -1:
        raise InvalidInputError(f"'{url}' is no address of a server; expected http://HOST:PORT", field="api_endpoint")
    is_tls = parts.scheme == "https"
    return Endpoint(parts.hostname, port or (443 if is_tls else 80), is_tls, parts.path.rstrip("/"))


class HttpPool:
    """Connections to one endpoint, for use by many threads; a forked child opens its own."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._idle: deque[_Connection] = deque(maxlen=_MOST_IDLE)
        self._pid = os.getpid()
        self._is_shut = False
        self._tls = ssl.create_default_context() if endpoint.is_tls else None

    def get(self, path: str, *, timeout_s: float) -> HttpReply:
        """Ask for *path*; the errors are those of `post`."""
        return self._exchange(f"GET {self.endpoint.path}{path} HTTP/1.1\r\n", (), timeout_s)

    def post(self, path: str, headers: str, *, pieces: "Sequence[Buffer]", timeout_s: float) -> HttpReply:
        r"""Send a body in pieces and wait for the reply.

        Args:
            path: Path and query.
            headers: Header lines, each ended by `\r\n`.
            pieces: The body.
            timeout_s: Time for everything; the server is told too.

        Raises:
            UnreachableError: Nobody listens or the connection broke.
            DeadlineError: The time is over.
        """
        size_bytes = sum(memoryview(piece).nbytes for piece in pieces)
        start = (
            f"POST {self.endpoint.path}{path} HTTP/1.1\r\n{headers}content-length: {size_bytes}\r\n"
            f"x-request-timeout-ms: {max(1, int(timeout_s * 1000))}\r\n"
        )
        return self._exchange(start, pieces, timeout_s)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that nobody uses at the moment."""
        while self._idle:
            with contextlib.suppress(IndexError):
                self._idle.pop().close()

    def shut(self) -> None:
        """Ask nothing from now on; requests that are under way are answered."""
        self._is_shut = True
        self.close()

    def _exchange(self, start: str, pieces: "Sequence[Buffer]", timeout_s: float) -> HttpReply:
        if self._is_shut:
            raise UnreachableError(CLOSED)
        head = f"{start}host: {self.endpoint.host}:{self.endpoint.port}\r\n\r\n".encode("latin-1")
        deadline_s = time.monotonic() + timeout_s
        with self._translated(timeout_s):
            kept = self._take_kept()
            if kept is not None:
                # The server may have closed a connection that was idle; inference has no effects, so ask once more.
                with contextlib.suppress(ConnectionError, http.client.RemoteDisconnected):
                    return self._run(kept, head, pieces, deadline_s)
            connection = _Connection(self.endpoint, self._tls, deadline_s)
            return self._run(connection, head, pieces, deadline_s)

    def _run(self, connection: "_Connection", head: bytes, pieces: "Sequence[Buffer]", deadline_s: float) -> HttpReply:
        try:
            connection.send(head, pieces, deadline_s)
            reply, can_be_kept = connection.receive(deadline_s)
        except BaseException:
            connection.close()
            raise
        if can_be_kept and not self._is_shut and len(self._idle) < _MOST_IDLE:
            self._idle.append(connection)
        else:
            connection.close()
        return reply

    def _take_kept(self) -> "_Connection | None":
        if self._pid != os.getpid():
            # The parent owns these sockets; closing our copies does not disturb it.
            self.close()
            self._pid = os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return None

    @contextlib.contextmanager
    def _translated(self, timeout_s: float) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise DeadlineError(f"no answer from {self.endpoint.url} within {timeout_s:g} s") from error
        except ConnectionRefusedError as error:
            raise UnreachableError(nobody_listens(self.endpoint)) from error
        except ssl.SSLError as error:
            raise UnreachableError(_no_tls(self.endpoint, error)) from error
        except (OSError, http.client.HTTPException) as error:
            # The line of a status that is none may be anything but text.
            reason = "the answer is not HTTP/1.1" if speaks_no_http(error) else str(error) or type(error).__name__
            raise UnreachableError(f"the connection to {self.endpoint.url} failed: {reason}") from error


def speaks_no_http(error: BaseException | None) -> bool:
    """Return whether whoever listens has answered, but in another protocol."""
    return isinstance(error, http.client.BadStatusLine) and not isinstance(error, ConnectionError)


def nobody_listens(endpoint: Endpoint) -> str:
    """Return what to tell a user whose server does not run."""
    return (
        f"nobody listens at {endpoint.url}; start a server with `bettong up` "
        "(or use `bettong.up()` here), or name another in BETTONG_URL"
    )


def _no_tls(endpoint: Endpoint, error: ssl.SSLError) -> str:
    if error.reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"}:
        return f"{endpoint.url} does not speak TLS; did you mean http://{endpoint.authority}?"
    return f"no TLS connection to {endpoint.url}: {error.reason or error}"


class _Connection:
    """One connection; writes pieces as they are, leaves the reading of replies to the standard library."""

    def __init__(self, endpoint: Endpoint, tls: ssl.SSLContext | None, deadline_s: float) -> None:
        plain = socket.create_connection((endpoint.host, endpoint.port), timeout=_remaining_s(deadline_s))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = plain if tls is None else tls.wrap_socket(plain, server_hostname=endpoint.host)
        self._is_tls = tls is not None

    def send(self, head: bytes, pieces: "Sequence[Buffer]", deadline_s: float) -> None:
        self._socket.settimeout(_remaining_s(deadline_s))
        views = [memoryview(head), *(memoryview(piece).cast("B") for piece in pieces)]
        if self._is_tls or sum(view.nbytes for view in views) < _JOIN_BELOW_BYTES:
            self._socket.sendall(b"".join(views))
            return
        while views:
            self._socket.settimeout(_remaining_s(deadline_s))
            views = _after(views, self._socket.sendmsg(views[:_PIECES_A_CALL]))

    def receive(self, deadline_s: float) -> tuple[HttpReply, bool]:
        """Return the reply and whether the connection can serve another request."""
        self._socket.settimeout(_remaining_s(deadline_s))
        response = http.client.HTTPResponse(self._socket)
        try:
            response.begin()
            body = response.read()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return HttpReply(response.status, headers, body), not response.will_close
        finally:
            response.close()

    def close(self) -> None:
        self._socket.close()


def _after(views: list[memoryview], sent: int) -> list[memoryview]:
    """Return what is left of *views* when that many bytes are gone."""
    for position, view in enumerate(views):
        if sent < view.nbytes:
            return [view[sent:], *views[position + 1 :]]
        sent -= view.nbytes
    return []


def _remaining_s(deadline_s: float) -> float:
    remaining_s = deadline_s - time.monotonic()
    if remaining_s <= 0:
        raise TimeoutError
    return remaining_s
