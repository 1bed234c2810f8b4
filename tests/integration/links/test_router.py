"""A router between a witness that calls and witnesses that are called."""

import asyncio
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from asking import row
from engines import Role, Roles, plain
from grpc import StatusCode
from links import DATATYPES, Taken, WitnessClient, WitnessServer, addresses, call, echo, linked, until, witnesses

from bettong.internal.v1 import link_pb2 as pb

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SIZES = {"BOOL": 1, "UINT16": 2, "INT16": 2, "FP16": 2, "BF16": 2, "UINT32": 4, "INT32": 4, "FP32": 4}
SIZES |= {"UINT8": 1, "INT8": 1, "UINT64": 8, "INT64": 8, "FP64": 8}


@dataclass
class Chain:
    """A router for `p`, a link to it, and whom it may ask."""

    router: Role
    client: WitnessClient
    executors: list[WitnessServer]


@pytest.fixture
async def chain(roles: Roles) -> AsyncIterator[Chain]:
    """Route `p` to two witnesses, whose answers are up to the test."""
    router = roles.router()
    async with witnesses(2) as pair, linked(router.address, "p", "strange") as client:
        router.table(addresses(pair), all_of=[plain()])
        yield Chain(router, client, pair)


async def first(servers: list[WitnessServer]) -> tuple[Taken, WitnessServer]:
    """Return the next call that comes to one of them, and the other witness."""
    await until(lambda: any(not server.taken.empty() for server in servers))
    at = next(at for at, server in enumerate(servers) if not server.taken.empty())
    return servers[at].taken.get_nowait(), servers[1 - at]


def raw(datatype: str, elements: int) -> bytes:
    """Return bytes that a decoder might want to change: signalling NaNs, truth values other than 1, bytes that are no text."""
    if datatype == "BYTES":
        texts = [bytes([255, 0, at % 251]) * (at % 5) for at in range(elements)]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return (bytes([255, 127, 1, 0xA0, 255, 2, 3]) * (elements * SIZES[datatype] // 7 + 1))[: elements * SIZES[datatype]]


@pytest.mark.parametrize("datatype", sorted(DATATYPES))
@pytest.mark.parametrize("elements", [1, 12_000])
async def test_tensors_stay_the_bytes_that_they_are(chain: Chain, datatype: str, elements: int) -> None:
    """Both ways, for every datatype, below and above the size from which data is not copied any more."""
    one = pb.Tensor(datatype=DATATYPES[datatype], shape=[1, elements], data=raw(datatype, elements))
    sent = pb.Tensors(tensors=[one, one, pb.Tensor(datatype=13)])
    for server in chain.executors:
        server.respond = echo
    (outcome,) = await chain.client.answers(pb.Call(sequence=1, name=1, rows=1, inputs=sent))
    assert outcome.outputs.SerializeToString() == sent.SerializeToString()


async def test_what_the_router_does_not_know_passes(chain: Chain) -> None:
    """Even tensors of a version to come: it does not look into them."""
    unknown = b"\x0a\x05\x08\x4d\x1a\x01\xff" + b"\xa2\x06\x02hi"
    sent = b"\x1a" + bytes([8 + len(unknown)]) + b"\x08\x01\x10\x01\x18\x01\x7a" + bytes([len(unknown)]) + unknown
    for server in chain.executors:
        server.respond = echo
    await chain.client.send(sent)
    (outcome,) = await chain.client.wait_for(1)
    assert outcome.outputs.SerializeToString() == unknown


@pytest.mark.slow
@pytest.mark.parametrize("size", [9 << 10, (4 << 20) + 1, 33 << 20])
async def test_large_tensors_pass(chain: Chain, size: int) -> None:
    """Beyond the bounds of a bundle, of a frame and of what gRPC takes by default."""
    data = np.random.default_rng(size).bytes(size)
    sent = pb.Tensors(tensors=[pb.Tensor(datatype=2, shape=[1, size], data=data)])
    for server in chain.executors:
        server.respond = echo
    small = call(2, row(3))
    large, other = await chain.client.answers(pb.Call(sequence=1, name=1, rows=1, inputs=sent), small)
    assert large.outputs == sent
    assert other.outputs == small.inputs


async def test_a_call_keeps_what_it_says(chain: Chain) -> None:
    """Request id, trace, rows and attempt pass; the time that is left gets less; the sequence is the router's own."""
    said: dict[str, Any] = {"request_id": "abc", "traceparent": TRACE, "attempt": 2, "timeout_us": 900_000}
    await chain.client.send(pb.Bundle(calls=[call(77, row(1), **said)]))
    taken, _ = await first(chain.executors)
    assert taken.name == ("p", "1")
    assert (taken.call.request_id, taken.call.traceparent, taken.call.attempt) == ("abc", TRACE, 2)
    assert 0 < taken.call.timeout_us <= 900_000
    assert taken.stream.hello.role == "router"
    taken.answer(row(5), queue_ns=3, steps_ns=[4, 1 << 40], batch_rows=6, waiting_rows=7)
    (outcome,) = await chain.client.wait_for(77)
    assert (outcome.queue_ns, list(outcome.steps_ns)) == (3, [4, 1 << 40])
    assert (outcome.batch_rows, outcome.waiting_rows) == (6, 7)


async def test_failures_pass(chain: Chain) -> None:
    """With everything that they say."""
    failure: dict[str, Any] = {"field": "x", "retry_after_us": 1_234, "too_large": True}
    await chain.client.send(pb.Bundle(calls=[call(1, row(1))]))
    taken, _ = await first(chain.executors)
    taken.fail(StatusCode.RESOURCE_EXHAUSTED, "so it is", **failure)
    (outcome,) = await chain.client.wait_for(1)
    assert outcome.failure == pb.Failure(code=8, message="so it is", **failure)


async def test_a_pipeline_that_nobody_runs_is_given_back_at_once(chain: Chain) -> None:
    """Whoever asked may know another router; waiting is for the process that the client asked."""
    # A gateway waits for 5 s.
    async with asyncio.timeout(4):
        (outcome,) = await chain.client.answers(call(1, row(1), name=2))
    assert outcome.failure.code == StatusCode.UNAVAILABLE.value[0]
    assert outcome.failure.not_run
    assert outcome.failure.message == "pipeline 'strange' in version '1' is not available: no process runs it"


async def test_a_call_that_may_have_been_run_is_not_said_to_be_not(chain: Chain) -> None:
    """One executor died with it, the other one is full: asking elsewhere would not be free."""
    await chain.client.send(pb.Bundle(calls=[call(1, row(1))]))
    taken, other = await first(chain.executors)
    taken.stream.end()
    again = await other.next_call()
    assert again.call.attempt == 1
    again.fail(StatusCode.RESOURCE_EXHAUSTED, not_run=True)
    (outcome,) = await chain.client.wait_for(1)
    assert outcome.failure.code == StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert not outcome.failure.not_run


async def test_a_cancel_is_passed_on(chain: Chain) -> None:
    """The executor hears of it, and the router forgets the call."""
    await chain.client.send(pb.Bundle(calls=[call(1, row(1)), call(2, row(2))]))
    taken = [(await first(chain.executors))[0] for _ in range(2)]
    wanted = next(one for one in taken if one.column[0, 0] == 1)
    await chain.client.send(pb.Bundle(cancels=[1]))
    async with asyncio.timeout(5):
        assert await wanted.stream.cancels.get() == wanted.call.sequence
    (cancelled,) = await chain.client.wait_for(1)
    assert cancelled.failure.code == StatusCode.CANCELLED.value[0]
    assert chain.router.status.in_flight == 1
    for one in taken:
        echo(one)
    (other,) = await chain.client.wait_for(2)
    assert not other.HasField("failure")
    await until(lambda: chain.router.status.in_flight == 0)


async def test_a_caller_that_goes_away_takes_its_calls_along(chain: Chain) -> None:
    """All of them are cancelled at the executors, and nothing is under way any more."""
    await chain.client.send(pb.Bundle(calls=[call(at, row(at)) for at in range(1, 9)]))
    await until(lambda: sum(server.calls for server in chain.executors) == 8)
    assert chain.router.status.in_flight == 8
    chain.client.stream.cancel()
    await until(lambda: chain.router.status.in_flight == 0)
    streams = {taken.stream for server in chain.executors for taken in list(server.taken._queue)}  # type: ignore[attr-defined]  # a queue cannot be looked at otherwise
    await until(lambda: sum(stream.cancels.qsize() for stream in streams) == 8)


async def test_a_drain_waits_for_the_executors(chain: Chain) -> None:
    """The caller is told to go elsewhere, and gets every answer."""
    await chain.client.send(pb.Bundle(calls=[call(1, row(1)), call(2, row(2))]))
    taken = [(await first(chain.executors))[0] for _ in range(2)]
    draining = asyncio.create_task(asyncio.to_thread(chain.router.gateway.drain, 5.0))
    while not chain.client.leaving:
        assert await chain.client.read()
    for one in taken:
        echo(one)
    code, _ = await chain.client.status()
    assert code is StatusCode.OK
    assert chain.client.outcomes.keys() == {1, 2}
    assert await draining


async def test_outputs_of_the_wrong_kind_are_not_the_routers_business(chain: Chain) -> None:
    """Whoever asked looks at them."""
    await chain.client.send(pb.Bundle(calls=[call(1, row(1))]))
    taken, _ = await first(chain.executors)
    taken.say(outputs=pb.Tensors(tensors=[pb.Tensor(datatype=99, shape=[7], data=b"?")] * 3))
    (outcome,) = await chain.client.wait_for(1)
    assert [one.datatype for one in outcome.outputs.tensors] == [99] * 3
