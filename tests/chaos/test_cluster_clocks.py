"""Members whose clocks are days apart: a clock is shown to people and orders nothing.

Needs libfaketime (Debian: `apt-get install libfaketime`). `BETTONG_CHAOS_S` makes the run longer, `BETTONG_SEED` repeats it.
"""
# ruff: noqa: S311, T201 - a seed decides what happens, and a run says what it did

import asyncio
import random
import time
from pathlib import Path

import onnx_files
import pytest
from clusters import TestedCluster, cluster
from detector import MODEL, Detector, Right
from runs import LEAST_OPERATIONS, SECONDS, report, seed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7_200)]

DAY_S = 24 * 3600
FACTORS = {str(version): float(version) for version in range(1, 1_000)}


def faking_library() -> Path:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found:
        pytest.skip("libfaketime is not installed")
    return found[0]


async def set_clocks_apart(tested: TestedCluster, library: Path, choose: random.Random) -> dict[str, int]:
    """Start every member again with a clock of its own; return by how many seconds each is off."""
    off_s: dict[str, int] = {}
    for index, member in enumerate(tested.members.values()):
        # Every second one is behind, none is near another.
        off_s[member.name] = (index + 2) * DAY_S * (-1) ** index + choose.randrange(-DAY_S // 3, DAY_S // 3)
        await member.stop()
        clock = [f"LD_PRELOAD={library}", f"FAKETIME={off_s[member.name]:+d}", "FAKETIME_DONT_FAKE_MONOTONIC=1"]
        member.command = ["env", *clock, *member.command]
        await tested.restart(member)
    return off_s


def clocks_differ(tested: TestedCluster) -> bool:
    """Return whether members log times of days that are apart by a day at least."""
    days = {str(line["timestamp"])[:10] for member in tested.members.values() for line in member.lines[:1]}
    return len(days) > 2


async def test_clocks_that_are_days_apart_change_nothing(tmp_path: Path) -> None:
    """Swaps through gateways with different clocks are in order, and kills cost no request."""
    number, library = seed(), faking_library()
    choose = random.Random(number)
    async with cluster(tmp_path / "c", gateways=2) as tested:
        off_s = await set_clocks_apart(tested, library, choose)
        assert clocks_differ(tested)
        await asyncio.to_thread(tested.deploy, MODEL, onnx_files.tagged(1), replicas=3)
        detector = Detector(tested.gateways, pause_s=0.004, right=Right(factors=FACTORS))
        async with detector.running() as found:
            end_s, version = time.monotonic() + SECONDS, 1
            while time.monotonic() < end_s:
                version += 1
                await asyncio.to_thread(tested.deploy, MODEL, onnx_files.tagged(version), replicas=3)
                await detector.until_settled(within_s=10)
                before = found.versions.copy()
                await detector.until_answered(50, within_s=10)
                assert set(found.versions - before) == {str(version)}
                victim = choose.choice([*tested.of_role("executor"), *tested.of_role("router")])
                await victim.kill()
                await tested.restart(victim)
            await detector.until_total(LEAST_OPERATIONS, within_s=60)
    print(f"clocks are off by {', '.join(f'{each / DAY_S:+.1f}' for each in off_s.values())} days; {version - 1} swaps")
    report("clocks apart", number, 2 * (version - 1), found)
    assert found.failed == []
    assert found.wrong == []
