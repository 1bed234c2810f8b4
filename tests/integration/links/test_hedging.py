"""Hedged calls: a call that is not answered for a while is asked of a second replica too, and the first outcome counts."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from asking import Asker, asking
from engines import Role, Roles, plain
from grpc import StatusCode
from links import Taken, WitnessServer, addresses, echo, until, witnesses

HEDGE_AFTER_MS = 20
SPARE = 100
"""Hedged calls that a process may make before any has been paid for."""


@pytest.fixture
def gateway(roles: Roles) -> Role:
    """Accept requests for `p`, and hedge them soon."""
    role = roles.gateway(hedge_after_ms=HEDGE_AFTER_MS)
    role.serve(plain())
    return role


@pytest.fixture
async def client(gateway: Role) -> AsyncIterator[Asker]:
    """Ask the gateway."""
    async with asking(gateway.address) as asker:
        yield asker


async def both_calls(servers: list[WitnessServer]) -> tuple[Taken, Taken]:
    """Return the first call and the second, which came to the other witness."""
    taken = await asyncio.gather(*(server.next_call() for server in servers))
    first, second = sorted(taken, key=lambda one: one.call.attempt)
    assert (first.call.attempt, second.call.attempt) == (0, 1)
    assert first.call.inputs == second.call.inputs
    return first, second


@pytest.mark.parametrize("winner", [0, 1], ids=["first", "second"])
async def test_the_first_outcome_counts_and_the_other_call_is_cancelled(
    gateway: Role, client: Asker, winner: int
) -> None:
    """Whichever comes first; a late outcome of the other is nobody's."""
    async with witnesses(2) as pair:
        gateway.table(addresses(pair), all_of=[plain()])
        asked = asyncio.create_task(client.infer(7))
        calls = await both_calls(pair)
        echo(calls[winner])
        assert await asked == 7
        async with asyncio.timeout(5):
            assert await calls[1 - winner].stream.cancels.get() == calls[1 - winner].call.sequence
        echo(calls[1 - winner])
        assert (gateway.links.hedged, gateway.links.hedges_won) == (1, winner)
        await until(lambda: all(peer.outstanding == 0 for peer in gateway.links.peers))


async def test_a_call_that_is_answered_soon_is_asked_once(gateway: Role, client: Asker) -> None:
    """Nothing is sent twice, however many calls there are."""
    async with witnesses(2, echo) as pair:
        gateway.table(addresses(pair), all_of=[plain()])
        assert [await client.infer(value) for value in range(100)] == list(range(100))
        hedged = gateway.links.hedged
        assert sum(server.calls for server in pair) == 100 + hedged
        # A machine that is busy may be late; that all are would be a defect.
        assert hedged < 50


async def test_without_a_choice_nothing_is_asked_twice(gateway: Role, client: Asker) -> None:
    """One replica alone is waited for."""
    async with witnesses(1) as (witness,):
        gateway.table([witness.address], all_of=[plain()])
        asked = asyncio.create_task(client.infer(7))
        taken = await witness.next_call()
        # Its pings go on while many times the delay passes.
        await until(lambda: taken.stream.pings >= 1)
        echo(taken)
        assert await asked == 7
        assert witness.calls == 1


async def test_a_deadline_before_the_delay_is_not_hedged(gateway: Role, client: Asker) -> None:
    """The second call could not be of use."""
    async with witnesses(2) as pair:
        gateway.table(addresses(pair), all_of=[plain()])
        assert await client.code(7, within_s=HEDGE_AFTER_MS / 2e3) == "DEADLINE_EXCEEDED"
        assert gateway.links.hedged == 0


@pytest.mark.parametrize("loser", [0, 1], ids=["first", "second"])
async def test_a_replica_that_goes_away_leaves_the_call_to_the_other(gateway: Role, client: Asker, loser: int) -> None:
    """Nothing is reported while the other call may be answered."""
    async with witnesses(2) as pair:
        gateway.table(addresses(pair), all_of=[plain()])
        asked = asyncio.create_task(client.infer(7))
        calls = await both_calls(pair)
        calls[loser].stream.end(StatusCode.UNAVAILABLE, "enough")
        await until(lambda: any(peer.last_error for peer in gateway.links.peers))
        assert not asked.done()
        echo(calls[1 - loser])
        assert await asked == 7


async def test_a_failure_of_the_model_is_the_answer(gateway: Role, client: Asker) -> None:
    """The other replica would fail as well: it is not waited for."""
    async with witnesses(2) as pair:
        gateway.table(addresses(pair), all_of=[plain()])
        asked = asyncio.create_task(client.code(7))
        first, _second = await both_calls(pair)
        first.fail(StatusCode.INVALID_ARGUMENT)
        assert await asked == "INVALID_ARGUMENT"


async def test_a_replica_that_gives_up_early_leaves_the_call_to_the_other(gateway: Role, client: Asker) -> None:
    """One with a long queue says that a deadline cannot be met before it has passed; the other may meet it."""
    async with witnesses(2) as pair:
        gateway.table(addresses(pair), all_of=[plain()])
        asked = asyncio.create_task(client.infer(7, within_s=30))
        first, second = await both_calls(pair)
        first.fail(StatusCode.DEADLINE_EXCEEDED)
        await until(lambda: sum(peer.outstanding for peer in gateway.links.peers) == 1)
        assert not asked.done()
        echo(second)
        assert await asked == 7


async def test_what_no_replica_has_run_is_tried_by_another_router(roles: Roles) -> None:
    """A router that has asked two says of a call that was certainly not run that it was not."""
    gateway, routers = roles.gateway(), [roles.router(hedge_after_ms=HEDGE_AFTER_MS) for _ in range(2)]
    gateway.serve(plain())
    refused: list[Taken] = []

    def refuse_once(taken: Taken) -> None:
        if refused:
            echo(taken)
        else:
            refused.append(taken)
            taken.fail(StatusCode.UNAVAILABLE, not_run=True)

    async with witnesses(2) as pair, asking(gateway.address) as client:
        for router in routers:
            router.table(addresses(pair), all_of=[plain()])
        gateway.table([router.address for router in routers], any_of=True)
        asked = asyncio.create_task(client.infer(7))
        first, second = await both_calls(pair)
        for server in pair:
            server.respond = refuse_once
        second.fail(StatusCode.UNAVAILABLE, not_run=True)
        first.fail(StatusCode.UNAVAILABLE, not_run=True)
        assert await asked == 7
        assert len(refused) == 1
        assert sum(server.calls for server in pair) == 4


async def test_when_both_fail_the_client_hears_of_it(gateway: Role, client: Asker) -> None:
    """Once, with the last failure."""
    async with witnesses(2) as pair:
        gateway.table(addresses(pair), all_of=[plain()])
        asked = asyncio.create_task(client.code(7))
        first, second = await both_calls(pair)
        first.fail(StatusCode.UNAVAILABLE, "the first")
        second.fail(StatusCode.UNAVAILABLE, "the second")
        assert await asked == "UNAVAILABLE"
        await until(lambda: all(peer.outstanding == 0 for peer in gateway.links.peers))


async def test_a_client_that_leaves_cancels_both_calls(gateway: Role, client: Asker) -> None:
    """No replica works for nobody."""
    async with witnesses(2) as pair:
        gateway.table(addresses(pair), all_of=[plain()])
        asked = asyncio.create_task(client.infer(7))
        calls = await both_calls(pair)
        asked.cancel()
        async with asyncio.timeout(5):
            for one in calls:
                assert await one.stream.cancels.get() == one.call.sequence


async def test_a_router_hedges_for_the_gateways_that_ask_it(roles: Roles) -> None:
    """It is the one that knows the replicas; the gateway before it asks once."""
    router = roles.router(hedge_after_ms=HEDGE_AFTER_MS)
    gateway = roles.gateway(hedge_after_ms=HEDGE_AFTER_MS)
    gateway.serve(plain())
    async with witnesses(2) as pair, asking(gateway.address) as client:
        router.table(addresses(pair), all_of=[plain()])
        gateway.table([router.address], any_of=True)
        asked = asyncio.create_task(client.infer(7))
        _first, second = await both_calls(pair)
        echo(second)
        assert await asked == 7
        assert (router.links.hedged, router.links.hedges_won, gateway.links.hedged) == (1, 1, 0)


async def test_hedges_are_paid_for_from_the_budget_of_retries(gateway: Role, client: Asker) -> None:
    """What is saved up at first, then a fifth of the calls: an overload is not doubled."""
    calls = 500
    async with witnesses(2) as pair:
        gateway.table(addresses(pair), all_of=[plain()])
        asked = [asyncio.create_task(client.infer(value)) for value in range(calls)]
        await until(lambda: sum(server.calls for server in pair) == calls + SPARE + calls // 5)
        for server in pair:
            server.respond = echo
            while not server.taken.empty():
                echo(server.taken.get_nowait())
        assert [await one for one in asked] == list(range(calls))
        assert gateway.links.hedged == SPARE + calls // 5
