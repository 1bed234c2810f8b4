"""A model that brings its process down: it is left alone there after some crashes, and nobody else notices.

The crash is a real one: the thread that runs the model is sent SIGSEGV while it does.
`BETTONG_CHAOS_S` makes each run longer, `BETTONG_SEED` repeats one.
"""
# ruff: noqa: T201 - a run says what it did

import asyncio
import contextlib
import ctypes
import itertools
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import onnx_files
import pytest
from clusters import Role, TestedCluster, cluster
from detector import MODEL, Detector
from grpc import aio
from loads import EXACT, UNLIMITED, Load
from runs import LEAST_OPERATIONS, report, seed

from bettong_executor.quarantine import CRASHES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# About 400 ms of one core for each row: long enough to be met while it runs.
TURNS = 20_000
CRASHING = "crashing"
PAUSE_S = 0.02
WITHIN_S = 30.0


def running_thread(executor: Role) -> int:
    """Return the thread of an executor that runs a model, which is the one that has the processor; 0 if none does."""
    for task in Path(f"/proc/{executor.pid}/task").iterdir():
        with contextlib.suppress(OSError):
            name = (task / "comm").read_text().strip()
            if name.startswith(("bettong-lane", "bettong-compute")) and has_processor(task) and is_busy(task):
                return int(task.name)
    time.sleep(0.005)
    return 0


def has_processor(task: Path) -> bool:
    return (task / "stat").read_text().rpartition(")")[2].split()[0] == "R"


def is_busy(task: Path) -> bool:
    """Tell a thread that has been on a processor for most of some time, and still is, from one that has only just been woken."""
    before = used_ns(task)
    time.sleep(0.03)
    return used_ns(task) - before > 10_000_000 and has_processor(task)


def used_ns(task: Path) -> int:
    return int((task / "schedstat").read_text().split()[0])


def crash_running(executor: Role) -> bool:
    """Have the thread that runs a model do what a bad access does, if there is one; looked at and sent without a pause between."""
    thread = running_thread(executor)
    if not thread:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    tgkill = 234
    assert libc.syscall(tgkill, executor.pid, thread, int(signal.SIGSEGV)) == 0
    return True


@contextlib.asynccontextmanager
async def asked(tested: TestedCluster) -> AsyncIterator[Load]:
    """Ask for the slow model all the time."""
    host, port = tested.gateways[0]
    async with aio.insecure_channel(f"{host}:{port}", UNLIMITED) as channel:
        load = Load(channel, CRASHING)
        stop = asyncio.Event()

        async def client(numbers: range) -> None:
            for number in itertools.cycle(numbers):
                if stop.is_set():
                    return
                await load.send(number, timeout_s=20)
                await asyncio.sleep(PAUSE_S)

        async with asyncio.TaskGroup() as tasks:
            for start in range(2):
                tasks.create_task(client(range(start, EXACT, 2)))
            yield load
            stop.set()


async def met_running(executor: Role) -> int:
    """Wait until an executor runs a model, and return the thread that does."""
    async with asyncio.timeout(WITHIN_S):
        # Each look takes a while.
        while not (thread := await asyncio.to_thread(running_thread, executor)):
            pass
    return thread


async def crashes_until_quarantined(tested: TestedCluster, victim: Role) -> int:
    """Crash an executor again and again, start it as a supervisor does, until it runs the model no more."""
    for crashes in range(1, CRASHES + 1):
        async with asyncio.timeout(WITHIN_S):
            # Each look takes a while.
            while not await asyncio.to_thread(crash_running, victim):
                pass
        assert victim.process is not None
        code = await asyncio.wait_for(victim.process.wait(), WITHIN_S)
        assert code == -signal.SIGSEGV
        victim.process = None
        assert f"run {CRASHING} 1" in (tested.folder / victim.name / "crashes").read_text(), "it crashed after its run"
        await tested.restart(victim)
        if crashes < CRASHES:
            await tested.until(lambda: state_at(tested, victim)[0] == "Ready", within_s=WITHIN_S)
    return CRASHES


def state_at(tested: TestedCluster, executor: Role) -> tuple[str, str]:
    """Return how the crashing model stands at an executor, and why."""
    found = (each for each in tested.deployment(CRASHING).replicas if each.member == executor.name)
    return next(((each.state, each.reason) for each in found), ("", ""))


def is_left_alone(tested: TestedCluster, executor: Role) -> bool:
    """Return whether an executor says why it does not run the crashing model, and runs the other one."""
    state, reason = state_at(tested, executor)
    member = next(one for one in tested.client().members().members if one.name == executor.name)
    said = f"it brought this executor down {CRASHES} times" in reason
    return said and (state, member.ready, member.failed) == ("Failed", 1, 1)


async def test_a_model_that_crashes_is_left_alone(tmp_path: Path) -> None:
    """After some crashes it is not run there, which status says; it is answered elsewhere, and other pipelines always are."""
    number = seed()
    async with cluster(tmp_path / "c", routers=1, executors=2) as tested:
        await asyncio.to_thread(tested.deploy, MODEL, onnx_files.tagged(), replicas=2)
        await asyncio.to_thread(tested.deploy, CRASHING, onnx_files.slow(TURNS), replicas=2)
        victim = tested.members["executor-1"]
        detector = Detector(tested.gateways, pause_s=PAUSE_S)
        async with detector.running() as found, asked(tested) as load:
            crashes = await crashes_until_quarantined(tested, victim)
            await tested.until(lambda: is_left_alone(tested, victim), within_s=WITHIN_S)
            answered = load.outcomes.codes["OK"]
            await tested.until(lambda: load.outcomes.codes["OK"] > answered + 3, within_s=WITHIN_S)
            reason = state_at(tested, victim)[1]
            deployment = tested.deployment(CRASHING)
            is_still_left_alone = is_left_alone(tested, victim)
            await detector.until_total(LEAST_OPERATIONS, within_s=60)
    print(f"{reason!r}; deployment: {deployment.state} {deployment.reason!r}; slow: {dict(load.outcomes.codes)}")
    report("crashes", number, crashes, found)
    assert is_still_left_alone
    assert (deployment.state, deployment.serving_version) == ("Running", 1)
    assert found.failed == []
    assert found.wrong == []
    assert load.outcomes.wrong == []
    assert set(load.outcomes.codes) == {"OK"}


async def test_a_killed_process_blames_no_model(tmp_path: Path) -> None:
    """However often it is killed while the model runs; its next process runs it again."""
    number, kills = seed(), 0
    async with cluster(tmp_path / "c", routers=1, executors=2) as tested:
        await asyncio.to_thread(tested.deploy, MODEL, onnx_files.tagged(), replicas=2)
        await asyncio.to_thread(tested.deploy, CRASHING, onnx_files.slow(TURNS), replicas=2)
        victim = tested.members["executor-1"]
        detector = Detector(tested.gateways, pause_s=PAUSE_S)
        async with detector.running() as found, asked(tested) as load:
            for _ in range(CRASHES + 1):
                assert await met_running(victim)
                await victim.kill()
                await tested.restart(victim)
                kills += 1
                await tested.until(lambda: state_at(tested, victim)[0] == "Ready", within_s=WITHIN_S)
            await detector.until_total(LEAST_OPERATIONS, within_s=60)
    report("kills while it ran", number, kills, found)
    noted = tested.folder / victim.name
    assert ((noted / "crashes").read_text(), (noted / "quarantine.json").read_text()) == ("", "{}")
    assert found.failed == []
    assert found.wrong == []
    assert set(load.outcomes.codes) == {"OK"}
