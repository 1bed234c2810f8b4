"""Looking at the cluster after each change, in a way that survives what a single look runs into."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable

from bettong_kit.clock import Clock
from bettong_kit.logging import get_logger
from bettong_serving.sight import Sight

_log = get_logger("cluster")
_SELDOM_S = 60.0
"""How often it looks when nothing is due and nothing is heard."""


async def follow(
    sight: Sight, look: Callable[[], Awaitable[None]], *, pause_s: Callable[[], float], clock: Clock
) -> None:
    """Look when everything is known, after each change, and after a pause, until cancelled.

    Changes that come while it looks cause one more look. As long as the last look took, none follows: in a large cluster at most
    half of a core goes into looking.

    Args:
        sight: Where changes come from.
        look: Acts on what is known; what it raises is logged, and what it left is tried at the next look.
        pause_s: How long nothing may change before it looks again; infinite if nothing is due.
        clock: Measures looks.
    """
    async for _ in sight.changes(lambda: min(_SELDOM_S, pause_s())):
        began_s = clock.monotonic_s()
        try:
            await look()
        except Exception:  # noqa: BLE001 - top loop of a member: what serves must go on whatever somebody wrote into etcd
            _log.exception("look_failed", error_id=uuid.uuid4().hex[:12])
        await asyncio.sleep(clock.monotonic_s() - began_s)
