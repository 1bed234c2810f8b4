"""A gateway, two routers and three executors, while links break and tables change: each answer belongs to its request, once.

The model gives the number of the request and of each row back, so that an answer that is lost, doubled, swapped or cut shows.
"""
# ruff: noqa: S311, T201 - a seed decides what happens, and a run says what it did

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_files
import pytest
from asking import Asker, asking
from engines import Role, Roles
from grpc import aio
from links import WitnessServer, linked, until, witnesses
from tritonclient.grpc import service_pb2 as pb

from bettong.internal.v1 import snapshot_pb2

EXECUTORS = 3


@dataclass
class Trouble:
    """Everything that changes while requests are under way."""

    gateway: Role
    routers: list[Role]
    executors: list[Role]
    stranger: WitnessServer
    """Takes calls, and never answers one as it should."""
    program: snapshot_pb2.Program
    file: Path
    happened: Counter[str] = field(default_factory=Counter)

    def steady(self) -> None:
        """Have everybody know everybody."""
        self.gateway.table([router.address for router in self.routers], any_of=True)
        for router in self.routers:
            router.table([executor.address for executor in self.executors], all_of=[self.program])

    def some_executors(self, choose: random.Random) -> None:
        """Have a router know one executor or two, and perhaps the stranger."""
        known = [one.address for one in choose.sample(self.executors, choose.randint(1, EXECUTORS))]
        if choose.random() < 0.5:
            known.insert(0, self.stranger.address)
        choose.choice(self.routers).table(known, all_of=[self.program])

    def past_the_routers(self, _choose: random.Random) -> None:
        """Have the gateway forward to executors itself."""
        self.gateway.table([executor.address for executor in self.executors], all_of=[self.program])

    def one_router(self, choose: random.Random) -> None:
        """Have the gateway know one router only."""
        self.gateway.table([choose.choice(self.routers).address], any_of=True)

    def everybody(self, _choose: random.Random) -> None:
        """Bring calm."""
        self.steady()

    def hosted_anew(self, choose: random.Random) -> None:
        """Stop the program on one executor and run it again."""
        executor = choose.choice(self.executors)
        executor.unhost(self.program.pipeline)
        executor.host(self.program.pipeline, self.file)

    async def run(self, choose: random.Random, over: asyncio.Event) -> None:
        """Make trouble until the requests are over."""
        ways = [self.some_executors, self.past_the_routers, self.one_router, self.everybody, self.hosted_anew]
        while not over.is_set():
            way = choose.choice(ways)
            way(choose)
            self.happened[way.__name__] += 1
            while not self.stranger.taken.empty():
                self._spoil(choose)
            before = self.gateway.status.answered
            await until(lambda before=before: over.is_set() or self._has_gone_on(before))  # type: ignore[misc]  # a default argument binds

    def _has_gone_on(self, before: int) -> bool:
        """Whether more has been answered, or everybody waits for the stranger."""
        status = self.gateway.status
        return status.answered > before + 10 or 0 < status.in_flight <= self.stranger.taken.qsize()

    def _spoil(self, choose: random.Random) -> None:
        """End the stranger's stream with a call open, say twice that it was not run, or answer what nobody asked."""
        taken = self.stranger.taken.get_nowait()
        self.happened["stranger"] += 1
        match choose.randint(0, 2):
            case 0:
                taken.stream.end()
            case 1:
                for _ in range(2):
                    taken.say(failure={"code": 14, "message": "not here", "not_run": True})
            case _:
                taken.stream.say(outcomes=[{"sequence": taken.call.sequence + (1 << 20), "outputs": taken.call.inputs}])
                taken.stream.end()


@pytest.fixture
async def trouble(roles: Roles, files: Path) -> AsyncIterator[Trouble]:
    """Run `tagged` on three executors behind two routers."""
    file = files / "tagged.onnx"
    executors = [roles.executor() for _ in range(EXECUTORS)]
    program, *_ = [executor.host("tagged", file) for executor in executors]
    gateway, routers = roles.gateway(silence_ms=500), [roles.router(silence_ms=300) for _ in range(2)]
    gateway.serve(program)
    async with witnesses() as (stranger,):
        made = Trouble(gateway, routers, executors, stranger, program, file)
        made.steady()
        yield made


async def ask(client: Asker, number: int, rows: int) -> str:
    """Ask, and return the status; an answer must be that of this request."""
    tag = np.array([[number, row] for row in range(rows)], np.int64)
    x = np.random.default_rng(number).normal(size=(rows, 3)).astype(np.float32)
    request = pb.ModelInferRequest(model_name="tagged", id=str(number))
    for name, datatype, values in (("tag", "INT64", tag), ("x", "FP32", x)):
        request.inputs.add(name=name, datatype=datatype, shape=values.shape)
        request.raw_input_contents.append(values.tobytes())
    try:
        reply = await client.send(request)
    except aio.AioRpcError as error:
        return f"{error.code().name}: {error.details()}"
    echoed, y, _ = reply.raw_output_contents
    assert reply.id == str(number)
    np.testing.assert_array_equal(tag, np.frombuffer(echoed, np.int64).reshape(tag.shape))
    np.testing.assert_allclose(
        x @ onnx_files.TAGGED_WEIGHTS, np.frombuffer(y, np.float32).reshape(rows, 4), rtol=1e-4, atol=1e-5
    )
    return "OK"


async def ask_all(trouble: Trouble, seed: int, count: int) -> Counter[str]:
    """Ask from a few clients at once while there is trouble."""
    choose, over, numbers = random.Random(seed), asyncio.Event(), iter(range(count))
    found: Counter[str] = Counter()

    async def one_client(client: Asker) -> None:
        for number in numbers:
            found[await ask(client, number, 1 + number % 7 + 2_000 * (number % 97 == 0))] += 1

    making = asyncio.create_task(trouble.run(random.Random(seed), over))
    async with asking(trouble.gateway.address) as client:
        try:
            await asyncio.gather(*(one_client(client) for _ in range(choose.randint(8, 24))))
        finally:
            over.set()
            await making
    again = sum(role.links.retried for role in (trouble.gateway, *trouble.routers))
    print(f"seed {seed}: {dict(found)}, {dict(trouble.happened)}, {again} tried again")
    return found


async def nothing_left(trouble: Trouble) -> None:
    """Wait until nobody counts anything as open, and links of all still work."""
    every = [trouble.gateway, *trouble.routers, *trouble.executors]
    await until(lambda: [role.status.in_flight for role in every] == [0] * len(every))
    for role in [trouble.gateway, *trouble.routers]:
        assert [peer.outstanding for peer in role.links.peers] == [0] * len(role.links.peers)
    for role in [*trouble.routers, *trouble.executors]:
        async with linked(role.address) as client:
            await client.settle()


async def test_a_calm_cluster_answers_everybody(trouble: Trouble) -> None:
    """Through both hops, on both routers' links."""
    async with asking(trouble.gateway.address) as client:
        found = await asyncio.gather(*(ask(client, number, 1 + number % 9) for number in range(60)))
    assert set(found) == {"OK"}
    await nothing_left(trouble)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
async def test_every_answer_belongs_to_its_request(trouble: Trouble, seed: int) -> None:
    """Nothing is lost, doubled or swapped; what could be answered is."""
    found = await ask_all(trouble, seed, 3_000)
    assert found.total() == 3_000
    assert trouble.happened["stranger"] > 0
    assert found["OK"] == 3_000, found
    trouble.steady()
    await nothing_left(trouble)


@pytest.mark.slow
async def test_nothing_is_lost_when_executors_leave_under_load(trouble: Trouble) -> None:
    """One after the other is drained as for an update; the routers learn of it only by their links, and then by a table."""
    over = asyncio.Event()
    found: Counter[str] = Counter()

    async def one_client(client: Asker, start: int) -> None:
        number = start
        while not over.is_set():
            found[await ask(client, number, 1 + number % 5)] += 1
            number += 8

    async with asking(trouble.gateway.address) as client, asyncio.TaskGroup() as tasks:
        for start in range(8):
            tasks.create_task(one_client(client, start))
        for gone in range(EXECUTORS - 1):
            before = found.total()
            await until(lambda before=before: found.total() > before + 50)  # type: ignore[misc]  # a default argument binds
            assert await asyncio.to_thread(trouble.executors[gone].gateway.drain, 5.0)
            for router in trouble.routers:
                router.table([one.address for one in trouble.executors[gone + 1 :]], all_of=[trouble.program])
        over.set()
    assert set(found) == {"OK"}
