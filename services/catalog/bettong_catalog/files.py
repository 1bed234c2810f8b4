"""What all who write files here have in common: they are complete and on the disk, or not there."""

import errno
import os
from pathlib import Path
from typing import BinaryIO

TEMPORARY = ".part"
"""How the name of a file ends that is being written."""
CHUNK_BYTES = 1 << 20
"""How much of a file is held in memory at once."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def is_full(error: OSError) -> bool:
    """Return whether there is no space, or the user has no more of it."""
    return error.errno in _FULL


def sync(file: BinaryIO) -> None:
    """Bring what was written to the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Bring a rename to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
