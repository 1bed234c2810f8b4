"""Work that is not given up half-way."""

import asyncio

import pytest

from bettong_kit.tasks import finished


async def test_a_result_or_an_error_comes_through() -> None:
    """As without the wrapper."""

    async def work(error: bool) -> int:
        await asyncio.sleep(0)
        if error:
            raise ZeroDivisionError
        return 7

    assert await finished(work(False)) == 7
    with pytest.raises(ZeroDivisionError):
        await finished(work(True))


@pytest.mark.parametrize("error", [False, True])
async def test_whoever_is_cancelled_waits_for_the_end(error: bool) -> None:
    """Also when cancelled twice; what the work raised is lost quietly."""
    begun, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        begun.set()
        await may_end.wait()
        ended.set()
        if error:
            raise ZeroDivisionError

    waiting = asyncio.create_task(finished(work()))
    await begun.wait()
    for _ in range(2):
        waiting.cancel()
        await asyncio.sleep(0)
    assert not waiting.done()
    may_end.set()
    await asyncio.wait([waiting])
    assert (waiting.cancelled(), ended.is_set()) == (True, True)
