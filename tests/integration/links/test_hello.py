"""How a link begins."""

import grpc
import pytest
from engines import Roles
from links import WitnessClient, hello, linked

from bettong.internal.v1 import link_pb2 as pb


async def test_both_sides_say_who_they_are(roles: Roles) -> None:
    """The first bundle holds the hello and nothing else, with a window to fill."""
    executor = roles.executor()
    client = WitnessClient(executor.address)
    first = await client.greet()
    await client.close()
    assert [field.name for field, _ in first.ListFields()] == ["hello"]
    said = first.hello
    assert (said.protocol, said.cluster, said.role, said.member) == (1, "tested", "executor", "executor-1")
    assert (said.epoch, said.version) == (7, "1.2.3")
    assert said.window_calls > 0
    assert said.window_bytes > 0


async def test_connections_are_counted(roles: Roles) -> None:
    """Each link has a round of its own, so that logs can tell them apart."""
    executor = roles.executor()
    rounds = []
    for _ in range(3):
        client = WitnessClient(executor.address)
        rounds.append((await client.greet()).hello.round)
        await client.close()
    assert rounds == sorted(set(rounds))


async def test_a_ping_is_answered(roles: Roles) -> None:
    """The number comes back."""
    async with linked(roles.executor().address) as client:
        await client.settle()


async def test_another_cluster_is_refused(roles: Roles) -> None:
    """The status says both names, and that trying again is of no use."""
    client = WitnessClient(roles.executor().address)
    await client.send(pb.Bundle(hello=hello(cluster="other")))
    code, message = await client.status()
    await client.close()
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert message == "this is cluster 'tested', the caller belongs to 'other'"


async def test_a_newer_protocol_is_refused(roles: Roles) -> None:
    """Raising the number means that older versions could not understand what is sent."""
    client = WitnessClient(roles.executor().address)
    await client.send(pb.Bundle(hello=hello(protocol=2)))
    code, message = await client.status()
    await client.close()
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert message == "the caller speaks version 2 of the protocol of links, we 1"


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (pb.Bundle(ping=1), "the first bundle says not who sends it"),
        (b"\x0a\xff", "damaged"),
        (b"", "the first bundle says not who sends it"),
    ],
    ids=["no hello", "damaged", "empty"],
)
async def test_a_stream_that_begins_otherwise_is_refused(roles: Roles, first: pb.Bundle | bytes, reason: str) -> None:
    """Whoever it is, it is no peer."""
    client = WitnessClient(roles.executor().address)
    await client.send(first)
    code, message = await client.status()
    await client.close()
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert reason in message


async def test_a_stream_that_ends_before_its_hello_is_refused(roles: Roles) -> None:
    """The other side hears why."""
    client = WitnessClient(roles.executor().address)
    await client.stream.done_writing()
    code, message = await client.status()
    await client.close()
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert message == "the stream ended before its first bundle"


async def test_a_port_that_takes_no_links_says_so(roles: Roles) -> None:
    """A gateway is no peer of anybody, and need not hear anything to know that."""
    client = WitnessClient(roles.gateway().address)
    code, _ = await client.status()
    await client.close()
    assert code is grpc.StatusCode.UNIMPLEMENTED
