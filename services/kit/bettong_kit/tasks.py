"""Waiting for what must not be given up half-way."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")


async def finished(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Do some work to its end and return its result.

    Cancellation:
        Waits for the end, then is cancelled; what the work raised is lost.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            # Cancelled again, as by an impatient caller: the work is still there.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise
