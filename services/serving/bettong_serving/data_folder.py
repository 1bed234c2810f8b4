"""The folder that holds all state of a process, and the lock that keeps a second process out of it."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from bettong_kit.errors import DataFolderError


@contextlib.contextmanager
def locked_data_folder(folder: Path) -> Iterator[Path]:
    """Create the folder if needed and hold it for this process.

    The lock is the kernel's and ends with the process, however that ends; the file only tells people who holds it.

    Raises:
        DataFolderError: It cannot be created or written, or another process holds it; names that process.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise DataFolderError(f"data folder {folder} cannot be used: {error.strerror}") from error
    try:
        _take(descriptor, folder)
        _sign(descriptor, folder)
        yield folder
    finally:
        os.close(descriptor)


def _sign(descriptor: int, folder: Path) -> None:
    """Leave the pid for people who look at the file."""
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        raise DataFolderError(f"data folder {folder} cannot be written: {error.strerror}") from error


def _take(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        raise DataFolderError(
            f"data folder {folder} is used by another server (pid {holder}); stop it, or choose another folder with --data"
        ) from error
