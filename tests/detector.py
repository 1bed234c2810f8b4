"""A load whose every answer shows by itself whether it is the right one: the detector of the fault tests.

Each request carries a number that comes back from the model. So an answer that is lost, doubled, mixed up with another or of no
version shows at once, whatever happened to the processes that it came through.
"""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MODEL = "tagged"
Y_OF_THE_ROW = 4
"""First column of what the row that is sent, [1, 2, 3], is multiplied to."""
_RETRY_PAUSE_S = 0.02


@dataclass
class Findings:
    """What a run has seen."""

    answered: int = 0
    by_second: Counter[int] = field(default_factory=Counter)
    """Answers in each second since the start."""
    versions: Counter[str] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)
    """Refusals that the run expects, by status."""
    failed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    client_retries: int = 0
    """Connections that broke under a request and were made anew, where the client may do that."""
    latencies_s: list[float] = field(default_factory=list)
    longest_s: float = 0.0
    """How long it took at most until a request was answered, refused or given up by the client."""

    @property
    def troubles(self) -> int:
        """Return how many requests were not answered."""
        return len(self.failed) + self.refused.total()

    def quantile_ms(self, part: float) -> float:
        """Return a quantile of the time of an answer in milliseconds."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))] * 1e3 if ordered else 0.0

    def summary(self) -> str:
        """Return one line for people."""
        return (
            f"{self.answered} answered, {len(self.failed)} failed, {len(self.wrong)} wrong, {self.client_retries} client retries, "
            f"p50 {self.quantile_ms(0.5):.2f} ms, p99 {self.quantile_ms(0.99):.1f} ms, longest {self.quantile_ms(1):.0f} ms"
        )


@dataclass(frozen=True)
class Right:
    """What answers are right, beyond bringing the number back."""

    factors: Mapping[str, float] | None = None
    """What the versions of the model multiply by, where they differ; each answer must be wholly that of its version."""
    refusals: Container[int] = ()
    """HTTP statuses that are as good as an answer, because nothing could answer."""


class Detector:
    """Sends requests over HTTP/1.1, one at a time on each of several connections."""

    def __init__(
        self,
        gateways: Sequence[tuple[str, int]],
        *,
        connections: int = 8,
        timeout_ms: int = 5_000,
        client_retries: bool = False,
        pause_s: float = 0.0,
        right: "Right | None" = None,
    ) -> None:
        """Prepare; `running` sends.

        Args:
            gateways: Host and port of each; connections are spread over them.
            connections: How many requests are under way at once.
            timeout_ms: The deadline of each request.
            client_retries: Whether a request whose connection breaks is sent again, to the next gateway.
            pause_s: Waited between two requests of a connection.
            right: What answers are right, beyond bringing the number back.
        """
        self._gateways = gateways
        self._connections = connections
        self._timeout_ms = timeout_ms
        self._client_retries = client_retries
        self._pause_s = pause_s
        self._right = right or Right()
        self.patience_s = 5.0
        """How long after its deadline a client goes on waiting for an answer."""
        self._numbers = iter(range(1, 1 << 62))
        self._started_s = 0.0
        self._answered = asyncio.Event()
        self._under_way: set[int] = set()
        self._settled = asyncio.Event()
        self.findings = Findings()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Findings]:
        """Send until the end of the block; what is under way by then is waited for."""
        self._started_s = time.monotonic()
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for index in range(self._connections):
                tasks.create_task(self._client(index, stop))
            try:
                yield self.findings
            finally:
                stop.set()

    async def until_answered(self, count: int, *, within_s: float) -> None:
        """Wait for so many more answers.

        Raises:
            TimeoutError: They did not come.
        """
        wanted = self.findings.answered + count
        async with asyncio.timeout(within_s):
            while self.findings.answered < wanted:
                self._answered.clear()
                await self._answered.wait()

    async def until_total(self, count: int, *, within_s: float) -> None:
        """Wait until there are so many answers in all.

        Raises:
            TimeoutError: They did not come.
        """
        await self.until_answered(max(0, count - self.findings.answered), within_s=within_s)

    async def until_settled(self, *, within_s: float) -> None:
        """Wait until all that are under way now have been answered or refused, or have failed.

        Raises:
            TimeoutError: Some have not.
        """
        now = set(self._under_way)
        async with asyncio.timeout(within_s):
            while now & self._under_way:
                self._settled.clear()
                await self._settled.wait()

    @contextlib.contextmanager
    def _asking(self, number: int) -> Iterator[None]:
        """Have a request counted as under way inside the block."""
        self._under_way.add(number)
        try:
            yield
        finally:
            self._under_way.discard(number)
            self._settled.set()

    async def _client(self, index: int, stop: asyncio.Event) -> None:
        connection: _Connection | None = None
        try:
            while not stop.is_set():
                number = next(self._numbers)
                started_s = time.monotonic()
                with self._asking(number):
                    while True:
                        try:
                            if connection is None:
                                connection, index = await self._opened(index)
                            async with asyncio.timeout(self._timeout_ms / 1e3 + self.patience_s):
                                status, body = await connection.ask(number, self._timeout_ms)
                        except (OSError, EOFError, TimeoutError) as error:
                            if connection is not None:
                                connection.close()
                            connection = None
                            if self._gives_up(number, time.monotonic() - started_s, error):
                                break
                            index += 1
                            await asyncio.sleep(_RETRY_PAUSE_S)
                            continue
                        self._judge(number, status, body, time.monotonic() - started_s)
                        if connection.is_ending:
                            connection.close()
                            connection = None
                        break
                if self._pause_s:
                    await asyncio.sleep(self._pause_s)
        finally:
            # Also when the test has failed, so that its error is the only one.
            if connection is not None:
                connection.close()

    def _gives_up(self, number: int, elapsed_s: float, error: Exception) -> bool:
        """Note what came instead of an answer; return whether that is the end of the request."""
        found = self.findings
        if self._client_retries and elapsed_s <= self._timeout_ms / 1e3:
            found.client_retries += 1
            return False
        found.longest_s = max(found.longest_s, elapsed_s)
        found.failed.append(f"{number} after {elapsed_s:.2f} s: {error!r}")
        return True

    async def _opened(self, index: int) -> tuple["_Connection", int]:
        """Connect to the first gateway from *index* on that lets us; nothing has been sent by then, so this is no retry."""
        for at in range(index, index + len(self._gateways) - 1):
            with contextlib.suppress(OSError, TimeoutError):
                return await _Connection.open(*self._gateways[at % len(self._gateways)]), at
        at = index + len(self._gateways) - 1
        return await _Connection.open(*self._gateways[at % len(self._gateways)]), at

    def _judge(self, number: int, status: int, body: bytes, elapsed_s: float) -> None:
        found = self.findings
        found.longest_s = max(found.longest_s, elapsed_s)
        if status in self._right.refusals:
            found.refused[status] += 1
            return
        if status != 200:
            found.failed.append(f"{number} after {elapsed_s:.2f} s: {status} {body[:200].decode(errors='replace')}")
            return
        reply = json.loads(body)
        echo = next(output["data"] for output in reply["outputs"] if output["name"] == "echo")
        if reply.get("id") != str(number) or echo != [number, 0] or not self._is_of_its_version(reply):
            found.wrong.append(f"{number}: {body[:200]!r}")
            return
        found.answered += 1
        self._answered.set()
        found.by_second[int(time.monotonic() - self._started_s)] += 1
        found.versions[reply["model_version"]] += 1
        found.latencies_s.append(elapsed_s)

    def _is_of_its_version(self, reply: dict[str, Any]) -> bool:
        factors = self._right.factors
        if factors is None:
            return True
        y = next(output["data"] for output in reply["outputs"] if output["name"] == "y")
        return bool(y[0] == Y_OF_THE_ROW * factors.get(reply["model_version"], 0))


class _Connection:
    """One connection of HTTP/1.1, as little as is needed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.is_ending = False
        """The server has said that this was the last answer."""

    @classmethod
    async def open(cls, host: str, port: int) -> "_Connection":
        async with asyncio.timeout(2):
            return cls(*await asyncio.open_connection(host, port))

    async def ask(self, number: int, timeout_ms: int) -> tuple[int, bytes]:
        """Send a request and return status and body.

        Raises:
            EOFError: The connection ended before the answer did.
            OSError: It broke.
        """
        body = (
            f'{{"id":"{number}","inputs":[{{"name":"tag","datatype":"INT64","shape":[1,2],"data":[{number},0]}},'
            '{"name":"x","datatype":"FP32","shape":[1,3],"data":[1,2,3]}]}'
        )
        self._writer.write(
            f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nhost: b\r\ncontent-length: {len(body)}\r\n"
            f"x-request-timeout-ms: {timeout_ms}\r\n\r\n{body}".encode()
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        self.is_ending = b"connection: close" in head
        return int(head.split(maxsplit=2)[1]), await self._reader.readexactly(length)

    def close(self) -> None:
        self._writer.close()
