"""A cluster lives through every fault at once, again and again: the long run of which `docs/reliability.md` keeps the figures.

`BETTONG_CHAOS_S` says how long; an hour is what a release is given.
"""
# ruff: noqa: S311, T201 - a seed decides what happens, and a run says what it did

import asyncio
import random
import time
from collections import Counter
from pathlib import Path

import onnx_files
import pytest
from clusters import Role, TestedCluster, cluster
from detector import MODEL, Detector
from runs import LEAST_OPERATIONS, SECONDS, report, seed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7_200)]

FAULT_EVERY_S = 5.0
PAUSE_S = 6.5
"""Longer than a lease of 5 s."""
GROWTH_LIMIT_BYTES = 20 << 20
SETTLED_AFTER = 0.25
"""Part of a run after which memory may not grow any more."""
MIB = 1 << 20


def resident_bytes(member: Role) -> int:
    for line in Path(f"/proc/{member.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) << 10
    raise AssertionError("the kernel does not say")


async def kill(tested: TestedCluster, victim: Role) -> None:
    await victim.kill()
    await tested.restart(victim)


async def stop(tested: TestedCluster, victim: Role) -> None:
    assert await victim.stop() == 0
    await tested.restart(victim)


async def pause(_: TestedCluster, victim: Role) -> None:
    victim.pause()
    await asyncio.sleep(PAUSE_S)
    victim.resume()


async def lose_etcd(tested: TestedCluster, choose: random.Random) -> None:
    await tested.etcd.until_whole()
    server = choose.choice(tested.etcd.servers)
    server.kill()
    await asyncio.sleep(choose.uniform(1, 4))
    tested.etcd.start(server)


async def swap(tested: TestedCluster) -> None:
    await asyncio.to_thread(tested.deploy, MODEL, onnx_files.tagged(), replicas=3)


async def one_fault(tested: TestedCluster, choose: random.Random) -> str:
    """Cause one fault and return what it was. The first gateway is left alone: it is the one whose clients are asked."""
    what = choose.choice(["kill", "kill", "stop", "pause", "etcd", "swap"])
    if what == "etcd":
        await lose_etcd(tested, choose)
    elif what == "swap":
        await swap(tested)
    else:
        victim = choose.choice([*tested.of_role("executor"), *tested.of_role("router")])
        await {"kill": kill, "stop": stop, "pause": pause}[what](tested, victim)
        what += f" {victim.role}"
    return what


async def test_faults_at_random_cost_no_request_and_no_memory(tmp_path: Path) -> None:
    """Kills, stops, pauses past the lease, lost servers of etcd and new versions: nothing fails, nothing is wrong, nothing grows."""
    number = seed()
    choose = random.Random(number)
    faults: Counter[str] = Counter()
    async with cluster(tmp_path / "c", etcd_size=3) as tested:
        await swap(tested)
        gateway = tested.of_role("gateway")[0]
        detector = Detector(tested.gateways, pause_s=0.004)
        async with detector.running() as found:
            began_s = time.monotonic()
            settled_bytes = 0
            while (passed_s := time.monotonic() - began_s) < SECONDS:
                if not settled_bytes and passed_s > SETTLED_AFTER * SECONDS:
                    settled_bytes = resident_bytes(gateway)
                faults[await one_fault(tested, choose)] += 1
                await asyncio.sleep(
                    choose.uniform(0, max(0.0, FAULT_EVERY_S - (time.monotonic() - began_s - passed_s)))
                )
            await detector.until_answered(100, within_s=10)
            await detector.until_total(LEAST_OPERATIONS, within_s=60)
            grown_bytes = resident_bytes(gateway) - (settled_bytes or resident_bytes(gateway))
    report("soak", number, faults.total(), found)
    print(
        f"soak: {dict(faults)}; gateway grew by {grown_bytes / MIB:.1f} MiB to {(settled_bytes + grown_bytes) / MIB:.0f} MiB"
    )
    assert found.failed == []
    assert found.wrong == []
    assert grown_bytes <= GROWTH_LIMIT_BYTES
