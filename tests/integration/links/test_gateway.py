"""A gateway makes calls to a witness, and its clients hear what became of them."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import numpy as np
import pytest
from asking import Asker, asking, field_of, row
from engines import Role, Roles, plain
from grpc import StatusCode, aio
from links import PATIENCE_S, Taken, WitnessServer, addresses, echo, tensor, tensors, until, witnesses
from loads import retry_hint_s

from bettong.internal.v1 import link_pb2 as pb

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Certificates of the system take longer to load than the tests to run."""

NATIVE = {"content-type": "application/json"}


@dataclass
class Pair:
    """A gateway that forwards `p` to one witness."""

    gateway: Role
    witness: WitnessServer
    client: Asker
    http: httpx.AsyncClient

    async def ask_native(self) -> httpx.Response:
        return await self.http.post("/v1/pipelines/p/infer", content='[{"x": [1]}]', headers=NATIVE)

    async def ask_rest(self) -> httpx.Response:
        body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}
        return await self.http.post("/v2/models/p/infer", json=body)


@pytest.fixture
async def pair(roles: Roles) -> AsyncIterator[Pair]:
    """Forward `p` to one witness, whose answers are up to the test."""
    gateway = roles.gateway()
    gateway.serve(plain())
    async with witnesses() as (witness,):
        gateway.table([witness.address], all_of=[plain()])
        async with (
            asking(gateway.address) as client,
            httpx.AsyncClient(base_url=f"http://{gateway.address}", verify=NO_TLS) as http,
        ):
            yield Pair(gateway, witness, client, http)


async def test_a_call_says_all_that_the_client_said(pair: Pair) -> None:
    """The time that is left, the request id, the trace, the rows and the bytes; and the link says who the gateway is."""
    metadata = [("x-request-id", "abc"), ("traceparent", TRACE)]
    asked = asyncio.create_task(pair.client.infer(3, within_s=2, metadata=metadata))
    taken = await pair.witness.next_call()
    said = taken.call
    assert taken.name == ("p", "1")
    assert (said.rows, said.attempt, said.request_id, said.traceparent) == (1, 0, "abc", TRACE)
    # gRPC rounds up what it sends.
    assert 1_000_000 < said.timeout_us < 2_100_000
    assert said.inputs == tensors(row(3))
    known = taken.stream.hello
    assert (known.cluster, known.role, known.member, known.epoch) == ("tested", "gateway", "gateway-1", 7)
    taken.answer(row(30))
    assert await asked == 30


async def test_a_call_without_a_deadline_has_none(pair: Pair) -> None:
    """Zero means no limit; nothing is made up."""
    asked = asyncio.create_task(pair.client.infer(3))
    taken = await pair.witness.next_call()
    assert (taken.call.timeout_us, taken.call.traceparent) == (0, "")
    echo(taken)
    assert await asked == 3


async def test_outcomes_may_come_in_any_order(pair: Pair) -> None:
    """Each goes to the request that it belongs to."""
    asked = [asyncio.create_task(pair.client.infer(value)) for value in range(20)]
    taken = [await pair.witness.next_call() for _ in asked]
    assert len({one.call.sequence for one in taken}) == 20
    assert len({one.stream for one in taken}) == 1
    for one in reversed(taken):
        one.answer(one.column * 10)
    assert [await one for one in asked] == [value * 10.0 for value in range(20)]


FAILURES = [
    (StatusCode.INVALID_ARGUMENT, {}, 400),
    (StatusCode.NOT_FOUND, {}, 404),
    (StatusCode.DEADLINE_EXCEEDED, {}, 504),
    (StatusCode.RESOURCE_EXHAUSTED, {}, 429),
    (StatusCode.RESOURCE_EXHAUSTED, {"too_large": True}, 413),
    (StatusCode.RESOURCE_EXHAUSTED, {"not_run": True}, 429),
    (StatusCode.UNIMPLEMENTED, {}, 501),
    (StatusCode.INTERNAL, {}, 500),
    (StatusCode.INTERNAL, {"not_run": True}, 500),
    (StatusCode.INVALID_ARGUMENT, {"not_run": True}, 400),
    (StatusCode.UNAVAILABLE, {}, 503),
]


@pytest.mark.parametrize(("code", "fields", "status"), FAILURES)
async def test_every_kind_of_failure_reaches_the_client(
    pair: Pair, code: StatusCode, fields: dict[str, bool], status: int
) -> None:
    """With its message, its field and its hint, over gRPC and over both kinds of HTTP."""

    def fail(taken: Taken) -> None:
        taken.fail(code, "it is so", field="x", retry_after_us=1_500_000, **fields)

    pair.witness.respond = fail
    with pytest.raises(aio.AioRpcError) as raised:
        await pair.client.infer(1)
    assert (raised.value.code(), raised.value.details()) == (code, "it is so")
    assert field_of(raised.value) == "x"
    assert retry_hint_s(raised.value) == 1.5
    native, rest = await pair.ask_native(), await pair.ask_rest()
    assert (native.status_code, rest.status_code) == (status, status)
    assert (native.json()["error"], native.json()["field"]) == ("it is so", "x")
    assert rest.json()["error"] == "it is so"
    assert rest.headers["retry-after-ms"] == "1500"


@pytest.mark.parametrize("code", [2, 6, 7, 9, 10, 11, 15, 16, 99])
async def test_a_code_that_is_not_known_is_an_internal_failure(pair: Pair, code: int) -> None:
    """A newer executor may have codes that this gateway has no status for."""
    pair.witness.respond = lambda taken: taken.say(failure=pb.Failure(code=code, message="?"))
    assert await pair.client.code(1) == "INTERNAL"


WRONG_OUTPUTS = {
    "none": pb.Tensors(),
    "one too many": tensors(row(1), row(1)),
    "rows": tensors(np.zeros((2, 1), np.float32)),
    "no rows": tensors(np.zeros((0, 1), np.float32)),
    "datatype": tensors(np.zeros((1, 1), np.int64)),
    "scalar": pb.Tensors(tensors=[pb.Tensor(datatype=11, shape=[], data=bytes(4))]),
    "bytes": pb.Tensors(tensors=[pb.Tensor(datatype=11, shape=[1, 1], data=b"abc")]),
    "unknown datatype": pb.Tensors(tensors=[pb.Tensor(datatype=77, shape=[1, 1], data=b"abcd")]),
    "endless": pb.Tensors(tensors=[pb.Tensor(datatype=11, shape=[2**63, 2**63], data=b"abcd")]),
    "strings": pb.Tensors(tensors=[pb.Tensor(datatype=13, shape=[1, 1], data=b"\xff\xff\xff\xff")]),
}


@pytest.mark.parametrize("outputs", WRONG_OUTPUTS.values(), ids=list(WRONG_OUTPUTS))
async def test_outputs_that_are_not_the_pipelines_are_an_internal_failure(pair: Pair, outputs: pb.Tensors) -> None:
    """Whatever the protocol; the gateway lives on."""
    pair.witness.respond = lambda taken: taken.say(outputs=outputs)
    assert await pair.client.code(1) == "INTERNAL"
    assert (await pair.ask_native()).status_code == 500
    assert (await pair.ask_rest()).status_code == 500
    pair.witness.respond = echo
    assert await pair.client.infer(5) == 5


async def test_an_outcome_that_nobody_waits_for_is_passed_over(pair: Pair) -> None:
    """Unknown sequences, and a second outcome of a call that is answered."""
    asked = asyncio.create_task(pair.client.infer(1))
    taken = await pair.witness.next_call()
    known = taken.call.sequence
    for sequence in (0, known + 1, known ^ (1 << 19), known + (1 << 20), 2**64 - 1):
        taken.stream.say(outcomes=[pb.Outcome(sequence=sequence, outputs=tensors(row(99)))])
    taken.answer(row(2))
    taken.answer(row(3))
    assert await asked == 2
    pair.witness.respond = echo
    assert [await pair.client.infer(value) for value in range(10)] == list(range(10))


async def test_a_client_that_leaves_takes_its_call_along(pair: Pair) -> None:
    """The executor is told, and what it still says of it is passed over."""
    asked = asyncio.create_task(pair.client.infer(1))
    taken = await pair.witness.next_call()
    asked.cancel()
    async with asyncio.timeout(PATIENCE_S):
        assert await taken.stream.cancels.get() == taken.call.sequence
    await until(lambda: pair.gateway.status.in_flight == 0)
    taken.answer(row(9))
    pair.witness.respond = echo
    assert await pair.client.infer(2) == 2
    assert [peer.outstanding for peer in pair.gateway.links.peers] == [0]


async def test_a_deadline_that_passes_at_the_executor_is_told_in_time(pair: Pair) -> None:
    """The client does not wait for a replica that has forgotten it."""
    response = pair.http.post(
        "/v1/pipelines/p/infer", content='[{"x": [1]}]', headers={**NATIVE, "x-request-timeout-ms": "60"}
    )
    asked = asyncio.create_task(response)
    taken = await pair.witness.next_call()
    assert (await asked).status_code == 504
    async with asyncio.timeout(PATIENCE_S):
        assert await taken.stream.cancels.get() == taken.call.sequence


async def test_an_executor_that_is_newer_is_understood(pair: Pair) -> None:
    """A newer protocol number and fields that are not known are passed over."""
    unknown = b"\xa2\x06\x02hi\xa8\x06\x07"

    def respond(taken: Taken) -> None:
        inner = pb.Tensor.FromString(tensor(row(8)).SerializeToString() + unknown)
        outcome = pb.Outcome(sequence=taken.call.sequence, outputs=pb.Tensors(tensors=[inner]))
        later = pb.Outcome.FromString(outcome.SerializeToString() + unknown)
        taken.stream.say(outcomes=[later], names=[pb.Name(index=1)], calls=[pb.Call(sequence=1)], cancels=[4], pong=77)

    pair.witness.respond = respond
    assert await pair.client.infer(1) == 8


async def test_the_window_of_the_hello_is_kept(roles: Roles) -> None:
    """One call at a time: a second one goes elsewhere, a third is refused with a hint."""
    gateway = roles.gateway()
    gateway.serve(plain())
    async with witnesses(2, window_calls=1, window_bytes=1 << 20) as pair, asking(gateway.address) as client:
        gateway.table(addresses(pair), all_of=[plain()])
        for witness in pair:
            await greeted(client, witness, pair)
        asked = [asyncio.create_task(client.infer(value)) for value in (1, 2)]
        taken = [await witness.next_call() for witness in pair]
        with pytest.raises(aio.AioRpcError) as raised:
            await client.infer(3)
        assert raised.value.code() is StatusCode.RESOURCE_EXHAUSTED
        assert "as many calls of this pipeline as it takes" in (raised.value.details() or "")
        assert (retry_hint_s(raised.value) or 0) > 0
        for one in taken:
            echo(one)
        assert [await one for one in asked] == [1, 2]


async def greeted(client: Asker, wanted: WitnessServer, every: list[WitnessServer]) -> None:
    """Ask until *wanted* has been asked, so that its hello has come."""
    for witness in every:
        witness.respond = echo
    while not wanted.calls:
        await client.infer(0)
    for witness in every:
        witness.respond = None


async def test_the_window_counts_bytes(roles: Roles) -> None:
    """One call may be larger than the window; a second one waits for nobody."""
    gateway = roles.gateway()
    gateway.serve(plain())
    async with witnesses(1, window_calls=10, window_bytes=6) as (witness,), asking(gateway.address) as client:
        gateway.table([witness.address], all_of=[plain()])
        await greeted(client, witness, [witness])
        asked = asyncio.create_task(client.infer(1))
        taken = await witness.next_call()
        assert await client.code(2) == "RESOURCE_EXHAUSTED"
        echo(taken)
        assert await asked == 1
        witness.respond = echo
        assert await client.infer(3) == 3
