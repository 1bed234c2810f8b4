"""The other side of a link, written with `grpc.aio` and the generated stubs: it shares no code with the engine.

`WitnessClient` makes calls as a gateway or router does, `WitnessServer` takes them as a router or executor does.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import grpc
import numpy as np
from engines import CLUSTER, NAMES
from grpc import aio

from bettong.internal.v1 import link_pb2 as pb
from bettong.internal.v1.link_pb2_grpc import LinkServicer, add_LinkServicer_to_server

PATIENCE_S = 5.0
PROTOCOL = 1
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]

DATATYPES: dict[str, int] = {
    "BOOL": 1,
    "UINT8": 2,
    "UINT16": 3,
    "UINT32": 4,
    "UINT64": 5,
    "INT8": 6,
    "INT16": 7,
    "INT32": 8,
    "INT64": 9,
    "FP16": 10,
    "FP32": 11,
    "FP64": 12,
    "BYTES": 13,
    "BF16": 14,
}

_NUMPY = {"float32": "FP32", "int64": "INT64"}

Respond: TypeAlias = Callable[["Taken"], None]


def hello(**fields: Any) -> pb.Hello:
    """Return who the witness is."""
    known = {"protocol": PROTOCOL, "cluster": CLUSTER, "role": "gateway", "member": "witness", "round": 1}
    return pb.Hello(**{**known, **fields})


def tensor(values: np.ndarray) -> pb.Tensor:
    """Return numbers as they are sent."""
    return pb.Tensor(datatype=DATATYPES[_NUMPY[values.dtype.name]], shape=values.shape, data=values.tobytes())


def tensors(*columns: np.ndarray) -> pb.Tensors:
    """Return columns as they are sent."""
    return pb.Tensors(tensors=[tensor(values) for values in columns])


def numbers(sent: pb.Tensor) -> np.ndarray:
    """Return what a tensor holds."""
    dtype = {DATATYPES["FP32"]: np.float32, DATATYPES["INT64"]: np.int64}[sent.datatype]
    return np.frombuffer(sent.data, dtype).reshape(sent.shape)


def call(sequence: int, *columns: np.ndarray, name: int = 1, **fields: Any) -> pb.Call:
    """Return a call with columns of equally many rows."""
    rows = len(columns[0]) if columns else 1
    return pb.Call(**{"sequence": sequence, "name": name, "rows": rows, "inputs": tensors(*columns), **fields})


class WitnessClient:
    """Opens a link and makes calls on it."""

    def __init__(self, address: str) -> None:
        self._channel = aio.insecure_channel(address, UNLIMITED)
        # Requests are sent as bytes, so that a test can send what the stubs cannot write.
        exchange: Any = self._channel.stream_stream("/bettong.internal.v1.Link/Exchange", None, pb.Bundle.FromString)
        self.stream: Any = exchange()
        self.outcomes: dict[int, pb.Outcome] = {}
        self.hello = pb.Hello()
        self.leaving = False
        self._pings = itertools.count(1)
        self._ponged = 0

    async def send(self, *bundles: pb.Bundle | bytes) -> None:
        for bundle in bundles:
            await self.stream.write(bundle if isinstance(bundle, bytes) else bundle.SerializeToString())

    async def greet(self, said: pb.Hello | None = None) -> pb.Bundle:
        """Say who we are, and return the first bundle of the other side."""
        await self.send(pb.Bundle(hello=said or hello()))
        async with asyncio.timeout(PATIENCE_S):
            first = await self.stream.read()
        assert isinstance(first, pb.Bundle), f"the stream ended: {await self.stream.details()}"
        self.hello = first.hello
        return first

    async def name(self, pipeline: str, *, index: int = 1, version: str = "1") -> None:
        await self.send(pb.Bundle(names=[pb.Name(index=index, pipeline=pipeline, version=version)]))

    async def read(self) -> bool:
        """Take one bundle; return whether there was one."""
        async with asyncio.timeout(PATIENCE_S):
            bundle = await self.stream.read()
        if bundle is aio.EOF:
            return False
        for outcome in bundle.outcomes:
            assert outcome.sequence not in self.outcomes, f"{outcome.sequence} is answered twice"
            self.outcomes[outcome.sequence] = outcome
        self.leaving |= bundle.leaving
        self._ponged = max(self._ponged, bundle.pong)
        return True

    async def answers(self, *calls: pb.Call) -> list[pb.Outcome]:
        """Make calls in one bundle, and return their outcomes in the order of the calls."""
        await self.send(pb.Bundle(calls=calls))
        return await self.wait_for(*(one.sequence for one in calls))

    async def wait_for(self, *sequences: int) -> list[pb.Outcome]:
        while not self.outcomes.keys() >= set(sequences):
            assert await self.read(), f"the stream ended: {await self.stream.details()}"
        return [self.outcomes[sequence] for sequence in sequences]

    async def settle(self) -> None:
        """Return when the other side has read everything that was sent, and what it said by then has come."""
        number = next(self._pings)
        await self.send(pb.Bundle(ping=number))
        while self._ponged < number:
            assert await self.read(), f"the stream ended: {await self.stream.details()}"

    async def status(self) -> tuple[grpc.StatusCode, str]:
        """Read to the end of the stream, and return how it ended."""
        with contextlib.suppress(aio.AioRpcError):
            while await self.read():
                pass
        async with asyncio.timeout(PATIENCE_S):
            return await self.stream.code(), await self.stream.details() or ""

    async def close(self) -> None:
        self.stream.cancel()
        await self._channel.close()


@contextlib.asynccontextmanager
async def linked(address: str, *pipelines: str) -> AsyncIterator[WitnessClient]:
    """Open a link inside the block, and name *pipelines* from 1."""
    client = WitnessClient(address)
    try:
        await client.greet()
        for index, pipeline in enumerate(pipelines, 1):
            await client.name(pipeline, index=index)
        yield client
    finally:
        await client.close()


@dataclass(eq=False)
class Stream:
    """A link that somebody opened to a witness."""

    context: Any
    hello: pb.Hello = field(default_factory=pb.Hello)
    names: dict[int, tuple[str, str]] = field(default_factory=dict)
    cancels: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    pings: int = 0
    bytes_as_sent: bytes = b""
    _out: asyncio.Queue[pb.Bundle | None] = field(default_factory=asyncio.Queue)
    _status: tuple[grpc.StatusCode, str] | None = None

    def say(self, **fields: Any) -> None:
        """Send a bundle; it leaves when the test waits next."""
        self._out.put_nowait(pb.Bundle(**fields))

    def end(self, code: grpc.StatusCode = grpc.StatusCode.OK, details: str = "") -> None:
        """End the stream after what was said, whatever is open."""
        self._status = (code, details)
        self._out.put_nowait(None)

    async def write(self) -> None:
        """Send what is said until the end."""
        while (bundle := await self._out.get()) is not None:
            await self.context.write(bundle)
        if self._status is not None and self._status[0] is not grpc.StatusCode.OK:
            await self.context.abort(*self._status)


@dataclass(frozen=True, eq=False)
class Taken:
    """A call that came to a witness."""

    stream: Stream
    call: pb.Call

    @property
    def name(self) -> tuple[str, str]:
        """Pipeline and version."""
        return self.stream.names[self.call.name]

    @property
    def column(self) -> np.ndarray:
        """The first input."""
        return numbers(self.call.inputs.tensors[0])

    def answer(self, *columns: np.ndarray, **fields: Any) -> None:
        """Answer with outputs."""
        self.say(outputs=tensors(*columns), **fields)

    def fail(self, code: grpc.StatusCode, message: str = "no", **fields: Any) -> None:
        """Answer with a failure."""
        number: int = code.value[0]
        self.say(failure=pb.Failure(code=number, message=message, **fields))

    def say(self, **fields: Any) -> None:
        self.stream.say(outcomes=[pb.Outcome(sequence=self.call.sequence, **fields)])


class WitnessServer(LinkServicer):
    """Takes links and calls. Calls wait in `taken`, unless `respond` answers each as it comes."""

    def __init__(self, respond: Respond | None = None, **said: Any) -> None:
        self.taken: asyncio.Queue[Taken] = asyncio.Queue()
        self.opened: asyncio.Queue[Stream] = asyncio.Queue()
        self.calls = 0
        self.respond = respond
        self.address = ""
        self.silent = False
        self._said = hello(**{"role": "executor", **said})
        self._server = aio.server(options=UNLIMITED)

    async def next_call(self) -> Taken:
        async with asyncio.timeout(PATIENCE_S):
            return await self.taken.get()

    async def next_stream(self) -> Stream:
        async with asyncio.timeout(PATIENCE_S):
            return await self.opened.get()

    async def start(self, address: str = "127.0.0.1:0") -> None:
        add_LinkServicer_to_server(self, self._server)
        port = self._server.add_insecure_port(address)
        self.address = f"127.0.0.1:{port}"
        NAMES[self.address] = f"{self._said.role}/{self._said.member}"
        await self._server.start()

    async def stop(self) -> None:
        """Break every connection."""
        await self._server.stop(None)

    async def Exchange(self, _requests: AsyncIterator[pb.Bundle], context: Any) -> None:  # type: ignore[override]  # bundles are written, not yielded
        stream = Stream(context)
        first = await context.read()
        assert [field.name for field, _ in first.ListFields()] == ["hello"]
        stream.hello = first.hello
        stream.say(hello=self._said)
        reading = asyncio.create_task(self._read(stream))
        self.opened.put_nowait(stream)
        try:
            await stream.write()
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, aio.UsageError):
                await reading

    async def _read(self, stream: Stream) -> None:
        while (bundle := await stream.context.read()) is not aio.EOF:
            stream.names |= {name.index: (name.pipeline, name.version) for name in bundle.names}
            for sequence in bundle.cancels:
                stream.cancels.put_nowait(sequence)
            if bundle.ping and not self.silent:
                stream.pings += 1
                stream.say(pong=bundle.ping)
            for one in bundle.calls:
                self._take(Taken(stream, one))
        stream.end()

    def _take(self, taken: Taken) -> None:
        self.calls += 1
        if self.respond is not None:
            self.respond(taken)
        else:
            self.taken.put_nowait(taken)


def echo(taken: Taken) -> None:
    """Give the inputs back."""
    taken.say(outputs=taken.call.inputs)


@contextlib.asynccontextmanager
async def witnesses(count: int = 1, respond: Respond | None = None, **said: Any) -> AsyncIterator[list[WitnessServer]]:
    """Run witnesses inside the block; *said* is what their hello says besides."""
    servers = [WitnessServer(respond, **{"member": f"witness-{at}", **said}) for at in range(count)]
    try:
        for server in servers:
            await server.start()
        yield servers
    finally:
        await asyncio.gather(*(server.stop() for server in servers))


async def until(holds: Callable[[], bool], what: str = "") -> None:
    """Wait until something holds that nothing signals, such as a counter of the engine."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():  # noqa: ASYNC110 - counters of the engine signal nothing
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"it never held: {what}") from None


def addresses(servers: Iterable[WitnessServer]) -> Sequence[str]:
    return [server.address for server in servers]
