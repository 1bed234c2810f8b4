"""A router: where calls go, and what it says that it can pass on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fakes.clock import ManualClock
from fakes.engine import FakeEngine
from fakes.sight import PREFIX, FakeReports, FakeSight

from bettong_domain.deployments import ReplicaState
from bettong_domain.forwarding import Peer
from bettong_domain.hosts import Running
from bettong_domain.pipelines import PipelineKey
from bettong_router.app import RouterApp
from bettong_serving.forwarding import Forwarding

P1 = PipelineKey("p", 1)


class Router:
    """A router under test, and the cluster that it sees."""

    def __init__(self) -> None:
        self.sight, self.engine, self.reports = FakeSight(), FakeEngine(), FakeReports()
        clock = ManualClock()
        self.app = RouterApp(self.sight, Forwarding(self.engine, prefix=PREFIX, clock=clock), self.reports, clock)

    async def when(self, *peers: str) -> None:
        """Wait until calls for version 1 go to these."""
        expected = [Peer(f"executor/{name}", f"{name}:1", 1) for name in peers]
        async with asyncio.timeout(5):
            while list(self.engine.table.replicas.get(P1, ())) != expected:  # noqa: ASYNC110 - only turns are needed
                await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def routing() -> AsyncIterator[Router]:
    """Run a router in a cluster of nobody."""
    router = Router()
    running = asyncio.create_task(router.app.run())
    try:
        await router.app.ready()
        yield router
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.wait({running})


async def test_a_router_that_could_not_tell_what_it_knows_is_not_ready() -> None:
    """Gateways do not wait for one that has said nothing."""
    async with routing() as router:
        router.reports.may_tell.clear()
        ready = asyncio.create_task(router.app.ready())
        await asyncio.sleep(0)
        assert not ready.done()
        router.reports.may_tell.set()
        await asyncio.wait_for(ready, 5)


async def test_calls_go_to_executors_that_are_ready() -> None:
    """Each change of who is ready reaches the forwarder; gateways learn what can be passed on."""
    async with routing() as router:
        assert router.reports.newest == {}
        for name in ("e1", "e2"):
            router.sight.join("executor", name)
        router.sight.say("executor", "e1", p="1 ready, 2 loading")
        await router.when("e1")
        assert router.reports.newest == {P1: Running(ReplicaState.READY)}
        router.sight.say("executor", "e2", p="1 ready")
        await router.when("e1", "e2")
        router.sight.leave("executor", "e1")
        await router.when("e2")


async def test_tables_are_given_only_when_they_changed() -> None:
    """A report that changes nothing for calls costs the engine nothing."""
    async with routing() as router:
        router.sight.join("executor", "e1")
        router.sight.say("executor", "e1", p="1 ready")
        await router.when("e1")
        table = router.engine.table
        router.sight.say("executor", "e1", p="1 ready", q="1 loading")
        router.sight.join("gateway", "g1")
        await router.sight.commit_nothing()
        for _ in range(10):
            await asyncio.sleep(0)
        assert router.reports.revision == router.sight.desired.revision
        assert router.engine.table is table


async def test_a_member_with_a_broken_address_leaves_the_last_table() -> None:
    """What the engine refuses is logged; calls go on by what it knew."""
    async with routing() as router:
        router.sight.join("executor", "e1")
        router.sight.say("executor", "e1", p="1 ready")
        await router.when("e1")
        router.engine.refuse_table = True
        router.sight.join("executor", "e2")
        router.sight.say("executor", "e2", p="1 ready")
        for _ in range(10):
            await asyncio.sleep(0)
        await router.when("e1")
        router.engine.refuse_table = False
        router.sight.nudge()
        await router.when("e1", "e2")
