"""Replicas that go away, refuse or fall silent: what is tried again, and where."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from asking import Asker, asking, row
from engines import Role, Roles, plain
from grpc import StatusCode, aio
from links import Taken, WitnessServer, addresses, echo, until, witnesses

SILENCE_MS = 400


@pytest.fixture
def gateway(roles: Roles) -> Role:
    """Accept requests for `p`, and give a silent peer up soon."""
    role = roles.gateway(silence_ms=SILENCE_MS)
    role.serve(plain())
    return role


@pytest.fixture
async def client(gateway: Role) -> AsyncIterator[Asker]:
    """Ask the gateway."""
    async with asking(gateway.address) as asker:
        yield asker


async def first_call(servers: list[WitnessServer]) -> tuple[Taken, list[WitnessServer]]:
    """Return a call with the witnesses that it did not come to; the others answer from now on."""
    waiting = {asyncio.ensure_future(server.next_call()): server for server in servers}
    done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for one in pending:
        one.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    (taken,) = done
    others = [server for server in servers if server is not waiting[taken]]
    return taken.result(), others


@pytest.mark.parametrize("code", [StatusCode.OK, StatusCode.UNAVAILABLE, StatusCode.INTERNAL])
async def test_a_stream_that_ends_has_its_calls_tried_elsewhere(gateway: Role, client: Asker, code: StatusCode) -> None:
    """Any of them may have been run, which the attempt says."""
    async with witnesses(2) as pair:
        gateway.table(addresses(pair), all_of=[plain()])
        asked = asyncio.create_task(client.infer(7))
        taken, (other,) = await first_call(pair)
        taken.stream.end(code, "enough")
        again = await other.next_call()
        assert (taken.call.attempt, again.call.attempt) == (0, 1)
        assert again.call.inputs == taken.call.inputs
        echo(again)
        assert await asked == 7
        assert gateway.links.retried == 1


async def test_a_connection_that_breaks_has_its_calls_tried_elsewhere(gateway: Role, client: Asker) -> None:
    """All that were open, each once."""
    async with witnesses(2) as pair:
        gateway.table(addresses(pair), all_of=[plain()])
        asked = [asyncio.create_task(client.infer(value)) for value in range(8)]
        await until(lambda: sum(server.calls for server in pair) == 8)
        broken, other = sorted(pair, key=lambda server: server.calls, reverse=True)
        other.respond = echo
        while not other.taken.empty():
            echo(other.taken.get_nowait())
        before = other.calls
        await broken.stop()
        assert [await one for one in asked] == list(range(8))
        assert other.calls - before == broken.calls == gateway.links.retried


async def test_a_call_that_was_not_run_is_tried_elsewhere_for_free(gateway: Role, client: Asker) -> None:
    """It is no second attempt, and costs no budget."""
    async with witnesses(2) as pair:
        gateway.table(addresses(pair), all_of=[plain()])
        asked = asyncio.create_task(client.infer(7))
        taken, (other,) = await first_call(pair)
        taken.fail(StatusCode.UNAVAILABLE, not_run=True)
        again = await other.next_call()
        assert again.call.attempt == 0
        echo(again)
        assert await asked == 7
        assert gateway.links.retried == 0


async def test_a_call_that_was_run_and_failed_is_not_tried_again(gateway: Role, client: Asker) -> None:
    """Its failure is the answer."""
    async with witnesses(2) as pair:
        gateway.table(addresses(pair), all_of=[plain()])
        asked = asyncio.create_task(client.code(7))
        taken, (other,) = await first_call(pair)
        taken.fail(StatusCode.UNAVAILABLE)
        assert await asked == "UNAVAILABLE"
        assert other.calls == 0


async def test_what_every_replica_refuses_is_refused_at_once(gateway: Role, client: Asker) -> None:
    """A full queue is worth one more look; a wrong call as many as there are replicas, and no waiting for better times."""
    for code, most in ((StatusCode.RESOURCE_EXHAUSTED, 2), (StatusCode.INTERNAL, 3), (StatusCode.INVALID_ARGUMENT, 3)):

        def refuse(taken: Taken, code: StatusCode = code) -> None:
            taken.fail(code, not_run=True)

        async with witnesses(3, refuse) as trio:
            gateway.table(addresses(trio), all_of=[plain()])
            # It would wait for 5 s.
            async with asyncio.timeout(4):
                assert await client.code(1) == code.name
            assert sum(server.calls for server in trio) == most


async def test_a_replica_that_leaves_gets_no_more_calls(gateway: Role, client: Asker) -> None:
    """It still answers those that it has."""
    async with witnesses(2) as pair:
        gateway.table(addresses(pair), all_of=[plain()])
        asked = asyncio.create_task(client.infer(7))
        taken, (other,) = await first_call(pair)
        taken.stream.say(leaving=True)
        other.respond = echo
        leaver = next(server for server in pair if server is not other)
        # Both come on one stream, so that the first answer says that the leave has been read.
        second = asyncio.create_task(client.infer(8))
        await until(lambda: second.done() or leaver.calls > 1)
        if not second.done():
            echo(await leaver.next_call())
        await second
        before = leaver.calls
        assert [await client.infer(value) for value in range(30)] == list(range(30))
        assert leaver.calls == before
        echo(taken)
        assert await asked == 7


async def test_a_call_waits_for_the_next_table_when_the_only_replica_leaves(gateway: Role, client: Asker) -> None:
    """As when an executor is replaced: it is not the fault of the client, nor too much."""
    async with witnesses(2) as (old, new):
        new.respond = echo
        gateway.table([old.address], all_of=[plain()])
        asked = asyncio.create_task(client.infer(7))
        taken = await old.next_call()
        taken.stream.say(leaving=True)
        taken.answer(row(7))
        assert await asked == 7
        late = asyncio.create_task(client.infer(8))
        await until(lambda: gateway.status.in_flight == 1)
        gateway.table([new.address], all_of=[plain()])
        assert await late == 8


async def test_a_silent_replica_is_given_up(gateway: Role, client: Asker) -> None:
    """After the time that was set, counted from a ping that it does not answer."""
    async with witnesses(2) as pair:
        gateway.table(addresses(pair), all_of=[plain()])
        asked = asyncio.create_task(client.infer(7))
        taken, (other,) = await first_call(pair)
        other.respond = echo
        silent = next(server for server in pair if server is not other)
        silent.silent = True
        assert await asked == 7
        failed = next(peer for peer in gateway.links.peers if peer.address == silent.address)
        assert f"has not said anything for {SILENCE_MS} ms" in failed.last_error
        assert failed.links == 0
        assert taken.stream.pings == 0


async def test_a_slow_replica_that_answers_pings_is_waited_for(gateway: Role, client: Asker) -> None:
    """A long run is no silence."""
    async with witnesses(1) as (witness,):
        gateway.table([witness.address], all_of=[plain()])
        asked = asyncio.create_task(client.infer(7))
        taken = await witness.next_call()
        await until(lambda: taken.stream.pings >= 4)
        echo(taken)
        assert await asked == 7
        assert witness.calls == 1


async def test_a_replica_that_answers_nothing_at_all_is_given_up(gateway: Role, client: Asker) -> None:
    """Its port takes connections and that is all."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        async with witnesses(1, echo) as (witness,):
            gateway.table([f"127.0.0.1:{deaf.getsockname()[1]}", witness.address], all_of=[plain()])
            assert await asyncio.gather(*(client.infer(value) for value in range(10))) == list(range(10))


async def test_a_replica_that_refuses_the_link_is_left_out(gateway: Role, client: Asker) -> None:
    """Another cluster's executor, or a port that is none: others are asked, and the status says why."""
    async with witnesses(2, echo) as pair:
        wrong, right = pair

        def refuse(taken: Taken) -> None:
            taken.stream.end(StatusCode.FAILED_PRECONDITION, "this is cluster 'b', the caller belongs to 'a'")

        wrong.respond = refuse
        gateway.table(addresses(pair), all_of=[plain()])
        assert await asyncio.gather(*(client.infer(value) for value in range(10))) == list(range(10))
        await until(lambda: wrong.calls > 0 or right.calls > 9)
        failed = [peer for peer in gateway.links.peers if peer.address == wrong.address]
        assert not wrong.calls or "cluster 'b'" in failed[0].last_error


async def test_a_call_is_tried_four_times_at_most(gateway: Role, client: Asker) -> None:
    """One that brings down whoever runs it must not go round for ever."""

    def die(taken: Taken) -> None:
        taken.stream.end()

    async with witnesses(6, die) as six:
        gateway.table(addresses(six), all_of=[plain()])
        with pytest.raises(aio.AioRpcError) as raised:
            await client.infer(1)
        assert sum(server.calls for server in six) == 4
    assert raised.value.code() is StatusCode.UNAVAILABLE
    assert "it was tried too often" in (raised.value.details() or "")


@pytest.mark.slow
async def test_retries_are_paid_for_by_calls(gateway: Role, client: Asker) -> None:
    """A replica that kills every connection does not have all calls tried four times for ever."""
    async with witnesses(1) as (witness,):
        gateway.table([witness.address], all_of=[plain()])
        codes: set[str] = set()
        while not gateway.links.retries_refused:
            asked = [asyncio.create_task(client.code(value)) for value in range(400)]
            while not all(one.done() for one in asked):
                await asyncio.wait([*asked, waiting := asyncio.ensure_future(witness.taken.get())], timeout=0.01)
                waiting.cancel()
                while not witness.taken.empty():
                    witness.taken.get_nowait().stream.end()
            codes |= {one.result() for one in asked}
        assert codes == {"UNAVAILABLE"}
        witness.respond = echo
        assert await client.infer(1) == 1


async def test_a_table_that_is_replaced_lets_open_calls_end(gateway: Role, client: Asker) -> None:
    """The old replica answers what it has, then its link ends."""
    async with witnesses(2) as (old, new):
        new.respond = echo
        gateway.table([old.address], all_of=[plain()])
        asked = asyncio.create_task(client.infer(7))
        taken = await old.next_call()
        gateway.table([new.address], all_of=[plain()])
        assert await client.infer(8) == 8
        assert old.calls == 1
        echo(taken)
        assert await asked == 7


async def test_calls_at_a_replica_that_is_in_no_table_any_more_are_tried_elsewhere(
    gateway: Role, client: Asker
) -> None:
    """It was replaced, and then it died with calls open."""
    async with witnesses(2) as (old, new):
        new.respond = echo
        gateway.table([old.address], all_of=[plain()])
        asked = [asyncio.create_task(client.infer(value)) for value in range(5)]
        await until(lambda: old.calls == 5)
        gateway.table([new.address], all_of=[plain()])
        await old.stop()
        assert [await one for one in asked] == list(range(5))


async def test_a_call_waits_for_a_table_that_names_somebody(gateway: Role, client: Asker) -> None:
    """A table may come a moment after the request."""
    async with witnesses(1, echo) as (witness,):
        asked = asyncio.create_task(client.infer(7))
        await until(lambda: gateway.status.in_flight == 1)
        gateway.table([witness.address], all_of=[plain()])
        assert await asked == 7


async def test_a_call_waits_no_longer_than_its_deadline(client: Asker) -> None:
    """Nobody runs the pipeline; the deadline is what ends the wait."""
    metadata = [("grpc-timeout", "50m")]
    with pytest.raises(aio.AioRpcError) as raised:
        async with asyncio.timeout(4):
            await client.infer(7, metadata=metadata)
    assert raised.value.code() in {StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED}


@pytest.mark.slow
@pytest.mark.parametrize("known", [False, True], ids=["nobody", "dead"])
async def test_nobody_runs_it(gateway: Role, client: Asker, known: bool) -> None:
    """UNAVAILABLE after 5 s of looking, with the reason."""
    if known:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            address = f"127.0.0.1:{closed.getsockname()[1]}"
        gateway.table([address], all_of=[plain()])
    with pytest.raises(aio.AioRpcError) as raised:
        async with asyncio.timeout(7):
            await client.infer(7)
    assert raised.value.code() is StatusCode.UNAVAILABLE
    why = "no process that runs it answers" if known else "no process runs it"
    assert raised.value.details() == f"pipeline 'p' in version '1' is not available: {why}"


@pytest.mark.slow
async def test_nobody_runs_it_behind_routers_either(roles: Roles) -> None:
    """The waits of gateway and routers do not add up."""
    gateway, routers = roles.gateway(), [roles.router(), roles.router()]
    gateway.serve(plain())
    gateway.table([router.address for router in routers], any_of=True)
    async with asking(gateway.address) as client, asyncio.timeout(12):
        assert await client.code(1) == "UNAVAILABLE"


async def test_a_deadline_is_kept_while_a_connection_is_made(gateway: Role, client: Asker) -> None:
    """A host that is gone does not answer at all."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # What waits to be accepted is one connection; the handshake of the next ones is not answered.
        with socket.create_connection(full.getsockname()), socket.socket() as second:
            second.setblocking(False)
            second.connect_ex(full.getsockname())
            gateway.table([f"127.0.0.1:{full.getsockname()[1]}"], all_of=[plain()])
            with pytest.raises(aio.AioRpcError) as raised:
                async with asyncio.timeout(4):
                    await client.infer(7, metadata=[("grpc-timeout", "100m")])
    assert raised.value.code() is StatusCode.DEADLINE_EXCEEDED
