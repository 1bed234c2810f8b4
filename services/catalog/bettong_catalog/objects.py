"""Where all members of a cluster keep files: opaque bytes by name, complete or not there."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bettong_kit.errors import NotFoundError


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """A file of an object store."""

    name: str
    size_bytes: int
    written_ms: int
    """When it was written last, by the store's own clock."""


class ObjectStore(Protocol):
    """A flat space of files. Every method is safe to call from many tasks and processes at once."""

    @property
    def url(self) -> str:
        """Return what people know the store by."""

    async def create(self) -> None:
        """Make the place where the files are, if it is one that is made by its first use.

        Raises:
            UnavailableError: It cannot be made.
        """

    async def put(self, name: str, file: Path) -> None:
        """Keep a copy of a file under a name; what was there is replaced in one step.

        Raises:
            NoSpaceError: The store is full.
            UnavailableError: The store does not answer, or does not let us.
        """

    def read(self, name: str, *, offset: int = 0) -> AsyncIterator[bytes]:
        """Yield a file from a position on, piece by piece.

        Raises:
            NotFoundError: There is no such file.
            UnavailableError: The store does not answer, or broke off.
        """

    async def info(self, name: str) -> ObjectInfo:
        """Return what is known of a file.

        Raises:
            NotFoundError: There is no such file.
            UnavailableError: The store does not answer.
        """

    async def list(self) -> list[ObjectInfo]:
        """Return all files.

        Raises:
            UnavailableError: The store does not answer.
        """

    async def remove(self, name: str) -> None:
        """Forget a file; a missing one is fine.

        Raises:
            UnavailableError: The store does not answer.
        """


def missing(url: str, name: str) -> NotFoundError:
    """Return the error for a file that a store does not have."""
    return NotFoundError(f"{url} has no file {name[:64]}")
