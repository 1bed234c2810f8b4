"""A service as a process of its own, started and ended by a test."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

Line = dict[str, object]


@dataclass
class ServerProcess:
    """A running server, its addresses and what it logs."""

    process: asyncio.subprocess.Process
    lines: list[Line] = field(default_factory=list)

    async def until(self, event: str) -> Line:
        """Read log lines until one of an event comes.

        Raises:
            EOFError: The process ended before.
        """
        assert self.process.stderr is not None
        while raw := await self.process.stderr.readline():
            line = json.loads(raw) if raw.startswith(b"{") else {"event": "plain", "text": raw.decode()}
            self.lines.append(line)
            if line.get("event") == event:
                return line
        raise EOFError(f"the server ended without '{event}': {self.lines[-5:]}")


@contextlib.asynccontextmanager
async def server_process(
    folder: Path, *, module: str = "bettong_gateway", **settings: str
) -> AsyncIterator[ServerProcess]:
    """Start a server, or another role, on free ports; whatever is left of it at the end of the block is killed."""
    defaults = {
        "BETTONG_DATA": str(folder),
        "BETTONG_DATA_PORT": "0",
        "BETTONG_LOG_STYLE": "json",
        "BETTONG_LANES": "1",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", module),
        env=os.environ | defaults | settings,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    try:
        yield ServerProcess(process)
    finally:
        if process.returncode is None:
            process.kill()
        # Reads what is left, so that the pipe is closed and the process reaped.
        await process.communicate()
