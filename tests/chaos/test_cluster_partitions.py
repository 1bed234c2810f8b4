"""Parts of a cluster are cut from each other, one way and both ways, and healed; each request is answered or told why not, in time.

Every process has a network namespace of its own. `BETTONG_CHAOS_S` of 60 and more makes every cut at least once, `BETTONG_SEED` repeats a
run.
"""
# ruff: noqa: S311, T201 - a seed decides what happens, and a run says what it did

import asyncio
import contextlib
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import onnx_files
import pytest
from clusters import TestedCluster, cluster
from detector import MODEL, Detector, Right
from networks import CLIENT, Network, network
from runs import IS_LONG, LEAST_OPERATIONS, SECONDS, report, seed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7_200)]

ETCD = "etcd-n0"
PAUSE_S = 0.004
CUT_S = (1.0, 4.0)
"""Shorter and longer than what a silent peer is given."""
PAST_THE_DEADLINE_S = (3.0, 5.0)
PAST_THE_LEASE_S = (6.0, 9.0)
"""A lease is 5 s, and etcd may end it a little later."""
SWAP_CUT_S = (14.0, 16.0)
"""A lease, the swap, and until executors have given up what was replaced."""
DEADLINE_S = 2.0
LATE_S = 1.0
"""How much later than its deadline a request may be told that it failed."""
HEALED_S = 5.0
CALM_S = 1.0
PAST_ALL_S = DEADLINE_S + 0.5
"""Until what began before a cut was healed has certainly been told."""
CLEAR = (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)
WAYS = ("there", "back", "both")


@dataclass
class Cuts:
    """What was cut so far, and how long it took to heal."""

    tested: TestedCluster
    net: Network
    detector: Detector
    seed: int
    calm_s: float
    """How long nothing may be refused before all is as before."""
    choose: random.Random = field(init=False)
    done: list[str] = field(default_factory=list)
    healed_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.choose = random.Random(self.seed)

    async def make(self, one: str, other: str, way: str, *, lasting_s: tuple[float, float] = CUT_S) -> None:
        """Cut two places from each other for a while, heal them, and wait until all is as before."""
        before, seconds = self.detector.findings.troubles, self.choose.uniform(*lasting_s)
        ways = {"there": [(one, other)], "back": [(other, one)], "both": [(one, other), (other, one)]}
        for sender, receiver in ways[way]:
            self.net.cut(sender, receiver)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.net.heal()
        took_s = await self._until_calm()
        self.healed_s.append(took_s)
        self.done.append(f"{one} {dict(zip(WAYS, ('->', '<-', '|'), strict=True))[way]} {other}")
        troubles = self.detector.findings.troubles - before
        print(f"  {self.done[-1]} for {seconds:.1f} s: {troubles} not answered, last {took_s:.2f} s after healing")

    async def _until_calm(self) -> float:
        """Return how long after now the last request was not answered."""
        healed_s, found = time.monotonic(), self.detector.findings
        last_s, troubles, answered = healed_s, found.troubles, found.answered
        while time.monotonic() - last_s < self.calm_s or found.answered - answered < 50:
            await asyncio.sleep(0.02)
            if found.troubles != troubles:
                last_s, troubles, answered = time.monotonic(), found.troubles, found.answered
            assert last_s - healed_s < HEALED_S, f"not healed: {found.failed[-1:]}, {found.refused}"
        return last_s - healed_s

    async def until_all_are_seen(self) -> float:
        """Wait until every gateway sees all members, and etcd; return how long that took."""
        began_s = time.monotonic()
        await self.tested.until_seen(within_s=10)
        return time.monotonic() - began_s


@contextlib.asynccontextmanager
async def cuttable(
    folder: Path,
    *,
    routers: int,
    executors: int,
    gateways: int = 1,
    deadline_s: float = 5.0,
    refusals: Iterable[int] = (),
) -> AsyncIterator[Cuts]:
    """Run a cluster in namespaces that serves, and a load on it."""
    with network() as net:
        async with cluster(
            folder / "c", gateways=gateways, routers=routers, executors=executors, network=net
        ) as tested:
            await asyncio.to_thread(tested.deploy, MODEL, onnx_files.tagged(), replicas=executors)
            timeout_ms, right = int(deadline_s * 1e3), Right(refusals=frozenset(refusals))
            detector = Detector(tested.gateways, timeout_ms=timeout_ms, pause_s=PAUSE_S, right=right)
            async with detector.running():
                await detector.until_answered(100, within_s=20)
                yield Cuts(tested, net, detector, seed(), PAST_ALL_S if refusals else CALM_S)
                await detector.until_total(LEAST_OPERATIONS, within_s=60)


def shuffled(pairs: Iterable[tuple[str, str]], choose: random.Random) -> Callable[[], Iterable[tuple[str, str, str]]]:
    """Return what yields cuts in a random order until the time is over, in a long run each of them at least once."""
    cuts = [(*pair, way) for pair, way in itertools.product(pairs, WAYS)]

    def until_the_end() -> Iterable[tuple[str, str, str]]:
        end_s = time.monotonic() + SECONDS
        for round_ in itertools.count():
            choose.shuffle(cuts)
            for cut in cuts:
                if time.monotonic() >= end_s and (round_ or not IS_LONG):
                    return
                yield cut

    return until_the_end


async def test_a_cut_of_the_only_way_is_told_in_time(tmp_path: Path) -> None:
    """With one member of each role, a cut costs what cannot be answered: each request says so by its deadline, and none is wrong."""
    async with cuttable(tmp_path, routers=1, executors=1, deadline_s=DEADLINE_S, refusals=CLEAR) as cuts:
        pairs = [("gateway-1", "router-1"), ("router-1", "executor-1")]
        for cut in shuffled(pairs, cuts.choose)():
            await cuts.make(*cut, lasting_s=PAST_THE_DEADLINE_S)
    found = cuts.detector.findings
    print(f"refused {dict(found.refused)}, longest {found.longest_s:.2f} s, healed within {max(cuts.healed_s):.2f} s")
    report("the only way", cuts.seed, len(cuts.done), found)
    assert found.refused.total() > 0
    assert found.failed == []
    assert found.wrong == []
    assert found.longest_s <= DEADLINE_S + LATE_S


async def test_clients_are_answered_again_after_a_cut(tmp_path: Path) -> None:
    """A client that was cut from its gateway gets no wrong answer, and is answered as soon as it can be reached."""
    async with cuttable(tmp_path, routers=1, executors=1, deadline_s=DEADLINE_S) as cuts:
        cuts.detector.patience_s = LATE_S
        for cut in shuffled([(CLIENT, "gateway-1")], cuts.choose)():
            await cuts.make(*cut)
    found = cuts.detector.findings
    print(f"healed within {max(cuts.healed_s):.2f} s")
    report("client | gateway", cuts.seed, len(cuts.done), found)
    assert found.failed
    assert found.wrong == []


@pytest.mark.parametrize(("routers", "executors"), [(2, 3), (0, 3)], ids=["routers", "router inside"])
async def test_a_cut_beside_another_way_costs_nothing(tmp_path: Path, routers: int, executors: int) -> None:
    """Where another router or executor can be reached, no request fails."""
    pairs = [("gateway-1", f"router-{index}") for index in range(1, routers + 1)]
    sources = [f"router-{index}" for index in range(1, routers + 1)] or ["gateway-1"]
    pairs += [(source, f"executor-{index}") for source in sources for index in range(1, executors + 1)]
    async with cuttable(tmp_path, routers=routers, executors=executors) as cuts:
        for cut in shuffled(pairs, cuts.choose)():
            await cuts.make(*cut)
    found = cuts.detector.findings
    report("another way", cuts.seed, len(cuts.done), found)
    assert found.failed == []
    assert found.wrong == []


@pytest.mark.parametrize(("routers", "executors"), [(2, 3), (1, 1)], ids=["redundant", "one of each"])
async def test_members_that_are_cut_from_etcd_serve_on(tmp_path: Path, routers: int, executors: int) -> None:
    """Longer than their leases: no request fails, even where the member is the only one, and all are seen again soon."""
    seen_s = []
    async with cuttable(tmp_path, routers=routers, executors=executors) as cuts:
        for cut in shuffled([(ETCD, member) for member in cuts.tested.members], cuts.choose)():
            await cuts.make(*cut, lasting_s=PAST_THE_LEASE_S)
            seen_s.append(await cuts.until_all_are_seen())
    found = cuts.detector.findings
    print(f"all seen again {max(seen_s) + CALM_S:.2f} s after it was healed")
    report("cut from etcd", cuts.seed, len(cuts.done), found)
    assert found.failed == []
    assert found.wrong == []


async def swap_beside_a_cut(cuts: Cuts, member: str) -> float:
    """Swap a version while a member is cut from etcd, heal it, see that it follows, and return how long the swap took."""
    found = cuts.detector.findings
    cut = asyncio.create_task(cuts.make(ETCD, member, "both", lasting_s=SWAP_CUT_S))
    await asyncio.sleep(1)
    began_s = time.monotonic()
    await asyncio.to_thread(cuts.tested.deploy, MODEL, onnx_files.tagged(2), replicas=3)
    swapped_s = time.monotonic() - began_s
    await cut
    await cuts.until_all_are_seen()
    await asyncio.sleep(CALM_S)
    before = Counter(found.versions)
    await cuts.detector.until_answered(200, within_s=10)
    assert set(found.versions - before) == {"2"}
    print(f"swapped in {swapped_s:.2f} s beside {member}")
    return swapped_s


@pytest.mark.parametrize("member", ["router-1", "executor-1"])
async def test_a_swap_beside_a_cut_from_etcd_costs_nothing(tmp_path: Path, member: str) -> None:
    """A member that does not hear of a swap is waited for as long as its lease, no longer; no request fails, and it follows later."""
    async with cuttable(tmp_path, routers=2, executors=3) as cuts:
        swapped_s = await swap_beside_a_cut(cuts, member)
    found = cuts.detector.findings
    report("swap beside a cut", cuts.seed, len(cuts.done), found)
    assert found.failed == []
    assert found.wrong == []
    assert swapped_s < PAST_THE_LEASE_S[1]


async def test_a_gateway_that_misses_a_swap_says_so_in_time(tmp_path: Path) -> None:
    """Cut from etcd past its lease, it knows the version before only: when that is gone, requests are told by their deadline."""
    async with cuttable(tmp_path, routers=2, executors=3, gateways=2, deadline_s=DEADLINE_S, refusals=CLEAR) as cuts:
        swapped_s = await swap_beside_a_cut(cuts, "gateway-2")
    found = cuts.detector.findings
    print(f"refused {dict(found.refused)}, longest {found.longest_s:.2f} s, healed within {max(cuts.healed_s):.2f} s")
    report("gateway misses a swap", cuts.seed, len(cuts.done), found)
    assert found.failed == []
    assert found.wrong == []
    assert found.longest_s <= DEADLINE_S + LATE_S
    assert swapped_s < PAST_THE_LEASE_S[1]
