"""The seam behind which desired state is kept: ordered keys, opaque values, guarded transactions.

It is as small as it is so that an embedded database and a cluster's coordination service can both be it, checked by one suite
(`tests/contract/test_store.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

ABSENT = 0
"""The revision of a key that does not exist."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A key with its value and the revision of the store that last wrote it."""

    key: str
    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Transaction:
    """Changes that happen together, or not at all when a guard fails."""

    guards: Mapping[str, int] = field(default_factory=dict)
    """Revision that each of these keys must have; `ABSENT` for none."""
    puts: Mapping[str, bytes] = field(default_factory=dict)
    deletes: Sequence[str] = ()


class Reader(Protocol):
    """What can be read of desired state. Every method is safe to call from many tasks at once."""

    async def get(self, key: str) -> Entry | None:
        """Return one key, or None."""

    async def list(self, prefix: str) -> list[Entry]:
        """Return all keys that begin with *prefix*, ordered, as of one moment."""


class Store(Reader, Protocol):
    """Durable desired state: every read has what was committed before it began, by whomever."""

    async def commit(self, transaction: Transaction) -> int:
        """Apply a transaction durably and return its revision, which is higher than all before.

        Raises:
            ConflictError: A guarded key has another revision; nothing is changed.
            NoSpaceError: The disk is full; nothing is changed.

        Cancellation:
            The transaction may have happened.
        """

    async def close(self) -> None:
        """Release what the store holds; no call may follow."""
