"""How much memory there is: that of the machine, or what the container may take of it."""

import os
from pathlib import Path

_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Of both versions of control groups, as a container sees its own."""


def memory_bytes() -> int:
    """Return how much this process could take, 0 if the system does not say."""
    return min(filter(None, [_of_machine(), *map(_of_group, _LIMITS)]), default=0)


def _of_machine() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def _of_group(file: Path) -> int:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        # There is no such group, or its limit is "max".
        return 0
