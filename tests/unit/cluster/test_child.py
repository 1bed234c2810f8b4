"""Processes that are started again when they die."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bettong._cluster.child import Child, ChildPlan, ChildState, how_it_ended, reason_of, restart_wait_s
from bettong._cluster.supervisor import running
from bettong_kit.errors import StartError

MEMBER = Path(__file__).parents[2] / "fakes/member.py"
STOP_S = 10.0


class Seen:
    """Children under test: what they said, and what became of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: list[tuple[str, str]] = []
        self.states: list[ChildState] = []
        self.changed = asyncio.Event()

    def say(self, name: str, line: str) -> None:
        self.lines.append((name, line))

    def said(self, text: str) -> bool:
        return any(text in line for _, line in self.lines)

    def child(self, *flags: str, command: list[str] | None = None) -> Child:
        """Return a child that runs the fake member, or another command."""
        own = command or [sys.executable, str(MEMBER), "executor", *flags]
        plan = ChildPlan("executor-1", "executor", own, self.folder / "logs" / "executor-1.log")
        child = Child(plan, say=self.say, on_change=lambda: self._note(child))
        return child

    async def until(self, state: ChildState, times: int = 1) -> None:
        """Wait until a child has been in a state so often; states that pass quickly count, too."""
        while self.states.count(state) < times:
            self.changed.clear()
            await self.changed.wait()

    def _note(self, child: Child) -> None:
        self.states.append(child.state)
        self.changed.set()


@pytest.fixture
def seen(tmp_path: Path) -> Seen:
    return Seen(tmp_path)


@contextlib.asynccontextmanager
async def started(child: Child, *, stop_timeout_s: float = STOP_S) -> AsyncIterator[int]:
    """Run a child inside the block, from when it is ready; yield the id of its process."""
    async with running([child], stop_timeout_s=stop_timeout_s):
        await child.ready.wait()
        assert child.pid
        yield child.pid


async def test_a_child_is_ready_when_it_says_so_and_ends_when_asked(seen: Seen) -> None:
    """Its output is shown and kept; afterwards there is no process."""
    child = seen.child()
    async with started(child) as pid:
        assert child.addresses["data"].startswith("127.0.0.1:")
    assert child.state is ChildState.STOPPED
    assert seen.said("drained")
    assert "drained" in (seen.folder / "logs" / "executor-1.log").read_text()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_killed_child_is_started_again_at_once(seen: Seen) -> None:
    """Under the same name; the log says what happened."""
    child = seen.child()
    async with started(child) as pid:
        os.kill(pid, signal.SIGKILL)
        await seen.until(ChildState.READY, 2)
        assert child.pid != pid
    assert child.restarts == 1
    assert ("cluster", "executor-1 was ended by SIGKILL; it is started again") in seen.lines


async def test_a_child_that_ends_as_asked_rests_until_it_is_wanted(seen: Seen) -> None:
    """Exit code 0 is no death."""
    child = seen.child()
    async with started(child) as pid:
        os.kill(pid, signal.SIGTERM)
        await seen.until(ChildState.STOPPED)
        assert child.pid is None
        child.start()
        await seen.until(ChildState.READY, 2)
        assert child.pid != pid
    assert child.restarts == 0


async def test_a_child_at_rest_ends_with_the_others(seen: Seen) -> None:
    """Nobody waits for a process that is not there."""
    child = seen.child()
    async with started(child) as pid:
        os.kill(pid, signal.SIGTERM)
        await seen.until(ChildState.STOPPED)


async def test_a_child_that_never_was_ready_ends_the_start_with_its_reason(seen: Seen) -> None:
    """After three attempts, and its neighbours end with it."""
    neighbour = seen.child()
    with pytest.raises(ExceptionGroup) as raised:
        async with running([seen.child("--fail"), neighbour], stop_timeout_s=STOP_S):
            await asyncio.Event().wait()
    (error,) = raised.value.exceptions
    assert isinstance(error, StartError)
    assert error.message == "executor-1 cannot start: it is made to"
    assert neighbour.pid is None


@pytest.mark.slow
async def test_a_child_that_keeps_dying_is_tried_on(seen: Seen) -> None:
    """Once it was ready it is never given up."""
    child = seen.child("--dies")
    async with running([child], stop_timeout_s=STOP_S):
        await seen.until(ChildState.READY, 4)
    assert child.restarts >= 3
    assert seen.said("executor-1 ended with code 3; it is started again in 0.25 s")


async def test_a_child_that_does_not_end_is_killed(seen: Seen) -> None:
    """When its time is over, and that is said."""
    child = seen.child("--deaf")
    async with started(child, stop_timeout_s=0.1):
        pass
    assert child.pid is None
    assert ("cluster", "executor-1 has not ended within 0.1 s and is killed") in seen.lines


async def test_a_paused_child_hears_that_it_must_end(seen: Seen) -> None:
    """It is woken for it."""
    child = seen.child()
    async with started(child) as pid:
        os.kill(pid, signal.SIGSTOP)
    assert seen.said("drained")


async def test_a_child_can_be_stopped_before_it_has_begun(seen: Seen) -> None:
    """No process is left."""
    child = seen.child("--mute")
    async with running([child], stop_timeout_s=STOP_S):
        pass
    assert child.pid is None


async def test_a_line_without_end_is_no_danger(seen: Seen) -> None:
    """What follows it is seen."""
    code = "print('x' * (3 << 20)); print('{\"event\": \"ready\"}', flush=True); input()"
    code = f"import time\n{code.replace('input()', 'time.sleep(60)')}"
    async with started(seen.child(command=[sys.executable, "-c", code])):
        pass


async def test_a_program_that_is_not_there_is_a_failed_start(seen: Seen) -> None:
    """Like one that ends at once."""
    with pytest.raises(ExceptionGroup) as raised:
        async with running([seen.child(command=["/none"])], stop_timeout_s=STOP_S):
            await asyncio.Event().wait()
    assert "executor-1 cannot start: FileNotFoundError" in str(raised.value.exceptions[0])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children")
def test_children_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    """Nothing is left running by a supervisor that could not end it."""
    code = f"""
import asyncio, pathlib
from bettong._cluster.child import Child, ChildPlan
plan = ChildPlan("c", "executor", {[sys.executable, str(MEMBER), "executor"]!r}, pathlib.Path({str(tmp_path / "c.log")!r}))
async def main():
    child = Child(plan, say=lambda *_: None, on_change=lambda: None)
    running = asyncio.ensure_future(child.run())
    await child.ready.wait()
    print(child.pid, flush=True)
    await running
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        descriptor = os.pidfd_open(pid)
        parent.kill()
    try:
        import select

        assert select.select([descriptor], [], [], STOP_S)[0]
    finally:
        os.close(descriptor)


def test_waits_double_up_to_ten_seconds() -> None:
    """The first death costs no time; a program that is broken does not eat the machine."""
    assert [restart_wait_s(count) for count in (0, 1, 2, 3, 4, 8, 100)] == [0, 0, 0.25, 0.5, 1, 10, 10]


def test_how_it_ended_is_told_in_words() -> None:
    """By signal or by code; the reason is that of the last line, whatever its form."""
    assert [how_it_ended(-9), how_it_ended(2)] == ["was ended by SIGKILL", "ended with code 2"]
    assert reason_of("bettong: port 80 is taken") == "port 80 is taken"
    assert reason_of('{"event": "start_failed", "reason": "no"}') == "no"
    assert reason_of('{"event": "start_failed"}') == "start_failed"
