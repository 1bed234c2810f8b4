"""What is deployed, and who is there, changes while requests come: each is answered, by one version, once.

`BETTONG_CHAOS_S` of 60 and more makes all 100 swaps, `BETTONG_SEED` repeats a run.
"""
# ruff: noqa: S311, T201 - a seed decides what happens, and a run says what it did

import asyncio
import contextlib
import math
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import onnx_files
import pytest
from clusters import TestedCluster, cluster
from detector import MODEL, Detector, Findings, Right
from runs import IS_LONG, LEAST_OPERATIONS, report, seed

import bettong

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_600)]

SWAPS = 100 if IS_LONG else 10
REQUESTS = 100_000 if IS_LONG else 5_000
"""As many while versions are swapped; a fifth of that before, to compare with."""
CONNECTIONS = 8
LONGER_P99 = 1.5
SHARES_CORES = (os.cpu_count() or 1) < 8
"""Whether each load of a model takes its time of the cores that requests need: then swaps of another pipeline are compared with."""
OTHER = "other"
ATTEMPTS = 5
"""Load and cluster share their cores with whatever else the machine does, which shows in one run but not in each of five."""
PAUSE_S = 0.004
NOT_SERVED = (404, 503)
FACTORS = {str(version): float(version) for version in range(1, 1_000)}
"""Each version multiplies by its number."""


@contextlib.asynccontextmanager
async def loaded(
    folder: Path, *, replicas: int = 3, gateways: int = 1, executors: int = 3, refusals: tuple[int, ...] = ()
) -> AsyncIterator[tuple[TestedCluster, Detector]]:
    """Run a cluster that serves version 1, and a load on all gateways."""
    async with cluster(folder / "c", gateways=gateways, executors=executors) as tested:
        await asyncio.to_thread(tested.deploy, MODEL, onnx_files.tagged(1), replicas=replicas)
        right = Right(FACTORS, refusals)
        detector = Detector(tested.gateways, connections=CONNECTIONS, pause_s=PAUSE_S, right=right)
        async with detector.running():
            await detector.until_answered(100, within_s=20)
            yield tested, detector
            await detector.until_total(LEAST_OPERATIONS, within_s=60)


def assert_nothing_lost(name: str, number: int, changes: int, found: Findings) -> None:
    report(name, number, changes, found)
    assert found.failed == []
    assert found.wrong == []


async def ready(tested: TestedCluster, replicas: int) -> None:
    """Wait until so many replicas are ready, and no others are there."""
    await tested.until(lambda: tested.ready(MODEL) == replicas, within_s=30)


async def test_swapped_versions_cost_no_request(tmp_path: Path) -> None:
    """Every answer is wholly of one version, each version answers as soon as it is deployed, and all hardly take longer."""
    number, swaps = seed(), 0
    ratios: list[float] = []
    async with loaded(tmp_path) as (tested, detector):
        found = detector.findings
        for name in (MODEL, OTHER):
            for version in range(1 if name == OTHER else 2, SWAPS + 1):
                await asyncio.to_thread(tested.upload, name, onnx_files.tagged(version))
        while len(ratios) < ATTEMPTS and min(ratios, default=math.inf) > LONGER_P99:
            calm = await meanwhile(detector, detector.until_answered(REQUESTS // 5, within_s=600))
            beside = await meanwhile(detector, swap_all(tested, detector, OTHER)) if SHARES_CORES else calm
            began_s = time.monotonic()
            busy = await meanwhile(detector, swap_all(tested, detector, MODEL))
            swaps += SWAPS
            ratios.append(busy.quantile_ms(0.99) / beside.quantile_ms(0.99))
            print(
                f"{SWAPS} swaps in {time.monotonic() - began_s:.1f} s, {len(busy.latencies_s)} requests meanwhile; "
                f"p50 {calm.quantile_ms(0.5):.2f} ms before and {busy.quantile_ms(0.5):.2f} ms during; p99 {calm.quantile_ms(0.99):.1f} ms "
                f"before, {beside.quantile_ms(0.99):.1f} ms beside swaps of another one, {busy.quantile_ms(0.99):.1f} ms during: {ratios[-1]:.2f}"
            )
    assert_nothing_lost("swaps", number, swaps, found)
    assert len(found.versions) == SWAPS
    assert min(ratios) <= LONGER_P99


async def meanwhile(detector: Detector, change: Awaitable[None]) -> Findings:
    """Return how long requests take while something is done."""
    begun = len(detector.findings.latencies_s)
    await change
    return Findings(latencies_s=detector.findings.latencies_s[begun:])


async def swap_all(tested: TestedCluster, detector: Detector, name: str) -> None:
    """Serve all versions of a pipeline, one after another, the first one last."""
    found = detector.findings
    for version in (*range(2, SWAPS + 1), 1):
        await asyncio.to_thread(tested.swap, name, version, replicas=3)
        before = found.versions[str(version)]
        await detector.until_answered(REQUESTS // SWAPS, within_s=60)
        if name == MODEL:
            assert found.versions[str(version)] >= before + REQUESTS // SWAPS - CONNECTIONS


async def test_replicas_grow_and_shrink_without_a_loss(tmp_path: Path) -> None:
    """1 to 3 and back, again and again; as many as asked for are ready when the deployment returns."""
    number, changes = seed(), 0
    async with loaded(tmp_path, replicas=1) as (tested, detector):
        for _ in range(5 if IS_LONG else 2):
            for replicas in (3, 1):
                await asyncio.to_thread(tested.swap, MODEL, 1, replicas=replicas)
                await ready(tested, replicas)
                await detector.until_answered(200, within_s=20)
                changes += 1
    assert_nothing_lost("scaled 1, 3, 1", number, changes, detector.findings)


async def test_executors_come_and_go_without_a_loss(tmp_path: Path) -> None:
    """One more and one less, three more and three less, in any order; what is assigned is ready again after each."""
    number = seed()
    choose = random.Random(number)
    steps = [1, -1, 3, -3] * (3 if IS_LONG else 1)
    async with loaded(tmp_path) as (tested, detector):
        names = iter(range(4, 1_000))
        for step in steps:
            if step > 0:
                added = [f"executor-{next(names)}" for _ in range(step)]
                await asyncio.gather(*(tested.add("executor", name) for name in added))
            else:
                leaving = choose.sample(tested.of_role("executor"), -step)
                assert await asyncio.gather(*(tested.remove(member) for member in leaving)) == [0] * -step
            await ready(tested, 3)
            await detector.until_answered(200, within_s=20)
    assert_nothing_lost("executors +1 -1 +3 -3", number, len(steps), detector.findings)


async def test_a_roll_back_costs_no_request(tmp_path: Path) -> None:
    """The version before answers again as soon as it is deployed again."""
    number, changes = seed(), 0
    async with loaded(tmp_path) as (tested, detector):
        await asyncio.to_thread(tested.upload, MODEL, onnx_files.tagged(2))
        for version in (2, 1) * (5 if IS_LONG else 2):
            await asyncio.to_thread(tested.swap, MODEL, version, replicas=3)
            # What was under way may still be of the other one.
            await detector.until_settled(within_s=20)
            before = dict(detector.findings.versions)
            await detector.until_answered(200, within_s=20)
            changed = {key for key, count in detector.findings.versions.items() if count != before.get(key)}
            assert changed == {str(version)}
            changes += 1
    assert_nothing_lost("rolled back", number, changes, detector.findings)


async def test_an_undeployed_pipeline_says_so(tmp_path: Path) -> None:
    """Requests are answered, or told that nobody serves that; none ends in an internal error or not at all."""
    number, changes = seed(), 0
    async with loaded(tmp_path, refusals=NOT_SERVED) as (tested, detector):
        found = detector.findings
        for _ in range(10 if IS_LONG else 3):
            pipeline = await asyncio.to_thread(tested.client().get_pipeline, MODEL)
            await asyncio.to_thread(pipeline.undeploy)
            # Whoever is told so may rely on it: nothing is answered any more.
            answered = found.answered
            await asyncio.sleep(0.5)
            assert found.answered - answered <= 8, "answered after it was undeployed"
            await asyncio.to_thread(pipeline.deploy)
            await detector.until_answered(400, within_s=20)
            changes += 2
    print(f"refused: {dict(found.refused)}")
    assert found.refused.total() > 0
    assert_nothing_lost("undeployed", number, changes, found)


async def test_a_broken_version_harms_nobody(tmp_path: Path) -> None:
    """Its deployment fails with a reason while the good one answers; the next good one is served as ever."""
    number, refused = seed(), 0
    async with loaded(tmp_path) as (tested, detector):
        blobs = tested.folder / "blobs"
        for version in range(2, 12 if IS_LONG else 5):
            good = set(blobs.iterdir())
            await asyncio.to_thread(tested.upload, MODEL, onnx_files.tagged(version))
            (damaged,) = set(blobs.iterdir()) - good
            damaged.write_bytes(b"no model")
            with pytest.raises(bettong.NotReadyError, match="is damaged"):
                await asyncio.to_thread(tested.swap, MODEL, version, replicas=3)
            refused += 1
            await detector.until_answered(400, within_s=20)
        assert set(detector.findings.versions) == {"1"}
        version += 1
        await asyncio.to_thread(tested.deploy, MODEL, onnx_files.tagged(version), replicas=3)
        await detector.until_answered(100, within_s=20)
    assert_nothing_lost("broken versions", number, refused, detector.findings)
    assert set(detector.findings.versions) == {"1", str(version)}


@pytest.mark.parametrize(
    "client_retries", [True, False], ids=["broken connections are tried again", "nothing is tried again"]
)
async def test_a_gateway_that_ends_loses_no_request(tmp_path: Path, *, client_retries: bool) -> None:
    """It answers what it has and closes its connections; clients go to the other one."""
    number = seed()
    async with cluster(tmp_path / "c", gateways=2) as tested:
        await asyncio.to_thread(tested.deploy, MODEL, onnx_files.tagged(), replicas=3)
        detector, stopped = Detector(tested.gateways, client_retries=client_retries), 0
        async with detector.running() as found:
            for _ in range(10 if IS_LONG else 2):
                for gateway in tested.of_role("gateway"):
                    await detector.until_answered(200, within_s=20)
                    assert await gateway.stop() == 0
                    await detector.until_answered(200, within_s=20)
                    await tested.restart(gateway)
                    stopped += 1
            await detector.until_total(LEAST_OPERATIONS, within_s=60)
    assert_nothing_lost("SIGTERM gateway", number, stopped, found)
