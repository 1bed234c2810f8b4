"""Which replica takes a call."""

import asyncio
from collections.abc import Callable

import pytest
from asking import asking
from engines import Roles, plain
from links import Taken, WitnessServer, addresses, echo, until, witnesses


def loaded(rows: int) -> Callable[[Taken], None]:
    """Answer, and say that so many rows wait."""
    return lambda taken: taken.say(outputs=taken.call.inputs, waiting_rows=rows)


async def test_calls_go_where_least_is_open(roles: Roles) -> None:
    """Two replicas of which one does not answer: it gets no more than a few."""
    gateway = roles.gateway()
    gateway.serve(plain())
    async with witnesses(2) as (stuck, quick), asking(gateway.address) as client:
        quick.respond = echo
        gateway.table([stuck.address, quick.address], all_of=[plain()])
        asked: list[asyncio.Task[float]] = []
        while not stuck.calls:
            asked.extend(asyncio.create_task(client.infer(value)) for value in range(4))
            await until(lambda: stuck.calls + quick.calls >= len(asked))
        before = stuck.calls
        assert [await client.infer(value) for value in range(40)] == list(range(40))
        assert stuck.calls == before
        while not all(one.done() for one in asked):
            echo(await stuck.next_call())
            await asyncio.wait(asked, timeout=0.01)


async def test_a_replica_with_much_waiting_gets_fewer_calls(roles: Roles) -> None:
    """Others give it work, too; it says so with each outcome."""
    gateway = roles.gateway()
    gateway.serve(plain())
    async with witnesses(2) as (loaded_one, idle), asking(gateway.address) as client:
        loaded_one.respond, idle.respond = loaded(500), loaded(0)
        gateway.table([loaded_one.address, idle.address], all_of=[plain()])
        for value in range(60):
            await client.infer(value)
        assert idle.calls > 4 * loaded_one.calls
        assert {peer.waiting_rows for peer in gateway.links.peers} == {0, 500}


@pytest.mark.slow
async def test_what_a_replica_said_long_ago_counts_no_more(roles: Roles) -> None:
    """It was busy once, and nobody has asked it since: it must be asked again."""
    gateway = roles.gateway()
    gateway.serve(plain())
    async with witnesses(2) as (once_busy, other), asking(gateway.address) as client:
        once_busy.respond, other.respond = loaded(10_000), loaded(3)
        gateway.table([once_busy.address, other.address], all_of=[plain()])
        while not once_busy.calls:
            await client.infer(1)
        before = once_busy.calls
        once_busy.respond = loaded(0)
        async with asyncio.timeout(10):
            while once_busy.calls == before:
                await client.infer(2)


@pytest.mark.parametrize("count", [2, 5])
async def test_each_pipeline_keeps_to_one_router(roles: Roles, count: int) -> None:
    """Which one it is follows from the names: two gateways agree, and pipelines are spread."""
    programs = [plain(f"p{at}") for at in range(40)]

    async def chosen(every: list[WitnessServer]) -> dict[str, str]:
        gateway = roles.gateway()
        gateway.serve(*programs)
        gateway.table(addresses(every), any_of=True)
        places: dict[str, str] = {}

        def note(address: str) -> Callable[[Taken], None]:
            def respond(taken: Taken) -> None:
                assert places.setdefault(taken.name[0], address) == address
                echo(taken)

            return respond

        for server in every:
            server.respond = note(server.address)
        async with asking(gateway.address) as client:
            for _ in range(2):
                await asyncio.gather(*(client.infer(1, model=program.pipeline) for program in programs))
        return places

    async with witnesses(count) as every:
        first, second = await chosen(every), await chosen(every)
        assert first == second
        shares = [list(first.values()).count(server.address) for server in every]
        assert min(shares) > 40 / count / 4, shares


async def test_a_router_that_is_gone_is_replaced_by_the_next(roles: Roles) -> None:
    """Its pipelines go elsewhere, the others stay where they were."""
    programs = [plain(f"p{at}") for at in range(20)]
    gateway = roles.gateway()
    gateway.serve(*programs)
    async with witnesses(3, echo) as trio, asking(gateway.address) as client:
        found: dict[str, str] = {}

        def note(address: str) -> Callable[[Taken], None]:
            def respond(taken: Taken) -> None:
                found[taken.name[0]] = address
                echo(taken)

            return respond

        async def ask() -> dict[str, str]:
            found.clear()
            for program in programs:
                await client.infer(1, model=program.pipeline)
            return dict(found)

        for server in trio:
            server.respond = note(server.address)
        gateway.table(addresses(trio), any_of=True)
        before = await ask()
        await trio[0].stop()
        after = await ask()
        stayed = [name for name, place in before.items() if place != trio[0].address]
        assert stayed
        assert [after[name] for name in stayed] == [before[name] for name in stayed]
        assert trio[0].address not in after.values()
