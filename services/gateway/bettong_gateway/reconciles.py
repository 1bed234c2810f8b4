"""What use cases need from whoever makes wishes come true, in one process and in a cluster."""

from typing import Protocol


class Reconciles(Protocol):
    """The one path that starts, changes, stops and restores what is served."""

    def wake(self, pipeline: str) -> None:
        """Ask for a pass soon, because the wish for a pipeline changed."""

    async def run(self) -> None:
        """Make passes until cancelled."""

    async def restore(self) -> None:
        """Bring back what is wished for; return when it serves, or cannot for the moment."""
