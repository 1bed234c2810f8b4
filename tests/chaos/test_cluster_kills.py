"""Members of a cluster are killed, paused and asked to end under load; no request is lost, mixed up or answered twice.

`BETTONG_CHAOS_S` makes each run longer, `BETTONG_SEED` repeats one.
"""
# ruff: noqa: S311, T201 - a seed decides what happens, and a run says what it did

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import onnx_files
import pytest
from clusters import Role, TestedCluster, cluster
from detector import MODEL, Detector
from runs import SECONDS, report, seed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7_200)]

LEAST_OPERATIONS = int(50 * SECONDS)
HEDGE_AFTER_MS = "50"
SILENCE_S = 1.5
"""Without hedging, a replica that hangs is waited for as long."""


async def kill_and_start_again(tested: TestedCluster, victim: Role) -> None:
    await victim.kill()
    await tested.restart(victim)


async def pause_past_the_lease(_: TestedCluster, victim: Role) -> None:
    victim.pause()
    # Longer than its lease of 5 s, so that the others go on without it.
    await asyncio.sleep(6)
    victim.resume()


async def inject(
    tested: TestedCluster,
    roles: tuple[str, ...],
    fault: Callable[[TestedCluster, Role], Awaitable[None]],
    choose: random.Random,
) -> int:
    """Cause faults one after another until the time is over; return how many."""
    end_s, faults = time.monotonic() + SECONDS, 0
    while time.monotonic() < end_s:
        await fault(tested, choose.choice([member for role in roles for member in tested.of_role(role)]))
        faults += 1
        await asyncio.sleep(choose.uniform(0.2, 1.0))
    return faults


@pytest.mark.parametrize("roles", [("executor",), ("router",), ("executor", "router")], ids="-".join)
async def test_killed_members_cost_no_request(tmp_path: Path, roles: tuple[str, ...]) -> None:
    """Executors and routers that are killed and started again are not seen by clients that do not try again."""
    number = seed()
    async with cluster(tmp_path / "c") as tested:
        await asyncio.to_thread(tested.deploy, MODEL, onnx_files.tagged(), replicas=3)
        async with Detector(tested.gateways).running() as found:
            faults = await inject(tested, roles, kill_and_start_again, random.Random(number))
    report(f"kill {'+'.join(roles)}", number, faults, found, least=LEAST_OPERATIONS)
    assert found.failed == []
    assert found.wrong == []


async def test_paused_members_give_no_stale_answer(tmp_path: Path) -> None:
    """An executor or router that is stopped for longer than its lease and goes on answers nobody twice or wrongly."""
    number = seed()
    async with cluster(tmp_path / "c") as tested:
        await asyncio.to_thread(tested.deploy, MODEL, onnx_files.tagged(), replicas=3)
        async with Detector(tested.gateways).running() as found:
            faults = await inject(tested, ("executor", "router"), pause_past_the_lease, random.Random(number))
    report("pause", number, faults, found, least=LEAST_OPERATIONS)
    assert found.failed == []
    assert found.wrong == []


async def test_hedged_requests_do_not_wait_for_a_paused_executor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other replica answers what a paused one has, long before its silence is noticed."""
    number = seed()
    monkeypatch.setenv("BETTONG_HEDGE_AFTER_MS", HEDGE_AFTER_MS)
    async with cluster(tmp_path / "c") as tested:
        await asyncio.to_thread(tested.deploy, MODEL, onnx_files.tagged(), replicas=3)
        async with Detector(tested.gateways).running() as found:
            faults = await inject(tested, ("executor",), pause_past_the_lease, random.Random(number))
        counts = [await asyncio.to_thread(router.counts) for router in tested.of_role("router")]
    hedged = sum(each.total("bettong_link_hedges_won_total") for each in counts)
    print(f"{hedged:.0f} answered by the second replica first")
    report("hedged pause", number, faults, found, least=LEAST_OPERATIONS)
    assert hedged > 0
    assert found.failed == []
    assert found.wrong == []
    assert found.longest_s < SILENCE_S


async def test_members_that_are_asked_to_end_lose_nothing(tmp_path: Path) -> None:
    """SIGTERM drains every role: the exit code is 0 and clients that do not try again see nothing but a closed connection."""
    number = seed()
    choose = random.Random(number)

    async def stop_and_start(tested: TestedCluster, victim: Role) -> None:
        assert await victim.stop() == 0
        await tested.restart(victim)

    async with cluster(tmp_path / "c", gateways=2) as tested:
        await asyncio.to_thread(tested.deploy, MODEL, onnx_files.tagged(), replicas=3)
        # The second gateway is left alone, so that a client whose gateway said goodbye has somewhere to go.
        async with Detector(tested.gateways[1:]).running() as found:
            faults = await inject(tested, ("executor", "router"), stop_and_start, choose)
    report("SIGTERM", number, faults, found, least=LEAST_OPERATIONS)
    assert found.failed == []
    assert found.wrong == []
