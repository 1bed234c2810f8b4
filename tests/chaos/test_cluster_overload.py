"""More load than an executor can carry, through a gateway and a router: what is answered stays near the best, the rest is told to wait.

`BETTONG_CHAOS_S` makes each run longer.
"""
# ruff: noqa: T201 - a run says what it did

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Self

import numpy as np
import onnx_files
import pytest
from clusters import Role, TestedCluster, cluster
from detector import MODEL, Detector, Findings
from grpc import aio
from loads import UNLIMITED, Load
from runs import SECONDS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]

# About 8 ms of one core for each row, so that a small client can ask for ten times what the executor has.
TURNS = 400
SLOW = "slow"
DEADLINE_S = 0.5
RUN_S = max(3.0, SECONDS / 10)
ATTEMPTS = 5
"""Clients and cluster share the cores with whatever else the machine does, which shows in one run but not in each of five."""
MUCH_SLOWER = 3


@contextlib.asynccontextmanager
async def serving_slowly(folder: Path, *options: str) -> AsyncIterator[tuple[TestedCluster, aio.Channel]]:
    """Run one gateway, one router and one executor that serve a slow model, and connect to the gateway."""
    async with cluster(folder / "c", routers=1, executors=0) as tested:
        await tested.add("executor", "executor-1", *options)
        await tested.until_seen()
        await asyncio.to_thread(tested.deploy, SLOW, onnx_files.slow(TURNS), replicas=1)
        host, port = tested.gateways[0]
        async with aio.insecure_channel(f"{host}:{port}", UNLIMITED) as channel:
            yield tested, channel


async def rows_run(tested: TestedCluster) -> float:
    """Return how many rows the executor has run."""
    found = await asyncio.to_thread(tested.members["executor-1"].counts)
    return found.total("bettong_batch_rows_sum", pipeline=SLOW)


class Share:
    """Which part of a time a process had a core when it wanted one; clients of ten times the load want the cores, too."""

    def __init__(self, member: Role) -> None:
        self._threads = Path(f"/proc/{member.pid}/task")
        self._before: dict[str, tuple[int, int]] = {}
        self._began_s = 0.0
        self.part = 1.0

    def __enter__(self) -> Self:
        self._before, self._began_s = self._times_ns(), time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        after = self._times_ns()
        spent = [
            (after[name][0] - ran, after[name][1] - waited)
            for name, (ran, waited) in self._before.items()
            if name in after
        ]
        # Rows are run by one thread, which so is the one that ran most.
        waited_ns = max(spent)[1] if spent else 0
        self.part = 1 - waited_ns / 1e9 / (time.monotonic() - self._began_s)

    def _times_ns(self) -> dict[str, tuple[int, int]]:
        """Return how long each thread ran, and how long it waited for a core; none where the kernel does not count."""
        found = {}
        for thread in self._threads.iterdir():
            with contextlib.suppress(OSError):
                ran, waited, _ = map(int, (thread / "schedstat").read_text().split())
                found[thread.name] = ran, waited
        return found


@pytest.mark.parametrize("times", [2, 5, 10])
async def test_goodput_stays_at_nine_tenths_of_the_peak(tmp_path: Path, times: int) -> None:
    """Refusals come sooner than answers and say when to come back; nothing is run after its deadline but what had begun."""
    async with serving_slowly(tmp_path) as (tested, channel):
        executor = tested.members["executor-1"]
        for _ in range(ATTEMPTS):
            with Share(executor) as undisturbed:
                peak = await Load(channel, SLOW).closed(concurrency=8, seconds=RUN_S)
            before, load = await rows_run(tested), Load(channel, SLOW)
            with Share(executor) as disturbed:
                goodput = await load.opened(peak * times, RUN_S, DEADLINE_S)
            could = min(1.0, disturbed.part / undisturbed.part)
            await asyncio.sleep(DEADLINE_S)
            run, outcomes = await rows_run(tested) - before, load.outcomes
            refused, answered = np.median(outcomes.refused_s or [np.inf]), np.median(outcomes.ok_s or [np.inf])
            print(
                f"{times} times a peak of {peak:.0f}/s: sent {outcomes.sent}, {dict(outcomes.codes)}, {run:.0f} rows run, "
                f"goodput {goodput:.0f}/s = {goodput / peak:.2f} of the peak, of {could:.2f} that cores were free for; refused after {refused * 1e3:.1f} ms, "
                f"answered after {answered * 1e3:.0f} ms (medians)"
            )
            assert outcomes.wrong == []
            assert set(outcomes.codes) <= {"OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
            assert None not in outcomes.retry_hints_s
            overloaded = outcomes.sent > 0.75 * times * peak * RUN_S and outcomes.codes["RESOURCE_EXHAUSTED"] > 20
            enough = goodput >= 0.9 * peak * could and run <= 1.2 * outcomes.codes["OK"] + 10
            if overloaded and enough and refused < answered / 10:
                return
    pytest.fail(f"goodput {goodput:.0f}/s of a peak of {peak:.0f}/s, {run:.0f} rows run, in {ATTEMPTS} attempts")


async def test_a_flooded_pipeline_does_not_stall_another(tmp_path: Path) -> None:
    """Both are on the same links and the same executor; the fast one takes at most three times as long at its worst, or waits for no row."""
    async with serving_slowly(tmp_path) as (tested, channel):
        await asyncio.to_thread(tested.deploy, MODEL, onnx_files.tagged(), replicas=1)
        alone = Load(channel, SLOW)
        await alone.closed(concurrency=1, seconds=1.0)
        row_ms = min(alone.outcomes.ok_s) * 1e3
        for _ in range(ATTEMPTS):
            # Compared with when the slow one is only busy, as two cores have no room for more.
            busy = await meanwhile(tested, Load(channel, SLOW).closed(concurrency=2, seconds=RUN_S))
            flood = Load(channel, SLOW)
            flooded = await meanwhile(tested, flood.closed(concurrency=256, seconds=RUN_S))
            most_ms = max(MUCH_SLOWER * busy.quantile_ms(0.99), row_ms)
            print(
                f"slow: {dict(flood.outcomes.codes)}, a row takes {row_ms:.1f} ms; fast, beside a busy one: {busy.summary()}; "
                f"beside a flooded one: {flooded.summary()}; its p99 may be {most_ms:.1f} ms"
            )
            for found in (busy, flooded):
                assert found.failed == []
                assert found.wrong == []
                assert found.answered > 20 * RUN_S
            if flooded.quantile_ms(0.99) <= most_ms:
                return
    pytest.fail(f"p99 {flooded.quantile_ms(0.99):.1f} ms in {ATTEMPTS} attempts")


async def meanwhile(tested: TestedCluster, load: Awaitable[float]) -> Findings:
    """Ask for the fast pipeline while the slow one has its load."""
    async with Detector(tested.gateways, connections=4, pause_s=0.01).running() as found:
        await load
    return found
