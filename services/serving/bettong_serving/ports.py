"""What services need from the engine, so that their tests can bring their own."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bettong_domain.forwarding import ForwardingTable
from bettong_domain.models import BatchMode, Framework, ModelId, Signature
from bettong_domain.pipelines import PipelineKey
from bettong_domain.plans import Program


class Links(enum.Enum):
    """Which calls of other processes a data port takes."""

    NONE = "none"
    EXECUTOR = "executor"
    """It runs them: the programs that are hosted."""
    ROUTER = "router"
    """It forwards them."""


@dataclass(frozen=True, slots=True)
class Proof:
    """PEM files with which members prove themselves to each other."""

    ca: Path
    """Authorities that their certificates come from."""
    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Place:
    """Who we are to the other processes of our cluster."""

    cluster: str
    role: str
    member: str
    """Name among those of the role."""
    proof: Proof | None = None
    """How members prove themselves to each other; None where they need not."""


class ModelLoader(Protocol):
    """Holds loaded models."""

    async def load_model(
        self, model_id: str, path: Path, framework: Framework, mode: BatchMode | None, *, checked: bool = False
    ) -> Signature:
        """Load a file and return its signature; loading an id again is free.

        Args:
            model_id: Under which programs name it.
            path: Where the file is.
            framework: What it was made with.
            mode: How its rows may be joined; None to find out by trying.
            checked: The model is known to allow *mode*, which need not be tried again.

        Raises:
            InvalidModelError: The file is damaged, not a model, or needs a newer runtime.
        """

    def unload_model(self, model_id: ModelId) -> None:
        """Forget a model; programs that use it keep it alive."""

    def runtimes(self) -> dict[str, str]:
        """Return the names and versions of the runtimes."""
        ...


class ModelEngine(ModelLoader, Protocol):
    """Loads models and serves programs to clients."""

    async def route(
        self,
        *,
        serve: Sequence[Program] = (),
        forward: Sequence[Program] = (),
        stop: Sequence[str] = (),
        unavailable: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Change what is served, as a whole.

        Args:
            serve: Programs that serve from now on, each instead of another version of its pipeline.
            forward: The same, but other processes run them; their models need not be loaded.
            stop: Pipelines that stop serving.
            unavailable: Pipelines that are known but not ready, with the reason.

        Raises:
            BettongError: A program cannot be served; nothing is changed.
        """

    async def wait_answered(self, pipeline: str, timeout_s: float) -> bool:
        """Wait for the requests of versions that no longer serve; return whether all were answered in time."""
        ...


class HostingEngine(ModelLoader, Protocol):
    """Loads models and runs programs for other processes."""

    async def host(self, *, serve: Sequence[Program] = (), stop: Sequence[PipelineKey] = ()) -> None:
        """Change which programs calls of other processes may name, as a whole; one that stops answers the calls that it has.

        Raises:
            BettongError: A program names a model that is not loaded; nothing is changed.
        """


class ForwardingEngine(Protocol):
    """Sends calls to other processes."""

    async def forward_to(self, table: ForwardingTable) -> None:
        """Replace what the forwarder knows, in one step.

        Raises:
            BettongError: An address cannot be read; nothing is changed.
        """
